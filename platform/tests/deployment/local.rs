//! The containers of `docker-compose.yml` as processes of this machine: their commands, their environment, their secrets, in
//! their order, waited for by their health checks.
//!
//! What is another way here than in a container is put in its place and nothing else: hosts and ports of others and of
//! itself, `/run/secrets`, and `/var/lib/tributary`, which cannot be written where no volume lies there.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::join_all;
use tempfile::TempDir;
use testkit::postgres::{Settings, ThrowAwayPostgres};
use tokio::process::Command;

use crate::{
    common::{Platform, apart::free_port, binary, text},
    compose::{Container, containers, image_environment},
};

/// How long a container may take to be healthy, or to end.
const HEALTHY_WAIT_MAX: Duration = Duration::from_secs(90);

/// Shorter than in the file, so that the test is.
const HEALTH_CHECK_PAUSE: Duration = Duration::from_millis(200);

/// What every process of ours listens on in its container.
const PORT: &str = "8080";

const SECRETS: &str = "/run/secrets";
const DATA: &str = "/var/lib/tributary";

pub struct Deployment {
    /// Dropped before their servers.
    pub processes: BTreeMap<String, Platform>,
    servers: BTreeMap<String, ThrowAwayPostgres>,
    ports: BTreeMap<String, u16>,
    /// As a checkout: `deploy` lies in it. And what containers have mounted.
    folder: Arc<TempDir>,
}

/// A container that is as far as others wait for.
enum Started {
    Server(Box<ThrowAwayPostgres>),
    Process(Box<Platform>),
    Ended,
}

impl Deployment {
    /// `deploy/make-secrets`, and nothing runs.
    pub async fn new() -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let deploy = folder.path().join("deploy");
        fs::create_dir(&deploy).unwrap();
        for script in ["make-secrets", "make-token", "ready"] {
            fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(script), deploy.join(script))
                .unwrap();
        }
        let made = Command::new(deploy.join("make-secrets")).output().await.unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let mut ports = BTreeMap::new();
        for container in containers().values() {
            mount_secrets(folder.path(), container);
            if container.is_process() {
                ports.insert(container.name.clone(), free_port());
            }
        }
        Self { processes: BTreeMap::new(), servers: BTreeMap::new(), ports, folder }
    }

    /// `docker compose up --wait`: everything without a profile, each as soon as those that it waits for are as far.
    pub async fn up(&mut self) {
        let mut waiting: Vec<Container> = containers().into_values().filter(|one| !one.is_extra()).collect();
        while !waiting.is_empty() {
            let names: Vec<String> = waiting.iter().map(|one| one.name.clone()).collect();
            let (later, now): (Vec<_>, Vec<_>) =
                waiting.into_iter().partition(|one| one.waits_for().keys().any(|other| names.contains(other)));
            assert!(!now.is_empty(), "these wait for each other: {names:?}");
            let started = join_all(now.iter().map(|one| self.start(one))).await;
            for (Container { name, .. }, started) in now.into_iter().zip(started) {
                match started {
                    Started::Server(server) => {
                        self.ports.insert(name.clone(), server.port());
                        self.servers.insert(name, *server);
                    }
                    Started::Process(process) => {
                        self.processes.insert(name, *process);
                    }
                    Started::Ended => {}
                }
            }
            waiting = later;
        }
    }

    async fn start(&self, container: &Container) -> Started {
        if container.is_database() {
            let server = serve_database(container, &self.secrets(container)).await;
            self.until_healthy(container, server.bin(), server.port()).await;
            return Started::Server(Box::new(server));
        }
        assert!(container.is_ours(), "{} runs an image that is not known here", container.name);
        if container.ends_by_itself() {
            self.run_to_end(container).await;
            return Started::Ended;
        }
        let (command, environment) = self.runs(container);
        let environment: Vec<(&str, &str)> = environment.iter().map(|(name, value)| (&**name, &**value)).collect();
        let process = Platform::spawn(&command, &environment, Arc::clone(&self.folder)).await;
        let process = process.unwrap_or_else(|unborn| panic!("{}: {}", container.name, unborn.said));
        self.until_healthy(container, Path::new("/usr/bin"), self.ports[&container.name]).await;
        Started::Process(Box::new(process))
    }

    /// What a container prints that ends with 0.
    pub async fn run_to_end(&self, container: &Container) -> String {
        let (command, environment) = self.runs(container);
        let ended = Command::new(binary()).args(&command).envs(environment).stdin(Stdio::null()).output();
        let ended = tokio::time::timeout(HEALTHY_WAIT_MAX, ended).await.expect("it ends").unwrap();
        assert!(ended.status.success(), "{}: {}", container.name, text(&ended));
        String::from_utf8(ended.stdout).unwrap()
    }

    /// Its command behind the image's entry point, and all that is set.
    fn runs(&self, container: &Container) -> (Vec<String>, Vec<(String, String)>) {
        let command = container.command().iter().map(|word| self.here(container, word)).collect();
        let set = image_environment().into_iter().chain(container.environment());
        (command, set.map(|(name, value)| (name, self.here(container, &value))).collect())
    }

    async fn until_healthy(&self, container: &Container, bin: &Path, port: u16) {
        let test: Vec<String> = container.health_check().iter().map(|word| self.here(container, word)).collect();
        let path = format!(
            "{}:{}:{}",
            self.folder.path().join("deploy").display(),
            bin.display(),
            std::env::var("PATH").unwrap_or_default()
        );
        let started = Instant::now();
        loop {
            // a server's own port is what its programs take without a word
            let mut check = Command::new("/usr/bin/env");
            check.args(&test).env("PATH", &path).env("PGPORT", port.to_string()).kill_on_drop(true);
            let checked = tokio::time::timeout(HEALTHY_WAIT_MAX, check.output()).await.expect("a check ends").unwrap();
            if checked.status.success() {
                return;
            }
            let (name, said) = (&container.name, text(&checked));
            assert!(started.elapsed() < HEALTHY_WAIT_MAX, "{name} is not healthy: {test:?} {said}");
            tokio::time::sleep(HEALTH_CHECK_PAUSE).await;
        }
    }

    /// What a text of a container means on this machine.
    fn here(&self, container: &Container, text: &str) -> String {
        let mut here = text.replace(SECRETS, &self.secrets(container).display().to_string());
        for (name, port) in &self.ports {
            here = here.replace(&format!("//{name}:{PORT}"), &format!("//127.0.0.1:{port}"));
            here = here.replace(&format!("@{name}/"), &format!("@127.0.0.1:{port}/"));
        }
        if let Some(own) = self.ports.get(&container.name) {
            here = here.replace(PORT, &own.to_string());
        }
        here.replace(DATA, &self.data(container).display().to_string())
    }

    fn secrets(&self, container: &Container) -> PathBuf {
        mounted(self.folder.path(), container)
    }

    /// A folder, where a volume is mounted; else what nobody can write to, not even root.
    fn data(&self, container: &Container) -> PathBuf {
        match container.volumes().into_iter().find(|(_, at)| at == DATA) {
            Some((volume, _)) => self.folder.path().join(volume),
            None => PathBuf::from("/dev/null").join(DATA.trim_start_matches('/')),
        }
    }

    /// Where the commands of a page are run, with `deploy` in it.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn gateway(&self) -> &Platform {
        &self.processes["gateway"]
    }

    /// The superuser's way to a database.
    pub fn superuser_url(&self, container: &Container, database: &str) -> String {
        let password = fs::read_to_string(self.secrets(container).join("postgres")).unwrap();
        self.servers[&container.name].url_as(&format!("postgres:{password}"), database)
    }

    /// What a container sees in `/run/secrets` under this name.
    pub fn secret(&self, container: &Container, name: &str) -> String {
        fs::read_to_string(self.secrets(container).join(name)).unwrap()
    }
}

