//! What the roles can be told that run as processes of their own.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::PathBuf,
};

use axum::http::uri::{Authority, Scheme, Uri};
use clap::{
    ArgAction, Args,
    builder::{BoolishValueParser, PossibleValuesParser},
};
use write_side::{Entry, REGISTER};

use super::{
    ConfigError, ServicesArgs,
    databases::Databases,
    storage::Storage,
    urls::{GRAPHQL, Named, PROJECT, QueryDatabase, ServiceDatabases, Services, Upstreams, Urls},
};
use crate::{
    asking::AskingArgs, auth::config::AuthArgs, limits::LimitArgs, projecting::ProjectingArgs,
    roles::elsewhere::Elsewhere,
};

#[derive(Debug, Clone, Args)]
pub struct ServeArgs {
    /// The services to run, one or more
    #[arg(required = true, value_name = "SERVICE", value_parser = PossibleValuesParser::new(Services::names()))]
    pub services: Vec<String>,

    /// Address to listen on. Only loopback, unless authentication is configured
    #[arg(long, env = "TRIBUTARY_LISTEN", default_value = "127.0.0.1:8081")]
    pub listen: SocketAddr,

    /// Where the SQLite files lie, if no database URLs are given: a directory of this process alone. Mail, too
    #[arg(long, env = "TRIBUTARY_DATA_DIR", default_value = "data")]
    pub data_dir: PathBuf,

    #[command(flatten)]
    pub options: ServicesArgs,

    #[command(flatten, next_help_heading = "Databases")]
    pub databases: Databases<ServiceDatabases>,

    #[command(flatten, next_help_heading = "Services that run elsewhere")]
    pub elsewhere: ElsewhereArgs,

    #[command(flatten, next_help_heading = "Authentication")]
    pub auth: AuthArgs,
}

#[derive(Debug, Clone, Args)]
pub struct ProjectArgs {
    /// Address to listen on. Only loopback, unless authentication is configured
    #[arg(long, env = "TRIBUTARY_LISTEN", default_value = "127.0.0.1:8082")]
    pub listen: SocketAddr,

    #[command(flatten)]
    pub database: QueryDatabaseArgs,

    #[command(flatten)]
    pub projecting: ProjectingArgs,

    #[command(flatten, next_help_heading = "Services that run elsewhere")]
    pub elsewhere: ElsewhereArgs,

    #[command(flatten, next_help_heading = "Authentication")]
    pub auth: AuthArgs,
}

#[derive(Debug, Clone, Args)]
pub struct GraphqlArgs {
    /// Address to listen on. Only loopback, unless authentication is configured
    #[arg(long, env = "TRIBUTARY_LISTEN", default_value = "127.0.0.1:8083")]
    pub listen: SocketAddr,

    #[command(flatten)]
    pub database: QueryDatabaseArgs,

    #[command(flatten)]
    pub origins: OriginArgs,

    #[command(flatten)]
    pub asking: AskingArgs,

    /// The gateway counts requests
    #[command(flatten, next_help_heading = "Limits of what is asked over sockets, where an operation is a request")]
    pub limits: LimitArgs,

    #[command(flatten, next_help_heading = "Authentication")]
    pub auth: AuthArgs,
}

#[derive(Debug, Clone, Args)]
pub struct GatewayArgs {
    /// Address to listen on. Only loopback, unless authentication is configured
    #[arg(long, env = "TRIBUTARY_LISTEN", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,

    /// Where all services are that have no URL of their own below
    #[arg(long, env = "TRIBUTARY_SERVICES_URL", value_name = "URL", help_heading = "What it stands before")]
    pub services_url: Option<String>,

    #[command(flatten, next_help_heading = "What it stands before")]
    pub upstreams: Urls<Upstreams>,

    #[command(flatten, next_help_heading = "Limits")]
    pub limits: LimitArgs,

    #[command(flatten, next_help_heading = "Authentication")]
    pub auth: AuthArgs,
}

/// The database of the read models. Several processes share it, so it is PostgreSQL.
#[derive(Debug, Clone, Args)]
pub struct QueryDatabaseArgs {
    #[command(flatten, next_help_heading = "Database")]
    query: Databases<QueryDatabase>,
}

impl QueryDatabaseArgs {
    pub fn storage(&self) -> Result<Storage, ConfigError> {
        let databases = self.query.reach(&QueryDatabase::names())?.ok_or(ConfigError::NoQueryDatabase)?;
        Ok(Storage::Postgres { databases })
    }
}

