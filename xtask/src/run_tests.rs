//! `cargo xtask test`: a minute of schemathesis, clients that people use, and every test of the workspace.

use std::process::{Command, ExitCode};

use anyhow::Context;

use crate::{clients, pgbouncer, postgres, promtool, schemathesis};

/// The tests that kill the platform need a binary that can be told where to die. No release is built with it.
pub const FEATURES: &str = "platform/failpoints,projections/failpoints";

/// Documentation examples are built and run by themselves.
const TARGETS: [&str; 3] = ["--lib", "--bins", "--tests"];

/// The tests come last, so that the last lines are theirs.
pub fn run(arguments: &[String]) -> anyhow::Result<ExitCode> {
    postgres::ensure_programs()?;
    pgbouncer::ensure_program()?;
    promtool::ensure_program()?;
    // with a filter, somebody wants one test
    let everything = arguments.is_empty();
    if everything && !cargo_test(&["--doc"], &[])? {
        return Ok(ExitCode::FAILURE);
    }
    let fuzzed = !everything || schemathesis::run(&schemathesis::SHORT)?;
    let asked = !everything || clients::run(&clients::Asked::default())?;
    let passed = cargo_test(&TARGETS, arguments)?;
    anyhow::ensure!(fuzzed, "schemathesis found answers that are not in the document: see above, before the tests");
    anyhow::ensure!(asked, "a client did not get what it should: see above, before the tests");
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Builds all of it, the binary `tributary` included.
pub fn build() -> anyhow::Result<bool> {
    cargo_test(&TARGETS, &["--no-run".to_owned()])
}

fn cargo_test(targets: &[&str], arguments: &[String]) -> anyhow::Result<bool> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        // the whole workspace, from wherever the chore was asked for
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        // all failures of a run, not only the first one
        .args(["test", "--locked", "--workspace", "--no-fail-fast", "--features", FEATURES])
        .args(targets)
        .args(arguments)
        .status()
        .context("run cargo test")?;
    Ok(status.success())
}
