//! `tributary migrate`: makes the databases what this release needs, and says who may do what in them.
//!
//! Everything is told as it should be, compared with what there is, and changed where that differs: so a run that was killed
//! is completed by the next one, and a run that finds nothing to do does nothing. Two at once wait for each other.
//!
//! [`layout`]: which roles there are, and what each database consists of. [`inside`]: one database. [`steps`]: how a change
//! is made, or only told.

mod inside;
mod layout;
mod steps;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use database::{Database, Source, Url, change::quoted, roles};
use sqlx::{ConnectOptions, Connection, PgConnection, postgres::PgConnectOptions};

use self::{
    layout::{Layout, may_be_prefix},
    steps::Steps,
};
use crate::{
    cli::{MigrateArgs, Output},
    config::urls::{EveryDatabase, Named},
};

/// "tributal" as a number: whoever migrates holds this lock of the database that they have connected to.
const LOCK: i64 = 0x7472_6962_7574_616c;

/// As after a verification that found differences.
const THERE_IS_SOMETHING_TO_DO: u8 = 3;

/// The longest that a statement waits for a service to let go of a table; behind it everybody else would wait. Another run is
/// waited for as long as it takes.
const LOCK_WAIT_MAX: &str = "10s";

pub async fn run(args: MigrateArgs, output: Output) -> Result<ExitCode> {
    if !may_be_prefix(&args.prefix) {
        bail!("--prefix {} is not a name of 1 to 30 of a-z, 0-9 and _, beginning with a letter", args.prefix);
    }
    let wanted: Vec<&str> = match &args.databases[..] {
        [] => EveryDatabase::names(),
        some => EveryDatabase::names().into_iter().filter(|name| some.iter().any(|wanted| wanted == name)).collect(),
    };
    let admin = admin(&args)?;
    let mut steps = Steps::new(args.check, output);
    let mut server = connect(&admin).await.context("connect as administrator")?;
    alone(&mut server).await.context("wait for another run")?;
    for name in wanted {
        let layout = Layout::of(name, &args.prefix, args.processes);
        one(&mut steps, &mut server, &admin, &layout, &args).await.with_context(|| format!("migrate {name}"))?;
    }
    // and with it goes the lock
    server.close().await.context("close the connection")?;
    let done = steps.finish();
    Ok(if args.check && done > 0 { ExitCode::from(THERE_IS_SOMETHING_TO_DO) } else { ExitCode::SUCCESS })
}

fn admin(args: &MigrateArgs) -> Result<PgConnectOptions> {
    let url = match (&args.admin_url, &args.admin_url_file) {
        (_, Some(file)) => Url::File(file.clone()),
        (Some(url), None) => Url::Text(url.clone()),
        (None, None) => bail!(
            "say who may make databases and roles: --admin-url postgres://postgres:...@host/postgres, or --admin-url-file \
             with a file that holds it"
        ),
    };
    Ok(Database::new(Source { url, secrets_dir: args.secrets_dir.clone() }).context("--admin-url")?.options())
}

async fn connect(options: &PgConnectOptions) -> Result<PgConnection, sqlx::Error> {
    let options = options.clone().application_name("tributary migrate").disable_statement_logging();
    options.options([("lock_timeout", LOCK_WAIT_MAX), ("search_path", "public, pg_temp")]).connect().await
}

/// Waits for whoever else migrates.
async fn alone(server: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::raw_sql("set lock_timeout = 0").execute(&mut *server).await?;
    sqlx::query("select pg_advisory_lock($1)").bind(LOCK).execute(&mut *server).await?;
    let wait = sqlx::query("select set_config('lock_timeout', $1, false)").bind(LOCK_WAIT_MAX);
    wait.execute(server).await.map(drop)
}

async fn one(
    steps: &mut Steps,
    server: &mut PgConnection,
    admin: &PgConnectOptions,
    layout: &Layout,
    args: &MigrateArgs,
) -> Result<()> {
    steps.begin(&layout.database);
    make_roles(steps, server, layout, args).await?;
    if !make_database(steps, server, layout).await? {
        return Ok(());
    }
    let mut connection = connect(&admin.clone().database(&layout.database)).await?;
    inside::settle(steps, &mut connection, layout).await?;
    connection.close().await?;
    Ok(())
}

/// The roles of the server that have to do with one database.
async fn make_roles(steps: &mut Steps, server: &mut PgConnection, layout: &Layout, args: &MigrateArgs) -> Result<()> {
    const MAY: &str = "select rolsuper or rolcreaterole from pg_roles where rolname = current_user";
    let may_make_roles: bool = sqlx::query_scalar(MAY).fetch_one(&mut *server).await?;
    if let Some(folder) = &args.secrets_dir {
        for group in &layout.groups {
            let [a, b] = group.logins().map(|login| database::password(folder, &login));
            if a?.is_none() && b?.is_none() {
                let [a, b] = group.logins();
                bail!("there is neither {a} nor {b} in {}: write a password into the first", folder.display());
            }
        }
    }
    for role in layout.roles() {
        for change in roles::compare(server, &role, args.secrets_dir.as_deref()).await? {
            if may_make_roles {
                steps.make(server, change).await?;
            } else {
                steps.leave(&change, "needs a role that may create roles");
            }
        }
    }
    // whoever is to act as the owner has to be one of its members; a superuser is everybody
    const IS_OWNER: &str = "select coalesce((select pg_has_role(current_user, oid, 'usage') from pg_roles \
                            where rolname = $1), rolsuper) from pg_roles where rolname = current_user";
    for role in layout.owners() {
        let may: bool = sqlx::query_scalar(IS_OWNER).bind(role).fetch_one(&mut *server).await?;
        if !may {
            steps.make_sql(server, format!("grant {} to current_user", quoted(role))).await?;
        }
    }
    Ok(())
}

/// Whether there is one to look into.
async fn make_database(steps: &mut Steps, server: &mut PgConnection, layout: &Layout) -> Result<bool> {
    const OWNER: &str = "select pg_get_userbyid(datdba)::text, \
        (select rolsuper from pg_roles where oid = datdba) from pg_database where datname = $1";
    let found: Option<(String, bool)> =
        sqlx::query_as(OWNER).bind(&layout.database).fetch_optional(&mut *server).await?;
    let (name, owner) = (quoted(&layout.database), quoted(&layout.owner));
    match found {
        None => {
            let create = format!("create database {name} owner {owner} encoding 'UTF8' template template0");
            steps.make_sql(server, create).await?;
            if steps.is_check() {
                steps.tell("everything in it");
                return Ok(false);
            }
        }
        Some((before, is_super)) if before != layout.owner => {
            steps.make_sql(server, format!("alter database {name} owner to {owner}")).await?;
            // a release that still logs in as who owned everything goes on
            let writes = &layout.groups[0].name;
            if !is_super && before != *writes {
                steps.make_sql(server, format!("grant {} to {}", quoted(writes), quoted(&before))).await?;
            }
        }
        Some(_) => {}
    }
    Ok(true)
}
