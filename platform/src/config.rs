//! What `tributary up` can be told.

use std::{
    collections::{BTreeMap, HashSet},
    net::SocketAddr,
    path::PathBuf,
    time::Duration,
};

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, builder::BoolishValueParser, value_parser};
use event_store::retention::RetentionOptions;
use sqlx::postgres::PgConnectOptions;
use thiserror::Error;
use write_side::{REGISTER, saga::SagaOptions};

use crate::{
    asking::AskingArgs,
    auth::config::{AuthArgs, AuthConfigError},
    limits::LimitArgs,
    mail::MailArgs,
    projecting::ProjectingArgs,
};

/// The database of the read models, among those of the services.
const QUERY: &str = "query";

#[derive(Debug, Clone, Args)]
pub struct UpArgs {
    /// Where the SQLite files lie: one a service, and the query database
    #[arg(long, env = "TRIBUTARY_DATA_DIR", default_value = "data")]
    pub data_dir: PathBuf,

    /// Address to listen on. Only loopback, unless authentication is configured
    #[arg(long, env = "TRIBUTARY_LISTEN", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,

    /// Enter the demo data once the platform is up
    #[arg(long, env = "TRIBUTARY_DEMO", action = ArgAction::SetTrue, value_parser = BoolishValueParser::new())]
    pub demo: bool,

    /// Days for which the answer to a command is kept under its idempotency key
    #[arg(long, env = "TRIBUTARY_KEEP_KEYS_DAYS", default_value_t = 30)]
    #[arg(value_parser = value_parser!(u16).range(1..=3650))]
    pub keep_keys_days: u16,

    /// Seconds that an order may take to be confirmed; then its checkout undoes it. Its pieces are reserved for 30 minutes
    #[arg(long, env = "TRIBUTARY_CHECKOUT_DEADLINE_SECONDS", default_value_t = 900)]
    #[arg(value_parser = value_parser!(u16).range(1..=1_500))]
    pub checkout_deadline_seconds: u16,

    /// Delete the data directory's databases first
    #[arg(long)]
    pub reset: bool,

    #[command(flatten)]
    pub databases: DatabaseUrls,

    #[command(flatten)]
    pub auth: AuthArgs,

    #[command(flatten)]
    pub limits: LimitArgs,

    /// Pages of these origins may open sockets and event streams at /graphql, beside those of the address that is asked;
    /// such as https://shop.example.com, several with commas
    #[arg(long, env = "TRIBUTARY_GRAPHQL_ALLOWED_ORIGINS", value_delimiter = ',')]
    pub graphql_allowed_origins: Vec<String>,

    #[command(flatten)]
    pub mail: MailArgs,

    #[command(flatten)]
    pub projecting: ProjectingArgs,

    #[command(flatten)]
    pub asking: AskingArgs,
}

/// PostgreSQL instead of SQLite: one database a service, and one for queries. All of them, or none.
#[derive(Clone)]
pub struct DatabaseUrls {
    /// What was given, by the name of the database.
    given: BTreeMap<&'static str, String>,
}

/// Every database there is to be: the flags and variables follow from the register.
fn databases() -> impl Iterator<Item = &'static str> {
    REGISTER.iter().map(|entry| entry.name).chain([QUERY])
}

/// `users-database-url`
fn flag(database: &str) -> String {
    format!("{database}-database-url")
}

impl DatabaseUrls {
    pub fn is_empty(&self) -> bool {
        self.given.is_empty()
    }

    /// The URL of a service's database, or that of the read models as `query`.
    pub fn of(&self, database: &str) -> Option<&str> {
        self.given.get(database).map(String::as_str)
    }
}

