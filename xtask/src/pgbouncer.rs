//! PgBouncer for the tests that run the log and the platform behind it.

use anyhow::ensure;

use crate::debian;

const PACKAGE: &str = "pgbouncer";

const HOW: &str = "the tests need pgbouncer in PATH, or its path in TRIBUTARY_PGBOUNCER; install it with `apt-get install \
                   pgbouncer` as root, or with your system's package manager";

/// Makes sure that it is there: found, else installed, else an error that says what to do.
pub fn ensure_program() -> anyhow::Result<()> {
    if found() {
        return Ok(());
    }
    debian::install(PACKAGE, HOW)?;
    ensure!(found(), "{PACKAGE} was installed, yet it is not in PATH: {HOW}");
    Ok(())
}

fn found() -> bool {
    std::env::var_os("TRIBUTARY_PGBOUNCER").is_some() || debian::in_path(PACKAGE).is_some()
}
