//! What the platform stands on: database servers, disks, clocks, keys of tokens. Most of what goes wrong there works for a
//! long time and is noticed when it is too late.

use std::{
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use database::Database;
use event_store::postgres::SERVER_VERSION_MIN;
use sqlx::{ConnectOptions, Connection, FromRow};

use super::Check;
use crate::{auth::Authenticator, config::Storage, door::Door};

/// What a process was started on.
#[derive(Clone, Default)]
pub struct Surroundings {
    /// Where its roles keep what they keep, if they do.
    storage: Option<Storage>,
    authenticator: Option<Arc<Authenticator>>,
}

/// The longest that a database server may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Clocks that differ by more tell other times in logs than in events. Nothing is decided by them.
const SKEW_DOUBTFUL: Duration = Duration::from_secs(2);

/// Of a server's connections, from where on it is called nearly full.
const CONNECTIONS_FULL_PERCENT: i64 = 90;

/// Of a disk, or bytes: from where on there is soon no room.
const FREE_DOUBTFUL_PERCENT: u64 = 5;
const FREE_BAD_BYTES: u64 = 256 * 1024 * 1024;

// what others do is not told to every role, and how many there are is
const SERVER: &str = "select current_setting('server_version') as version, \
        current_setting('server_version_num')::int4 as version_number, \
        current_setting('fsync') as fsync, \
        current_setting('full_page_writes') as full_page_writes, \
        current_setting('synchronous_commit') as synchronous_commit, \
        current_setting('max_connections')::int8 as connections_max, \
        (select coalesce(sum(numbackends), 0)::int8 from pg_stat_database) as connections, \
        (select rolsuper from pg_roles where rolname = current_user) as is_superuser, \
        (select count(*) from pg_stat_activity where datname = current_database() and state like 'idle in transaction%' \
            and now() - state_change > interval '1 minute') as idle_in_transaction, \
        pg_has_role(current_user, 'pg_read_all_stats', 'usage') as sees_others, \
        clock_timestamp() as now";

#[derive(FromRow)]
struct Server {
    version: String,
    version_number: i32,
    fsync: String,
    full_page_writes: String,
    synchronous_commit: String,
    connections_max: i64,
    connections: i64,
    is_superuser: bool,
    idle_in_transaction: i64,
    /// Otherwise it counts sessions of the own role only.
    sees_others: bool,
    now: DateTime<Utc>,
}

impl Surroundings {
    pub fn of(storage: Option<&Storage>, door: &Door) -> Self {
        Self { storage: storage.cloned(), authenticator: door.authenticator.clone() }
    }

    pub async fn check(&self) -> Vec<Check> {
        let mut checks = match &self.storage {
            None => Vec::new(),
            Some(Storage::Sqlite { data_dir }) => of_dir(data_dir),
            Some(Storage::Postgres { databases }) => {
                futures::future::join_all(databases.iter().map(|(name, database)| of_database(name, database))).await
            }
        };
        if let Some(authenticator) = &self.authenticator {
            checks.push(match authenticator.trouble().await {
                None => Check::good("keys of tokens", "they are there"),
                Some(trouble) => Check::bad("keys of tokens", trouble),
            });
        }
        checks
    }
}

/// Looks at the server of a database through the eyes of who works there.
pub async fn of_database(name: &str, database: &Database) -> Check {
    let name = format!("database {name}");
    match tokio::time::timeout(ANSWER_MAX, ask(database)).await {
        Ok(Ok((server, skew))) => server.check(name, skew),
        Ok(Err(error)) => Check::bad(name, format!("does not answer: {error}")),
        Err(_) => Check::bad(name, format!("does not answer within {} s", ANSWER_MAX.as_secs())),
    }
}

/// The server, and how much further its clock is than ours.
async fn ask(database: &Database) -> Result<(Server, chrono::TimeDelta), sqlx::Error> {
    let mut connection =
        database.options().application_name("tributary doctor").disable_statement_logging().connect().await?;
    let (asked, started) = (Utc::now(), Instant::now());
    let server: Server = sqlx::query_as(SERVER).fetch_one(&mut connection).await?;
    // it looked at its clock about half-way
    let skew = server.now - (asked + started.elapsed() / 2);
    connection.close().await?;
    Ok((server, skew))
}

impl Server {
    fn check(&self, name: String, skew: chrono::TimeDelta) -> Check {
        let mut bad = Vec::new();
        let mut doubtful = Vec::new();
        if self.version_number / 10_000 < SERVER_VERSION_MIN {
            bad.push(format!("its version is too old: {SERVER_VERSION_MIN} or newer is needed"));
        }
        if self.fsync != "on" {
            bad.push("fsync is off, so a crash of the machine loses what was acknowledged: set fsync = on".to_owned());
        }
        if self.synchronous_commit == "off" {
            bad.push(
                "synchronous_commit is off, so a crash of the server loses what was acknowledged: set it to on"
                    .to_owned(),
            );
        }
        if self.full_page_writes != "on" {
            doubtful
                .push("full_page_writes is off, so a crash can leave torn pages: set full_page_writes = on".to_owned());
        }
        if self.connections * 100 > self.connections_max * CONNECTIONS_FULL_PERCENT {
            let (used, all) = (self.connections, self.connections_max);
            doubtful
                .push(format!("{used} of {all} connections are in use: raise max_connections, or find who has them"));
        }
        if self.is_superuser {
            let what = "nothing but a hash tells what it changes: give the service a role of its own";
            doubtful.push(format!("the platform connects as a superuser; {what}"));
        }
        if self.idle_in_transaction > 0 {
            let count = self.idle_in_transaction;
            doubtful
                .push(format!("{count} transactions stand open without working: they keep vacuum from cleaning up"));
        }
        if skew.abs().to_std().unwrap_or_default() > SKEW_DOUBTFUL {
            let skew_ms = skew.num_milliseconds();
            doubtful.push(format!("its clock is {skew_ms:+} ms off ours: have both machines ask a time server"));
        }
        let mut version = format!("PostgreSQL {}", self.version);
        if !self.sees_others {
            version.push_str("; whether transactions of other roles stand open, this role cannot see");
        }
        let found = [&[version.clone()][..], &bad, &doubtful].concat().join("; ");
        match (bad.is_empty(), doubtful.is_empty()) {
            (true, true) => Check::good(name, version),
            (true, false) => Check::doubtful(name, found),
            (false, _) => Check::bad(name, found),
        }
    }
}

/// Looks at a data directory: who may read it, and how much room there is.
pub fn of_dir(dir: &Path) -> Vec<Check> {
    let mut checks = Vec::new();
    let name = format!("rights on {}", dir.display());
    match std::fs::metadata(dir) {
        Ok(metadata) => {
            let mode = metadata.permissions().mode() & 0o777;
            checks.push(match mode & 0o077 {
                0 => Check::good(name, "for its owner alone"),
                _ => {
                    let what = format!("chmod 700 {}", dir.display());
                    Check::doubtful(
                        name,
                        format!("others may look into it (mode {mode:o}), and persons are in it: {what}"),
                    )
                }
            });
        }
        Err(error) => checks.push(Check::bad(name, format!("cannot be read: {error}"))),
    }
    checks.push(of_disk(dir));
    checks
}

fn of_disk(dir: &Path) -> Check {
    let name = format!("disk of {}", dir.display());
    let disk = match rustix::fs::statvfs(dir) {
        Ok(disk) => disk,
        Err(error) => return Check::doubtful(name, format!("cannot be asked: {error}")),
    };
    let (free, all) = (disk.f_bavail * disk.f_frsize, (disk.f_blocks * disk.f_frsize).max(1));
    let percent = free * 100 / all;
    let found = format!("{} MiB free ({percent} %)", free / (1024 * 1024));
    let what = "commands are refused once it is full, and nothing that was acknowledged is lost: make room";
    if free < FREE_BAD_BYTES {
        Check::bad(name, format!("{found}; {what}"))
    } else if percent < FREE_DOUBTFUL_PERCENT {
        Check::doubtful(name, format!("{found}; {what}"))
    } else {
        Check::good(name, found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::Verdict;

    fn server() -> Server {
        Server {
            version: "15.9".into(),
            version_number: 150_009,
            fsync: "on".into(),
            full_page_writes: "on".into(),
            synchronous_commit: "on".into(),
            connections_max: 100,
            connections: 20,
            is_superuser: false,
            idle_in_transaction: 0,
            sees_others: true,
            now: Utc::now(),
        }
    }

    fn check(server: &Server, skew_s: i64) -> Check {
        server.check("database users".into(), chrono::TimeDelta::seconds(skew_s))
    }

    #[test]
    fn each_misconfiguration_is_named_with_what_to_do() {
        assert_eq!(check(&server(), 1).verdict, Verdict::Good);
        let named = |server: Server, skew_s, verdict, says: &str| {
            let found = check(&server, skew_s);
            assert!(found.verdict == verdict && found.finding.contains(says), "{says}: {found:?}");
        };
        named(Server { version_number: 140_003, ..server() }, 0, Verdict::Bad, "15 or newer");
        named(Server { fsync: "off".into(), ..server() }, 0, Verdict::Bad, "fsync = on");
        named(Server { synchronous_commit: "off".into(), ..server() }, 0, Verdict::Bad, "synchronous_commit");
        named(Server { full_page_writes: "off".into(), ..server() }, 0, Verdict::Doubtful, "torn pages");
        named(Server { connections: 95, ..server() }, 0, Verdict::Doubtful, "95 of 100");
        named(Server { is_superuser: true, ..server() }, 0, Verdict::Doubtful, "superuser");
        named(Server { idle_in_transaction: 2, ..server() }, 0, Verdict::Doubtful, "vacuum");
        named(Server { sees_others: false, ..server() }, 0, Verdict::Good, "cannot see");
        named(server(), -30, Verdict::Doubtful, "ms off");
    }

    #[test]
    fn a_directory_that_others_may_read_is_named() {
        let dir = tempfile::tempdir().expect("a directory");
        let verdict = |mode| {
            std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(mode)).expect("ours");
            of_dir(dir.path())[0].verdict
        };
        assert_eq!(verdict(0o755), Verdict::Doubtful);
        assert_eq!(verdict(0o700), Verdict::Good);
    }
}
