//! A log made of a backup, in one transaction: its tables are emptied and filled, or stay as they are. It needs the rights
//! of their owner, because the triggers that keep a log append-only are off meanwhile.

use std::time::{Duration, Instant};

use database::Database;
use sqlx::{AssertSqlSafe, Connection, PgConnection, raw_sql};

use super::{OpenError, PostgresLog, PostgresOptions, check_server, identity_is_of, named, open, read_identity};
use crate::{
    backup::{BackupError, ClaimItem, CommandItem, HeadItem, Item, files::FileContents},
    batch_hash::BatchRow,
    log::LogIdentity,
};
use events::envelope::RecordedEvent;
use uuid::Uuid;

/// What is emptied and filled.
const TABLES: [&str; 8] =
    ["events", "batches", "commands", "claims", "log_head", "log_key", "subject_keys", "snapshots"];

/// Rows of one statement: bounds its arrays.
const ROWS_MAX: usize = 1_000;

const INSERT_EVENTS: &str = "insert into events (position, event_id, aggregate_type, aggregate_id, sequence, event_type, \
        event_version, payload, metadata, recorded_at) \
    select position, event_id, aggregate_type, aggregate_id, sequence, event_type, event_version, payload::json, \
        metadata::json, recorded_at \
    from unnest($1::int8[], $2::uuid[], $3::text[], $4::text[], $5::int8[], $6::text[], $7::text[], $8::text[], \
        $9::text[], $10::timestamptz[]) as made (position, event_id, aggregate_type, aggregate_id, sequence, event_type, \
        event_version, payload, metadata, recorded_at)";

const INSERT_BATCHES: &str = "insert into batches (first, last, prev_hash, hash) \
    select * from unnest($1::int8[], $2::int8[], $3::bytea[], $4::bytea[])";

const INSERT_COMMANDS: &str = "insert into commands (scope, key, fingerprint, outcome, position, recorded_at) \
    select * from unnest($1::text[], $2::text[], $3::bytea[], $4::text[], $5::int8[], $6::timestamptz[])";

const INSERT_CLAIMS: &str = "insert into claims (name, value, aggregate_type, aggregate_id) \
    select * from unnest($1::text[], $2::text[], $3::text[], $4::text[])";

const INSERT_KEYS: &str = "insert into subject_keys (subject, key) select * from unnest($1::uuid[], $2::bytea[])";

/// Who was erased in the log that is replaced stays erased.
const ERASE: &str = "insert into subject_keys (subject, key) select subject, null from erased_before \
    on conflict (subject) do update set key = null";

/// The epoch is new: what was committed behind the end of the backup is lost, and whoever has seen it is to find that out.
const INSERT_HEAD: &str = "insert into log_head (source, epoch, position, recorded_at, prev_hash, hash) \
    values ($1, gen_random_uuid(), $2, $3, $4, $5)";

impl PostgresLog {
    /// Makes the log of `source` in the `database` of a backup, with the rights of who logs in there, and its tables if they are missing. Refused if
    /// the log there has events and is not to be replaced, and while somebody else is connected; on any error what is there
    /// stays as it is.
    pub async fn restore(
        database: &Database,
        source: &str,
        is_replaced: bool,
        items: FileContents,
    ) -> Result<LogIdentity, BackupError> {
        let refused = |error: OpenError| BackupError::Refused(error.to_string());
        let mut connection = open(&named(database.options()), &PostgresOptions::default()).await.map_err(refused)?;
        check_server(&mut connection).await.map_err(refused)?;
        super::migrate::run(&mut connection, source, None).await.map_err(|error| refused(OpenError::Migrate(error)))?;
        let found = read_identity(&mut connection).await.map_err(of_database)?;
        identity_is_of(source, &found).map_err(refused)?;
        wait_until_alone(&mut connection, source).await?;
        fill(&mut connection, source, is_replaced, items).await?;
        let identity = read_identity(&mut connection).await.map_err(of_database)?;
        connection.close().await.map_err(of_database)?;
        Ok(identity)
    }
}

fn of_database(error: sqlx::Error) -> BackupError {
    BackupError::Refused(error.to_string())
}

/// A process that was just ended leaves connections that the server notices a moment later.
const ALONE_WAIT_MAX: Duration = Duration::from_secs(5);
const ALONE_LOOK_EVERY: Duration = Duration::from_millis(100);

const OTHERS: &str = "select count(*) from pg_stat_activity \
                      where datname = current_database() and application_name like 'tributary%' and pid <> pg_backend_pid()";

/// A service that runs would go on by what it remembers of the log that is replaced.
async fn wait_until_alone(connection: &mut PgConnection, source: &str) -> Result<(), BackupError> {
    let started = Instant::now();
    loop {
        match refuse_others(connection, source).await {
            Err(_) if started.elapsed() < ALONE_WAIT_MAX => tokio::time::sleep(ALONE_LOOK_EVERY).await,
            looked => return looked,
        }
    }
}

