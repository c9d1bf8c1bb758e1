//! The statements of one generation, made once from its template. A batch is one JSON parameter, so their number and
//! their text do not depend on its size.

use std::sync::Arc;

use read_side::template::{Column, Kind, ReferenceTemplate, Template, column};

/// Everything that is sent for a generation. Parameters are listed at each.
pub(crate) struct Statements {
    /// Makes the tables, in order.
    pub create: Vec<Arc<str>>,
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
    /// `$1` JSON array of {source, aggregate_type, aggregate_id, position, event_id, reason, parked_at_us}.
    pub insert_parked_streams: Arc<str>,
    /// `$1` JSON array of {source, position, aggregate_type, aggregate_id}.
    pub insert_parked_events: Arc<str>,
    /// Rows, references and links, each as lines in key order, for a hash.
    pub dump: Vec<Arc<str>>,
}

/// How a database spells what the two spell differently.
#[derive(Clone, Copy)]
struct Dialect {
    postgres: bool,
}

impl Statements {
    pub fn new(template: &Template, generation: i64, sources: &[&str], postgres: bool) -> Self {
        let dialect = Dialect { postgres };
        let table = template.table(generation);
        let links = template.links_table(generation);
        let this = format!("read_model = '{}' and generation = {generation}", template.name);
        let own = format!("'{}', {generation}", template.name);
        let key = template.key;
        let columns = row_columns(template);
        let references: Vec<(&ReferenceTemplate, String)> = template
            .references
            .iter()
            .map(|reference| (reference, template.reference_table(generation, reference.name)))
            .collect();
        let link_columns =
            [("reference", Kind::Text), ("foreign_key", Kind::Text), ("entity_key", Kind::Text)].map(named);
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
        ]
        .map(named);
        let parked_event = [
            ("source", Kind::Text),
            ("position", Kind::Integer),
            ("aggregate_type", Kind::Text),
            ("aggregate_id", Kind::Text),
        ]
        .map(named);
        let cursors =
            [("n", Kind::Integer), ("reference", Kind::Text), ("foreign_key", Kind::Text), ("after_key", Kind::Text)]
                .map(named);

        let text = |text: String| -> Arc<str> { text.into() };
        Self {
            create: dialect.create(template, generation, sources),
            drop: dialect.drop(template, generation),
            load_rows: text(format!(
                "select {key}, {facets} from {table} where {key} {in_keys}",
                facets = template.facets.join(", "),
                in_keys = dialect.in_keys(),
            )),
            upsert_rows: text(dialect.upsert(&table, &columns, key)),
            load_references: references
                .iter()
                .map(|(reference, table)| {
                    text(format!(
                        "select {key}, {state} from {table} where {key} {in_keys}",
                        key = reference.key,
                        state = dialect.object(reference.columns),
                        in_keys = dialect.in_keys(),
                    ))
                })
                .collect(),
            upsert_references: references
                .iter()
                .map(|(reference, table)| {
                    let mut columns = vec![named((reference.key, Kind::Text))];
                    columns.extend_from_slice(reference.columns);
                    text(dialect.upsert(table, &columns, reference.key))
                })
                .collect(),
            insert_links: text(format!(
                "insert into {links} (reference, foreign_key, entity_key) \
                 select reference, foreign_key, entity_key from {given} where true on conflict do nothing",
                given = dialect.given("$1", &link_columns),
            )),
            delete_links: text(format!(
                "delete from {links} where (reference, foreign_key, entity_key) in \
                 (select reference, foreign_key, entity_key from {given})",
                given = dialect.given("$1", &link_columns),
            )),
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
                    event_id, reason, parked_at_us) \
                 select {own}, source, aggregate_type, aggregate_id, position, event_id, reason, parked_at_us \
                 from {given} where true on conflict do nothing",
                given = dialect.given("$1", &parked_stream),
            )),
            insert_parked_events: text(format!(
                "insert into parked_events (read_model, generation, source, position, aggregate_type, aggregate_id) \
                 select {own}, source, position, aggregate_type, aggregate_id from {given} where true \
                 on conflict do nothing",
                given = dialect.given("$1", &parked_event),
            )),
            dump: dialect.dump(template, generation, &columns, &references),
        }
    }
}

/// Every column of a row: key, whether it is served, facets, what `derive` gives.
fn row_columns(template: &Template) -> Vec<Column> {
    let mut columns = vec![named((template.key, Kind::Text)), named((Template::SERVED, Kind::Boolean))];
    columns.extend(template.facets.iter().map(|facet| named((facet, Kind::Json))));
    columns.extend_from_slice(template.columns);
    columns
}

