//! The real `tributary` binary as a child process, all roles in one or one of them, spoken to over HTTP.

use std::{
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use tokio::process::{Child, Command};

/// How long the binary may take until it is ready, demo data included.
const START_TIMEOUT: Duration = Duration::from_secs(120);
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// How long it may take to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

const DATA: &str = "data";

/// A running platform on a loopback port, with a data directory that goes away with it.
pub struct Platform {
    child: Child,
    url: String,
    log: PathBuf,
    folder: tempfile::TempDir,
}

/// The binary in our own profile: built for figures (cargo does nothing if it is built already), taken as it lies there
/// in a test. There the test run has built it, with failpoints; to build it anew would take them from the tests that
/// kill it.
pub async fn build() -> anyhow::Result<PathBuf> {
    if cfg!(debug_assertions)
        && let Some(built) = neighbour()?
    {
        return Ok(built);
    }
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["build", "--quiet", "--package", "platform", "--bin", "tributary"]);
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    let status = command.status().await.context("run cargo")?;
    ensure!(status.success(), "tributary does not build");
    neighbour()?.context("tributary was built, but not beside this program; name it with --tributary")
}

/// Where the binary lies: target/<profile>/bench is beside it, target/<profile>/deps/<test> below.
fn neighbour() -> anyhow::Result<Option<PathBuf>> {
    let own = std::env::current_exe().context("our own path")?;
    Ok(own.ancestors().skip(1).take(2).map(|folder| folder.join("tributary")).find(|path| path.is_file()))
}

/// A place of this machine at which nobody listens just now.
pub fn free_place() -> anyhow::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).context("a free port")
}

impl Platform {
    /// Starts `tributary up` with `arguments` and waits until it is ready.
    pub async fn start(program: &Path, arguments: &[String]) -> anyhow::Result<Self> {
        let mut platform = Self::begin(program, &["up"], free_place()?, arguments)?;
        platform.wait_until_ready().await?;
        Ok(platform)
    }

    /// Starts a role of its own at `listen`, a place that nobody listens at; others may have to start before it is ready.
    pub fn begin(program: &Path, role: &[&str], listen: SocketAddr, arguments: &[String]) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("a temporary directory")?;
        let log = folder.path().join("output");
        let output = std::fs::File::create(&log).context("a file for its output")?;
        let child = Command::new(program)
            .args(role)
            .arg(format!("--listen={listen}"))
            .args(arguments)
            // a role without files has no such flag
            .env("TRIBUTARY_DATA_DIR", folder.path().join(DATA))
            .stdin(Stdio::null())
            .stdout(output.try_clone().context("its output")?)
            .stderr(output)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        Ok(Self { child, url: format!("http://{listen}"), log, folder })
    }

    /// `http://127.0.0.1:<port>`
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where it keeps what is not in PostgreSQL.
    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join(DATA)
    }

    pub async fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let client = reqwest::Client::new();
        let start = Instant::now();
        let ready = format!("{}/readyz", self.url);
        while start.elapsed() < START_TIMEOUT {
            if let Some(status) = self.child.try_wait().context("look after tributary")? {
                bail!("tributary ended ({status}) before it was ready; it said:\n{}", self.output());
            }
            if client.get(&ready).send().await.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        bail!("tributary was not ready within {START_TIMEOUT:?}; it said:\n{}", self.output())
    }

    /// Everything it has printed.
    pub fn output(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The most memory it has ever held, in KiB (`VmHWM`; Linux only).
    pub fn peak_memory_kib(&self) -> anyhow::Result<u64> {
        let id = self.child.id().context("tributary has ended")?;
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).context("read /proc (Linux only)")?;
        let line =
            status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM in /proc/<id>/status")?;
        line.trim().trim_end_matches("kB").trim().parse().with_context(|| format!("VmHWM is {line}"))
    }

    /// SIGTERM, and waits for its end.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        if let Some(id) = self.child.id() {
            let status = Command::new("kill").args(["-TERM", &id.to_string()]).status().await.context("run kill")?;
            ensure!(status.success(), "kill failed ({status})");
        }
        let stopped = tokio::time::timeout(STOP_TIMEOUT, self.child.wait()).await;
        stopped.with_context(|| format!("tributary did not stop within {STOP_TIMEOUT:?}"))??;
        Ok(())
    }
}
