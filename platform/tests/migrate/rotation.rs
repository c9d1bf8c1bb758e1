//! Passwords are changed while the platform runs: the other role of each two gets one, the files name it, and in a while
//! nobody uses the first.

use std::{collections::BTreeMap, fs, time::Duration};

use crate::{
    common::{Home, Platform, databases, text},
    place::{Place, group_of},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_login_is_replaced_without_a_restart_and_without_a_failed_command() {
    let place = Place::migrated().await;
    let folder = tempfile::tempdir().unwrap();
    let files: BTreeMap<_, _> = databases().map(|name| (name, folder.path().join(format!("{name}-url")))).collect();
    let log_in_as = |which: &str| {
        for (name, file) in &files {
            // the password comes from its own file
            let role = format!("{}_{which}", group_of(name));
            let url = place.server.url_as(&role, &format!("tributary_{name}"));
            // as secrets are replaced: all at once
            fs::write(file.with_extension("new"), url).unwrap();
            fs::rename(file.with_extension("new"), file).unwrap();
        }
    };
    log_in_as("a");
    let mut arguments: Vec<String> =
        files.iter().map(|(name, file)| format!("--{name}-database-url-file={}", file.display())).collect();
    arguments.push(format!("--secrets-dir={}", place.secrets()));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let platform = Platform::up_with(&Home::sqlite(), &arguments, &[]).await.unwrap();
    let mut entered = 0;
    let mut enter = async || {
        entered += 1;
        let key = format!("product-{entered}");
        let body = serde_json::json!({"sku": key, "name": key, "unit_price": {"amount_minor": 1, "currency": "EUR"}});
        let token = platform.command("/products", &key, "", body).await.token;
        platform.query("{ products(first: 1) { totalCount } }", &token).await;
    };
    enter().await;

    // the second role gets a password, and the files name it
    for group in databases().map(group_of) {
        fs::write(place.secret(&format!("{group}_b")), format!("another of {group}\n")).unwrap();
    }
    let given = place.migrate(&[]).await;
    assert!(given.status.success() && text(&given).contains("password '...'"), "{}", text(&given));
    log_in_as("b");
    let sessions = |which: &str| {
        format!("select count(*) from pg_stat_activity where usename like 'tributary%' and usename like '%\\_{which}'")
    };
    // what is not used is dropped by and by; what is, at once
    let writers =
        "select count(*) from pg_stat_activity where usename = 'tributary_catalog_a' and query like '%append%'";
    let started = std::time::Instant::now();
    while place.count(&sessions("b")).await == 0 || place.count(writers).await > 0 {
        assert!(started.elapsed() < Duration::from_secs(30), "the login is not replaced");
        enter().await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    // and the first is shut out: whoever still has a connection loses it
    for group in databases().map(group_of) {
        fs::write(place.secret(&format!("{group}_a")), "nobody's any more").unwrap();
    }
    assert!(place.migrate(&[]).await.status.success());
    tokio::time::sleep(Duration::from_secs(2)).await;
    place.as_superuser(
        "postgres",
        "select pg_terminate_backend(pid) from pg_stat_activity where usename like 'tributary%' and usename like '%\\_a'",
    )
    .await;
    for _ in 0..20 {
        enter().await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(place.count(&sessions("a")).await, 0);
    assert_eq!(platform.terminate().await, Some(0));
}
