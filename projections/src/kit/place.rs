//! A query database for one test.

use std::{path::Path, sync::Arc};

use event_store::follower::FollowerStore;
use read_side::ReadSide;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, postgres::PgConnectOptions};
use tempfile::TempDir;
use uuid::Uuid;

use super::hand::Hand;
use crate::{QueryDatabase, engine::store::StoreOptions, projection::Projection};

/// Which engine a query database is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Sqlite,
    Postgres,
}

/// A query database of its own. A folder goes away with the last that uses it, a database with [`Self::remove`].
#[derive(Clone)]
pub struct Place {
    pub kind: Kind,
    directory: Arc<TempDir>,
    url: String,
    /// Where the database was made, and its name.
    made_on: Option<(String, String)>,
}

impl Place {
    pub fn sqlite() -> Self {
        Self { kind: Kind::Sqlite, directory: directory(), url: String::new(), made_on: None }
    }

    /// An empty database that is there already.
    pub fn postgres(url: impl Into<String>) -> Self {
        Self { kind: Kind::Postgres, directory: directory(), url: url.into(), made_on: None }
    }

    /// A new database on the server of which `server` is any other one.
    pub async fn on_server(server: &str) -> Self {
        let name = format!("tributary_kit_{}", Uuid::new_v4().simple());
        execute(server, &format!("create database {name}")).await;
        let options: PgConnectOptions = server.parse().expect("a URL that was just connected to");
        let url = sqlx::ConnectOptions::to_url_lossy(&options.database(&name)).to_string();
        Self { made_on: Some((server.to_owned(), name)), ..Self::postgres(url) }
    }

    /// Removes the database that was made for it. A test that fails leaves it, to be looked at.
    pub async fn remove(self) {
        if let Some((server, name)) = &self.made_on {
            execute(server, &format!("drop database {name} with (force)")).await;
        }
    }

    /// Of SQLite.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Of PostgreSQL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// To write; every call is a process of its own, as it were.
    pub async fn database(&self) -> QueryDatabase {
        match self.kind {
            Kind::Sqlite => QueryDatabase::open_sqlite(self.directory.path()).await,
            Kind::Postgres => QueryDatabase::open_postgres(&self.url).await,
        }
        .expect("a query database of a test")
    }

    /// To read.
    pub fn read(&self) -> ReadSide {
        match self.kind {
            Kind::Sqlite => ReadSide::connect_sqlite(self.directory.path()),
            Kind::Postgres => ReadSide::connect_postgres(&self.url).expect("a URL"),
        }
    }

    /// The live generation of `projection`, made if there is none, to drive by hand.
    pub async fn live(&self, projection: Projection, options: StoreOptions) -> Hand {
        let database = self.database().await;
        let live = database.live(projection.template).await.expect("a query database answers");
        let generation = match live {
            Some(live) => live.generation,
            None => {
                let generation = database.create(&projection).await.expect("a generation can be made");
                database.swap(projection.template, None, generation).await.expect("nothing was live");
                generation
            }
        };
        self.hand(database, projection, generation, options).await
    }

    /// A generation of its own, beside whatever there is.
    pub(super) async fn another(&self, projection: Projection, options: StoreOptions) -> Hand {
        let database = self.database().await;
        let generation = database.create(&projection).await.expect("a generation can be made");
        self.hand(database, projection, generation, options).await
    }

    /// Takes a generation over, as another process would.
    pub(super) async fn hand(
        &self,
        database: QueryDatabase,
        projection: Projection,
        generation: i64,
        options: StoreOptions,
    ) -> Hand {
        let read = self.read();
        let store = database.store(Arc::new(projection), generation, options, read.wake()).await;
        let store = store.expect("a generation can be opened");
        let acquired = store.acquire().await.expect("the fence can be taken");
        Hand { store, acquired, database, read, place: self.clone() }
    }
}

fn directory() -> Arc<TempDir> {
    Arc::new(tempfile::tempdir().expect("a temporary directory"))
}

async fn execute(server: &str, statement: &str) {
    let connected = PgConnection::connect(server).await;
    let mut connection = connected.unwrap_or_else(|error| panic!("connect to the PostgreSQL server: {error}"));
    let done = connection.execute(AssertSqlSafe(statement.to_owned())).await;
    done.unwrap_or_else(|error| panic!("{statement}: {error}"));
    let _ = connection.close().await;
}
