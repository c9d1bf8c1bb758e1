//! Which generations there are, and which one is live.

use std::{
    num::NonZeroU64,
    path::{Path, PathBuf},
    sync::Arc,
};

use event_store::failpoint;
use read_side::{query_database as place, template::Template};

use super::{
    super::{
        Doing, EngineError,
        rebuild::Purpose,
        transaction::{Texts, Transaction, Value},
    },
    Place, QueryDatabase, now_us, rebuilds,
};
use crate::projection::Projection;

/// One generation of a read model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generation {
    pub generation: i64,
    /// `VERSION` of the fold that makes it.
    pub version: i64,
    /// `building`, `live`, `retired` or `failed`.
    pub state: String,
}

impl QueryDatabase {
    /// The live generation, if there is one.
    pub async fn live(&self, template: &Template) -> Result<Option<Generation>, EngineError> {
        let statement = "select cast(g.generation as text), cast(g.version as text), g.state from read_models m \
             join generations g on g.read_model = m.name and g.generation = m.live_generation where m.name = $1";
        Ok(self.fetch_generations(statement, template).await?.pop())
    }

    /// The number of the one that was live before the live one, though it may be dropped by now.
    pub(crate) async fn previous(&self, template: &Template) -> Result<Option<i64>, EngineError> {
        let statement: Arc<str> = "select cast(previous_generation as text) from read_models where name = $1".into();
        let mut transaction = self.pointers().begin_snapshot().await.doing("begin")?;
        let rows = transaction.fetch(&statement, &[Value::Text(template.name)]).await;
        transaction.rollback().await;
        let rows = rows.doing("read the pointers")?;
        Ok(rows.first().and_then(|row| row.first()?.as_deref()?.parse().ok()))
    }

    /// Every generation there is, in order.
    pub async fn generations(&self, template: &Template) -> Result<Vec<Generation>, EngineError> {
        let statement = "select cast(generation as text), cast(version as text), state from generations \
             where read_model = $1 order by generations.generation";
        self.fetch_generations(statement, template).await
    }

    async fn fetch_generations(&self, statement: &str, template: &Template) -> Result<Vec<Generation>, EngineError> {
        let mut transaction = self.pointers().begin_snapshot().await.doing("begin")?;
        let rows = transaction.fetch(&statement.into(), &[Value::Text(template.name)]).await;
        transaction.rollback().await;
        let rows = rows.doing("read generations")?;
        rows.iter().map(generation).collect()
    }

    /// Makes an empty generation, in the state `building`: a number that was never there before, because readers
    /// and cursors know generations by their numbers.
    pub async fn create(&self, projection: &Projection) -> Result<i64, EngineError> {
        self.make(projection, None).await
    }

    /// As [`Self::create`], with the rebuild that it is for.
    pub(crate) async fn make(
        &self,
        projection: &Projection,
        purpose: Option<(Purpose, Option<NonZeroU64>)>,
    ) -> Result<i64, EngineError> {
        let template = projection.template;
        let mut transaction = self.pointers().begin().await.doing("begin")?;
        let generation = announce(&mut transaction, projection, 0).await?;
        if let Some((purpose, throttle)) = purpose {
            rebuilds::announce(&mut transaction, template, generation, purpose, throttle).await?;
        }
        match &*self.place {
            // all or nothing: nobody sees it half-made
            Place::Postgres { .. } => {
                self.make_tables(&mut transaction, projection, generation).await?;
                transaction.commit().await.doing("make a generation's tables")?;
            }
            // announced before it is made, so that what a crash leaves half-made has a name and is removed
            Place::Sqlite { .. } => {
                transaction.commit().await.doing("announce a generation")?;
                let pool = self.generation_pool(template, generation).await?;
                let mut transaction = pool.begin().await.doing("begin")?;
                self.make_tables(&mut transaction, projection, generation).await?;
                transaction.commit().await.doing("make a generation's tables")?;
                self.close_generation(&pool).await;
            }
        }
        Ok(generation)
    }