fn named((name, kind): (&'static str, Kind)) -> Column {
    column(name, kind)
}

fn names(columns: &[Column]) -> String {
    columns.iter().map(|column| column.name).collect::<Vec<_>>().join(", ")
}

impl Dialect {
    fn type_of(self, kind: Kind) -> &'static str {
        match (kind, self.postgres) {
            (Kind::Text | Kind::Json, true) => "text collate \"C\"",
            (Kind::Text | Kind::Json, false) => "text",
            (Kind::Integer, true) => "bigint",
            (Kind::Integer, false) => "integer",
            (Kind::Boolean, _) => "boolean",
        }
    }

    /// Keeps the fence as it is until the transaction ends. SQLite has one writer anyway.
    fn for_share(self) -> &'static str {
        if self.postgres { " for share" } else { "" }
    }

    /// One of the keys in `$1`.
    fn in_keys(self) -> &'static str {
        if self.postgres {
            "= any (array(select json_array_elements_text(cast($1 as json))))"
        } else {
            "in (select value from json_each($1))"
        }
    }

    /// The objects in a JSON parameter as a table.
    fn given(self, parameter: &str, columns: &[Column]) -> String {
        self.given_as(parameter, columns, "given")
    }

    fn given_as(self, parameter: &str, columns: &[Column], alias: &str) -> String {
        if self.postgres {
            let columns: Vec<_> =
                columns.iter().map(|column| format!("{} {}", column.name, self.type_of(column.kind))).collect();
            format!("json_to_recordset(cast({parameter} as json)) as {alias} ({})", columns.join(", "))
        } else {
            let columns: Vec<_> =
                columns.iter().map(|column| format!("object ->> '{0}' as {0}", column.name)).collect();
            // json_each writes an object out anew each time its value is asked for: once is half the work
            format!(
                "(with objects as materialized (select value as object from json_each({parameter})) \
                 select {} from objects) as {alias}",
                columns.join(", ")
            )
        }
    }

    fn upsert(self, table: &str, columns: &[Column], key: &str) -> String {
        let names = names(columns);
        let sets: Vec<_> = columns
            .iter()
            .filter(|column| column.name != key)
            .map(|column| format!("{0} = excluded.{0}", column.name))
            .collect();
        format!(
            "insert into {table} ({names}) select {names} from {given} where true \
             on conflict ({key}) do update set {sets}",
            given = self.given("$1", columns),
            sets = sets.join(", "),
        )
    }

    /// Columns as one JSON object in text.
    fn object(self, columns: &[Column]) -> String {
        let fields: Vec<_> = columns
            .iter()
            .map(|column| match (column.kind, self.postgres) {
                // SQLite has numbers for truth values
                (Kind::Boolean, false) => format!(
                    "'{0}', json(case when {0} is null then 'null' when {0} then 'true' else 'false' end)",
                    column.name
                ),
                (Kind::Json, false) => format!("'{0}', json({0})", column.name),
                (Kind::Json, true) => format!("'{0}', cast({0} as json)", column.name),
                _ => format!("'{0}', {0}", column.name),
            })
            .collect();
        let fields = fields.join(", ");
        if self.postgres { format!("json_build_object({fields})::text") } else { format!("json_object({fields})") }
    }

    fn create(self, template: &Template, generation: i64, sources: &[&str]) -> Vec<Arc<str>> {
        let table = template.table(generation);
        let typed = |columns: &[Column]| -> String {
            columns.iter().map(|column| format!(", {} {}", column.name, self.type_of(column.kind))).collect()
        };
        let text = self.type_of(Kind::Text);
        let mut create = vec![format!(
            "create table {table} ({key} {text} not null primary key, served boolean not null{facets}{columns})",
            key = template.key,
            facets = template.facets.iter().map(|facet| format!(", {facet} {text}")).collect::<String>(),
            columns = typed(template.columns),
        )];
        for (suffix, columns) in template.indexes {
            create.push(format!("create index {table}_by_{suffix} on {table} ({columns}) where served"));
        }
        for reference in template.references {
            create.push(format!(
                "create table {table} ({key} {text} not null primary key{columns})",
                table = template.reference_table(generation, reference.name),
                key = reference.key,
                columns = typed(reference.columns),
            ));
        }
        create.push(format!(
            "create table {links} (reference {text} not null, foreign_key {text} not null, entity_key {text} not null, \
             primary key (reference, foreign_key, entity_key)){without_rowid}",
            links = template.links_table(generation),
            without_rowid = if self.postgres { "" } else { " without rowid" },
        ));
        let own = format!("'{}', {generation}", template.name);
        create.push(format!("insert into fences (read_model, generation, fence) values ({own}, 0)"));
        for source in sources {
            create.push(format!(
                "insert into checkpoints (read_model, generation, source, epoch, position, event_id, \
                    event_recorded_at_us, head_position, applied_at_us) \
                 values ({own}, '{source}', null, 0, null, 0, 0, 0)"
            ));
        }
        create.into_iter().map(Into::into).collect()
    }

    fn drop(self, template: &Template, generation: i64) -> Vec<Arc<str>> {
        let mut drop = vec![template.table(generation), template.links_table(generation)];
        drop.extend(template.references.iter().map(|reference| template.reference_table(generation, reference.name)));
        let tables = drop.into_iter().map(|table| format!("drop table if exists {table}"));
        let of = ["fences", "checkpoints", "applied_anchors", "fan_outs", "parked_streams", "parked_events"];
        let rows = of.into_iter().map(|table| {
            format!("delete from {table} where read_model = '{}' and generation = {generation}", template.name)
        });
        tables.chain(rows).map(Into::into).collect()
    }

    fn dump(
        self,
        template: &Template,
        generation: i64,
        columns: &[Column],
        references: &[(&ReferenceTemplate, String)],
    ) -> Vec<Arc<str>> {
        let select = |table: &str, columns: &[Column], keys: &str| {
            format!("select {} from {table} order by {keys}", self.object(columns))
        };
        let mut dump = vec![select(&template.table(generation), columns, template.key)];
        for (reference, table) in references {
            let mut columns = vec![named((reference.key, Kind::Text))];
            columns.extend_from_slice(reference.columns);
            dump.push(select(table, &columns, reference.key));
        }
        let link = [("reference", Kind::Text), ("foreign_key", Kind::Text), ("entity_key", Kind::Text)].map(named);
        dump.push(select(&template.links_table(generation), &link, "reference, foreign_key, entity_key"));
        dump.into_iter().map(Into::into).collect()
    }
}
