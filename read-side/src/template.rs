//! What the tables of a read model look like. The engine in projections makes them from this, once per generation, on
//! either database; readers find them by the same names.
//!
//! Generation 7 of `order_details` has the tables `order_details_g7` (rows), `order_details_g7_customer` (a reference)
//! and `order_details_g7_links` (which row refers to what). Names that carry the generation keep a reader with an older
//! snapshot on the table it began with.
//!
//! A read model has one of four shapes, or any mixture of them; each is a table more or less:
//! - **entity**: rows of facets, with the columns that are derived from them;
//! - **reference**: what rows refer to, by a foreign id;
//! - **list**: entries that events add and nothing changes ([`EntriesTemplate`]);
//! - **roll-up**: groups that rows add up to ([`GroupsTemplate`]).

/// One read model.
#[derive(Debug, Clone, Copy)]
pub struct Template {
    /// Also the name of its table, before the generation.
    pub name: &'static str,
    /// The key column of a row, and of an entry.
    pub key: &'static str,
    /// Whose events its rows are made of. A generation that an older version made may not follow all of them.
    pub sources: &'static [&'static str],
    /// A column per facet that holds the facet's state as JSON; null until its first event. Without facets there are no
    /// rows, and no table for them.
    pub facets: &'static [&'static str],
    /// What `derive` gives: null in a row that is not served yet.
    pub columns: &'static [Column],
    /// Secondary indexes over served rows: (suffix of the name, what is indexed).
    pub indexes: &'static [(&'static str, &'static str)],
    pub references: &'static [ReferenceTemplate],
    /// Secondary indexes over references: (its name, suffix of the name, what is indexed).
    pub reference_indexes: &'static [(&'static str, &'static str, &'static str)],
    /// What the rows add up to.
    pub groups: Option<GroupsTemplate>,
    /// What events add to a list.
    pub entries: Option<EntriesTemplate>,
    /// The column that rows are found by, a text that [`crate::words`] makes.
    pub search: Option<&'static str>,
    /// Whether every state that a facet or a reference has ever had is kept.
    pub history: bool,
}

/// Rows keyed by a foreign id, one state each, that rows of the read model refer to.
#[derive(Debug, Clone, Copy)]
pub struct ReferenceTemplate {
    /// Also the suffix of its table.
    pub name: &'static str,
    pub key: &'static str,
    /// The state's fields, by the names under which it is serialized.
    pub columns: &'static [Column],
}

/// What rows add up to, by key: each row contributes to some groups, and when it changes, they change by the difference.
/// A group is there as long as a row contributes to it.
#[derive(Debug, Clone, Copy)]
pub struct GroupsTemplate {
    /// Columns of text.
    pub key: &'static [&'static str],
    pub amounts: &'static [Amount],
    /// Secondary indexes: (suffix of the name, what is indexed).
    pub indexes: &'static [(&'static str, &'static str)],
}

/// An integer column of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Amount {
    pub column: Column,
    pub combine: Combine,
}

/// What a group makes of its rows' contributions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Combine {
    Sum,
    /// The largest that any row has contributed. What a row contributes never falls and is never taken back, because
    /// nobody knows the second largest.
    Latest,
}

/// Entries that events add under a key. An entry is never changed, so it holds nothing personal: it could not be erased.
#[derive(Debug, Clone, Copy)]
pub struct EntriesTemplate {
    /// Beside the key, the source, the position in it and the part, from 0, where an event adds several.
    pub columns: &'static [Column],
    /// Secondary indexes: (suffix of the name, what is indexed).
    pub indexes: &'static [(&'static str, &'static str)],
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

/// An amount that rows are added up in.
pub const fn sum(name: &'static str) -> Amount {
    Amount { column: column(name, Kind::Integer), combine: Combine::Sum }
}

/// An amount of which the largest counts: a time, mostly.
pub const fn latest(name: &'static str) -> Amount {
    Amount { column: column(name, Kind::Integer), combine: Combine::Latest }
}

impl Template {
    /// Nothing at all, to be filled with what a read model has.
    pub const BLANK: Self = Self {
        name: "",
        key: "",
        sources: &[],
        facets: &[],
        columns: &[],
        indexes: &[],
        references: &[],
        reference_indexes: &[],
        groups: None,
        entries: None,
        search: None,
        history: false,
    };

