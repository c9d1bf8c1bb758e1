//! Chores, as `cargo xtask <chore>`.
//!
//! Reading order: [`run_tests`] is the second of the two commands that the README begins with; [`soak`] runs tests for
//! much longer than anybody waits for; [`schemathesis`] is a part of either, [`clients`] of the first; both ask a [`platform`].
//! [`postgres`], [`pgbouncer`] and [`promtool`] make sure that these are there, [`newer_postgres`] tests on other servers,
//! [`old_beside_new`] beside an earlier release, [`debian`] and [`python`] get programs.

mod clients;
mod debian;
mod newer_postgres;
mod old_beside_new;
mod pgbouncer;
mod platform;
mod postgres;
mod promtool;
mod python;
mod run_tests;
mod schemathesis;
mod soak;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Chores")]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Run every test; installs PostgreSQL if there is none and the rights are there
    Test {
        /// Passed on to `cargo test`, such as a filter
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Have clients that people use ask a running platform: npm packages, and the playground in Chromium
    Clients(clients::Asked),
    /// Run a test for long; without a name, list what there is
    Soak { name: Option<String> },
}

fn main() -> anyhow::Result<ExitCode> {
    match Cli::parse().chore {
        Chore::Test { arguments } => run_tests::run(&arguments),
        Chore::Clients(asked) => Ok(if clients::run(&asked)? { ExitCode::SUCCESS } else { ExitCode::FAILURE }),
        Chore::Soak { name } => soak::run(name.as_deref()),
    }
}
