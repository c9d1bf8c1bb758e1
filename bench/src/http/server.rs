//! A side that serves, as a process of its own.

use std::{net::SocketAddr, process::Stdio, time::Duration};

use anyhow::{Context, ensure};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

/// How long a side may take to open its database, and to end.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// It ends when this is dropped, or when this process ends: its standard input ends then (see [`crate::serving`]).
pub struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    /// Starts `command` and waits until it says where it listens.
    pub async fn start(mut command: Command) -> anyhow::Result<Self> {
        let program = command.as_std().get_program().to_string_lossy().into_owned();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().with_context(|| format!("start {program}"))?;
        let mut said = String::new();
        let mut output = BufReader::new(child.stdout.take().context("its output is a pipe")?);
        let line = timeout(WAIT_MAX, output.read_line(&mut said)).await;
        line.with_context(|| format!("{program} did not listen within {WAIT_MAX:?}"))?.context("read its output")?;
        let address = said.trim().parse();
        let address = address.with_context(|| format!("{program} ended, or said {said:?} for an address"))?;
        Ok(Self { child, address })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets it end what it is at.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        drop(self.child.stdin.take());
        let ended = timeout(WAIT_MAX, self.child.wait()).await;
        let status = ended.with_context(|| format!("a server did not end within {WAIT_MAX:?}"))??;
        ensure!(status.success(), "a server ended badly ({status})");
        Ok(())
    }
}
