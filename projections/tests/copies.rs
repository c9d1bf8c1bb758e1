//! The query database as a file, and read models of such a file.

mod common;

use std::{path::Path, time::Duration};

use common::{BOTH, Feeds, Kind, Place, Random, added, erased, order, placed, quick, registered, renamed};
use projections::{
    ProjectorHandle,
    engine::{
        copy::{
            CopyError,
            export::Contents,
            restore::{Restored, check, restore},
        },
        rebuild::{Phase, Purpose},
    },
};
use read_side::{Consistency, order_details::TEMPLATE};

const NAME: &str = "order_details";
/// Of somebody who is erased after the copy.
const CANARY_NAME: &str = "Canary Bird";

async fn write(mut contents: Contents, file: &Path) {
    let mut lines = Vec::new();
    while let Some(chunk) = contents.recv().await {
        lines.extend(chunk.expect("a chunk"));
    }
    std::fs::write(file, lines).expect("a file");
}

/// Restores all of `file` into `place`.
async fn restored(place: &Place, file: &Path, is_replaced: bool) -> Result<Vec<Restored>, CopyError> {
    let database = place.database().await;
    let restored = restore(&database, projections::all(), &check(file)?, is_replaced).await;
    database.close().await;
    restored
}

/// Waits until the last rebuild of every read model is over, and gives the phase of order details'.
async fn over(projector: &ProjectorHandle) -> Phase {
    for projection in projections::all() {
        let mut tries = 0;
        while !projector.last_rebuild(projection.template.name).await.unwrap().expect("one").phase.is_over() {
            tries += 1;
            assert!(tries < 600, "{} does not end", projection.template.name);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    projector.last_rebuild(NAME).await.unwrap().expect("one").phase
}

/// Everything that order details and the others hold.
async fn hashes(projector: &ProjectorHandle) -> Vec<String> {
    let mut hashes = Vec::new();
    for projection in projections::all() {
        let name = projection.template.name;
        let hash = projector.live_hash(name).await.unwrap().unwrap_or_else(|| panic!("{name} is not followed"));
        hashes.push(format!("{name}: {hash}"));
    }
    hashes
}

async fn live(place: &Place) -> Option<i64> {
    let database = place.database().await;
    let live = database.live(&TEMPLATE).await.unwrap().map(|live| live.generation);
    database.close().await;
    live
}

#[tokio::test]
async fn a_copy_of_either_database_comes_to_life_in_either_and_is_brought_up_to_date_before() {
    for from in BOTH {
        let feeds = Feeds::default();
        feeds.user(registered(9, CANARY_NAME));
        feeds.order(placed(900, 9, &[1]));
        feeds.history(&mut Random(7), 60);
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("query.ndjson");
        let old = Place::new(from).await;
        let projector = old.projector(&feeds, quick()).await;
        projector.caught_up().await;
        write(projector.export(), &file).await;
        assert!(std::fs::read_to_string(&file).unwrap().contains(CANARY_NAME), "as it was then");

        // what comes later, who was erased among it
        feeds.user(erased(9));
        feeds.order(placed(901, 1, &[1, 2]));
        projector.caught_up().await;
        let expected = hashes(&projector).await;
        projector.shutdown().await;

        for to in BOTH {
            let new = Place::new(to).await;
            let made = restored(&new, &file, false).await.unwrap();
            assert!(made.iter().all(|one| one.left_out.is_none() && one.generation == Some(2)), "{from:?}: {made:?}");
            assert_eq!(live(&new).await, None, "nobody reads it yet: somebody was erased meanwhile");
            let projector = new.projector(&feeds, quick()).await;
            assert_eq!(over(&projector).await, Phase::Swapped);
            assert_eq!(live(&new).await, Some(2), "and no other was made");
            projector.caught_up().await;
            assert_eq!(hashes(&projector).await, expected, "{from:?} to {to:?}");
            let verified =
                projector.verify(NAME).await.unwrap().wait_for(|now| now.phase.is_over()).await.unwrap().clone();
            assert_eq!(verified.phase, Phase::Verified, "{verified:?}");
            let read = new.read().order(order(900), &Consistency::any()).await.unwrap().expect("the order");
            assert_eq!(read.customer_name, None, "{from:?} to {to:?}");
            projector.shutdown().await;
        }
    }
}

#[tokio::test]
async fn what_is_live_stays_until_the_copy_is_as_new_also_under_a_projector_that_runs() {
    for kind in BOTH {
        let feeds = Feeds::default();
        feeds.history(&mut Random(8), 30);
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("query.ndjson");
        let place = Place::new(kind).await;
        let projector = place.projector(&feeds, quick()).await;
        projector.caught_up().await;
        write(projector.export(), &file).await;
        feeds.user(renamed(1, "Renamed since"));
        projector.caught_up().await;
        let expected = hashes(&projector).await;

        let refused = restored(&place, &file, false).await.unwrap_err();
        assert!(matches!(refused, CopyError::NotEmpty { generation: 1, .. }), "{refused}");
        let projector = match kind {
            // SQLite belongs to one process
            Kind::Sqlite => {
                projector.shutdown().await;
                restored(&place, &file, true).await.unwrap();
                place.projector(&feeds, quick()).await
            }
            Kind::Postgres => {
                restored(&place, &file, true).await.unwrap();
                projector
            }
        };
        assert_eq!(over(&projector).await, Phase::Swapped);
        assert_eq!(live(&place).await, Some(2));
        projector.caught_up().await;
        assert_eq!(hashes(&projector).await, expected);
        let kept = projector.generations(NAME).await.unwrap();
        assert_eq!(kept.iter().map(|one| &*one.state).collect::<Vec<_>>(), ["retired", "live"], "to go back to");
        projector.shutdown().await;
    }
}

#[tokio::test]
async fn a_copy_that_is_ahead_of_what_is_live_takes_its_place_once_it_is_up_to_date() {
    for kind in BOTH {
        let feeds = Feeds::default();
        feeds.history(&mut Random(9), 20);
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("query.ndjson");
        let old = Place::new(kind).await;
        let projector = old.projector(&feeds, quick()).await;
        projector.caught_up().await;
        write(projector.export(), &file).await;
        let expected = hashes(&projector).await;
        projector.shutdown().await;

        // a projector has begun anew, and has not got far
        let new = Place::new(kind).await;
        let young = Feeds::default();
        let projector = new.projector(&young, quick()).await;
        projector.caught_up().await;
        projector.shutdown().await;
        restored(&new, &file, false).await.expect("what holds nothing needs no leave");
        let projector = new.projector(&feeds, quick()).await;
        assert_eq!(over(&projector).await, Phase::Swapped);
        projector.caught_up().await;
        assert_eq!(hashes(&projector).await, expected);
        projector.shutdown().await;
    }
}

#[tokio::test]
async fn a_copy_of_a_history_that_is_gone_is_not_made_live_and_rows_are_folded_anew() {
    for kind in BOTH {
        let feeds = Feeds::default();
        feeds.history(&mut Random(10), 20);
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("query.ndjson");
        let old = Place::new(kind).await;
        let projector = old.projector(&feeds, quick()).await;
        projector.caught_up().await;
        write(projector.export(), &file).await;
        projector.shutdown().await;

        // a log that was restored from an older copy, and went on otherwise
        let others = Feeds::default();
        others.user(registered(1, "Somebody else"));
        others.product(added(1, "Another"));
        others.order(placed(1, 1, &[1]));
        let new = Place::new(kind).await;
        restored(&new, &file, false).await.unwrap();
        let projector = new.projector(&others, quick()).await;
        assert_eq!(over(&projector).await, Phase::Failed);
        let progress = projector.last_rebuild(NAME).await.unwrap().expect("one");
        assert_eq!(progress.purpose, Purpose::Rollback);
        let why = progress.error.expect("why");
        assert!(why.contains("regressed"), "{why}");
        // the next one is live before it is followed, and only then can be waited for
        let mut tries = 0;
        while projector.live_hash(NAME).await.unwrap().is_none() {
            tries += 1;
            assert!(tries < 600, "nothing is followed in its place");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(live(&new).await.is_some_and(|live| live > 2), "not what was restored");
        projector.caught_up().await;
        let read = new.read().order(order(1), &Consistency::any()).await.unwrap().expect("the order");
        assert_eq!(read.customer_name.as_deref(), Some("Somebody else"));
        projector.shutdown().await;
    }
}

#[tokio::test]
async fn what_is_damaged_or_of_others_leaves_everything_as_it_was() {
    for kind in BOTH {
        let feeds = Feeds::default();
        feeds.history(&mut Random(11), 10);
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("query.ndjson");
        let old = Place::new(kind).await;
        let projector = old.projector(&feeds, quick()).await;
        projector.caught_up().await;
        write(projector.export(), &file).await;
        projector.shutdown().await;
        let lines = std::fs::read_to_string(&file).unwrap();
        let version = projections::order_details::projection().version;
        let of_version = |version: u32| format!(r#"{{"read_model":{{"name":"order_details","version":{version}"#);

        let new = Place::new(kind).await;
        let said = async |lines: &str| {
            std::fs::write(&file, lines).unwrap();
            restored(&new, &file, false).await.map(|_| ()).unwrap_err().to_string()
        };
        assert!(said(&lines.replacen("\"served\"", "\"serves\"", 1)).await.contains("changed or damaged"));
        assert!(said(&lines[..lines.len() / 2]).await.contains("cut off"));
        assert!(said("{\"log\":{}}\n").await.contains("no export of a query database"));
        assert!(said("no lines at all").await.contains("no export of a query database"));
        let database = new.database().await;
        for projection in projections::all() {
            assert_eq!(database.generations(projection.template).await.unwrap(), [], "{kind:?}");
        }
        database.close().await;

        // of another version: that one is left to a rebuild, and the others are restored
        let other = resealed(&lines.replacen(&of_version(version), &of_version(version + 1), 1));
        std::fs::write(&file, other).unwrap();
        let made = restored(&new, &file, false).await.unwrap();
        for one in made {
            let why = one.left_out.as_deref();
            match &*one.name {
                NAME => assert!(why.is_some_and(|why| why.contains("version")) && one.generation.is_none(), "{one:?}"),
                _ => assert!(why.is_none() && one.generation.is_some(), "{one:?}"),
            }
        }

        // whole, but of no sense: nothing of it stays
        let newer = Place::new(kind).await;
        let strange = resealed(&lines.replacen(r#"{"table":"fan_outs"}"#, r#"{"table":"strange"}"#, 1));
        std::fs::write(&file, strange).unwrap();
        let refused = restored(&newer, &file, false).await.unwrap_err().to_string();
        assert!(refused.contains("has no table strange"), "{refused}");
        let database = newer.database().await;
        assert_eq!(database.generations(&TEMPLATE).await.unwrap(), [], "{kind:?}");
        database.close().await;
    }
}

/// With the digest that these lines have.
fn resealed(lines: &str) -> String {
    use sha2::{Digest, Sha256};
    let (before, end) = lines.trim_end().rsplit_once('\n').expect("a last line");
    let before = format!("{before}\n");
    let digest: String = Sha256::digest(&before).iter().map(|byte| format!("{byte:02x}")).collect();
    let (counts, _) = end.split_once("\"sha256\":").expect("a digest");
    format!("{before}{counts}\"sha256\":\"{digest}\"}}}}\n")
}
