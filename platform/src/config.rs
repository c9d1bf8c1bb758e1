//! What the processes of the platform can be told: here `tributary up`, in [`apart`] the roles by themselves.

pub mod apart;
pub mod databases;
pub mod storage;
pub mod urls;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{ArgAction, Args, builder::BoolishValueParser, value_parser};
use database::LoginError;
use event_store::retention::RetentionOptions;
use thiserror::Error;
use write_side::saga::SagaOptions;

pub use self::storage::Storage;
use self::{
    apart::OriginArgs,
    databases::Databases,
    urls::{EveryDatabase, Named},
};
use crate::{
    asking::AskingArgs,
    auth::config::{AuthArgs, AuthConfigError},
    limits::LimitArgs,
    mail::MailArgs,
    projecting::ProjectingArgs,
};

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

    #[command(flatten)]
    pub services: ServicesArgs,

    /// Delete the data directory's databases first
    #[arg(long)]
    pub reset: bool,

    // PostgreSQL instead of SQLite: all of them, or none
    #[command(flatten)]
    pub databases: Databases<EveryDatabase>,

    #[command(flatten)]
    pub auth: AuthArgs,

    #[command(flatten)]
    pub limits: LimitArgs,

    #[command(flatten)]
    pub origins: OriginArgs,

    #[command(flatten)]
    pub projecting: ProjectingArgs,

    #[command(flatten)]
    pub asking: AskingArgs,
}

/// How services run.
#[derive(Debug, Clone, Args)]
pub struct ServicesArgs {
    /// Days for which the answer to a command is kept under its idempotency key
    #[arg(long, env = "TRIBUTARY_KEEP_KEYS_DAYS", default_value_t = 30)]
    #[arg(value_parser = value_parser!(u16).range(1..=3650))]
    pub keep_keys_days: u16,

    /// Seconds that an order may take to be confirmed; then its checkout undoes it. Its pieces are reserved for 30 minutes
    #[arg(long, env = "TRIBUTARY_CHECKOUT_DEADLINE_SECONDS", default_value_t = 900)]
    #[arg(value_parser = value_parser!(u16).range(1..=1_500))]
    pub checkout_deadline_seconds: u16,

    #[command(flatten)]
    pub mail: MailArgs,
}

impl ServicesArgs {
    /// How long each service keeps what it answered to commands.
    pub fn retention(&self) -> RetentionOptions {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        RetentionOptions { keep: DAY * u32::from(self.keep_keys_days), ..RetentionOptions::default() }
    }

    /// How the checkout runs.
    pub fn saga(&self) -> SagaOptions {
        SagaOptions { deadline: Some(Duration::from_secs(self.checkout_deadline_seconds.into())) }
    }
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
        "{given} of {all} database URLs are given: PostgreSQL needs one database a service and, with `up`, one for \
         queries; give {missing} too"
    )]
    SomeDatabases { given: usize, all: usize, missing: String },
    #[error("--{name}-database-url: {error}")]
    Login { name: &'static str, error: LoginError },
    #[error(
        "--query-database-url (or --query-database-url-file) is missing: the PostgreSQL database of the read models"
    )]
    NoQueryDatabase,
    #[error("both --{0}-database-url and --{0}-database-url-file are given (or their variables): give one of them")]
    UrlTwice(&'static str),
    #[error("two of the database URLs name the same database: every service needs one of its own, and queries too")]
    SharedDatabase,
    #[error(
        "{missing}: these are followed, asked or stood before and are not in this process, so each needs its address; \
         --services-url gives that of all services that have none of their own"
    )]
    NoAddress { missing: String },
    #[error("--{flag} is no address of a server: it is http://host:port, with nothing behind. TLS ends before it")]
    NotAnAddress { flag: String },
    #[error("several addresses of the service {name} are given, but only a gateway takes turns: give the gateway's")]
    SeveralAddresses { name: &'static str },
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

/// Only what asks for tokens listens off loopback.
pub fn check_address(listen: SocketAddr, auth: &AuthArgs) -> Result<(), ConfigError> {
    let is_open = auth.config()?.is_none();
    if is_open && !listen.ip().is_loopback() { Err(ConfigError::OffLoopback(listen)) } else { Ok(()) }
}

impl UpArgs {
    /// Checks what clap cannot, and says where everything is to be kept.
    pub fn storage(&self) -> Result<Storage, ConfigError> {
        check_address(self.listen, &self.auth)?;
        if self.demo && self.auth.config()?.is_some() {
            return Err(ConfigError::DemoNeedsToken);
        }
        let storage = Storage::of(&self.databases, &EveryDatabase::names(), &self.data_dir)?;
        match storage {
            Storage::Postgres { .. } if self.reset => Err(ConfigError::ResetPostgres),
            storage => Ok(storage),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use write_side::REGISTER;

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
            up.map(|up| up.args.services.retention().keep.as_secs() / (24 * 60 * 60)).map_err(|error| error.to_string())
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
        for database in EveryDatabase::names() {
            let variable = format!("TRIBUTARY_{}_DATABASE_URL_FILE", database.to_uppercase());
            assert!(help.contains(&format!("--{database}-database-url")) && help.contains(&variable), "{help}");
        }
    }
}
