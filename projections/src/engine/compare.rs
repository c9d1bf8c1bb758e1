//! What differs between two generations, by table, row and field.
//!
//! Both are read in key order, side by side, and hashed on the way: nothing is held but the two rows at hand and the first
//! differences. A report outlives what it is about, people who are erased included, so it has keys, names of fields and
//! numbers, and never a text of a row.

mod fields;

use std::{cmp::Ordering, collections::BTreeSet, sync::Arc};

use event_store::follower::Vector;
use futures::{TryStreamExt, stream::BoxStream};
use read_side::template::{Column, Template};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use sha2::{Digest, Sha256};

pub use self::fields::Field;
pub(crate) use self::fields::differing;
use super::{
    Doing, EngineError,
    query_database::{Generation, Snapshot},
    statements::{Table, dump_of, tables},
    table_hash::TableHash,
    transaction::{Texts, Transaction, Value},
};

/// Differences that a report names; all are counted.
pub const NAMED_MAX: usize = 1_000;

/// What a comparison found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comparison {
    pub live: Side,
    pub built: Side,
    /// At which both stood: positions by source.
    pub vector: Vec<Point>,
    /// Why they were not compared; then nothing else is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_compared: Option<String>,
    /// What makes it less than exact.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    pub differences_total: u64,
    /// By table, those with differences only.
    pub tables: Vec<TableDifferences>,
    /// The first of them, table by table in key order.
    pub differences: Vec<Difference>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Side {
    pub generation: i64,
    /// `VERSION` of the fold that made it.
    pub version: i64,
    /// Over what both have; empty if they were not compared.
    pub hash: String,
    /// Of all tables.
    pub rows: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    pub source: String,
    pub position: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableDifferences {
    /// `rows`, or the name of a reference or of another part.
    pub table: String,
    /// In the built generation only.
    pub rows_added: u64,
    /// In the live one only.
    pub rows_removed: u64,
    pub rows_changed: u64,
}

/// One row that is not the same in both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    pub table: String,
    /// The key's columns.
    pub key: Vec<String>,
    pub change: Change,
    /// Of a changed row.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<Field>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    Added,
    Removed,
    Changed,
}

impl Comparison {
    /// Of two generations that cannot be brought to one vector.
    pub(crate) fn impossible(live: &Generation, built: &Generation, why: String) -> Self {
        Self { not_compared: Some(why), ..Self::of(live, built, &Vector::new()) }
    }

    fn of(live: &Generation, built: &Generation, vector: &Vector) -> Self {
        let side = |side: &Generation| Side {
            generation: side.generation,
            version: side.version,
            hash: String::new(),
            rows: 0,
        };
        let point = |(source, checkpoint): (&events::envelope::Name, &event_store::follower::Checkpoint)| Point {
            source: source.to_string(),
            position: checkpoint.position,
        };
        Self {
            live: side(live),
            built: side(built),
            vector: vector.iter().map(point).collect(),
            not_compared: None,
            notes: Vec::new(),
            differences_total: 0,
            tables: Vec::new(),
            differences: Vec::new(),
        }
    }

    /// Whether every row is the same in both.
    pub fn is_same(&self) -> bool {
        self.not_compared.is_none() && self.differences_total == 0
    }
}

/// Reads both generations, each in its snapshot, and tells what differs. Both stand at `vector`.
pub(crate) async fn compare(
    template: &Template,
    (live, live_snapshot): (&Generation, &mut Snapshot),
    (built, built_snapshot): (&Generation, &mut Snapshot),
    vector: &Vector,
) -> Result<Comparison, EngineError> {
    let mut comparison = Comparison::of(live, built, vector);
    let mut hashes = [Sha256::new(), Sha256::new()];
    let pairs = tables(template, live.generation).into_iter().zip(tables(template, built.generation));
    for (one, other) in pairs {
        let name = part_name(template, built.generation, &other);
        let there = columns(&mut live_snapshot.transaction, &one).await?;
        let common: Vec<Column> = other.columns.iter().filter(|column| there.contains(column.name)).copied().collect();
        let missing: Vec<&str> =
            other.columns.iter().map(|column| column.name).filter(|name| !there.contains(*name)).collect();
        if common.iter().filter(|column| other.key.contains(&column.name)).count() < other.key.len() {
            comparison.notes.push(format!("{name} is new and was not compared"));
            continue;
        }
        if !missing.is_empty() {
            comparison.notes.push(format!("new in {name} and not compared: {}", missing.join(", ")));
        }
        let postgres = live_snapshot.transaction.is_postgres();
        let statements = [dump_of(&one, &common, postgres), dump_of(&other, &common, postgres)];
        let lines = [
            Lines::of(live_snapshot.transaction.stream(&statements[0]), &one.key),
            Lines::of(built_snapshot.transaction.stream(&statements[1]), &other.key),
        ];
        merge(&mut comparison, name, lines, &mut hashes).await.doing("compare generations")?;
        hashes.iter_mut().for_each(|hash| hash.update(b"\n"));
    }
    let [live_hash, built_hash] = hashes.map(|hash| hash.finalize().into());
    comparison.live.hash = TableHash { sha256: live_hash, rows: comparison.live.rows }.to_string();
    comparison.built.hash = TableHash { sha256: built_hash, rows: comparison.built.rows }.to_string();
    Ok(comparison)
}

