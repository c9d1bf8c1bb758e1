//! The PostgreSQL databases that a process is told of: of each its URL, or a file with it; the passwords may lie in a folder.

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    marker::PhantomData,
    path::PathBuf,
};

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};
use database::{Database, Source, Url};

use super::{
    ConfigError,
    urls::{EveryDatabase, Named, variable},
};

const SECRETS_DIR: &str = "secrets-dir";

/// The databases among `N` that were given.
pub struct Databases<N> {
    given: BTreeMap<&'static str, Url>,
    /// Both the URL and the file with it.
    twice: Option<&'static str>,
    secrets_dir: Option<PathBuf>,
    of: PhantomData<N>,
}

impl<N> Databases<N> {
    pub fn is_empty(&self) -> bool {
        self.given.is_empty()
    }

    /// Whether this one is given.
    pub fn has(&self, name: &str) -> bool {
        self.given.contains_key(name)
    }

    /// This one, if it is given.
    pub fn of(&self, name: &str) -> Result<Option<Database>, ConfigError> {
        let Some((&name, _)) = self.given.get_key_value(name) else { return Ok(None) };
        Ok(self.reach(&[name])?.and_then(|mut reached| reached.remove(name)))
    }

    /// Those of `needed`; `None` if none of them is given.
    pub fn reach(&self, needed: &[&'static str]) -> Result<Option<BTreeMap<&'static str, Database>>, ConfigError> {
        if let Some(name) = self.twice {
            return Err(ConfigError::UrlTwice(name));
        }
        let (given, missing): (Vec<&str>, Vec<&str>) = needed.iter().partition(|name| self.given.contains_key(*name));
        if given.is_empty() {
            return Ok(None);
        }
        if !missing.is_empty() {
            let missing: Vec<String> = missing.iter().map(|name| format!("--{}", EveryDatabase::flag(name))).collect();
            let (given, all, missing) = (given.len(), needed.len(), missing.join(", "));
            return Err(ConfigError::SomeDatabases { given, all, missing });
        }
        let (mut seen, mut reached) = (HashSet::new(), BTreeMap::new());
        for &name in needed {
            let source = Source { url: self.given[name].clone(), secrets_dir: self.secrets_dir.clone() };
            let database = Database::new(source).map_err(|error| ConfigError::Login { name, error })?;
            if !seen.insert(place_of(&database)) {
                return Err(ConfigError::SharedDatabase);
            }
            reached.insert(name, database);
        }
        Ok(Some(reached))
    }
}

/// Server and database that are reached, however they are spelt.
fn place_of(database: &Database) -> (String, u16, String) {
    let options = database.options();
    let host = match options.get_host() {
        "localhost" | "::1" | "[::1]" => "127.0.0.1",
        host => host,
    };
    // without a name, the server takes the user's
    let name = options.get_database().unwrap_or_else(|| options.get_username());
    (host.to_ascii_lowercase(), options.get_port(), name.to_owned())
}

/// `users-database-url-file`
fn file_flag<N: Named>(name: &str) -> String {
    format!("{}-file", N::flag(name))
}

impl<N: Named> Args for Databases<N> {
    fn augment_args(command: Command) -> Command {
        let url = |name| {
            let flag = N::flag(name);
            let arg = Arg::new(flag.clone()).long(flag.clone()).env(variable(&flag)).hide_env_values(true);
            arg.value_name("URL").help(N::help(name))
        };
        let file = |name| {
            let flag = file_flag::<N>(name);
            let help = "The same, read from a file again and again: its login may change while the process runs";
            Arg::new(flag.clone()).long(flag.clone()).env(variable(&flag)).value_name("FILE").help(help)
        };
        let secrets_dir = Arg::new(SECRETS_DIR).long(SECRETS_DIR).env(variable(SECRETS_DIR)).value_name("FOLDER").help(
            "Passwords of PostgreSQL roles, one in a file named as the role, instead of those in the URLs; read again and again",
        );
        command.args(N::names().into_iter().flat_map(|name| [url(name), file(name)])).arg(secrets_dir)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<N: Named> FromArgMatches for Databases<N> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        // an empty variable is one that is not set
        let told = |flag: &str| matches.get_one::<String>(flag).filter(|told| !told.is_empty()).cloned();
        let url = |name| told(&N::flag(name)).map(Url::Text);
        let file = |name| told(&file_flag::<N>(name)).map(|file| Url::File(file.into()));
        Ok(Self {
            given: N::names().into_iter().filter_map(|name| Some((name, file(name).or(url(name))?))).collect(),
            twice: N::names().into_iter().find(|name| file(name).is_some() && url(name).is_some()),
            secrets_dir: told(SECRETS_DIR).map(PathBuf::from),
            of: PhantomData,
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl<N> Clone for Databases<N> {
    fn clone(&self) -> Self {
        let Self { given, twice, secrets_dir, of } = self;
        Self { given: given.clone(), twice: *twice, secrets_dir: secrets_dir.clone(), of: *of }
    }
}

impl<N> fmt::Debug for Databases<N> {
    /// URLs carry passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Databases").finish_non_exhaustive()
    }
}
