//! The tables of a generation: what each holds, and how they are made and removed.

use read_side::template::{Amount, Column, Kind, Template, column};

use super::{
    dialect::{Dialect, names},
    history,
};

/// One table of a generation.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    pub part: Part,
    pub name: String,
    /// The key's columns first.
    pub columns: Vec<Column>,
    pub key: Vec<&'static str>,
}

/// Which table of a generation it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Rows,
    /// By its place in the template.
    Reference(usize),
    Links,
    Groups,
    Entries,
    History,
}

/// Every table of a generation, in the order in which they are made, hashed and compared.
pub(crate) fn tables(template: &Template, generation: i64) -> Vec<Table> {
    let mut tables = Vec::new();
    if !template.facets.is_empty() {
        let mut columns = vec![named(template.key, Kind::Text), named(Template::SERVED, Kind::Boolean)];
        columns.extend(template.facets.iter().map(|facet| named(facet, Kind::Json)));
        columns.extend_from_slice(template.columns);
        tables.push(Table { part: Part::Rows, name: template.table(generation), columns, key: vec![template.key] });
    }
    for (place, reference) in template.references.iter().enumerate() {
        let mut columns = vec![named(reference.key, Kind::Text)];
        columns.extend_from_slice(reference.columns);
        let name = template.reference_table(generation, reference.name);
        tables.push(Table { part: Part::Reference(place), name, columns, key: vec![reference.key] });
    }
    if !template.facets.is_empty() {
        let key = vec!["reference", "foreign_key", "entity_key"];
        let columns = texts(&key);
        tables.push(Table { part: Part::Links, name: template.links_table(generation), columns, key });
    }
    if let Some(groups) = &template.groups {
        let key = groups.key.to_vec();
        let mut columns = texts(&key);
        columns.push(named(Template::CONTRIBUTORS, Kind::Integer));
        columns.extend(groups.amounts.iter().map(|Amount { column, .. }| *column));
        tables.push(Table { part: Part::Groups, name: template.groups_table(generation), columns, key });
    }
    if let Some(entries) = &template.entries {
        let key = vec![template.key, "source", "position", "part"];
        let kinds = [Kind::Text, Kind::Text, Kind::Integer, Kind::Integer];
        let mut columns: Vec<Column> = key.iter().zip(kinds).map(|(name, kind)| named(name, kind)).collect();
        columns.extend_from_slice(entries.columns);
        tables.push(Table { part: Part::Entries, name: template.entries_table(generation), columns, key });
    }
    if template.history {
        tables.push(history::table(template.history_table(generation)));
    }
    tables
}

fn named(name: &'static str, kind: Kind) -> Column {
    column(name, kind)
}

