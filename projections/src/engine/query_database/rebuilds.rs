//! What is being built, how far it is, what operators wish of it, and how the ones before ended.

use std::{num::NonZeroU64, sync::Arc};

use read_side::template::Template;

use super::{
    super::{
        Doing, EngineError,
        compare::Comparison,
        rebuild::{Phase, Progress, Purpose},
        transaction::{Texts, Transaction, Value},
    },
    Place, QueryDatabase, now_us,
};

/// Rebuilds of one read model that are remembered once they are over.
const REMEMBERED_MAX: i64 = 50;

/// How far a rebuild is, as whoever builds says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Figures {
    pub phase: Phase,
    pub events_done: u64,
    pub events_total: u64,
    pub events_per_s: u64,
}

/// What operators wish of a rebuild.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wishes {
    pub paused: bool,
    pub cancel: bool,
    pub throttle_events_per_s: Option<NonZeroU64>,
}

/// Whether a rebuild is under way, as a condition.
const OPEN: &str = "phase in ('catching_up', 'comparing')";

const COLUMNS: &str = "cast(generation as text), purpose, phase, case when paused then 'yes' end, \
    cast(throttle_events_per_s as text), cast(events_done as text), cast(events_total as text), \
    cast(events_per_s as text), cast(started_at_us as text), cast(progressed_at_us as text), error, report, \
    case when cancel then 'yes' end";

/// Says within a transaction what a generation is built for, or brought up to date again.
pub(super) async fn announce(
    transaction: &mut Transaction,
    template: &Template,
    generation: i64,
    purpose: Purpose,
    throttle: Option<NonZeroU64>,
) -> Result<(), EngineError> {
    let announce: Arc<str> = "insert into rebuilds (read_model, generation, purpose, phase, paused, cancel, \
            throttle_events_per_s, events_done, events_total, events_per_s, started_at_us, progressed_at_us) \
         values ($1, $2, $3, 'catching_up', false, false, $5, 0, 0, 0, $4, $4) \
         on conflict (read_model, generation) do update set purpose = excluded.purpose, phase = excluded.phase, \
            paused = false, cancel = false, \
            throttle_events_per_s = excluded.throttle_events_per_s, events_done = 0, events_total = 0, \
            events_per_s = 0, started_at_us = excluded.started_at_us, progressed_at_us = excluded.progressed_at_us, \
            error = null, report = null"
        .into();
    let values = [
        Value::Text(template.name),
        Value::Integer(generation),
        Value::Text(purpose.as_str()),
        Value::Integer(now_us()),
        Value::MaybeInteger(throttle.map(signed)),
    ];
    match transaction.execute(&announce, &values).await {
        Ok(_) => {}
        Err(sqlx::Error::Database(error)) if error.is_unique_violation() => return Err(EngineError::UnderWay),
        error => return error.map(|_| ()).doing("announce a rebuild"),
    }
    let forget: Arc<str> = "delete from rebuilds where read_model = $1 and phase not in ('catching_up', 'comparing') \
         and started_at_us < (select min(started_at_us) from (select started_at_us from rebuilds \
            where read_model = $1 order by started_at_us desc limit $2) kept)"
        .into();
    let values = [Value::Text(template.name), Value::Integer(REMEMBERED_MAX)];
    transaction.execute(&forget, &values).await.doing("forget old rebuilds")?;
    Ok(())
}

/// Says within the transaction that swaps that this is what a rebuild was to end in.
pub(super) async fn note_swap(
    transaction: &mut Transaction,
    template: &Template,
    generation: i64,
) -> Result<(), EngineError> {
    let note: Arc<str> = format!(
        "update rebuilds set phase = 'swapped', progressed_at_us = $3 where read_model = $1 and generation = $2 and {OPEN}"
    )
    .into();
    let values = [Value::Text(template.name), Value::Integer(generation), Value::Integer(now_us())];
    transaction.execute(&note, &values).await.doing("note a swap")?;
    Ok(())
}

impl QueryDatabase {
    /// Keeps what a comparison has found, before anything is done about it.
    pub(crate) async fn keep_report(
        &self,
        template: &Template,
        generation: i64,
        report: &Comparison,
    ) -> Result<(), EngineError> {
        let keep: Arc<str> = "update rebuilds set report = $3 where read_model = $1 and generation = $2".into();
        let report = serde_json::to_string(report).expect("a report is plain data");
        let values = [Value::Text(template.name), Value::Integer(generation), Value::Text(&report)];
        let mut transaction = self.pointers().begin().await.doing("begin")?;
        transaction.execute(&keep, &values).await.doing("keep a report")?;
        transaction.commit().await.doing("keep a report")
    }

