//! The rows of a batch: loaded at once, folded in memory, written at once.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use event_store::follower::{ApplyError, PoisonEvent};
use serde::Serialize;

use super::{
    super::{
        batch::{self, ByKey, Entity, array, json},
        fan_out::{self, FanOut},
        groups::{Contribution, GroupChanges},
        transaction::{Texts, Transaction, Value},
    },
    GenerationStore, Refused,
    history::{Noted, Place},
    late::Bases,
    number, signed, text, unreadable,
};
use crate::projection::{Facets, Folding, Link, References, State};

/// Cursors that one statement looks at: its parameter is bounded, the others wait.
const FAN_OUT_CURSORS_MAX: usize = 1_000;

/// What the folds of a batch begin with and give, beside the states.
pub(super) struct Pass {
    pub bases: Bases,
    /// [`batch::Routed::ahead`].
    pub ahead: HashSet<u64>,
    pub noted: Option<Noted>,
    pub poison: Vec<PoisonEvent>,
    /// Beginnings of the keys of groups that show a reference which has changed, as JSON.
    pub shown: Vec<String>,
}

impl Pass {
    /// What a state is folded anew from; `None`: it goes on from what it is.
    fn base(&mut self, part: &'static str, key: &str) -> Option<Option<State>> {
        if self.bases.is_empty() { None } else { self.bases.remove(&(part, key.to_owned())) }
    }
}

impl GenerationStore {
    /// Folds and writes one reference, and says which of its states have changed.
    pub(super) async fn fold_reference(
        &self,
        transaction: &mut Transaction,
        place: usize,
        by_key: ByKey<'_>,
        references: &mut References,
        pass: &mut Pass,
    ) -> Result<Vec<FanOut>, Refused> {
        let template = &self.projection.template.references[place];
        let fold = &*self.projection.references[place];
        let keys = json(&by_key.keys().collect::<Vec<_>>());
        let loaded = transaction.fetch(&self.statements.load_references[place], &[Value::Text(&keys)]).await?;
        let mut before: HashMap<String, State> = HashMap::with_capacity(loaded.len());
        for row in &loaded {
            let (key, state) = self.state(row, fold, template.name)?;
            before.insert(key, state);
        }
        let held = references.0.entry(template.name).or_default();
        let (mut rows, mut changed) = (Vec::new(), Vec::new());
        for (key, events) in by_key {
            let position = events.first().map_or(0, |(_, event)| signed(event.position));
            let old = before.remove(&key);
            let old_text = old.as_ref().map(|state| fold.write(state));
            let from = pass.base(template.name, &key).unwrap_or(old);
            let history = pass.noted.as_mut().map(|noted| Place { noted, part: template.name, key: &key });
            let Some(new) = batch::fold(fold, from, events, &pass.ahead, &mut pass.poison, history) else { continue };
            let new_text = fold.write(&new);
            if old_text.as_ref() != Some(&new_text) {
                rows.push(batch::reference_row(template.key, &key, &new_text));
                if self.projection.template.groups.is_some_and(|groups| groups.key.first() == Some(&template.key)) {
                    pass.shown.push(json(&[&key]));
                }
                if self.projection.links.is_some() {
                    changed.push(FanOut {
                        reference: template.name.to_owned(),
                        foreign_key: key.clone(),
                        source: fold.source().to_owned(),
                        after_key: String::new(),
                        position,
                    });
                }
            }
            held.insert(key, new);
        }
        if !rows.is_empty() {
            let rows = array(&rows);
            transaction.execute(&self.statements.upsert_references[place], &[Value::Text(&rows)]).await?;
        }
        Ok(changed)
    }

    fn state(&self, row: &Texts, fold: &dyn Folding, reference: &str) -> Result<(String, State), Refused> {
        let (Some(key), Some(state)) = (text(row, 0), text(row, 1)) else { return Err(unreadable(reference)) };
        let state = fold.read(&state).map_err(|_| unreadable(reference))?;
        Ok((key, state))
    }

