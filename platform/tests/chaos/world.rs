//! A PostgreSQL server for each database, and the processes that log in to them with what `tributary migrate` has made.

use std::{collections::BTreeMap, sync::Arc};

use futures::future::join_all;

use super::{
    Fault,
    common::{
        Home,
        apart::{Apart, all},
        databases, text,
    },
    faults::a_while,
    place::{Place, group_of},
    plan::Dice,
};

pub struct World {
    /// By the name of the one database that is there.
    places: BTreeMap<&'static str, Place>,
    pub apart: Apart,
}

impl World {
    /// With everything running.
    pub async fn new() -> Self {
        let made = databases().map(|database| async move {
            let place = Place::new().await;
            let migrated = place.migrate(&[database]).await;
            assert!(migrated.status.success(), "{database}: {}", text(&migrated));
            (database, place)
        });
        let places: BTreeMap<_, _> = join_all(made).await.into_iter().collect();
        let url = |group: &str, database: &str| places[database].url(&format!("{group}_a"), database);
        let mut urls: BTreeMap<_, _> = databases().map(|name| (name, url(&group_of(name), name))).collect();
        urls.insert("graphql", url("tributary_graphql", "query"));
        let folder = Arc::new(tempfile::tempdir().expect("a directory"));
        let mut apart = Apart::on(Home::Postgres { urls, folder }, &[]);
        apart.start(&all()).await;
        Self { places, apart }
    }

    /// Something goes wrong, and is put right again.
    pub async fn suffer(&mut self, fault: Fault, dice: &mut Dice) {
        match fault {
            Fault::Killed(process) => {
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
        }
    }
}
