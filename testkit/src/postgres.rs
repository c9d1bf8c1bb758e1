//! Throw-away PostgreSQL servers: real ones, made for one test binary and gone with it.
//!
//! [`shared`] starts one server per process and [`ThrowAwayPostgres::create_database`] gives every test a database of
//! its own. A test that stops, crashes or starves its server starts one for itself with
//! [`ThrowAwayPostgres::start_with`].
//!
//! A server never outlives its owner. A small shell holds it and reads from a pipe that only this process can write:
//! when the process ends, in whatever way (panic, SIGKILL, a static that is never dropped), the pipe ends too, and the
//! shell stops the server and removes its directory. `PR_SET_PDEATHSIG` would not do: it fires when the *thread* that
//! started the server ends, and each test has a thread of its own.

use std::{
    fs,
    io::Write,
    net::TcpListener,
    os::unix::{
        fs::{MetadataExt, PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use sqlx::{ConnectOptions, Connection, Executor, PgConnection, postgres::PgConnectOptions};
use tokio::sync::OnceCell;

use crate::small_disk::SmallDisk;

/// How long a server may take to accept connections; crash recovery included.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// Another process may take the port between our look and the server's start.
const PORT_ATTEMPTS: usize = 5;
const POLL_INTERVAL: Duration = Duration::from_millis(5);

const MISSING: &str = "no PostgreSQL server programs (initdb, postgres) in PATH or /usr/lib/postgresql/*/bin: install \
                       them with `apt-get install postgresql-15` (any version from 15), or put their folder into PATH";

/// Runs the server and waits for a word: `fast` or `immediate` stop it and keep its directory; the end of the pipe
/// stops it and removes the directory. It lives in a process group of its own, so that Ctrl-C ends the tests first.
const KEEPER: &str = r#"
bin=$1; dir=$2; shift 2
trap '' INT HUP TERM
"$bin/postgres" -D "$dir/data" "$@" >>"$dir/log" 2>&1 &
server=$!
word=; read -r word
case "$word" in fast) kill -INT $server ;; *) kill -QUIT $server ;; esac 2>/dev/null
wait $server
[ -n "$word" ] || rm -rf "$dir"
"#;

/// What kind of server a test wants.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Off is fine where no machine crash is tested (a killed server loses nothing); benchmarks turn it on.
    pub fsync: bool,
    pub max_connections: u32,
    /// Gives it a tablespace [`SMALL_DISK`] on a disk of so many MiB.
    pub small_disk_mib: Option<u32>,
    /// More lines for `postgresql.conf`.
    pub more: Vec<(String, String)>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { fsync: false, max_connections: 200, small_disk_mib: None, more: Vec::new() }
    }
}

impl Settings {
    /// As a careful administrator would run it: for figures.
    pub fn durable() -> Self {
        Self { fsync: true, ..Self::default() }
    }

    pub fn max_connections(mut self, connections: u32) -> Self {
        self.max_connections = connections;
        self
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.more.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// A server of our own on a loopback port; it takes any role without a password.
#[derive(Debug)]
pub struct ThrowAwayPostgres {
    bin: PathBuf,
    dir: PathBuf,
    user: Option<User>,
    settings: Settings,
    port: u16,
    keeper: Mutex<Option<Child>>,
    databases: AtomicU64,
    /// Let go of when the server is gone.
    small_disk: Option<SmallDisk>,
}

/// The tablespace that is on a small disk.
pub const SMALL_DISK: &str = "small_disk";

const DISK_FULL: &str = "53100";

/// The superuser of throw-away servers.
pub const SUPERUSER: &str = "postgres";

static SHARED: OnceCell<ThrowAwayPostgres> = OnceCell::const_new();

/// The one server of this process, started by whoever asks first.
pub async fn shared() -> &'static ThrowAwayPostgres {
    let started = SHARED.get_or_try_init(ThrowAwayPostgres::start).await;
    started.unwrap_or_else(|error| panic!("a throw-away PostgreSQL server: {error:#}"))
}

/// A fresh database on the shared server: its URL as superuser.
pub async fn fresh_database(name_prefix: &str) -> String {
    let created = shared().await.create_database(name_prefix).await;
    created.unwrap_or_else(|error| panic!("a database on the throw-away server: {error:#}"))
}

impl ThrowAwayPostgres {
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_with(Settings::default()).await
    }