    /// Which rows are to be rewritten for changed references.
    pub(super) async fn find_fan_out(
        &self,
        transaction: &mut Transaction,
        cursors: Vec<FanOut>,
    ) -> Result<fan_out::Advanced, Refused> {
        #[derive(Serialize)]
        struct Cursor<'c> {
            n: usize,
            reference: &'c str,
            foreign_key: &'c str,
            after_key: &'c str,
        }
        if cursors.is_empty() {
            return Ok(fan_out::Advanced::default());
        }
        let asked = cursors.len().min(FAN_OUT_CURSORS_MAX);
        let parameter: Vec<_> = cursors[..asked]
            .iter()
            .enumerate()
            .map(|(n, cursor)| Cursor {
                n,
                reference: &cursor.reference,
                foreign_key: &cursor.foreign_key,
                after_key: &cursor.after_key,
            })
            .collect();
        let rows_max = self.options.fan_out_rows_max;
        // one more than wanted says whether that was all
        let limit = i64::try_from(rows_max + 1).unwrap_or(i64::MAX);
        let values = [Value::Text(&json(&parameter)), Value::Integer(limit)];
        let rows = transaction.fetch(&self.statements.fan_out, &values).await?;
        let found = rows.iter().map(|row| Some((usize::try_from(number(row, 0)?).ok()?, text(row, 1)?)));
        let found = found.collect::<Option<Vec<_>>>().ok_or_else(|| unreadable("links"))?;
        Ok(fan_out::advance(cursors, asked, found, rows_max))
    }

    /// Loads every row that is touched, and folds what came for it.
    pub(super) async fn fold_rows(
        &self,
        transaction: &mut Transaction,
        facets: Vec<ByKey<'_>>,
        fanned_out: &[String],
        pass: &mut Pass,
    ) -> Result<BTreeMap<String, Entity>, Refused> {
        let mut keys: BTreeSet<&String> = fanned_out.iter().collect();
        keys.extend(facets.iter().flat_map(|by_key| by_key.keys()));
        let mut entities = BTreeMap::new();
        if keys.is_empty() {
            return Ok(entities);
        }
        let parameter = json(&keys);
        let loaded = transaction.fetch(&self.statements.load_rows, &[Value::Text(&parameter)]).await?;
        for mut row in loaded {
            let Some(key) = row.first_mut().and_then(Option::take) else { return Err(unreadable("rows")) };
            let states = self.projection.facets.iter().zip(&row[1..]).map(|(fold, state)| {
                state.as_deref().map(|state| fold.read(state)).transpose().map_err(|_| unreadable("facets"))
            });
            let facets = Facets(states.collect::<Result<_, _>>()?);
            entities.insert(key, Entity::new(&self.projection, facets));
        }
        for (place, by_key) in facets.into_iter().enumerate() {
            let fold = &*self.projection.facets[place];
            for (key, events) in by_key {
                let part = self.projection.template.facets[place];
                let base = pass.base(part, &key);
                let history = pass.noted.as_mut().map(|noted| Place { noted, part, key: &key });
                let entity = entities
                    .entry(key.clone())
                    .or_insert_with(|| Entity::new(&self.projection, Facets(vec![None; self.projection.facets.len()])));
                let held = entity.facets.0[place].take();
                let state = base.unwrap_or(held);
                entity.facets.0[place] = batch::fold(fold, state, events, &pass.ahead, &mut pass.poison, history);
                entity.folded(&self.projection);
            }
        }
        Ok(entities)
    }

    /// Loads what the rows refer to and is not at hand.
    pub(super) async fn load_missing_references(
        &self,
        transaction: &mut Transaction,
        entities: &BTreeMap<String, Entity>,
        references: &mut References,
    ) -> Result<(), Refused> {
        let links: BTreeSet<_> = entities.values().flat_map(Entity::links).collect();
        for (place, template) in self.projection.template.references.iter().enumerate() {
            let held = references.0.entry(template.name).or_default();
            let missing: Vec<_> = links
                .iter()
                .filter(|link| link.reference == template.name && !held.contains_key(&link.foreign_key))
                .map(|link| &link.foreign_key)
                .collect();
            if missing.is_empty() {
                continue;
            }
            let parameter = json(&missing);
            let loaded = transaction.fetch(&self.statements.load_references[place], &[Value::Text(&parameter)]).await?;
            for row in &loaded {
                let (key, state) = self.state(row, &*self.projection.references[place], template.name)?;
                held.insert(key, state);
            }
        }
        Ok(())
    }

    /// Writes them, and says which of them are served.
    pub(super) async fn write_rows(
        &self,
        transaction: &mut Transaction,
        entities: &BTreeMap<String, Entity>,
        references: &References,
    ) -> Result<Vec<String>, Refused> {
        #[derive(Serialize)]
        struct LinkRow<'l> {
            reference: &'l str,
            foreign_key: &'l str,
            entity_key: &'l str,
        }
        let (mut rows, mut served) = (Vec::with_capacity(entities.len()), Vec::with_capacity(entities.len()));
        let (mut added, mut removed) = (Vec::new(), Vec::new());
        for (entity_key, entity) in entities {
            let (row, is_served) = entity.row(&self.projection, entity_key, references);
            rows.push(row);
            if is_served {
                served.push(entity_key.clone());
            }
            let (more, less) = entity.link_changes();
            let row =
                |link: &Link| json(&LinkRow { reference: link.reference, foreign_key: &link.foreign_key, entity_key });
            added.extend(more.map(row));
            removed.extend(less.map(row));
        }
        for (statement, rows) in [
            (&self.statements.upsert_rows, rows),
            (&self.statements.insert_links, added),
            (&self.statements.delete_links, removed),
        ] {
            if !rows.is_empty() {
                transaction.execute(statement, &[Value::Text(&array(&rows))]).await?;
            }
        }
        Ok(served)
    }

    /// Changes the groups by what these rows contribute more or less than before, and says which.
    pub(super) async fn write_groups(
        &self,
        transaction: &mut Transaction,
        entities: &BTreeMap<String, Entity>,
    ) -> Result<Vec<String>, Refused> {
        let Some(groups) = &self.projection.template.groups else { return Ok(Vec::new()) };
        let mut changes = GroupChanges::default();
        for (key, entity) in entities.iter().filter(|(_, entity)| entity.is_folded()) {
            let contributes = Contribution::of(&self.projection, &entity.facets);
            let changed = changes.add(groups, &entity.contributed, &contributes);
            changed.map_err(|fault| {
                let (name, column) = (self.projection.template.name, self.projection.template.key);
                Refused::Apply(ApplyError::Bug(format!("{name}, {column} {key}: {fault}")))
            })?;
        }
        for (statement, rows) in [
            (&self.statements.change_groups, changes.rows(groups)),
            (&self.statements.delete_empty_groups, changes.left(groups)),
        ] {
            if !rows.is_empty() {
                transaction.execute(statement, &[Value::Text(&array(&rows))]).await?;
            }
        }
        Ok(changes.keys())
    }

    pub(super) async fn write_entries(&self, transaction: &mut Transaction, entries: &[String]) -> Result<(), Refused> {
        if !entries.is_empty() {
            transaction.execute(&self.statements.upsert_entries, &[Value::Text(&array(entries))]).await?;
        }
        Ok(())
    }

    pub(super) async fn write_fan_outs(
        &self,
        transaction: &mut Transaction,
        stored: &[FanOut],
        advanced: &fan_out::Advanced,
    ) -> Result<(), Refused> {
        let stored: HashMap<_, _> = stored.iter().map(|cursor| (cursor.key(), cursor)).collect();
        let changed: Vec<_> = advanced.open.iter().filter(|open| stored.get(&open.key()) != Some(open)).collect();
        let closed: Vec<_> = advanced.closed.iter().filter(|closed| stored.contains_key(&closed.key())).collect();
        for (statement, cursors) in
            [(&self.statements.upsert_fan_outs, changed), (&self.statements.delete_fan_outs, closed)]
        {
            if !cursors.is_empty() {
                transaction.execute(statement, &[Value::Text(&json(&cursors))]).await?;
            }
        }
        Ok(())
    }
}
