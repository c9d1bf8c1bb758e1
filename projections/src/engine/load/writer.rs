//! What a load writes: one transaction from one checkpoint to the next, rows as they are taken out of the cache.
//!
//! Rows that the database does not have yet are copied in; those that it has are upserted as a followed batch would. The
//! fence is looked at when the checkpoints move, in the same transaction: whoever has lost it has written nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use event_store::{
    failpoint,
    follower::{ApplyError, Checkpoint, Step},
    log::LogHead,
};
use events::envelope::{Name, RecordedEvent};
use tokio::task::spawn_blocking;

use super::{
    Stop,
    cache::{Additions, Before, Change, Changes, Entry, Noted},
    folds::{Folds, ROWS},
    sheet::{Sheet, Unfit, send},
};
use crate::{
    engine::{
        batch::{self, Entity, array, json},
        groups::{Contribution, GroupChanges},
        statements::load::LoadStatements,
        store::{GenerationStore, Refused},
        transaction::{Transaction, Value, is_passing},
    },
    projection::{Facets, Link, References, State},
};

pub(super) struct Writer {
    store: Arc<GenerationStore>,
    statements: Arc<LoadStatements>,
    fence: u64,
    transaction: Option<Transaction>,
    /// What rows refer to, as far as it is at hand.
    references: Arc<References>,
    references_bytes: usize,
    references_bytes_max: usize,
    /// What is encoded at once.
    sheet_bytes_max: usize,
}

/// How far one source has come since the last checkpoint.
pub(super) struct Progress {
    pub source: Name,
    pub from: Checkpoint,
    pub to: Checkpoint,
    pub last: RecordedEvent,
    pub head: LogHead,
    pub anchors: Vec<Anchors>,
}

/// Which events some positions hold, for consistency tokens.
pub(super) struct Anchors {
    pub first: u64,
    pub last: u64,
    pub bytes: Vec<u8>,
}

/// A row as the database has it.
pub(super) struct Stored {
    pub key: String,
    pub facets: Facets,
    pub json_bytes: usize,
}

/// Rows on their way, with what they refer to.
struct Outgoing {
    folds: Arc<Folds>,
    is_postgres: bool,
    changes: Vec<Change>,
    links: Vec<BTreeSet<Link>>,
}

/// Some of them, as they are sent.
struct Encoded {
    added: Sheet,
    links: Sheet,
    /// JSON objects by column.
    rewritten: Vec<String>,
    unlinked: Vec<String>,
    groups: GroupChanges,
    /// Where the next ones begin.
    next: usize,
}

impl Writer {
    pub fn new(store: Arc<GenerationStore>, fence: u64, references_bytes_max: usize, sheet_bytes_max: usize) -> Self {
        let statements = Arc::new(store.load_statements());
        Self {
            store,
            statements,
            fence,
            transaction: None,
            references: Arc::default(),
            references_bytes: 0,
            references_bytes_max,
            sheet_bytes_max,
        }
    }

    /// Whether something was written that no checkpoint covers yet.
    pub fn is_open(&self) -> bool {
        self.transaction.is_some()
    }

    /// Puts a reference at hand that is in the database; `false`: there is no more room.
    pub fn keep_reference(&mut self, table: usize, key: String, state: State, bytes: usize) -> bool {
        let references = Arc::get_mut(&mut self.references).expect("nobody encodes now");
        let template = &self.store.projection().template.references[table - 1];
        references.0.entry(template.name).or_default().insert(key, state);
        self.references_bytes += bytes;
        self.references_bytes < self.references_bytes_max
    }

    /// Writes rows, and what follows from them.
    pub async fn write(&mut self, folds: &Arc<Folds>, changes: Changes, additions: Additions) -> Result<(), Stop> {
        for (table, changes) in changes.into_iter().enumerate() {
            if changes.is_empty() {
                continue;
            }
            match table {
                ROWS => self.write_rows(folds, changes).await?,
                table => self.write_references(folds, table, changes).await?,
            }
        }
        if additions.is_empty() { Ok(()) } else { self.add(folds, additions).await }
    }

