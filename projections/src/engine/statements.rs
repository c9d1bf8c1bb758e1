//! The statements of one generation, made once from its template. A batch is one JSON parameter, so their number and
//! their text do not depend on its size.

mod changes;
mod dialect;
mod history;
pub(crate) mod kept;
pub(crate) mod load;
mod tables;

use std::sync::Arc;

use read_side::template::{Amount, Column, Combine, Kind, Template, column};

pub(crate) use self::tables::{Part, Table, tables};
use self::{changes::ChangesStatements, dialect::Dialect};

/// Everything that is sent for a generation. Parameters are listed at each. What is about a table that the template does
/// not have is empty, and never sent.
pub(crate) struct Statements {
    /// The tables, in order.
    #[allow(dead_code, reason = "for what fills or compares tables one by one")]
    pub tables: Vec<Table>,
    /// Makes them, empty, and says so in `fences`.
    pub create_tables: Vec<Arc<str>>,
    /// Makes what only finds rows: may come after them, and may come again.
    pub create_indexes: Vec<Arc<str>>,
    /// Those of them that cost nothing where they are there already.
    pub create_plain_indexes: Vec<Arc<str>>,
    /// Makes an empty generation one that is to be loaded: see [`load`].
    pub begin_load: Vec<Arc<str>>,
    /// What of the next may be done before it, side by side.
    pub prepare_finish: Vec<Arc<str>>,
    /// Makes a loaded generation a whole one.
    pub finish_load: Vec<Arc<str>>,
    /// -> a row if it is to be loaded, or loaded on.
    pub is_loading: Arc<str>,
    /// Removes the tables and what is known of the generation.
    pub drop: Vec<Arc<str>>,
    /// `$1` JSON array of keys -> key, then each facet as JSON.
    pub load_rows: Arc<str>,
    /// `$1` JSON array of objects by column.
    pub upsert_rows: Arc<str>,
    /// By reference. `$1` JSON array of keys -> key, state as JSON.
    pub load_references: Vec<Arc<str>>,
    /// By reference. `$1` JSON array of objects by column.
    pub upsert_references: Vec<Arc<str>>,
    /// `$1` JSON array of {reference, foreign_key, entity_key}.
    pub insert_links: Arc<str>,
    /// As `insert_links`.
    pub delete_links: Arc<str>,
    /// `$1` JSON array of groups by column: what is to be added to each.
    pub change_groups: Arc<str>,
    /// `$1` JSON array of groups' keys: those to which no row contributes any more.
    pub delete_empty_groups: Arc<str>,
    /// `$1` JSON array of entries by column.
    pub upsert_entries: Arc<str>,
    /// `$1` JSON array of {n, reference, foreign_key, after_key}, `$2` limit -> n, entity key; by n and key.
    pub fan_out: Arc<str>,
    /// `$1` JSON array of {reference, foreign_key, source, after_key, position}.
    pub upsert_fan_outs: Arc<str>,
    /// `$1` JSON array of {reference, foreign_key}.
    pub delete_fan_outs: Arc<str>,
    /// -> reference, foreign key, source, after key, position; oldest first.
    pub load_fan_outs: Arc<str>,
    /// -> fence.
    pub take_fence: Arc<str>,
    /// -> fence; nobody takes it before the transaction ends.
    pub hold_fence: Arc<str>,
    /// -> source, epoch, position, event id.
    pub load_checkpoints: Arc<str>,
    /// `$1` source, `$2..$7` new epoch, position, event id, its time (null: as it was), head, now; `$8..$10` old
    /// position, event id, epoch; `$11` fence.
    pub move_checkpoint: Arc<str>,
    /// `$1` source, `$2` first, `$3` last, `$4` anchors.
    pub insert_anchors: Arc<str>,
    /// `$1` source, `$2` the last position to forget.
    pub prune_anchors: Arc<str>,
    /// -> source, aggregate type, aggregate id, position, event id, reason.
    pub load_parked: Arc<str>,
    /// `$1` JSON array of {source, aggregate_type, aggregate_id, position, event_id, reason, parked_at_us, event_type,
    /// event_version}.
    pub insert_parked_streams: Arc<str>,
    /// `$1` JSON array of {source, position, aggregate_type, aggregate_id}.
    pub insert_parked_events: Arc<str>,
    /// `$1` JSON array of states by column.
    pub upsert_history: Arc<str>,
    /// `$1` JSON array of {key, part, position}: what a part was before is forgotten.
    pub forget_history: Arc<str>,
    /// `$1` JSON array of {key, part, position} -> part, key, position, state: the last one before it, and, without their
    /// states, those behind it.
    pub history_around: Arc<str>,
    /// `$1` JSON array of {key, part}, `$2` limit -> part, key, position; in order of time.
    pub history_places: Arc<str>,
    pub changes: ChangesStatements,
    /// `$1` JSON array of {source, head_position, observed_at_us, waiting_since_us}.
    pub note_observed: Arc<str>,
    /// Each table as lines in key order, for a hash.
    pub dump: Vec<Arc<str>>,
}

