//! The files that deploy the platform, checked without Docker: `docker-compose.yml` against the Compose Specification,
//! against what the binary really takes and against what each part needs ([`compose`] reads it), and then run: [`local`]
//! starts what it says, and [`smoke`] uses that as `docs/deploying.md` says.

#[path = "../common/mod.rs"]
mod common;
mod compose;
mod local;
mod schema;
mod smoke;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Command,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use common::{console::page, databases};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use testkit::postgres::ThrowAwayPostgres;
use write_side::REGISTER;

use self::compose::{compose, containers, image_environment};

/// compose-spec.json of the Compose Specification (github.com/compose-spec/compose-spec, Apache-2.0), unchanged.
const SPECIFICATION: &str = include_str!("compose-spec.json");

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
        ("/services/orders", "netwrok_mode", json!("host")),
        ("/services/orders", "read_only", json!([])),
        ("/services/orders", "pull_policy", json!(7)),
        ("/services/orders/depends_on/orders-migrate", "condition", json!("healthy")),
        ("/services/orders/deploy/resources/limits", "pids", json!([])),
        ("/services/gateway", "ports", json!("8080")),
        ("/services/orders-db/healthcheck", "tets", json!([])),
        ("", "sevrices", json!({})),
    ] {
        let mut compose = compose();
        compose.pointer_mut(pointer).unwrap()[name] = wrong;
        let error = check(&compose).unwrap_err();
        assert!(error.contains(name), "{pointer}/{name}: {error}");
    }
}

#[test]
fn each_container_is_bounded_and_without_rights_and_nothing_is_open_to_other_machines() {
    for (name, container) in containers() {
        assert_eq!(container.get("read_only"), true, "{name}");
        assert_eq!(*container.get("cap_drop"), json!(["ALL"]), "{name}");
        assert_eq!(*container.get("security_opt"), json!(["no-new-privileges:true"]), "{name}");
        let limits = &container.get("deploy")["resources"]["limits"];
        assert!(["cpus", "memory", "pids"].iter().all(|bound| !limits[bound].is_null()), "{name}: {limits}");
        assert!(!container.get("logging")["options"]["max-size"].is_null(), "{name}");
        // ours has its user in the image
        assert!(container.is_ours() || container.get("user").as_str().is_some_and(|user| user != "root"), "{name}");
        assert!(container.ends_by_itself() || !container.health_check().is_empty(), "{name}");
        for forbidden in ["privileged", "network_mode", "cap_add", "pid", "ipc", "devices"] {
            assert!(container.get(forbidden).is_null(), "{name} has {forbidden}");
        }
        let ports = container.get("ports").as_array().cloned().unwrap_or_default();
        assert!(ports.is_empty() || ["gateway", "prometheus"].contains(&&*name), "{name} publishes {ports:?}");
        assert!(ports.iter().all(|port| port.as_str().unwrap().starts_with("127.0.0.1:")), "{name}: {ports:?}");
    }
}

#[test]
fn each_database_has_a_server_and_a_migration_and_each_role_has_its_process() {
    let containers = containers();
    let until = |name: &str, other: &str| containers[name].waits_for()[other].clone();
    for name in databases() {
        let (server, migration) = (format!("{name}-db"), format!("{name}-migrate"));
        assert_eq!(until(&migration, &server), "service_healthy");
        assert_eq!(containers[&migration].command(), ["migrate", name]);
        let volumes = containers[&server].volumes();
        assert_eq!(volumes, [(name.to_owned(), "/var/lib/postgresql/data".to_owned())]);
        assert!(compose()["volumes"].get(name).is_some(), "{name}");
        let who = containers.values().filter(|one| one.waits_for().contains_key(&migration));
        let who: Vec<&str> = who.map(|one| &*one.name).collect();
        // and `up --wait` takes it for no failure that the migration ends
        assert!(!who.is_empty() && who.iter().all(|who| until(who, &migration) == "service_completed_successfully"));
        match name {
            "query" => assert_eq!(who, ["graphql", "project"]),
            service => {
                assert_eq!(who, [service]);
                assert_eq!(containers[service].command(), ["serve", service]);
            }
        }
    }
    let roles: BTreeSet<&str> =
        REGISTER.iter().map(|entry| entry.name).chain(["project", "graphql", "gateway"]).collect();
    let processes: BTreeSet<&str> = containers.values().filter(|one| one.is_process()).map(|one| &*one.name).collect();
    assert_eq!(processes, roles);
    let gateway = containers["gateway"].waits_for();
    assert!(roles.iter().all(|role| *role == "gateway" || gateway[*role] == "service_healthy"), "{gateway:?}");
}

