//! The tables of the query database on PostgreSQL that are there before any generation is, and who may do what with them.

use std::{
    collections::{BTreeSet, HashSet},
    sync::LazyLock,
};

use database::rights::{self, Right, object, rights, schema};
use sqlx::{PgConnection, migrate::Migrator};

use super::{
    super::{Doing, EngineError},
    growing,
};

static MIGRATIONS: LazyLock<Migrator> = LazyLock::new(|| growing(sqlx::migrate!("../migrations/query/postgres")));

/// Where all of it lies.
pub const SCHEMA: &str = "public";

/// Names of the tables of generations, as a regular expression: whoever writes a generation owns its tables.
pub const GENERATIONS: &str = "_g[0-9]+(_|$)";

/// Whether a table is one of those.
pub fn is_of_generation(table: &str) -> bool {
    table.match_indices("_g").any(|(at, before)| {
        let rest = &table[at + before.len()..];
        let behind = rest.trim_start_matches(|digit: char| digit.is_ascii_digit());
        behind.len() < rest.len() && (behind.is_empty() || behind.starts_with('_'))
    })
}

/// What is known of migrations; a reader has no use for it, and a projector must not change it.
const RUN: &str = "_sqlx_migrations";

/// Which migrations have not been run. Those that a newer release has run are none of our business.
pub async fn missing(connection: &mut PgConnection) -> Result<Vec<String>, EngineError> {
    let made: bool = sqlx::query_scalar("select to_regclass('public._sqlx_migrations') is not null")
        .fetch_one(&mut *connection)
        .await
        .doing("look at its migrations")?;
    let run: HashSet<i64> = if made {
        let run = sqlx::query_scalar("select version from public._sqlx_migrations where success");
        run.fetch_all(connection).await.doing("look at its migrations")?.into_iter().collect()
    } else {
        HashSet::new()
    };
    let missing = MIGRATIONS.iter().filter(|migration| !run.contains(&migration.version));
    Ok(missing.map(|migration| format!("{:04}_{}", migration.version, migration.description)).collect())
}

/// Whether what is missing would be made by who owns the rest. A projector may make tables here too, but only generations.
pub async fn may_migrate(connection: &mut PgConnection) -> Result<bool, EngineError> {
    let owned = "select coalesce( \
            (select pg_has_role(current_user, c.relowner, 'usage') from pg_class c where c.oid = to_regclass($1)), \
            (select pg_has_role(current_user, d.datdba, 'usage') from pg_database d where d.datname = current_database()) \
        )";
    let query = sqlx::query_scalar(owned).bind(format!("{SCHEMA}.{RUN}"));
    query.fetch_one(connection).await.doing("look at who owns it")
}

/// Runs what is missing, each in a transaction, under a lock of the database.
pub async fn migrate(connection: &mut PgConnection) -> Result<(), EngineError> {
    // `run` takes whatever gives a connection, and a future that holds that is not known to be `Send`
    MIGRATIONS.run_direct(None, connection, false).await.doing("migrate")
}

/// What a projector may do with `tables`: write the rows of all that is not its own, and make generations.
pub fn rights_of_projector(role: &str, tables: &[String]) -> BTreeSet<Right> {
    let write = |table: &String| {
        let privileges: &[&str] = if table == RUN { &["select"] } else { &["select", "insert", "update", "delete"] };
        rights(privileges, &object("table", SCHEMA, table), role)
    };
    let make = rights(&["usage", "create"], &schema(SCHEMA), role);
    make.into_iter().chain(tables.iter().flat_map(write)).collect()
}

/// What a reader may do with `tables`, generations among them: read.
pub fn rights_of_reader(role: &str, tables: &[String]) -> BTreeSet<Right> {
    let read = |table: &String| rights(&["select"], &object("table", SCHEMA, table), role);
    let enter = rights(&["usage"], &rights::schema(SCHEMA), role);
    enter.into_iter().chain(tables.iter().filter(|table| *table != RUN).flat_map(read)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_of_generations_are_known_by_their_names() {
        for projection in crate::all() {
            let of = projection.template;
            assert!(is_of_generation(&of.table(7)) && is_of_generation(&of.history_table(12)));
        }
        for other in ["generations", "read_models", "fan_outs", "x_g", "x_gx", "x_g7x", RUN] {
            assert!(!is_of_generation(other), "{other}");
        }
    }
}