/// How a table is called in a report: without the generation.
pub(crate) fn part_name(template: &Template, generation: i64, table: &Table) -> String {
    let part = table.name.strip_prefix(&template.table(generation)).unwrap_or(&table.name).trim_start_matches('_');
    if part.is_empty() { "rows".to_owned() } else { part.to_owned() }
}

/// Which columns a table really has; none if it is not there. A generation that an older version made may miss some.
async fn columns(transaction: &mut Transaction, table: &Table) -> Result<BTreeSet<String>, EngineError> {
    let statement: Arc<str> = if transaction.is_postgres() {
        "select cast(column_name as text) from information_schema.columns \
         where table_schema = current_schema() and table_name = $1"
    } else {
        "select name from pragma_table_info($1)"
    }
    .into();
    let rows = transaction.fetch(&statement, &[Value::Text(&table.name)]).await.doing("read columns")?;
    Ok(rows.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect())
}

/// A table's rows, one after the other.
struct Lines<'t> {
    stream: BoxStream<'t, Result<Texts, sqlx::Error>>,
    key: &'t [&'static str],
}

struct Line {
    text: String,
    row: Json,
    key: Vec<Json>,
}

impl<'t> Lines<'t> {
    fn of(stream: BoxStream<'t, Result<Texts, sqlx::Error>>, key: &'t [&'static str]) -> Self {
        Self { stream, key }
    }

    async fn next(&mut self) -> Result<Option<Line>, sqlx::Error> {
        let Some(texts) = self.stream.try_next().await? else { return Ok(None) };
        let text = texts.into_iter().next().flatten().unwrap_or_default();
        let row: Json = serde_json::from_str(&text).map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
        let key = self.key.iter().map(|column| row.get(column).cloned().unwrap_or_default()).collect();
        Ok(Some(Line { text, row, key }))
    }
}

impl Line {
    /// As a value, because the databases write the same object in different ways.
    fn add_to(&self, hash: &mut Sha256) {
        hash.update(self.row.to_string());
        hash.update(b"\n");
    }

    fn shown_key(&self) -> Vec<String> {
        let shown = |part: &Json| part.as_str().map_or_else(|| part.to_string(), str::to_owned);
        self.key.iter().map(shown).collect()
    }
}

/// Walks both tables in key order.
async fn merge(
    comparison: &mut Comparison,
    table: String,
    [mut live, mut built]: [Lines<'_>; 2],
    [live_hash, built_hash]: &mut [Sha256; 2],
) -> Result<(), sqlx::Error> {
    let mut counts = TableDifferences { table, rows_added: 0, rows_removed: 0, rows_changed: 0 };
    let (mut one, mut other) = (live.next().await?, built.next().await?);
    loop {
        let order = match (&one, &other) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(one), Some(other)) => in_key_order(&one.key, &other.key),
        };
        let of_live = if order.is_le() { one.take() } else { None };
        let of_built = if order.is_ge() { other.take() } else { None };
        if let Some(line) = &of_live {
            line.add_to(live_hash);
            comparison.live.rows += 1;
            one = live.next().await?;
        }
        if let Some(line) = &of_built {
            line.add_to(built_hash);
            comparison.built.rows += 1;
            other = built.next().await?;
        }
        let (line, change, fields) = match (of_live, of_built) {
            (Some(before), Some(after)) => {
                if before.text == after.text || before.row == after.row {
                    continue;
                }
                counts.rows_changed += 1;
                let fields = fields::differing(&before.row, &after.row);
                (after, Change::Changed, fields)
            }
            (Some(before), None) => {
                counts.rows_removed += 1;
                (before, Change::Removed, Vec::new())
            }
            (None, Some(after)) => {
                counts.rows_added += 1;
                (after, Change::Added, Vec::new())
            }
            (None, None) => unreachable!("one of them is at hand"),
        };
        comparison.differences_total += 1;
        if comparison.differences.len() < NAMED_MAX {
            let key = line.shown_key();
            comparison.differences.push(Difference { table: counts.table.clone(), key, change, fields });
        }
    }
    if counts.rows_added + counts.rows_removed + counts.rows_changed > 0 {
        comparison.tables.push(counts);
    }
    Ok(())
}

