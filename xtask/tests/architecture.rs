//! What is absent, proved: the crate graph and the sources keep to the table in `docs/architecture.md`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
};

use serde_json::Value;

/// The most lines of one file of ours.
const FILE_LINES_MAX: usize = 600;

/// What each crate may know of ours, apart from its tests.
const MAY_DEPEND_ON: [(&str, &[&str]); 9] = [
    ("measures", &[]),
    ("database", &["measures"]),
    ("events", &[]),
    ("event-store", &["database", "events", "measures"]),
    ("write-side", &["database", "events", "event-store", "measures"]),
    ("read-side", &["database", "events", "measures"]),
    ("projections", &["database", "events", "event-store", "measures", "read-side"]),
    ("graphql", &["events", "measures", "read-side"]),
    (
        "platform",
        &["database", "events", "event-store", "graphql", "measures", "projections", "read-side", "write-side"],
    ),
];

/// What `events` is made of: types and their text. No runtime, no client, no driver.
const EVENTS_MAY_USE: [&str; 6] = ["chrono", "cqrs-es", "serde", "serde_json", "thiserror", "uuid"];

struct Package {
    folder: PathBuf,
    /// Of the crate itself, not of its tests: name -> the dependency as cargo describes it.
    dependencies: BTreeMap<String, Value>,
}

static PACKAGES: LazyLock<BTreeMap<String, Package>> = LazyLock::new(|| {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"].as_array().unwrap().iter().map(package).collect()
});

fn package(described: &Value) -> (String, Package) {
    let name = |value: &Value| value["name"].as_str().unwrap().to_owned();
    let all = described["dependencies"].as_array().unwrap();
    let dependencies = all.iter().filter(|dependency| dependency["kind"].is_null());
    let folder = Path::new(described["manifest_path"].as_str().unwrap()).parent().unwrap().to_owned();
    let dependencies = dependencies.map(|dependency| (name(dependency), dependency.clone())).collect();
    (name(described), Package { folder, dependencies })
}