fn texts(names: &[&'static str]) -> Vec<Column> {
    names.iter().map(|name| named(name, Kind::Text)).collect()
}

/// Rows that fit a page are not compressed: that took a third of the time of whatever writes them (pglz), and every read
/// paid again. <https://www.postgresql.org/docs/current/sql-createtable.html#RELOPTION-TOAST-TUPLE-TARGET>
const IN_ONE_PIECE: &str = " with (toast_tuple_target = 8160)";

impl Table {
    pub fn is_key(&self, column: &Column) -> bool {
        self.key.contains(&column.name)
    }

    fn is_required(&self, column: &Column) -> bool {
        self.is_key(column)
            || match self.part {
                Part::Rows => column.name == Template::SERVED,
                Part::Groups | Part::History => true,
                Part::Reference(_) | Part::Links | Part::Entries => false,
            }
    }

    /// Small rows that are looked for by stretches of their key lie in its order. SQLite only.
    fn lies_in_key_order(&self) -> bool {
        match self.part {
            Part::Rows | Part::Reference(_) | Part::History => false,
            Part::Links | Part::Groups | Part::Entries => true,
        }
    }
}

impl Dialect {
    /// Makes the tables, and the generation's fence and checkpoints.
    pub fn create_tables(
        self,
        template: &Template,
        tables: &[Table],
        generation: i64,
        sources: &[&str],
    ) -> Vec<String> {
        let mut create: Vec<String> = tables.iter().map(|table| self.create_table(template, table)).collect();
        let own = format!("'{}', {generation}", template.name);
        create.push(format!("insert into fences (read_model, generation, fence) values ({own}, 0)"));
        for source in sources {
            create.push(format!(
                "insert into checkpoints (read_model, generation, source, epoch, position, event_id, \
                    event_recorded_at_us, head_position, applied_at_us) \
                 values ({own}, '{source}', null, 0, null, 0, 0, 0)"
            ));
        }
        create
    }

    fn create_table(self, template: &Template, table: &Table) -> String {
        let column = |column: &Column| {
            let required = if table.is_required(column) { " not null" } else { "" };
            format!("{} {}{required}", column.name, self.type_of(column.kind))
        };
        // what is long comes last: whoever wants the others, as an index that is made, need not read past it
        let mut columns: Vec<&Column> = table.columns.iter().collect();
        columns.sort_by_key(|column| (template.facets.contains(&column.name), column.kind == Kind::Json));
        let columns = columns.into_iter().map(column).collect::<Vec<_>>().join(", ");
        let (name, key) = (&table.name, table.key.join(", "));
        if !self.postgres && table.part == Part::Rows && template.search.is_some() {
            // the full-text index knows rows by number, and only a number of the table's own outlives a vacuum
            return format!("create table {name} (place integer primary key, {columns}, unique ({key}))");
        }
        let without_rowid = if !self.postgres && table.lies_in_key_order() { " without rowid" } else { "" };
        let in_one_piece = if self.postgres && table.part == Part::Rows { IN_ONE_PIECE } else { "" };
        format!("create table {name} ({columns}, primary key ({key})){without_rowid}{in_one_piece}")
    }

    /// Makes what only finds rows, over tables that may hold some already. Each may be sent again.
    pub fn create_indexes(self, template: &Template, generation: i64) -> Vec<String> {
        let mut create = self.create_plain_indexes(template, generation);
        if let Some(words) = template.search {
            create.extend(self.create_search(template, generation, words));
        }
        create
    }

    /// As [`Self::create_indexes`], without the index over words: that is filled anew whenever it is sent again, and these
    /// cost nothing where they are there.
    pub fn create_plain_indexes(self, template: &Template, generation: i64) -> Vec<String> {
        let table = template.table(generation);
        let index = |table: &str, (suffix, columns): &(&str, &str), only: &str| {
            format!("create index if not exists {table}_by_{suffix} on {table} ({columns}){only}")
        };
        let mut create: Vec<String> =
            template.indexes.iter().map(|columns| index(&table, columns, " where served")).collect();
        for (reference, suffix, columns) in template.reference_indexes {
            create.push(index(&template.reference_table(generation, reference), &(suffix, columns), ""));
        }
        if let Some(groups) = &template.groups {
            let table = template.groups_table(generation);
            create.extend(groups.indexes.iter().map(|columns| index(&table, columns, "")));
        }
        if let Some(entries) = &template.entries {
            let table = template.entries_table(generation);
            create.extend(entries.indexes.iter().map(|columns| index(&table, columns, "")));
        }
        create
    }

    /// The full-text index over the column `words`. It follows the rows by itself.
    fn create_search(self, template: &Template, generation: i64, words: &str) -> Vec<String> {
        let (table, search) = (template.table(generation), template.search_table(generation));
        if self.postgres {
            // no pending list: a search would have to read all of it
            return vec![format!(
                "create index if not exists {search} on {table} using gin ({}) with (fastupdate = off) where served",
                Template::postgres_words(words)
            )];
        }
        let forget = format!(
            "insert into {search} ({search}, rowid, {words}) \
             select 'delete', old.place, old.{words} where old.{words} is not null;"
        );
        let add = format!(
            "insert into {search} (rowid, {words}) select new.place, new.{words} where new.{words} is not null;"
        );
        vec![
            // the words are made and folded by us: whatever is between two spaces is one. Not `detail = 'none'`: with that,
            // secure-delete loses rows (SQLite 3.51.3: a word that a transaction takes from a row and gives back)
            format!(
                "create virtual table if not exists {search} using fts5 ({words}, content = '{table}', \
                 content_rowid = 'place', tokenize = 'ascii', detail = 'column', columnsize = 0)"
            ),
            // the words of who was erased are taken out, not only marked as gone
            format!("insert into {search} ({search}, rank) values ('secure-delete', 1)"),
            format!("create trigger if not exists {search}_add after insert on {table} begin {add} end"),
            format!(
                "create trigger if not exists {search}_change after update of {words} on {table} \
                 when old.{words} is not new.{words} begin {forget} {add} end"
            ),
            format!("create trigger if not exists {search}_remove after delete on {table} begin {forget} end"),
            format!("insert into {search} ({search}) values ('rebuild')"),
        ]
    }

    /// Removes the tables and what is known of the generation.
    pub fn drop(self, template: &Template, tables: &[Table], generation: i64) -> Vec<String> {
        let tables = tables.iter().map(|table| format!("drop table if exists {}", table.name));
        let of = [
            "fences",
            "checkpoints",
            "applied_anchors",
            "fan_outs",
            "parked_streams",
            "parked_events",
            "changes",
            "observed_heads",
        ];
        let rows = of.into_iter().map(|table| {
            format!("delete from {table} where read_model = '{}' and generation = {generation}", template.name)
        });
        tables.chain([self.drop_load(template, generation)]).chain(rows).collect()
    }

    /// Each table as lines in key order, for a hash.
    pub fn dump(self, tables: &[Table]) -> Vec<String> {
        let select = |table: &Table| {
            format!("select {} from {} order by {}", self.object(&table.columns), table.name, table.key.join(", "))
        };
        tables.iter().map(select).collect()
    }

    /// `$1` keys -> key and state of a reference.
    pub fn load_states(self, table: &Table) -> String {
        let key = table.key[0];
        let state = self.object(&table.columns[1..]);
        format!("select {key}, {state} from {} where {key} {}", table.name, self.in_keys())
    }

    /// `$1` rows of a table without more columns than its key: added where they are not there.
    pub fn insert_keys(self, table: &Table) -> String {
        let names = names(&table.columns);
        let given = self.given("$1", &table.columns);
        format!("insert into {} ({names}) select {names} from {given} where true on conflict do nothing", table.name)
    }

    /// `$1` rows of a table: those under their keys are removed, if `only` allows.
    pub fn delete_keys(self, table: &Table, only: &str) -> String {
        let key: Vec<Column> = table.columns.iter().filter(|column| table.is_key(column)).copied().collect();
        let (names, given) = (names(&key), self.given("$1", &key));
        format!("delete from {} where ({names}) in (select {names} from {given}){only}", table.name)
    }
}
