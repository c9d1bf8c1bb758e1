//! What a log in a SQLite file has to show beyond the contract: starting at once, dying half-way, a full disk.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use chrono::{DateTime, Utc};
use event_store::{
    clock::{Clock, SystemClock},
    log::{AppendOutcome, ChainVerdict, CommitError, EventLog},
    sqlite::{OpenError, SqliteLog, SqliteOptions},
};
use testkit::log_contract::harness::{account, append, append_with_key, batch, commit, commit_one, read_all};

fn open(path: &Path) -> Result<Arc<SqliteLog>, OpenError> {
    SqliteLog::open(path, "accounts", SqliteOptions::default())
}

#[test]
fn processes_that_start_at_once_make_one_log() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..5 {
        let path = dir.path().join(format!("{round}/accounts.db"));
        let opening: Vec<_> = (0..6)
            .map(|_| {
                let path = path.clone();
                std::thread::spawn(move || open(&path).map(|log| log.identity().epoch))
            })
            .collect();
        let epochs: Vec<_> = opening.into_iter().map(|thread| thread.join().unwrap().unwrap()).collect();
        assert!(epochs.iter().all(|epoch| *epoch == epochs[0]), "{epochs:?}");
    }
}

#[test]
fn a_file_that_is_not_this_log_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("accounts.db");
    open(&path).unwrap();
    let refused = SqliteLog::open(&path, "orders", SqliteOptions::default()).err().unwrap();
    assert!(matches!(&refused, OpenError::OtherSource { found, .. } if found == "accounts"), "{refused}");

    let foreign = dir.path().join("foreign.db");
    rusqlite::Connection::open(&foreign).unwrap().execute_batch("create table events (a)").unwrap();
    assert!(matches!(open(&foreign), Err(OpenError::NotALog { .. })));

    let text = dir.path().join("text.db");
    std::fs::write(&text, "a text of more than a hundred bytes, which is no database. ".repeat(10)).unwrap();
    let refused = open(&text).err().unwrap();
    assert!(refused.to_string().contains("text.db: file is not a database"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wal_is_written_from_its_start_again_while_commits_go_on() {
    let options = SqliteOptions { checkpoint_pages: 64, ..SqliteOptions::default() };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("accounts.db");
    let log = SqliteLog::open(&path, "accounts", options).unwrap();
    let mut largest = 0;
    for version in 0..2_000 {
        assert!(commit_one(&*log, append(&account("a"), version)).await.is_applied());
        largest = std::fs::metadata(dir.path().join("accounts.db-wal")).unwrap().len().max(largest);
    }
    // every commit writes some six pages: without checkpoints it were 90 MiB
    assert!(largest < 4 * 1024 * 1024, "the WAL grew to {largest} bytes");
    drop(log);
    let verdict = open(&path).unwrap().verify_chain().await.unwrap();
    assert_eq!(verdict, ChainVerdict::Intact { events: 2_000, batches: 2_000 });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_goes_on_where_it_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("accounts.db");
    let first = append_with_key(&account("a"), 0, "first", 2);
    let epoch = {
        let log = open(&path).unwrap();
        commit_one(&*log, first.clone()).await;
        log.identity().epoch
    };
    let log = open(&path).unwrap();
    assert_eq!(log.identity().epoch, epoch);
    assert!(matches!(commit_one(&*log, first).await, AppendOutcome::Duplicate(_)));
    let next = commit_one(&*log, append(&account("a"), 2)).await;
    assert_eq!(next, AppendOutcome::Appended { version: 3, position: 3 });
    assert_eq!(log.verify_chain().await.unwrap(), ChainVerdict::Intact { events: 3, batches: 2 });
}

/// A clock that panics when it is asked the second time, which is in the first commit.
#[derive(Debug, Default)]
struct BrokenOnce(AtomicU32);

impl Clock for BrokenOnce {
    fn now(&self) -> DateTime<Utc> {
        assert_ne!(self.0.fetch_add(1, Ordering::SeqCst), 1, "a mistake in a clock");
        SystemClock.now()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_a_commit_is_that_commits_failure_alone() {
    let dir = tempfile::tempdir().unwrap();
    let options = SqliteOptions { clock: Arc::new(BrokenOnce::default()), ..SqliteOptions::default() };
    let log = SqliteLog::open(&dir.path().join("accounts.db"), "accounts", options).unwrap();
    let items = batch([vec![append(&account("a"), 0)]]);
    let unknown = log.commit(Arc::clone(&items)).await;
    assert!(matches!(unknown, Err(CommitError::Unknown(_))), "{unknown:?}");
    assert!(log.commit(items).await.unwrap()[0].is_applied(), "the log goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_killed_in_a_migration_leaves_nothing_half_done() {
    for nth in 1..=6 {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("accounts.db");
        let killed = run_child("child_commits_three_times", &path, &format!("sqlite_log.migrated:{nth}"));
        assert!(!killed.status.success(), "it was to die");
        let log = open(&path).unwrap();
        assert_eq!(read_all(&*log).await, []);
        assert!(commit_one(&*log, append(&account("a"), 0)).await.is_applied());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_killed_around_a_commit_leaves_all_of_the_batch_or_nothing() {
    for (failpoint, committed) in [("sqlite_log.before_commit:3", 2), ("sqlite_log.after_commit:3", 3)] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("accounts.db");
        let killed = run_child("child_commits_three_times", &path, failpoint);
        assert!(!killed.status.success(), "it was to die");
        let log = open(&path).unwrap();
        assert_eq!(read_all(&*log).await.len(), committed * 2);
        let verdict = log.verify_chain().await.unwrap();
        assert_eq!(verdict, ChainVerdict::Intact { events: committed as u64 * 2, batches: committed as u64 });
        // the retry is told from a new command by its key
        for n in 0..3 {
            let again = append_with_key(&account(&n.to_string()), 0, &format!("key of {n}"), 2);
            let outcome = commit_one(&*log, again).await;
            assert_eq!(matches!(outcome, AppendOutcome::Duplicate(_)), n < committed, "{outcome:?}");
        }
    }
}

#[test]
fn a_full_disk_refuses_commits_loses_nothing_and_heals_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let mounted = format!(
        "mount -t tmpfs -o size=12m tmpfs '{}' && exec \"$0\" --exact child_fills_the_disk --nocapture",
        dir.path().display()
    );
    let exe = std::env::current_exe().unwrap();
    let with_a_disk_of_its_own = |flags: &[&str], script: &str| {
        let mut command = Command::new("unshare");
        command.args(flags).args(["sh", "-c", script]).arg(&exe).env(CHILD_PATH, dir.path().join("accounts.db"));
        command.output()
    };
    // a mount of its own needs root, or user namespaces
    for flags in [&["-m"][..], &["-U", "-r", "-m"]] {
        let probe = format!("mount -t tmpfs tmpfs '{}'", dir.path().display());
        if with_a_disk_of_its_own(flags, &probe).is_ok_and(|output| output.status.success()) {
            let child = with_a_disk_of_its_own(flags, &mounted).unwrap();
            let told = String::from_utf8_lossy(&child.stdout);
            assert!(child.status.success(), "{told}{}", String::from_utf8_lossy(&child.stderr));
            assert!(told.contains("refused while full"), "the child did its work: {told}");
            return;
        }
    }
    panic!(
        "there is no small disk to fill: run the tests as root, or allow user namespaces \
         (`sysctl kernel.unprivileged_userns_clone=1`), and have util-linux's `unshare`"
    );
}

/// The file that a child process works on; without it the child's tests have nothing to do.
const CHILD_PATH: &str = "SQLITE_LOG_CHILD_PATH";

fn child_path() -> Option<PathBuf> {
    std::env::var_os(CHILD_PATH).map(PathBuf::from)
}

/// Runs one test of this file in a process of its own, which dies at `failpoint`.
fn run_child(test: &str, path: &Path, failpoint: &str) -> Output {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", test]).env(CHILD_PATH, path).env("TRIBUTARY_FAILPOINT", failpoint);
    child.output().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn child_commits_three_times() {
    let Some(path) = child_path() else { return };
    let log = open(&path).unwrap();
    for n in 0..3 {
        commit(&*log, [vec![append_with_key(&account(&n.to_string()), 0, &format!("key of {n}"), 2)]]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn child_fills_the_disk() {
    let Some(path) = child_path() else { return };
    let ballast = path.with_file_name("ballast");
    std::fs::write(&ballast, vec![1; 4 << 20]).unwrap();
    let log = open(&path).unwrap();
    let (mut acknowledged, mut refused) = (0, 0);
    while refused < 5 {
        assert!(acknowledged < 1_000, "the disk is small");
        let stream = account(&format!("{acknowledged}"));
        let items = batch([vec![append_with_key(&stream, 0, &format!("key of {acknowledged}"), 200)]]);
        match log.commit(items).await {
            Ok(outcomes) if outcomes[0].is_applied() => acknowledged += 1,
            Err(CommitError::Unavailable(_)) => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(acknowledged > 5);
    println!("{acknowledged} acknowledged, {refused} refused while full");
    assert_eq!(read_all(&*log).await.len(), acknowledged * 200, "reading goes on");

    std::fs::remove_file(ballast).unwrap();
    for n in acknowledged..acknowledged + 5 {
        let item = append_with_key(&account(&n.to_string()), 0, &format!("key of {n}"), 200);
        assert!(commit_one(&*log, item).await.is_applied(), "it heals by itself");
    }
    assert_eq!(read_all(&*log).await.len(), (acknowledged + 5) * 200);
    assert!(matches!(log.verify_chain().await, Ok(ChainVerdict::Intact { .. })));
}
