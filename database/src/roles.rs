//! Roles of a server: told, compared with what there is, and made so. None is ever removed.

use std::path::Path;

use sqlx::{PgConnection, Row};

use crate::{
    LoginError,
    change::{Change, ChangeError, at, literal, quoted},
    password, scram,
};

/// A role as it should be.
#[derive(Debug, Clone)]
pub struct Role {
    pub name: String,
    /// `None`: no process of ours logs in with it.
    pub login: Option<Login>,
    /// Nobody may log in with it. A group may still have the login of a release from before there were groups.
    pub is_nobody: bool,
}

/// With whom a process logs in.
#[derive(Debug, Clone)]
pub struct Login {
    /// The role whose rights it has.
    pub member_of: String,
    /// Connections at once.
    pub connections_max: u32,
    /// In force from the start of each of its connections.
    pub settings: Vec<(&'static str, String)>,
}

/// What there is of a role.
struct Found {
    can_login: bool,
    /// Super, creates roles or databases, replicates, or passes by row security.
    is_mighty: bool,
    connections_max: i32,
    settings: Vec<String>,
    is_member: bool,
    /// Only a superuser sees it.
    password: Option<String>,
}

const FOUND: &str = "\
select r.rolcanlogin, \
    r.rolsuper or r.rolcreaterole or r.rolcreatedb or r.rolreplication or r.rolbypassrls or not r.rolinherit, \
    r.rolconnlimit, coalesce(r.rolconfig, '{}'), \
    exists (select from pg_auth_members m where m.member = r.oid and pg_get_userbyid(m.roleid) = $2) \
from pg_roles r where r.rolname = $1";

/// How a role is taken out of every group but its own, and the right to bring others into that one. Since PostgreSQL 16 a
/// membership is taken back by who gave it. Whoever asks is let alone: an administrator is a member of the owners.
const STRAY: &str = "\
select format('revoke %s%I from %I', case when g.rolname = $2 then 'admin option for ' else '' end, g.rolname, r.rolname) \
    || case when current_setting('server_version_num')::int4 >= 160000 \
        then format(' granted by %I', pg_get_userbyid(m.grantor)) else '' end \
from pg_auth_members m join pg_roles r on r.oid = m.member join pg_roles g on g.oid = m.roleid \
where r.rolname = $1 and r.rolname <> current_user and (g.rolname <> $2 or m.admin_option) \
order by 1";

/// Why a role cannot be made as it should be.
#[derive(Debug, thiserror::Error)]
pub enum RoleError {
    #[error(transparent)]
    Change(#[from] ChangeError),
    #[error("the password of {role}: {error}")]
    Password { role: String, error: LoginError },
    #[error(
        "the password of {role} in {folder} is empty or has characters other than printable ASCII; write another one into \
         the file, such as the output of `openssl rand -hex 32`"
    )]
    NotPlain { role: String, folder: String },
}

/// What is to be done so that the role is as told. Its password is that in `secrets_dir`, if there is a file for it; without
/// one it stays as it is.
pub async fn compare(
    connection: &mut PgConnection,
    role: &Role,
    secrets_dir: Option<&Path>,
) -> Result<Vec<Change>, RoleError> {
    let name = quoted(&role.name);
    let group = role.login.as_ref().map_or("", |login| login.member_of.as_str());
    let found = find(connection, &role.name, group).await?;
    let stray = sqlx::query_scalar(STRAY).bind(&role.name).bind(group);
    let stray: Vec<String> = stray.fetch_all(&mut *connection).await.map_err(at("look at who is a member of what"))?;
    let mut changes: Vec<Change> = stray.into_iter().map(Change::new).collect();
    let Some(login) = &role.login else {
        let Some(found) = found else {
            return Ok(vec![Change::new(format!("create role {name} nologin"))]);
        };
        if found.is_mighty {
            changes.push(Change::new(format!("alter role {name} {HARMLESS}")));
        }
        if found.can_login && role.is_nobody {
            changes.push(Change::new(format!("alter role {name} nologin")));
        }
        return Ok(changes);
    };
    let limit = login.connections_max;
    match &found {
        None => changes.push(Change::new(format!("create role {name} login connection limit {limit}"))),
        Some(found) => {
            if found.is_mighty {
                changes.push(Change::new(format!("alter role {name} {HARMLESS}")));
            }
            if !found.can_login || found.connections_max != limit.cast_signed() {
                changes.push(Change::new(format!("alter role {name} login connection limit {limit}")));
            }
        }
    }
    if !found.as_ref().is_some_and(|found| found.is_member) {
        changes.push(Change::new(format!("grant {} to {name}", quoted(group))));
    }
    for (setting, value) in &login.settings {
        let is_set = |found: &Found| found.settings.contains(&format!("{setting}={value}"));
        if !found.as_ref().is_some_and(is_set) {
            // a list is told as one
            let value = if value.contains(',') { value.clone() } else { literal(value) };
            changes.push(Change::new(format!("alter role {name} set {setting} = {value}")));
        }
    }
    if let Some(secrets_dir) = secrets_dir {
        let stored = found.as_ref().and_then(|found| found.password.as_deref());
        changes.extend(password_change(&role.name, secrets_dir, stored)?);
    }
    Ok(changes)
}

const HARMLESS: &str = "nosuperuser nocreaterole nocreatedb noreplication nobypassrls inherit";

async fn find(connection: &mut PgConnection, name: &str, group: &str) -> Result<Option<Found>, ChangeError> {
    let query = sqlx::query(FOUND).bind(name).bind(group);
    let row = query.fetch_optional(&mut *connection).await.map_err(at("look at the roles"))?;
    let Some(row) = row else { return Ok(None) };
    let is_superuser: bool = sqlx::query_scalar("select rolsuper from pg_roles where rolname = current_user")
        .fetch_one(&mut *connection)
        .await
        .map_err(at("look at the roles"))?;
    let password = if is_superuser {
        let query = sqlx::query_scalar("select rolpassword from pg_authid where rolname = $1").bind(name);
        query.fetch_one(connection).await.map_err(at("look at the roles"))?
    } else {
        None
    };
    Ok(Some(Found {
        can_login: row.get(0),
        is_mighty: row.get(1),
        connections_max: row.get(2),
        settings: row.get(3),
        is_member: row.get(4),
        password,
    }))
}

fn password_change(role: &str, secrets_dir: &Path, stored: Option<&str>) -> Result<Option<Change>, RoleError> {
    let told = password(secrets_dir, role).map_err(|error| RoleError::Password { role: role.to_owned(), error })?;
    let Some(told) = told else { return Ok(None) };
    if stored.is_some_and(|stored| scram::fits(&told, stored)) {
        return Ok(None);
    }
    let folder = secrets_dir.display().to_string();
    let verifier = scram::verifier(&told).ok_or_else(|| RoleError::NotPlain { role: role.to_owned(), folder })?;
    let name = quoted(role);
    let sql = format!("alter role {name} password {}", literal(&verifier));
    Ok(Some(Change::secret(sql, format!("alter role {name} password '...'"))))
}