    pub async fn start_with(settings: Settings) -> anyhow::Result<Self> {
        let server = tokio::task::spawn_blocking(move || Self::make(settings)).await.context("start PostgreSQL")??;
        if let Some(disk) = &server.small_disk {
            let place = disk.path().display();
            server.execute("postgres", &format!("create tablespace {SMALL_DISK} location '{place}'")).await?;
        }
        Ok(server)
    }

    /// Port on 127.0.0.1; it stays over a restart.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `database` as superuser.
    pub fn url(&self, database: &str) -> String {
        self.url_as(SUPERUSER, database)
    }

    /// `database` as any role.
    pub fn url_as(&self, role: &str, database: &str) -> String {
        format!("postgres://{role}@127.0.0.1:{}/{database}?sslmode=disable", self.port)
    }

    /// Where the server's programs are: `pg_dump`, `psql`.
    pub fn bin(&self) -> &Path {
        &self.bin
    }

    /// Where the server's files are.
    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// What the server has logged.
    pub fn said(&self) -> String {
        let log = fs::read(self.dir.join("log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// Makes an empty database `<name_prefix>_<n>` and gives its URL as superuser. It goes away with the server.
    pub async fn create_database(&self, name_prefix: &str) -> anyhow::Result<String> {
        let name = format!("{name_prefix}_{}", self.databases.fetch_add(1, Ordering::Relaxed) + 1);
        self.execute("postgres", &format!(r#"create database "{name}""#)).await?;
        Ok(self.url(&name))
    }

    /// Makes a copy of a database as it is now, to which nobody may be connected, and gives the copy's URL.
    pub async fn copy_database(&self, url: &str, name_prefix: &str) -> anyhow::Result<String> {
        let original = database_of(url)?;
        let name = format!("{name_prefix}_{}", self.databases.fetch_add(1, Ordering::Relaxed) + 1);
        self.execute("postgres", &format!(r#"create database "{name}" template "{original}""#)).await?;
        Ok(self.url(&name))
    }

    /// Puts `copy` in the place of the database at `url`, as a restored backup would. Its connections are broken.
    pub async fn restore_database(&self, url: &str, copy: &str) -> anyhow::Result<()> {
        let (original, copy) = (database_of(url)?, database_of(copy)?);
        self.execute("postgres", &format!(r#"drop database "{original}" with (force)"#)).await?;
        self.execute("postgres", &format!(r#"create database "{original}" template "{copy}""#)).await
    }

    /// Runs one statement as superuser, outside of a transaction.
    pub async fn execute(&self, database: &str, sql: &str) -> anyhow::Result<()> {
        let mut connection = self.connect(database).await?;
        connection.execute(sqlx::AssertSqlSafe(sql.to_owned())).await.with_context(|| format!("run {sql}"))?;
        connection.close().await.context("close the connection")
    }

    /// Moves a database to which nobody is connected to the small disk.
    pub async fn move_to_small_disk(&self, database: &str) -> anyhow::Result<()> {
        self.execute("postgres", &format!(r#"alter database "{database}" set tablespace {SMALL_DISK}"#)).await
    }

    /// Fills the small disk, up to the last page, with a table.
    pub async fn fill_small_disk(&self) -> anyhow::Result<()> {
        let mut connection = self.connect("postgres").await?;
        // who looks for others that were refused does not find us
        connection.execute("set log_min_messages = panic").await.context("say nothing")?;
        // neither compressed nor kept elsewhere: a page a row
        let table = format!(
            "create unlogged table filler (c text) tablespace {SMALL_DISK}; alter table filler alter c set storage plain"
        );
        connection.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(table))).await.context("make a table")?;
        loop {
            let more = "insert into filler select repeat('x', 7000) from generate_series(1, 64)";
            let Err(error) = connection.execute(more).await else { continue };
            let code = error.as_database_error().and_then(|error| error.code()).map(String::from);
            ensure!(code.as_deref() == Some(DISK_FULL), "the disk does not fill: {error}");
            return connection.close().await.context("close the connection");
        }
    }

    /// Takes away what filled it.
    pub async fn empty_small_disk(&self) -> anyhow::Result<()> {
        self.execute("postgres", "drop table filler").await
    }

    /// A connection of its own as superuser.
    pub async fn connect(&self, database: &str) -> anyhow::Result<PgConnection> {
        let options: PgConnectOptions = self.url(database).parse().context("a URL of our own")?;
        options.disable_statement_logging().connect().await.with_context(|| format!("connect to {database}"))
    }

    /// As a crash of the server: no checkpoint, connections torn; recovery at the next start.
    pub async fn stop_immediate(&self) -> anyhow::Result<()> {
        self.stop("immediate").await
    }

    /// As an administrator's restart: transactions rolled back, checkpoint written.
    pub async fn stop_fast(&self) -> anyhow::Result<()> {
        self.stop("fast").await
    }

    /// Starts a stopped server on its old port and waits until it accepts connections.
    pub async fn start_again(&self) -> anyhow::Result<()> {
        ensure!(self.keeper.lock().expect("no panic while held").is_none(), "the server runs");
        let mut starting = self.launch()?;
        while !self.is_ready(&mut starting)? {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        *self.keeper.lock().expect("no panic while held") = Some(starting.keeper);
        Ok(())
    }

    async fn stop(&self, how: &'static str) -> anyhow::Result<()> {
        let keeper = self.keeper.lock().expect("no panic while held").take();
        let Some(mut keeper) = keeper else { bail!("the server does not run") };
        let stopped = tokio::task::spawn_blocking(move || {
            let mut pipe = keeper.stdin.take().context("the keeper's pipe")?;
            writeln!(pipe, "{how}").context("tell the keeper to stop")?;
            keeper.wait().context("wait for the server to stop")
        });
        stopped.await.context("stop PostgreSQL")?.map(drop)
    }

    fn make(settings: Settings) -> anyhow::Result<Self> {
        let bin = find_programs()?;
        let user = User::for_server()?;
        let dir = tempfile::Builder::new().prefix("tributary-pg-").tempdir().context("a temporary directory")?.keep();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).context("permissions of the directory")?;
        if let Some(user) = user {
            chown(&dir, Some(user.uid), Some(user.gid)).context("give the directory to the server's user")?;
        }
        let (keeper, databases) = (Mutex::new(None), AtomicU64::new(0));
        let mut server = Self { bin, dir, user, settings, port: 0, keeper, databases, small_disk: None };
        // from here on, dropping it removes the directory
        server.init()?;
        if let Some(mib) = server.settings.small_disk_mib {
            server.small_disk = Some(server.mount(mib)?);
        }
        server.start_on_a_free_port()
    }

    fn mount(&self, mib: u32) -> anyhow::Result<SmallDisk> {
        let path = self.dir.join("disk");
        fs::create_dir(&path).context("a directory for the disk")?;
        if let Some(user) = self.user {
            chown(&path, Some(user.uid), Some(user.gid)).context("give the directory to the server's user")?;
        }
        let of_path = fs::metadata(&path).context("whose the directory is")?;
        SmallDisk::mount(path, mib, (of_path.uid(), of_path.gid()), |program| self.command(program))
    }

    fn init(&self) -> anyhow::Result<()> {
        let mut initdb = self.command(&self.bin.join("initdb"));
        initdb.arg("-D").arg(self.data()).args(["--no-sync", "--locale=C", "--encoding=UTF8", "--auth=trust"]);
        let output = initdb.args(["-U", SUPERUSER]).output().context("run initdb")?;
        ensure!(output.status.success(), "initdb failed: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    fn start_on_a_free_port(mut self) -> anyhow::Result<Self> {
        let mut attempt = 1;
        loop {
            self.port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).context("a port")?.port();
            match self.launch_and_wait() {
                Ok(child) => {
                    *self.keeper.get_mut().expect("no panic while held") = Some(child);
                    return Ok(self);
                }
                Err(error) if attempt == PORT_ATTEMPTS => return Err(error),
                Err(_) => attempt += 1,
            }
        }
    }

    fn launch_and_wait(&self) -> anyhow::Result<Child> {
        let mut starting = self.launch()?;
        while !self.is_ready(&mut starting)? {
            std::thread::sleep(POLL_INTERVAL);
        }
        Ok(starting.keeper)
    }

    fn launch(&self) -> anyhow::Result<Starting> {
        let Settings { fsync, max_connections, more, small_disk_mib: _ } = &self.settings;
        let switch = if *fsync { "on" } else { "off" };
        let mut options = vec![
            format!("port={}", self.port),
            "listen_addresses=127.0.0.1".to_owned(),
            format!("unix_socket_directories={}", self.dir.display()),
            format!("fsync={switch}"),
            format!("full_page_writes={switch}"),
            format!("max_connections={max_connections}"),
            "superuser_reserved_connections=1".to_owned(),
            "log_line_prefix=%m %p %d ".to_owned(),
            "timezone=UTC".to_owned(),
        ];
        options.extend(more.iter().map(|(name, value)| format!("{name}={value}")));
        // that of a crashed server would say "ready" too early
        let _ = fs::remove_file(self.data().join("postmaster.pid"));
        let mut words = self.small_disk.as_ref().map_or_else(Vec::new, SmallDisk::inside);
        words.push("/bin/sh".to_owned());
        let mut keeper = self.command(Path::new(&words[0]));
        keeper.args(&words[1..]).arg("-c").arg(KEEPER).arg("keeper").arg(&self.bin).arg(&self.dir);
        keeper.args(options.iter().flat_map(|option| ["-c", option]));
        keeper.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let logged = fs::metadata(self.dir.join("log")).map_or(0, |log| log.len() as usize);
        let keeper = keeper.spawn().context("start PostgreSQL")?;
        Ok(Starting { keeper, since: Instant::now(), logged })
    }

    /// Whether the server accepts connections: it says so itself, so no other server on that port is taken for it.
    fn is_ready(&self, starting: &mut Starting) -> anyhow::Result<bool> {
        let state = fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
        if state.lines().nth(7).is_some_and(|line| line.trim() == "ready") {
            return Ok(true);
        }
        let log = fs::read(self.dir.join("log")).unwrap_or_default();
        let log = String::from_utf8_lossy(log.get(starting.logged..).unwrap_or_default());
        // clients that come too early are told so with a FATAL of their own
        let failed = log.lines().any(|line| line.contains("FATAL: ") && !line.contains("the database system is"));
        if failed || starting.since.elapsed() > START_TIMEOUT {
            // a word, not the end of the pipe: the next attempt needs the directory
            if let Some(mut pipe) = starting.keeper.stdin.take() {
                let _ = writeln!(pipe, "immediate");
            }
            let _ = starting.keeper.wait();
            bail!("PostgreSQL did not start (within {START_TIMEOUT:?}); its log says:\n{log}");
        }
        Ok(false)
    }

    /// A command as the server's user.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.dir).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        if let Some(user) = self.user {
            command.uid(user.uid).gid(user.gid);
        }
        command
    }
}

impl Drop for ThrowAwayPostgres {
    fn drop(&mut self) {
        if let Ok(Some(mut keeper)) = self.keeper.get_mut().map(Option::take) {
            drop(keeper.stdin.take());
            let _ = keeper.wait();
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

struct Starting {
    keeper: Child,
    since: Instant,
    /// Bytes of the log that earlier runs wrote.
    logged: usize,
}

/// Whom the server runs as: it refuses to be root.
#[derive(Debug, Clone, Copy)]
struct User {
    uid: u32,
    gid: u32,
}

/// Whether this process may be anybody, which servers refuse to be.
pub(crate) fn is_root() -> bool {
    matches!(fs::metadata("/proc/self").map(|process| process.uid()), Ok(0))
}

impl User {
    /// `None` = as ourselves.
    fn for_server() -> anyhow::Result<Option<Self>> {
        if !is_root() {
            return Ok(None);
        }
        let passwd = fs::read_to_string("/etc/passwd").context("read /etc/passwd")?;
        let find = |name: &str| {
            let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
            let mut numbers = line.split(':').skip(2).map(str::parse);
            Some(Self { uid: numbers.next()?.ok()?, gid: numbers.next()?.ok()? })
        };
        let user = find("postgres").or_else(|| find("nobody"));
        user.map(Some).context("PostgreSQL refuses to run as root, and there is neither a user postgres nor nobody")
    }
}

/// The folder with `initdb` and `postgres`: the first in PATH, else the newest installed.
fn find_programs() -> anyhow::Result<PathBuf> {
    let in_path = std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default();
    let mut installed: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            Some((path.file_name()?.to_str()?.parse().ok()?, path.join("bin")))
        })
        .collect();
    installed.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    let mut folders: Vec<PathBuf> = in_path;
    folders.extend(installed.into_iter().map(|(_, folder)| folder));
    let has_both = |folder: &PathBuf| folder.join("initdb").is_file() && folder.join("postgres").is_file();
    folders.into_iter().find(has_both).context(MISSING)
}

fn database_of(url: &str) -> anyhow::Result<String> {
    let options: PgConnectOptions = url.parse().with_context(|| format!("not a URL of PostgreSQL: {url}"))?;
    options.get_database().map(str::to_owned).with_context(|| format!("no database named in {url}"))
}
