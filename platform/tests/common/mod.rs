//! The real binary as a process of its own: started, asked, killed, started again.
#![allow(
    clippy::print_stderr,
    reason = "the process under test is heard when its test fails, and with TRIBUTARY_TEST_LOG"
)]
#![allow(dead_code, reason = "every test file uses its own part of this")]

pub mod apart;
pub mod auth;
pub mod console;

use std::{
    collections::BTreeMap,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{ExitStatus, Output, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::postgres::ThrowAwayPostgres;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

/// How long the platform may take to be up: a debug build on a busy machine.
const UP_WAIT_MAX: Duration = Duration::from_secs(60);

/// Of what the platform said before its test failed.
const SAID_LINES_SHOWN: usize = 40;

/// Whether the long form is asked for.
pub fn is_soak() -> bool {
    std::env::var_os("TRIBUTARY_SOAK").is_some()
}

/// What a run's chances come from; a failure prints it.
pub fn seed() -> u64 {
    let given = std::env::var("TRIBUTARY_SEED").ok().and_then(|seed| seed.parse().ok());
    given.unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos() as u64)
}

/// Every database of a platform on PostgreSQL: one a service, and the read models'.
pub fn databases() -> impl Iterator<Item = &'static str> {
    write_side::REGISTER.iter().map(|entry| entry.name).chain(["query"])
}

/// Where a platform keeps its data; outlives the processes that use it.
pub enum Home {
    Sqlite(Arc<TempDir>),
    /// URLs by the name of the database.
    Postgres {
        urls: BTreeMap<&'static str, String>,
        /// What is no database: mail.
        folder: Arc<TempDir>,
    },
}

impl Home {
    /// Both databases; in the short form one of them, as the seed says.
    pub async fn both_or_one(seed: u64) -> Vec<Self> {
        let postgres = async || Self::postgres(testkit::postgres::shared().await).await;
        match (is_soak(), seed / 4 % 2) {
            (true, _) => vec![Self::sqlite(), postgres().await],
            (false, 0) => vec![Self::sqlite()],
            (false, _) => vec![postgres().await],
        }
    }

    pub fn sqlite() -> Self {
        Self::Sqlite(folder())
    }

    pub async fn postgres(server: &ThrowAwayPostgres) -> Self {
        let mut urls = BTreeMap::new();
        for name in databases() {
            urls.insert(name, server.create_database(name).await.expect("a fresh database"));
        }
        Self::Postgres { urls, folder: folder() }
    }

    pub fn arguments(&self) -> Vec<String> {
        let in_folder = |dir: &TempDir| format!("--data-dir={}", dir.path().display());
        match self {
            Self::Sqlite(dir) => vec![in_folder(dir)],
            Self::Postgres { urls, folder } => {
                let urls = urls.iter().map(|(name, url)| format!("--{name}-database-url={url}"));
                urls.chain([in_folder(folder)]).collect()
            }
        }
    }

    pub fn dir(&self) -> &Path {
        match self {
            Self::Sqlite(dir) => dir.path(),
            Self::Postgres { .. } => panic!("kept in PostgreSQL"),
        }
    }

    /// To be kept by whoever works in it: a platform goes on for a while in a directory that is gone, and then a connection
    /// that it opens is refused.
    pub fn folder(&self) -> Arc<TempDir> {
        match self {
            Self::Sqlite(folder) | Self::Postgres { folder, .. } => Arc::clone(folder),
        }
    }
}

fn folder() -> Arc<TempDir> {
    Arc::new(tempfile::tempdir().expect("a temporary directory"))
}

/// As a process dies at a failpoint, and when it is killed.
pub const SIGABRT: i32 = 6;
pub const SIGKILL: i32 = 9;

/// A process that ended before it was up.
#[derive(Debug)]
pub struct Unborn {
    /// The signal; `None` = it ended by itself.
    pub died_of: Option<i32>,
    /// On stderr.
    pub said: String,
}

