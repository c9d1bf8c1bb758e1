//! Settings, as they are shown and as they take effect: flags before variables, before a file, before defaults.

mod common;

use std::path::Path;

use common::{Home, Platform, binary, text, tributary};
use serde_json::Value;
use tokio::process::Command;

fn write(dir: &Path, settings: &str) -> String {
    let file = dir.join("tributary.json");
    std::fs::write(&file, settings).expect("a file");
    file.display().to_string()
}

/// `config show` with a variable set: exit code, and the settings.
async fn shown(arguments: &[&str], variable: (&str, &str)) -> (Option<i32>, Vec<Value>) {
    let all = [&["-o", "json", "config", "show"], arguments].concat();
    let done = Command::new(binary()).args(all).env(variable.0, variable.1).output().await.expect("it runs");
    (done.status.code(), serde_json::from_slice(&done.stdout).unwrap_or_default())
}

fn named<'a>(settings: &'a [Value], name: &str) -> (&'a str, &'a str) {
    let found = settings.iter().find(|setting| setting["name"] == name).expect(name);
    (found["value"].as_str().unwrap_or("-"), found["origin"].as_str().expect("an origin"))
}

#[tokio::test]
async fn every_setting_is_shown_with_who_says_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = write(dir.path(), r#"{"keep-keys-days": 7, "listen": "127.0.0.1:9001", "data-dir": "elsewhere"}"#);
    let variable = ("TRIBUTARY_LISTEN", "127.0.0.1:9002");
    let (code, settings) = shown(&["--config", &config, "--checkout-deadline-seconds", "60"], variable).await;
    assert_eq!(code, Some(0));
    assert_eq!(named(&settings, "keep-keys-days"), ("7", "file"));
    assert_eq!(named(&settings, "listen"), ("127.0.0.1:9002", "environment"));
    assert_eq!(named(&settings, "data-dir"), ("elsewhere", "file"));
    assert_eq!(named(&settings, "checkout-deadline-seconds"), ("60", "flag"));
    assert_eq!(named(&settings, "lease-seconds").1, "default");
    assert_eq!(named(&settings, "users-database-url"), ("-", "default"));

    // a variable that is there and empty, as an env file has it, hides nothing
    let issuer = write(dir.path(), r#"{"auth-issuer": "https://issuer.example", "auth-audience": "tributary"}"#);
    let (_, settings) = shown(&["--config", &issuer], ("TRIBUTARY_AUTH_ISSUER", "")).await;
    assert_eq!(named(&settings, "auth-issuer"), ("https://issuer.example", "file"));
    // nor what there is without anybody saying it, a number or an address among it, or what is global
    for (variable, name, default) in [
        ("TRIBUTARY_LISTEN", "listen", "127.0.0.1:8080"),
        ("TRIBUTARY_KEEP_KEYS_DAYS", "keep-keys-days", "30"),
        ("TRIBUTARY_RATE_LIMIT_PER_SECOND", "rate-limit-per-second", "-"),
        ("TRIBUTARY_CONFIG", "data-dir", "data"),
        ("TRIBUTARY_LOG_FORMAT", "log-format", "human"),
    ] {
        let (code, settings) = shown(&[], (variable, "")).await;
        assert_eq!(code, Some(0), "{variable}");
        assert_eq!(named(&settings, name), (default, "default"), "{variable}");
    }

    // what does not go together is shown, and refused as `up` refuses it
    let secret = ("TRIBUTARY_USERS_DATABASE_URL", "postgres://ana:secret@localhost/users");
    let (code, settings) = shown(&[], secret).await;
    assert_eq!(code, Some(2));
    assert_eq!(named(&settings, "users-database-url"), ("postgres://***@localhost/users", "environment"));
    let person = tributary(&["config", "show"]).await;
    assert!(text(&person).contains("TRIBUTARY_GRAPHQL_ALLOWED_ORIGINS"), "{}", text(&person));
}

#[tokio::test]
async fn a_role_that_runs_apart_has_settings_of_its_own() {
    let dir = tempfile::tempdir().expect("a directory");
    let said = r#"{"services-url": "http://services:8080", "query-database-url": "postgres://ana:secret@localhost/query",
        "keep-keys-days": 7, "demo": true}"#;
    let config = write(dir.path(), said);
    let variable = ("TRIBUTARY_LISTEN", "127.0.0.1:9002");
    let (code, settings) = shown(&["serve", "orders", "--feed-compression", "--config", &config], variable).await;
    assert_eq!(code, Some(0));
    assert_eq!(named(&settings, "services-url"), ("http://services:8080", "file"));
    assert_eq!(named(&settings, "keep-keys-days"), ("7", "file"));
    assert_eq!(named(&settings, "listen"), ("127.0.0.1:9002", "environment"));
    assert_eq!(named(&settings, "feed-compression"), ("true", "flag"));
    assert!(settings.iter().all(|setting| setting["name"] != "demo"), "`serve` has no demo: {settings:?}");
    // what is required may stand in the file
    for role in ["project", "graphql"] {
        let (code, settings) = shown(&[role, "--config", &config], variable).await;
        assert_eq!(code, Some(0), "{role}");
        assert_eq!(named(&settings, "query-database-url"), ("postgres://***@localhost/query", "file"));
    }
    // nobody says where the projector is
    let (code, settings) = shown(&["gateway", "--config", &config], variable).await;
    assert_eq!(code, Some(2));
    assert_eq!(named(&settings, "project-url"), ("-", "default"));
}

#[tokio::test]
async fn a_platform_runs_with_what_its_file_says() {
    let home = Home::sqlite();
    let config = write(home.dir(), r#"{"graphql-no-introspection": true, "listen": "127.0.0.1:1"}"#);
    // the test's own --listen goes before the file's
    let platform = Platform::up_with(&home, &["--config", &config], &[]).await.expect("it comes up");
    let query = serde_json::json!({ "query": "{ __schema { queryType { name } } }" });
    let asked = platform.http.post(format!("{}/graphql", platform.url)).json(&query).send().await.expect("an answer");
    let answer: Value = asked.json().await.expect("JSON");
    assert!(answer["data"]["__schema"].is_null(), "introspection is off: {answer}");

    let config = write(home.dir(), r#"{"lissten": "127.0.0.1:1"}"#);
    let refused = tributary(&["projection", "ls", "--config", &config]).await;
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused).contains("no setting lissten"), "{}", text(&refused));
    let gone = tributary(&["projection", "ls", "--config", "/nowhere.json"]).await;
    assert_eq!(gone.status.code(), Some(2), "{}", text(&gone));
}
