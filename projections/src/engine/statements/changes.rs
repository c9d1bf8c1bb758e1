//! What is said about the changes of a generation.

use std::sync::Arc;

use super::dialect::Dialect;

/// Changes that one sweep looks at: what one batch pays for it is bounded, and it is more than come in between two.
const SWEEP_CHANGES_MAX: i64 = 20_000;

/// The statements on the changes of one generation.
pub(crate) struct ChangesStatements {
    /// `$1` JSON array of keys, `$2` now.
    pub insert: Arc<str>,
    /// `$1` now: a mark across which nobody can follow.
    pub mark: Arc<str>,
    /// `$1` the time from which on changes are kept.
    pub sweep: Arc<str>,
}

impl ChangesStatements {
    /// Of the generation that `this` tells in a condition, and `own` in a row.
    pub(super) fn new(this: &str, own: &str, dialect: Dialect) -> Self {
        let head = format!("(select coalesce(max(seq), 0) from changes where {this})");
        let keys = if dialect.postgres {
            "json_array_elements_text(cast($1 as json)) as given (key)"
        } else {
            "(select value as key from json_each($1)) as given"
        };
        let insert = "insert into changes (read_model, generation, seq, key, changed_at_us)";
        let statements = [
            format!(
                "{insert} select {own}, {head} + row_number() over (order by key), key, cast($2 as bigint) from {keys}"
            ),
            format!("{insert} values ({own}, {head} + 1, null, $1)"),
            // the last one stays: numbers go on from it
            format!(
                "delete from changes where {this} and changed_at_us < $1 and seq < {head} \
                 and seq < (select min(seq) from changes where {this}) + {SWEEP_CHANGES_MAX}"
            ),
        ];
        let [insert, mark, sweep] = statements.map(Into::into);
        Self { insert, mark, sweep }
    }
}
