//! `cargo xtask soak`: the same tests as every day, for much longer. Each entry of the register names a package's tests and
//! the variables that make its tests long; the tests themselves say what they make of them.

use std::{
    io::Write,
    process::{Command, ExitCode},
};

use anyhow::{Context, bail, ensure};

use crate::{newer_postgres, old_beside_new, postgres, schemathesis};

/// One long run.
struct Soak {
    name: &'static str,
    about: &'static str,
    package: &'static str,
    /// Which of the package's tests: arguments of `cargo test`, a part of their names after `--`.
    tests: &'static [&'static str],
    variables: &'static [(&'static str, &'static str)],
}

/// What is no test of cargo's.
const SCHEMATHESIS: (&str, &str) = (
    "schemathesis",
    "requests made from the OpenAPI document, also in chains: no 5xx, no answer outside it (30 minutes), and questions \
     made from the GraphQL schema: no fault of ours (10 minutes)",
);

/// Nor this: tests of many packages, on other servers.
const NEWER_POSTGRES: (&str, &str) =
    ("newer-postgres", "everything that is written in SQL, on PostgreSQL 18 and 16, which come as a wheel from PyPI");

/// Nor this: it builds another release first.
const OLD_BESIDE_NEW: (&str, &str) = (
    "old-beside-new",
    "an earlier binary beside this one on the same databases, rolled out, back and out again under orders: nothing is lost",
);

/// `TRIBUTARY_SOAK` is for tests of our own making, `PROPTEST_CASES` for property tests.
const REGISTER: &[Soak] = &[
    Soak {
        name: "kill",
        about: "SIGKILL at named places and at random under load: what was acknowledged is there once",
        package: "platform",
        tests: &["--features", "failpoints", "--test", "kill"],
        variables: &[("TRIBUTARY_SOAK", "1")],
    },
    Soak {
        name: "projector",
        about: "200 random SIGKILLs under load on each database: every read model is what its events make of it",
        package: "platform",
        tests: &["--features", "failpoints", "--test", "projector_kill"],
        variables: &[("TRIBUTARY_SOAK", "1")],
    },
    Soak {
        name: "adopt",
        about: "postgres-es itself writes before and after its database was adopted: all of it is in our feed",
        package: "bench",
        tests: &["--test", "adopted", "--", "--ignored"],
        variables: &[],
    },
    Soak {
        name: "rebuild",
        about: "a rebuild of a million events (200,000 on SQLite) under 500 commands a second, and nobody notices",
        package: "platform",
        // one after the other: each is to have the machine for itself, and says what it has measured
        tests: &["--test", "live_rebuild", "--", "--test-threads=1", "--nocapture"],
        variables: &[("TRIBUTARY_SOAK", "1")],
    },
    Soak {
        name: "live",
        about: "subscribers that are cut off anywhere, in a hundred histories: every last state is told, and nothing twice",
        package: "graphql",
        tests: &["--test", "live_laws"],
        variables: &[("TRIBUTARY_SOAK", "1")],
    },
    Soak {
        name: "checkout",
        about: "2,000 orders while the platform dies at every step: whole or undone, and nothing twice",
        package: "platform",
        tests: &["--features", "failpoints", "--test", "checkout_kill"],
        variables: &[("TRIBUTARY_SOAK", "1")],
    },
    Soak {
        name: "chaos",
        about: "2,000 orders while every process and every PostgreSQL dies, starves or is full: acknowledged once, and the laws hold",
        package: "platform",
        tests: &["--test", "chaos"],
        variables: &[("TRIBUTARY_SOAK", "1")],
    },
    Soak {
        name: "read-your-writes",
        about: "64 clients who write by HTTP and read at once by GraphQL, two processes, rebuilds: nothing stale (5 minutes)",
        package: "platform",
        tests: &["--test", "read_your_writes"],
        variables: &[("TRIBUTARY_SOAK", "1")],
    },
    Soak {
        name: "interleavings",
        about: "every law of every read model on both databases, 400 histories each (hours)",
        package: "projections",
        tests: &["--test", "laws"],
        variables: &[("TRIBUTARY_SOAK", "1")],
    },
    Soak {
        name: "cursors",
        about: "walks over lists while orders come and change, on both databases: what is there throughout is told once",
        package: "graphql",
        tests: &["--test", "cursors"],
        variables: &[("TRIBUTARY_SOAK", "1")],
    },
    Soak {
        name: "checkout-lines",
        about: "an order of 2,000 lines, from its placement to its end",
        package: "write-side",
        tests: &["--test", "checkout", "--", "many_lines"],
        variables: &[("TRIBUTARY_SOAK", "1")],
    },
    Soak {
        name: "checkout-laws",
        about: "whatever happens to an order in whatever order, it ends whole or undone (100,000 histories)",
        package: "write-side",
        tests: &["--test", "checkout_laws"],
        variables: &[("PROPTEST_CASES", "100000")],
    },
    Soak {
        name: "prices",
        about: "every price survives being stored as a 32-bit float (5 million prices)",
        package: "platform",
        tests: &["--lib", "--", "import::decimal"],
        variables: &[("PROPTEST_CASES", "5000000")],
    },
    Soak {
        name: "edge",
        about: "whatever is sent to GraphQL is answered, and never with a 5xx (50,000 requests of each kind)",
        package: "graphql",
        tests: &["--test", "any_request"],
        variables: &[("TRIBUTARY_SOAK", "1")],
    },
    Soak {
        name: "tokens",
        about: "a consistency token survives its text, and any text is a token or an error (1 million each)",
        package: "events",
        tests: &["--lib", "--", "consistency"],
        variables: &[("PROPTEST_CASES", "1000000")],
    },
];

pub fn run(name: Option<&str>) -> anyhow::Result<ExitCode> {
    let Some(name) = name else {
        for soak in REGISTER {
            writeln!(std::io::stdout(), "{:<14} {}", soak.name, soak.about)?;
        }
        for (name, about) in [SCHEMATHESIS, NEWER_POSTGRES, OLD_BESIDE_NEW] {
            writeln!(std::io::stdout(), "{name:<14} {about}")?;
        }
        return Ok(ExitCode::SUCCESS);
    };
    let other = match name {
        _ if name == SCHEMATHESIS.0 => Some(schemathesis::run(&schemathesis::LONG)?),
        _ if name == NEWER_POSTGRES.0 => Some(newer_postgres::run()?),
        _ if name == OLD_BESIDE_NEW.0 => {
            postgres::ensure_programs()?;
            Some(old_beside_new::run()?)
        }
        _ => None,
    };
    if let Some(passed) = other {
        return Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let Some(soak) = REGISTER.iter().find(|soak| soak.name == name) else {
        bail!("no soak is named {name}; `cargo xtask soak` lists them");
    };
    postgres::ensure_programs()?;
    // a filter that finds nothing would pass without a word
    let list: &[&str] = if soak.tests.contains(&"--") { &["--list"] } else { &["--", "--list"] };
    let tests = cargo_test(soak).args(list).output().context("run cargo test")?;
    ensure!(tests.status.success(), "{}", String::from_utf8_lossy(&tests.stderr));
    let named = String::from_utf8_lossy(&tests.stdout).lines().filter(|line| line.ends_with(": test")).count();
    ensure!(named > 0, "no test of {} answers to {:?}", soak.package, soak.tests);
    let status = cargo_test(soak).envs(soak.variables.iter().copied()).status().context("run cargo test")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// In release, because a long run is for many cases.
fn cargo_test(soak: &Soak) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    command.args(["test", "--release", "--locked", "--package", soak.package]).args(soak.tests);
    command
}
