//! Who may do what in a database: told as a set, compared with what the catalog says, and made so.
//!
//! Compared are the rights of PUBLIC and of the roles that are told of, on what the told owners own; what somebody else
//! was given by an administrator stays as it is. So a right that is given by mistake is taken back by the next comparison.

use std::collections::BTreeSet;

use sqlx::PgConnection;

use crate::change::{Change, ChangeError, at, quoted};

/// Everybody, as PostgreSQL has it.
pub const PUBLIC: &str = "public";

/// One thing that one role may do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Right {
    /// `select`, `execute`, `usage`, ..., and `update ("payload")` where only a column was given.
    pub privilege: String,
    /// As it stands in a grant: `table "public"."events"`.
    pub on: String,
    pub to: String,
}

/// Rights on one object.
pub fn rights(privileges: &[&str], on: &str, to: &str) -> Vec<Right> {
    let right = |privilege: &&str| Right { privilege: (*privilege).to_owned(), on: on.to_owned(), to: to.to_owned() };
    privileges.iter().map(right).collect()
}

/// A table or a function as it stands in a grant; functions are known by their names alone, of which there is one each.
pub fn object(kind: &str, schema: &str, name: &str) -> String {
    format!("{kind} {}.{}", quoted(schema), quoted(name))
}

pub fn schema(name: &str) -> String {
    format!("schema {}", quoted(name))
}

pub fn database(name: &str) -> String {
    format!("database {}", quoted(name))
}

/// Every table of a schema, by name.
pub async fn tables(connection: &mut PgConnection, schema: &str) -> Result<Vec<String>, ChangeError> {
    let tables = sqlx::query_scalar(
        "select c.relname::text from pg_class c join pg_namespace n on n.oid = c.relnamespace \
         where n.nspname = $1 and c.relkind in ('r', 'p') order by 1",
    );
    tables.bind(schema).fetch_all(connection).await.map_err(at("look at the tables"))
}

const OWNED: &str = "\
select format('alter %s %s owner to %I', o.kind, o.name, $2) \
from ( \
    select 'schema' as kind, quote_ident(n.nspname) as name, n.oid as oid, n.nspowner as owner, \
        'pg_namespace'::regclass as class \
    from pg_namespace n where n.nspname = any($1) and n.nspname <> 'public' and not $4 \
    union all \
    select 'table', format('%I.%I', n.nspname, c.relname), c.oid, c.relowner, 'pg_class' \
    from pg_class c join pg_namespace n on n.oid = c.relnamespace \
    where n.nspname = any($1) and c.relkind in ('r', 'p') and (c.relname ~ $3) = $4 \
    union all \
    select 'function', p.oid::regprocedure::text, p.oid, p.proowner, 'pg_proc' \
    from pg_proc p join pg_namespace n on n.oid = p.pronamespace where n.nspname = any($1) and not $4 \
) as o \
where pg_get_userbyid(o.owner) <> $2 \
    and not exists (select from pg_depend d where d.classid = o.class and d.objid = o.oid and d.deptype = 'e') \
order by 1";

/// What is to be done so that `owner` owns what lies in `schemas`: some tables, or everything but some tables. What belongs
/// to an extension is left alone.
pub async fn owned_by(
    connection: &mut PgConnection,
    owner: &str,
    schemas: &[&str],
    names: Names<'_>,
) -> Result<Vec<Change>, ChangeError> {
    let (pattern, matching) = match names {
        Names::Matching(pattern) => (pattern, true),
        Names::AllBut(pattern) => (pattern, false),
    };
    let query = sqlx::query_scalar(OWNED).bind(schemas).bind(owner).bind(pattern).bind(matching);
    let statements: Vec<String> = query.fetch_all(connection).await.map_err(at("look at who owns what"))?;
    Ok(statements.into_iter().map(Change::new).collect())
}

/// Which tables are meant, by a regular expression of their names.
#[derive(Debug, Clone, Copy)]
pub enum Names<'a> {
    Matching(&'a str),
    AllBut(&'a str),
}

impl Names<'_> {
    /// Nothing is left out.
    pub const ALL: Self = Self::AllBut("^$");
}

