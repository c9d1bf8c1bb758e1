//! A URL for each of several names: one flag and one variable each, which follow from the name.

use std::{collections::BTreeMap, fmt, marker::PhantomData};

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};
use write_side::REGISTER;

/// The database of the read models, among those of the services.
pub const QUERY: &str = "query";

/// The projector and the GraphQL endpoint, among the servers that a gateway stands before.
pub const PROJECT: &str = "project";
pub const GRAPHQL: &str = "graphql";

/// Names that have a URL each.
pub trait Named {
    fn names() -> Vec<&'static str>;
    /// Without the dashes: `users-database-url`.
    fn flag(name: &str) -> String;
    fn help(name: &str) -> String;
}

/// `TRIBUTARY_USERS_DATABASE_URL`
pub(super) fn variable(flag: &str) -> String {
    format!("TRIBUTARY_{}", flag.replace('-', "_").to_uppercase())
}

fn services() -> Vec<&'static str> {
    REGISTER.iter().map(|entry| entry.name).collect()
}

/// The databases of a whole platform: one a service, and one for queries.
pub struct EveryDatabase;

impl Named for EveryDatabase {
    fn names() -> Vec<&'static str> {
        [services(), vec![QUERY]].concat()
    }

    fn flag(name: &str) -> String {
        format!("{name}-database-url")
    }

    fn help(name: &str) -> String {
        match name {
            QUERY => "PostgreSQL database of the read models".to_owned(),
            service => format!("PostgreSQL database of the {service} service"),
        }
    }
}

/// The databases of services; who serves them needs those of no others.
pub struct ServiceDatabases;

impl Named for ServiceDatabases {
    fn names() -> Vec<&'static str> {
        services()
    }

    fn flag(name: &str) -> String {
        EveryDatabase::flag(name)
    }

    fn help(name: &str) -> String {
        EveryDatabase::help(name)
    }
}

/// The database of the read models alone.
pub struct QueryDatabase;

impl Named for QueryDatabase {
    fn names() -> Vec<&'static str> {
        vec![QUERY]
    }

    fn flag(name: &str) -> String {
        EveryDatabase::flag(name)
    }

    fn help(name: &str) -> String {
        EveryDatabase::help(name)
    }
}

/// Where services are to be asked and their feeds to be read.
pub struct Services;

impl Named for Services {
    fn names() -> Vec<&'static str> {
        services()
    }

    fn flag(name: &str) -> String {
        format!("{name}-url")
    }

    fn help(name: &str) -> String {
        format!("Where the {name} service is reached, such as http://{name}:8080")
    }
}

/// What a gateway stands before.
pub struct Upstreams;

impl Named for Upstreams {
    fn names() -> Vec<&'static str> {
        [services(), vec![PROJECT, GRAPHQL]].concat()
    }

    fn flag(name: &str) -> String {
        Services::flag(name)
    }

    fn help(name: &str) -> String {
        let whose = match name {
            PROJECT => "The projector".to_owned(),
            GRAPHQL => "The GraphQL endpoint".to_owned(),
            service => format!("The {service} service"),
        };
        format!("{whose}; several replicas with commas: http://one:8080,http://two:8080")
    }
}

/// The URLs that were given, by name.
pub struct Urls<N> {
    pub given: BTreeMap<&'static str, String>,
    of: PhantomData<N>,
}

impl<N> Clone for Urls<N> {
    fn clone(&self) -> Self {
        Self { given: self.given.clone(), of: PhantomData }
    }
}

impl<N: Named> Args for Urls<N> {
    fn augment_args(command: Command) -> Command {
        command.args(N::names().into_iter().map(|name| {
            let flag = N::flag(name);
            let variable = variable(&flag);
            Arg::new(flag.clone()).long(flag).env(variable).hide_env_values(true).value_name("URL").help(N::help(name))
        }))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<N: Named> FromArgMatches for Urls<N> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let url = |name| Some((name, matches.get_one::<String>(&N::flag(name))?.clone()));
        // an empty variable is one that is not set
        let given = N::names().into_iter().filter_map(url).filter(|(_, url)| !url.is_empty()).collect();
        Ok(Self { given, of: PhantomData })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl<N> fmt::Debug for Urls<N> {
    /// URLs carry passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Urls").finish_non_exhaustive()
    }
}
