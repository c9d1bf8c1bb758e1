//! What every projection makes of every event version ever published, compared with what is committed in `tests/folds`:
//! each fold by itself, the rows that are derived from them or the groups that they add up to, and entries of lists.

use std::path::Path;

use chrono::DateTime;
use events::envelope::{RecordedEvent, StreamId};
use serde_json::{Value, json};
use testkit::golden::{Sample, check_each, check_fold};
use uuid::Uuid;

use crate::{
    all,
    projection::{Facets, Folding, Projection, References, Share, State},
};

#[test]
fn no_projection_folds_differently_without_a_new_version() {
    for projection in all() {
        let name = projection.template.name;
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/folds").join(name);
        let folds = projection.facets.iter().chain(&projection.references);
        for (fold, name) in folds.zip(fold_names(&projection)) {
            let result = |history: &[Sample]| {
                let (_, state) = folded(&**fold, history)?;
                Some(parsed(&fold.write(&state)))
            };
            check_fold(&folder.join(format!("{name}.json")), projection.version, &fold.versions(), result);
        }
        for listing in projection.listings.iter() {
            let file = folder.join(format!("entries_of_{}.json", listing.source()));
            let entries = |sample: &Sample| {
                let entries = listing.entries(&recorded(sample, 1)).expect("a sample reads back");
                let entry = |(key, entry): &(String, String)| json!([key, parsed(entry)]);
                (!entries.is_empty()).then(|| entries.iter().map(entry).collect())
            };
            check_each(&file, projection.version, &listing.versions(), entries);
        }
        let Some(root) = projection.facets.first() else { continue };
        // how much other services have said: nothing, half of what they can say, all of it
        let others = [0, 1, 2].map(|halves| other_facets(&projection, halves));
        let rows = |history: &[Sample]| {
            let (_, facet) = folded(&**root, history)?;
            let facets = others
                .each_ref()
                .map(|others| Facets(std::iter::once(Some(facet.clone())).chain(others.iter().cloned()).collect()));
            // before its references are there, and after the first event of each
            let alone = [0, 1].map(|events| row(&projection, &facets[0], events));
            let rows: Vec<Value> =
                alone.into_iter().chain(facets[1..].iter().map(|facets| row(&projection, facets, 1))).collect();
            rows.iter().any(|row| !row.is_null()).then(|| json!(rows))
        };
        let file = if projection.contribute.is_some() { "groups.json" } else { "row.json" };
        check_fold(&folder.join(file), projection.version, &root.versions(), rows);
    }
}

/// The facets behind the root, each after that many halves of its samples.
fn other_facets(projection: &Projection, halves: usize) -> Vec<Option<State>> {
    let others = projection.facets[1..].iter().map(|fold| {
        let versions = fold.versions();
        let said = versions.len() * halves / 2;
        let history: Vec<Sample> =
            versions[..said].iter().map(|(event_type, version)| Sample::of(event_type, version)).collect();
        folded(&**fold, &history).map(|(_, state)| state)
    });
    others.collect()
}

fn fold_names(projection: &Projection) -> impl Iterator<Item = &'static str> {
    let template = projection.template;
    template.facets.iter().copied().chain(template.references.iter().map(|reference| reference.name))
}

/// Key and state after `history`; `None` when it says nothing to the fold, or the fold takes it for no history at all.
fn folded(fold: &dyn Folding, history: &[Sample]) -> Option<(String, State)> {
    let mut last: Option<(String, State)> = None;
    for (sample, sequence) in history.iter().zip(1..) {
        let event = recorded(sample, sequence);
        if let Some((key, decoded)) = fold.route(&event).expect("a sample reads back") {
            let state = last.map(|(_, state)| state);
            last = Some((key, fold.fold(state, decoded, &event).ok()?));
        }
    }
    last
}

/// What is made of the facets, after that many events of each reference: a row, or what it contributes.
fn row(projection: &Projection, facets: &Facets, events: usize) -> Value {
    if let Some(contribute) = projection.contribute {
        let shares = contribute(facets);
        let share = |share: &Share| json!({ "group": share.group, "amounts": share.amounts });
        return if shares.is_empty() { Value::Null } else { shares.iter().map(share).collect() };
    }
    let mut references = References::default();
    for (fold, template) in projection.references.iter().zip(projection.template.references) {
        let samples = fold.versions().into_iter().map(|(event_type, version)| Sample::of(event_type, version));
        let history: Vec<Sample> = samples.take(events).collect();
        references.0.insert(template.name, folded(&**fold, &history).into_iter().collect());
    }
    let row = (projection.derive)(facets, &references);
    row.map_or(Value::Null, |row| parsed(&row))
}

fn parsed(json: &str) -> Value {
    serde_json::from_str(json).expect("a state, a row or an entry is JSON")
}

fn recorded(sample: &Sample, sequence: u64) -> RecordedEvent {
    RecordedEvent {
        position: sequence,
        event_id: Uuid::nil(),
        stream: StreamId::new("sample", "sample"),
        sequence,
        event_type: sample.event_type.as_str().into(),
        event_version: sample.event_version.as_str().into(),
        payload: sample.payload.clone(),
        metadata: "{}".to_owned(),
        recorded_at: DateTime::UNIX_EPOCH,
    }
}
