//! A running platform for chores that ask one.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
};

use anyhow::{Context, bail, ensure};

use crate::run_tests;

/// The root of the project.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Where cargo puts what it makes, and we what we install.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from)
}

/// A platform on an empty directory and a free port, killed when dropped.
pub struct Platform {
    child: Child,
    /// Held open: it goes on to greet.
    said: BufReader<ChildStdout>,
    pub url: String,
    data_dir: PathBuf,
}

impl Platform {
    /// `name` = whose it is: no two may have one directory.
    pub fn start(name: &str, arguments: &[&str]) -> anyhow::Result<Self> {
        // the binary that the tests have, too: built by itself it would have other features, and half of all crates twice
        ensure!(run_tests::build()?, "the platform does not build");
        let data_dir = target().join(format!("{name}-data"));
        match std::fs::remove_dir_all(&data_dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("empty {}", data_dir.display()));
            }
            _ => {}
        }
        let mut child = Command::new(target().join("debug/tributary"))
            .args(["up", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(&data_dir)
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .context("start the platform")?;
        let said = BufReader::new(child.stdout.take().context("the platform's output")?);
        let mut platform = Self { child, said, url: String::new(), data_dir };
        if let Some(url) = platform.hear("GraphQL playground")? {
            url.trim_end_matches("/graphql").clone_into(&mut platform.url);
            return Ok(platform);
        }
        bail!("the platform ended before it was up")
    }

    /// Waits for a line that begins so; gives the rest of it.
    pub fn hear(&mut self, beginning: &str) -> anyhow::Result<Option<String>> {
        let mut line = String::new();
        while self.said.read_line(&mut line).context("read the platform's output")? > 0 {
            if let Some(rest) = line.trim().strip_prefix(beginning) {
                return Ok(Some(rest.trim().to_owned()));
            }
            line.clear();
        }
        Ok(None)
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