    async fn write_rows(&mut self, folds: &Arc<Folds>, changes: Vec<Change>) -> Result<(), Stop> {
        let outgoing = Outgoing {
            folds: Arc::clone(folds),
            is_postgres: self.store.pool().is_postgres(),
            changes,
            links: Vec::new(),
        };
        let outgoing = Arc::new(blocking(move || outgoing.linked()).await?);
        self.load_references(&outgoing).await?;
        let encode = |from: usize| {
            let (outgoing, references) = (Arc::clone(&outgoing), Arc::clone(&self.references));
            let (statements, bytes_max) = (Arc::clone(&self.statements), self.sheet_bytes_max);
            spawn_blocking(move || outgoing.encode(&statements, &references, from, bytes_max))
        };
        let mut encoding = Some(encode(0));
        while let Some(encoded) = encoding.take() {
            let encoded = encoded.await.map_err(|error| Stop::Bug(format!("rows were not encoded: {error}")))??;
            // the next ones are encoded while these are sent
            encoding = (encoded.next < outgoing.changes.len()).then(|| encode(encoded.next));
            if let Err(stop) = send_rows(&mut self.transaction, &self.store, &self.statements, encoded).await {
                // it holds the references: nobody goes on while it does
                if let Some(encoding) = encoding {
                    let _ = encoding.await;
                }
                return Err(stop);
            }
        }
        Ok(())
    }

    async fn write_references(&mut self, folds: &Arc<Folds>, table: usize, changes: Vec<Change>) -> Result<(), Stop> {
        let (statements, folds, is_postgres) =
            (Arc::clone(&self.statements), Arc::clone(folds), self.store.pool().is_postgres());
        let template = &self.store.projection().template.references[table - 1];
        let encoded = blocking(move || {
            let target = &statements.references[table - 1];
            let mut added = Sheet::new(is_postgres, target.columns.len());
            let mut rewritten = Vec::new();
            for change in &changes {
                let Some(state) = change.facets.0.first().and_then(Option::as_ref) else { continue };
                let state = folds.folding(table, 0).write(state);
                match change.before {
                    Before::Nothing => {
                        added.row();
                        added.text(&change.key);
                        added.object(&target.columns[1..], &state)?;
                    }
                    _ => rewritten.push(batch::reference_row(template.key, &change.key, &state)),
                }
            }
            Ok::<_, Unfit>((added, rewritten))
        });
        let (added, rewritten) = encoded.await??;
        let transaction = begun(&mut self.transaction, &self.store).await?;
        send(transaction, &self.statements.references[table - 1], added).await?;
        if !rewritten.is_empty() {
            let statement = &self.store.statements().upsert_references[table - 1];
            transaction.execute(statement, &[Value::Text(&array(&rewritten))]).await?;
        }
        Ok(())
    }

    async fn add(&mut self, folds: &Arc<Folds>, additions: Additions) -> Result<(), Stop> {
        let (statements, folds, is_postgres) =
            (Arc::clone(&self.statements), Arc::clone(folds), self.store.pool().is_postgres());
        let Additions { entries, states, erased } = additions;
        let encoded = blocking(move || {
            let (entries_into, states_into) = (&statements.entries, &statements.history);
            let mut list = Sheet::new(is_postgres, entries_into.columns.len());
            for Entry { key, source, position, part, entry } in &entries {
                list.row();
                list.text(key);
                list.text(folds.sources()[*source]);
                list.integer(position.cast_signed());
                list.integer(*part);
                list.object(&entries_into.columns[4..], entry)?;
            }
            let mut history = Sheet::new(is_postgres, states_into.columns.len());
            for Noted { key, part, position, recorded_at_us, state } in &states {
                history.row();
                history.text(key);
                history.text(part);
                history.integer(position.cast_signed());
                history.integer(*recorded_at_us);
                history.text(state);
            }
            Ok::<_, Unfit>((list, history))
        });
        let (list, history) = encoded.await??;
        let transaction = begun(&mut self.transaction, &self.store).await?;
        send(transaction, &self.statements.entries, list).await?;
        send(transaction, &self.statements.history, history).await?;
        if !erased.is_empty() {
            let forget = &self.store.statements().forget_history;
            transaction.execute(forget, &[Value::Text(&json(&erased))]).await?;
        }
        Ok(())
    }

    /// Puts everything at hand that the rows refer to and that there is.
    async fn load_references(&mut self, outgoing: &Outgoing) -> Result<(), Stop> {
        let projection = Arc::clone(self.store.projection());
        let references = Arc::get_mut(&mut self.references).expect("nobody encodes now");
        if self.references_bytes > self.references_bytes_max {
            references.0.clear();
            self.references_bytes = 0;
        }
        for (place, template) in projection.template.references.iter().enumerate() {
            let held = references.0.entry(template.name).or_default();
            let wanted = outgoing.links.iter().flatten().filter(|link| link.reference == template.name);
            let missing: BTreeSet<_> =
                wanted.map(|link| &link.foreign_key).filter(|key| !held.contains_key(*key)).collect();
            if missing.is_empty() {
                continue;
            }
            let transaction = begun(&mut self.transaction, &self.store).await?;
            let statement = &self.store.statements().load_references[place];
            for row in transaction.fetch(statement, &[Value::Text(&json(&missing))]).await? {
                let [Some(key), Some(state)] = &row[..] else { return Err(unreadable(template.name)) };
                let read = projection.references[place].read(state).map_err(|_| unreadable(template.name))?;
                self.references_bytes += 2 * (key.len() + state.len());
                held.insert(key.clone(), read);
            }
        }
        Ok(())
    }

