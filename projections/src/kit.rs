//! What a projection is tested with: given events of several services, these are its rows; and every law that it must
//! keep, in one call.
//!
//! ```text
//! let kit = Kit::of(my_projection).postgres(&server_url);
//!
//! let rows = kit.given(|story| {
//!     story.says("users", ada, &registered);
//!     story.says("orders", order, &placed);
//! }).rows().await;
//! assert_eq!(rows[order]["customer_name"], "Ada");
//!
//! kit.laws(|random, story| some_history(random, story)).await;
//! ```
//!
//! Rows are folded on every database of the kit and must be the same on each: SQLite always, PostgreSQL where a server is
//! named. `docs/testing-projections.md` is the guide.
//!
//! Reading order: [`story`] (what services have said), [`law`] (what must hold, and the word on it when it does not),
//! [`given`]; below them [`feed`], [`place`] and [`hand`], to drive a generation step by step, and [`random`].
//!
//! It is a feature of this crate and not part of our own test kit: that one starts servers and knows every service, while
//! whoever writes a projection needs this crate anyway. No release has it.

pub mod feed;
pub mod given;
pub mod hand;
pub mod law;
mod loading;
pub mod place;
pub mod random;
pub mod story;
mod table;

use std::sync::Arc;

pub use self::{
    feed::{ScriptedFeed, time},
    given::{Given, Rows},
    hand::Hand,
    law::{Broken, Law},
    place::{Kind, Place},
    random::{Random, seeds},
    story::Story,
};
use crate::projection::Projection;

/// One projection, and the databases to try it on.
#[derive(Clone)]
pub struct Kit {
    projection: Arc<dyn Fn() -> Projection + Send + Sync>,
    postgres: Option<String>,
    histories: u64,
}

impl Kit {
    /// How many histories [`Self::laws`] tries, unless it is told otherwise: few enough for every run of the tests.
    /// `TRIBUTARY_SOAK=1` tries a hundred times as many, `SEED=<n>` that one.
    pub const HISTORIES: u64 = 4;

    /// Tests what `projection` gives, on SQLite.
    pub fn of(projection: impl Fn() -> Projection + Send + Sync + 'static) -> Self {
        Self { projection: Arc::new(projection), postgres: None, histories: Self::HISTORIES }
    }

    /// On PostgreSQL too: `server` is the URL of any database of a server, as a role that may create databases. Those that
    /// the kit makes begin with `tributary_kit_`; it removes them, unless the test fails.
    #[must_use]
    pub fn postgres(self, server: impl Into<String>) -> Self {
        Self { postgres: Some(server.into()), ..self }
    }

    /// How many histories the laws are tried with.
    #[must_use]
    pub fn histories(self, histories: u64) -> Self {
        Self { histories, ..self }
    }

    pub(crate) fn projection(&self) -> Projection {
        (self.projection)()
    }

    /// A query database of each kind, empty.
    async fn places(&self) -> Vec<Place> {
        let mut places = vec![Place::sqlite()];
        if let Some(server) = &self.postgres {
            places.push(Place::on_server(server).await);
        }
        places
    }
}