impl Args for DatabaseUrls {
    fn augment_args(command: Command) -> Command {
        command.args(databases().map(|database| {
            let help = match database {
                QUERY => "PostgreSQL database of the read models".to_owned(),
                service => format!("PostgreSQL database of the {service} service"),
            };
            let flag = flag(database);
            let variable = format!("TRIBUTARY_{}", flag.replace('-', "_").to_uppercase());
            Arg::new(flag.clone()).long(flag).env(variable).hide_env_values(true).value_name("URL").help(help)
        }))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for DatabaseUrls {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let url = |database| Some((database, matches.get_one::<String>(&flag(database))?.clone()));
        // an empty variable is one that is not set
        Ok(Self { given: databases().filter_map(url).filter(|(_, url)| !url.is_empty()).collect() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl std::fmt::Debug for DatabaseUrls {
    /// URLs carry passwords.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DatabaseUrls").finish_non_exhaustive()
    }
}

/// Where everything is kept.
#[derive(Clone)]
pub enum Storage {
    Sqlite {
        data_dir: PathBuf,
    },
    /// URLs of the services' databases by the services' names, and of the read models'.
    Postgres {
        services: BTreeMap<&'static str, String>,
        query: String,
    },
}

#[derive(Debug, Error)]
pub enum ConfigError {
    #[error(
        "--listen {0} is not a loopback address. Without authentication the platform listens on loopback only: use \
         127.0.0.1:{port} or [::1]:{port}, or say whose tokens count: --auth-issuer, --auth-audience, --auth-algorithm \
         and --auth-jwks or --auth-key-file",
        port = .0.port()
    )]
    OffLoopback(SocketAddr),
    #[error(
        "{given} of {all} database URLs are given: PostgreSQL needs one database a service and one for queries; give \
         {missing} too"
    )]
    SomeDatabases { given: usize, all: usize, missing: String },
    #[error("--{name}-database-url is not a URL of a PostgreSQL database: postgres://user:password@host:port/database")]
    NotPostgres { name: &'static str },
    #[error("two of the database URLs name the same database: every service needs one of its own, and queries too")]
    SharedDatabase,
    #[error(transparent)]
    Auth(#[from] AuthConfigError),
    #[error(
        "--demo enters data as nobody in particular, and with authentication nobody may: leave it out, and run \
         `tributary demo seed --token <token>` once the platform is up"
    )]
    DemoNeedsToken,
    #[error("--reset deletes SQLite files only; drop and create the PostgreSQL databases yourself")]
    ResetPostgres,
}

/// Server and database that a URL names, however it is spelt. Never says the URL: it may hold a password.
fn database_of(url: &str) -> Option<(String, u16, String)> {
    if !["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)) {
        return None;
    }
    let options = url.parse::<PgConnectOptions>().ok()?;
    let host = match options.get_host() {
        "localhost" | "::1" | "[::1]" => "127.0.0.1",
        host => host,
    };
    // without a name, the server takes the user's
    let database = options.get_database().unwrap_or_else(|| options.get_username());
    Some((host.to_ascii_lowercase(), options.get_port(), database.to_owned()))
}

impl UpArgs {
    /// How long each service keeps what it answered to commands.
    pub fn retention(&self) -> RetentionOptions {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        RetentionOptions { keep: DAY * u32::from(self.keep_keys_days), ..RetentionOptions::default() }
    }

    /// How the checkout runs.
    pub fn saga(&self) -> SagaOptions {
        SagaOptions { deadline: Some(Duration::from_secs(self.checkout_deadline_seconds.into())) }
    }

