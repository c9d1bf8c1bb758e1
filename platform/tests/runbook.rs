//! The guides for operators name commands that there are.

mod common;

use std::{collections::BTreeSet, fs, path::PathBuf};

use common::{text, tributary};

/// Every `tributary ...` of a guide, up to the first word that is a flag or stands for something.
fn commands(guide: &str) -> BTreeSet<Vec<String>> {
    let spans = guide.split("`tributary ").skip(1).filter_map(|rest| rest.split('`').next());
    let lines = guide.lines().filter_map(|line| line.trim().strip_prefix("tributary "));
    let is_name = |word: &&str| word.chars().all(|letter| letter.is_ascii_lowercase() || letter == '-');
    let words = |command: &str| command.split_whitespace().take_while(is_name).map(str::to_owned).collect::<Vec<_>>();
    let named = spans.chain(lines).map(words);
    named.map(|command| command.into_iter().take_while(|word| !word.starts_with('-')).collect()).collect()
}

#[tokio::test]
async fn every_command_of_the_guides_is_there() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let mut all = BTreeSet::new();
    for guide in ["runbook.md", "backups.md", "configuration.md", "sizing.md", "adopting.md"] {
        let text = fs::read_to_string(root.join(guide)).expect(guide);
        let found = commands(&text);
        assert!(!found.is_empty(), "{guide} names no command");
        all.extend(found);
    }
    assert!(all.len() > 15, "the search lost its way: {all:?}");
    for command in all {
        // what follows a command may be the name of a read model or a service, which asks for the same help
        let words: Vec<&str> = command.iter().map(String::as_str).chain(["--help"]).collect();
        let help = tributary(&words).await;
        assert!(help.status.success() && text(&help).contains("Usage:"), "{command:?}: {}", text(&help));
        let usage = text(&help);
        let usage = usage.lines().find(|line| line.starts_with("Usage:")).expect("a usage");
        assert!(command.is_empty() || usage.contains(&*command[0]), "{command:?} is answered with {usage}");
    }
}

/// Every flag that the runbook tells people to give is one of the command it stands with.
#[tokio::test]
async fn every_flag_of_the_guides_is_there() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let guide = fs::read_to_string(root.join("runbook.md")).expect("the runbook");
    let mut looked_at = 0;
    for span in guide.split("`tributary ").skip(1).filter_map(|rest| rest.split('`').next()) {
        let flags: Vec<&str> = span.split_whitespace().filter(|word| word.starts_with("--")).collect();
        let names = span.split_whitespace().take_while(|word| word.chars().all(|c| c.is_ascii_lowercase() || c == '-'));
        let names: Vec<&str> = names.take_while(|word| !word.starts_with('-')).chain(["--help"]).collect();
        let help = text(&tributary(&names).await);
        for flag in flags {
            assert!(help.contains(flag), "`tributary {span}` has no {flag}: {help}");
            looked_at += 1;
        }
    }
    assert!(looked_at > 8, "the search lost its way: {looked_at}");
}
