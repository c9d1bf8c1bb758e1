//! What is live, and how far it is.

use serde::Serialize;
use sqlx::{AssertSqlSafe, FromRow};

use crate::{
    ReadError, ReadSide, customer_overview, order_details, order_search, order_timeline, product_sales_by_day,
    read_side::{Database, is_gone},
    template::Template,
};

/// Every read model there is.
pub static READ_MODELS: &[&Template] = &[
    &order_details::TEMPLATE,
    &customer_overview::TEMPLATE,
    &product_sales_by_day::TEMPLATE,
    &order_timeline::TEMPLATE,
    &order_search::TEMPLATE,
];

/// One read model and how far it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProjectionStatus {
    pub name: String,
    /// The `VERSION` of the fold that made the live generation.
    pub version: i64,
    pub live_generation: i64,
    /// `live`, or `rebuilding` while another generation is built beside the live one.
    pub state: String,
    /// The generation that is being built.
    pub building_generation: Option<i64>,
    pub vector: Vec<SourceStatus>,
    /// Rows that are served. `None` where nobody asked: counting them takes the longer the more there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows: Option<i64>,
}

/// How far a read model is in one source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, FromRow)]
pub struct SourceStatus {
    pub source: String,
    /// `None` until the first event.
    pub epoch: Option<String>,
    pub position: i64,
    /// The source's head when the projector last saw it.
    pub head_position: i64,
    /// When that was, in microseconds of Unix time: the lag is as it was then. `None` until its feed has answered.
    pub observed_at_us: Option<i64>,
    /// Time of the oldest event that was known then and not applied; `None` if there was none.
    pub waiting_since_us: Option<i64>,
    /// Time of the event at `position`, in microseconds of Unix time; 0 at position 0.
    pub event_recorded_at_us: i64,
    /// When the projector last committed something of this source, in microseconds of Unix time.
    pub applied_at_us: i64,
    /// Events of this source that wait for an operator.
    pub parked: i64,
}

impl SourceStatus {
    /// How many events of the source are not in the rows yet, as last seen.
    pub fn lag_events(&self) -> i64 {
        (self.head_position - self.position).max(0)
    }

    /// For how long the oldest event that is known and not in the rows has been waiting at `now_us`; 0 when none waits.
    pub fn lag_ms(&self, now_us: i64) -> i64 {
        if self.lag_events() == 0 {
            return 0;
        }
        // until a look has told, the time of the last event in the rows: those that wait are younger
        let since_us = self.waiting_since_us.or((self.position > 0).then_some(self.event_recorded_at_us));
        since_us.map_or(0, |since_us| now_us.saturating_sub(since_us).max(0) / 1_000)
    }
}

#[derive(FromRow)]
struct Live {
    live_generation: Option<i64>,
    version: Option<i64>,
    building_generation: Option<i64>,
}

const LIVE: &str = "select m.live_generation, g.version, \
    (select max(b.generation) from generations b where b.read_model = m.name and b.state = 'building') \
        as building_generation \
    from read_models m left join generations g on g.read_model = m.name and g.generation = m.live_generation \
    where m.name = $1";

/// Of the two that note a head, whichever is the younger: a batch, with the head that it was read with, or a look.
const VECTOR: &str = "select c.source, c.epoch, c.position, c.event_recorded_at_us, c.applied_at_us, \
    case when o.observed_at_us >= c.applied_at_us then o.head_position else c.head_position end as head_position, \
    case when o.observed_at_us >= c.applied_at_us then o.observed_at_us \
        when c.applied_at_us > 0 then c.applied_at_us end as observed_at_us, \
    case when o.observed_at_us >= c.applied_at_us then o.waiting_since_us end as waiting_since_us, \
    (select count(*) from parked_events p where p.read_model = c.read_model and p.generation = c.generation \
        and p.source = c.source) as parked \
    from checkpoints c left join observed_heads o \
        on o.read_model = c.read_model and o.generation = c.generation and o.source = c.source \
    where c.read_model = $1 and c.generation = $2 order by c.source";

