//! The golden corpus: a sample of every event version ever published, and what folds make of it.
//!
//! What a fold gives is committed beside its tests, history by history. [`check_fold`] fails when one of them changes
//! while the fold's `VERSION` does not: snapshots and read models made before would then silently differ from those
//! made after.

use std::{collections::BTreeMap, env, fs, path::Path};

use events::Published;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Set to anything, it makes the tests write what they find, where that is allowed.
const REFRESH: &str = "TRIBUTARY_REFRESH";

/// Stands between the samples of a history.
const THEN: &str = " > ";

/// A stored event as somebody once wrote it.
#[derive(Debug, Clone)]
pub struct Sample {
    pub event_type: String,
    pub event_version: String,
    pub payload: String,
}

impl Sample {
    /// Reads the sample of an event version from `events/golden`.
    pub fn of(event_type: &str, event_version: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../events/golden");
        let file = folder.join(format!("{event_type}.v{event_version}.json"));
        let payload = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        Self { event_type: event_type.to_owned(), event_version: event_version.to_owned(), payload }
    }

    fn name(&self) -> String {
        format!("{}.v{}", self.event_type, self.event_version)
    }
}

/// Every version of every event that `E` can read, in the order it is written down, old versions last.
pub fn versions<E: Published>() -> Vec<(&'static str, &'static str)> {
    let old = E::UPCASTERS.iter().map(|step| (step.event_type, step.from));
    E::PUBLISHED.iter().copied().chain(old).collect()
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Committed {
    version: u32,
    /// By history.
    results: BTreeMap<String, Value>,
}

/// Folds the corpus of `versions` and compares with what is committed in `file`. `fold` makes of a history what is
/// compared: a state, or why there is none.
///
/// The histories are every sample alone, every two after each other of which the first alone gives a state, all of them
/// one after another up to each, and every history that was ever committed.
#[track_caller]
pub fn check_fold(file: &Path, version: u32, versions: &[(&str, &str)], fold: impl Fn(&[Sample]) -> Option<Value>) {
    check(file, version, histories(versions, &fold), fold);
}

/// As [`check_fold`], of what is made of one event, whatever came before it.
#[track_caller]
pub fn check_each(file: &Path, version: u32, versions: &[(&str, &str)], of: impl Fn(&Sample) -> Option<Value>) {
    let alone = versions.iter().map(|(event_type, version)| vec![Sample::of(event_type, version)]).collect();
    check(file, version, alone, |history| history.last().and_then(&of));
}

#[track_caller]
fn check(file: &Path, version: u32, histories: Vec<Vec<Sample>>, fold: impl Fn(&[Sample]) -> Option<Value>) {
    let committed: Committed = match fs::read_to_string(file) {
        Ok(text) => serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display())),
        Err(_) => Committed::default(),
    };
    let mut results = BTreeMap::new();
    for history in histories.into_iter().chain(committed.results.keys().map(|name| parsed(name))) {
        let name = history.iter().map(Sample::name).collect::<Vec<_>>().join(THEN);
        results.entry(name).or_insert_with(|| fold(&history).unwrap_or(Value::Null));
    }
    let changed = results.iter().find(|(name, now)| committed.results.get(*name).is_some_and(|was| was != *now));
    let place = file.display();
    if let Some((name, now)) = changed
        && version <= committed.version
    {
        panic!(
            "{place}: VERSION {version} made of\n  {name}\nthis:\n  {}\nand now makes this:\n  {now}\nIf that is meant, \
             count the fold's VERSION on, so that snapshots and read models of the old one are made anew, and run this \
             test again with {REFRESH}=1. If not, the change breaks what is stored already.",
            committed.results[name]
        );
    }
    let now = Committed { version, results };
    if env::var_os(REFRESH).is_some() {
        fs::create_dir_all(file.parent().expect("a file in a folder")).unwrap();
        fs::write(file, written(&now)).unwrap();
        return;
    }
    assert!(
        committed.version == now.version && committed.results.len() == now.results.len(),
        "{place}: {} of {} histories are committed, of VERSION {} (now {version}). There is a new event, or a new \
         version: run this test with {REFRESH}=1 and commit the file.",
        committed.results.len(),
        now.results.len(),
        committed.version
    );
}

fn histories(versions: &[(&str, &str)], fold: impl Fn(&[Sample]) -> Option<Value>) -> Vec<Vec<Sample>> {
    let samples: Vec<Sample> = versions.iter().map(|(event_type, version)| Sample::of(event_type, version)).collect();
    let mut histories: Vec<Vec<Sample>> = samples.iter().map(|sample| vec![sample.clone()]).collect();
    for first in samples.iter().filter(|first| fold(&[(*first).clone()]).is_some()) {
        histories.extend(samples.iter().map(|second| vec![first.clone(), second.clone()]));
    }
    histories.extend((3..=samples.len()).map(|count| samples[..count].to_vec()));
    histories
}

fn parsed(name: &str) -> Vec<Sample> {
    let sample = |name: &str| {
        let (event_type, event_version) = name.rsplit_once(".v").expect("a history names versions");
        Sample::of(event_type, event_version)
    };
    name.split(THEN).map(sample).collect()
}

/// A line a history: what a change is about can be seen.
fn written(committed: &Committed) -> String {
    let line = |(name, result): (&String, &Value)| format!("    {}: {result}", Value::from(name.as_str()));
    let lines: Vec<String> = committed.results.iter().map(line).collect();
    format!("{{\n  \"version\": {},\n  \"results\": {{\n{}\n  }}\n}}\n", committed.version, lines.join(",\n"))
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use serde_json::json;

    use super::*;

    const VERSIONS: [(&str, &str); 2] = [("ProductAdded", "1"), ("ProductRenamed", "1")];

    fn refusal(file: &Path, version: u32, versions: &[(&str, &str)], mark: u32) -> Option<String> {
        let fold = |history: &[Sample]| Some(json!({ "events": history.len(), "mark": mark }));
        let checked = catch_unwind(AssertUnwindSafe(|| check_fold(file, version, versions, fold)));
        checked.err().map(|panic| panic.downcast_ref::<String>().expect("a sentence").clone())
    }

    #[test]
    fn a_changed_result_needs_a_new_version_and_a_new_event_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("product.json");
        let commit = |version: u32, mark: u32| {
            let history = "ProductAdded.v1".to_owned();
            let results = BTreeMap::from([(history, json!({ "events": 1, "mark": mark }))]);
            fs::write(&file, written(&Committed { version, results })).unwrap();
        };
        commit(1, 7);
        let before = fs::read_to_string(&file).unwrap();
        let changed = refusal(&file, 1, &VERSIONS[..1], 8).unwrap();
        assert!(changed.contains("count the fold's VERSION on"), "{changed}");
        assert!(refusal(&file, 2, &VERSIONS, 8).unwrap().contains("commit the file"));
        assert!(refusal(&file, 1, &VERSIONS, 7).unwrap().contains("commit the file"), "there is a new event");
        assert_eq!(fs::read_to_string(&file).unwrap(), before, "nothing is written unless it is asked for");
    }
}
