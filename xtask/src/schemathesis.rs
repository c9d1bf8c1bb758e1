//! schemathesis: requests of every kind made from the OpenAPI document, right and wrong, alone and in chains (stateful mode),
//! against a running `tributary up`. It fails at a 5xx, and at any answer that the document does not allow.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, bail, ensure};

use crate::run_tests;

/// As part of `cargo xtask test`.
pub const SHORT: Duration = Duration::from_secs(60);

/// As `cargo xtask soak schemathesis`.
pub const LONG: Duration = Duration::from_secs(30 * 60);

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
pub fn run(time: Duration) -> anyhow::Result<bool> {
    let program = installed()?;
    let platform = Platform::start()?;
    let status = Command::new(program)
        .arg("--config-file")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("schemathesis/schemathesis.toml"))
        .args(["run", "--no-color", "--workers", "1", "--generation-database", "none", "--checks", CHECKS])
        .args(["--seed", SEED, "--request-timeout", ANSWER_WAIT_MAX_SECONDS])
        .args(["--max-time", &time.as_secs().to_string()])
        .args(["--url", &platform.url])
        .arg(format!("{}/openapi.json", platform.url))
        .status()
        .context("run schemathesis")?;
    Ok(status.success())
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from)
}

/// The program in its virtual environment, which is made anew when the versions are others.
fn installed() -> anyhow::Result<PathBuf> {
    let home = target().join("schemathesis");
    let (program, mark) = (home.join("bin/schemathesis"), home.join("requirements.txt"));
    if program.is_file() && std::fs::read_to_string(&mark).is_ok_and(|text| text == REQUIREMENTS) {
        return Ok(program);
    }
    let made = Command::new("python3").args(["-m", "venv", "--clear"]).arg(&home).status().context(HOW)?;
    ensure!(made.success(), "{HOW}");
    let wanted = home.join("wanted.txt");
    std::fs::write(&wanted, REQUIREMENTS).with_context(|| format!("write {}", wanted.display()))?;
    let done = Command::new(home.join("bin/pip"))
        .args(["install", "--quiet", "--disable-pip-version-check", "--requirement"])
        .arg(&wanted)
        .status()
        .context(HOW)?;
    ensure!(done.success(), "the packages could not be installed: {HOW}");
    // last, so that what was cut off is done again
    std::fs::rename(&wanted, &mark).with_context(|| format!("write {}", mark.display()))?;
    Ok(program)
}

/// A platform on an empty directory, killed when dropped.
struct Platform {
    child: Child,
    /// Held open: it goes on to greet.
    said: BufReader<ChildStdout>,
    url: String,
    data_dir: PathBuf,
}

impl Platform {
    fn start() -> anyhow::Result<Self> {
        // the binary that the tests have, too: built by itself it would have other features, and half of all crates twice
        ensure!(run_tests::build()?, "the platform does not build");
        let data_dir = target().join("schemathesis-data");
        match std::fs::remove_dir_all(&data_dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("empty {}", data_dir.display()));
            }
            _ => {}
        }
        let mut child = Command::new(target().join("debug/tributary"))
            .args(["up", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(&data_dir)
            .stdout(Stdio::piped())
            .spawn()
            .context("start the platform")?;
        let said = BufReader::new(child.stdout.take().context("the platform's output")?);
        let mut platform = Self { child, said, url: String::new(), data_dir };
        let mut line = String::new();
        while platform.said.read_line(&mut line).context("read the platform's output")? > 0 {
            if let Some(url) = line.trim().strip_prefix("GraphQL playground") {
                url.trim().trim_end_matches("/graphql").clone_into(&mut platform.url);
                return Ok(platform);
            }
            line.clear();
        }
        bail!("the platform ended before it was up")
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        // it may have ended by itself, and its data is of no use to anybody
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.data_dir);
    }
}