    /// Makes the first generation, live at once. Of processes that do so at once one succeeds, and the others leave nothing:
    /// neither may see a generation that is not live yet, and take it for left over.
    pub(crate) async fn make_first(&self, projection: &Projection) -> Result<(), EngineError> {
        let template = projection.template;
        match &*self.place {
            Place::Postgres { .. } => {
                let mut transaction = self.pointers().begin().await.doing("begin")?;
                let generation = announce(&mut transaction, projection, 0).await?;
                self.make_tables(&mut transaction, projection, generation).await?;
                point(&mut transaction, template, None, generation).await?;
                transaction.commit().await.doing("make the first generation")
            }
            // there is one process
            Place::Sqlite { .. } => {
                let generation = self.create(projection).await?;
                self.swap(template, None, generation).await
            }
        }
    }

    async fn make_tables(
        &self,
        transaction: &mut Transaction,
        projection: &Projection,
        generation: i64,
    ) -> Result<(), EngineError> {
        let statements = self.statements(projection, generation);
        for statement in statements.create_tables.iter().chain(&statements.create_indexes) {
            transaction.execute(statement, &[]).await.doing("make a generation's tables")?;
        }
        Ok(())
    }

    /// Makes those indexes that the generation has not, because an older program has made it: rows are as they should be,
    /// so nothing has to be built anew. The caller is the one who writes it.
    pub async fn complete_indexes(&self, projection: &Projection, generation: i64) -> Result<(), EngineError> {
        let statements = self.statements(projection, generation);
        let pool = self.generation_pool(projection.template, generation).await?;
        let mut transaction = pool.begin().await.doing("begin")?;
        for statement in statements.create_plain_indexes.iter() {
            transaction.execute(statement, &[]).await.doing("complete a generation's indexes")?;
        }
        transaction.commit().await.doing("complete a generation's indexes")?;
        self.close_generation(&pool).await;
        Ok(())
    }

    /// Whether a generation was made to the end.
    pub async fn is_complete(&self, projection: &Projection, generation: i64) -> Result<bool, EngineError> {
        if let Place::Sqlite { directory, .. } = &*self.place
            && !place::generation_file(directory, projection.template.name, generation).exists()
        {
            return Ok(false);
        }
        let pool = self.generation_pool(projection.template, generation).await?;
        let mut transaction = pool.begin_snapshot().await.doing("begin")?;
        let statement: Arc<str> =
            "select cast(fence as text) from fences where read_model = $1 and generation = $2".into();
        let values = [Value::Text(projection.template.name), Value::Integer(generation)];
        let found = transaction.fetch(&statement, &values).await;
        transaction.rollback().await;
        self.close_generation(&pool).await;
        Ok(!found.doing("look at a generation")?.is_empty())
    }

    /// Makes `generation` the live one, in one transaction, if the live one is still `from`. The one before stays, to
    /// go back to.
    pub async fn swap(&self, template: &Template, from: Option<i64>, generation: i64) -> Result<(), EngineError> {
        let mut transaction = self.pointers().begin().await.doing("begin")?;
        match point(&mut transaction, template, from, generation).await {
            Ok(()) => transaction.commit().await.doing("swap generations"),
            Err(error) => {
                transaction.rollback().await;
                Err(error)
            }
        }
    }

    /// Marks a generation that must not become live, and why.
    pub async fn fail(&self, template: &Template, generation: i64, reason: &str) -> Result<(), EngineError> {
        let statement: Arc<str> = "update generations set state = 'failed', reason = $3 \
             where read_model = $1 and generation = $2 and state = 'building'"
            .into();
        let values = [Value::Text(template.name), Value::Integer(generation), Value::Text(reason)];
        let mut transaction = self.pointers().begin().await.doing("begin")?;
        transaction.execute(&statement, &values).await.doing("mark a generation")?;
        transaction.commit().await.doing("mark a generation")
    }

