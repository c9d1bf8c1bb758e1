//! schemathesis: requests of every kind made from the OpenAPI document, right and wrong, alone and in chains (stateful mode),
//! against a running `tributary up`. It fails at a 5xx, and at any answer that the document does not allow. And questions
//! made from the GraphQL schema: it fails at a 5xx, and at an error that is our fault.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::Context;

use crate::{platform::Platform, python};

/// As part of `cargo xtask test`.
pub const SHORT: Times = Times { commands: Duration::from_secs(60), questions: Duration::from_secs(15) };

/// As `cargo xtask soak schemathesis`.
pub const LONG: Times = Times { commands: Duration::from_secs(30 * 60), questions: Duration::from_secs(10 * 60) };

/// How long each goes on.
pub struct Times {
    commands: Duration,
    questions: Duration,
}

/// The same requests in every run, as far as the time goes.
const SEED: &str = "3";

/// One answer's longest wait; the platform's own is 60 s.
const ANSWER_WAIT_MAX_SECONDS: &str = "65";

/// Not among them: whether the document's good bodies are accepted, for a customer must exist to order; our own tests send
/// the examples for that. Nor whether a missing header is refused: it knows no 428.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,\
                      response_schema_conformance,negative_data_rejection,unsupported_method,use_after_free,\
                      ensure_resource_availability";

/// Python packages with their versions, all of them: the same generator gives the same requests.
const REQUIREMENTS: &str = include_str!("../schemathesis/requirements.txt");

const HOW: &str = "schemathesis runs in a virtual environment of its own under target/: it needs python3 (3.10 or newer) with \
                   its venv module (`apt-get install python3-venv`), and, the first time, a way to PyPI";

/// Runs it for about so long. `false`: it found something, and has said what.
pub fn run(times: &Times) -> anyhow::Result<bool> {
    let program = python::environment("schemathesis", REQUIREMENTS, HOW)?.join("bin/schemathesis");
    let platform = Platform::start("schemathesis", &[])?;
    let mut commands = with_seed(&program, times.commands);
    commands.args(["--checks", CHECKS, "--url", &platform.url]).arg(format!("{}/openapi.json", platform.url));
    let mut questions = with_seed(&program, times.questions);
    questions.args(["--checks", "no_fault_of_the_server"]).arg(format!("{}/graphql", platform.url));
    // a module, looked for where Python looks for any
    questions
        .env("SCHEMATHESIS_HOOKS", "graphql_hooks")
        .env("PYTHONPATH", folder())
        .env("PYTHONDONTWRITEBYTECODE", "1");
    let mut passed = true;
    for mut asked in [commands, questions] {
        passed &= asked.status().context("run schemathesis")?.success();
    }
    Ok(passed)
}

/// What it is told, wherever the requests come from.
fn with_seed(program: &Path, time: Duration) -> Command {
    let mut command = Command::new(program);
    command
        .arg("--config-file")
        .arg(folder().join("schemathesis.toml"))
        .args(["run", "--no-color", "--workers", "1", "--generation-database", "none"])
        .args(["--seed", SEED, "--request-timeout", ANSWER_WAIT_MAX_SECONDS])
        .args(["--max-time", &time.as_secs().to_string()]);
    command
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("schemathesis")
}
