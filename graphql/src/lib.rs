//! The questions that span services, answered over HTTP from the read models.
//!
//! Reading order:
//! - [`options`]: what an operator may change; every bound with its reason.
//! - `schemas`: who checks and who answers; `root`: where both begin.
//! - `schema/`: the types of the schema, one file a concept. They are thin: rows of `read-side` under GraphQL's names.
//!   `schema.graphql` beside this crate's manifest is what they print.
//! - `http/`: GraphQL over HTTP to the letter.
//! - `live/`: what changes, told to whoever has subscribed.
//! - `document`: what a document may cost, found out before anything runs; `bounds`: what the library finds out of it.
//! - [`documents`]: those that are known by their hash: of late, or listed by an operator.
//! - `running`: how much runs at once.
//! - `request_state`: what a request carries to its resolvers: token, wait, trace id.
//! - `freshness`: how fresh an answer is, in its `extensions`.
//! - `playground`: GraphiQL, from the binary.
//! - [`errors`]: the codes.
//!
//! What does not live here: queries against a database (read-side), events, and any way to change something.

mod bounds;
mod document;
pub mod documents;
pub mod errors;
mod freshness;
mod http;
mod live;
pub mod options;
mod playground;
mod request_state;
mod root;
mod running;
mod schema;
mod schemas;

pub use http::opens_socket;
use schemas::Schemas;

pub use options::{Closing, GraphqlFigures, GraphqlOptions, Limits, ListError, Listed, LiveLimits, LiveOptions};

/// `GET` and `POST /graphql`, sockets and event streams there, and the playground's files under `/graphql/assets/`.
///
/// Whoever asks is the [`Principal`](events::principal::Principal) among a request's extensions.
pub fn router(read: read_side::ReadSide, options: GraphqlOptions) -> axum::Router {
    let live = live::Live::new(read.clone(), options.live.clone());
    let with_data = |builder: schema::Builder| builder.data(read.clone()).data(live.clone()).finish();
    let executor =
        Schemas { checking: with_data(schema::checking(&options)), answering: with_data(schema::answering(&options)) };
    http::router(executor, options)
}

/// The schema as text, in GraphQL's schema language.
pub fn schema_sdl() -> String {
    let schema = schema::checking(&GraphqlOptions::default()).finish();
    schema.sdl_with_options(async_graphql::SDLExportOptions::new().sorted_enum_items())
}
