//! Why a row is as it is: the events that were folded into it, with the commands that they came from.
//!
//! Where a history is kept, it names the events, and only these are read from the feeds. Otherwise the feeds are read
//! from the beginning up to where the generation is, and the folds say which events are the row's.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use event_store::{
    feed::{Cursor, Feed, FeedError, PageLimit},
    follower::{ParkedStream, Vector},
};
use events::envelope::{Name, RecordedEvent};
use read_side::template::Template;
use thiserror::Error;

use super::{
    Doing, EngineError,
    batch::json,
    store::{GenerationStore, Refused, number, parked_stream, text, unsigned, vector},
    transaction::{Texts, Transaction, Value},
};
use crate::projection::{Facets, Projection};

/// The most events that are told of one row: the first of them.
pub const EVENTS_MAX: usize = 1_000;
/// The most rows of which the events are told, where several add up to one.
pub const ROWS_MAX: usize = 1_000;
/// Events of one page, where feeds are read from the beginning.
const PAGE_EVENTS: usize = 2_000;
/// Rows of one look, where it is to be found out which of them add up to a group: between two, batches are written.
const PAGE_ROWS: i64 = 1_000;

/// What made a row.
#[derive(Debug)]
pub struct Why {
    pub generation: i64,
    pub told_by: ToldBy,
    /// In the order of their recorded times.
    pub causes: Vec<Cause>,
    /// There are more of them.
    pub has_more: bool,
}

/// How the events were found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToldBy {
    /// The history of the generation; of what was erased it begins with the erasure.
    History,
    /// The feeds, read from the beginning.
    Feeds,
}

/// An event that was folded into a row.
#[derive(Debug, Clone)]
pub struct Cause {
    pub source: Name,
    /// What it went to: facets, references, entries.
    pub parts: Vec<&'static str>,
    pub event: RecordedEvent,
}