    /// Removes a generation that is not live. Its last readers may see it go, and read the live one.
    pub async fn drop_generation(&self, projection: &Projection, generation: i64) -> Result<(), EngineError> {
        let template = projection.template;
        assert!(self.live(template).await?.map(|live| live.generation) != Some(generation), "the live one stays");
        let values = [Value::Text(template.name), Value::Integer(generation)];
        if let Place::Sqlite { directory, .. } = &*self.place {
            // what a crash leaves half removed must not be gone back to, and is removed by the next start
            let mark: Arc<str> = "update generations set state = 'failed', reason = 'being removed' \
                 where read_model = $1 and generation = $2"
                .into();
            let mut transaction = self.pointers().begin().await.doing("begin")?;
            transaction.execute(&mark, &values).await.doing("mark a generation")?;
            transaction.commit().await.doing("mark a generation")?;
            remove_file(&place::generation_file(directory, template.name, generation)).await?;
        }
        let mut transaction = self.pointers().begin().await.doing("begin")?;
        if transaction.is_postgres() {
            // with what is known of it: all or nothing
            for statement in &self.statements(projection, generation).drop {
                transaction.execute(statement, &[]).await.doing("drop a generation's tables")?;
            }
            let unlease: Arc<str> = "delete from leases where read_model = $1 and generation = $2".into();
            transaction.execute(&unlease, &values).await.doing("forget a generation")?;
        }
        failpoint!("projection.dropping", EngineError::Damaged("failpoint".to_owned()));
        let forget: Arc<str> = "delete from generations where read_model = $1 and generation = $2".into();
        transaction.execute(&forget, &values).await.doing("forget a generation")?;
        transaction.commit().await.doing("forget a generation")
    }
}

/// Removes a generation's file, with what SQLite keeps beside it.
async fn remove_file(file: &Path) -> Result<(), EngineError> {
    for suffix in ["", "-wal", "-shm"] {
        let mut name = file.as_os_str().to_owned();
        name.push(suffix);
        match tokio::fs::remove_file(PathBuf::from(name)).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).doing("remove a generation's file");
            }
            _ => {}
        }
    }
    Ok(())
}

/// Gives the next generation of a read model its number, which is above those that are known here and `above`, within a
/// transaction of the pointers' database.
pub(super) async fn announce(
    transaction: &mut Transaction,
    projection: &Projection,
    above: i64,
) -> Result<i64, EngineError> {
    let template = projection.template;
    let highest: Arc<str> = "select cast(coalesce(max(generation), 0) as text) from \
         (select generation from generations where read_model = $1 \
          union all select generation from rebuilds where read_model = $1) known"
        .into();
    let highest = transaction.fetch(&highest, &[Value::Text(template.name)]).await.doing("number a generation")?;
    let highest: i64 = highest.first().and_then(|row| row.first()?.as_deref()?.parse().ok()).unwrap_or(0);
    let generation = highest.max(above) + 1;
    let announce = "insert into generations (read_model, generation, version, state, created_at_us) \
         values ($1, $2, $3, 'building', $4)";
    let values = [
        Value::Text(template.name),
        Value::Integer(generation),
        Value::Integer(i64::from(projection.version)),
        Value::Integer(now_us()),
    ];
    match transaction.execute(&announce.into(), &values).await {
        Ok(_) => {}
        // another process has taken the number: it does the same
        Err(sqlx::Error::Database(error)) if error.is_unique_violation() => return Err(EngineError::UnderWay),
        Err(error) => return Err(error).doing("announce a generation"),
    }
    Ok(generation)
}

/// Moves the pointer within a transaction of the pointers' database.
pub(super) async fn point(
    transaction: &mut Transaction,
    template: &Template,
    from: Option<i64>,
    generation: i64,
) -> Result<(), EngineError> {
    let point: Arc<str> = "insert into read_models (name, live_generation, previous_generation, swapped_at_us) \
         values ($1, $2, null, $3) \
         on conflict (name) do update set previous_generation = read_models.live_generation, \
            live_generation = excluded.live_generation, swapped_at_us = excluded.swapped_at_us \
         where read_models.live_generation is not distinct from $4"
        .into();
    let values =
        [Value::Text(template.name), Value::Integer(generation), Value::Integer(now_us()), Value::MaybeInteger(from)];
    if transaction.execute(&point, &values).await.doing("swap generations")? != 1 {
        return Err(EngineError::NotLive { read_model: template.name, generation: from });
    }
    let states: Arc<str> = "update generations set state = case when generation = $2 then 'live' else 'retired' end \
         where read_model = $1 and (generation = $2 or state = 'live')"
        .into();
    let values = [Value::Text(template.name), Value::Integer(generation)];
    transaction.execute(&states, &values).await.doing("swap generations")?;
    rebuilds::note_swap(transaction, template, generation).await
}

fn generation(row: &Texts) -> Result<Generation, EngineError> {
    let number = |place: usize| row.get(place)?.as_deref()?.parse().ok();
    let read = || Some(Generation { generation: number(0)?, version: number(1)?, state: row.get(2)?.clone()? });
    read().ok_or_else(|| EngineError::Damaged("generations hold something that this version does not write".to_owned()))
}
