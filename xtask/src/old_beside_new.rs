//! The binary of an earlier release beside this one, on the same databases: builds it from its sources as git has them, and
//! runs the test that starts both.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, ensure};

use crate::platform::{target, workspace};

/// The release before this one: what is rolled out must work beside it, and be taken back to it. A release moves it on to
/// the tag of the release that it follows; before the first one it is the last revision before tables changed.
const BEFORE: &str = "165326f9";

/// Where to name another revision.
const REVISION: &str = "TRIBUTARY_OLD_REVISION";

/// What tells the test where the binary is.
const BINARY: &str = "TRIBUTARY_OLD_BINARY";

/// `false`: the test failed.
pub fn run() -> anyhow::Result<bool> {
    let revision = std::env::var(REVISION).unwrap_or_else(|_| BEFORE.to_owned());
    let old = build(&revision)?;
    let mut test = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    test.current_dir(workspace());
    test.args(["test", "--locked", "--package", "platform", "--test", "old_beside_new", "--", "--ignored"]);
    Ok(test.env(BINARY, old).status().context("run cargo test")?.success())
}

/// Builds the binary of a revision under target/, with a folder of its own for each: it is built once.
fn build(revision: &str) -> anyhow::Result<PathBuf> {
    let named = Command::new("git")
        .current_dir(workspace())
        .args(["rev-parse", "--verify", "--quiet", &format!("{revision}^{{commit}}")])
        .output()
        .context("run git: the sources of an earlier release come from it")?;
    ensure!(
        named.status.success(),
        "git knows no revision {revision}: a whole clone has it, or name another one with {REVISION}"
    );
    let commit = String::from_utf8_lossy(&named.stdout).trim().to_owned();
    let home = fs::canonicalize(target()).context("the target folder")?.join("old-beside-new").join(&commit);
    let sources = home.join("sources");
    unpack(&commit, &sources)?;
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(&sources);
    cargo.args(["build", "--locked", "--package", "platform", "--bin", "tributary"]);
    // nobody debugs it, and what is built with that takes gigabytes
    cargo.env("CARGO_TARGET_DIR", home.join("target")).env("CARGO_PROFILE_DEV_DEBUG", "0");
    ensure!(cargo.status().context("run cargo build")?.success(), "{commit} does not build");
    Ok(home.join("target/debug/tributary"))
}

/// The files of a commit, made anew where they are not whole.
fn unpack(commit: &str, sources: &Path) -> anyhow::Result<()> {
    if sources.join("Cargo.lock").exists() {
        return Ok(());
    }
    let half = sources.with_extension("half");
    match fs::remove_dir_all(&half) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error).context("what was cut off"),
        _ => {}
    }
    fs::create_dir_all(&half).with_context(|| format!("make {}", half.display()))?;
    let mut archive = Command::new("git")
        .current_dir(workspace())
        .args(["archive", commit])
        .stdout(Stdio::piped())
        .spawn()
        .context("run git archive")?;
    let files = archive.stdout.take().context("its output")?;
    let unpacked = Command::new("tar").arg("-x").current_dir(&half).stdin(files).status().context("run tar")?;
    let archived = archive.wait().context("git archive")?;
    ensure!(unpacked.success() && archived.success(), "the files of {commit} cannot be had");
    fs::rename(&half, sources).with_context(|| format!("make {}", sources.display()))
}