    /// The rows of `keys` that there are.
    pub async fn load(&mut self, folds: &Folds, table: usize, keys: &[String]) -> Result<Vec<Stored>, Stop> {
        let statements = self.store.statements();
        let statement = match table {
            ROWS => &statements.load_rows,
            table => &statements.load_references[table - 1],
        };
        let transaction = begun(&mut self.transaction, &self.store).await?;
        let rows = transaction.fetch(statement, &[Value::Text(&json(keys))]).await?;
        let stored = |mut row: Vec<Option<String>>| {
            let key = row.first_mut().and_then(Option::take)?;
            let states = &row[1..=folds.slots(table)];
            let read = states.iter().enumerate().map(|(slot, state)| {
                state.as_deref().map(|state| folds.folding(table, slot).read(state)).transpose().ok()
            });
            let facets = Facets(read.collect::<Option<_>>()?);
            Some(Stored { key, facets, json_bytes: states.iter().flatten().map(String::len).sum() })
        };
        rows.into_iter().map(|row| stored(row).ok_or_else(|| unreadable("rows"))).collect()
    }

    /// Every key that a table of the generation holds, one after the other.
    pub async fn for_each_key(&mut self, table: usize, mut take: impl FnMut(String)) -> Result<(), Stop> {
        let statement = match table {
            ROWS => &self.statements.row_keys,
            table => &self.statements.reference_keys[table - 1],
        };
        let transaction = begun(&mut self.transaction, &self.store).await?;
        let take = |row: Vec<Option<String>>| {
            row.into_iter().flatten().for_each(&mut take);
            Ok(())
        };
        Ok(transaction.for_each(statement, take).await?)
    }

    /// Forgets what no checkpoint covers.
    pub async fn rollback(self) {
        if let Some(transaction) = self.transaction {
            transaction.rollback().await;
        }
    }

    /// Moves the checkpoints, and commits: what was written until now is what these events have made.
    pub async fn checkpoint(&mut self, progress: &[Progress]) -> Result<(), Stop> {
        begun(&mut self.transaction, &self.store).await?;
        let mut transaction = self.transaction.take().expect("it was just begun");
        for Progress { source, from, to, last, head, anchors } in progress {
            let step = Step {
                fence: self.fence,
                source,
                from: *from,
                to: *to,
                events: std::slice::from_ref(last),
                diverted: &[],
                parking: &[],
                head,
            };
            self.store.claim_for(&mut transaction, self.fence, Some(&step)).await?;
            for Anchors { first, last, bytes } in anchors {
                let values = [
                    Value::Text(source),
                    Value::Integer(first.cast_signed()),
                    Value::Integer(last.cast_signed()),
                    Value::Bytes(bytes),
                ];
                transaction.execute(&self.store.statements().insert_anchors, &values).await?;
            }
        }
        failpoint!("projection.load.before_commit", Stop::Failpoint("projection.load.before_commit"));
        transaction.commit().await?;
        failpoint!("projection.load.after_commit", Stop::Failpoint("projection.load.after_commit"));
        Ok(())
    }
}

impl Outgoing {
    fn linked(mut self) -> Self {
        let projection = self.folds.projection();
        let links = |change: &Change| {
            projection.links.map(|links| links(&change.facets).into_iter().collect()).unwrap_or_default()
        };
        self.links = self.changes.iter().map(links).collect();
        self
    }