/// Whose pages may open what stays open.
#[derive(Debug, Clone, Args)]
pub struct OriginArgs {
    /// Pages of these origins may open sockets and event streams at /graphql, beside those of the address that is asked;
    /// such as https://shop.example.com, several with commas
    #[arg(long, env = "TRIBUTARY_GRAPHQL_ALLOWED_ORIGINS", value_delimiter = ',')]
    pub graphql_allowed_origins: Vec<String>,
}

/// How services are reached that are not in this process.
#[derive(Debug, Clone, Args)]
pub struct ElsewhereArgs {
    /// Where all services are that have no URL of their own below: a gateway
    #[arg(long, env = "TRIBUTARY_SERVICES_URL", value_name = "URL")]
    services_url: Option<String>,

    #[command(flatten)]
    urls: Urls<Services>,

    /// File with the token that is shown to them. It is read for each request, so it can be replaced at any time. The token
    /// needs the scope `feed`, or `feed:<service>` for each service that is followed, and `service` where one is asked
    #[arg(long, env = "TRIBUTARY_SERVICE_TOKEN_FILE", value_name = "FILE")]
    service_token_file: Option<PathBuf>,

    /// Ask for compressed feeds: fewer bytes for more work at both ends, so for networks that are slow
    #[arg(long, env = "TRIBUTARY_FEED_COMPRESSION", action = ArgAction::SetTrue, value_parser = BoolishValueParser::new())]
    feed_compression: bool,
}

impl ElsewhereArgs {
    /// The way to each of `needed`.
    fn reach(&self, needed: &BTreeSet<&'static str>) -> Result<Elsewhere, ConfigError> {
        let addresses = addresses(&self.urls.given, self.services_url.as_deref(), needed)?;
        let mut bases = BTreeMap::new();
        for (name, places) in addresses {
            let [place] = &places[..] else { return Err(ConfigError::SeveralAddresses { name }) };
            bases.insert(name, format!("http://{place}"));
        }
        Ok(Elsewhere { bases, token_file: self.service_token_file.clone(), compressed: self.feed_compression })
    }
}

/// The places of each of `needed`, by its own URL or by that of all. Errors: those that have none, and what is no address.
fn addresses(
    given: &BTreeMap<&'static str, String>,
    of_all: Option<&str>,
    needed: &BTreeSet<&'static str>,
) -> Result<BTreeMap<&'static str, Vec<Authority>>, ConfigError> {
    let of_all = of_all.filter(|url| !url.is_empty());
    let is_service = |name: &str| REGISTER.iter().any(|entry| entry.name == name);
    let (mut found, mut missing) = (BTreeMap::new(), Vec::new());
    for &name in needed {
        let own = given.get(name).map(String::as_str);
        match own.or(of_all.filter(|_| is_service(name))) {
            Some(urls) => {
                let places: Option<Vec<Authority>> = urls.split(',').map(|url| place(url.trim())).collect();
                let flag = if own.is_some() { Services::flag(name) } else { "services-url".to_owned() };
                found.insert(name, places.ok_or(ConfigError::NotAnAddress { flag })?);
            }
            None => missing.push(format!("--{}", Services::flag(name))),
        }
    }
    if missing.is_empty() { Ok(found) } else { Err(ConfigError::NoAddress { missing: missing.join(", ") }) }
}

/// Host and port of `http://host:port`, with nothing behind it.
fn place(url: &str) -> Option<Authority> {
    let parts = url.parse::<Uri>().ok()?.into_parts();
    let has_no_path = parts.path_and_query.is_none_or(|path| path == "/");
    let place = parts.authority.filter(|_| parts.scheme == Some(Scheme::HTTP) && has_no_path)?;
    (!place.as_str().contains('@')).then_some(place)
}

impl ServeArgs {
    /// The services to run, each once, in the order of the register.
    pub fn entries(&self) -> Vec<&'static Entry> {
        REGISTER.iter().filter(|entry| self.services.iter().any(|name| name == entry.name)).collect()
    }

    pub fn storage(&self) -> Result<Storage, ConfigError> {
        let names: Vec<_> = self.entries().iter().map(|entry| entry.name).collect();
        Storage::of(&self.databases, &names, &self.data_dir)
    }

    pub fn elsewhere(&self) -> Result<Elsewhere, ConfigError> {
        let here = self.entries();
        let needed = here.iter().flat_map(|entry| entry.follows.iter().chain(entry.asks)).copied();
        self.elsewhere.reach(&needed.filter(|name| here.iter().all(|entry| entry.name != *name)).collect())
    }
}