/// A crate's sources as (file, line number, line), without comments and without what stands behind `#[cfg(test)]`
/// (tests are the last thing in a file of ours) or in a file of tests.
fn source_lines(krate: &str) -> Vec<(PathBuf, usize, String)> {
    let mut lines = Vec::new();
    let files = rust_files(&PACKAGES[krate].folder.join("src"));
    assert!(!files.is_empty(), "{krate} has no sources");
    for path in files {
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        if stem == "tests" || stem.ends_with("_tests") || path.components().any(|part| part.as_os_str() == "tests") {
            continue;
        }
        for (n, line) in fs::read_to_string(&path).unwrap().lines().enumerate() {
            if line.trim() == "#[cfg(test)]" {
                break;
            }
            if !line.trim_start().starts_with("//") {
                lines.push((path.clone(), n + 1, line.to_owned()));
            }
        }
    }
    lines
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// Fails with the place if any line of the crate is against the rule.
#[track_caller]
fn assert_absent(krate: &str, what: &str, is_there: impl Fn(&str) -> bool) {
    let found: Vec<String> = source_lines(krate)
        .iter()
        .filter(|(_, _, line)| is_there(line))
        .map(|(path, n, line)| format!("{}:{n}: {}", path.display(), line.trim()))
        .collect();
    assert!(found.is_empty(), "{krate} must not hold {what}:\n{}", found.join("\n"));
}

#[test]
fn every_crate_knows_only_the_crates_it_may() {
    let ours: BTreeSet<&str> = PACKAGES.keys().map(String::as_str).collect();
    for (krate, allowed) in MAY_DEPEND_ON {
        let used = PACKAGES[krate].dependencies.keys().map(String::as_str).filter(|name| ours.contains(name));
        let foreign: Vec<&str> = used.filter(|name| !allowed.contains(name)).collect();
        assert!(foreign.is_empty(), "{krate} must not depend on {foreign:?}");
    }
}

#[test]
fn events_does_no_io() {
    let used = PACKAGES["events"].dependencies.keys();
    let foreign: Vec<&String> = used.filter(|name| !EVENTS_MAY_USE.contains(&name.as_str())).collect();
    assert!(foreign.is_empty(), "events must not use {foreign:?}");
    for module in ["std::fs", "std::io", "std::net", "std::process", "std::env", "std::thread", "async fn", "Utc::now"]
    {
        assert_absent("events", module, |line| line.contains(module));
    }
}

#[test]
fn event_store_knows_the_envelope_and_no_event() {
    let events = &PACKAGES["event-store"].dependencies["events"];
    assert_eq!(events["uses_default_features"], false, "the feature `domain` brings the order platform's events");
    assert_eq!(events["features"], serde_json::json!([]));
    let names = event_names();
    assert!(names.len() >= 10, "the register of events is read wrongly: {names:?}");
    assert_absent("event-store", "the name of an event", |line| names.iter().any(|name| line.contains(name.as_str())));
}

/// Every type name that a `published!` enum writes down.
fn event_names() -> Vec<String> {
    let lines = source_lines("events").into_iter().map(|(_, _, line)| line);
    let declared = lines.filter_map(|line| {
        let (name, rest) = line.trim().strip_prefix('"')?.split_once('"')?;
        rest.contains("=>").then(|| name.to_owned())
    });
    declared.filter(|name| name.chars().next().is_some_and(char::is_uppercase)).collect()
}

#[test]
fn a_service_that_holds_something_personal_can_erase_it() {
    let published = |krate: &str, text: &str| -> BTreeSet<String> {
        let sources = PACKAGES[krate].folder.join("src");
        let of_service = |path: &Path| {
            let inside = path.strip_prefix(&sources).unwrap().components().next().unwrap();
            Path::new(&inside).file_stem().unwrap().to_string_lossy().into_owned()
        };
        let lines = source_lines(krate).into_iter().filter(|(_, _, line)| line.contains(text));
        lines.map(|(path, _, _)| of_service(&path)).filter(|stem| stem != "personal").collect()
    };
    let holding = published("events", "Personal<");
    assert!(holding.contains("users"), "{holding:?}");
    for (call, what) in [(".sealed()", "seals its log"), (".erasing(", "deletes keys")] {
        let does = published("write-side", call);
        assert_eq!(holding, does, "a service whose events hold Personal<..> {what}, and no other does");
    }
    let register = source_lines("write-side").into_iter().find(|(_, _, line)| line.contains("const PERSONAL"));
    let (_, _, register) = register.expect("register.rs says who holds something personal");
    assert!(holding.iter().all(|service| register.contains(&format!("events::{service}::SOURCE"))), "{register}");
}

#[test]
fn read_side_never_writes() {
    // table templates are text that the projection engine runs: they create, and nothing in them changes a row
    for statement in ["insert into", "insert or", "update ", "delete from", "truncate ", "drop table", "alter table"] {
        assert_absent("read-side", statement, |line| {
            let line = line.to_lowercase();
            // a statement begins a piece of text, and `for update` would be a writer's lock
            line.contains(&format!("\"{statement}"))
                || line.trim_start().starts_with(statement)
                || line.contains(&format!("for {}", statement.trim()))
        });
    }
}

#[test]
fn projections_name_no_aggregate_and_send_no_command() {
    for name in ["cqrs_es", "CommandBus", "event_store::bus", "event_store::writer", "AppendItem", "reqwest", "axum"] {
        assert_absent("projections", name, |line| line.contains(name));
    }
}

#[test]
fn graphql_cannot_name_an_event_store() {
    for name in ["event_store", "EventLog", "sqlx::"] {
        assert_absent("graphql", name, |line| line.contains(name));
    }
}

#[test]
fn services_speak_to_each_other_as_peers_and_in_no_other_way() {
    let is_peer = |path: &Path| path.components().any(|part| Path::new(&part).file_stem() == Some("peer".as_ref()));
    let speaking = source_lines("write-side").into_iter().filter(|(_, _, line)| line.contains("reqwest"));
    let (peers, others): (Vec<_>, Vec<_>) = speaking.partition(|(path, _, _)| is_peer(path));
    assert!(!peers.is_empty(), "peers speak over the network");
    assert!(others.is_empty(), "what is sent goes through write-side/src/peer.rs, with its bounds: {others:?}");
}

#[test]
fn the_write_side_cannot_name_a_read_model() {
    for name in ["read_side", "order_details", "OrderDetails"] {
        assert_absent("write-side", name, |line| line.contains(name));
    }
}

#[test]
fn nothing_that_is_released_depends_on_the_test_kit() {
    for (krate, _) in MAY_DEPEND_ON {
        let dependencies = &PACKAGES[krate].dependencies;
        assert!(!dependencies.contains_key("testkit"), "{krate}");
        // the kit for projections is a feature, so that whoever writes one needs no crate of ours but theirs
        let kit = dependencies.get("projections").is_some_and(|used| used["features"].to_string().contains("\"kit\""));
        assert!(!kit, "{krate} asks for the feature `kit` of projections outside of its tests");
    }
}

#[test]
fn a_file_is_short_enough_to_be_read() {
    let folders = PACKAGES.values().flat_map(|package| ["src", "tests"].map(|folder| package.folder.join(folder)));
    for path in folders.flat_map(|folder| rust_files(&folder)) {
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= FILE_LINES_MAX, "{} has {lines} lines, more than {FILE_LINES_MAX}", path.display());
    }
}
