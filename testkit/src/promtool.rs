//! What Prometheus' own `promtool check metrics` says of a page of metrics.
//!
//! `TRIBUTARY_PROMTOOL` names a program other than the one that `cargo xtask test` has fetched, or the one in PATH.

use std::{
    env,
    io::Write,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, ensure};

const MISSING: &str = "no promtool: `cargo xtask test` fetches it on Debian; or install Prometheus (`apt-get install prometheus`), \
                       or name it in TRIBUTARY_PROMTOOL";

/// Whether the page is as it should be, with names by convention; an error says what is not.
pub fn check(page: &str) -> anyhow::Result<()> {
    let mut promtool = Command::new(program())
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context(MISSING)?;
    promtool.stdin.take().context("a page to read")?.write_all(page.as_bytes()).context("give promtool a page")?;
    let said = promtool.wait_with_output().context("wait for promtool")?;
    let text = format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    ensure!(said.status.success() && text.trim().is_empty(), "promtool check metrics: {text}");
    Ok(())
}

fn program() -> PathBuf {
    if let Some(named) = env::var_os("TRIBUTARY_PROMTOOL") {
        return named.into();
    }
    // the test is in `deps`, in a profile's folder, in the folder of all that is made
    let made = env::current_exe().ok().and_then(|test| Some(test.ancestors().nth(3)?.join("promtool/promtool")));
    made.filter(|fetched| fetched.is_file()).unwrap_or_else(|| "promtool".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_against_the_convention_is_found() {
        check("# HELP jobs_total Jobs that ended.\n# TYPE jobs_total counter\njobs_total 3\n").unwrap();
        let refused = check("# HELP jobs Jobs that ended.\n# TYPE jobs counter\njobs 3\n").unwrap_err();
        assert!(refused.to_string().contains("_total"), "{refused}");
    }
}
