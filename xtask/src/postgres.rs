//! PostgreSQL for the tests: they start throw-away servers themselves and need the programs only.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::ensure;

use crate::debian;

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
    debian::install(PACKAGE, HOW)?;
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
