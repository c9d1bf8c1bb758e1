//! The roles that processes run, and how they are wired: [`services`] to their logs, the [`projector`] to the services'
//! feeds, [`asking`] (GraphQL) to the query database. No role knows another: those of one process are given what they need
//! of each other, and others are reached by way of [`elsewhere`] or stand behind the [`gateway`].
//!
//! Here: what all of them have in common ([`Role`], [`Front`]), and all of them in one ([`Together`]).

pub mod asking;
pub mod elsewhere;
pub mod gateway;
pub mod projector;
pub mod ready;
pub mod services;

use std::sync::Arc;

use anyhow::Result;
use axum::{
    Router,
    middleware::{from_fn, from_fn_with_state},
};
use event_store::follower::{SourceStatus, Status};
use events::envelope::Name;
use graphql::GraphqlOptions;
use tokio_util::sync::CancellationToken;
use write_side::{Entry, REGISTER, edge};

use self::{
    asking::Asking,
    elsewhere::Elsewhere,
    projector::{Projecting, readable},
    services::Services,
};
use crate::{
    admin::{self, Admin, Check, Surroundings},
    composed,
    config::{Storage, UpArgs},
    docs,
    door::{self, Door},
    guard::{self, Requests},
    metrics::{self, Family},
};

/// What a process runs.
#[async_trait::async_trait]
pub trait Role: Send + Sync {
    /// All that it serves, but for [its health](ready).
    fn routes(&self, door: &Door) -> Router;

    /// What it needs for its work, each by its name. Bad is what nothing works without.
    async fn check(&self) -> Vec<Check>;

    /// What it tells of itself.
    async fn measured(&self) -> Vec<Family>;

    /// What it has yet to reach for the first time; `None`: it has started.
    async fn awaits(&self) -> Option<String> {
        None
    }

    /// Ends long polls, sockets and event streams, so that a server can drain.
    fn close(&self);

    /// Ends it after what it is at.
    async fn shutdown(&self);
}

/// Each feed that `who` follows: whoever waits for one goes on without it.
fn followed(kind: &str, who: &str, status: &Status) -> Vec<Check> {
    let check = |(source, of_source): (&Name, &SourceStatus)| {
        let name = format!("{kind} {who} <- {source}");
        match (&status.stopped, of_source.halt()) {
            (Some(reason), _) => Check::doubtful(name, format!("stopped: {reason}")),
            (None, Some(reason)) => Check::doubtful(name, reason.to_string()),
            (None, None) => Check::good(name, "followed"),
        }
    };
    status.sources.iter().map(check).collect()
}

/// What stands before every role's routes: who may ask, how often, and for how long.
#[derive(Clone, Default)]
pub struct Front {
    closing: CancellationToken,
    requests: Arc<Requests>,
}

impl Front {
    /// Before those of `role`, which has started.
    pub fn before(&self, role: Arc<dyn Role>, door: Door) -> Router {
        let routes = role.routes(&door).merge(ready::of(Arc::clone(&role)));
        self.around(routes.merge(metrics::router(role, Arc::clone(&self.requests))), door)
    }

    /// Before what a process answers until its role has started.
    pub fn before_nobody(&self, door: Door) -> Router {
        self.around(ready::of_nobody(), door)
    }

    fn around(&self, routes: Router, door: Door) -> Router {
        routes
            .fallback(edge::not_found)
            .method_not_allowed_fallback(edge::method_not_allowed)
            .layer(from_fn_with_state(door.clone(), door::around))
            .layer(from_fn_with_state(door, guard::local_only))
            .layer(from_fn_with_state(self.closing.clone(), guard::until_closing))
            .layer(from_fn_with_state(Arc::clone(&self.requests), guard::bounded))
            .layer(from_fn(edge::trace::around))
    }

    /// Soon, every wait that is left is answered.
    pub fn close(&self) {
        self.closing.cancel();
    }
}

/// All roles in one process.
pub struct Together {
    storage: Storage,
    services: Services,
    projecting: Projecting,
    asking: Asking,
}

impl Together {
    /// Opens every store, making what is missing, and starts every role on them.
    pub async fn start(storage: &Storage, args: &UpArgs, asking: GraphqlOptions) -> Result<Self> {
        let entries: Vec<&'static Entry> = REGISTER.iter().collect();
        let nobody = Elsewhere::default();
        let services = Services::start(&entries, storage, &args.services, &args.data_dir, &nobody).await?;
        let projecting = Projecting::start(storage, services.feeds(), &args.projecting).await?;
        let asking = Asking::new(projecting.read().clone(), asking);
        Ok(Self { storage: storage.clone(), services, projecting, asking })
    }

    pub fn services(&self) -> &Services {
        &self.services
    }
}

#[async_trait::async_trait]
impl Role for Together {
    fn routes(&self, door: &Door) -> Router {
        let services = self.services.router();
        let (composed, api) = composed::routes(services.clone()).serve("composed");
        let apis = [self.services.apis(), vec![api]].concat();
        let admin = Admin {
            services: self.services.admin(),
            projector: Some(self.projecting.admin()),
            surroundings: Surroundings::of(Some(&self.storage), door),
        };
        services.merge(composed).merge(docs::router(&apis)).merge(self.asking.router(door)).merge(admin::router(admin))
    }

    /// What is in this process answers for itself; what was folded is what it is all for.
    async fn check(&self) -> Vec<Check> {
        let (services, readable) = tokio::join!(self.services.check(), readable(self.projecting.read()));
        [services, readable].concat()
    }

    async fn measured(&self) -> Vec<Family> {
        // the services know every database
        let projector = self.projecting.admin();
        let (services, projecting, asking) =
            tokio::join!(self.services.measured(), metrics::of_projector(&projector), self.asking.measured());
        [services, projecting, asking].into_iter().flatten().collect()
    }

    fn close(&self) {
        self.asking.close();
        self.services.close();
    }

    /// The projector before the services that it follows.
    async fn shutdown(&self) {
        self.asking.shutdown().await;
        self.projecting.shutdown().await;
        self.services.shutdown().await;
    }
}