fn mounted(folder: &Path, container: &Container) -> PathBuf {
    folder.join("run").join(&container.name)
}

/// Each container sees the secrets that it is given, and no others.
fn mount_secrets(folder: &Path, container: &Container) {
    let there = mounted(folder, container);
    fs::create_dir_all(&there).unwrap();
    for (name, secret) in container.secrets() {
        let file = folder.join("deploy/secrets").join(&secret);
        assert!(file.exists(), "deploy/make-secrets does not make {secret}");
        symlink(file, there.join(name)).unwrap();
    }
}

/// As the image does it: a superuser with the password in the file, and nobody gets in without one.
async fn serve_database(container: &Container, secrets: &Path) -> ThrowAwayPostgres {
    let command = container.command();
    let mut settings = Settings::default();
    for pair in command[1..].chunks(2) {
        let (name, value) = pair[1].split_once('=').expect("-c name=value");
        assert_eq!(pair[0], "-c", "{command:?}");
        settings = settings.with(name, value);
    }
    let file = container.environment()["POSTGRES_PASSWORD_FILE"].replace(SECRETS, &secrets.display().to_string());
    let password = fs::read_to_string(file).unwrap();
    let server = ThrowAwayPostgres::start_with(settings).await.unwrap();
    server.execute("postgres", &format!("alter role postgres password '{password}'")).await.unwrap();
    fs::write(server.data().join("pg_hba.conf"), "host all all 127.0.0.1/32 scram-sha-256\n").unwrap();
    server.execute("postgres", "select pg_reload_conf()").await.unwrap();
    server
}
