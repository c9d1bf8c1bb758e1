//! A log as files and back: the same log on SQLite and on PostgreSQL, and nothing by halves.

use std::{path::Path, sync::Arc};

use event_store::{
    backup::{
        BackupError, HeadItem, Item,
        files::{self, BackupPaths},
        lines::End,
    },
    log::{AppendOutcome, ChainVerdict, EventLog},
    postgres::{PostgresLog, PostgresOptions},
    sealed_log::SealedLog,
    sqlite::{self, SqliteLog, SqliteOptions},
};
use sqlx::{Connection, PgConnection};
use testkit::{
    log_contract::harness::{account, append, append_with_key, commit, commit_one, no_op, release, take},
    postgres::fresh_database,
};
use uuid::Uuid;

const ANA: Uuid = Uuid::from_u128(0xA);
const EVA: Uuid = Uuid::from_u128(0xE);

/// Where a log is kept.
enum Place {
    File(tempfile::TempDir),
    Database(String),
}

impl Place {
    fn file() -> Self {
        Self::File(tempfile::tempdir().unwrap())
    }

    async fn database() -> Self {
        Self::Database(fresh_database("backup").await)
    }

    async fn open(&self) -> Arc<dyn EventLog> {
        match self {
            Self::File(dir) => {
                SqliteLog::open(&dir.path().join("accounts.db"), "accounts", SqliteOptions::default()).unwrap()
            }
            Self::Database(url) => PostgresLog::connect(url, "accounts", PostgresOptions::default()).await.unwrap(),
        }
    }

    async fn restore(&self, paths: &BackupPaths, is_replaced: bool) -> Result<(), BackupError> {
        self.restore_as("accounts", paths, is_replaced).await
    }

    async fn restore_as(&self, source: &str, paths: &BackupPaths, is_replaced: bool) -> Result<(), BackupError> {
        let items = files::read(paths);
        match self {
            Self::File(dir) => {
                let (path, source) = (dir.path().join("accounts.db"), source.to_owned());
                let restored = tokio::task::spawn_blocking(move || sqlite::restore(&path, &source, is_replaced, items));
                restored.await.unwrap().map(drop)
            }
            Self::Database(url) => {
                PostgresLog::restore(&url.parse().expect("a URL"), source, is_replaced, items).await.map(drop)
            }
        }
    }
}

/// Batches of several streams, answers without events, names taken and given back, people with keys, one of them erased.
async fn fill(log: &dyn EventLog) {
    for n in 0..3 {
        let chains = (0..4).map(|m| vec![append_with_key(&account(&format!("{n}-{m}")), 0, &format!("k-{n}-{m}"), 2)]);
        commit(log, chains).await;
    }
    commit_one(log, no_op(&account("0-0"), 2)).await;
    let mut item = append(&account("0-0"), 2);
    item.claims = vec![take("email", "ana@example.com"), take("email", "old@example.com")];
    commit_one(log, item).await;
    let mut item = append(&account("0-0"), 3);
    item.claims = vec![release("email", "old@example.com")];
    commit_one(log, item).await;
    log.make_keys(&[ANA, EVA]).await.unwrap();
    log.erase_keys(&[EVA]).await.unwrap();
}

async fn items(log: &dyn EventLog) -> Vec<Item> {
    let mut contents = log.contents();
    let mut items = Vec::new();
    while let Some(chunk) = contents.recv().await {
        items.extend(chunk.unwrap());
    }
    items
}

/// But for the epoch, which is to be another.
fn without_epoch(mut items: Vec<Item>) -> Vec<Item> {
    let Some(Item::Head(HeadItem { epoch, .. })) = items.first_mut() else { panic!("the head is first") };
    *epoch = Uuid::nil();
    items
}

async fn back_up(log: &dyn EventLog, dir: &Path) -> (BackupPaths, End) {
    let paths = BackupPaths::in_dir(dir, "accounts");
    let end = files::write(log.contents(), &paths, |_| {}).await.unwrap();
    (paths, end)
}