// an object without an explicit list has that of its kind's defaults
const FOUND: &str = "\
select lower(a.privilege_type) || o.of_column, o.on_what, \
    case when a.grantee = 0 then 'public' else pg_get_userbyid(a.grantee)::text end \
from ( \
    select format('database %s', '\"' || d.datname || '\"') as on_what, d.datdba as owner, \
        coalesce(d.datacl, acldefault('d', d.datdba)) as acl, '' as of_column \
    from pg_database d where d.datname = current_database() \
    union all \
    select format('schema %s', '\"' || n.nspname || '\"'), n.nspowner, \
        coalesce(n.nspacl, acldefault('n', n.nspowner)), '' \
    from pg_namespace n where n.nspname = any($1) \
    union all \
    select format('table \"%s\".\"%s\"', n.nspname, c.relname), c.relowner, \
        coalesce(c.relacl, acldefault('r', c.relowner)), '' \
    from pg_class c join pg_namespace n on n.oid = c.relnamespace \
    where n.nspname = any($1) and c.relkind in ('r', 'p') \
        and pg_get_userbyid(c.relowner) = any($2) \
    union all \
    select format('function \"%s\".\"%s\"', n.nspname, p.proname), p.proowner, \
        coalesce(p.proacl, acldefault('f', p.proowner)), '' \
    from pg_proc p join pg_namespace n on n.oid = p.pronamespace \
    where n.nspname = any($1) and pg_get_userbyid(p.proowner) = any($2) \
    union all \
    select format('table \"%s\".\"%s\"', n.nspname, c.relname), c.relowner, t.attacl, format(' (\"%s\")', t.attname) \
    from pg_attribute t join pg_class c on c.oid = t.attrelid join pg_namespace n on n.oid = c.relnamespace \
    where n.nspname = any($1) and c.relkind in ('r', 'p') and not t.attisdropped and t.attacl is not null \
        and pg_get_userbyid(c.relowner) = any($2) \
) as o cross join lateral aclexplode(o.acl) as a \
where a.grantee <> o.owner and (a.grantee = 0 or pg_get_userbyid(a.grantee) = any($3))";

/// What is to be done so that PUBLIC and `roles` have exactly the `wanted` rights on this database, on `schemas`, and on
/// what `owners` own in them. An owner's rights on what is its own are nobody's business.
pub async fn compare(
    connection: &mut PgConnection,
    schemas: &[&str],
    owners: &[&str],
    roles: &[&str],
    wanted: &BTreeSet<Right>,
) -> Result<Vec<Change>, ChangeError> {
    let query = sqlx::query_as(FOUND).bind(schemas).bind(owners).bind(roles);
    let rows: Vec<(String, String, String)> = query.fetch_all(connection).await.map_err(at("look at the rights"))?;
    let found: BTreeSet<Right> = rows.into_iter().map(|(privilege, on, to)| Right { privilege, on, to }).collect();
    let revoked = found.difference(wanted).map(|right| right.statement("revoke", "from"));
    let granted = wanted.difference(&found).map(|right| right.statement("grant", "to"));
    Ok(in_few_statements(revoked.chain(granted)))
}

impl Right {
    /// What comes before the privilege, the privilege, and the rest.
    fn statement(&self, verb: &'static str, towards: &str) -> (&'static str, String, String) {
        let to = if self.to == PUBLIC { PUBLIC.to_owned() } else { quoted(&self.to) };
        (verb, self.privilege.clone(), format!("on {} {towards} {to}", self.on))
    }
}

/// One statement for all privileges that one role has on one object.
fn in_few_statements(all: impl Iterator<Item = (&'static str, String, String)>) -> Vec<Change> {
    let mut few: Vec<(&'static str, Vec<String>, String)> = Vec::new();
    for (verb, privilege, rest) in all {
        match few.iter_mut().find(|(same_verb, _, same)| *same_verb == verb && *same == rest) {
            Some((_, privileges, _)) => privileges.push(privilege),
            None => few.push((verb, vec![privilege], rest)),
        }
    }
    let text =
        |(verb, privileges, rest): (&str, Vec<String>, String)| format!("{verb} {} {rest}", privileges.join(", "));
    few.into_iter().map(text).map(Change::new).collect()
}
