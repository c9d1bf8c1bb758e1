//! Command services, each on a log of its own.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use anyhow::Result;
use axum::Router;
use event_store::{
    feed::{Cursor, Feed, PageLimit},
    log::EventLog,
};
use futures::future::join_all;
use write_side::{Entry, Given, Service, edge::Api, peer::Peer};

use super::{Role, elsewhere::Elsewhere, followed, ready::ANSWER_WAIT_MAX};
use crate::{
    admin::{self, Admin, Check, RunningSaga, ServicesAdmin, Surroundings},
    config::{ServicesArgs, Storage},
    docs,
    door::Door,
    metrics::{self, Family},
    stores,
};

/// Those that run in this process.
pub struct Services {
    storage: Storage,
    running: Vec<Service>,
}

impl Services {
    /// Opens the logs of `entries`, which are in the order of the register, making what is missing, and starts each
    /// service on its own. Whom one follows or asks is here as well, or `elsewhere`.
    pub async fn start(
        entries: &[&'static Entry],
        storage: &Storage,
        args: &ServicesArgs,
        data_dir: &Path,
        elsewhere: &Elsewhere,
    ) -> Result<Self> {
        // all logs first: services may follow each other in a circle
        let mut logs: BTreeMap<&'static str, Arc<dyn EventLog>> = BTreeMap::new();
        for entry in entries {
            logs.insert(entry.name, stores::open_log(storage, entry.name).await?);
        }
        let mut running: Vec<Service> = Vec::new();
        for entry in entries {
            let feed = |name: &&'static str| match logs.get(name) {
                Some(log) => Ok(Arc::clone(log) as Arc<dyn Feed>),
                None => elsewhere.feed(name),
            };
            let peer = |name: &&'static str| {
                let here = running.iter().find(|service| service.name == *name);
                let peer = here.map_or_else(|| elsewhere.peer(name), |here| Ok(Peer::here(here.router.clone())));
                Ok((*name, peer?))
            };
            let sends_mail = entry.name == events::notifications::SOURCE;
            let given = Given {
                feeds: entry.follows.iter().map(feed).collect::<Result<_>>()?,
                peers: entry.asks.iter().map(peer).collect::<Result<_>>()?,
                replica: stores::home(storage, entry.name, "replica")?,
                duties: stores::home(storage, entry.name, "reactor")?,
                retention: args.retention(),
                saga: args.saga(),
                post: sends_mail.then(|| args.mail.post(data_dir)).transpose()?,
                ..Given::new(Arc::clone(&logs[entry.name]))
            };
            running.push((entry.start)(given).await?);
        }
        Ok(Self { storage: storage.clone(), running })
    }

    /// In the order of the register.
    pub fn running(&self) -> &[Service] {
        &self.running
    }

    /// Their own routes, behind nothing.
    pub fn router(&self) -> Router {
        self.running.iter().fold(Router::new(), |all, service| all.merge(service.router.clone()))
    }

    pub fn apis(&self) -> Vec<Api> {
        self.running.iter().map(|service| service.api.clone()).collect()
    }

    pub fn feeds(&self) -> Vec<Arc<dyn Feed>> {
        self.running.iter().map(Service::feed).collect()
    }

    pub fn admin(&self) -> ServicesAdmin {
        let log = |one: &Service| (one.name.to_owned(), (Arc::clone(&one.log), one.aggregate_type));
        ServicesAdmin {
            logs: self.running.iter().map(log).collect(),
            replicas: self.running.iter().filter_map(|one| Some((one.name, one.replica.clone()?))).collect(),
            reactors: self.running.iter().filter_map(|one| Some((one.name, one.reactor.clone()?))).collect(),
            erasures: self.running.iter().filter_map(|one| Some((one.name, one.erasure.clone()?))).collect(),
            sagas: self.running.iter().filter_map(running_saga).collect(),
        }
    }
}

#[async_trait::async_trait]
impl Role for Services {
    fn routes(&self, door: &Door) -> Router {
        let services = self.admin();
        let surroundings = Surroundings::of(Some(&self.storage), door);
        let admin = Admin { services, projector: None, surroundings };
        self.router().merge(docs::router(&self.apis())).merge(admin::router(admin))
    }

    /// Whether every log answers. A feed of others that cannot be read is told, and waited for by nobody: services do their
    /// work without each other.
    async fn check(&self) -> Vec<Check> {
        let mut checks = join_all(self.running.iter().map(answers)).await;
        for service in &self.running {
            let replica = service.replica.iter().map(|replica| ("replica", replica.follower()));
            let reactor = service.reactor.iter().map(|reactor| ("reactor", reactor.follower()));
            let following = replica.chain(reactor).flat_map(|(kind, of)| followed(kind, service.name, &of.status()));
            checks.extend(following);
            checks.extend(service.erasure.iter().map(|erasure| admin::of_erasure(service.name, erasure)));
        }
        checks
    }

    async fn measured(&self) -> Vec<Family> {
        let admin = self.admin();
        let (services, storage) = tokio::join!(metrics::of_services(&admin), metrics::of_storage(&self.storage));
        [services, storage].concat()
    }

    fn close(&self) {
        self.running.iter().for_each(Service::close_feeds);
    }

    /// Those that others follow here end last.
    async fn shutdown(&self) {
        for service in self.running.iter().rev() {
            service.shutdown().await;
        }
    }
}

/// Whether a log tells its head.
async fn answers(service: &Service) -> Check {
    let name = format!("log {}", service.name);
    let page = service.log.page(Cursor::START, PageLimit::events(1), Duration::ZERO);
    match tokio::time::timeout(ANSWER_WAIT_MAX, page).await {
        Ok(Ok(_)) => Check::good(name, "answers"),
        Ok(Err(error)) => Check::bad(name, error.to_string()),
        Err(_) => Check::bad(name, format!("no answer within {} s", ANSWER_WAIT_MAX.as_secs())),
    }
}

fn running_saga(service: &Service) -> Option<RunningSaga> {
    let (desk, index) = (service.saga.clone()?, service.saga_index.clone()?);
    Some(RunningSaga { service: service.name, desk, index, reactor: service.reactor.clone() })
}
