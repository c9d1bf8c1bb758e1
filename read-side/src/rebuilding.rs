//! Why a generation does not get further, and how long that lasts.
//!
//! While a lone program of a new `VERSION` builds the next generation, nobody follows the live one: it is read, and stands
//! still. A token that asks for more is answered with how long it takes, not with a wait that was too short.

use sqlx::FromRow;

use crate::{ReadError, ReadSide, read_side::Database, template::Template};

/// The rebuild that is to be swapped in.
#[derive(FromRow)]
struct Building {
    events_done: i64,
    events_total: i64,
    events_per_s: i64,
    /// Another version builds it than the one that made the live generation.
    is_changed: bool,
}

const BUILDING: &str = "select r.events_done, r.events_total, r.events_per_s, coalesce(g.version <> v.version, false) as is_changed \
         from rebuilds r join generations g on g.read_model = r.read_model and g.generation = r.generation \
         left join read_models m on m.name = r.read_model \
         left join generations v on v.read_model = m.name and v.generation = m.live_generation \
         where r.read_model = $1 and r.purpose = 'swap' and r.phase in ('catching_up', 'comparing')";

/// Whether another process follows the live generation meanwhile. On SQLite there is none.
const IS_FOLLOWED: &str = "select exists (select 1 from leases l join read_models m on m.name = l.read_model \
    and m.live_generation = l.generation where l.read_model = $1 and l.expires_at > clock_timestamp())";

impl ReadSide {
    /// What to say when there is nothing to read.
    pub(crate) async fn rebuilding(&self, template: &'static Template) -> ReadError {
        let eta_s = self.building(template).await.and_then(|building| building.eta_s());
        ReadError::Rebuilding { read_model: template.name, eta_s }
    }

    /// What to say when a token was not reached in time: `late`, unless nobody is on the way there.
    pub(crate) async fn explain(&self, template: &'static Template, late: ReadError) -> ReadError {
        match late {
            ReadError::Rebuilding { .. } => self.rebuilding(template).await,
            ReadError::ConsistencyTimeout { .. } => match self.building(template).await {
                Some(building) if building.is_changed && !self.is_followed(template).await => {
                    ReadError::Rebuilding { read_model: template.name, eta_s: building.eta_s() }
                }
                _ => late,
            },
            late => late,
        }
    }

    /// A database that does not tell, or was made before there was anything to tell, tells of no rebuild.
    async fn building(&self, template: &Template) -> Option<Building> {
        let found = match self.database() {
            Database::Sqlite { pointers, .. } => {
                sqlx::query_as(BUILDING).bind(template.name).fetch_optional(pointers).await
            }
            Database::Postgres { pool, .. } => sqlx::query_as(BUILDING).bind(template.name).fetch_optional(pool).await,
        };
        found.ok().flatten()
    }

    async fn is_followed(&self, template: &Template) -> bool {
        match self.database() {
            Database::Sqlite { .. } => false,
            Database::Postgres { pool, .. } => {
                let found = sqlx::query_scalar(IS_FOLLOWED).bind(template.name).fetch_one(pool).await;
                found.unwrap_or(false)
            }
        }
    }
}

impl Building {
    /// At the rate of the last seconds.
    fn eta_s(&self) -> Option<u64> {
        let left = u64::try_from(self.events_total - self.events_done).ok()?;
        left.checked_div(u64::try_from(self.events_per_s).ok()?)
    }
}
