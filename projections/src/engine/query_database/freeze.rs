//! A generation held still for a moment, and a look at it that lasts.
//!
//! Whoever writes a generation, in whichever process, waits as long as it is frozen; it is not refused. So freezing is for
//! moments: to see at which vector it stands, to begin a snapshot there, or to move the pointer away from it.

use std::sync::Arc;

use event_store::follower::Vector;
use read_side::{query_database as place, template::Template};
use sqlx::sqlite::SqlitePoolOptions;

use super::{
    super::{
        Doing, EngineError,
        store::read_vector,
        transaction::{Pool, Transaction, Value},
    },
    Place, QueryDatabase, generations, sqlite_writer,
};

const CHECKPOINTS: &str = "select source, epoch, cast(position as text), event_id from checkpoints \
    where read_model = $1 and generation = $2";

/// A generation that nobody writes until this is released.
pub(crate) struct Frozen {
    pub generation: i64,
    pub vector: Vector,
    /// Changed references whose rows are not all rewritten.
    pub open_fan_outs: u64,
    template: &'static Template,
    transaction: Transaction,
    pool: Pool,
    database: QueryDatabase,
}

impl QueryDatabase {
    /// Waits for who writes `generation` to end the transaction they are in, and keeps the next one waiting.
    pub(crate) async fn freeze(&self, template: &'static Template, generation: i64) -> Result<Frozen, EngineError> {
        let pool = match &*self.place {
            Place::Postgres { pool, .. } => Pool::postgres(pool.clone(), &self.figures),
            // not the writer's: there is one connection in it
            Place::Sqlite { directory, .. } => {
                let file = place::generation_file(directory, template.name, generation);
                let pool = SqlitePoolOptions::new().max_connections(1).test_before_acquire(false);
                let pool = pool.connect_with(sqlite_writer(&file)).await.doing("open a generation's file")?;
                Pool::sqlite(pool, &self.figures)
            }
        };
        // on SQLite beginning to write is enough; on PostgreSQL every writer reads the fence to share it
        let transaction = pool.begin().await.doing("hold a generation still")?;
        let mut frozen = Frozen {
            generation,
            vector: Vector::new(),
            open_fan_outs: 0,
            template,
            transaction,
            pool,
            database: self.clone(),
        };
        let values = [Value::Text(template.name), Value::Integer(generation)];
        let lock: Arc<str> = if frozen.pool.is_postgres() {
            "select cast(fence as text) from fences where read_model = $1 and generation = $2 for update"
        } else {
            "select cast(fence as text) from fences where read_model = $1 and generation = $2"
        }
        .into();
        let fan_outs: Arc<str> =
            "select cast(count(*) as text) from fan_outs where read_model = $1 and generation = $2".into();
        let transaction = &mut frozen.transaction;
        let locked = transaction.fetch(&lock, &values).await.doing("hold a generation still")?;
        let checkpoints = transaction.fetch(&CHECKPOINTS.into(), &values).await.doing("read a vector")?;
        let fan_outs = transaction.fetch(&fan_outs, &values).await.doing("count fan-outs")?;
        if locked.is_empty() {
            frozen.release().await;
            let reason = format!("generation {generation} of {} is not there", template.name);
            return Err(EngineError::Damaged(reason));
        }
        frozen.vector = read_vector(&checkpoints)?;
        frozen.open_fan_outs = fan_outs.first().and_then(|row| row.first()?.as_deref()?.parse().ok()).unwrap_or(0);
        Ok(frozen)
    }

    /// The vector of a generation as it is now.
    pub(crate) async fn vector(&self, template: &'static Template, generation: i64) -> Result<Vector, EngineError> {
        let mut snapshot = self.snapshot(template, generation).await?;
        let vector = snapshot.vector(template, generation).await;
        snapshot.end().await;
        vector
    }

    /// A look at `generation` as it is now, which lasts while others write on.
    pub(crate) async fn snapshot(&self, template: &'static Template, generation: i64) -> Result<Snapshot, EngineError> {
        let pool = match &*self.place {
            Place::Postgres { pool, .. } => Pool::postgres(pool.clone(), &self.figures),
            Place::Sqlite { directory, .. } => {
                let file = place::generation_file(directory, template.name, generation);
                let options = place::sqlite_reader(&file);
                let pool = SqlitePoolOptions::new().max_connections(1).test_before_acquire(false);
                let pool = pool.connect_with(options).await.doing("open a generation's file")?;
                Pool::sqlite(pool, &self.figures)
            }
        };
        let mut transaction = pool.begin_snapshot().await.doing("begin")?;
        if pool.is_postgres() {
            // it holds nobody up, and is read from for as long as a comparison takes
            let patience: Arc<str> = "set local idle_in_transaction_session_timeout = '10min'".into();
            transaction.execute(&patience, &[]).await.doing("begin a snapshot")?;
        }
        // on either database a snapshot is taken by the first statement
        let look: Arc<str> = "select cast(fence as text) from fences where read_model = $1 and generation = $2".into();
        let values = [Value::Text(template.name), Value::Integer(generation)];
        transaction.fetch(&look, &values).await.doing("begin a snapshot")?;
        Ok(Snapshot { transaction, pool })
    }
}

impl Frozen {
    /// Lets whoever waits write on.
    pub async fn release(self) {
        self.transaction.rollback().await;
        self.pool.let_go().await;
    }

    /// Makes `next` the live generation instead of this one, and shuts out whoever has written this one: a process that
    /// has not heard of the swap writes nothing more.
    pub async fn swap(mut self, next: i64) -> Result<(), EngineError> {
        let shut: Arc<str> = "update fences set fence = fence + 1 where read_model = $1 and generation = $2".into();
        let values = [Value::Text(self.template.name), Value::Integer(self.generation)];
        let shut = self.transaction.execute(&shut, &values).await.doing("shut a generation");
        let from = Some(self.generation);
        let swapped = match shut {
            Err(error) => Err(error),
            Ok(_) if self.pool.is_postgres() => {
                generations::point(&mut self.transaction, self.template, from, next).await
            }
            // the pointer lies in another file; one process, so nobody sees the one without the other
            Ok(_) => self.database.swap(self.template, from, next).await,
        };
        match swapped {
            Ok(()) => {
                let shut = self.transaction.commit().await.doing("swap generations");
                self.pool.let_go().await;
                shut
            }
            Err(error) => {
                self.release().await;
                Err(error)
            }
        }
    }
}

/// A look at one generation that does not move.
pub(crate) struct Snapshot {
    pub transaction: Transaction,
    pool: Pool,
}

impl Snapshot {
    /// The vector at which the generation stands in it.
    pub async fn vector(&mut self, template: &Template, generation: i64) -> Result<Vector, EngineError> {
        let values = [Value::Text(template.name), Value::Integer(generation)];
        read_vector(&self.transaction.fetch(&CHECKPOINTS.into(), &values).await.doing("read a vector")?)
    }

    pub async fn end(self) {
        self.transaction.rollback().await;
        self.pool.let_go().await;
    }
}
