//! What comes from PyPI: in a virtual environment of its own under `target/`.

use std::{path::PathBuf, process::Command};

use anyhow::{Context, ensure};

use crate::platform::target;

/// The folder of an environment that holds these packages, all of them with their versions. It is made anew when they
/// are others. Errors say `how` it is had.
pub fn environment(name: &str, requirements: &str, how: &'static str) -> anyhow::Result<PathBuf> {
    let home = target().join(name);
    let mark = home.join("requirements.txt");
    if std::fs::read_to_string(&mark).is_ok_and(|text| text == requirements) {
        return Ok(home);
    }
    let made = Command::new("python3").args(["-m", "venv", "--clear"]).arg(&home).status().context(how)?;
    ensure!(made.success(), "{how}");
    let wanted = home.join("wanted.txt");
    std::fs::write(&wanted, requirements).with_context(|| format!("write {}", wanted.display()))?;
    let done = Command::new(home.join("bin/pip"))
        .args(["install", "--quiet", "--disable-pip-version-check", "--requirement"])
        .arg(&wanted)
        .status()
        .context(how)?;
    ensure!(done.success(), "the packages could not be installed: {how}");
    // last, so that what was cut off is done again
    std::fs::rename(&wanted, &mark).with_context(|| format!("write {}", mark.display()))?;
    Ok(home)
}
