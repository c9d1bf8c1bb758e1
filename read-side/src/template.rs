//! What the tables of a read model look like. The engine in projections makes them from this, once per generation, on
//! either database; readers find them by the same names.
//!
//! Generation 7 of `order_details` has the tables `order_details_g7` (rows), `order_details_g7_customer` (a reference)
//! and `order_details_g7_links` (which row refers to what). Names that carry the generation keep a reader with an older
//! snapshot on the table it began with.

/// One read model: rows of facets, and the references they point to.
#[derive(Debug)]
pub struct Template {
    /// Also the name of its table, before the generation.
    pub name: &'static str,
    /// The key column of a row.
    pub key: &'static str,
    /// Whose events its rows are made of. A generation that an older version made may not follow all of them.
    pub sources: &'static [&'static str],
    /// A column per facet that holds the facet's state as JSON; null until its first event.
    pub facets: &'static [&'static str],
    /// What `derive` gives: null in a row that is not served yet.
    pub columns: &'static [Column],
    /// Secondary indexes over served rows: (suffix of the name, what is indexed).
    pub indexes: &'static [(&'static str, &'static str)],
    pub references: &'static [ReferenceTemplate],
}

/// Rows keyed by a foreign id, one state each, that rows of the read model refer to.
#[derive(Debug)]
pub struct ReferenceTemplate {
    /// Also the suffix of its table.
    pub name: &'static str,
    pub key: &'static str,
    /// The state's fields, by the names under which it is serialized.
    pub columns: &'static [Column],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    pub name: &'static str,
    pub kind: Kind,
    /// The first `VERSION` whose generations have it. Read models only grow, so that a reader can read the generation of
    /// an older version until that of its own is swapped in.
    pub since: i64,
}

/// The generation that readers read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Live {
    pub generation: i64,
    /// `VERSION` of the fold that made it.
    pub version: i64,
}

/// What a column holds. Ids are text on both databases, times are microseconds, money is minor units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Compared byte by byte on both databases.
    Text,
    Integer,
    Boolean,
    /// JSON as text.
    Json,
}

/// A column that has always been there.
pub const fn column(name: &'static str, kind: Kind) -> Column {
    column_since(1, name, kind)
}

/// A column that `version` has brought.
pub const fn column_since(version: i64, name: &'static str, kind: Kind) -> Column {
    Column { name, kind, since: version }
}

impl Template {
    /// Says whether a row is served: its root facet is there.
    pub const SERVED: &'static str = "served";

    pub fn table(&self, generation: i64) -> String {
        format!("{}_g{generation}", self.name)
    }

    /// `select .. from` with key and columns of the rows; a column that is younger than the generation is null.
    pub fn select_rows(&self, live: Live) -> String {
        let column = |column: &Column| {
            if column.since <= live.version {
                column.name.to_owned()
            } else {
                let kind = match column.kind {
                    Kind::Text | Kind::Json => "text",
                    Kind::Integer => "bigint",
                    Kind::Boolean => "boolean",
                };
                format!("cast(null as {kind}) as {}", column.name)
            }
        };
        let columns: Vec<String> = self.columns.iter().map(column).collect();
        format!("select {}, {} from {}", self.key, columns.join(", "), self.table(live.generation))
    }

    pub fn reference_table(&self, generation: i64, reference: &str) -> String {
        format!("{}_g{generation}_{reference}", self.name)
    }

    pub fn links_table(&self, generation: i64) -> String {
        format!("{}_g{generation}_links", self.name)
    }

    pub fn reference(&self, name: &str) -> Option<&'static ReferenceTemplate> {
        self.references.iter().find(|reference| reference.name == name)
    }
}
