//! The platform as processes of its own: every service, the projector, GraphQL, and the gateway before them.

use std::{
    collections::BTreeMap,
    net::TcpListener,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
};

use futures::future::join_all;
use tempfile::TempDir;
use testkit::postgres;
use write_side::REGISTER;

use super::{Home, Platform, binary};

/// Below those that the system gives to connections: a process that is started again finds its own free.
const PORTS: std::ops::Range<u16> = 12_000..30_000;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// A port that nobody listens on.
pub fn free_port() -> u16 {
    // tests run as several processes at once
    let first = (std::process::id() * 97 % u32::from(PORTS.end - PORTS.start)) as u16;
    loop {
        let next = first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % (PORTS.end - PORTS.start);
        let port = PORTS.start + next;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// The second process of a service.
pub const TWIN: &str = "twin";

/// Addresses and databases of all processes, and those that run.
pub struct Apart {
    binary: PathBuf,
    /// Of the databases, by their names; of `graphql` too where it has a login of its own.
    urls: BTreeMap<&'static str, String>,
    ports: BTreeMap<&'static str, u16>,
    /// Of the processes beside which these run.
    others: BTreeMap<&'static str, u16>,
    folder: Arc<TempDir>,
    /// What every process is told.
    flags: Vec<String>,
    /// Where who finds whom, if not where that is.
    detours: BTreeMap<(&'static str, &'static str), String>,
    running: BTreeMap<&'static str, Platform>,
}

/// Everything that can be started, apart from the twin of the orders service.
pub fn all() -> Vec<&'static str> {
    REGISTER.iter().map(|entry| entry.name).chain(["project", "graphql", "gateway"]).collect()
}

impl Apart {
    /// Databases and places; nothing runs.
    pub async fn new(flags: &[String]) -> Self {
        Self::on(Home::postgres(postgres::shared().await).await, flags)
    }

    /// Places for processes on databases that are there; nothing runs. Whoever only reads may log in by a URL of its own,
    /// that of `graphql`.
    pub fn on(home: Home, flags: &[String]) -> Self {
        let folder = home.folder();
        let Home::Postgres { urls, .. } = home else { panic!("processes share no SQLite") };
        Self::with_binary(&binary(), urls, folder, flags)
    }

    /// The same of another binary.
    pub fn with_binary(
        binary: &Path,
        urls: BTreeMap<&'static str, String>,
        folder: Arc<TempDir>,
        flags: &[String],
    ) -> Self {
        let ports = all().into_iter().chain([TWIN]).map(|name| (name, free_port())).collect();
        let (binary, flags) = (binary.to_owned(), flags.to_vec());
        let (others, detours, running) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { binary, urls, ports, others, folder, flags, detours, running }
    }

    /// Further processes of `binary` on the same databases: their gateway stands before both these and those, and whom they
    /// ask they ask by way of it.
    pub fn beside(&self, binary: &Path) -> Self {
        let beside = Self::with_binary(binary, self.urls.clone(), self.folder(), &self.flags);
        Self { others: self.ports.clone(), ..beside }
    }

    /// Has `who`, when it is started next, look for `whom` at `url`.
    pub fn detour(&mut self, who: &'static str, whom: &'static str, url: String) {
        self.detours.insert((who, whom), url);
    }

    /// Starts these at once, in no particular order, and waits until each is ready.
    pub async fn start(&mut self, names: &[&'static str]) {
        let started = join_all(names.iter().map(|name| self.process(name, &[]))).await;
        self.running.extend(names.iter().copied().zip(started));
    }

    /// One process with further arguments, which is the caller's.
    pub async fn process(&self, name: &'static str, more: &[&str]) -> Platform {
        let mut arguments = self.arguments(name);
        arguments.extend(more.iter().map(|one| (*one).to_owned()));
        let process = Platform::spawn_of(&self.binary, &arguments, &[], Arc::clone(&self.folder)).await;
        let process = process.unwrap_or_else(|unborn| panic!("{name}: {}", unborn.said));
        process.until("ready", || async { process.get("/readyz").await.0 == 200 }).await;
        process
    }

    /// The URL of a database.
    pub fn database(&self, name: &str) -> &str {
        &self.urls[name]
    }

    /// Where processes may leave files.
    pub fn folder(&self) -> Arc<TempDir> {
        Arc::clone(&self.folder)
    }

    pub fn of(&self, name: &str) -> &Platform {
        &self.running[name]
    }

    pub fn gateway(&self) -> &Platform {
        self.of("gateway")
    }

    /// SIGKILL, and gone.
    pub async fn kill(&mut self, name: &str) {
        self.running.remove(name).expect("it runs").kill().await;
    }

    /// SIGTERM to all, at once; their exit codes by name.
    pub async fn terminate(self) -> BTreeMap<&'static str, Option<i32>> {
        let ended = self.running.into_iter().map(|(name, process)| async move { (name, process.terminate().await) });
        join_all(ended).await.into_iter().collect()
    }

    pub fn url(&self, name: &str) -> String {
        format!("http://127.0.0.1:{}", self.ports[name])
    }

    /// How the process of this name is started.
    fn arguments(&self, name: &'static str) -> Vec<String> {
        let service = if name == TWIN { "orders" } else { name };
        let role: Vec<&str> = match name {
            "project" | "graphql" | "gateway" => vec![name],
            _ => vec!["serve", service],
        };
        let mut arguments: Vec<String> = role.into_iter().map(str::to_owned).collect();
        arguments.push(format!("--listen=127.0.0.1:{}", self.ports[name]));
        let database = match name {
            "gateway" => None,
            "project" | "graphql" => Some("query"),
            _ => Some(service),
        };
        let login = |database: &str| self.urls.get(name).unwrap_or_else(|| &self.urls[database]);
        arguments.extend(database.map(|name| format!("--{name}-database-url={}", login(name))));
        match name {
            "graphql" => {}
            "gateway" if !self.others.is_empty() => {
                for (other, theirs) in self.others.iter().filter(|(other, _)| !["gateway", TWIN].contains(other)) {
                    arguments.push(format!("--{other}-url={},http://127.0.0.1:{theirs}", self.url(other)));
                }
                // also for those behind it
                arguments.push("--rate-limit-per-second=0".to_owned());
            }
            "gateway" => {
                let others = self.ports.keys().filter(|other| !["gateway", "orders", TWIN].contains(other));
                arguments.extend(others.map(|other| format!("--{other}-url={}", self.url(other))));
                arguments.push(format!("--orders-url={},{}", self.url("orders"), self.url(TWIN)));
            }
            _ if !self.others.is_empty() => arguments.push(format!("--services-url={}", self.url("gateway"))),
            _ => {
                let services = REGISTER.iter().map(|entry| entry.name);
                let url = |other| self.detours.get(&(name, other)).cloned().unwrap_or_else(|| self.url(other));
                arguments.extend(services.map(|other| format!("--{other}-url={}", url(other))));
            }
        }
        if name == "project" {
            arguments.push("--feed-compression".to_owned());
        }
        if database.is_some_and(|database| database != "query") {
            arguments.push(format!("--data-dir={}", self.folder.path().display()));
        }
        arguments.extend(self.flags.iter().cloned());
        arguments
    }
}