async fn is_the_same_log_in(from: Place, to: Place) {
    let dir = tempfile::tempdir().unwrap();
    let log = from.open().await;
    fill(&*log).await;
    let (paths, end) = back_up(&*log, dir.path()).await;
    assert_eq!((end.events, end.batches, end.commands, end.claims, end.subjects), (26, 5, 15, 1, 2));
    to.restore(&paths, false).await.unwrap();

    let restored = to.open().await;
    let (before, after) = (items(&*log).await, items(&*restored).await);
    assert_ne!(before[0], after[0], "whoever has seen more is to find out");
    assert_eq!(without_epoch(before), without_epoch(after));
    assert_eq!(restored.identity().fingerprint_key, log.identity().fingerprint_key);
    assert_eq!(restored.verify_chain().await.unwrap(), ChainVerdict::Intact { events: 26, batches: 5 });
    assert_eq!(restored.keys(&[ANA, EVA]).await.unwrap(), log.keys(&[ANA]).await.unwrap());
    assert!(restored.make_keys(&[EVA]).await.unwrap().is_empty(), "erased is erased");

    // it goes on, by the same rules
    let again = commit_one(&*restored, append_with_key(&account("1-1"), 0, "k-1-1", 2)).await;
    assert!(matches!(again, AppendOutcome::Duplicate(_)), "{again:?}");
    let mut item = append(&account("9-9"), 0);
    item.claims = vec![take("email", "ana@example.com")];
    assert!(matches!(commit_one(&*restored, item).await, AppendOutcome::Taken(_)));
    assert_eq!(
        commit_one(&*restored, append(&account("1-1"), 2)).await,
        AppendOutcome::Appended { version: 3, position: 27 }
    );
    assert_eq!(restored.verify_chain().await.unwrap(), ChainVerdict::Intact { events: 27, batches: 6 });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_the_same_log_in_another_file() {
    is_the_same_log_in(Place::file(), Place::file()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_the_same_log_in_a_database() {
    is_the_same_log_in(Place::file(), Place::database().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_is_the_same_log_in_a_file() {
    is_the_same_log_in(Place::database().await, Place::file()).await;
}

async fn what_is_there_is_replaced_only_if_that_is_asked_for(place: Place) {
    let dir = tempfile::tempdir().unwrap();
    let log = place.open().await;
    fill(&*log).await;
    let (paths, _) = back_up(&*log, dir.path()).await;
    commit_one(&*log, append(&account("later"), 0)).await;
    log.erase_keys(&[ANA]).await.unwrap();
    let before = items(&*log).await;
    drop(log);

    let refused = place.restore(&paths, false).await.unwrap_err();
    assert!(matches!(refused, BackupError::NotEmpty { position: 27 }), "{refused}");
    let refused = place.restore_as("orders", &paths, true).await.unwrap_err().to_string();
    assert!(refused.contains("accounts") && refused.contains("orders"), "{refused}");

    // one digit of one hash in one line
    let text = std::fs::read_to_string(&paths.log).unwrap();
    std::fs::write(&paths.log, text.replacen("contract", "kontract", 1)).unwrap();
    let refused = place.restore(&paths, true).await.unwrap_err();
    assert!(matches!(refused, BackupError::Digest { .. } | BackupError::Line { .. }), "{refused}");
    std::fs::write(&paths.log, &text[..text.len() / 2]).unwrap();
    let refused = place.restore(&paths, true).await.unwrap_err();
    assert!(matches!(refused, BackupError::CutOff { .. }), "{refused}");
    std::fs::write(&paths.log, text).unwrap();
    let log = place.open().await;
    assert_eq!(items(&*log).await, before, "nothing has changed");
    drop(log);

    place.restore(&paths, true).await.unwrap();
    let restored = place.open().await;
    assert_eq!(restored.verify_chain().await.unwrap(), ChainVerdict::Intact { events: 26, batches: 5 });
    assert!(restored.keys(&[ANA, EVA]).await.unwrap().is_empty(), "who was erased since stays erased");
    assert!(commit_one(&*restored, append(&account("0-1"), 2)).await.is_applied());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_replaced_only_if_that_is_asked_for() {
    what_is_there_is_replaced_only_if_that_is_asked_for(Place::file()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_is_replaced_only_if_that_is_asked_for() {
    what_is_there_is_replaced_only_if_that_is_asked_for(Place::database().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_database_is_append_only_again_and_one_that_is_in_use_is_not_restored() {
    let dir = tempfile::tempdir().unwrap();
    let from = Place::file();
    let log = from.open().await;
    fill(&*log).await;
    let (paths, _) = back_up(&*log, dir.path()).await;
    let url = fresh_database("backup").await;
    let to = Place::Database(url.clone());
    to.restore(&paths, false).await.unwrap();
    let mut superuser = PgConnection::connect(&url).await.unwrap();
    for attempt in [
        "update events set payload = '{}'",
        "delete from commands",
        "truncate batches",
        "update log_head set position = 99",
        "update log_key set fingerprint_key = sha256('')",
        "set session_replication_role = replica; delete from events",
    ] {
        let refused = sqlx::raw_sql(attempt).execute(&mut superuser).await.unwrap_err().to_string();
        assert!(refused.contains("refused"), "{attempt}: {refused}");
    }
    let running = to.open().await;
    // a service is connected from its first command on
    assert!(commit_one(&*running, append(&account("0-0"), 4)).await.is_applied());
    let refused = to.restore(&paths, true).await.unwrap_err().to_string();
    assert!(refused.contains("stop its service"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_export_has_left_goes_with_the_next_one_but_not_what_is_being_written() {
    let dir = tempfile::tempdir().unwrap();
    let from = Place::file();
    let log = from.open().await;
    fill(&*log).await;
    let left = dir.path().join(".accounts.keys.ndjson.part");
    std::fs::write(&left, "keys of persons").unwrap();
    let writing = std::fs::File::open(&left).unwrap();
    writing.lock().unwrap();
    let paths = BackupPaths::in_dir(dir.path(), "accounts");
    let refused = files::write(log.contents(), &paths, |_| {}).await.unwrap_err().to_string();
    assert!(refused.contains("somebody else writes it"), "{refused}");
    drop(writing);
    back_up(&*log, dir.path()).await;
    let mut there: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    there.sort();
    assert_eq!(there, ["accounts.keys.ndjson", "accounts.ndjson"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_is_not_replaced_and_the_way_out_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let from = Place::file();
    let log = from.open().await;
    fill(&*log).await;
    let (paths, _) = back_up(&*log, dir.path()).await;
    let to = Place::file();
    let Place::File(folder) = &to else { unreachable!("it is a file") };
    let file = folder.path().join("accounts.db");
    std::fs::write(&file, "no database ".repeat(1_000)).unwrap();
    let refused = to.restore(&paths, true).await.unwrap_err().to_string();
    assert!(refused.contains("move it away"), "{refused}");
    std::fs::rename(&file, folder.path().join("damaged")).unwrap();
    to.restore(&paths, true).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_comes_while_a_restore_waits_for_the_tables_is_seen() {
    let dir = tempfile::tempdir().unwrap();
    let from = Place::file();
    let log = from.open().await;
    fill(&*log).await;
    let (paths, _) = back_up(&*log, dir.path()).await;
    let url = fresh_database("backup").await;
    let to = Place::Database(url.clone());
    to.restore(&paths, false).await.unwrap();
    // somebody who is no service of ours reads, so that the restore finds nobody and then waits
    let mut reader = PgConnection::connect(&url).await.unwrap();
    sqlx::raw_sql("begin; lock table events in access share mode").execute(&mut reader).await.unwrap();
    let come = async {
        let waits = "select exists (select from pg_locks where not granted and relation = 'events'::regclass)";
        while !sqlx::query_scalar::<_, bool>(waits).fetch_one(&mut reader).await.unwrap() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        let service: sqlx::postgres::PgConnectOptions = url.parse().unwrap();
        let service = PgConnection::connect_with(&service.application_name("tributary accounts")).await.unwrap();
        reader.close().await.unwrap();
        service
    };
    let (restored, service) = tokio::join!(to.restore(&paths, true), come);
    let refused = restored.unwrap_err().to_string();
    assert!(refused.contains("stop its service"), "{refused}");
    service.close().await.unwrap();
    to.restore(&paths, true).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_shows_nothing_personal_without_its_keys_and_needs_them_to_become_a_log() {
    let dir = tempfile::tempdir().unwrap();
    let place = Place::file();
    let log = SealedLog::around(place.open().await);
    let mut item = append(&account("a"), 0);
    let event_store::log::Decision::Append(events) = &mut item.decision else { panic!("it appends") };
    events[0].payload = format!(r#"{{"name":{{"personal_of":"{ANA}","value":"Ana-canary"}}}}"#);
    item.claims = vec![take("email", "ana-canary@example.com")];
    commit_one(&*log, item).await;
    let (paths, _) = back_up(&*log, dir.path()).await;
    let text = std::fs::read_to_string(&paths.log).unwrap();
    assert!(text.contains(&ANA.to_string()) && !text.to_lowercase().contains("ana-canary"), "{text}");
    let key = log.keys(&[ANA]).await.unwrap()[&ANA];
    let hex: String = key.0.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(!text.contains(&hex), "the keys lie apart");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&paths.keys).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600, "and nobody else reads them");

    // keys that are newer than the log open it, older ones do not
    let older = std::fs::read(&paths.keys).unwrap();
    commit_one(&*log, append(&account("a"), 1)).await;
    let (paths, _) = back_up(&*log, dir.path()).await;
    let newer_log = std::fs::read_to_string(&paths.log).unwrap();
    std::fs::write(&paths.log, text).unwrap();
    Place::file().restore(&paths, false).await.unwrap();
    std::fs::write(&paths.log, newer_log).unwrap();
    std::fs::write(&paths.keys, older).unwrap();
    let refused = Place::file().restore(&paths, false).await.unwrap_err().to_string();
    assert!(refused.contains("older"), "{refused}");
    std::fs::remove_file(&paths.keys).unwrap();
    let refused = Place::file().restore(&paths, false).await.unwrap_err().to_string();
    assert!(refused.contains("without its keys"), "{refused}");
}