async fn refuse_others(connection: &mut PgConnection, source: &str) -> Result<(), BackupError> {
    let others: i64 = sqlx::query_scalar(OTHERS).fetch_one(connection).await.map_err(of_database)?;
    if others == 0 {
        return Ok(());
    }
    let reason = format!("{others} connections of ours are open on the database of {source}: stop its service first");
    Err(BackupError::Refused(reason))
}

/// The transaction lives on a connection that is nobody else's: a caller that goes away drops it with the connection.
async fn fill(
    connection: &mut PgConnection,
    source: &str,
    is_replaced: bool,
    mut items: FileContents,
) -> Result<(), BackupError> {
    let mut transaction = connection.begin().await.map_err(of_database)?;
    let connection = &mut *transaction;
    let settings = "set local search_path = public, pg_temp; set local statement_timeout = 0; \
                    set local idle_in_transaction_session_timeout = 0";
    raw_sql(settings).execute(&mut *connection).await.map_err(of_database)?;
    let triggers = disable_triggers(connection).await?;
    let position = "select position from log_head for update";
    let position: i64 = sqlx::query_scalar(position).fetch_one(&mut *connection).await.map_err(of_database)?;
    if position > 0 && !is_replaced {
        return Err(BackupError::NotEmpty { position: position.unsigned_abs() });
    }
    let keep =
        "create temporary table erased_before on commit drop as select subject from subject_keys where key is null";
    raw_sql(keep).execute(&mut *connection).await.map_err(of_database)?;
    let empty = format!("truncate {}; update erasures set position = 0, event_id = null", TABLES.join(", "));
    raw_sql(AssertSqlSafe(empty)).execute(&mut *connection).await.map_err(of_database)?;
    // who came while the tables were waited for has read the log that goes; who comes from now on waits for the one that comes
    refuse_others(connection, source).await?;

    let mut filling = Filling { source, ..Filling::default() };
    while let Some(chunk) = items.recv().await {
        for item in chunk? {
            filling.take(item)?;
            if filling.is_full() {
                filling.flush(connection).await.map_err(of_database)?;
            }
        }
    }
    filling.flush(connection).await.map_err(of_database)?;
    filling.finish(connection).await?;
    raw_sql(ERASE).execute(&mut *connection).await.map_err(of_database)?;
    for trigger in triggers {
        raw_sql(AssertSqlSafe(format!("alter table {trigger}")))
            .execute(&mut *connection)
            .await
            .map_err(of_database)?;
    }
    transaction.commit().await.map_err(of_database)
}

/// Switches the log's own triggers off, and says how each is switched on again. The tables are nobody else's from here on.
async fn disable_triggers(connection: &mut PgConnection) -> Result<Vec<String>, BackupError> {
    const TRIGGERS: &str = "select format('%s', tgrelid::regclass), format('%I', tgname) from pg_trigger \
                            where not tgisinternal and tgenabled <> 'D' \
                                and tgrelid = any(select name::regclass from unnest($1::text[]) as name) \
                            order by tgrelid::regclass::text, tgname";
    let tables: Vec<String> = TABLES.iter().map(|table| format!("public.{table}")).collect();
    let triggers: Vec<(String, String)> =
        sqlx::query_as(TRIGGERS).bind(tables).fetch_all(&mut *connection).await.map_err(of_database)?;
    for (table, trigger) in &triggers {
        let statement = format!("alter table {table} disable trigger {trigger}");
        raw_sql(AssertSqlSafe(statement)).execute(&mut *connection).await.map_err(of_database)?;
    }
    Ok(triggers.into_iter().map(|(table, trigger)| format!("{table} enable always trigger {trigger}")).collect())
}

/// Rows on their way into the tables.
#[derive(Default)]
struct Filling<'s> {
    source: &'s str,
    events: Vec<RecordedEvent>,
    batches: Vec<BatchRow>,
    commands: Vec<CommandItem>,
    claims: Vec<ClaimItem>,
    keys: Vec<(Uuid, Option<Vec<u8>>)>,
    fingerprint_key: Option<[u8; 32]>,
    head: Option<HeadItem>,
    last_batch: Option<BatchRow>,
    is_whole: bool,
}

