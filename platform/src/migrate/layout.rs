//! Which databases and roles there are, by the name of the service.
//!
//! Of each database a role owns everything in it with whom nobody logs in. What a process may do is said of a group, with
//! which nobody logs in either; it has two members with whom processes do, `_a` and `_b`, so that one of them can be given
//! another password while the other is in use.

use database::roles::{Login, Role};
use write_side::{progress::postgres::Schema, register};

use crate::config::urls::QUERY;

/// The most connections of a process that serves one service.
const SERVICE_CONNECTIONS_MAX: u32 = 8;
/// Of each further schema that a service keeps beside its first: it has a pool of its own.
const SCHEMA_CONNECTIONS_MAX: u32 = 2;
/// Of a projector that also reads what it writes, as `tributary up` does.
const PROJECTOR_CONNECTIONS_MAX: u32 = 49;
/// Of a reader: two pools.
const READER_CONNECTIONS_MAX: u32 = 32;

/// A database, and who has to do with it.
pub struct Layout {
    pub database: String,
    pub owner: String,
    /// The first one writes.
    pub groups: Vec<Group>,
    pub consists: Consists,
}

/// What is in a database.
pub enum Consists {
    /// The log of a service, and what it keeps besides.
    Log { source: &'static str, schemas: &'static [Schema] },
    /// The read models.
    ReadModels,
}

/// What some process may do.
pub struct Group {
    pub name: String,
    pub may: May,
    /// Of each login, however many processes use it.
    connections_max: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum May {
    /// Append to its log, and write what it keeps besides.
    Serve,
    /// Write read models.
    Project,
    /// Read read models.
    Read,
}

/// Whether a name can begin the names of all databases and roles: with what is put behind it, it must fit PostgreSQL's 63
/// bytes.
pub fn may_be_prefix(prefix: &str) -> bool {
    prefix.len() <= 30
        && prefix.starts_with(|first: char| first.is_ascii_lowercase())
        && prefix.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

impl Layout {
    /// Of a service by its name, or of the read models, for so many processes of a role at once.
    pub fn of(name: &str, prefix: &str, processes: u32) -> Self {
        let database = format!("{prefix}_{name}");
        let owner = format!("{database}_owner");
        let group = |name: &str, may, of_a_process: u32| {
            let connections_max = of_a_process.saturating_mul(processes);
            Group { name: format!("{prefix}_{name}"), may, connections_max }
        };
        if name == QUERY {
            let projector = group("projector", May::Project, PROJECTOR_CONNECTIONS_MAX);
            let graphql = group("graphql", May::Read, READER_CONNECTIONS_MAX);
            return Self { database, owner, groups: vec![projector, graphql], consists: Consists::ReadModels };
        }
        let entry = register::find(name).expect("a service of the register");
        let further = u32::try_from(entry.schemas.len().saturating_sub(1)).expect("there are few schemas");
        let of_a_process = SERVICE_CONNECTIONS_MAX + further * SCHEMA_CONNECTIONS_MAX;
        let consists = Consists::Log { source: entry.name, schemas: entry.schemas };
        Self { database, owner, groups: vec![group(entry.name, May::Serve, of_a_process)], consists }
    }

    /// All roles, those first that others are members of.
    pub fn roles(&self) -> Vec<Role> {
        let without_login = |name: &String, is_nobody| Role { name: name.clone(), login: None, is_nobody };
        let mut roles = vec![without_login(&self.owner, true)];
        roles.extend(self.groups.iter().map(|group| without_login(&group.name, false)));
        roles.extend(self.groups.iter().flat_map(Group::login_roles));
        roles
    }

    /// Whose tables there are.
    pub fn owners(&self) -> Vec<&str> {
        let projectors = self.groups.iter().filter(|group| group.may == May::Project);
        std::iter::once(&self.owner).chain(projectors.map(|group| &group.name)).map(String::as_str).collect()
    }

    /// The first group that may do this.
    pub fn who_may(&self, may: May) -> Option<&Group> {
        self.groups.iter().find(|group| group.may == may)
    }

    /// Where tables lie.
    pub fn schemas(&self) -> Vec<&'static str> {
        match &self.consists {
            Consists::Log { schemas, .. } => {
                let own = schemas.iter().map(|schema| schema.name);
                std::iter::once(event_store::postgres::migrate::SCHEMA).chain(own).collect()
            }
            Consists::ReadModels => vec![projections::query_schema::SCHEMA],
        }
    }

    /// Of every role of a server, with those that log in.
    pub fn role_names(&self) -> Vec<String> {
        self.roles().into_iter().map(|role| role.name).collect()
    }
}

impl Group {
    /// With whom one logs in: one of the two at a time.
    pub fn logins(&self) -> [String; 2] {
        ["a", "b"].map(|which| format!("{}_{which}", self.name))
    }

    fn login_roles(&self) -> impl Iterator<Item = Role> {
        let login = || Login {
            member_of: self.name.clone(),
            connections_max: self.connections_max,
            settings: self.settings().into_iter().map(|(name, value)| (name, value.to_owned())).collect(),
        };
        self.logins().into_iter().map(move |name| Role { name, login: Some(login()), is_nobody: false })
    }

    /// In force from the start of a connection. A process asks for its own besides, where it is heard: PgBouncer keeps to
    /// itself what a client asks for.
    fn settings(&self) -> Vec<(&'static str, &str)> {
        let mut settings = vec![
            ("idle_in_transaction_session_timeout", "60s"),
            ("jit", "off"),
            // as append_event asks for it
            ("search_path", "public, pg_temp"),
        ];
        settings.extend(match self.may {
            // the log's plans are made once and must be right when it grows, and its pages come in one piece
            May::Serve => vec![
                ("statement_timeout", "60s"),
                ("lock_timeout", "10s"),
                ("plan_cache_mode", "force_generic_plan"),
                ("enable_seqscan", "off"),
                ("enable_bitmapscan", "off"),
                ("max_parallel_workers_per_gather", "0"),
            ],
            // the tables of generations belong to the group, so that either of its members can drop what the other made
            May::Project => vec![
                // indexes of a large read model are made at once
                ("statement_timeout", "1h"),
                ("lock_timeout", "60s"),
                // a plan that was made while a generation was empty reads all of it later
                ("plan_cache_mode", "force_custom_plan"),
                ("role", self.name.as_str()),
            ],
            May::Read => {
                vec![("statement_timeout", "60s"), ("lock_timeout", "10s"), ("default_transaction_read_only", "on")]
            }
        });
        settings
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::urls::{EveryDatabase, Named};

    #[test]
    fn the_longest_names_fit_postgres() {
        let prefix = "p".repeat(30);
        assert!(may_be_prefix(&prefix) && !may_be_prefix(&format!("{prefix}p")));
        for name in EveryDatabase::names() {
            let layout = Layout::of(name, &prefix, 2);
            let names = layout.role_names();
            assert!(names.iter().chain([&layout.database]).all(|name| name.len() <= 63), "{names:?}");
        }
        assert!(!["", "Tributary", "1", "a-b", "a\"b"].iter().any(|prefix| may_be_prefix(prefix)));
    }
}