impl ProjectArgs {
    /// The way to every feed that a read model is made of.
    pub fn elsewhere(&self) -> Result<Elsewhere, ConfigError> {
        self.elsewhere
            .reach(&projections::all().iter().flat_map(projections::projection::Projection::sources).collect())
    }
}

impl GatewayArgs {
    /// Where everything is that it stands before.
    pub fn upstreams(&self) -> Result<BTreeMap<&'static str, Vec<Authority>>, ConfigError> {
        let needed = REGISTER.iter().map(|entry| entry.name).chain([PROJECT, GRAPHQL]).collect();
        addresses(&self.upstreams.given, self.services_url.as_deref(), &needed)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Serve {
        #[command(flatten)]
        args: ServeArgs,
    }

    #[derive(Debug, Parser)]
    struct Gateway {
        #[command(flatten)]
        args: GatewayArgs,
    }

    fn serve(arguments: &[&str]) -> ServeArgs {
        Serve::parse_from(std::iter::once("serve").chain(arguments.iter().copied())).args
    }

    #[test]
    fn a_service_needs_the_addresses_of_whom_it_follows_or_asks_and_of_nobody_else() {
        let error = serve(&["shipping", "orders"]).elsewhere().expect_err("refused").to_string();
        assert!(error.contains("--users-url") && error.contains("--catalog-url"), "{error}");
        assert!(!error.contains("--payments-url") && error.contains("--services-url"), "{error}");
        let found = serve(&["orders", "users", "--catalog-url", "http://catalog:8080/"]).elsewhere().expect("found");
        assert_eq!(found.bases, BTreeMap::from([("catalog", "http://catalog:8080".to_owned())]));
        let all = serve(&["checkout", "--services-url=http://gateway:8080", "--orders-url=http://orders:1"]);
        let bases = all.elsewhere().expect("found").bases;
        assert_eq!(
            (bases.len(), &*bases["orders"], &*bases["payments"]),
            (4, "http://orders:1", "http://gateway:8080")
        );
        assert!(serve(&["users"]).elsewhere().expect("nobody is needed").bases.is_empty());
    }

    #[test]
    fn what_is_no_address_is_named_by_its_flag() {
        for wrong in ["catalog:8080", "https://catalog", "http://catalog/path", "http://ana:secret@catalog", "http://"]
        {
            let args = serve(&["orders", "--services-url=http://all", &format!("--catalog-url={wrong}")]);
            let error = args.elsewhere().expect_err("refused").to_string();
            assert!(error.contains("--catalog-url") && !error.contains("secret"), "{error}");
        }
        let several = serve(&["orders", "--services-url=http://one,http://two"]).elsewhere().expect_err("refused");
        assert!(several.to_string().contains("gateway"), "{several}");
    }

    #[test]
    fn only_the_databases_of_what_is_served_are_needed() {
        let users = serve(&["users", "--users-database-url=postgres://h/users"]).storage().expect("enough");
        assert!(matches!(users, Storage::Postgres { databases } if databases.len() == 1));
        let both = serve(&["users", "catalog", "--users-database-url=postgres://h/users"]).storage();
        let error = both.err().expect("refused").to_string();
        assert!(error.contains("--catalog-database-url") && !error.contains("--orders"), "{error}");
        assert!(matches!(serve(&["users"]).storage(), Ok(Storage::Sqlite { .. })));
        assert!(Serve::try_parse_from(["serve", "nobody"]).is_err() && Serve::try_parse_from(["serve"]).is_err());
    }

    #[test]
    fn a_gateway_takes_several_places_of_each_and_misses_what_has_none() {
        let gateway = |arguments: &[&str]| {
            Gateway::parse_from(std::iter::once("gateway").chain(arguments.iter().copied())).args.upstreams()
        };
        let error = gateway(&["--services-url=http://services"]).expect_err("refused").to_string();
        assert!(
            error.contains("--project-url, --graphql-url") || error.contains("--graphql-url, --project-url"),
            "{error}"
        );
        let rest = ["--services-url=http://s", "--project-url=http://p", "--graphql-url=http://g"];
        let found = gateway(&[&rest[..], &["--orders-url=http://a:1, http://b:2"]].concat()).expect("found");
        assert_eq!((found["orders"].len(), found["users"].len(), found.len()), (2, 1, REGISTER.len() + 2));
    }
}
