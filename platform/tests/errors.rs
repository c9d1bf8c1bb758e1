//! Every code that the platform and GraphQL answer has a paragraph in `docs/errors.md`, as those of the services have.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn sources(folder: &Path, found: &mut Vec<String>) {
    if folder.is_file() {
        found.push(fs::read_to_string(folder).expect("a source file"));
        return;
    }
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() || path.extension().is_some_and(|extension| extension == "rs") {
            sources(&path, found);
        }
    }
}

/// The first text behind each `place`, up to the end of its statement.
fn codes_behind(place: &str, folder: &str) -> BTreeSet<String> {
    let mut found = Vec::new();
    sources(&root().join(folder), &mut found);
    let texts = found.iter().flat_map(|source| source.split(place).skip(1).filter_map(|rest| rest.split('"').nth(1)));
    let all = |text: &str, is: fn(&u8) -> bool| text.bytes().all(|byte| is(&byte) || byte == b'_');
    // one code is in capitals, as a protocol of others wants it
    let is_code = |text: &&str| all(text, u8::is_ascii_lowercase) || all(text, u8::is_ascii_uppercase);
    texts.filter(is_code).map(str::to_owned).collect()
}

#[test]
fn every_code_has_a_paragraph() {
    let docs = fs::read_to_string(root().join("docs/errors.md")).expect("docs/errors.md");
    let mut codes = codes_behind("Problem::new(", "platform/src");
    assert!(codes.contains("not_local") && codes.contains("stream_not_found"), "the search lost its way: {codes:?}");
    codes.extend(codes_behind(": &str = ", "graphql/src/errors.rs"));
    codes.extend(codes_behind("} => ", "read-side/src/error.rs"));
    codes.extend(codes_behind("(_) => ", "read-side/src/error.rs"));
    for code in ["syntax_error", "consistency_timeout", "PERSISTED_QUERY_NOT_FOUND", "operation_not_listed"] {
        assert!(codes.contains(code), "the search lost its way: {codes:?}");
    }
    let missing: Vec<&String> = codes.iter().filter(|code| !docs.contains(&format!("### `{code}` ("))).collect();
    assert!(missing.is_empty(), "docs/errors.md needs a paragraph on {missing:?}");
}
