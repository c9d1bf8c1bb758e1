//! The peer: built once from `bench/peers`, a workspace of its own, and run as a child process between our own runs.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use tokio::process::Command;

use crate::workload::{Measured, Plan};

/// Pool sizes among which the peer's best is looked for.
pub const POOLS: [u32; 3] = [8, 16, 32];

/// The peer's program.
pub struct Peer {
    program: PathBuf,
}

impl Peer {
    /// Builds it in release mode. Cargo does nothing if it is built already.
    pub async fn build(bench_folder: &Path) -> anyhow::Result<Self> {
        let manifest = bench_folder.join("peers/Cargo.toml");
        let target = bench_folder.join("peers/target");
        eprintln!("building the peer ({})", manifest.display());
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let status = Command::new(cargo)
            .args(["build", "--release", "--locked", "--quiet", "--manifest-path"])
            .arg(&manifest)
            .arg("--target-dir")
            .arg(&target)
            .status()
            .await
            .context("run cargo")?;
        ensure!(status.success(), "the peer does not build: cargo build --manifest-path {}", manifest.display());
        Ok(Self { program: target.join("release/peers") })
    }

    /// Makes the peer's tables, where they are not there, and `plan`'s streams.
    pub async fn prepare(&self, url: &str, plan: Plan) -> anyhow::Result<()> {
        self.output(url, "prepare", plan, &[]).await.map(drop)
    }

    /// One measurement for each pool size, and if asked for one with the pool that postgres-es makes itself.
    pub async fn run(
        &self,
        url: &str,
        plan: Plan,
        pools: &[u32],
        documented_pool: bool,
    ) -> anyhow::Result<Vec<Measured>> {
        let pools: Vec<String> = pools.iter().map(u32::to_string).collect();
        let mut arguments = vec![
            "--streams".to_owned(),
            plan.streams.as_str().to_owned(),
            "--tasks".to_owned(),
            plan.tasks.to_string(),
            "--duration-ms".to_owned(),
            plan.duration.as_millis().to_string(),
            "--warm-up-ms".to_owned(),
            plan.warm_up.as_millis().to_string(),
            "--pool".to_owned(),
            pools.join(","),
        ];
        if documented_pool {
            arguments.push("--documented-pool".to_owned());
        }
        let output = self.output(url, "run", plan, &arguments).await?;
        output.lines().map(|line| serde_json::from_str(line).context("read the peer's figures")).collect()
    }

    /// What serves the same commands over HTTP; `pool` = `None`: with the pool that postgres-es makes itself.
    pub fn serve(&self, url: &str, pool: Option<u32>) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["serve", "--url", url]);
        if let Some(pool) = pool {
            command.args(["--pool", &pool.to_string()]);
        }
        command
    }

    /// Replays so many events of orders into views; how many a second.
    pub async fn replay(&self, url: &str, events: u64) -> anyhow::Result<f64> {
        let output = Command::new(&self.program)
            .args(["replay", "--url", url, "--events", &events.to_string()])
            .kill_on_drop(true)
            .output()
            .await
            .with_context(|| format!("run {}", self.program.display()))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "the peer's replay failed ({}): {said}", output.status);
        let told: serde_json::Value = serde_json::from_slice(&output.stdout).context("read the peer's figures")?;
        told["per_s"].as_f64().context("the peer tells no rate")
    }

    async fn output(&self, url: &str, subcommand: &str, plan: Plan, more: &[String]) -> anyhow::Result<String> {
        let output = Command::new(&self.program)
            .args([subcommand, "--url", url, "--prepared", &plan.prepared.to_string()])
            .args(["--first", &plan.first.to_string()])
            .args(more)
            .kill_on_drop(true)
            .output()
            .await
            .with_context(|| format!("run {}", self.program.display()))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "the peer's {subcommand} failed ({}): {said}", output.status);
        String::from_utf8(output.stdout).context("read the peer's output")
    }
}
