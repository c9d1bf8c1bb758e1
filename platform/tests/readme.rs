//! The README is true: its commands are run, in order, in one shell, and print what it says.

mod common;

use common::{
    Home, Platform, binary,
    console::{assert_prints, page, shell, steps},
};
use testkit::northwind::Northwind;
use tokio::process::Command;

fn readme() -> String {
    page("README.md")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_five_minute_path_prints_what_the_readme_says() {
    let readme = readme();
    let mut steps = steps(&readme);
    assert!(steps.len() >= 9, "the README has lost its commands: {steps:?}");
    let first = steps.remove(0);
    assert_eq!(first.command, "cargo run --release");

    let home = Home::sqlite();
    let platform = Platform::up_with(&home, &["--demo"], &[]).await.expect("up");
    // the same the second time: waits until the demo data is there
    common::tributary(&["demo", "seed", "--url", &platform.url]).await;
    let northwind = Northwind::real_or_synthetic().expect("a source");
    let exports = format!(
        "set -eo pipefail\nexport TRIBUTARY_URL={}\nexport TRIBUTARY_BIN={}\n",
        platform.url,
        binary().display()
    );
    let mut said = String::new();
    for step in steps {
        let command = step
            .command
            .replace("http://127.0.0.1:8080", &platform.url)
            .replace("target/release/tributary", "\"$TRIBUTARY_BIN\"")
            .replace("northwind.sqlite", &northwind.path.display().to_string());
        if step.output.is_empty() {
            // a variable that later commands use
            said.push_str(&command);
            said.push('\n');
            let name = command.split('=').next().expect("a name").to_owned();
            let value = shell(&format!("{exports}{command}\nprintf %s \"${name}\""), home.dir()).await;
            said = format!("{name}='{value}'\n");
            continue;
        }
        let printed = shell(&format!("{exports}{said}{command}"), home.dir()).await;
        assert_prints(&step, &printed.replace(&platform.url, "http://127.0.0.1:8080"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_command_greets_as_the_readme_says() {
    let first = steps(&readme()).remove(0);
    let home = Home::sqlite();
    // port 8080 may be in use here; all else is compared
    let mut child = Command::new(binary())
        .args(["up", "--demo", "--listen", "127.0.0.1:0"])
        .current_dir(home.dir())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("the binary starts");
    let mut lines = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(child.stdout.take().expect("piped")));
    let mut printed = String::new();
    let mut url = String::new();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some(address) = line.trim().strip_prefix("GraphQL playground") {
            url = address.trim().trim_end_matches("/graphql").to_owned();
        }
        printed.push_str(&line);
        printed.push('\n');
        if line.contains("Look at one order") {
            break;
        }
    }
    assert_prints(&first, &printed.replace(&url, "http://127.0.0.1:8080"));
    let made = std::fs::metadata(home.dir().join("data")).expect("it keeps its data in data/");
    let mode = std::os::unix::fs::MetadataExt::mode(&made);
    assert_eq!(mode & 0o077, 0, "nobody else may read what lies there");
}

#[test]
fn the_second_command_is_what_ci_runs() {
    let ci = page(".ci/run");
    let readme = readme();
    let first_screen: String = readme.lines().take(25).collect::<Vec<_>>().join("\n");
    for command in ["cargo run --release", "cargo xtask test"] {
        assert!(first_screen.contains(command), "{command} is on the first screen");
    }
    assert_eq!(ci.trim_end().lines().last(), Some("cargo xtask test"), "CI ends with the README's second command");
}
