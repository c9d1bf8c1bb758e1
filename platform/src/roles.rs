//! The roles that `tributary up` runs, and how they are wired: services to their logs, the projector to the services'
//! feeds, GraphQL to the query database. No role knows another.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::{Context, Result};
use axum::{
    Router,
    http::StatusCode,
    middleware::{from_fn, from_fn_with_state},
    response::IntoResponse,
    routing::get,
};
use event_store::{feed::Feed, log::EventLog, retention::RetentionOptions};
use graphql::{
    Closing, GraphqlOptions, LiveOptions,
    options::{Authenticate, Authentication},
};
use projections::{Projector, ProjectorHandle, QueryDatabase};
use read_side::{ReadSide, status::READ_MODELS};
use tokio_util::sync::CancellationToken;
use write_side::{Given, REGISTER, ReplicaHome, Service, edge, notifications::Post, peer::Peer, saga::SagaOptions};

use crate::{
    admin::{self, Admin, RunningSaga, Surroundings},
    composed,
    config::Storage,
    docs,
    door::{self, Door},
    guard, metrics,
    projecting::ProjectingArgs,
    stores,
};

/// Everything that runs in one process.
pub struct Roles {
    storage: Storage,
    services: Vec<Service>,
    projector: Arc<ProjectorHandle>,
    read: ReadSide,
    asking: GraphqlOptions,
    closing: CancellationToken,
    /// Of sockets and event streams.
    live: Closing,
}

impl Roles {
    /// Opens every store, making what is missing, and starts every role on them.
    pub async fn start(
        storage: &Storage,
        retention: &RetentionOptions,
        saga: &SagaOptions,
        post: &Post,
        projecting: &ProjectingArgs,
        asking: GraphqlOptions,
    ) -> Result<Self> {
        // all logs first: services may follow each other in a circle
        let mut logs: Vec<Arc<dyn EventLog>> = Vec::new();
        for entry in REGISTER {
            logs.push(stores::open_log(storage, entry.name).await?);
        }
        let mut services: Vec<Service> = Vec::new();
        for (entry, log) in REGISTER.iter().zip(&logs) {
            let followed = logs.iter().filter(|log| entry.follows.contains(&&*log.identity().source));
            let feeds = followed.map(|log| Arc::clone(log) as Arc<dyn Feed>).collect();
            let (replica, duties) = (home(storage, entry.name, "replica"), home(storage, entry.name, "reactor"));
            let peers = services.iter().map(|service| (service.name, Peer::here(service.router.clone()))).collect();
            let (retention, saga, post) = (retention.clone(), saga.clone(), Some(post.clone()));
            let given = Given { feeds, replica, duties, retention, saga, peers, post, ..Given::new(Arc::clone(log)) };
            services.push((entry.start)(given).await?);
        }
        let feeds: Vec<Arc<dyn Feed>> = services.iter().map(Service::feed).collect();
        let (database, read) = open_query_database(storage).await?;
        let projector =
            Projector::start(database, feeds, projecting.options(read.wake())).await.context("start the projector")?;
        Ok(Self {
            storage: storage.clone(),
            services,
            projector: Arc::new(projector),
            read,
            asking,
            closing: CancellationToken::new(),
            live: Closing::default(),
        })
    }

