//! What is known of a generation beside its rows, as a copy of it has it: how far it is, and what is unfinished. Not who may
//! write it, what it told its subscribers, nor what was seen of heads: that is of the generation that was copied.

use read_side::template::{Column, Kind, Template, column};

use super::{Dialect, dialect::names, load::Target};

/// Rows of one table that belong to a read model.
pub(crate) struct Kept {
    pub table: &'static str,
    /// The key's columns first. Without those that say whose they are.
    pub columns: &'static [Column],
}

const fn text(name: &'static str) -> Column {
    column(name, Kind::Text)
}

const fn integer(name: &'static str) -> Column {
    column(name, Kind::Integer)
}

/// Of a generation.
pub(crate) const KEPT: [Kept; 4] = [
    Kept {
        table: "checkpoints",
        columns: &[
            text("source"),
            text("epoch"),
            integer("position"),
            text("event_id"),
            integer("event_recorded_at_us"),
            integer("head_position"),
            integer("applied_at_us"),
        ],
    },
    Kept {
        table: "fan_outs",
        columns: &[text("reference"), text("foreign_key"), text("source"), text("after_key"), integer("position")],
    },
    Kept {
        table: "parked_streams",
        columns: &[
            text("source"),
            text("aggregate_type"),
            text("aggregate_id"),
            integer("position"),
            text("event_id"),
            text("reason"),
            integer("parked_at_us"),
            text("event_type"),
            text("event_version"),
        ],
    },
    Kept {
        table: "parked_events",
        columns: &[text("source"), integer("position"), text("aggregate_type"), text("aggregate_id")],
    },
];

/// Of a read model, whatever its generation: they lie beside the pointers.
pub(crate) const DECISIONS: Kept = Kept {
    table: "parking_decisions",
    columns: &[
        text("source"),
        text("event_id"),
        integer("position"),
        text("aggregate_type"),
        text("aggregate_id"),
        text("fingerprint"),
        text("reason"),
        text("why"),
        text("decided_by"),
        integer("decided_at_us"),
    ],
};

/// Which events were applied of late: bytes, in hexadecimal.
pub(crate) const ANCHORS: &str = "applied_anchors";

impl Kept {
    /// -> each row as an object.
    pub fn dump(&self, template: &Template, generation: i64, postgres: bool) -> String {
        self.dump_of(&format!("read_model = '{}' and generation = {generation}", template.name), postgres)
    }

    fn dump_of(&self, this: &str, postgres: bool) -> String {
        let object = Dialect { postgres }.object(self.columns);
        let order = names(&self.columns[..2]);
        format!("select {object} from {} where {this} order by {order}", self.table)
    }

    /// Where rows of a generation go: whose they are, then the columns.
    pub fn target(&self) -> Target {
        let whose = [text("read_model"), integer("generation")];
        Target::of(self.table, [&whose[..], self.columns].concat())
    }
}

/// -> each decision about a read model as an object.
pub(crate) fn dump_decisions(template: &Template, postgres: bool) -> String {
    DECISIONS.dump_of(&format!("read_model = '{}'", template.name), postgres)
}

/// `$1` JSON array of decisions: the first one about an event stays.
pub(crate) fn insert_decisions(template: &Template, postgres: bool) -> String {
    let (table, names) = (DECISIONS.table, names(DECISIONS.columns));
    let given = Dialect { postgres }.given("$1", DECISIONS.columns);
    format!(
        "insert into {table} (read_model, {names}) select '{}', {names} from {given} where true on conflict do nothing",
        template.name
    )
}

/// -> each row of anchors as an object.
pub(crate) fn dump_anchors(template: &Template, generation: i64, postgres: bool) -> String {
    let (make, hex) = match postgres {
        true => ("json_build_object", "encode(anchors, 'hex')"),
        false => ("json_object", "lower(hex(anchors))"),
    };
    let object = format!(
        "{make}('source', source, 'first_position', first_position, 'last_position', last_position, 'anchors', {hex})"
    );
    format!(
        "select cast({object} as text) from {ANCHORS} where read_model = '{}' and generation = {generation} \
         order by source, last_position",
        template.name
    )
}