    /// Checks what clap cannot, and says where everything is to be kept.
    pub fn storage(&self) -> Result<Storage, ConfigError> {
        let is_open = self.auth.config()?.is_none();
        if is_open && !self.listen.ip().is_loopback() {
            return Err(ConfigError::OffLoopback(self.listen));
        }
        if self.demo && !is_open {
            return Err(ConfigError::DemoNeedsToken);
        }
        let mut urls = self.databases.given.clone();
        if urls.is_empty() {
            return Ok(Storage::Sqlite { data_dir: self.data_dir.clone() });
        }
        let missing: Vec<String> = databases()
            .filter(|database| !urls.contains_key(database))
            .map(|database| format!("--{}", flag(database)))
            .collect();
        if !missing.is_empty() {
            let all = databases().count();
            return Err(ConfigError::SomeDatabases { given: urls.len(), all, missing: missing.join(", ") });
        }
        if self.reset {
            return Err(ConfigError::ResetPostgres);
        }
        let mut seen = HashSet::new();
        for (&name, url) in &urls {
            if !seen.insert(database_of(url).ok_or(ConfigError::NotPostgres { name })?) {
                return Err(ConfigError::SharedDatabase);
            }
        }
        let query = urls.remove(QUERY).expect("no database is missing");
        Ok(Storage::Postgres { services: urls, query })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Up {
        #[command(flatten)]
        args: UpArgs,
    }

    fn storage(arguments: &[&str]) -> Result<Storage, String> {
        let up = Up::parse_from(std::iter::once("up").chain(arguments.iter().copied()));
        up.args.storage().map_err(|error| error.to_string())
    }

    #[test]
    fn an_address_off_loopback_is_refused_with_the_way_out() {
        for address in ["0.0.0.0:8080", "192.168.1.5:80", "[::]:8080"] {
            let error = storage(&["--listen", address]).err().expect("refused");
            assert!(error.contains("loopback") && error.contains("--auth-issuer"), "{error}");
        }
        assert!(matches!(storage(&["--listen", "[::1]:9"]), Ok(Storage::Sqlite { .. })));
    }

    #[test]
    fn with_authentication_any_address_will_do_and_the_demo_needs_a_token() {
        let auth = ["--auth-issuer=i", "--auth-audience=a", "--auth-algorithm=RS256", "--auth-jwks=http://i/keys"];
        assert!(storage(&[&auth[..], &["--listen=0.0.0.0:8080"]].concat()).is_ok());
        let error = storage(&[&auth[..], &["--demo"]].concat()).err().expect("refused");
        assert!(error.contains("demo seed --token"), "{error}");
        assert!(storage(&[&auth[..3], &["--listen=0.0.0.0:8080"]].concat()).is_err());
    }

    #[test]
    fn keys_are_kept_for_thirty_days_unless_told_otherwise() {
        let kept = |arguments: &[&str]| {
            let up = Up::try_parse_from(std::iter::once("up").chain(arguments.iter().copied()));
            up.map(|up| up.args.retention().keep.as_secs() / (24 * 60 * 60)).map_err(|error| error.to_string())
        };
        assert_eq!(kept(&[]), Ok(30));
        assert_eq!(kept(&["--keep-keys-days", "7"]), Ok(7));
        for wrong in ["0", "3651", "-1", "1.5"] {
            let error = kept(&["--keep-keys-days", wrong]).expect_err("refused");
            assert!(error.contains("keep-keys-days") || error.contains(wrong), "{error}");
        }
    }

    #[test]
    fn some_of_the_databases_are_not_enough_and_none_serves_two() {
        let url = |name: &str| format!("--{name}-database-url=postgres://localhost/{name}");
        let error = storage(&[&url("users"), &url("query")]).err().expect("refused");
        assert!(error.starts_with(&format!("2 of {}", REGISTER.len() + 1)), "{error}");
        assert!(error.contains("--catalog-database-url") && !error.contains("--query"), "{error}");
        let with_query = |query: &str| {
            let mut urls: Vec<String> = REGISTER.iter().map(|entry| url(entry.name)).collect();
            urls.push(format!("--query-database-url={query}"));
            storage(&urls.iter().map(String::as_str).collect::<Vec<_>>())
        };
        assert!(matches!(with_query("postgres://localhost/query"), Ok(Storage::Postgres { .. })));
        for users in ["postgres://localhost/users", "postgresql://ana:secret@127.0.0.1:5432/users?sslmode=disable"] {
            assert!(with_query(users).err().expect("refused").contains("the same"), "{users}");
        }
        for wrong in ["mysql://ana:secret@localhost/query", "query", "postgres://ana:secret@localhost:no/query"] {
            let error = with_query(wrong).err().expect("refused");
            assert!(error.contains("--query-database-url") && !error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn every_service_of_the_register_has_its_flag_and_its_variable() {
        let help = <Up as clap::CommandFactory>::command().render_long_help().to_string();
        for database in databases() {
            let variable = format!("TRIBUTARY_{}_DATABASE_URL", database.to_uppercase());
            assert!(help.contains(&format!("--{database}-database-url")) && help.contains(&variable), "{help}");
        }
    }
}