impl Statements {
    pub fn new(template: &Template, generation: i64, sources: &[&str], postgres: bool) -> Self {
        let dialect = Dialect { postgres };
        let table = template.table(generation);
        let links = template.links_table(generation);
        let this = format!("read_model = '{}' and generation = {generation}", template.name);
        let own = format!("'{}', {generation}", template.name);
        let key = template.key;
        let tables = tables(template, generation);
        let on = |part: Part, statement: &dyn Fn(&Table) -> String| -> Arc<str> {
            let table = tables.iter().find(|table| table.part == part);
            table.map(statement).unwrap_or_default().into()
        };
        let references: Vec<&Table> = tables.iter().filter(|table| matches!(table.part, Part::Reference(_))).collect();
        let fan_out_key = [("reference", Kind::Text), ("foreign_key", Kind::Text)].map(named);
        let fan_out_columns = [
            ("reference", Kind::Text),
            ("foreign_key", Kind::Text),
            ("source", Kind::Text),
            ("after_key", Kind::Text),
            ("position", Kind::Integer),
        ]
        .map(named);
        let parked_stream = [
            ("source", Kind::Text),
            ("aggregate_type", Kind::Text),
            ("aggregate_id", Kind::Text),
            ("position", Kind::Integer),
            ("event_id", Kind::Text),
            ("reason", Kind::Text),
            ("parked_at_us", Kind::Integer),
            ("event_type", Kind::Text),
            ("event_version", Kind::Text),
        ]
        .map(named);
        let parked_event = [
            ("source", Kind::Text),
            ("position", Kind::Integer),
            ("aggregate_type", Kind::Text),
            ("aggregate_id", Kind::Text),
        ]
        .map(named);
        let observed = [
            ("source", Kind::Text),
            ("head_position", Kind::Integer),
            ("observed_at_us", Kind::Integer),
            ("waiting_since_us", Kind::Integer),
        ]
        .map(named);
        let cursors =
            [("n", Kind::Integer), ("reference", Kind::Text), ("foreign_key", Kind::Text), ("after_key", Kind::Text)]
                .map(named);

        let text = |text: String| -> Arc<str> { text.into() };
        let texts = |texts: Vec<String>| -> Vec<Arc<str>> { texts.into_iter().map(Into::into).collect() };
        Self {
            create_tables: texts(dialect.create_tables(template, &tables, generation, sources)),
            create_indexes: texts(dialect.create_indexes(template, generation)),
            create_plain_indexes: texts(dialect.create_plain_indexes(template, generation)),
            begin_load: texts(dialect.begin_load(template, generation)),
            prepare_finish: texts(dialect.prepare_finish(template, &tables, generation)),
            finish_load: texts(dialect.finish_load(template, &tables, generation)),
            is_loading: text(dialect.is_loading(template, generation)),
            drop: texts(dialect.drop(template, &tables, generation)),
            load_rows: text(format!(
                "select {columns} from {table} where {key} {in_keys}",
                columns = [&[key], template.facets].concat().join(", "),
                in_keys = dialect.in_keys(),
            )),
            upsert_rows: on(Part::Rows, &|table| dialect.upsert(table)),
            load_references: references.iter().map(|table| text(dialect.load_states(table))).collect(),
            upsert_references: references.iter().map(|table| text(dialect.upsert(table))).collect(),
            insert_links: on(Part::Links, &|table| dialect.insert_keys(table)),
            delete_links: on(Part::Links, &|table| dialect.delete_keys(table, "")),
            change_groups: on(Part::Groups, &|table| change_groups(dialect, template, table)),
            delete_empty_groups: on(Part::Groups, &|table| {
                dialect.delete_keys(table, &format!(" and {} = 0", Template::CONTRIBUTORS))
            }),
            upsert_entries: on(Part::Entries, &|table| dialect.upsert(table)),
            fan_out: text(if postgres {
                format!(
                    "select c.n::text, l.entity_key from {given} cross join lateral \
                     (select entity_key from {links} l where l.reference = c.reference \
                        and l.foreign_key = c.foreign_key and l.entity_key > c.after_key \
                      order by entity_key limit $2) l \
                     order by c.n, l.entity_key limit $2",
                    given = dialect.given_as("$1", &cursors, "c"),
                )
            } else {
                // a cross join keeps its order in SQLite: cursor by cursor, and the key serves the rest
                format!(
                    "select cast(c.n as text), l.entity_key from {given} cross join {links} l \
                     where l.reference = c.reference and l.foreign_key = c.foreign_key and l.entity_key > c.after_key \
                     order by c.n, l.entity_key limit $2",
                    given = dialect.given_as("$1", &cursors, "c"),
                )
            }),
            upsert_fan_outs: text(format!(
                "insert into fan_outs (read_model, generation, reference, foreign_key, source, after_key, position) \
                 select {own}, reference, foreign_key, source, after_key, position from {given} where true \
                 on conflict (read_model, generation, reference, foreign_key) \
                 do update set after_key = excluded.after_key, position = excluded.position",
                given = dialect.given("$1", &fan_out_columns),
            )),
            delete_fan_outs: text(format!(
                "delete from fan_outs where {this} and (reference, foreign_key) in \
                 (select reference, foreign_key from {given})",
                given = dialect.given("$1", &fan_out_key),
            )),
            load_fan_outs: text(format!(
                "select reference, foreign_key, source, after_key, cast(position as text) from fan_outs \
                 where {this} order by fan_outs.position, reference, foreign_key",
            )),
            take_fence: text(format!("update fences set fence = fence + 1 where {this} returning cast(fence as text)")),
            hold_fence: text(format!(
                "select cast(fence as text) from fences where {this}{share}",
                share = dialect.for_share(),
            )),
            load_checkpoints: text(format!(
                "select source, epoch, cast(position as text), event_id from checkpoints where {this}"
            )),
            move_checkpoint: text(format!(
                "update checkpoints set epoch = $2, position = $3, event_id = $4, \
                    event_recorded_at_us = coalesce($5, event_recorded_at_us), head_position = $6, applied_at_us = $7 \
                 where {this} and source = $1 and position = $8 and event_id is not distinct from $9 \
                    and epoch is not distinct from $10 \
                    and (select fence from fences where {this}{share}) = $11",
                share = dialect.for_share(),
            )),
            insert_anchors: text(format!(
                "insert into applied_anchors (read_model, generation, source, first_position, last_position, anchors) \
                 values ({own}, $1, $2, $3, $4)"
            )),
            prune_anchors: text(format!(
                "delete from applied_anchors where {this} and source = $1 and last_position <= $2"
            )),
            load_parked: text(format!(
                "select source, aggregate_type, aggregate_id, cast(position as text), event_id, reason \
                 from parked_streams where {this}"
            )),
            insert_parked_streams: text(format!(
                "insert into parked_streams (read_model, generation, source, aggregate_type, aggregate_id, position, \
                    event_id, reason, parked_at_us, event_type, event_version) \
                 select {own}, source, aggregate_type, aggregate_id, position, event_id, reason, parked_at_us, \
                    event_type, event_version \
                 from {given} where true on conflict do nothing",
                given = dialect.given("$1", &parked_stream),
            )),
            insert_parked_events: text(format!(
                "insert into parked_events (read_model, generation, source, position, aggregate_type, aggregate_id) \
                 select {own}, source, position, aggregate_type, aggregate_id from {given} where true \
                 on conflict do nothing",
                given = dialect.given("$1", &parked_event),
            )),
            upsert_history: on(Part::History, &|table| dialect.upsert(table)),
            forget_history: on(Part::History, &|table| dialect.forget_history(table)),
            history_around: on(Part::History, &|table| dialect.history_around(table)),
            history_places: on(Part::History, &|table| dialect.history_places(table)),
            changes: ChangesStatements::new(&this, &own, dialect),
            // what is newer than what is there: several processes may have looked
            note_observed: text(format!(
                "insert into observed_heads \
                    (read_model, generation, source, head_position, observed_at_us, waiting_since_us) \
                 select {own}, source, head_position, observed_at_us, waiting_since_us from {given} where true \
                 on conflict (read_model, generation, source) do update set head_position = excluded.head_position, \
                    observed_at_us = excluded.observed_at_us, waiting_since_us = excluded.waiting_since_us \
                 where observed_heads.observed_at_us <= excluded.observed_at_us",
                given = dialect.given("$1", &observed),
            )),
            dump: texts(dialect.dump(&tables)),
            tables,
        }
    }
}

