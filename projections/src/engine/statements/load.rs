//! What is said while a generation is loaded.
//!
//! The tables are those of the generation, without their indexes. Links come in no order of their key, and nobody reads
//! them before the end: they are collected in a table without a key. That this table is there says that the load is not
//! finished.

use std::sync::Arc;

use read_side::template::{Column, Kind, Template};

use super::{
    dialect::{Dialect, names},
    tables::{Part, Table},
};

/// Rows of one SQLite statement, most first: each is a hop to SQLite's thread and back. Fewer where the
/// table is so wide that they were more than [`PARAMETERS_MAX`] values.
const INSERT_ROWS: [usize; 4] = [512, 64, 8, 1];
/// Of one SQLite statement, as it is built by default: <https://www.sqlite.org/limits.html#max_variable_number>
const PARAMETERS_MAX: usize = 32_766;

/// A table that rows are added to.
pub(crate) struct Target {
    pub columns: Vec<Column>,
    /// PostgreSQL.
    pub copy: String,
    /// SQLite: how many rows a statement takes, and its text.
    pub inserts: Vec<(usize, Arc<str>)>,
}

pub(crate) struct LoadStatements {
    /// As the others, without columns where there is no such table.
    pub rows: Target,
    /// By reference.
    pub references: Vec<Target>,
    pub links: Target,
    pub entries: Target,
    pub history: Target,
    /// `$1` JSON array of {reference, foreign_key, entity_key}.
    pub delete_links: Arc<str>,
    /// -> every key that has a row.
    pub row_keys: Arc<str>,
    /// As `row_keys`, by reference.
    pub reference_keys: Vec<Arc<str>>,
}

impl Target {
    pub fn new(table: &Table) -> Self {
        Self::of(&table.name, table.columns.clone())
    }

    pub fn of(name: &str, columns: Vec<Column>) -> Self {
        let names = names(&columns);
        let fitting = INSERT_ROWS.into_iter().filter(|rows| rows * columns.len() <= PARAMETERS_MAX);
        let inserts = fitting.map(|rows| {
            let row = format!("({})", vec!["?"; columns.len()].join(", "));
            (rows, format!("insert into {name} ({names}) values {}", vec![&*row; rows].join(", ")).into())
        });
        Self { copy: format!("copy {name} ({names}) from stdin (format binary)"), inserts: inserts.collect(), columns }
    }

    fn none() -> Self {
        Self { columns: Vec::new(), copy: String::new(), inserts: Vec::new() }
    }
}

impl LoadStatements {
    pub fn new(template: &Template, generation: i64, tables: &[Table], postgres: bool) -> Self {
        let dialect = Dialect { postgres };
        let table = |part: Part| tables.iter().find(|table| table.part == part);
        let loading =
            table(Part::Links).map(|links| Table { name: loading_table(template, generation), ..links.clone() });
        let references: Vec<&Table> = tables.iter().filter(|table| matches!(table.part, Part::Reference(_))).collect();
        let keys = |table: &Table| -> Arc<str> { format!("select {} from {}", table.key[0], table.name).into() };
        Self {
            rows: table(Part::Rows).map_or_else(Target::none, Target::new),
            references: references.iter().map(|table| Target::new(table)).collect(),
            links: loading.as_ref().map_or_else(Target::none, Target::new),
            entries: table(Part::Entries).map_or_else(Target::none, Target::new),
            history: table(Part::History).map_or_else(Target::none, Target::new),
            delete_links: loading.map(|loading| dialect.delete_keys(&loading, "")).unwrap_or_default().into(),
            row_keys: table(Part::Rows).map(keys).unwrap_or_else(|| "".into()),
            reference_keys: references.into_iter().map(keys).collect(),
        }
    }
}

/// PostgreSQL: what becomes the key of the links.
fn links_key_index(loading: &str, links: &Table) -> String {
    format!("create unique index if not exists {loading}_key on {loading} ({})", links.key.join(", "))
}

fn loading_table(template: &Template, generation: i64) -> String {
    format!("{}_loading", template.table(generation))
}

