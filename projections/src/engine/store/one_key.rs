//! One key made anew, in place: from its own events, up to exactly where its generation stands.
//!
//! For a row that was damaged, or that somebody doubts. The logs know streams and not keys, so every source is read from its
//! first event; most of it while the follower goes on, and what has come meanwhile while it waits. References are as they
//! are: they belong to all rows.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use event_store::{
    feed::{Cursor, Feed, PageLimit},
    follower::{ApplyError, FollowerStore, Vector},
};
use events::envelope::{Name, RecordedEvent};
use serde::{Deserialize, Serialize};

use super::{
    super::{
        batch::{self, Entity, Routed, json},
        compare::{Field, differing},
        groups::Contribution,
        statements::{Part, row_of},
        transaction::{Transaction, Value},
    },
    GenerationStore, Refused, Work, Writing,
    history::{Noted, Place},
    number, text, unreadable, unsigned,
};
use crate::projection::{Facets, References};

/// Events that are read at once.
const PAGE_EVENTS: usize = 2_000;

/// What has become of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRebuilt {
    pub generation: i64,
    /// That it is made of.
    pub events: u64,
    /// Whether there was a row, and whether there is one.
    pub was_there: bool,
    pub is_there: bool,
    /// Entries of a list.
    pub entries: u64,
    /// Of the row, that are not what they were; no text is told.
    pub changed: Vec<Field>,
}

/// A key's events, and how far each source was read for them.
#[derive(Default)]
struct Gathered {
    events: BTreeMap<Name, Vec<RecordedEvent>>,
    read_to: BTreeMap<Name, Cursor>,
}

impl GenerationStore {
    /// Folds everything that `key` is made of anew and replaces its row, links and entries, in one transaction. Groups are
    /// as they are: they add up many rows, and a group that is wrong is made right by a rebuild. The fence must be held. Not
    /// cancel-safe.
    pub(crate) async fn rebuild_key(&self, key: &str, feeds: &[Arc<dyn Feed>]) -> Result<KeyRebuilt, ApplyError> {
        let mut gathered = Gathered::default();
        let before = self.reload().await?;
        self.gather(key, feeds, &before.vector, &mut gathered).await?;
        let mut writing = self.writing.lock().await;
        let now = self.look(&mut writing, false).await?;
        self.gather(key, feeds, &now.vector, &mut gathered).await?;
        let mut transaction = self.pool.begin().await.map_err(Refused::from)?;
        match self.replace(&mut transaction, &mut writing, key, &gathered.events).await {
            Ok(rebuilt) => {
                transaction.commit().await.map_err(Refused::from)?;
                self.wake.committed();
                Ok(rebuilt)
            }
            Err(refused) => {
                transaction.rollback().await;
                Err(refused.into())
            }
        }
    }

