//! PgBouncer before a throw-away server: many clients share few connections of the server, each for a transaction at a time.
//!
//! Transactions can be shared from 1.21 on, which knows prepared statements; what is older keeps a connection of the server
//! for each client. [`PgBouncer::shares_transactions`] says which it is. `TRIBUTARY_PGBOUNCER` names a program other than the
//! one in PATH.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::unix::{
        fs::{PermissionsExt, chown},
        process::CommandExt,
    },
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use tempfile::TempDir;

use crate::postgres::{SUPERUSER, ThrowAwayPostgres};

const MISSING: &str =
    "no pgbouncer in PATH: install it with `apt-get install pgbouncer`, or name it in TRIBUTARY_PGBOUNCER";

/// The first that knows prepared statements when transactions are shared.
const PREPARED_SINCE: (u32, u32) = (1, 21);

const START_TIMEOUT: Duration = Duration::from_secs(10);

/// Connections for each role and database where every client has one to itself.
const SESSIONS_MAX: u32 = 60;

/// It refuses to run as root.
const NOBODY: u32 = 65_534;

/// A running PgBouncer, which takes whom the server takes. Ends when it is dropped.
pub struct PgBouncer {
    child: Child,
    port: u16,
    shares_transactions: bool,
    _folder: TempDir,
}

impl PgBouncer {
    /// Starts one before `server`, with at most `server_connections_max` connections to it for each role and database, where
    /// these can be shared.
    pub fn start(server: &ThrowAwayPostgres, server_connections_max: u32) -> anyhow::Result<Self> {
        let program = std::env::var_os("TRIBUTARY_PGBOUNCER").map_or_else(|| PathBuf::from("pgbouncer"), PathBuf::from);
        let shares_transactions = version(&program)? >= PREPARED_SINCE;
        let server_connections_max = if shares_transactions { server_connections_max } else { SESSIONS_MAX };
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|free| free.local_addr())?.port();
        let folder = tempfile::tempdir().context("a folder")?;
        let mut settings = vec![
            format!("listen_port = {port}"),
            "listen_addr = 127.0.0.1".to_owned(),
            "unix_socket_dir =".to_owned(),
            "auth_type = trust".to_owned(),
            format!("auth_user = {SUPERUSER}"),
            "auth_query = select rolname, coalesce(rolpassword, '') from pg_authid where rolname = $1".to_owned(),
            format!("auth_file = {}", folder.path().join("users").display()),
            // what a client asks for at its start would stay behind in a connection that others use: roles have it instead
            "ignore_startup_parameters = extra_float_digits, options".to_owned(),
            format!("default_pool_size = {server_connections_max}"),
            "max_client_conn = 1000".to_owned(),
            // a test does not wait for it, nor leave a server full of connections to the next
            "server_login_retry = 0.1".to_owned(),
            "server_idle_timeout = 2".to_owned(),
        ];
        if shares_transactions {
            settings.extend(["pool_mode = transaction".to_owned(), "max_prepared_statements = 200".to_owned()]);
        } else {
            settings.push("pool_mode = session".to_owned());
        }
        let databases = format!("[databases]\n* = host=127.0.0.1 port={}\n", server.port());
        let file = folder.path().join("pgbouncer.ini");
        fs::write(&file, format!("{databases}[pgbouncer]\n{}\n", settings.join("\n"))).context("its settings")?;
        fs::write(folder.path().join("users"), format!("\"{SUPERUSER}\" \"\"\n")).context("its users")?;
        let mut command = Command::new(&program);
        command.arg("-q").arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if crate::postgres::is_root() {
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).context("its folder")?;
            chown(&file, Some(NOBODY), Some(NOBODY)).context("its settings")?;
            command.uid(NOBODY).gid(NOBODY);
        }
        let child = command.spawn().context("start pgbouncer")?;
        let mut started = Self { child, port, shares_transactions, _folder: folder };
        let since = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            if let Some(status) = started.child.try_wait().context("look after pgbouncer")? {
                bail!("pgbouncer ended at once: {status}");
            }
            ensure!(since.elapsed() < START_TIMEOUT, "pgbouncer did not listen within {START_TIMEOUT:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(started)
    }

    /// Port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether a connection of the server is a client's for a transaction only.
    pub fn shares_transactions(&self) -> bool {
        self.shares_transactions
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn version(program: &PathBuf) -> anyhow::Result<(u32, u32)> {
    let said = Command::new(program).arg("--version").output().context(MISSING)?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let number = said.split_whitespace().nth(1).with_context(|| format!("pgbouncer --version says {said}"))?;
    let mut parts = number.split('.').map(|part| part.parse().unwrap_or(0));
    Ok((parts.next().unwrap_or(0), parts.next().unwrap_or(0)))
}
