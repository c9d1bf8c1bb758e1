//! Programs that come with Debian: installed where the rights are there, else whoever runs us is told how.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, bail, ensure};

/// Where a program is in PATH.
pub fn in_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// Installs a package, or says `how` it is had.
pub fn install(package: &str, how: &str) -> anyhow::Result<()> {
    let Some(prefix) = root_prefix() else { bail!("{how}") };
    say(&format!("installing {package}"));
    apt_get(prefix, &["update"], how)?;
    apt_get(prefix, &["install", "--yes", "--no-install-recommends", package], how)
}

/// Downloads a package and takes one file out of it, to lie at `to`; or says `how` it is had. Needs no rights, unless the
/// system has no lists of packages yet.
pub fn take_out(package: &str, file: &str, to: &Path, how: &str) -> anyhow::Result<()> {
    ensure!(quiet("apt-get", &["--version"]).is_some(), "{how}");
    say(&format!("fetching {package} for {file}"));
    let folder = to.parent().context("a file lies in a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    let download = || {
        let mut apt_get = Command::new("apt-get");
        apt_get.current_dir(folder).args(["-qq", "download", package]).stdout(Stdio::null()).stderr(Stdio::null());
        apt_get.status().is_ok_and(|status| status.success())
    };
    if !download() {
        let Some(prefix) = root_prefix() else { bail!("{how}") };
        apt_get(prefix, &["update"], how)?;
        ensure!(download(), "apt-get download {package} failed: {how}");
    }
    let unpack = format!(
        "set -e; dpkg-deb --fsys-tarfile {package}_*.deb | tar --extract --to-stdout {file} > unpacked; \
         test -s unpacked; chmod +x unpacked; rm {package}_*.deb"
    );
    let unpacked = Command::new("sh").current_dir(folder).args(["-c", &unpack]).status().context("run sh")?;
    ensure!(unpacked.success(), "{file} could not be taken out of {package}: {how}");
    // last, so that what was cut off is done again
    fs::rename(folder.join("unpacked"), to).with_context(|| format!("write {}", to.display()))
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

fn apt_get(prefix: &[&str], arguments: &[&str], how: &str) -> anyhow::Result<()> {
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
    ensure!(status.success(), "apt-get {} failed: {how}", arguments.join(" "));
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
