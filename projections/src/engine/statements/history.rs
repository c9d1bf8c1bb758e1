//! What is said about the history of a generation, beside what is said about every table.

use read_side::template::{Column, Kind};

use super::{
    dialect::Dialect,
    named,
    tables::{Part, Table},
};

/// The table of a generation's history, by the name of the table.
pub(super) fn table(name: String) -> Table {
    let columns = [
        ("key", Kind::Text),
        ("part", Kind::Text),
        ("position", Kind::Integer),
        ("recorded_at_us", Kind::Integer),
        ("state", Kind::Json),
    ];
    // the key first: all parts of a row lie together
    Table { part: Part::History, name, columns: columns.map(named).to_vec(), key: vec!["key", "part", "position"] }
}

impl Dialect {
    /// `$1` JSON array of {key, part, position}: what was before goes.
    pub fn forget_history(self, table: &Table) -> String {
        let (name, erased) = (&table.name, self.given_as("$1", &table.columns[..3], "erased"));
        let is_before = "h.key = erased.key and h.part = erased.part and h.position < erased.position";
        if self.postgres {
            format!("delete from {name} h using {erased} where {is_before}")
        } else {
            format!(
                "delete from {name} where rowid in (select h.rowid from {erased} cross join {name} h where {is_before})"
            )
        }
    }

    /// `$1` JSON array of {key, part, position} -> part, key, position, state: the last one before it, and, without their
    /// states, those behind it.
    pub fn history_around(self, table: &Table) -> String {
        let (name, asked) = (&table.name, self.given_as("$1", &table.columns[..3], "asked"));
        format!(
            "select h.part, h.key, cast(h.position as text), case when h.position < asked.position then h.state end \
             from {asked} cross join {name} h where h.key = asked.key and h.part = asked.part \
                and (h.position > asked.position or h.position = (select max(b.position) from {name} b \
                    where b.key = asked.key and b.part = asked.part and b.position < asked.position))"
        )
    }

    /// `$1` JSON array of {key, part}, `$2` limit -> part, key, position; in order of time.
    pub fn history_places(self, table: &Table) -> String {
        let asked: Vec<Column> = table.columns[..2].to_vec();
        format!(
            "select h.part, h.key, cast(h.position as text) from {asked} cross join {name} h \
             where h.key = asked.key and h.part = asked.part \
             order by h.recorded_at_us, h.part, h.key, h.position limit $2",
            asked = self.given_as("$1", &asked, "asked"),
            name = table.name,
        )
    }
}
