//! One database: who owns what, which migrations are missing, and who may do what.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use database::{
    change::quoted,
    rights::{self, Names, Right, rights},
};
use event_store::postgres::migrate as log;
use projections::query_schema as read_models;
use sqlx::PgConnection;

use super::{
    layout::{Consists, Layout, May},
    steps::Steps,
};

pub async fn settle(steps: &mut Steps, connection: &mut PgConnection, layout: &Layout) -> Result<()> {
    own(steps, connection, layout).await?;
    migrate(steps, connection, layout).await?;
    // all that the comparison says takes effect together
    sqlx::raw_sql("begin").execute(&mut *connection).await?;
    divide(steps, connection, layout).await?;
    sqlx::raw_sql("commit").execute(connection).await?;
    Ok(())
}

/// Gives everything to the owner; what an administrator or another role has made, too.
async fn own(steps: &mut Steps, connection: &mut PgConnection, layout: &Layout) -> Result<()> {
    let (owner, schemas) = (&layout.owner, layout.schemas());
    let mut may_create = vec![owner];
    let mut changes = Vec::new();
    let generations = match layout.who_may(May::Project) {
        Some(projector) => {
            may_create.push(&projector.name);
            let names = Names::Matching(read_models::GENERATIONS);
            changes.extend(rights::owned_by(connection, &projector.name, &schemas, names).await?);
            Names::AllBut(read_models::GENERATIONS)
        }
        None => Names::ALL,
    };
    changes.extend(rights::owned_by(connection, owner, &schemas, generations).await?);
    // who is to own something in a schema must be allowed to make it there
    for role in may_create {
        let allowed = "select coalesce((select has_schema_privilege(oid, 'public', 'create') from pg_roles \
                       where rolname = $1), false)";
        if !sqlx::query_scalar(allowed).bind(role).fetch_one(&mut *connection).await? {
            steps.make_sql(connection, format!("grant usage, create on schema public to {}", quoted(role))).await?;
        }
    }
    for change in changes {
        steps.make(connection, change).await?;
    }
    Ok(())
}

/// Runs what is missing as the owner.
async fn migrate(steps: &mut Steps, connection: &mut PgConnection, layout: &Layout) -> Result<()> {
    if !steps.is_check() {
        let act = format!("set role {}", quoted(&layout.owner));
        sqlx::raw_sql(sqlx::AssertSqlSafe(act)).execute(&mut *connection).await.context("act as the owner")?;
    }
    match &layout.consists {
        Consists::Log { source, schemas } => {
            let missing = log::missing(connection).await?;
            missing.iter().for_each(|migration| steps.tell(&format!("run migration {migration}")));
            if !missing.is_empty() && !steps.is_check() {
                log::run(connection, source, None).await?;
            }
            for schema in *schemas {
                let missing = schema.missing(connection).await?;
                let first = schema.migrations.len() - missing + 1;
                (first..first + missing).for_each(|n| steps.tell(&format!("run migration {n} of {}", schema.name)));
                if missing > 0 && !steps.is_check() {
                    schema.migrate(connection).await.with_context(|| format!("migrate {}", schema.name))?;
                }
            }
        }
        Consists::ReadModels => {
            let missing = read_models::missing(connection).await?;
            missing.iter().for_each(|migration| steps.tell(&format!("run migration {migration}")));
            if !missing.is_empty() && !steps.is_check() {
                read_models::migrate(connection).await?;
            }
        }
    }
    if !steps.is_check() {
        sqlx::raw_sql("reset role").execute(connection).await?;
    }
    Ok(())
}

/// Gives every role exactly its rights.
async fn divide(steps: &mut Steps, connection: &mut PgConnection, layout: &Layout) -> Result<()> {
    let (schemas, owners, roles) = (layout.schemas(), layout.owners(), layout.role_names());
    let roles: Vec<&str> = roles.iter().map(String::as_str).filter(|role| *role != layout.owner).collect();
    let wanted = wanted(connection, layout).await?;
    for change in rights::compare(connection, &schemas, &owners, &roles, &wanted).await? {
        steps.make(connection, change).await?;
    }
    // a generation is made by a projector, which no administrator watches
    if let (Some(projector), Some(reader)) = (layout.who_may(May::Project), layout.who_may(May::Read)) {
        let given = "select exists (select from pg_default_acl d join pg_namespace n on n.oid = d.defaclnamespace \
            cross join lateral aclexplode(d.defaclacl) a where n.nspname = 'public' and d.defaclobjtype = 'r' \
            and pg_get_userbyid(d.defaclrole) = $1 and pg_get_userbyid(a.grantee) = $2 and a.privilege_type = 'SELECT')";
        let query = sqlx::query_scalar(given).bind(&projector.name).bind(&reader.name);
        if !query.fetch_one(&mut *connection).await? {
            let (projector, reader) = (quoted(&projector.name), quoted(&reader.name));
            let give = format!(
                "alter default privileges for role {projector} in schema public grant select on tables to {reader}"
            );
            steps.make_sql(connection, give).await?;
        }
    }
    Ok(())
}

async fn wanted(connection: &mut PgConnection, layout: &Layout) -> Result<BTreeSet<Right>> {
    let mut wanted = BTreeSet::new();
    for group in &layout.groups {
        wanted.extend(rights(&["connect"], &rights::database(&layout.database), &group.name));
        match (group.may, &layout.consists) {
            (May::Serve, Consists::Log { schemas, .. }) => {
                wanted.extend(log::rights_of(&group.name));
                for schema in *schemas {
                    let tables = rights::tables(connection, schema.name).await?;
                    wanted.extend(schema.rights_of(&group.name, &tables));
                }
            }
            (May::Project, Consists::ReadModels) => {
                let mut tables = rights::tables(connection, read_models::SCHEMA).await?;
                tables.retain(|table| !read_models::is_of_generation(table));
                wanted.extend(read_models::rights_of_projector(&group.name, &tables));
            }
            (May::Read, Consists::ReadModels) => {
                let tables = rights::tables(connection, read_models::SCHEMA).await?;
                wanted.extend(read_models::rights_of_reader(&group.name, &tables));
            }
            (May::Serve, Consists::ReadModels) | (May::Project | May::Read, Consists::Log { .. }) => {}
        }
    }
    Ok(wanted)
}