    /// Everything that is served, behind the guard.
    pub fn router(&self, door: Door) -> Router {
        let logs = self
            .services
            .iter()
            .map(|service| (service.name.to_owned(), (Arc::clone(&service.log), service.aggregate_type)));
        let admin = Admin {
            read: self.read.clone(),
            projector: Arc::clone(&self.projector),
            logs: logs.collect::<BTreeMap<_, _>>(),
            replicas: self.services.iter().filter_map(|one| Some((one.name, one.replica.clone()?))).collect(),
            reactors: self.services.iter().filter_map(|one| Some((one.name, one.reactor.clone()?))).collect(),
            sagas: self.services.iter().filter_map(running_saga).collect(),
            surroundings: Arc::new(Surroundings {
                storage: self.storage.clone(),
                authenticator: door.authenticator.clone(),
            }),
        };
        let ready = admin.clone();
        let services = self.services.iter().fold(Router::new(), |all, service| all.merge(service.router.clone()));
        let mut apis: Vec<_> = self.services.iter().map(|service| service.api.clone()).collect();
        let (composed, api) = composed::routes(services.clone()).serve("composed");
        apis.push(api);
        services
            .merge(composed)
            .merge(docs::router(&apis))
            .merge(graphql::router(self.read.apart("tributary graphql"), self.graphql(&door)))
            .merge(metrics::router(admin.clone()))
            .merge(admin::router(admin))
            .route("/livez", get(async || "ok\n"))
            .route("/readyz", get(move || readiness(ready.clone())))
            .fallback(edge::not_found)
            .method_not_allowed_fallback(edge::method_not_allowed)
            .layer(from_fn_with_state(door.clone(), door::around))
            .layer(from_fn_with_state(door, guard::local_only))
            .layer(from_fn_with_state(self.closing.clone(), guard::until_closing))
            .layer(from_fn(guard::bounded))
            .layer(from_fn(edge::trace::around))
    }

    fn graphql(&self, door: &Door) -> GraphqlOptions {
        let authenticate = door.authenticator.clone().map(|known| Authentication(known as Arc<dyn Authenticate>));
        let (allowed_origins, closing) = (door.allowed_origins.clone(), self.live.clone());
        let live = LiveOptions { authenticate, allowed_origins, closing, ..LiveOptions::default() };
        GraphqlOptions { live, ..self.asking.clone() }
    }

    /// The services that run, in the order of the register.
    pub fn services(&self) -> &[Service] {
        &self.services
    }

    /// Ends long polls, sockets and event streams, and soon after every other wait, so that a server can drain.
    pub fn close(&self) {
        self.closing.cancel();
        self.live.close();
        self.services.iter().for_each(Service::close_feeds);
    }

    /// Ends every role after what it is at: the projector first, then the services it follows.
    pub async fn shutdown(&self) {
        self.live.ended().await;
        self.projector.shutdown().await;
        for service in self.services.iter().rev() {
            service.shutdown().await;
        }
    }
}

fn running_saga(service: &Service) -> Option<RunningSaga> {
    let (desk, index) = (service.saga.clone()?, service.saga_index.clone()?);
    Some(RunningSaga { service: service.name, desk, index, reactor: service.reactor.clone() })
}

/// Where a service keeps what it follows, apart from its log.
fn home(storage: &Storage, service: &str, what: &str) -> ReplicaHome {
    match storage {
        Storage::Sqlite { data_dir } => ReplicaHome::Sqlite(data_dir.join(format!("{service}-{what}.db"))),
        Storage::Postgres { services, .. } => ReplicaHome::Postgres { url: services[service].clone() },
    }
}

async fn open_query_database(storage: &Storage) -> Result<(QueryDatabase, ReadSide)> {
    match storage {
        Storage::Sqlite { data_dir } => {
            let database = QueryDatabase::open_sqlite(data_dir).await;
            let database = database.with_context(|| format!("open the query database in {}", data_dir.display()))?;
            Ok((database, ReadSide::connect_sqlite(data_dir)))
        }
        Storage::Postgres { query, .. } => {
            let database =
                QueryDatabase::open_postgres(query).await.context("open the query database in PostgreSQL")?;
            Ok((database, ReadSide::connect_postgres(query).context("read the query database")?))
        }
    }
}

/// Ready once every read model can be read.
async fn readiness(admin: Admin) -> impl IntoResponse {
    match admin.read.projections_uncounted().await {
        Ok(statuses) => {
            let is_live = |name: &str| statuses.iter().any(|status| status.name == name);
            let missing: Vec<_> = READ_MODELS.iter().map(|of| of.name).filter(|name| !is_live(name)).collect();
            if missing.is_empty() {
                (StatusCode::OK, "ready\n".to_owned())
            } else {
                (StatusCode::SERVICE_UNAVAILABLE, format!("not live yet: {}\n", missing.join(", ")))
            }
        }
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")),
    }
}
