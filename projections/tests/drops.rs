//! A process that ends while it removes a generation leaves either all of it or nothing that lasts. One test, because
//! failpoints are shared by the whole process.

mod common;

use std::time::Duration;

use common::{BOTH, Feeds, Kind, Place, Random, quick};
use event_store::failpoint;
use projections::{
    ProjectorHandle, ProjectorOptions,
    engine::rebuild::{Phase, Progress},
    order_details,
};
use read_side::{
    order_details::TEMPLATE,
    query_database::{generation_file, generations_directory},
};
use sqlx::{Connection, PgConnection};
use tokio::sync::watch;

const NAME: &str = "order_details";

async fn over(mut progress: watch::Receiver<Progress>) -> Progress {
    let over = progress.wait_for(|progress| progress.phase.is_over());
    tokio::time::timeout(Duration::from_secs(60), over).await.expect("a rebuild ends").unwrap().clone()
}

/// Keeps nothing to go back to.
async fn started(place: &Place, feeds: &Feeds) -> ProjectorHandle {
    let projector = place.projector(feeds, ProjectorOptions { generations_kept: 0, ..quick() }).await;
    projector.caught_up().await;
    projector
}

/// Generations with their states.
async fn generations(place: &Place) -> Vec<(i64, String)> {
    let generations = place.database().await.generations(&TEMPLATE).await.unwrap();
    generations.into_iter().map(|one| (one.generation, one.state)).collect()
}

/// Tables and files of one generation.
async fn remains(place: &Place, generation: i64) -> Vec<String> {
    match place.kind {
        Kind::Sqlite => {
            let file = generation_file(place.directory(), NAME, generation);
            let name = file.file_name().unwrap().to_str().unwrap();
            let files = std::fs::read_dir(generations_directory(place.directory())).unwrap();
            let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
            names.filter(|other| other.starts_with(name)).collect()
        }
        Kind::Postgres => {
            let mut database = PgConnection::connect(place.url()).await.unwrap();
            let tables = "select tablename::text from pg_tables where tablename ~ ('^' || $1 || '(_|$)') \
                 union all select 'fences' from fences where read_model = $2 and generation = $3 \
                 union all select 'leases' from leases where read_model = $2 and generation = $3 and expires_at > now()";
            let tables = sqlx::query_scalar(tables).bind(TEMPLATE.table(generation)).bind(NAME).bind(generation);
            tables.fetch_all(&mut database).await.unwrap()
        }
    }
}

#[tokio::test]
async fn what_a_cut_off_removal_leaves_is_either_whole_or_removed_by_the_next_start() {
    for kind in BOTH {
        let (feeds, place) = (Feeds::default(), Place::new(kind).await);
        feeds.history(&mut Random(61), 10);
        let projector = started(&place, &feeds).await;
        failpoint::arm("projection.dropping", 1);
        assert_eq!(over(projector.rebuild(NAME).await.unwrap()).await.phase, Phase::Swapped);
        projector.shutdown().await;
        assert!(!failpoint::is_armed("projection.dropping"), "{kind:?}: it was passed");

        // what may be gone back to is whole
        let database = place.database().await;
        let left = generations(&place).await;
        assert!(left.iter().any(|(generation, _)| *generation == 1), "{kind:?}: it was cut off: {left:?}");
        for (generation, state) in &left {
            let is_whole = !remains(&place, *generation).await.is_empty()
                && database.is_complete(&order_details::projection(), *generation).await.unwrap();
            assert!(is_whole || state == "failed", "{kind:?}: {generation} is {state}");
        }
        // and what is not is gone with the next start, or with the next swap
        let projector = started(&place, &feeds).await;
        let left = generations(&place).await;
        assert!(left.iter().all(|(_, state)| state != "failed"), "{kind:?}: {left:?}");
        assert_eq!(over(projector.rebuild(NAME).await.unwrap()).await.phase, Phase::Swapped);
        let left = generations(&place).await;
        assert_eq!(left, [(3, "live".to_owned())], "{kind:?}");
        for generation in [1, 2] {
            assert_eq!(remains(&place, generation).await, Vec::<String>::new(), "{kind:?}: {generation}");
        }
        projector.shutdown().await;
    }
}
