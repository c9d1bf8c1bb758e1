//! The projector: read models from the services' feeds, into the query database.

use std::sync::Arc;

use anyhow::{Context, Result};
use axum::{Router, routing::get};
use event_store::feed::Feed;
use projections::{Projector, ProjectorHandle};
use read_side::{ReadSide, status::READ_MODELS};

use super::{
    Role,
    ready::{Waiting, answer},
};
use crate::{
    admin::{Admin, ProjectorAdmin, ServicesAdmin, Surroundings},
    config::Storage,
    door::Door,
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
        let admin = Admin { services: ServicesAdmin::default(), projector: Some(projector.clone()), surroundings };
        super::operated(admin).route("/readyz", get(async move || answer(waiting(&projector).await)))
    }

    fn close(&self) {}

    async fn shutdown(&self) {
        self.projector.shutdown().await;
    }
}

/// Ready once every read model can be read. Feeds that stand still are told.
pub async fn waiting(admin: &ProjectorAdmin) -> Waiting {
    let halts = admin.halts().await;
    let aside = halts.iter().map(|((projection, source), why)| format!("{projection} <- {source}: {why}")).collect();
    Waiting { aside, ..readable(&admin.read).await }
}

/// The same for who only reads, and may be alone with the database: says what is missing for it to be otherwise.
pub async fn readable_alone(read: &ReadSide) -> Waiting {
    let mut waiting = readable(read).await;
    if !waiting.holds_up.is_empty() {
        match read.has_tables().await {
            Ok(false) => waiting.holds_up.push(
                "the query database has no tables: run `tributary migrate query`, or start `tributary project` with a login \
                 that owns it"
                    .to_owned(),
            ),
            Ok(true) => waiting.holds_up.push(
                "read models are filled by `tributary project`: is it running, and does its /readyz say what it waits for?"
                    .to_owned(),
            ),
            // said already
            Err(_) => {}
        }
    }
    waiting
}

/// Ready once every read model can be read.
pub async fn readable(read: &ReadSide) -> Waiting {
    let holds_up = match read.projections_uncounted().await {
        Ok(statuses) => {
            let is_live = |name: &str| statuses.iter().any(|status| status.name == name);
            let missing: Vec<_> = READ_MODELS.iter().map(|of| of.name).filter(|name| !is_live(name)).collect();
            if missing.is_empty() { vec![] } else { vec![format!("not live yet: {}", missing.join(", "))] }
        }
        Err(error) => vec![error.to_string()],
    };
    Waiting { holds_up, aside: Vec::new() }
}
