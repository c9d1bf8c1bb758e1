//! The files that deploy the platform, checked without Docker: `docker-compose.yml` against the Compose Specification and
//! against what the binary really takes, and what they make against a real server.

#[path = "../common/mod.rs"]
mod common;
mod schema;

use std::{fs, path::PathBuf, process::Command};

use common::{Home, Platform, databases};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use testkit::postgres::ThrowAwayPostgres;

/// compose-spec.json of the Compose Specification (github.com/compose-spec/compose-spec, Apache-2.0), unchanged.
const SPECIFICATION: &str = include_str!("compose-spec.json");

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
        ("/services/platform/depends_on/migrate", "condition", json!("healthy")),
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
        let ends_by_itself = service["restart"] == "no";
        assert!(ends_by_itself || service["healthcheck"]["test"].is_array(), "{name}");
        for port in service["ports"].as_array().into_iter().flatten() {
            assert!(port.as_str().unwrap().starts_with("127.0.0.1:"), "{name} publishes {port}");
        }
    }
    let platform = &compose["services"]["platform"];
    assert!(platform["environment"]["TRIBUTARY_LISTEN"].as_str().unwrap().starts_with("127.0.0.1:"));
    assert_eq!(platform["read_only"], true);
    assert_eq!(platform["cap_drop"], json!(["ALL"]));
    assert_eq!(platform["depends_on"]["migrate"]["condition"], "service_completed_successfully");
    assert_eq!(compose["services"]["migrate"]["depends_on"]["postgres"]["condition"], "service_healthy");
}

#[test]
fn the_binary_knows_every_variable_that_the_files_set() {
    let compose = compose();
    for (service, verb) in [("platform", "up"), ("migrate", "migrate")] {
        let help = Command::new(env!("CARGO_BIN_EXE_tributary")).args([verb, "--help"]).output().unwrap();
        let help = String::from_utf8(help.stdout).unwrap();
        let known = |name: &str| help.contains(&format!("[env: {name}=")) || help.contains(&format!("[env: {name}]"));
        let set = compose["services"][service]["environment"].as_object().unwrap().keys();
        let by_the_image = ["TRIBUTARY_LOG_FORMAT", "TRIBUTARY_DATA_DIR"].into_iter().filter(|_| verb == "up");
        for name in set.map(String::as_str).chain(by_the_image) {
            assert!(known(name), "{name} is no variable of `tributary {verb}`:\n{help}");
        }
    }
    let environment = &compose["services"]["platform"]["environment"];
    for service in databases() {
        assert!(environment.get(format!("TRIBUTARY_{}_DATABASE_URL", service.to_uppercase())).is_some());
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

/// What a service of the compose file is given to run with, on a server at another port.
fn environment(service: &str, port: u16) -> Vec<(String, String)> {
    let compose = compose();
    let set = compose["services"][service]["environment"].as_object().unwrap().clone();
    let here = |value: &str| value.replace("${TRIBUTARY_POSTGRES_PORT:-54320}", &port.to_string());
    set.into_iter().map(|(name, value)| (name, here(value.as_str().unwrap()))).collect()
}

/// The script that makes passwords, the container that migrates, and the URLs that the platform is given, on a server that
/// asks for passwords.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_files_say_makes_databases_that_the_platform_runs_on() {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(repository().join("deploy/make-secrets"), folder.path().join("make-secrets")).unwrap();
    for _ in 0..2 {
        let made = Command::new("sh").arg(folder.path().join("make-secrets")).status().unwrap();
        assert!(made.success());
    }
    let compose = compose();
    let secrets = folder.path().join("secrets");
    for (name, secret) in compose["secrets"].as_object().unwrap() {
        assert_eq!(secret["file"], format!("./deploy/secrets/{name}"));
        assert_eq!(fs::read_to_string(secrets.join(name)).unwrap().len(), 64, "{name}");
    }
    assert_eq!(fs::read_dir(&secrets).unwrap().count(), compose["secrets"].as_object().unwrap().len());

    let server = ThrowAwayPostgres::start().await.unwrap();
    let superuser = fs::read_to_string(secrets.join("postgres")).unwrap();
    server.execute("postgres", &format!("alter role postgres password '{superuser}'")).await.unwrap();
    fs::write(server.data().join("pg_hba.conf"), "host all all 127.0.0.1/32 scram-sha-256\n").unwrap();
    server.execute("postgres", "select pg_reload_conf()").await.unwrap();

    // each container sees the secrets that it is given, and no others
    let mounted = |service: &str| {
        let mounted = tempfile::tempdir().unwrap();
        for name in compose["services"][service]["secrets"].as_array().unwrap() {
            fs::copy(secrets.join(name.as_str().unwrap()), mounted.path().join(name.as_str().unwrap())).unwrap();
        }
        mounted
    };
    let given = |service: &'static str, secrets: &std::path::Path| {
        let at = secrets.display().to_string();
        environment(service, server.port())
            .into_iter()
            .map(move |(name, value)| (name, value.replace("/run/secrets", &at)))
    };
    let migrating = mounted("migrate");
    let migrated = Command::new(env!("CARGO_BIN_EXE_tributary"))
        .arg("migrate")
        .envs(given("migrate", migrating.path()))
        .output()
        .unwrap();
    assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));

    let running = mounted("platform");
    let ours = ["TRIBUTARY_LISTEN", "TRIBUTARY_DATA_DIR"];
    let variables: Vec<_> =
        given("platform", running.path()).filter(|(name, _)| !ours.contains(&name.as_str())).collect();
    let variables: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (&**name, &**value)).collect();
    let platform = Platform::up_with(&Home::sqlite(), &[], &variables).await.unwrap();
    assert_eq!(platform.terminate().await, Some(0));
}

/// One of each two roles at a time may hold what it may, and all of them together what the server takes, less the superuser's
/// three.
#[tokio::test]
async fn the_roles_together_may_hold_no_more_connections_than_the_server_takes() {
    let server = ThrowAwayPostgres::start().await.unwrap();
    let url = server.url("postgres");
    let migrated =
        Command::new(env!("CARGO_BIN_EXE_tributary")).args(["migrate", "--admin-url", &url]).output().unwrap();
    assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
    let sum =
        "select sum(rolconnlimit) from pg_roles where rolname like 'tributary%' and rolcanlogin and rolname ~ '_a$'";
    let roles: i64 = sqlx::query_scalar(sum).fetch_one(&mut PgConnection::connect(&url).await.unwrap()).await.unwrap();
    let compose = compose();
    let command = compose["services"]["postgres"]["command"].as_array().unwrap();
    let setting = command.iter().find_map(|word| word.as_str().unwrap().strip_prefix("max_connections="));
    let takes: i64 = setting.expect("the compose file sets max_connections").parse().unwrap();
    assert!(roles > 0 && roles + 3 <= takes, "{roles} do not fit into {takes}");
}
