//! `doctor` names what is misconfigured, and what to do.

mod common;

use std::{fs, os::unix::fs::PermissionsExt};

use common::{Home, Platform, text, tributary};
use testkit::postgres;

#[tokio::test]
async fn a_server_that_may_lose_what_was_acknowledged_is_named_with_or_without_a_platform() {
    let home = Home::postgres(postgres::shared().await).await;
    let platform = Platform::up(&home).await;
    let doctor = tributary(&["doctor", "--url", &platform.url]).await;
    let line = |said: &str| said.lines().find(|line| line.contains("database payments")).expect("a line").to_owned();
    let said = line(&text(&doctor));
    assert_eq!(doctor.status.code(), Some(1));
    for finding in ["BAD", "PostgreSQL", "set fsync = on", "superuser", "a role of its own"] {
        assert!(said.contains(finding), "{finding}: {said}");
    }
    platform.kill().await;

    let arguments = home.arguments();
    let all = ["doctor", "--url", "http://127.0.0.1:1"].into_iter().chain(arguments.iter().map(String::as_str));
    let doctor = tributary(&all.collect::<Vec<_>>()).await;
    assert!(line(&text(&doctor)).contains("set fsync = on"), "{}", text(&doctor));
    assert!(text(&doctor).contains("hash chain payments"), "{}", text(&doctor));
}

#[tokio::test]
async fn a_directory_that_others_may_read_is_named() {
    let home = Home::sqlite();
    fs::set_permissions(home.dir(), fs::Permissions::from_mode(0o700)).expect("ours");
    let platform = Platform::up(&home).await;
    let well = tributary(&["doctor", "--url", &platform.url]).await;
    assert!(text(&well).contains("disk of") && text(&well).contains("for its owner alone"), "{}", text(&well));
    fs::set_permissions(home.dir(), fs::Permissions::from_mode(0o755)).expect("ours");
    let doctor = tributary(&["doctor", "--url", &platform.url]).await;
    assert!(text(&doctor).contains("chmod 700"), "{}", text(&doctor));
}
