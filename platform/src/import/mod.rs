//! `tributary import`: takes over what lives in a shared, monolithic database. A client of the HTTP API and nothing
//! more: it opens no store of ours, so it works against a platform anywhere.
//!
//! Reading order:
//! - [`northwind`]: the command, its phases, its exit codes.
//! - [`source`]: reads the monolith, SQLite or PostgreSQL, with one set of statements.
//! - [`mapping`]: the rows as requests: ids, keys, prices, statuses; [`decimal`] is how a float becomes cents.
//! - [`client`]: requests with a key, sent again until they are answered; [`progress`] and [`report`]: what one sees.
//! - [`verify`]: the JOIN oracle: GraphQL against one SQL JOIN on the source.
//!
//! What does not live here: any rule of the domain. The services decide what they take.

mod client;
mod decimal;
mod mapping;
mod northwind;
mod progress;
mod report;
mod source;
mod verify;

use std::process::ExitCode;

use crate::cli::Output;

/// Enter the rows of another database through the commands of this platform.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    kind: Kind,
}

#[derive(Debug, clap::Subcommand)]
enum Kind {
    /// The Northwind traders database: customers, products and orders of one shared database.
    Northwind(northwind::Args),
}

/// Runs the import. The exit code is 0 when everything was entered, 2 when rows were refused (they stand in the
/// report), 3 when `--verify` found differences; an error (1) means that it did not get to its end and may be run again.
pub(crate) async fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    match args.kind {
        Kind::Northwind(args) => northwind::run(args, output).await,
    }
}