#[test]
fn whoever_is_named_by_an_address_is_in_the_same_network() {
    let containers = containers();
    for (name, container) in &containers {
        let environment = container.environment();
        let urls = environment.values().filter_map(|value| value.split_once("://")).map(|(_, rest)| rest);
        let hosts = urls.map(|rest| rest.rsplit('@').next().unwrap().split(['/', ':']).next().unwrap());
        for host in hosts.collect::<BTreeSet<_>>() {
            let networks = containers.get(host).unwrap_or_else(|| panic!("{name} names {host}")).networks();
            assert!(container.networks().iter().any(|one| networks.contains(one)), "{name} does not reach {host}");
        }
    }
    for (name, container) in containers.iter().filter(|(_, one)| one.is_database()) {
        assert_eq!(container.networks(), ["databases"], "{name}");
    }
    assert_eq!(compose()["networks"]["databases"]["internal"], true);
}

#[test]
fn each_container_sees_the_secrets_that_it_needs_and_no_others() {
    let compose = compose();
    let containers = containers();
    for (name, secret) in compose["secrets"].as_object().unwrap() {
        assert_eq!(secret["file"], format!("./deploy/secrets/{name}"));
        assert!(containers.values().any(|one| one.secrets().values().any(|used| used == name)), "nobody needs {name}");
    }
    for (name, container) in &containers {
        let mut needed = BTreeSet::new();
        for (variable, value) in container.environment() {
            needed.extend(value.strip_prefix("/run/secrets/").map(str::to_owned));
            // the password of who logs in lies in a file of their name
            let login = value.strip_prefix("postgres://").and_then(|rest| rest.split_once('@'));
            needed.extend(login.map(|(role, _)| role.to_owned()));
            assert!(login.is_none_or(|(role, _)| !role.contains(':')), "{name}: a password stands in {variable}");
        }
        // who migrates tells the server the passwords of those who log in
        let logins = needed.contains("postgres") && container.is_ours();
        let seen = container.secrets().into_keys();
        let seen: BTreeSet<String> = seen.filter(|seen| !(logins && seen.ends_with("_a"))).collect();
        let by_file = if name == "prometheus" { BTreeSet::from(["token".to_owned()]) } else { BTreeSet::new() };
        assert_eq!(seen, needed.union(&by_file).cloned().collect(), "{name}");
    }
}

#[test]
fn the_binary_knows_every_variable_that_the_files_set() {
    for container in containers().values().filter(|one| one.is_ours()) {
        let verb = &container.command()[0];
        let help = Command::new(env!("CARGO_BIN_EXE_tributary")).args([verb, "--help"]).output().unwrap();
        let help = String::from_utf8(help.stdout).unwrap();
        let known = |name: &str| help.contains(&format!("[env: {name}=")) || help.contains(&format!("[env: {name}]"));
        for name in container.environment().into_keys() {
            assert!(known(&name), "{name} is no variable of `tributary {verb}`:\n{help}");
        }
        if verb == "serve" {
            assert!(image_environment().keys().all(|name| known(name)), "the image sets {:?}", image_environment());
        }
    }
}

/// Without a line in `.env`, the file is whole.
#[test]
fn what_can_be_chosen_has_a_value_without_being_chosen() {
    let file = page("docker-compose.yml");
    let chosen: Vec<&str> = file.split("${").skip(1).map(|rest| rest.split('}').next().unwrap()).collect();
    assert!(!chosen.is_empty() && chosen.iter().all(|name| name.contains(":-")), "{chosen:?}");
    let manual = page("docs/deploying.md");
    for name in chosen {
        let (name, value) = name.split_once(":-").unwrap();
        assert!(manual.contains(&format!("(`{name}`, {value})")), "{name}");
    }
}

#[test]
fn the_image_runs_as_a_user_without_rights_and_builds_what_is_locked() {
    let dockerfile = page("Dockerfile");
    assert!(dockerfile.contains("\nUSER tributary\n"));
    assert!(dockerfile.contains("cargo build --release --locked"));
    let copied =
        dockerfile.lines().filter_map(|line| line.strip_prefix("COPY ")).filter(|line| !line.starts_with("--from"));
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for file in copied.flat_map(|line| line.split(' ').rev().skip(1).map(str::to_owned).collect::<Vec<_>>()) {
        assert!(repository.join(&file).exists(), "COPY of {file}, which is not there");
    }
    let built: Vec<_> = containers().into_values().filter(|one| !one.get("build").is_null()).collect();
    assert!(built.len() == 1 && built[0].is_ours(), "one image, built once");
}

/// The containers that `deploy/prometheus.yml` names.
fn prometheus_targets() -> Vec<String> {
    let file: Value = serde_yaml_ng::from_str(&page("deploy/prometheus.yml")).unwrap();
    let targets = file["scrape_configs"][0]["static_configs"][0]["targets"].as_array().unwrap();
    let name = |target: &Value| target.as_str().unwrap().strip_suffix(":8080").map(str::to_owned);
    targets.iter().map(|target| name(target).expect("the port that all listen on")).collect()
}

