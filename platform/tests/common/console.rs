//! Pages whose commands are run: what they print is compared with what the page says.
//!
//! A block marked `console` holds commands behind `$ ` and what they print. A line `...` stands for any lines. What
//! differs from run to run (tokens, times, made-up ids) is compared by its form.

use std::path::{Path, PathBuf};

use tokio::process::Command;

/// A page of the repository.
pub fn page(path: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A command and what it prints.
#[derive(Debug)]
pub struct Step {
    pub command: String,
    pub output: String,
}

/// What a page says, in order.
pub fn steps(page: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for block in page.split("```console\n").skip(1) {
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

/// Fails when a command has not printed what the page says.
pub fn assert_prints(step: &Step, printed: &str) {
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

/// Runs a script that must not fail, and gives what it prints.
pub async fn shell(script: &str, dir: &Path) -> String {
    let output = Command::new("bash").args(["-c", script]).current_dir(dir).kill_on_drop(true).output();
    let output = output.await.expect("bash is there");
    assert!(output.status.success(), "{script}\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).replace('\r', "")
}
