//! A PostgreSQL server for each database, and the processes that log in to them with what `tributary migrate` has made.

use std::{
    collections::BTreeMap,
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::join_all;
use sqlx::{AssertSqlSafe, Executor, PgConnection};
use testkit::{
    postgres::{Settings, ThrowAwayPostgres},
    proxy::FaultProxy,
};

use super::{
    Fault,
    common::{
        Home,
        apart::{Apart, all},
        databases, text,
    },
    faults::{SMALL_DISKS, a_while},
    place::{Place, group_of},
    plan::Dice,
};

const CONNECTIONS_MAX: u32 = 60;
const CRAWL_BYTES_PER_SECOND: u64 = 1_000;

/// How long it may take until a server has refused somebody.
const REFUSED_WITHIN: Duration = Duration::from_secs(30);

/// The second is all that it says where nobody has connected since a crash: the first one would write that file.
const DISK_FULL: [&str; 2] = ["No space left on device", "could not write init file"];
const NO_CONNECTION_LEFT: [&str; 2] = ["too many clients already", "remaining connection slots are reserved"];

pub struct World {
    /// By the name of the one database that is there.
    places: BTreeMap<&'static str, Place>,
    pub apart: Apart,
    /// Between the projector and the orders.
    wire: FaultProxy,
    /// The most memory that a process of that name was seen to have taken.
    resident_mib: BTreeMap<&'static str, u64>,
}

impl World {
    /// With everything running.
    pub async fn new() -> Self {
        let places: BTreeMap<_, _> = join_all(databases().map(place)).await.into_iter().collect();
        let url = |group: &str, database: &str| places[database].url(&format!("{group}_a"), database);
        let mut urls: BTreeMap<_, _> = databases().map(|name| (name, url(&group_of(name), name))).collect();
        urls.insert("graphql", url("tributary_graphql", "query"));
        let folder = Arc::new(tempfile::tempdir().expect("a directory"));
        let mut apart = Apart::on(Home::Postgres { urls, folder }, &[]);
        let orders = apart.url("orders");
        let wire = FaultProxy::start(&orders["http://".len()..]).await.expect("a proxy");
        apart.detour("project", "orders", wire.url_through(&orders).expect("a URL"));
        apart.start(&all()).await;
        Self { places, apart, wire, resident_mib: BTreeMap::new() }
    }

    /// Something goes wrong, and is put right again.
    pub async fn suffer(&mut self, fault: Fault, dice: &mut Dice) {
        match fault {
            Fault::Killed(process) => {
                self.look_at(process);
                self.apart.kill(process).await;
                tokio::time::sleep(a_while(dice)).await;
                self.apart.start(&[process]).await;
            }
            Fault::Crashed(database) => {
                let server = &self.places[database].server;
                server.stop_immediate().await.expect("it stops");
                tokio::time::sleep(a_while(dice)).await;
                server.start_again().await.expect("it recovers");
            }
            Fault::Starved(database) => {
                let server = &self.places[database].server;
                let said = server.said().len();
                let taken = take_connections(server).await;
                refused(server, said, &NO_CONNECTION_LEFT).await;
                tokio::time::sleep(a_while(dice)).await;
                drop(taken);
            }
            Fault::Full(database) => {
                let server = &self.places[database].server;
                let said = server.said().len();
                server.fill_small_disk().await.expect("it fills");
                refused(server, said, &DISK_FULL).await;
                tokio::time::sleep(a_while(dice)).await;
                server.empty_small_disk().await.expect("there is room");
            }
            Fault::Crawling => {
                self.wire.throttle(CRAWL_BYTES_PER_SECOND);
                tokio::time::sleep(2 * a_while(dice)).await;
                self.wire.heal();
            }
        }
    }

    /// The most memory that each process was seen to have taken.
    pub fn resident_mib(&mut self) -> &BTreeMap<&'static str, u64> {
        all().into_iter().for_each(|name| self.look_at(name));
        &self.resident_mib
    }

    fn look_at(&mut self, name: &'static str) {
        let status = fs::read_to_string(format!("/proc/{}/status", self.apart.of(name).pid())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the most that it had");
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        let most = self.resident_mib.entry(name).or_default();
        *most = (*most).max(kib / 1024);
    }
}

/// A server with one database, as `tributary migrate` makes it.
async fn place(database: &'static str) -> (&'static str, Place) {
    let small = SMALL_DISKS.into_iter().find(|(name, _)| *name == database);
    let settings = Settings { small_disk_mib: small.map(|(_, mib)| mib), ..Settings::default() };
    let place = Place::with(settings.max_connections(CONNECTIONS_MAX)).await;
    let migrated = place.migrate(&[database]).await;
    assert!(migrated.status.success(), "{database}: {}", text(&migrated));
    if small.is_some() {
        place.server.move_to_small_disk(&format!("tributary_{database}")).await.expect("nobody is connected");
    }
    (database, place)
}

/// Every connection that there is; those of the platform are broken first, as often as it comes back before us.
async fn take_connections(server: &ThrowAwayPostgres) -> Vec<PgConnection> {
    const SHUT_OUT: &str = "select pg_terminate_backend(pid) from pg_stat_activity where usename like 'tributary%'";
    let mut taken = vec![server.connect("postgres").await.expect("a connection")];
    for _ in 0..3 {
        taken[0].execute(AssertSqlSafe(SHUT_OUT.to_owned())).await.expect("they are gone");
        while let Ok(one) = server.connect("postgres").await {
            taken.push(one);
        }
    }
    taken
}

/// Waits until the server has refused somebody for this reason, behind so many bytes of its log.
async fn refused(server: &ThrowAwayPostgres, behind: usize, reasons: &[&str]) {
    let started = Instant::now();
    while !reasons.iter().any(|reason| server.said()[behind..].contains(reason)) {
        let said = || server.said()[behind..].to_owned();
        assert!(started.elapsed() < REFUSED_WITHIN, "nobody was refused because of {reasons:?}; it said: {}", said());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
