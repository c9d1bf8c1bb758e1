//! A person who was erased is in no table of any read model, and on SQLite in no file: not where a full-text index keeps its
//! words, either.

mod common;

use std::{path::Path, time::Duration};

use common::{BOTH, Feeds, Kind, Place, email_changed, erased, order, placed, quick, registered, renamed, small, user};
use projections::{
    ProjectorHandle,
    engine::{parking::Retried, projector::Which, rebuild::Phase},
};
use read_side::{Consistency, ReadSide};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

/// Part of every name and address here, in whatever case.
const CANARY: &str = "kanarienvogel";
/// So many that words lie on more than one page of an index.
const PERSONS: u64 = 40;

fn filled() -> Feeds {
    let feeds = Feeds::default();
    for n in 1..=PERSONS {
        feeds.user(registered(n, &format!("Kanarienvogel{n} Piepmatz")));
        feeds.order(placed(n, n, &[1]));
        if n % 3 == 0 {
            feeds.user(renamed(n, &format!("Piepmatz Kanarienvogel{n}")));
            feeds.user(email_changed(n, &format!("kanarienvogel{n}@example.org")));
        }
    }
    feeds
}

/// How many orders are found, and the name in the overview, once the users service's last word is in all of it.
async fn seen(read: &ReadSide, feeds: &Feeds, n: u64) -> (usize, Option<String>) {
    let told = Consistency::at_least(feeds.users.token()).with_wait(Duration::from_secs(20));
    let found = read.search_orders(&format!("{CANARY}{n}"), 10, &told).await.unwrap();
    let overview = read.customer_overview(user(n), &told).await.unwrap();
    let order = read.order(order(n), &told).await.unwrap().unwrap();
    assert_eq!(overview.as_ref().unwrap().name, order.customer_name);
    (found.len(), order.customer_name)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_person_is_in_no_table_and_in_no_file() {
    for kind in BOTH {
        let feeds = filled();
        let place = Place::new(kind).await;
        let mut options = quick();
        options.follower.batch_events_max = 7;
        let projector = place.projector(&feeds, options.clone()).await;
        projector.caught_up().await;
        let read = place.read();
        assert_eq!(seen(&read, &feeds, 9).await, (1, Some("Piepmatz Kanarienvogel9".to_owned())), "{kind:?}");
        let before = places_with_canary(&place).await;
        for read_model in ["order_details", "customer_overview", "order_search"] {
            assert!(before.iter().any(|place| place.contains(read_model)), "or nothing is searched: {before:?}");
        }
        (1..=PERSONS).for_each(|n| feeds.user(erased(n)));
        projector.caught_up().await;
        assert_eq!(seen(&read, &feeds, 9).await, (0, None), "{kind:?}");
        // an open reader would keep the files that it reads as they were
        drop(read);
        projector.shutdown().await;
        assert_eq!(places_with_canary(&place).await, Vec::<String>::new(), "{kind:?}");
    }
}

/// Of person 9 two words were never understood, so that what was said of them later waits: also that they were erased.
#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_does_not_wait_behind_what_cannot_be_folded() {
    for kind in BOTH {
        let feeds = filled();
        let broken = || {
            feeds.users.push_raw("user", user(9), "UserRenamed", "2", "{\"oops\":1}".to_owned());
            usize::try_from(feeds.users.head().position).unwrap()
        };
        let first = broken();
        feeds.user(renamed(9, "Kanarienvogel9 Wellensittich"));
        let second = broken();
        let place = Place::new(kind).await;
        let mut options = quick();
        options.follower.batch_events_max = 7;
        options.store = small();
        let projector = place.projector(&feeds, options).await;
        projector.caught_up().await;
        assert_eq!(
            name(&place, 9).await.as_deref(),
            Some("Piepmatz Kanarienvogel9"),
            "{kind:?}: as far as it is known"
        );
        (1..=PERSONS).for_each(|n| feeds.user(erased(n)));
        projector.caught_up().await;
        until_forgotten(&place).await;
        for read_model in ["order_details", "customer_overview", "order_search"] {
            assert_eq!(verified(&projector, read_model).await, (Phase::Verified, None), "{kind:?}: {read_model}");
        }
        let parked = projector.parked(&Which::default()).await.unwrap();
        assert!(!parked.is_empty() && parked.iter().all(|(_, parked)| parked.waiting == 4), "{kind:?}: {parked:?}");
        // a file holds more than its tables until it is closed
        if kind == Kind::Postgres {
            assert_eq!(places_with_canary(&place).await, Vec::<String>::new(), "nor in what was before");
        }

        // folded late it gives what it would have given, which is nothing to be known
        for (mended, folded, waiting) in [(first, 2, 2), (second, 2, 0)] {
            feeds.users.rewrite(mended, serde_json::to_string(&renamed(9, "Kanarienvogel9 Byron")).unwrap());
            let retried = projector.retry_parked(&Which::default(), false).await.unwrap();
            let is_told = |retried: &Retried| (retried.folded, retried.waiting) == (folded, waiting);
            assert!(!retried.is_empty() && retried.iter().all(is_told), "{kind:?}: {retried:?}");
            until_forgotten(&place).await;
        }
        for read_model in ["order_details", "customer_overview", "order_search"] {
            assert_eq!(verified(&projector, read_model).await, (Phase::Verified, None), "{kind:?}: {read_model}");
        }
        projector.shutdown().await;
        assert_eq!(places_with_canary(&place).await, Vec::<String>::new(), "{kind:?}");
    }
}

