//! Command services, each on a log of its own.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use anyhow::Result;
use axum::{Router, routing::get};
use event_store::{
    feed::{Cursor, Feed, PageLimit},
    follower::Status,
    log::EventLog,
};
use futures::future::join_all;
use write_side::{Entry, Given, Service, edge::Api, peer::Peer};

use super::{
    Role,
    elsewhere::Elsewhere,
    ready::{Waiting, answer},
};
use crate::{
    admin::{Admin, RunningSaga, ServicesAdmin, Surroundings},
    config::{ServicesArgs, Storage},
    docs,
    door::Door,
    stores,
};

/// How long a log may take to tell its head before its service is not ready.
const HEAD_WAIT_MAX: Duration = Duration::from_secs(2);

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
            sagas: self.running.iter().filter_map(running_saga).collect(),
        }
    }
}

#[async_trait::async_trait]
impl Role for Services {
    fn routes(&self, door: &Door) -> Router {
        let services = self.admin();
        let surroundings = Surroundings::of(Some(&self.storage), door);
        let admin = Admin { services: services.clone(), projector: None, surroundings };
        let readyz = get(async move || answer(waiting(&services).await));
        self.router().merge(docs::router(&self.apis())).merge(super::operated(admin)).route("/readyz", readyz)
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

/// Ready while every log answers. A feed of others that cannot be read is told, and waited for by nobody: services do
/// their work without each other.
async fn waiting(admin: &ServicesAdmin) -> Waiting {
    let mut waiting = Waiting::default();
    let heads = admin.logs.iter().map(async |(service, (log, _))| {
        let page = log.page(Cursor::START, PageLimit::events(1), Duration::ZERO);
        let failed = match tokio::time::timeout(HEAD_WAIT_MAX, page).await {
            Ok(Ok(_)) => return None,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} s", HEAD_WAIT_MAX.as_secs()),
        };
        Some(format!("the log of {service}: {failed}"))
    });
    waiting.holds_up.extend(join_all(heads).await.into_iter().flatten());
    let copies = admin.replicas.iter().map(|(service, replica)| (*service, replica.follower().status()));
    let acting = admin.reactors.iter().map(|(service, reactor)| (*service, reactor.follower().status()));
    for (service, status) in copies.chain(acting) {
        waiting.aside.extend(standstills(service, &status));
    }
    waiting
}

fn standstills(service: &str, status: &Status) -> Vec<String> {
    if let Some(reason) = &status.stopped {
        return vec![format!("{service} follows nobody: {reason}")];
    }
    let halted = status.sources.iter().filter_map(|(source, of_source)| Some((source, of_source.halt()?)));
    halted.map(|(source, reason)| format!("{service} waits for the feed of {source}: {reason}")).collect()
}

fn running_saga(service: &Service) -> Option<RunningSaga> {
    let (desk, index) = (service.saga.clone()?, service.saga_index.clone()?);
    Some(RunningSaga { service: service.name, desk, index, reactor: service.reactor.clone() })
}