    /// Says whether a row is served: its root facet is there.
    pub const SERVED: &'static str = "served";
    /// How many rows contribute to a group.
    pub const CONTRIBUTORS: &'static str = "contributors";

    pub fn table(&self, generation: i64) -> String {
        format!("{}_g{generation}", self.name)
    }

    /// `select .. from` with key and columns of the rows; a column that is younger than the generation is null.
    pub fn select_rows(&self, live: Live) -> String {
        let columns: Vec<String> = self.columns.iter().map(|column| column.selected(live)).collect();
        format!("select {}, {} from {}", self.key, columns.join(", "), self.table(live.generation))
    }

    /// `select ..` with the key and those columns whose places are `wanted`; one that is younger than the generation is null.
    pub fn select_only(&self, live: Live, wanted: impl Fn(usize) -> bool) -> String {
        let columns = self.columns.iter().enumerate().filter(|(place, _)| wanted(*place));
        let columns = columns.map(|(_, column)| column.selected(live));
        let columns: Vec<String> = std::iter::once(self.key.to_owned()).chain(columns).collect();
        format!("select {}", columns.join(", "))
    }

    /// The amounts of `groups` in a select; one that is younger than the generation is null.
    pub fn select_amounts(&self, live: Live, groups: &str) -> String {
        let amounts = self.groups.map_or(&[][..], |groups| groups.amounts);
        let amount = |Amount { column, .. }: &Amount| match column.selected(live) {
            name if name == column.name => format!("{groups}.{name}"),
            null => null,
        };
        amounts.iter().map(amount).collect::<Vec<_>>().join(", ")
    }

    /// The columns of an entry in a select; one that is younger than the generation is null.
    pub fn select_entry(&self, live: Live) -> String {
        let columns = self.entries.map_or(&[][..], |entries| entries.columns);
        columns.iter().map(|column| column.selected(live)).collect::<Vec<_>>().join(", ")
    }

    /// How many rows there are that can be asked for: served rows, groups, or entries.
    pub fn count_served(&self, generation: i64) -> String {
        let table = match (self.groups, self.entries) {
            (Some(_), _) => self.groups_table(generation),
            (None, Some(_)) => self.entries_table(generation),
            (None, None) => format!("{} where {}", self.table(generation), Self::SERVED),
        };
        format!("select count(*) from {table}")
    }

    pub fn reference_table(&self, generation: i64, reference: &str) -> String {
        format!("{}_g{generation}_{reference}", self.name)
    }

    pub fn links_table(&self, generation: i64) -> String {
        format!("{}_g{generation}_links", self.name)
    }

    pub fn groups_table(&self, generation: i64) -> String {
        format!("{}_g{generation}_groups", self.name)
    }

    pub fn entries_table(&self, generation: i64) -> String {
        format!("{}_g{generation}_entries", self.name)
    }

    pub fn history_table(&self, generation: i64) -> String {
        format!("{}_g{generation}_history", self.name)
    }

    /// SQLite's full-text index over [`Self::search`]; PostgreSQL has an index of its own kind under this name.
    pub fn search_table(&self, generation: i64) -> String {
        format!("{}_g{generation}_search", self.name)
    }

    /// The words in the column `words` as PostgreSQL finds them: what a search compares must be spelled as in the index.
    pub fn postgres_words(words: &str) -> String {
        format!("array_to_tsvector(string_to_array({words}, ' '))")
    }

    pub fn reference(&self, name: &str) -> Option<&'static ReferenceTemplate> {
        self.references.iter().find(|reference| reference.name == name)
    }
}

impl Column {
    /// The column in a select; null where it is younger than the generation.
    pub fn selected(&self, live: Live) -> String {
        if self.since <= live.version {
            return self.name.to_owned();
        }
        let kind = match self.kind {
            Kind::Text | Kind::Json => "text",
            Kind::Integer => "bigint",
            Kind::Boolean => "boolean",
        };
        format!("cast(null as {kind}) as {}", self.name)
    }
}
