//! The projector: read models from the services' feeds, into the query database.

use std::sync::Arc;

use anyhow::{Context, Result};
use axum::Router;
use event_store::feed::Feed;
use projections::{Projector, ProjectorHandle};
use read_side::{ProjectionStatus, ReadSide, status::READ_MODELS};

use super::{Role, ready::ANSWER_WAIT_MAX};
use crate::{
    admin::{self, Admin, Check, ProjectorAdmin, ServicesAdmin, Surroundings, Verdict},
    config::Storage,
    door::Door,
    metrics::{self, Family},
    projecting::ProjectingArgs,
    stores,
};

/// The projector of this process.
pub struct Projecting {
    storage: Storage,
    read: ReadSide,
    projector: Arc<ProjectorHandle>,
}

impl Projecting {
    /// Opens the query database, making it if need be, and follows `feeds` into it.
    pub async fn start(storage: &Storage, feeds: Vec<Arc<dyn Feed>>, args: &ProjectingArgs) -> Result<Self> {
        let database = stores::open_query_database(storage).await?;
        let read = stores::open_read_side(storage)?;
        let projector = Projector::start(database, feeds, args.options(read.wake())).await;
        let projector = Arc::new(projector.context("start the projector")?);
        Ok(Self { storage: storage.clone(), read, projector })
    }

    /// The way to read what it writes; readers of this process hear of it at once.
    pub fn read(&self) -> &ReadSide {
        &self.read
    }

    pub fn admin(&self) -> ProjectorAdmin {
        ProjectorAdmin { read: self.read.clone(), projector: Arc::clone(&self.projector) }
    }
}

#[async_trait::async_trait]
impl Role for Projecting {
    fn routes(&self, door: &Door) -> Router {
        let projector = self.admin();
        let surroundings = Surroundings::of(Some(&self.storage), door);
        let admin = Admin { services: ServicesAdmin::default(), projector: Some(projector), surroundings };
        admin::router(admin)
    }

    /// Feeds that stand still are told, and hold up nobody.
    async fn check(&self) -> Vec<Check> {
        let (mut checks, followed) = tokio::join!(readable(&self.read), followed(&self.projector));
        checks.extend(followed);
        checks
    }

    async fn measured(&self) -> Vec<Family> {
        let admin = self.admin();
        let (projector, storage) = tokio::join!(metrics::of_projector(&admin), metrics::of_storage(&self.storage));
        [projector, storage].concat()
    }

    fn close(&self) {}

    async fn shutdown(&self) {
        self.projector.shutdown().await;
    }
}

/// Each feed of each projection.
async fn followed(projector: &ProjectorHandle) -> Vec<Check> {
    let mut checks = Vec::new();
    for report in projector.status().await {
        if let Some((_, status)) = &report.live {
            checks.extend(super::followed("projection", report.projection, status));
        }
    }
    checks
}

/// What the query database says of itself, or why it says nothing: sooner than whoever asks for health gives up.
pub async fn statuses(read: &ReadSide) -> Result<Vec<ProjectionStatus>, String> {
    match tokio::time::timeout(ANSWER_WAIT_MAX, read.projections_uncounted()).await {
        Ok(told) => told.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {} s", ANSWER_WAIT_MAX.as_secs())),
    }
}

/// Whether each read model can be read.
pub async fn readable(read: &ReadSide) -> Vec<Check> {
    match statuses(read).await {
        Ok(statuses) => live(&statuses),
        Err(why) => vec![Check::bad("query database", why)],
    }
}

fn live(statuses: &[ProjectionStatus]) -> Vec<Check> {
    let is_live = |name: &str| statuses.iter().any(|status| status.name == name);
    let check = |name: &str| match is_live(name) {
        true => Check::good(format!("read model {name}"), "live"),
        false => Check::bad(format!("read model {name}"), "not live yet"),
    };
    READ_MODELS.iter().map(|of| check(of.name)).collect()
}

/// The same for who only reads, and may be alone with the database: says what is missing for it to be otherwise.
pub async fn readable_alone(read: &ReadSide) -> Vec<Check> {
    let statuses = match statuses(read).await {
        Ok(statuses) => statuses,
        Err(why) => return vec![Check::bad("query database", why)],
    };
    let mut checks = live(&statuses);
    if checks.iter().all(|check| check.verdict == Verdict::Good) {
        return checks;
    }
    match read.has_tables().await {
        Ok(false) => checks.push(Check::bad(
            "query database",
            "it has no tables: run `tributary migrate query`, or start `tributary project` with a login that owns it",
        )),
        Ok(true) => checks.push(Check::bad(
            "projector",
            "read models are filled by `tributary project`: is it running, and does its /readyz say what it waits for?",
        )),
        Err(error) => checks.push(Check::bad("query database", error.to_string())),
    }
    checks
}
