//! Every code that the services answer has a paragraph in `docs/errors.md`.

mod kit;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use event_store::feed_http::{DAMAGED_CODE, QUERY_CODE, REGRESSED_CODE, UNAVAILABLE_CODE};
use write_side::Service;

/// Where a code is named in the source: as the first text behind one of these.
const PLACES: [&str; 5] = ["Problem::new(", "Refusal::new(", " at(", " of(", "single(headers"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn sources(folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(fs::read_to_string(path).unwrap());
        }
    }
}

fn is_code(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

fn codes_in(source: &str) -> BTreeSet<&str> {
    let mut codes = BTreeSet::new();
    for place in PLACES {
        for (at, _) in source.match_indices(place) {
            let arguments = source[at + place.len()..].split(')').next().unwrap_or_default();
            let text = arguments.split('"').nth(1).unwrap_or_default();
            if is_code(text) {
                codes.insert(text);
            }
        }
    }
    codes
}

#[test]
fn every_code_has_a_paragraph() {
    let docs = fs::read_to_string(root().join("docs/errors.md")).unwrap();
    let mut found = Vec::new();
    sources(&root().join("write-side/src"), &mut found);
    let mut codes: BTreeSet<&str> = found.iter().flat_map(|source| codes_in(source)).collect();
    codes.extend([DAMAGED_CODE, QUERY_CODE, REGRESSED_CODE, UNAVAILABLE_CODE]);
    assert!(codes.len() > 40 && codes.contains("replica_behind"), "the search has lost its way: {codes:?}");
    let missing: Vec<&str> = codes.into_iter().filter(|code| !docs.contains(&format!("### `{code}` ("))).collect();
    assert!(missing.is_empty(), "docs/errors.md needs a paragraph on {missing:?}");
}

#[test]
fn every_paragraph_is_about_one_code() {
    let docs = fs::read_to_string(root().join("docs/errors.md")).unwrap();
    let headings: Vec<&str> = docs.lines().filter(|line| line.starts_with("### ")).collect();
    let unique: BTreeSet<&str> = headings.iter().copied().collect();
    assert_eq!(headings.len(), unique.len(), "a code stands twice");
}

/// The codes that aggregates refuse with, as their sources name them.
fn refusals_in(sources: &[String]) -> BTreeSet<String> {
    let mut codes = BTreeSet::new();
    for source in sources {
        for place in ["Refusal::new(", " at(", " of("] {
            for (at, _) in source.match_indices(place) {
                let argument = source[at + place.len()..].trim_start();
                if let Some(code) = argument.strip_prefix('"').and_then(|rest| rest.split('"').next())
                    && is_code(code)
                {
                    codes.insert(code.to_owned());
                }
            }
        }
    }
    codes
}

#[tokio::test]
async fn every_refusal_is_documented_by_an_operation_and_no_other() {
    let mut found = Vec::new();
    let everything = kit::Everything::open().await;
    // who takes no command over HTTP has nobody to refuse one to
    let takes_commands = |service: &&Service| service.api.takes_commands();
    for service in everything.services.iter().filter(takes_commands) {
        sources(&root().join("write-side/src").join(service.name), &mut found);
    }
    let refused = refusals_in(&found);
    assert!(refused.len() >= 20, "the search has lost its way: {refused:?}");
    let operations = everything.services.iter().filter(takes_commands).flat_map(|service| &service.api.operations);
    let documented: BTreeSet<String> =
        operations.flat_map(|operation| operation.refusals.iter().map(|code| (*code).to_owned())).collect();
    let missing: Vec<_> = refused.difference(&documented).collect();
    assert!(missing.is_empty(), "no operation says that it refuses with {missing:?}: add them to `.refuses(..)`");
    let dead: Vec<_> = documented.difference(&refused).collect();
    assert!(dead.is_empty(), "no aggregate refuses with {dead:?}");
}

#[tokio::test]
async fn every_documented_code_has_a_paragraph_with_its_status() {
    let docs = fs::read_to_string(root().join("docs/errors.md")).unwrap();
    let everything = kit::Everything::open().await;
    for operation in everything.services.iter().flat_map(|service| &service.api.operations) {
        for (status, codes) in &operation.problems {
            for code in codes {
                assert!(docs.contains(&format!("### `{code}` ({status})")), "{}: {code} ({status})", operation.id);
            }
        }
    }
}
