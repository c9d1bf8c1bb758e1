//! promtool for the test that checks `/metrics`. It comes with Prometheus, of which nothing else is wanted: no server that
//! starts by itself. So it is taken out of the package, which needs no rights.

use std::{env, path::PathBuf};

use crate::{debian, platform::target};

const PROGRAM: &str = "promtool";

const HOW: &str = "the tests need promtool in PATH, or its path in TRIBUTARY_PROMTOOL; it comes with Prometheus: \
                   `apt-get install prometheus` as root, or your system's package manager, or prometheus.io/download";

/// Makes sure that it is there: found, else taken out of Debian's package, else an error that says what to do.
pub fn ensure_program() -> anyhow::Result<()> {
    if env::var_os("TRIBUTARY_PROMTOOL").is_some() || debian::in_path(PROGRAM).is_some() || own().is_file() {
        return Ok(());
    }
    debian::take_out("prometheus", "./usr/bin/promtool", &own(), HOW)
}

/// Where the tests look, too.
fn own() -> PathBuf {
    target().join(PROGRAM).join(PROGRAM)
}