    /// Says what a generation that is there already is to be brought up to date for.
    pub(crate) async fn announce(
        &self,
        template: &Template,
        generation: i64,
        purpose: Purpose,
    ) -> Result<(), EngineError> {
        let mut transaction = self.pointers().begin().await.doing("begin")?;
        announce(&mut transaction, template, generation, purpose, None).await?;
        transaction.commit().await.doing("announce a rebuild")
    }

    /// The rebuild under way, if there is one.
    pub(crate) async fn open_rebuild(&self, template: &Template) -> Result<Option<(Progress, Wishes)>, EngineError> {
        let rows = self.rebuild_rows(template, &format!("and {OPEN} limit $2"), 1).await?;
        Ok(rows.into_iter().next())
    }

    /// Rebuilds, the newest first.
    pub async fn rebuilds(&self, template: &Template, limit: usize) -> Result<Vec<Progress>, EngineError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = self.rebuild_rows(template, "order by started_at_us desc, generation desc limit $2", limit).await?;
        Ok(rows.into_iter().map(|(progress, _)| progress).collect())
    }

    /// The last rebuild of a generation.
    pub(crate) async fn rebuild_of(
        &self,
        template: &Template,
        generation: i64,
    ) -> Result<Option<Progress>, EngineError> {
        let rows = self.rebuild_rows(template, "and generation = $2", generation).await?;
        Ok(rows.into_iter().next().map(|(progress, _)| progress))
    }

    async fn rebuild_rows(
        &self,
        template: &Template,
        which: &str,
        parameter: i64,
    ) -> Result<Vec<(Progress, Wishes)>, EngineError> {
        let statement: Arc<str> = format!("select {COLUMNS} from rebuilds where read_model = $1 {which}").into();
        let mut transaction = self.pointers().begin_snapshot().await.doing("begin")?;
        let values = [Value::Text(template.name), Value::Integer(parameter)];
        let rows = transaction.fetch(&statement, &values).await;
        transaction.rollback().await;
        let unreadable = || EngineError::Damaged("rebuilds hold something that this version does not write".to_owned());
        rows.doing("read rebuilds")?.iter().map(|row| rebuild(template, row).ok_or_else(unreadable)).collect()
    }

    /// Says how far it is, and hears what is wished; `None` if it is over or forgotten.
    pub(crate) async fn tell_progress(
        &self,
        template: &Template,
        generation: i64,
        figures: Figures,
    ) -> Result<Option<Wishes>, EngineError> {
        let tell: Arc<str> = format!(
            "update rebuilds set phase = $3, events_done = $4, events_total = $5, events_per_s = $6, \
                progressed_at_us = $7 where read_model = $1 and generation = $2 and {OPEN} \
             returning case when paused then 'yes' end, case when cancel then 'yes' end, \
                cast(throttle_events_per_s as text)"
        )
        .into();
        let values = [
            Value::Text(template.name),
            Value::Integer(generation),
            Value::Text(figures.phase.as_str()),
            count(figures.events_done),
            count(figures.events_total),
            count(figures.events_per_s),
            Value::Integer(now_us()),
        ];
        let mut transaction = self.pointers().begin().await.doing("begin")?;
        let rows = transaction.fetch(&tell, &values).await.doing("tell a rebuild's progress")?;
        transaction.commit().await.doing("tell a rebuild's progress")?;
        let wishes = |row: &Texts| Wishes {
            paused: row[0].is_some(),
            cancel: row[1].is_some(),
            throttle_events_per_s: row[2].as_deref().and_then(|rate| rate.parse().ok()),
        };
        Ok(rows.first().map(wishes))
    }

    /// Says how it ended.
    pub(crate) async fn end_rebuild(
        &self,
        template: &Template,
        generation: i64,
        phase: Phase,
        error: Option<&str>,
        report: Option<&Comparison>,
    ) -> Result<(), EngineError> {
        assert!(phase.is_over(), "{phase:?} is no end");
        let report = report.map(|report| serde_json::to_string(report).expect("a report is plain data"));
        // what somebody else has ended stays so; a swap notes itself, and is told of here
        let end: Arc<str> = format!(
            "update rebuilds set phase = $3, error = $4, report = coalesce($5, report), progressed_at_us = $6 \
             where read_model = $1 and generation = $2 and ({OPEN} or (phase = 'swapped' and $3 = 'swapped'))"
        )
        .into();
        let values = [
            Value::Text(template.name),
            Value::Integer(generation),
            Value::Text(phase.as_str()),
            Value::MaybeText(error),
            Value::MaybeText(report.as_deref()),
            Value::Integer(now_us()),
        ];
        let mut transaction = self.pointers().begin().await.doing("begin")?;
        transaction.execute(&end, &values).await.doing("end a rebuild")?;
        transaction.commit().await.doing("end a rebuild")
    }

    /// Says what hinders a rebuild that goes on.
    pub(crate) async fn note_hindrance(
        &self,
        template: &Template,
        generation: i64,
        why: &str,
    ) -> Result<(), EngineError> {
        let note: Arc<str> =
            format!("update rebuilds set error = $3 where read_model = $1 and generation = $2 and {OPEN}").into();
        let values = [Value::Text(template.name), Value::Integer(generation), Value::Text(why)];
        let mut transaction = self.pointers().begin().await.doing("begin")?;
        transaction.execute(&note, &values).await.doing("note what hinders a rebuild")?;
        transaction.commit().await.doing("note what hinders a rebuild")
    }

    /// Wishes something of the rebuild under way, and says of which generation that is; `None` if there is none.
    pub(crate) async fn wish(&self, template: &Template, wish: Wish) -> Result<Option<i64>, EngineError> {
        let (set, parameter) = match wish {
            Wish::Pause => ("paused = true", None),
            Wish::Resume => ("paused = false", None),
            Wish::Cancel => ("cancel = true", None),
            Wish::Throttle(rate) => ("throttle_events_per_s = $2", Some(rate)),
        };
        let statement: Arc<str> =
            format!("update rebuilds set {set} where read_model = $1 and {OPEN} returning cast(generation as text)")
                .into();
        let mut values = vec![Value::Text(template.name)];
        if let Some(rate) = parameter {
            values.push(Value::MaybeInteger(rate.map(signed)));
        }
        let mut transaction = self.pointers().begin().await.doing("begin")?;
        let rows = transaction.fetch(&statement, &values).await.doing("steer a rebuild")?;
        transaction.commit().await.doing("steer a rebuild")?;
        Ok(rows.first().and_then(|row| row.first()?.as_deref()?.parse().ok()))
    }

    /// Who holds which generation's lease, by generation: holder, and for how many more seconds, begun ones counted.
    pub async fn holders(&self, template: &Template) -> Result<Vec<(i64, String, i64)>, EngineError> {
        if matches!(&*self.place, Place::Sqlite { .. }) {
            return Ok(Vec::new());
        }
        let statement: Arc<str> = "select cast(generation as text), holder, \
             cast(cast(ceil(extract(epoch from expires_at - clock_timestamp())) as bigint) as text) \
             from leases where read_model = $1 and expires_at > clock_timestamp() order by leases.generation"
            .into();
        let mut transaction = self.pointers().begin_snapshot().await.doing("begin")?;
        let rows = transaction.fetch(&statement, &[Value::Text(template.name)]).await;
        transaction.rollback().await;
        let holder = |row: &Texts| Some((number(row, 0)?, row.get(1)?.clone()?, number(row, 2)?));
        Ok(rows.doing("read leases")?.iter().filter_map(holder).collect())
    }
}