async fn name(place: &Place, n: u64) -> Option<String> {
    place.read().order(order(n), &Consistency::any()).await.unwrap().unwrap().customer_name
}

/// Until nobody is found any more, nor shown.
async fn until_forgotten(place: &Place) {
    let read = place.read();
    for _ in 0..400 {
        let found = read.search_orders("piepmatz", 10, &Consistency::any()).await.unwrap();
        if found.is_empty() && name(place, 9).await.is_none() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{:?}: somebody is known still: {:?}", place.kind, name(place, 9).await);
}

async fn verified(projector: &ProjectorHandle, read_model: &str) -> (Phase, Option<String>) {
    let mut progress = projector.verify(read_model).await.unwrap();
    let over = progress.wait_for(|progress| progress.phase.is_over());
    let over = tokio::time::timeout(Duration::from_secs(60), over).await.expect("it ends").unwrap().clone();
    (over.phase, over.error)
}

async fn places_with_canary(place: &Place) -> Vec<String> {
    match place.kind {
        Kind::Sqlite => files_with_canary(place.directory()),
        Kind::Postgres => tables_with_canary(place.url()).await,
    }
}

fn files_with_canary(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_with_canary(&path));
        } else {
            // without its first letter: an index writes only in what a word differs from the one before
            let bytes = std::fs::read(&path).unwrap().to_ascii_lowercase();
            if bytes.windows(CANARY.len() - 1).any(|window| window == &CANARY.as_bytes()[1..]) {
                found.push(path.display().to_string());
            }
        }
    }
    found
}

async fn tables_with_canary(url: &str) -> Vec<String> {
    const TABLES: &str = "select tablename::text from pg_tables where schemaname = 'public'";
    let mut database = PgConnection::connect(url).await.unwrap();
    let mut found = Vec::new();
    let tables: Vec<String> = sqlx::query_scalar(TABLES).fetch_all(&mut database).await.unwrap();
    for table in tables {
        let count = format!("select count(*) from {table} as t where t::text ilike '%{CANARY}%'");
        let rows: i64 = sqlx::query_scalar(AssertSqlSafe(count)).fetch_one(&mut database).await.unwrap();
        if rows > 0 {
            found.push(table);
        }
    }
    found
}
