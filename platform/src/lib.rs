//! Every role of the platform, for the binary `tributary` and for tests.
//!
//! Reading order: [`cli`] says what can be asked for, and [`settings`] what is set, and by whom; [`roles`] are what processes
//! run, [`up`] all of them in one and [`apart`] each by itself, and [`process`] is the life that they have in common;
//! [`admin`] is what the other commands talk to while they run; [`metrics`] is what monitoring reads;
//! [`door`], [`auth`], [`limits`] and [`guard`] stand before all of it; [`commands`] are those others; [`demo`] and [`import`] are clients of the
//! public HTTP API and of nothing else.

mod admin;
mod apart;
mod asking;
mod auth;
mod cli;
mod client;
mod commands;
mod composed;
pub mod config;
pub mod demo;
mod docs;
mod door;
mod guard;
pub mod import;
mod limits;
mod mail;
mod metrics;
mod migrate;
mod output;
mod process;
mod projecting;
mod roles;
mod serve;
mod settings;
mod stores;
mod telemetry;
pub mod up;

use std::process::ExitCode;

use cli::{Cli, Command};

/// What clap exits with, too.
const WRONG_USAGE: u8 = 2;

/// Runs the command line of this process and returns its exit code.
pub async fn run() -> ExitCode {
    let asked = match settings::parse(std::env::args_os().collect()) {
        Ok(asked) => asked,
        Err(error) => {
            output::failure(&error.into());
            return ExitCode::from(WRONG_USAGE);
        }
    };
    let settings = asked.settings();
    let cli: Cli = asked.cli;
    telemetry::start(&cli.log, cli.log_format);
    let output = cli.output;
    let done = match cli.command {
        Command::Up(args) => up::run(args).await,
        Command::Serve(args) => apart::serve(*args).await,
        Command::Project(args) => apart::project(*args).await,
        Command::Graphql(args) => apart::graphql(*args).await,
        Command::Gateway(args) => apart::gateway(*args).await,
        Command::Migrate(args) => migrate::run(args, output).await,
        Command::Demo(args) => demo::run(args, output).await,
        Command::Import(args) => import::run(args, output).await,
        Command::Projection(args) => commands::projection::run(args, output).await,
        Command::Give(args) => commands::command::run(args, output).await,
        Command::Stream(args) => commands::stream::run(args, output).await,
        Command::Saga(args) => commands::saga::run(args, output).await,
        Command::Config(args) => commands::config::run(*args, &settings, output),
        Command::Doctor(args) => commands::doctor::run(args, output).await,
        Command::Adopt(args) => commands::adopt::run(args, output).await,
        Command::Export(args) => commands::export::run(args, output).await,
        Command::Restore(args) => commands::restore::run(args, output).await,
        Command::VerifyChain(args) => commands::verify_chain::run(args, output).await,
    };
    done.unwrap_or_else(|error| {
        output::failure(&error);
        if error.is::<config::ConfigError>() { ExitCode::from(WRONG_USAGE) } else { ExitCode::FAILURE }
    })
}