#[test]
fn prometheus_reads_every_process_and_nothing_that_is_not_there() {
    let containers = containers();
    let targets: BTreeSet<String> = prometheus_targets().into_iter().collect();
    let processes = containers.values().filter(|one| one.is_process());
    assert_eq!(targets, processes.map(|one| one.name.clone()).collect());
    let prometheus = &containers["prometheus"];
    assert!(targets.iter().all(|target| containers[target].networks().contains(&prometheus.networks()[0])));
    let file = "/etc/prometheus/prometheus.yml";
    assert!(prometheus.command().contains(&format!("--config.file={file}")));
    let mounted = ("./deploy/prometheus.yml".to_owned(), format!("{file}:ro"));
    assert!(prometheus.volumes().contains(&mounted), "{:?}", prometheus.volumes());
    assert!(page("deploy/prometheus.yml").contains("credentials_file: /run/secrets/token\n"));
}

/// What the script gives to whoever follows or asks others, and that it goes on from what is there.
#[test]
fn tokens_open_what_each_process_needs_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    for script in ["make-secrets", "make-token"] {
        std::fs::copy(deploy.join(script), folder.path().join(script)).unwrap();
    }
    let make = || {
        let made = Command::new(folder.path().join("make-secrets")).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let read = |entry: std::io::Result<std::fs::DirEntry>| {
            let entry = entry.unwrap();
            (entry.file_name().into_string().unwrap(), std::fs::read_to_string(entry.path()).unwrap())
        };
        std::fs::read_dir(folder.path().join("secrets")).unwrap().map(read).collect::<BTreeMap<_, _>>()
    };
    let (first, second) = (make(), make());
    let compose = compose();
    let named: BTreeSet<&str> = compose["secrets"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(second.keys().map(String::as_str).filter(|name| *name != "issuer_key").collect::<BTreeSet<_>>(), named);
    assert!(first.iter().all(|(name, secret)| name.starts_with("token_") || second[name] == *secret));
    assert!(
        first.iter().all(|(name, secret)| !name.contains("_a") || name.starts_with("token_") || secret.len() == 64)
    );

    let claims = |name: &str| -> Value {
        let token = second.get(&format!("token_{name}")).unwrap_or_else(|| panic!("{name} has no token"));
        serde_json::from_slice(&BASE64.decode(token.split('.').nth(1).unwrap()).unwrap()).unwrap()
    };
    let scopes = |name: &str| {
        let scope = claims(name)["scope"].as_str().unwrap().to_owned();
        scope.split(' ').map(str::to_owned).collect::<BTreeSet<_>>()
    };
    for entry in REGISTER.iter().filter(|entry| !entry.follows.is_empty() || !entry.asks.is_empty()) {
        let asks = (!entry.asks.is_empty()).then(|| "service".to_owned());
        let needed = entry.follows.iter().map(|source| format!("feed:{source}")).chain(asks).collect();
        assert_eq!(scopes(entry.name), needed, "{}", entry.name);
        assert_eq!(claims(entry.name)["sub"], entry.name);
    }
    assert_eq!((scopes("project"), scopes("prometheus")), (["feed".into()].into(), ["metrics".into()].into()));
    let token = |arguments: &[&str]| {
        let made = Command::new(folder.path().join("make-token")).args(arguments).output().unwrap();
        (made.status.code(), String::from_utf8_lossy(&made.stderr).into_owned())
    };
    for wrong in [&[][..], &["desk"], &["a b", "query"], &["desk", "que\"ry"], &["desk", "query", "soon"]] {
        let (code, said) = token(wrong);
        assert!(code == Some(2) && said.starts_with("make-token: "), "{wrong:?}: {said}");
    }
}

/// One of each two roles at a time may hold what it may, and those of one database together what its server takes, less
/// the superuser's three.
#[tokio::test]
async fn the_roles_of_a_database_may_hold_no_more_connections_than_its_server_takes() {
    let server = ThrowAwayPostgres::start().await.unwrap();
    let url = server.url("postgres");
    let containers = containers();
    for name in databases() {
        let migrate = ["migrate", name, "--prefix", name, "--admin-url", &url];
        let migrated = Command::new(env!("CARGO_BIN_EXE_tributary")).args(migrate).output().unwrap();
        assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
        let sum = "select sum(rolconnlimit) from pg_roles where rolcanlogin and rolname like $1 || '\\_%\\_a'";
        let mut superuser = PgConnection::connect(&url).await.unwrap();
        let roles: i64 = sqlx::query_scalar(sum).bind(name).fetch_one(&mut superuser).await.unwrap();
        let command = containers[&format!("{name}-db")].command();
        let setting = command.iter().find_map(|word| word.strip_prefix("max_connections="));
        let takes: i64 = setting.expect("the compose file sets max_connections").parse().unwrap();
        assert!(roles > 0 && roles + 3 <= takes, "{name}: {roles} do not fit into {takes}");
    }
}