    async fn gather(
        &self,
        key: &str,
        feeds: &[Arc<dyn Feed>],
        until: &Vector,
        gathered: &mut Gathered,
    ) -> Result<(), ApplyError> {
        for feed in feeds {
            let source = feed.source();
            let read_to = gathered.read_to.entry(source.clone()).or_insert(Cursor::START);
            let end = until.get(source).position;
            while read_to.position < end {
                let limit = PageLimit::events(PAGE_EVENTS);
                let page = feed.page(*read_to, limit, Duration::ZERO).await;
                let page = page.map_err(|error| ApplyError::Unavailable(error.to_string().into()))?;
                if page.events.is_empty() {
                    let reason = format!("the feed of {source} ends at {}, in front of {end}", read_to.position);
                    return Err(ApplyError::Unavailable(reason.into()));
                }
                for event in page.events.into_iter().take_while(|event| event.position <= end) {
                    *read_to = Cursor::at(&event);
                    if self.concerns(key, source, &event) {
                        gathered.events.entry(source.clone()).or_default().push(event);
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether an event goes to `key`. One that cannot be understood is parked, and goes nowhere.
    fn concerns(&self, key: &str, source: &str, event: &RecordedEvent) -> bool {
        let folds = self.projection.facets.iter().filter(|fold| fold.source() == source);
        let mut folds = folds.map(|fold| fold.route(event));
        let is_folded = folds.any(|routed| matches!(routed, Ok(Some((of, _))) if of == key));
        let listing = self.projection.listings.of(source);
        let entries = listing.and_then(|listing| listing.entries(event).ok()).unwrap_or_default();
        is_folded || entries.iter().any(|(of, _)| of == key)
    }

    async fn replace(
        &self,
        transaction: &mut Transaction,
        writing: &mut Writing,
        key: &str,
        events: &BTreeMap<Name, Vec<RecordedEvent>>,
    ) -> Result<KeyRebuilt, Refused> {
        self.claim(transaction, writing.fence, Work::FanOuts).await?;
        let parked = self.parked_positions(transaction).await?;
        let mut routed = Routed::nothing(&self.projection);
        let mut count = 0;
        for (source, events) in events {
            for event in events.iter().filter(|event| !writing.dropped.holds(source, event.event_id)) {
                if parked.contains(&(source.to_string(), event.position)) {
                    routed.take_ahead(&self.projection, source, event);
                    continue;
                }
                routed.take(&self.projection, source, event).map_err(|reject| Refused::Apply(reject.of(event)))?;
                count += 1;
            }
        }
        let entries = self.replace_entries(transaction, key, routed.entries).await?;
        let mut rebuilt = KeyRebuilt {
            generation: self.generation,
            events: count,
            was_there: false,
            is_there: false,
            entries,
            changed: Vec::new(),
        };
        let Some(table) = self.statements.tables.iter().find(|table| table.part == Part::Rows) else {
            self.write_changes(transaction, writing, &[key.to_owned()]).await?;
            return Ok(rebuilt);
        };
        let look = row_of(table, transaction.is_postgres());
        let before = self.row_text(transaction, &look, key).await?;

        let loaded = transaction.fetch(&self.statements.load_rows, &[Value::Text(&json(&[key]))]).await?;
        let states = match loaded.first() {
            Some(row) => {
                let states = self.projection.facets.iter().zip(&row[1..]);
                // a state that was made unreadable is no reason not to make it anew
                states.map(|(fold, state)| state.as_deref().and_then(|state| fold.read(state).ok())).collect()
            }
            None => vec![None; self.projection.facets.len()],
        };
        let mut entity = Entity::new(&self.projection, Facets(states));
        entity.restart();
        let (mut poison, mut noted) = (Vec::new(), Noted::of(self.projection.template));
        for (place, mut by_key) in routed.facets.into_iter().enumerate() {
            if let Some(events) = by_key.remove(key) {
                let fold = &*self.projection.facets[place];
                let part = self.projection.template.facets[place];
                let history = noted.as_mut().map(|noted| Place { noted, part, key });
                entity.facets.0[place] = batch::fold(fold, None, events, &routed.ahead, &mut poison, history);
            }
        }
        if !poison.is_empty() {
            return Err(Refused::Apply(ApplyError::Poison(poison)));
        }
        entity.folded(&self.projection);
        // what the row says that it contributed is what is doubted, and its groups were never changed by the damage: they
        // hold what these events have made
        entity.contributed = Contribution::of(&self.projection, &entity.facets);
        rebuilt.was_there = before.is_some();
        rebuilt.is_there = entity.facets.0.iter().any(Option::is_some);
        self.forget_row(transaction, table.name.as_str(), key).await?;
        let entities = BTreeMap::from([(key.to_owned(), entity)]);
        if rebuilt.is_there {
            let mut references = References::default();
            self.load_missing_references(transaction, &entities, &mut references).await?;
            self.write_rows(transaction, &entities, &references).await?;
        }
        self.forget_history(transaction, key).await?;
        self.write_history(transaction, noted).await?;
        // of a roll-up groups are told, and those are as they were
        if self.projection.template.groups.is_none() {
            self.write_changes(transaction, writing, &[key.to_owned()]).await?;
        }
        let after = self.row_text(transaction, &look, key).await?;
        if let (Some(before), Some(after)) = (&before, &after) {
            rebuilt.changed = differing(before, after);
        }
        Ok(rebuilt)
    }

    /// The row and all its links, whatever they were.
    async fn forget_row(&self, transaction: &mut Transaction, table: &str, key: &str) -> Result<(), Refused> {
        let template = self.projection.template;
        let row: Arc<str> = format!("delete from {table} where {} = $1", template.key).into();
        transaction.execute(&row, &[Value::Text(key)]).await?;
        if let Some(links) = self.statements.tables.iter().find(|table| table.part == Part::Links) {
            let links: Arc<str> = format!("delete from {} where entity_key = $1", links.name).into();
            transaction.execute(&links, &[Value::Text(key)]).await?;
        }
        Ok(())
    }

    /// What the facets of `key` were; references have a history of their own under the same name.
    async fn forget_history(&self, transaction: &mut Transaction, key: &str) -> Result<(), Refused> {
        let Some(history) = self.statements.tables.iter().find(|table| table.part == Part::History) else {
            return Ok(());
        };
        let facets: Vec<_> = self.projection.template.facets.iter().map(|facet| format!("'{facet}'")).collect();
        let forget = format!("delete from {} where key = $1 and part in ({})", history.name, facets.join(", "));
        transaction.execute(&forget.into(), &[Value::Text(key)]).await?;
        Ok(())
    }

    /// Puts `entries` of `key` in place of what is there; those of other keys are left out.
    async fn replace_entries(
        &self,
        transaction: &mut Transaction,
        key: &str,
        mut entries: Vec<String>,
    ) -> Result<u64, Refused> {
        let Some(table) = self.statements.tables.iter().find(|table| table.part == Part::Entries) else { return Ok(0) };
        let column = self.projection.template.key;
        entries.retain(|entry| {
            let entry: serde_json::Value = serde_json::from_str(entry).unwrap_or_default();
            entry[column] == *key
        });
        let forget: Arc<str> = format!("delete from {} where {column} = $1", table.name).into();
        transaction.execute(&forget, &[Value::Text(key)]).await?;
        self.write_entries(transaction, &entries).await?;
        Ok(entries.len() as u64)
    }

    async fn row_text(
        &self,
        transaction: &mut Transaction,
        look: &Arc<str>,
        key: &str,
    ) -> Result<Option<serde_json::Value>, Refused> {
        let rows = transaction.fetch(look, &[Value::Text(key)]).await?;
        let Some(row) = rows.first().and_then(|row| text(row, 0)) else { return Ok(None) };
        // damaged JSON is told as a text that changes
        Ok(Some(serde_json::from_str(&row).unwrap_or(serde_json::Value::String(row))))
    }

    async fn parked_positions(&self, transaction: &mut Transaction) -> Result<BTreeSet<(String, u64)>, Refused> {
        let statement: Arc<str> = "select source, cast(position as text) from parked_events \
             where read_model = $1 and generation = $2"
            .into();
        let values = [Value::Text(self.projection.template.name), Value::Integer(self.generation)];
        let rows = transaction.fetch(&statement, &values).await?;
        let position = |row: &Vec<Option<String>>| Some((text(row, 0)?, unsigned(number(row, 1)?)));
        rows.iter().map(|row| position(row).ok_or_else(|| unreadable("parked_events"))).collect()
    }
}