/// Why this cannot be told.
#[derive(Debug, Error)]
pub enum WhyError {
    #[error("there is no projection {0}")]
    Unknown(String),
    #[error(
        "the live generation of {projection} is not followed by this process: ask the one that follows it, or again once it was rebuilt"
    )]
    NotFollowed { projection: &'static str },
    #[error("{projection} has no row {key}")]
    NoRow { projection: &'static str, key: String },
    #[error(transparent)]
    Feed(#[from] FeedError),
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// A facet or a reference and its key, or the entries and theirs.
type Part = (&'static str, String);

/// What the entries of a list are called among the parts.
const ENTRIES: &str = "entries";

/// What made the row `key` of the generation in `store`.
///
/// Of a roll-up that is the group whose key begins with `key`, the columns joined by commas: all rows that add up to it.
pub(crate) async fn why(
    projection: &Projection,
    store: &GenerationStore,
    feeds: &[Arc<dyn Feed>],
    key: &str,
) -> Result<Why, WhyError> {
    let asked = Asked { projection, store, feeds };
    let (rows, cut) = match projection.contribute {
        Some(_) => asked.rows_of_group(key).await?,
        None => (vec![key.to_owned()], false),
    };
    let Known { parts, vector, parked } = asked.known(key, &rows).await?;
    let (told_by, mut causes) = match projection.template {
        Template { history: true, entries: None, .. } => (ToldBy::History, asked.told_by_history(&parts).await?),
        _ => (ToldBy::Feeds, asked.told_by_feeds(&parts, &vector, &parked).await?),
    };
    if causes.is_empty() {
        return Err(WhyError::NoRow { projection: projection.template.name, key: key.to_owned() });
    }
    let place = |cause: &Cause| (cause.event.recorded_at, cause.source.clone(), cause.event.position);
    causes.sort_by_cached_key(place);
    let has_more = cut || causes.len() > EVENTS_MAX;
    causes.truncate(EVENTS_MAX);
    Ok(Why { generation: store.generation(), told_by, causes, has_more })
}

struct Asked<'a> {
    projection: &'a Projection,
    store: &'a GenerationStore,
    feeds: &'a [Arc<dyn Feed>],
}

/// What the query database knows, in one snapshot.
struct Known {
    parts: BTreeSet<Part>,
    vector: Vector,
    parked: Vec<ParkedStream>,
}

impl Asked<'_> {
    /// The rows that add up to the groups under `key`, and whether there are more.
    async fn rows_of_group(&self, key: &str) -> Result<(Vec<String>, bool), EngineError> {
        let Some(contribute) = self.projection.contribute else { return Ok((Vec::new(), false)) };
        let template = self.projection.template;
        let page: Arc<str> = format!(
            "select {column}, {facets} from {table} where {column} > $1 order by {column} limit {PAGE_ROWS}",
            column = template.key,
            facets = template.facets.join(", "),
            table = template.table(self.store.generation()),
        )
        .into();
        let wanted: Vec<&str> = key.split(',').collect();
        let (mut found, mut after) = (Vec::new(), String::new());
        loop {
            let mut transaction = self.store.pool().begin_snapshot().await.doing("begin")?;
            let rows = transaction.fetch(&page, &[Value::Text(&after)]).await;
            transaction.rollback().await;
            let rows = rows.doing("read rows")?;
            let Some(last) = rows.last().and_then(|row| text(row, 0)) else { return Ok((found, false)) };
            for row in &rows {
                let shares = contribute(&self.facets(row)?);
                if shares.iter().any(|share| share.group.iter().zip(&wanted).all(|(is, wanted)| is == wanted)) {
                    found.extend(text(row, 0));
                }
            }
            if found.len() > ROWS_MAX {
                found.truncate(ROWS_MAX);
                return Ok((found, true));
            }
            after = last;
        }
    }

    /// What `rows` are made of, and how far the generation is.
    async fn known(&self, key: &str, rows: &[String]) -> Result<Known, EngineError> {
        let mut transaction = self.store.pool().begin_snapshot().await.doing("begin")?;
        let known = self.look(&mut transaction, key, rows).await;
        transaction.rollback().await;
        known
    }

    async fn look(&self, transaction: &mut Transaction, key: &str, rows: &[String]) -> Result<Known, EngineError> {
        let Projection { template, links, .. } = self.projection;
        let statements = self.store.statements();
        let checkpoints = transaction.fetch(&statements.load_checkpoints, &[]).await.doing("read checkpoints")?;
        let parked = transaction.fetch(&statements.load_parked, &[]).await.doing("read parked streams")?;
        let not_ours = |_: Refused| self.damaged();
        let mut parts = BTreeSet::new();
        if template.entries.is_some() {
            parts.insert((ENTRIES, key.to_owned()));
        }
        // what a group refers to stands in its key
        let columns = template.groups.map_or(&[][..], |groups| groups.key);
        for (column, value) in columns.iter().zip(key.split(',')) {
            let reference = template.references.iter().find(|reference| reference.key == *column);
            parts.extend(reference.map(|reference| (reference.name, value.to_owned())));
        }
        if !template.facets.is_empty() {
            let keys = json(rows);
            for row in transaction.fetch(&statements.load_rows, &[Value::Text(&keys)]).await.doing("read rows")? {
                let key = text(&row, 0).ok_or_else(|| self.damaged())?;
                parts.extend(template.facets.iter().map(|facet| (*facet, key.clone())));
                if let Some(links) = links {
                    parts.extend(links(&self.facets(&row)?).into_iter().map(|link| (link.reference, link.foreign_key)));
                }
            }
        }
        Ok(Known {
            parts,
            vector: vector(&checkpoints).map_err(not_ours)?,
            parked: parked.iter().map(parked_stream).collect::<Result<_, _>>().map_err(not_ours)?,
        })
    }

    /// The facets of a row, which stand behind its key.
    fn facets(&self, row: &Texts) -> Result<Facets, EngineError> {
        let states = self.projection.facets.iter().zip(&row[1..]).map(|(fold, state)| {
            state.as_deref().map(|state| fold.read(state)).transpose().map_err(|_| self.damaged())
        });
        Ok(Facets(states.collect::<Result<_, _>>()?))
    }

    /// The folds by the names of their parts.
    fn folds(&self) -> impl Iterator<Item = (&'static str, &dyn crate::projection::Folding)> {
        let template = self.projection.template;
        let facets = template.facets.iter().copied().zip(&self.projection.facets);
        let references = template.references.iter().map(|reference| reference.name).zip(&self.projection.references);
        facets.chain(references).map(|(part, fold)| (part, &**fold))
    }

    /// The history says which events they are.
    async fn told_by_history(&self, parts: &BTreeSet<Part>) -> Result<Vec<Cause>, WhyError> {
        #[derive(serde::Serialize)]
        struct Wanted<'p> {
            key: &'p str,
            part: &'p str,
        }
        let wanted: Vec<_> = parts.iter().map(|(part, key)| Wanted { key, part }).collect();
        let limit = i64::try_from(EVENTS_MAX + 1).expect("a small number");
        let mut transaction = self.store.pool().begin_snapshot().await.doing("begin")?;
        let values = [Value::Text(&json(&wanted)), Value::Integer(limit)];
        let places = transaction.fetch(&self.store.statements().history_places, &values).await;
        transaction.rollback().await;
        let mut events: BTreeMap<(&'static str, u64), Vec<&'static str>> = BTreeMap::new();
        for place in places.doing("read the history")? {
            let (part, position) = text(&place, 0).zip(number(&place, 2)).ok_or_else(|| self.damaged())?;
            let known = self.folds().find(|(name, _)| *name == part);
            let (part, fold) = known.ok_or_else(|| self.damaged())?;
            let parts = events.entry((fold.source(), unsigned(position))).or_default();
            if !parts.contains(&part) {
                parts.push(part);
            }
        }
        let mut causes = Vec::with_capacity(events.len());
        for ((source, position), parts) in events {
            let feed = self.feed(source);
            let before = Cursor { position: position - 1, event_id: None };
            let page = feed.page(before, PageLimit::events(1), Duration::ZERO).await?;
            let event = page.events.into_iter().next().filter(|event| event.position == position);
            let event = event.ok_or_else(|| FeedError::Damaged {
                feed: source.into(),
                position,
                reason: "an event that was folded is missing".to_owned(),
            })?;
            causes.push(Cause { source: source.into(), parts, event });
        }
        Ok(causes)
    }

    /// The folds say which events they are.
    async fn told_by_feeds(
        &self,
        parts: &BTreeSet<Part>,
        vector: &Vector,
        parked: &[ParkedStream],
    ) -> Result<Vec<Cause>, WhyError> {
        let mut causes = Vec::new();
        let dropped = self.store.dropped().await;
        for source in self.projection.sources() {
            let (feed, end) = (self.feed(source), vector.get(source).position);
            let (mut cursor, mut of_source) = (Cursor::START, 0);
            while cursor.position < end && of_source <= EVENTS_MAX {
                let page = feed.page(cursor, PageLimit::events(PAGE_EVENTS), Duration::ZERO).await?;
                let Some(last) = page.events.last() else { break };
                cursor = Cursor::at(last);
                for event in page.events.into_iter().take_while(|event| event.position <= end) {
                    let waits = |parked: &ParkedStream| {
                        &*parked.source == source && parked.stream == event.stream && parked.position <= event.position
                    };
                    let touched = self.touched(source, &event, parts);
                    let is_left_out = dropped.holds(source, event.event_id);
                    if touched.is_empty() || is_left_out || parked.iter().any(waits) {
                        continue;
                    }
                    of_source += 1;
                    causes.push(Cause { source: source.into(), parts: touched, event });
                }
            }
        }
        Ok(causes)
    }

    /// Which of `parts` an event was folded into. What cannot be read was not folded.
    fn touched(&self, source: &str, event: &RecordedEvent, parts: &BTreeSet<Part>) -> Vec<&'static str> {
        let goes_to = |(part, fold): &(&'static str, &dyn crate::projection::Folding)| {
            let routed = fold.route(event).ok().flatten();
            routed.is_some_and(|(key, _)| parts.contains(&(*part, key)))
        };
        let folds = self.folds().filter(|(_, fold)| fold.source() == source);
        let mut touched: Vec<_> = folds.filter(goes_to).map(|(part, _)| part).collect();
        if let Some(listing) = self.projection.listings.of(source) {
            let entries = listing.entries(event).unwrap_or_default();
            touched.extend(entries.into_iter().any(|(key, _)| parts.contains(&(ENTRIES, key))).then_some(ENTRIES));
        }
        touched
    }

    fn feed(&self, source: &str) -> &Arc<dyn Feed> {
        let feed = self.feeds.iter().find(|feed| &**feed.source() == source);
        feed.expect("a projector has the feed of every source that it follows")
    }

    fn damaged(&self) -> EngineError {
        let name = self.projection.template.name;
        EngineError::Damaged(format!("{name} holds something that this version does not write"))
    }
}