impl Filling<'_> {
    fn take(&mut self, item: Item) -> Result<(), BackupError> {
        match item {
            Item::KeysHead(head) | Item::Head(head) if *head.source != *self.source => {
                let reason = format!("it is to be the log of {}, and the backup is of {}", self.source, head.source);
                return Err(BackupError::Refused(reason));
            }
            Item::KeysHead(_) => {}
            Item::Head(head) => self.head = Some(head),
            Item::FingerprintKey(key) => self.fingerprint_key = Some(key),
            Item::SubjectKey(subject, key) => self.keys.push((subject, key.map(|key| key.0.to_vec()))),
            Item::Batch(batch) => {
                self.last_batch = Some(batch.clone());
                self.batches.push(batch);
            }
            Item::Event(event) => self.events.push(event),
            Item::Command(command) => self.commands.push(command),
            Item::Claim(claim) => self.claims.push(claim),
            Item::Whole => self.is_whole = true,
        }
        Ok(())
    }

    fn is_full(&self) -> bool {
        let rows = [self.events.len(), self.batches.len(), self.commands.len(), self.claims.len(), self.keys.len()];
        rows.iter().sum::<usize>() >= ROWS_MAX
    }

    async fn flush(&mut self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        let events = std::mem::take(&mut self.events);
        if !events.is_empty() {
            let numbers = |number: fn(&RecordedEvent) -> u64| -> Vec<i64> {
                events.iter().map(|event| number(event).cast_signed()).collect()
            };
            let texts = |text: fn(&RecordedEvent) -> &str| -> Vec<&str> { events.iter().map(text).collect() };
            sqlx::query(INSERT_EVENTS)
                .bind(numbers(|event| event.position))
                .bind(events.iter().map(|event| event.event_id).collect::<Vec<_>>())
                .bind(texts(|event| &event.stream.aggregate_type))
                .bind(texts(|event| &event.stream.aggregate_id))
                .bind(numbers(|event| event.sequence))
                .bind(texts(|event| &event.event_type))
                .bind(texts(|event| &event.event_version))
                .bind(texts(|event| &event.payload))
                .bind(texts(|event| &event.metadata))
                .bind(events.iter().map(|event| event.recorded_at).collect::<Vec<_>>())
                .execute(&mut *connection)
                .await?;
        }
        let batches = std::mem::take(&mut self.batches);
        if !batches.is_empty() {
            sqlx::query(INSERT_BATCHES)
                .bind(batches.iter().map(|batch| batch.first.cast_signed()).collect::<Vec<_>>())
                .bind(batches.iter().map(|batch| batch.last.cast_signed()).collect::<Vec<_>>())
                .bind(batches.iter().map(|batch| batch.previous.to_vec()).collect::<Vec<_>>())
                .bind(batches.iter().map(|batch| batch.hash.to_vec()).collect::<Vec<_>>())
                .execute(&mut *connection)
                .await?;
        }
        let commands = std::mem::take(&mut self.commands);
        if !commands.is_empty() {
            sqlx::query(INSERT_COMMANDS)
                .bind(commands.iter().map(|command| &*command.scope).collect::<Vec<_>>())
                .bind(commands.iter().map(|command| &*command.key).collect::<Vec<_>>())
                .bind(commands.iter().map(|command| command.fingerprint.0.to_vec()).collect::<Vec<_>>())
                .bind(commands.iter().map(|command| &*command.outcome).collect::<Vec<_>>())
                .bind(commands.iter().map(|command| command.position.cast_signed()).collect::<Vec<_>>())
                .bind(commands.iter().map(|command| command.recorded_at).collect::<Vec<_>>())
                .execute(&mut *connection)
                .await?;
        }
        let claims = std::mem::take(&mut self.claims);
        if !claims.is_empty() {
            sqlx::query(INSERT_CLAIMS)
                .bind(claims.iter().map(|claim| &*claim.name).collect::<Vec<_>>())
                .bind(claims.iter().map(|claim| &*claim.value).collect::<Vec<_>>())
                .bind(claims.iter().map(|claim| &*claim.stream.aggregate_type).collect::<Vec<_>>())
                .bind(claims.iter().map(|claim| &*claim.stream.aggregate_id).collect::<Vec<_>>())
                .execute(&mut *connection)
                .await?;
        }
        let (subjects, keys): (Vec<_>, Vec<_>) = std::mem::take(&mut self.keys).into_iter().unzip();
        if !subjects.is_empty() {
            sqlx::query(INSERT_KEYS).bind(subjects).bind(keys).execute(&mut *connection).await?;
        }
        Ok(())
    }

    /// The head, which says that there is a log.
    async fn finish(&self, connection: &mut PgConnection) -> Result<(), BackupError> {
        if !self.is_whole {
            return Err(BackupError::Refused("the backup was not read to its end".to_owned()));
        }
        let (Some(head), Some(key)) = (&self.head, self.fingerprint_key) else {
            return Err(BackupError::Refused("the backup has no head, or no keys".to_owned()));
        };
        let (previous, hash) =
            self.last_batch.as_ref().map_or(([0; 32], [0; 32]), |batch| (batch.previous, batch.hash));
        let insert = sqlx::query(INSERT_HEAD).bind(&*head.source).bind(head.position.cast_signed());
        let insert = insert.bind(head.recorded_at).bind(previous.to_vec()).bind(hash.to_vec());
        insert.execute(&mut *connection).await.map_err(of_database)?;
        let key = sqlx::query("insert into log_key (fingerprint_key) values ($1)").bind(key.to_vec());
        key.execute(connection).await.map_err(of_database)?;
        Ok(())
    }
}
