//! Processes that start at once on a query database where there is nothing yet.

mod common;

use std::collections::BTreeSet;

use common::{Feeds, Kind, Place, Random, quick};
use futures::future::join_all;
use projections::Projector;
use sqlx::{Connection, PgConnection};

/// Each on a database of its own; what goes wrong goes wrong in a few of them.
const ROUNDS: u64 = 8;
const PROCESSES: usize = 6;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_processes_that_start_at_once_on_an_empty_database_all_come_up_and_each_read_model_has_one_generation() {
    for round in 0..ROUNDS {
        let feeds = Feeds::default();
        feeds.history(&mut Random(round), 5);
        let place = Place::new(Kind::Postgres).await;
        let starting = (0..PROCESSES).map(|_| {
            let (place, feeds) = (place.clone(), feeds.all());
            tokio::spawn(async move { Projector::start(place.database().await, feeds, quick()).await })
        });
        let started = join_all(starting).await.into_iter().map(|started| started.expect("no panic"));
        let projectors: Vec<_> = started.map(|started| started.expect("it comes up")).collect();

        let mut database = PgConnection::connect(place.url()).await.unwrap();
        let generations: Vec<(String, i64, String, Option<i64>)> = sqlx::query_as(
            "select read_model, generation, state, live_generation \
             from generations g full join read_models m on m.name = g.read_model order by 1, 2",
        )
        .fetch_all(&mut database)
        .await
        .unwrap();
        let names: BTreeSet<&str> = projections::all().iter().map(|projection| projection.template.name).collect();
        let named: Vec<&str> = generations.iter().map(|(name, ..)| name.as_str()).collect();
        assert_eq!(named, Vec::from_iter(names), "round {round}: {generations:?}");
        for (name, generation, state, live) in &generations {
            assert_eq!((state.as_str(), *live), ("live", Some(*generation)), "round {round}: {name}");
        }
        let rebuilds: i64 = sqlx::query_scalar("select count(*) from rebuilds").fetch_one(&mut database).await.unwrap();
        assert_eq!(rebuilds, 0, "round {round}: nobody has asked for one");
        for projector in &projectors {
            projector.shutdown().await;
        }
    }
}
