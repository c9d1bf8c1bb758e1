//! PostgreSQL for the tests: they start throw-away servers themselves and need the programs only.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, bail, ensure};

/// What the tests were written against; later ones work as well.
const PACKAGE: &str = "postgresql-15";

const HOW: &str = "the tests need the PostgreSQL server programs (initdb, postgres), version 15 or newer, in PATH or in \
                   /usr/lib/postgresql/*/bin; install them with `apt-get install postgresql-15` as root, or with your \
                   system's package manager";

/// Makes sure that the programs are there: found, else installed, else an error that says what to do.
pub fn ensure_programs() -> anyhow::Result<()> {
    if found() {
        return Ok(());
    }
    let Some(prefix) = root_prefix() else { bail!("{HOW}") };
    say(&format!("no PostgreSQL here: installing {PACKAGE}"));
    apt_get(prefix, &["update"])?;
    apt_get(prefix, &["install", "--yes", "--no-install-recommends", PACKAGE])?;
    ensure!(found(), "{PACKAGE} was installed, yet there is no initdb: {HOW}");
    Ok(())
}

fn found() -> bool {
    let in_path = env::var_os("PATH").map(|path| env::split_paths(&path).collect()).unwrap_or_default();
    folders(in_path).iter().any(|folder| folder.join("initdb").is_file() && folder.join("postgres").is_file())
}

fn folders(mut folders: Vec<PathBuf>) -> Vec<PathBuf> {
    let versions = Path::new("/usr/lib/postgresql").read_dir().into_iter().flatten().flatten();
    folders.extend(versions.map(|version| version.path().join("bin")));
    folders
}

/// How to run a program as root: as it is, or behind `sudo` where that asks for no password. `None` = not at all.
fn root_prefix() -> Option<&'static [&'static str]> {
    quiet("apt-get", &["--version"])?;
    let id = Command::new("id").arg("-u").output().ok()?;
    if id.stdout.trim_ascii() == b"0" {
        return Some(&[]);
    }
    quiet("sudo", &["-n", "true"])?;
    Some(&["sudo", "-n"])
}

fn apt_get(prefix: &[&str], arguments: &[&str]) -> anyhow::Result<()> {
    let line: Vec<&str> = prefix.iter().copied().chain(["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]).collect();
    let status = Command::new(line[0])
        .args(&line[1..])
        .args(["-qq", "-o", "Dpkg::Use-Pty=0"])
        .args(arguments)
        .stdin(Stdio::null())
        // what it prints is no result of ours
        .stdout(Stdio::null())
        .status()
        .context("run apt-get")?;
    ensure!(status.success(), "apt-get {} failed: {HOW}", arguments.join(" "));
    Ok(())
}

fn quiet(program: &str, arguments: &[&str]) -> Option<()> {
    let status = Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status().ok()?;
    status.success().then_some(())
}

fn say(line: &str) {
    use std::io::Write;
    // with stderr closed there is nobody to tell
    let _ = writeln!(std::io::stderr(), "{line}");
}