/// Sums are added to, and of times the later one stays.
fn change_groups(dialect: Dialect, template: &Template, table: &Table) -> String {
    let amounts = template.groups.map_or(&[][..], |groups| groups.amounts);
    let combine = |column: &Column| {
        let amount = amounts.iter().find(|amount| amount.column.name == column.name);
        amount.map_or(Combine::Sum, |Amount { combine, .. }| *combine)
    };
    dialect.upsert_with(table, |column| {
        let (held, came) = (format!("held.{}", column.name), format!("excluded.{}", column.name));
        match combine(column) {
            Combine::Sum => format!("{} = {held} + {came}", column.name),
            Combine::Latest => format!("{} = {}", column.name, dialect.larger(&held, &came)),
        }
    })
}

/// One row by its key, as JSON.
pub(crate) fn row_of(table: &Table, postgres: bool) -> Arc<str> {
    let object = Dialect { postgres }.object(&table.columns);
    format!("select {object} from {} where {} = $1", table.name, table.key[0]).into()
}

/// Some columns of a table as lines in key order.
pub(crate) fn dump_of(table: &Table, columns: &[Column], postgres: bool) -> Arc<str> {
    let (object, key) = (Dialect { postgres }.object(columns), table.key.join(", "));
    format!("select {object} from {} order by {key}", table.name).into()
}

fn named((name, kind): (&'static str, Kind)) -> Column {
    column(name, kind)
}