/// A running `tributary up`. Killed when dropped.
pub struct Platform {
    child: Child,
    pub url: String,
    pub http: reqwest::Client,
    said: Arc<Mutex<Vec<String>>>,
    _folder: Arc<TempDir>,
}

/// Killed and gone: only a process that was waited for has let go of its data directory. A test that fails shows what its
/// platform had to say.
impl Drop for Platform {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
            for line in &said[said.len().saturating_sub(SAID_LINES_SHOWN)..] {
                eprintln!("the platform said: {line}");
            }
        }
        let started = Instant::now();
        // it may have ended by itself
        let _ = self.child.start_kill();
        while started.elapsed() < Duration::from_secs(10) && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Platform {
    pub async fn up(home: &Home) -> Self {
        Self::up_with(home, &[], &[]).await.expect("the platform comes up")
    }

    /// Starts it with further arguments and environment, and waits until it is ready; an error is what it said on stderr.
    pub async fn up_with(home: &Home, arguments: &[&str], environment: &[(&str, &str)]) -> Result<Self, String> {
        let platform = Self::begin(home, arguments, environment).await.map_err(|unborn| unborn.said)?;
        platform.until("ready", || async { platform.get("/readyz").await.0 == 200 }).await;
        Ok(platform)
    }

    /// The same, up to where it says its address: what is to die early need not get further.
    pub async fn begin(home: &Home, arguments: &[&str], environment: &[(&str, &str)]) -> Result<Self, Unborn> {
        let everything = ["up", "--listen", "127.0.0.1:0"].into_iter().map(str::to_owned).chain(home.arguments());
        let everything: Vec<String> = everything.chain(arguments.iter().map(|one| (*one).to_owned())).collect();
        Self::spawn(&everything, environment, home.folder()).await
    }

    /// Whatever process of the platform these arguments start, up to where it says its address.
    pub async fn spawn(
        arguments: &[String],
        environment: &[(&str, &str)],
        folder: Arc<TempDir>,
    ) -> Result<Self, Unborn> {
        Self::spawn_of(&binary(), arguments, environment, folder).await
    }

    /// The same of another binary.
    pub async fn spawn_of(
        program: &Path,
        arguments: &[String],
        environment: &[(&str, &str)],
        folder: Arc<TempDir>,
    ) -> Result<Self, Unborn> {
        let mut child = Command::new(program)
            .args(arguments)
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the binary starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut errors = BufReader::new(child.stderr.take().expect("piped")).lines();
        let said: Arc<Mutex<Vec<String>>> = Arc::default();
        let heard = Arc::clone(&said);
        let listening = tokio::spawn(async move {
            while let Ok(Some(line)) = errors.next_line().await {
                if std::env::var_os("TRIBUTARY_TEST_LOG").is_some() {
                    eprintln!("{line}");
                }
                heard.lock().expect("no panic while pushing").push(line);
            }
        });
        let found = tokio::time::timeout(UP_WAIT_MAX, async {
            while let Ok(Some(line)) = lines.next_line().await {
                if let Some(url) = address_in(&line) {
                    return Some(url);
                }
            }
            None
        });
        let Some(url) = found.await.expect("the platform is up, or ends, within its time") else {
            // whatever it had to say is said once both ends are closed
            let _ = listening.await;
            let died_of = child.wait().await.expect("it ends").signal();
            let said = said.lock().expect("no panic while pushing").join("\n");
            return Err(Unborn { died_of, said });
        };
        // nobody may block it by not reading
        let heard = Arc::clone(&said);
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                heard.lock().expect("no panic while pushing").push(line);
            }
        });
        Ok(Self { child, url, http: reqwest::Client::new(), said, _folder: folder })
    }

    /// SIGKILL, and gone.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("a process can be killed");
    }

    /// A signal as `kill` takes it: `-STOP`.
    pub async fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([name, &self.pid().to_string()]).status().await;
        assert!(sent.expect("kill is there").success(), "{name}");
    }

    /// SIGTERM, and the exit code.
    pub async fn terminate(mut self) -> Option<i32> {
        self.signal("-TERM").await;
        self.child.wait().await.expect("it ends").code()
    }

    /// Waits until the process has ended by itself, or somebody has killed it, and says how.
    pub async fn ended(&mut self) -> ExitStatus {
        self.child.wait().await.expect("it ends")
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a process can be asked").is_none()
    }

    /// What it has said since it was up, line by line, on stdout and stderr.
    pub fn said(&self) -> Vec<String> {
        self.said.lock().expect("no panic while pushing").clone()
    }

    pub fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// Status and JSON body.
    pub async fn get(&self, path: &str) -> (u16, Value) {
        match self.http.get(format!("{}{path}", self.url)).send().await {
            Ok(answer) => (answer.status().as_u16(), answer.json().await.unwrap_or_default()),
            Err(_) => (0, Value::Null),
        }
    }

    /// A command: status, `Consistency-Token`, body.
    pub async fn post(&self, path: &str, key: &str, token: &str, body: &Value) -> Result<Answer, reqwest::Error> {
        let request = self.http.post(format!("{}{path}", self.url)).header("idempotency-key", key);
        let request = request.header("consistency-token", token).header("consistency-wait", "20s");
        let answer = request.json(body).send().await?;
        let status = answer.status().as_u16();
        let header = |name| answer.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or("").to_owned();
        let (token, location) = (header("consistency-token"), header("location"));
        Ok(Answer { status, token, location, body: answer.json().await? })
    }

    /// A command that must be taken.
    pub async fn command(&self, path: &str, key: &str, token: &str, body: Value) -> Answer {
        let answer = self.post(path, key, token, &body).await.expect("an answer");
        assert!((200..300).contains(&answer.status), "{path} answered {}: {}", answer.status, answer.body);
        answer
    }

    /// The `data` of a query that must have no errors.
    pub async fn query(&self, query: &str, token: &str) -> Value {
        let request = self.http.post(format!("{}/graphql", self.url)).header("consistency-token", token);
        let request = request.header("consistency-wait", "20s");
        let answer = request.json(&json!({"query": query})).send().await.expect("an answer");
        let answer: Value = answer.json().await.expect("a JSON answer");
        assert!(answer.get("errors").is_none(), "{query} answered {answer}");
        answer["data"].clone()
    }

    /// Waits until something is so.
    pub async fn until<F: Future<Output = bool>>(&self, what: &str, condition: impl Fn() -> F) {
        let start = Instant::now();
        while !condition().await {
            assert!(start.elapsed() < UP_WAIT_MAX, "still not {what} after {UP_WAIT_MAX:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Where a process says that it is: all roles in one, or one of them.
fn address_in(line: &str) -> Option<String> {
    let line = line.trim();
    let together = line.strip_prefix("GraphQL playground").map(|url| url.trim().trim_end_matches("/graphql"));
    let apart = || line.strip_prefix("Tributary runs").and_then(|rest| rest.rsplit_once(" at ")).map(|(_, url)| url);
    together.or_else(apart).map(str::to_owned)
}

#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub token: String,
    pub location: String,
    pub body: Value,
}

/// The binary under test.
pub fn binary() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_tributary"))
}

/// Runs the command line to its end.
pub async fn tributary(arguments: &[&str]) -> Output {
    let child = Command::new(binary()).args(arguments).stdin(Stdio::null()).kill_on_drop(true).output();
    tokio::time::timeout(Duration::from_secs(300), child).await.expect("it ends").expect("it starts")
}

/// What it printed.
pub fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Whether doctor finds nothing bad, but for what test servers are: they do without fsync.
pub fn is_well(doctor: &Output) -> bool {
    let said = text(doctor);
    let mut bad = said.lines().filter(|line| line.trim_start().starts_with("BAD"));
    said.contains("hash chain") && bad.all(|line| line.contains("fsync is off"))
}
