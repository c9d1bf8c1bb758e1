//! Indexes that a newer program brings are made for the generation that is live: rows are as they were, so nothing is built
//! anew.

mod common;

use common::{BOTH, Feeds, Kind, Place, placed, quick};
use read_side::order_details::TEMPLATE;
use sqlx::{AssertSqlSafe, PgPool, SqlitePool};

/// Sends `statement` to the query database, and tells the names of its indexes.
async fn indexes_after(place: &Place, statement: String) -> Vec<String> {
    macro_rules! ask {
        ($pool:expr, $names:literal) => {{
            let pool = $pool;
            sqlx::query(AssertSqlSafe(statement)).execute(&pool).await.unwrap();
            let names = sqlx::query_scalar($names).fetch_all(&pool).await.unwrap();
            pool.close().await;
            names
        }};
    }
    match place.kind {
        Kind::Sqlite => {
            let file = read_side::query_database::generation_file(place.directory(), TEMPLATE.name, 1);
            let pool = SqlitePool::connect(&format!("sqlite:{}", file.display())).await.unwrap();
            ask!(pool, "select name from sqlite_master where type = 'index' and name like '%_by_%' order by name")
        }
        Kind::Postgres => {
            let pool = PgPool::connect(place.url()).await.unwrap();
            ask!(
                pool,
                "select indexname::text from pg_indexes where tablename like 'order_details_g1%' \
                 and indexname like '%_by_%' order by 1"
            )
        }
    }
}

#[tokio::test]
async fn a_live_generation_gets_the_indexes_that_it_has_not_and_stays_the_live_one() {
    for kind in BOTH {
        let feeds = Feeds::default();
        feeds.order(placed(1, 1, &[1]));
        let place = Place::new(kind).await;
        let projector = place.projector(&feeds, quick()).await;
        projector.caught_up().await;
        projector.shutdown().await;

        let all = indexes_after(&place, "select 1".to_owned()).await;
        assert!(all.len() >= 7, "{kind:?}: {all:?}");
        let fewer = indexes_after(&place, "drop index order_details_g1_by_total".to_owned()).await;
        let fewer_still = indexes_after(&place, "drop index order_details_g1_product_by_sku".to_owned()).await;
        assert_eq!((fewer.len(), fewer_still.len()), (all.len() - 1, all.len() - 2), "{kind:?}");

        let projector = place.projector(&feeds, quick()).await;
        projector.caught_up().await;
        assert_eq!(place.read().projections().await.unwrap()[0].live_generation, 1, "{kind:?}");
        projector.shutdown().await;
        assert_eq!(indexes_after(&place, "select 1".to_owned()).await, all, "{kind:?}");
    }
}
