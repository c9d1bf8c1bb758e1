//! How a database spells what the two spell differently.

use read_side::template::{Column, Kind};

use super::tables::Table;

#[derive(Clone, Copy)]
pub(super) struct Dialect {
    pub postgres: bool,
}

impl Dialect {
    pub fn type_of(self, kind: Kind) -> &'static str {
        match (kind, self.postgres) {
            (Kind::Text | Kind::Json, true) => "text collate \"C\"",
            (Kind::Text | Kind::Json, false) => "text",
            (Kind::Integer, true) => "bigint",
            (Kind::Integer, false) => "integer",
            (Kind::Boolean, _) => "boolean",
        }
    }

    /// Keeps the fence as it is until the transaction ends. SQLite has one writer anyway.
    pub fn for_share(self) -> &'static str {
        if self.postgres { " for share" } else { "" }
    }

    /// One of the keys in `$1`.
    pub fn in_keys(self) -> &'static str {
        if self.postgres {
            "= any (array(select json_array_elements_text(cast($1 as json))))"
        } else {
            "in (select value from json_each($1))"
        }
    }

    /// The objects in a JSON parameter as a table.
    pub fn given(self, parameter: &str, columns: &[Column]) -> String {
        self.given_as(parameter, columns, "given")
    }

    pub fn given_as(self, parameter: &str, columns: &[Column], alias: &str) -> String {
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

    /// Writes rows of `table`, over what is there under their keys.
    pub fn upsert(self, table: &Table) -> String {
        self.upsert_with(table, |column| format!("{0} = excluded.{0}", column.name))
    }

    /// Writes rows of `table`; where the key is there already, `set` says what becomes of a column: `held` is the row that
    /// is there, `excluded` the one that came.
    pub fn upsert_with(self, table: &Table, set: impl Fn(&Column) -> String) -> String {
        let names = names(&table.columns);
        let sets: Vec<_> = table.columns.iter().filter(|column| !table.is_key(column)).map(set).collect();
        format!(
            "insert into {name} as held ({names}) select {names} from {given} where true \
             on conflict ({key}) do update set {sets}",
            name = table.name,
            given = self.given("$1", &table.columns),
            key = table.key.join(", "),
            sets = sets.join(", "),
        )
    }

    /// The larger of two.
    pub fn larger(self, one: &str, other: &str) -> String {
        if self.postgres { format!("greatest({one}, {other})") } else { format!("max({one}, {other})") }
    }

    /// Columns as one JSON object in text.
    pub fn object(self, columns: &[Column]) -> String {
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
}

/// The columns' names, as a list.
pub(super) fn names(columns: &[Column]) -> String {
    columns.iter().map(|column| column.name).collect::<Vec<_>>().join(", ")
}
