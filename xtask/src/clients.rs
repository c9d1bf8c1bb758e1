//! `cargo xtask clients`: what people use to ask GraphQL, against a running `tributary up`: the audit of GraphQL over HTTP,
//! client libraries, lint rules over the schema, and the playground in Chromium.
//!
//! The packages, and the Node that runs them, are those of `graphql/tests/clients/package-lock.json`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, ensure};

use crate::{
    debian,
    platform::{Platform, target, workspace},
};

const NPM: &str = "the clients are installed by npm, the first time from its registry: install it with `apt-get install npm` as \
                   root, or with your system's package manager";

const CHROMIUM: &str = "the playground is tried in Chromium: install it with `apt-get install chromium` as root, or with your \
                        system's package manager";

/// What Chromium is called.
const BROWSERS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// The longest that one file of them may take, in milliseconds.
const FILE_WAIT_MAX_MS: &str = "120000";

/// Which of them, and what they leave.
#[derive(Debug, Default, clap::Args)]
pub struct Asked {
    /// Only these, by the names of their files, such as audit
    names: Vec<String>,
    /// Leave a picture of the playground, with the demo data in it
    #[arg(long)]
    screenshot: Option<PathBuf>,
}

/// `false`: one of them did not get what it should, and has said what.
pub fn run(asked: &Asked) -> anyhow::Result<bool> {
    let home = installed()?;
    let browser = browser()?;
    let tests = tests(&home, asked)?;
    // a picture wants something to show
    let demo: &[&str] = if asked.screenshot.is_some() { &["--demo"] } else { &[] };
    let mut platform = Platform::start("clients", demo)?;
    if asked.screenshot.is_some() {
        platform.hear("Demo data")?.context("there is no demo data")?;
    }
    let mut command = Command::new(node(&home)?);
    command
        .current_dir(&home)
        .args(["--test", "--test-reporter=spec", "--test-concurrency=1"])
        .args(["--test-timeout", FILE_WAIT_MAX_MS])
        .args(tests)
        .env("TRIBUTARY_URL", &platform.url)
        .env("TRIBUTARY_SCHEMA", workspace().join("graphql/schema.graphql"))
        .env("CHROMIUM", browser);
    if let Some(screenshot) = &asked.screenshot {
        command.env("SCREENSHOT", std::path::absolute(screenshot).context("where the picture goes")?);
    }
    Ok(command.status().context("run the clients")?.success())
}

/// Where they are installed: beside a copy of the tests, which look for packages from where they lie.
fn installed() -> anyhow::Result<PathBuf> {
    let (sources, home) = (workspace().join("graphql/tests/clients"), target().join("clients"));
    fs::create_dir_all(&home).with_context(|| format!("make {}", home.display()))?;
    let wanted = fs::read_to_string(sources.join("package-lock.json")).context("read which packages are wanted")?;
    let mark = home.join("installed");
    if !fs::read_to_string(&mark).is_ok_and(|there| there == wanted) {
        if debian::in_path("npm").is_none() {
            debian::install("npm", NPM)?;
        }
        copy(&sources, &home, |name| name.starts_with("package"))?;
        let status = Command::new("npm")
            // nothing of what is installed runs while it is: all of it is files
            .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"])
            .current_dir(&home)
            .status()
            .context(NPM)?;
        ensure!(status.success(), "npm ci failed: {NPM}");
        // last, so that what was cut off is done again
        fs::write(&mark, wanted).with_context(|| format!("write {}", mark.display()))?;
    }
    copy(&sources, &home, |name| Path::new(name).extension().is_some_and(|extension| extension == "mjs"))?;
    Ok(home)
}

fn copy(from: &Path, to: &Path, is_wanted: impl Fn(&str) -> bool) -> anyhow::Result<()> {
    for name in names(from)?.iter().filter(|name| is_wanted(name)) {
        fs::copy(from.join(name), to.join(name)).with_context(|| format!("copy {name}"))?;
    }
    Ok(())
}

/// The files of a folder, sorted.
fn names(folder: &Path) -> anyhow::Result<Vec<String>> {
    let entries = fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn tests(home: &Path, asked: &Asked) -> anyhow::Result<Vec<String>> {
    let sources = workspace().join("graphql/tests/clients");
    let all: Vec<String> =
        names(&sources)?.iter().filter_map(|name| name.strip_suffix(".test.mjs").map(str::to_owned)).collect();
    for name in &asked.names {
        ensure!(all.contains(name), "there is no {name}: there are {}", all.join(", "));
    }
    let is_asked = |name: &&String| asked.names.is_empty() || asked.names.contains(name);
    let files = all.iter().filter(is_asked).map(|name| format!("{name}.test.mjs"));
    Ok(files.filter(|file| home.join(file).is_file()).collect())
}

/// The Node among the packages.
fn node(home: &Path) -> anyhow::Result<PathBuf> {
    let processors = ["x64", "arm64"];
    let mut nodes =
        processors.map(|processor| home.join(format!("node_modules/node-linux-{processor}/bin/node"))).into_iter();
    nodes.find(|node| node.is_file()).context("there is no Node for this processor among the packages")
}

fn browser() -> anyhow::Result<PathBuf> {
    let found = || BROWSERS.into_iter().find_map(debian::in_path);
    if let Some(browser) = found() {
        return Ok(browser);
    }
    debian::install("chromium", CHROMIUM)?;
    found().context(CHROMIUM)
}