    /// The rows from `from` on, as many as fit.
    fn encode(
        &self,
        statements: &LoadStatements,
        references: &References,
        from: usize,
        bytes_max: usize,
    ) -> Result<Encoded, Stop> {
        let projection = self.folds.projection();
        let template = projection.template;
        let derived_from = 2 + template.facets.len();
        let (columns, link_columns) = (&statements.rows.columns, statements.links.columns.len());
        let mut encoded = Encoded {
            added: Sheet::new(self.is_postgres, columns.len()),
            links: Sheet::new(self.is_postgres, link_columns),
            rewritten: Vec::new(),
            unlinked: Vec::new(),
            groups: GroupChanges::default(),
            next: from,
        };
        let (mut rewritten_bytes, none) = (0, (BTreeSet::new(), Contribution::default()));
        while encoded.next < self.changes.len() && encoded.added.bytes() + rewritten_bytes < bytes_max {
            let (change, links) = (&self.changes[encoded.next], &self.links[encoded.next]);
            encoded.next += 1;
            let (links_before, contributed) = match &change.before {
                Before::Nothing => (&none.0, &none.1),
                Before::Older { links, contributed } => (links, contributed),
                Before::Same => unreachable!("what has not changed is not written"),
            };
            if matches!(change.before, Before::Nothing) {
                let row = &mut encoded.added;
                let derived = (projection.derive)(&change.facets, references);
                row.row();
                row.text(&change.key);
                row.boolean(derived.is_some());
                for place in 0..template.facets.len() {
                    // a facet that nobody folds yet has a column, too
                    match change.facets.0.get(place).and_then(Option::as_ref) {
                        Some(state) => row.text(&projection.facets[place].write(state)),
                        None => row.null(),
                    }
                }
                row.object(&columns[derived_from..], derived.as_deref().unwrap_or("{}"))?;
            } else {
                let entity = Entity::new(projection, change.facets.clone());
                let (row, _) = entity.row(projection, &change.key, references);
                rewritten_bytes += row.len();
                encoded.rewritten.push(row);
            }
            for link in links.difference(links_before) {
                encoded.links.row();
                encoded.links.text(link.reference);
                encoded.links.text(&link.foreign_key);
                encoded.links.text(&change.key);
            }
            encoded.unlinked.extend(links_before.difference(links).map(|link| link_row(link, &change.key)));
            if let Some(groups) = &template.groups {
                let contributes = Contribution::of(projection, &change.facets);
                let changed = encoded.groups.add(groups, contributed, &contributes);
                changed.map_err(|fault| Stop::Bug(format!("{}, key {}: {fault}", template.name, change.key)))?;
            }
        }
        Ok(encoded)
    }
}

fn link_row(link: &Link, entity_key: &str) -> String {
    json(&BTreeMap::from([
        ("reference", link.reference),
        ("foreign_key", &link.foreign_key),
        ("entity_key", entity_key),
    ]))
}

/// Sends rows and what goes with them.
async fn send_rows(
    transaction: &mut Option<Transaction>,
    store: &GenerationStore,
    statements: &LoadStatements,
    encoded: Encoded,
) -> Result<(), Stop> {
    let Encoded { added, links, rewritten, unlinked, groups, next: _ } = encoded;
    let transaction = begun(transaction, store).await?;
    send(transaction, &statements.rows, added).await?;
    send(transaction, &statements.links, links).await?;
    let (changed, left) = match &store.projection().template.groups {
        Some(template) => (groups.rows(template), groups.left(template)),
        None => (Vec::new(), Vec::new()),
    };
    for (statement, rows) in [
        (&store.statements().upsert_rows, rewritten),
        (&statements.delete_links, unlinked),
        (&store.statements().change_groups, changed),
        (&store.statements().delete_empty_groups, left),
    ] {
        if !rows.is_empty() {
            transaction.execute(statement, &[Value::Text(&array(&rows))]).await?;
        }
    }
    Ok(())
}

/// The transaction under way, or a new one.
async fn begun<'t>(
    transaction: &'t mut Option<Transaction>,
    store: &GenerationStore,
) -> Result<&'t mut Transaction, Stop> {
    match transaction {
        Some(transaction) => Ok(transaction),
        None => {
            let mut begun = store.pool().begin().await?;
            begun.leave_sync_to_a_later_one().await?;
            Ok(transaction.insert(begun))
        }
    }
}

/// Runs what takes long off the threads that do IO.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Stop> {
    spawn_blocking(work).await.map_err(|error| Stop::Bug(format!("rows were not encoded: {error}")))
}

fn unreadable(table: &str) -> Stop {
    Stop::Bug(format!("{table} hold something that this version does not write"))
}

impl From<Unfit> for Stop {
    fn from(unfit: Unfit) -> Self {
        Self::Bug(format!("what is derived does not fit the template: column {}", unfit.column))
    }
}

impl From<sqlx::Error> for Stop {
    fn from(error: sqlx::Error) -> Self {
        match is_passing(&error) {
            true => Self::Unavailable(error.to_string()),
            false => Self::Bug(error.to_string()),
        }
    }
}

impl From<Refused> for Stop {
    fn from(refused: Refused) -> Self {
        match ApplyError::from(refused) {
            ApplyError::Fenced => Self::Fenced,
            // what is there is read again
            ApplyError::Moved => Self::Unavailable("the checkpoint is elsewhere".to_owned()),
            ApplyError::Unavailable(cause) => Self::Unavailable(cause.to_string()),
            error @ (ApplyError::UnknownEventType { .. } | ApplyError::Poison(_) | ApplyError::Bug(_)) => {
                Self::Bug(error.to_string())
            }
        }
    }
}