/// As both databases order them: texts byte by byte, numbers by size.
fn in_key_order(one: &[Json], other: &[Json]) -> Ordering {
    let part = |(one, other): (&Json, &Json)| match (one, other) {
        (Json::Number(one), Json::Number(other)) => one.as_i64().cmp(&other.as_i64()),
        (Json::String(one), Json::String(other)) => one.cmp(other),
        // a key has one type
        _ => Ordering::Equal,
    };
    one.iter().zip(other).map(part).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
}

#[cfg(test)]
mod tests {
    use futures::{StreamExt, stream};
    use serde_json::json;

    use super::*;

    fn lines(rows: Vec<Json>) -> Lines<'static> {
        let texts = rows.into_iter().map(|row| Ok(vec![Some(row.to_string())]));
        Lines::of(stream::iter(texts.collect::<Vec<_>>()).boxed(), &["id", "n"])
    }

    fn empty() -> Comparison {
        let generation = |generation| Generation { generation, version: 1, state: "live".to_owned() };
        Comparison::of(&generation(1), &generation(2), &Vector::new())
    }

    async fn merged(live: Vec<Json>, built: Vec<Json>) -> Comparison {
        let mut comparison = empty();
        let mut hashes = [Sha256::new(), Sha256::new()];
        merge(&mut comparison, "rows".to_owned(), [lines(live), lines(built)], &mut hashes).await.unwrap();
        let [one, other] = hashes.map(|hash| hash.finalize());
        assert_eq!(one == other, comparison.is_same(), "the hashes differ exactly when a row does");
        comparison
    }

    fn row(id: &str, n: i64, value: i64) -> Json {
        json!({"id": id, "n": n, "value": value})
    }

    #[tokio::test]
    async fn the_same_rows_are_the_same() {
        let rows = || vec![row("a", 2, 0), row("a", 10, 0), row("b", 1, 0)];
        assert!(merged(rows(), rows()).await.is_same());
        assert!(merged(Vec::new(), Vec::new()).await.is_same());
    }

    #[tokio::test]
    async fn a_row_of_one_side_only_is_added_or_removed_wherever_it_stands() {
        for place in 0..3 {
            let all = vec![row("a", 2, 0), row("a", 10, 0), row("b", 1, 0)];
            let mut fewer = all.clone();
            let gone = fewer.remove(place);
            let removed = merged(all.clone(), fewer.clone()).await;
            assert_eq!((removed.differences_total, removed.differences[0].change), (1, Change::Removed));
            let key = vec![gone["id"].as_str().unwrap().to_owned(), gone["n"].to_string()];
            assert_eq!(removed.differences[0].key, key);
            let added = merged(fewer, all).await;
            assert_eq!((added.differences_total, added.tables[0].rows_added), (1, 1));
        }
    }

    #[tokio::test]
    async fn a_changed_row_says_which_fields() {
        let changed = merged(vec![row("a", 1, 5)], vec![row("a", 1, 6)]).await;
        assert_eq!(changed.tables[0].rows_changed, 1);
        let field = &changed.differences[0].fields[0];
        assert_eq!((field.field.as_str(), &field.before, &field.after), ("value", &Some(json!(5)), &Some(json!(6))));
    }

    #[tokio::test]
    async fn every_difference_is_counted_and_the_first_are_named() {
        let rows = |value| (0..NAMED_MAX as i64 + 5).map(|n| row("a", n, value)).collect();
        let compared = merged(rows(1), rows(2)).await;
        assert_eq!(compared.differences.len(), NAMED_MAX);
        assert_eq!(compared.differences_total, NAMED_MAX as u64 + 5);
    }
}
