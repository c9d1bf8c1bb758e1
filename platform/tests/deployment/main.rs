//! The files that deploy the platform, checked without Docker: `docker-compose.yml` against the Compose Specification and
//! against what the binary really takes, and the script that makes the databases against a real server.

mod schema;

use std::{fs, path::PathBuf, process::Command};

use event_store::postgres::{PostgresLog, PostgresOptions};
use projections::QueryDatabase;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use testkit::postgres::ThrowAwayPostgres;

/// compose-spec.json of the Compose Specification (github.com/compose-spec/compose-spec, Apache-2.0), unchanged.
const SPECIFICATION: &str = include_str!("compose-spec.json");

/// Every service has a database and a role, and so has the query side.
fn databases() -> impl Iterator<Item = &'static str> {
    write_side::REGISTER.iter().map(|entry| entry.name).chain(["query"])
}

fn repository() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn text(path: &str) -> String {
    fs::read_to_string(repository().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn compose() -> Value {
    serde_yaml_ng::from_str(&text("docker-compose.yml")).unwrap()
}

fn check(compose: &Value) -> Result<(), String> {
    schema::check(&serde_json::from_str(SPECIFICATION).unwrap(), compose)
}

#[test]
fn the_compose_file_keeps_to_the_compose_specification() {
    check(&compose()).unwrap();
}

#[test]
fn the_check_finds_what_is_wrong() {
    for (pointer, name, wrong) in [
        ("/services/platform", "netwrok_mode", json!("host")),
        ("/services/platform", "read_only", json!([])),
        ("/services/platform", "pull_policy", json!(7)),
        ("/services/platform/depends_on/postgres", "condition", json!("healthy")),
        ("/services/postgres", "ports", json!("5432")),
        ("/services/postgres/healthcheck", "tets", json!([])),
        ("", "sevrices", json!({})),
    ] {
        let mut compose = compose();
        compose.pointer_mut(pointer).unwrap()[name] = wrong;
        let error = check(&compose).unwrap_err();
        assert!(error.contains(name), "{pointer}/{name}: {error}");
    }
}

#[test]
fn every_service_has_an_image_and_a_health_check_and_nothing_is_open_to_other_machines() {
    let compose = compose();
    for (name, service) in compose["services"].as_object().unwrap() {
        assert!(service["image"].is_string(), "{name}");
        assert!(service["healthcheck"]["test"].is_array(), "{name}");
        for port in service["ports"].as_array().into_iter().flatten() {
            assert!(port.as_str().unwrap().starts_with("127.0.0.1:"), "{name} publishes {port}");
        }
    }
    let platform = &compose["services"]["platform"];
    assert!(platform["environment"]["TRIBUTARY_LISTEN"].as_str().unwrap().starts_with("127.0.0.1:"));
    assert_eq!(platform["read_only"], true);
    assert_eq!(platform["cap_drop"], json!(["ALL"]));
    assert_eq!(platform["depends_on"]["postgres"]["condition"], "service_healthy");
}

#[test]
fn the_binary_knows_every_variable_that_the_files_set() {
    let help = Command::new(env!("CARGO_BIN_EXE_tributary")).args(["up", "--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let known = |name: &str| help.contains(&format!("[env: {name}=")) || help.contains(&format!("[env: {name}]"));
    let compose = compose();
    let set = compose["services"]["platform"]["environment"].as_object().unwrap().keys();
    for name in set.map(String::as_str).chain(["TRIBUTARY_LOG_FORMAT", "TRIBUTARY_DATA_DIR"]) {
        assert!(known(name), "{name} is no variable of `tributary up`:\n{help}");
    }
    for service in databases() {
        assert!(
            compose["services"]["platform"]["environment"]
                .get(format!("TRIBUTARY_{}_DATABASE_URL", service.to_uppercase()))
                .is_some()
        );
    }
}

#[test]
fn the_image_runs_as_a_user_without_rights_and_builds_what_is_locked() {
    let dockerfile = text("Dockerfile");
    assert!(dockerfile.contains("\nUSER tributary\n"));
    assert!(dockerfile.contains("cargo build --release --locked"));
    let copied =
        dockerfile.lines().filter_map(|line| line.strip_prefix("COPY ")).filter(|line| !line.starts_with("--from"));
    for file in copied.flat_map(|line| line.split(' ').rev().skip(1).map(str::to_owned).collect::<Vec<_>>()) {
        assert!(repository().join(&file).exists(), "COPY of {file}, which is not there");
    }
    // what the example asks for is what the compose file insists on
    let (compose, example) = (text("docker-compose.yml"), text("deploy/env.example"));
    let wanted = compose.split("${").skip(1).map(|rest| rest.split([':', '}']).next().unwrap());
    for name in wanted {
        assert!(example.contains(&format!("{name}=")), "deploy/env.example does not speak of {name}");
    }
}

#[tokio::test]
async fn the_script_gives_every_service_a_database_that_no_other_can_open() {
    let server = ThrowAwayPostgres::start().await.unwrap();
    let mut script = Command::new("sh");
    script.arg(repository().join("deploy/postgres/10-services.sh"));
    let superuser = server.url("postgres").parse::<sqlx::postgres::PgConnectOptions>().unwrap();
    script.env("PGHOST", superuser.get_host()).env("PGPORT", server.port().to_string());
    script.env("POSTGRES_USER", superuser.get_username());
    let path = std::env::var("PATH").unwrap_or_default();
    script.env("PATH", format!("{}:{path}", server.bin().display()));
    for service in databases() {
        // a quote, so that a password is never part of the SQL's text
        script.env(format!("TRIBUTARY_{}_PASSWORD", service.to_uppercase()), format!("it's {service}"));
    }
    let done = script.output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));

    for service in databases() {
        let role = format!("tributary_{service}");
        let url = server.url_as(&role, &role);
        let mut own = PgConnection::connect(&url).await.unwrap();
        // it may make what a log or the query side needs, and is nothing more than that
        match service {
            "query" => QueryDatabase::open_postgres(&url).await.unwrap().close().await,
            service => {
                PostgresLog::connect(&url, service, PostgresOptions::default()).await.unwrap().close().await;
            }
        }
        assert!(sqlx::raw_sql("create database other").execute(&mut own).await.is_err());
        for other in databases().filter(|other| *other != service) {
            let error = PgConnection::connect(&server.url_as(&role, &format!("tributary_{other}"))).await.unwrap_err();
            assert!(error.to_string().contains("permission denied"), "{service} opens {other}: {error}");
        }
    }
}

/// A role may hold what the script says, and all of them together what the server takes, less the superuser's three.
#[test]
fn the_roles_together_may_hold_no_more_connections_than_the_server_takes() {
    let script = text("deploy/postgres/10-services.sh");
    let limits = script.lines().filter(|line| line.starts_with("create ") && line.contains("PASSWORD"));
    let limits: Vec<u32> = limits.map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect();
    assert_eq!(limits.len(), databases().count(), "a database each");
    let compose = compose();
    let command = compose["services"]["postgres"]["command"].as_array().unwrap();
    let setting = command.iter().find_map(|word| word.as_str().unwrap().strip_prefix("max_connections="));
    let server: u32 = setting.expect("the compose file sets max_connections").parse().unwrap();
    assert!(limits.iter().sum::<u32>() + 3 <= server, "{limits:?} do not fit into {server}");
}