/// What an operator wishes of the rebuild under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    Pause,
    Resume,
    Cancel,
    /// Events a second; `None`: as fast as it can.
    Throttle(Option<NonZeroU64>),
}

fn signed(number: NonZeroU64) -> i64 {
    i64::try_from(number.get()).unwrap_or(i64::MAX)
}

fn count(number: u64) -> Value<'static> {
    Value::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}

fn number<N: std::str::FromStr>(row: &Texts, place: usize) -> Option<N> {
    row.get(place)?.as_deref()?.parse().ok()
}

fn rebuild(template: &Template, row: &Texts) -> Option<(Progress, Wishes)> {
    let wishes =
        Wishes { paused: row.get(3)?.is_some(), cancel: row.get(12)?.is_some(), throttle_events_per_s: number(row, 4) };
    let progress = Progress {
        projection: template.name.to_owned(),
        generation: number(row, 0)?,
        purpose: Purpose::parse(row.get(1)?.as_deref()?)?,
        phase: Phase::parse(row.get(2)?.as_deref()?)?,
        paused: wishes.paused,
        throttle_events_per_s: wishes.throttle_events_per_s.map(NonZeroU64::get),
        events_done: number(row, 5)?,
        events_total: number(row, 6)?,
        events_per_s: number(row, 7)?,
        started_at_us: number(row, 8)?,
        progressed_at_us: number(row, 9)?,
        error: row.get(10)?.clone(),
        // one that an older or newer program wrote may have another shape: it is only shown
        report: row.get(11)?.as_deref().and_then(|report| serde_json::from_str(report).ok()),
    };
    Some((progress, wishes))
}
