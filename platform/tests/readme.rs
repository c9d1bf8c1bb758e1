//! The README is true: its commands are run, in order, in one shell, and print what it says.
//!
//! A block marked `console` holds commands behind `$ ` and what they print. A line `...` stands for any lines. What
//! differs from run to run (tokens, times, made-up ids) is compared by its form.

mod common;

use std::path::{Path, PathBuf};

use common::{Home, Platform, binary};
use testkit::northwind::Northwind;
use tokio::process::Command;

fn readme() -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    std::fs::read_to_string(path).expect("README.md")
}

/// A command and what it prints.
#[derive(Debug)]
struct Step {
    command: String,
    output: String,
}

fn steps(readme: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for block in readme.split("```console\n").skip(1) {
        let block = block.split("```").next().expect("a block ends");
        let mut in_command = false;
        for line in block.lines() {
            let open_quotes = |text: &str| text.matches('\'').count() % 2 == 1;
            match line.strip_prefix("$ ") {
                Some(command) => {
                    steps.push(Step { command: command.to_owned(), output: String::new() });
                    in_command = open_quotes(command);
                }
                None => {
                    let step = steps.last_mut().expect("a block begins with a command");
                    let text = if in_command { &mut step.command } else { &mut step.output };
                    text.push_str(if in_command { "\n" } else { "" });
                    text.push_str(line);
                    text.push_str(if in_command { "" } else { "\n" });
                    in_command = in_command && !open_quotes(line);
                }
            }
        }
    }
    steps
}

/// Replaces what differs from run to run by its kind.
fn form(line: &str) -> String {
    let word = |word: &str| {
        let fields: Vec<&str> = word.split(':').collect();
        let is_number = |text: &str| text.parse::<u64>().is_ok();
        let is_hex = |text: &str| text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        match fields.as_slice() {
            // how much the checkout has written by then is not the same each time
            [source, epoch, position, anchor] if is_hex(epoch) && is_hex(anchor) && is_number(position) => {
                format!("{source}:E:P:A")
            }
            _ if word.len() == 24 && word.ends_with('Z') && word.contains('T') => "TIME".to_owned(),
            _ => word.to_owned(),
        }
    };
    // how far the read models are by then is not the same each time
    let (line, consistency) = match line.trim_end().split_once("\"consistency\":") {
        Some((line, told)) => (line, without_digits(told)),
        None => (line.trim_end(), String::new()),
    };
    let words: Vec<&str> = line.split(' ').collect();
    let formed = words.iter().enumerate().map(|(n, text)| match words.get(n + 1) {
        // what happens by itself goes on meanwhile
        Some(&"events") if text.parse::<u64>().is_ok() => "N".to_owned(),
        _ => word(text),
    });
    formed.collect::<Vec<_>>().join(" ") + &consistency
}

fn without_digits(text: &str) -> String {
    text.chars().filter(|each| !each.is_ascii_digit()).collect()
}

fn assert_prints(step: &Step, printed: &str) {
    let expected: Vec<String> = step.output.lines().map(form).collect();
    let printed_lines: Vec<String> = printed.lines().map(form).collect();
    let mut rest = printed_lines.as_slice();
    let mut any = false;
    for line in &expected {
        if line == "..." {
            any = true;
            continue;
        }
        let found = rest.iter().position(|printed| printed == line);
        let at = found.unwrap_or_else(|| panic!("`{}` does not print\n{line}\nbut\n{printed}", step.command));
        assert!(any || at == 0, "`{}` prints more than it should before\n{line}\n{printed}", step.command);
        rest = &rest[at + 1..];
        any = false;
    }
    assert!(any || rest.is_empty(), "`{}` prints more than it should:\n{printed}", step.command);
}

async fn shell(script: &str, dir: &Path) -> String {
    let output = Command::new("bash").args(["-c", script]).current_dir(dir).kill_on_drop(true).output();
    let output = output.await.expect("bash is there");
    assert!(output.status.success(), "{script}\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).replace('\r', "")
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
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let ci = std::fs::read_to_string(root.join(".ci/run")).expect(".ci/run");
    let readme = readme();
    let first_screen: String = readme.lines().take(25).collect::<Vec<_>>().join("\n");
    for command in ["cargo run --release", "cargo xtask test"] {
        assert!(first_screen.contains(command), "{command} is on the first screen");
    }
    assert_eq!(ci.trim_end().lines().last(), Some("cargo xtask test"), "CI ends with the README's second command");
}
