//! PostGraphile: installed once from `bench/peers-node`, with the Node that it is measured on, and run as a child process.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use tokio::process::Command;

/// As many connections as ours and the one by hand have.
const CONNECTIONS: &str = "16";

const HOW: &str = "PostGraphile is installed by npm (`apt-get install npm`) from its registry, the first time; --without-peer \
                   leaves it out";

/// What is installed, all of it: packages with their versions and hashes.
const MANIFESTS: [(&str, &str); 3] = [
    ("package.json", include_str!("../../peers-node/package.json")),
    ("package-lock.json", include_str!("../../peers-node/package-lock.json")),
    ("serve.mjs", include_str!("../../peers-node/serve.mjs")),
];

pub struct PostGraphile {
    home: PathBuf,
    node: PathBuf,
}

impl PostGraphile {
    /// npm does nothing if it is there already.
    pub async fn install() -> anyhow::Result<Self> {
        let home = target()?.join("bench-peers-node");
        let is_same =
            |(name, text): &(&str, &str)| fs::read_to_string(home.join(name)).is_ok_and(|there| there == *text);
        let mark = home.join("installed");
        if !mark.is_file() || !MANIFESTS.iter().all(is_same) {
            eprintln!("installing PostGraphile into {}", home.display());
            fs::create_dir_all(&home).with_context(|| format!("make {}", home.display()))?;
            for (name, text) in MANIFESTS {
                fs::write(home.join(name), text).with_context(|| format!("write {name}"))?;
            }
            let _ = fs::remove_file(&mark);
            let status = Command::new("npm")
                .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"])
                .current_dir(&home)
                // stdout is for figures
                .stdout(std::process::Stdio::null())
                .status()
                .await
                .context(HOW)?;
            ensure!(status.success(), "npm ci failed: {HOW}");
            fs::write(&mark, "").context("note that it is installed")?;
        }
        let node = ["x64", "arm64"].map(|processor| home.join(format!("node_modules/node-linux-{processor}/bin/node")));
        let node = node.into_iter().find(|node| node.is_file()).context("there is no Node for this processor")?;
        Ok(Self { home, node })
    }

    /// What serves the tables at `url`.
    pub fn serve(&self, url: &str) -> Command {
        let mut command = Command::new(&self.node);
        command.current_dir(&self.home).arg("serve.mjs").args([url, CONNECTIONS]).env("GRAPHILE_ENV", "production");
        command
    }
}

/// Where this program lies: target/<profile>/bench.
fn target() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("our own path")?;
    own.ancestors().nth(2).map(Path::to_owned).context("a target directory")
}