/// Whether rows are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rows {
    Counted,
    Uncounted,
}

impl ReadSide {
    /// Every read model that has a live generation. Figures of one read model may be of moments that lie a little
    /// apart: this is for operators, not for readers.
    pub async fn projections(&self) -> Result<Vec<ProjectionStatus>, ReadError> {
        self.projections_with(Rows::Counted).await
    }

    /// The same without `rows`: what asks every few seconds must not scan whole tables.
    pub async fn projections_uncounted(&self) -> Result<Vec<ProjectionStatus>, ReadError> {
        self.projections_with(Rows::Uncounted).await
    }

    /// Whether there are tables for read models at all, filled or not.
    pub async fn has_tables(&self) -> Result<bool, ReadError> {
        let any = "select count(*) from read_models where name = ''";
        let found: Result<i64, sqlx::Error> = match self.database() {
            Database::Sqlite { pointers, .. } => sqlx::query_scalar(any).fetch_one(pointers).await,
            Database::Postgres { pool, .. } => sqlx::query_scalar(any).fetch_one(pool).await,
        };
        match found {
            Ok(_) => Ok(true),
            Err(error) if is_gone(&error) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    async fn projections_with(&self, rows: Rows) -> Result<Vec<ProjectionStatus>, ReadError> {
        self.staff_only("how far the read models are")?;
        let mut statuses = Vec::new();
        for template in READ_MODELS {
            match self.projection(template, rows).await {
                Ok(Some(status)) => statuses.push(status),
                Ok(None) => {}
                // the query database is not there yet, or the generation went while we looked
                Err(error) if is_gone(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(statuses)
    }

    async fn projection(&self, template: &Template, rows: Rows) -> Result<Option<ProjectionStatus>, sqlx::Error> {
        let live: Option<Live> = match self.database() {
            Database::Sqlite { pointers, .. } => {
                sqlx::query_as(LIVE).bind(template.name).fetch_optional(pointers).await?
            }
            Database::Postgres { pool, .. } => sqlx::query_as(LIVE).bind(template.name).fetch_optional(pool).await?,
        };
        let Some(Live { live_generation: Some(generation), version: Some(version), building_generation }) = live else {
            return Ok(None);
        };
        let vector: Vec<SourceStatus> = match self.database() {
            Database::Sqlite { .. } => {
                let lender = self.generation_lender(template.name, generation);
                sqlx::query_as(VECTOR).bind(template.name).bind(generation).fetch_all(lender.pool()).await?
            }
            Database::Postgres { pool, .. } => {
                sqlx::query_as(VECTOR).bind(template.name).bind(generation).fetch_all(pool).await?
            }
        };
        let rows = match rows {
            Rows::Counted => Some(self.count_served(template, generation).await?),
            Rows::Uncounted => None,
        };
        Ok(Some(ProjectionStatus {
            name: template.name.to_owned(),
            version,
            live_generation: generation,
            state: if building_generation.is_some() { "rebuilding" } else { "live" }.to_owned(),
            building_generation,
            vector,
            rows,
        }))
    }

    /// Takes the longer the more rows there are, so it takes a reader's place and keeps nobody from the short questions.
    async fn count_served(&self, template: &Template, generation: i64) -> Result<i64, sqlx::Error> {
        let count = AssertSqlSafe(template.count_served(generation));
        if let Some(lender) = self.lender() {
            let mut lent = lender.lend().await?;
            let rows = sqlx::query_scalar(count).fetch_one(lent.connection()).await?;
            lent.give_back();
            return Ok(rows);
        }
        let lender = self.generation_lender(template.name, generation);
        let mut lent = lender.lend().await?;
        let rows = sqlx::query_scalar(count).fetch_one(lent.connection()).await?;
        lent.give_back();
        Ok(rows)
    }
}
