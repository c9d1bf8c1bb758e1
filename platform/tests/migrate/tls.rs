//! What a URL says of TLS is what happens: a server is believed with a certificate of the authority that the URL names, for
//! the host that it names, and else refused.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::Path,
    process::Command,
};

use event_store::postgres::{PostgresLog, PostgresOptions};
use testkit::postgres::ThrowAwayPostgres;

use crate::common::{text, tributary};

fn openssl(folder: &Path, arguments: &str) {
    let made = Command::new("openssl").current_dir(folder).args(arguments.split(' ')).output();
    let made = made.expect("openssl is there: it comes with the server's package");
    assert!(made.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&made.stderr));
}

/// Two authorities, and a server's certificate of the first for `localhost`.
fn certificates(folder: &Path) {
    const KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    for authority in ["ca", "other-ca"] {
        openssl(
            folder,
            &format!("req -x509 {KEY} -days 2 -keyout {authority}.key -out {authority}.pem -subj /CN={authority}"),
        );
    }
    let name = "-subj /CN=localhost -addext subjectAltName=DNS:localhost -addext basicConstraints=CA:FALSE";
    openssl(folder, &format!("req {KEY} -keyout server.key -out server.csr {name}"));
    let sign = "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out server.pem -days 2";
    openssl(folder, &format!("{sign} -copy_extensions copy"));
}

/// Takes encrypted connections and no others.
async fn server_with(folder: &Path) -> ThrowAwayPostgres {
    let server = ThrowAwayPostgres::start().await.unwrap();
    let owner = fs::metadata(server.data()).unwrap();
    for file in ["server.key", "server.pem"] {
        let place = server.data().join(file);
        fs::copy(folder.join(file), &place).unwrap();
        chown(&place, Some(owner.uid()), Some(owner.gid())).unwrap();
        fs::set_permissions(&place, Permissions::from_mode(0o600)).unwrap();
    }
    for (setting, value) in [("ssl_cert_file", "server.pem"), ("ssl_key_file", "server.key"), ("ssl", "on")] {
        server.execute("postgres", &format!("alter system set {setting} = '{value}'")).await.unwrap();
    }
    server.execute("postgres", "create database tributary_users").await.unwrap();
    fs::write(server.data().join("pg_hba.conf"), "hostssl all all 127.0.0.1/32 trust\n").unwrap();
    server.execute("postgres", "select pg_reload_conf()").await.unwrap();
    server
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_another_authority_or_name_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let server = server_with(folder.path()).await;
    let port = server.port();
    let url = |host: &str, mode: &str, authority: &str, database: &str| {
        let root = folder.path().join(format!("{authority}.pem"));
        format!("postgres://postgres@{host}:{port}/{database}?sslmode={mode}&sslrootcert={}", root.display())
    };
    for (host, mode, authority, is_believed) in [
        ("localhost", "verify-full", "ca", true),
        ("localhost", "verify-full", "other-ca", false),
        ("localhost", "verify-ca", "other-ca", false),
        ("127.0.0.1", "verify-full", "ca", false),
        ("127.0.0.1", "verify-ca", "ca", true),
        ("127.0.0.1", "require", "ca", true),
        ("127.0.0.1", "disable", "ca", false),
    ] {
        let of_log = url(host, mode, authority, "tributary_users");
        let log = PostgresLog::connect(&of_log, "users", PostgresOptions::default()).await;
        assert_eq!(log.is_ok(), is_believed, "{host} {mode} {authority}: {:?}", log.err());
        if let Ok(log) = log {
            log.close().await;
        }
        let admin = url(host, mode, authority, "postgres");
        let told = tributary(&["migrate", "users", "--check", "--admin-url", &admin]).await;
        assert_eq!(told.status.code() == Some(3), is_believed, "{host} {mode} {authority}: {}", text(&told));
    }
}
