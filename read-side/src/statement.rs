//! The text of a read: pointer, checkpoints and rows in one statement, as each database spells it.

use sqlx::AssertSqlSafe;

use crate::{
    read_side::{Beside, Rows},
    template::{Live, Template},
};

/// What the databases spell differently.
#[derive(Clone, Copy)]
pub(crate) struct Dialect {
    /// The table of the pointers.
    pointers: &'static str,
    /// The checkpoints of a generation as one JSON text: `{read_model}`, `{generation}`, and `{wanted}` = the parameter
    /// with the token's points.
    vector: &'static str,
}

/// What of a generation's own tables belongs to a checkpoint `c`, on both databases.
macro_rules! progress_of {
    ($to_hex:literal, $hex_end:literal, $wanted:literal, $position:literal, $source:literal) => {
        concat!(
            "'source', c.source, 'epoch', c.epoch, 'position', c.position, 'event_id', c.event_id, \
             'fan_out', (select min(f.position) from fan_outs f where f.read_model = c.read_model \
                 and f.generation = c.generation and f.source = c.source), \
             'parked', (select min(p.position) from parked_events p where p.read_model = c.read_model \
                 and p.generation = c.generation and p.source = c.source), \
             'anchor', (select (select case when a.first_position <= ",
            $position,
            " then ",
            $to_hex,
            "substr(a.anchors, cast((",
            $position,
            " - a.first_position) * 6 + 1 as integer), 6)",
            $hex_end,
            " end from applied_anchors a where a.read_model = c.read_model and a.generation = c.generation \
                 and a.source = c.source and a.last_position >= ",
            $position,
            " order by a.last_position limit 1) from ",
            $wanted,
            " where ",
            $source,
            " = c.source)"
        )
    };
}

pub(crate) const SQLITE: Dialect = Dialect {
    pointers: "pointers.read_models",
    vector: concat!(
        "(select json_group_array(json_object(",
        progress_of!("hex(", ")", "json_each({wanted}) w", "(w.value ->> 'position')", "w.value ->> 'source'"),
        ")) from checkpoints c where c.read_model = '{read_model}' and c.generation = {generation})"
    ),
};

pub(crate) const POSTGRES: Dialect = Dialect {
    pointers: "read_models",
    vector: concat!(
        "(select json_agg(json_build_object(",
        progress_of!(
            "encode(",
            ", 'hex')",
            "json_to_recordset(cast({wanted} as json)) as w(source text, position bigint)",
            "w.position",
            "w.source"
        ),
        "))::text from checkpoints c where c.read_model = '{read_model}' and c.generation = {generation})"
    ),
};

/// Pointer, vector and rows as one statement. Nothing of a request is in its text.
pub(crate) fn statement<S: Fn(Live) -> String>(
    dialect: Dialect,
    template: &Template,
    live: Live,
    with_vector: bool,
    rows: &Rows<S>,
    beside: &[Beside<'_>],
) -> AssertSqlSafe<String> {
    let vector = if !with_vector {
        "cast(null as text)".to_owned()
    } else {
        dialect
            .vector
            .replace("{wanted}", &format!("${}", rows.binds.len() + 1))
            .replace("{read_model}", template.name)
            .replace("{generation}", &live.generation.to_string())
    };
    let beside = beside.iter().enumerate().map(|(n, tells)| format!("cast({} as bigint) as beside_{n}, ", tells(live)));
    AssertSqlSafe(format!(
        "select (select live_generation from {pointers} where name = '{name}') as live_generation, \
         {vector} as vector, {beside}found.* from (select 1 as one) one \
         left join (select 1 as present, r.* from ({select}) r) found on 1 = 1 {order_by}",
        select = (rows.select)(live),
        pointers = dialect.pointers,
        name = template.name,
        beside = beside.collect::<String>(),
        order_by = rows.order_by,
    ))
}