impl Dialect {
    /// Makes an empty generation one that is to be loaded: without indexes, and with a place for links.
    pub fn begin_load(self, template: &Template, generation: i64) -> Vec<String> {
        let (loading, text) = (loading_table(template, generation), self.type_of(Kind::Text));
        let mut begin = self.drop_indexes(template, generation);
        begin.push(format!(
            "create table {loading} \
             (reference {text} not null, foreign_key {text} not null, entity_key {text} not null)"
        ));
        begin
    }

    /// The opposite of [`Self::create_indexes`].
    fn drop_indexes(self, template: &Template, generation: i64) -> Vec<String> {
        let drop = |table: &str, (suffix, _): &(&str, &str)| format!("drop index if exists {table}_by_{suffix}");
        let table = template.table(generation);
        let mut drops: Vec<String> = template.indexes.iter().map(|index| drop(&table, index)).collect();
        for (reference, suffix, columns) in template.reference_indexes {
            drops.push(drop(&template.reference_table(generation, reference), &(suffix, columns)));
        }
        if let Some(groups) = &template.groups {
            let table = template.groups_table(generation);
            drops.extend(groups.indexes.iter().map(|index| drop(&table, index)));
        }
        if let Some(entries) = &template.entries {
            let table = template.entries_table(generation);
            drops.extend(entries.indexes.iter().map(|index| drop(&table, index)));
        }
        if template.search.is_some() {
            let search = template.search_table(generation);
            if self.postgres {
                drops.push(format!("drop index if exists {search}"));
            } else {
                let triggers = ["add", "change", "remove"];
                drops.extend(triggers.map(|trigger| format!("drop trigger if exists {search}_{trigger}")));
                drops.push(format!("drop table if exists {search}"));
            }
        }
        drops
    }

    /// What of [`Self::finish_load`] may be done before it and side by side, each by itself and as often as wanted: on
    /// PostgreSQL, where several connections write. It costs most of the time.
    pub fn prepare_finish(self, template: &Template, tables: &[Table], generation: i64) -> Vec<String> {
        if !self.postgres {
            return Vec::new();
        }
        let links = tables.iter().find(|table| table.part == Part::Links);
        let key = links.map(|links| links_key_index(&loading_table(template, generation), links));
        key.into_iter().chain(self.create_indexes(template, generation)).collect()
    }

    /// Makes a loaded generation a whole one.
    pub fn finish_load(self, template: &Template, tables: &[Table], generation: i64) -> Vec<String> {
        let mut finish = self.finish_links(template, tables, generation);
        finish.extend(self.create_indexes(template, generation));
        finish
    }

    fn finish_links(self, template: &Template, tables: &[Table], generation: i64) -> Vec<String> {
        let loading = loading_table(template, generation);
        let Some(links) = tables.iter().find(|table| table.part == Part::Links) else {
            return vec![format!("drop table {loading}")];
        };
        let key_index = links_key_index(&loading, links);
        let (links, key) = (&links.name, links.key.join(", "));
        if self.postgres {
            return vec![
                key_index,
                format!("drop table {links}"),
                format!("alter table {loading} rename to {links}"),
                format!("alter table {links} add constraint {links}_pkey primary key using index {loading}_key"),
            ];
        }
        vec![
            // in the order of the key, so that each page is written once
            format!("insert into {links} ({key}) select {key} from {loading} order by {key}"),
            format!("drop table {loading}"),
        ]
    }

    /// Removes what a load that was not finished has left.
    pub fn drop_load(self, template: &Template, generation: i64) -> String {
        format!("drop table if exists {}", loading_table(template, generation))
    }

    /// -> a row if the load is not finished.
    pub fn is_loading(self, template: &Template, generation: i64) -> String {
        let loading = loading_table(template, generation);
        match self.postgres {
            true => format!("select relname::text from pg_class where oid = to_regclass('{loading}')"),
            false => format!("select name from sqlite_master where type = 'table' and name = '{loading}'"),
        }
    }
}
