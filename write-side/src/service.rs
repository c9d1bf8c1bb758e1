//! What a running service is, whichever it is.

use std::{collections::BTreeMap, sync::Arc};

use axum::Router;
use event_store::{
    bus::{BusOptions, CommandBus, Domain},
    clock::{Clock, SystemClock},
    erasure::Erasure,
    feed::Feed,
    log::EventLog,
    retention::{Retention, RetentionOptions},
    sealed_log::SealedLog,
    writer::{Writer, WriterOptions},
};
use events::{DecodeError, Published, envelope::RecordedEvent, users::UserEvent};
use futures::future::BoxFuture;
use thiserror::Error;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use crate::{
    edge::{self, Api, Edge, Routes},
    notifications::Post,
    orders::replica::{Replica, ReplicaHome},
    payments::gateway::{Gateway, SimulatedGateway},
    peer::Peer,
    reactor::Reactor,
    saga::{SagaDesk, SagaIndex, SagaOptions},
};

/// What a service is given to start with.
pub struct Given {
    /// Its own log, and nobody else's.
    pub log: Arc<dyn EventLog>,
    /// The feeds that its entry in the register says it follows.
    pub feeds: Vec<Arc<dyn Feed>>,
    /// Where it keeps what it copies from them, or lists of its own log, if it does.
    pub replica: ReplicaHome,
    /// Where its reactor keeps what it has read and still has to do, if it has one.
    pub duties: ReplicaHome,
    pub writer: WriterOptions,
    pub bus: BusOptions,
    /// How long it keeps what it answered to commands.
    pub retention: RetentionOptions,
    /// How its saga runs, for who has one.
    pub saga: SagaOptions,
    /// Other services that it may ask, by name.
    pub peers: BTreeMap<&'static str, Peer>,
    /// What moves money, for who takes payments.
    pub gateway: Arc<dyn Gateway>,
    /// How messages leave the house, for who sends any.
    pub post: Option<Post>,
    pub clock: Arc<dyn Clock>,
}

impl Given {
    /// The same with a log that keeps personal values as ciphertext.
    pub(crate) fn sealed(self) -> Self {
        Self { log: SealedLog::around(self.log), ..self }
    }

    /// A log and nothing else.
    pub fn new(log: Arc<dyn EventLog>) -> Self {
        Self {
            log,
            feeds: Vec::new(),
            replica: ReplicaHome::Memory,
            duties: ReplicaHome::Memory,
            writer: WriterOptions::default(),
            bus: BusOptions::default(),
            retention: RetentionOptions::default(),
            saga: SagaOptions::default(),
            peers: BTreeMap::new(),
            gateway: Arc::new(SimulatedGateway::default()),
            post: None,
            clock: SystemClock::shared(),
        }
    }
}

/// Whose erasure an event of the users service is.
fn user_erased(event: &RecordedEvent) -> Result<Option<Uuid>, DecodeError> {
    Ok(match UserEvent::decode(&event.event_type, &event.event_version, &event.payload)? {
        UserEvent::UserErased(erased) => Some(erased.user_id.0),
        UserEvent::UserRegistered(_)
        | UserEvent::UserRenamed(_)
        | UserEvent::EmailChanged(_)
        | UserEvent::AddressChanged(_) => None,
    })
}

/// A running service: routes to mount, and the tasks behind them.
pub struct Service {
    pub name: &'static str,
    /// The collection that its commands are posted to: `/<resource>`.
    pub resource: &'static str,
    /// The aggregate type of its streams.
    pub aggregate_type: &'static str,
    /// Its resource and its feed, with everything around them but a fallback.
    pub router: Router,
    /// What it says of itself; served under `/{name}/openapi.json`.
    pub api: Api,
    /// Its log: the feed for followers in this process.
    pub log: Arc<dyn EventLog>,
    /// What it copies from others, if it does.
    pub replica: Option<Arc<Replica>>,
    /// What acts on events outside of it, if anything does.
    pub reactor: Option<Arc<Reactor>>,
    /// What operators can ask and tell, if it is a saga.
    pub saga: Option<Arc<dyn SagaDesk>>,
    /// Where its instances stand, if it is a saga.
    pub saga_index: Option<Arc<SagaIndex>>,
    retention: Retention,
    /// For services that hold something personal.
    pub erasure: Option<Arc<Erasure>>,
    /// Forgets the aggregates in memory.
    cool: Arc<dyn Fn() + Send + Sync>,
    closing: CancellationToken,
    tasks: TaskTracker,
    stop: Box<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>,
}

impl Service {
    /// Starts writer and bus of `A` on a log. `routes` are what the service serves besides its feed. Also for services of
    /// one's own, which the register does not know: whatever has the edge has all of its promises.
    pub fn start<A: Domain<Services = ()>, R: FnOnce(Edge<A>) -> Routes>(
        name: &'static str,
        given: Given,
        resource: &'static str,
        replica: Option<Arc<Replica>>,
        routes: R,
    ) -> Result<Self, StartError> {
        let source = &given.log.identity().source;
        if **source != *name {
            return Err(StartError::new(name, format!("its log is that of {source}")));
        }
        let log = given.log;
        let writer = Writer::start(Arc::clone(&log), given.writer);
        let bus = CommandBus::<A>::start(writer.clone(), (), given.bus);
        let retention = Retention::start(Arc::clone(&log), given.retention);
        let closing = CancellationToken::new();
        let feed: Arc<dyn Feed> = Arc::clone(&log) as Arc<dyn Feed>;
        let routes = routes(Edge::new(bus.clone(), resource));
        let (router, api) = routes.merge(edge::feed::routes(feed, closing.clone())).serve(name);
        let cool = {
            let bus = bus.clone();
            Arc::new(move || bus.cool())
        };
        let stop = Box::new(move || -> BoxFuture<'static, ()> {
            let (bus, writer) = (bus.clone(), writer.clone());
            Box::pin(async move {
                bus.shutdown().await;
                writer.shutdown().await;
            })
        });
        Ok(Self {
            name,
            resource,
            aggregate_type: A::TYPE,
            router: edge::around(router),
            api,
            log,
            replica,
            reactor: None,
            saga: None,
            saga_index: None,
            retention,
            erasure: None,
            cool,
            closing,
            tasks: TaskTracker::new(),
            stop,
        })
    }

    /// Runs `work` beside the service, until what it is given is cancelled: then it ends by itself, while the bus still
    /// answers.
    pub(crate) fn spawn<F>(&self, work: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.tasks.spawn(work(self.closing.clone()));
    }

    /// Deletes the keys of users of whom `users` says that they were erased. For a service that holds something personal,
    /// started on what [`Given::sealed`] gives.
    pub(crate) fn erasing(mut self, users: Arc<dyn Feed>) -> Self {
        let cool = Arc::clone(&self.cool);
        let erasure = Erasure::start(Arc::clone(&self.log), users, user_erased, move || cool());
        self.erasure = Some(Arc::new(erasure));
        self
    }

    /// The log as its followers in this process see it.
    pub fn feed(&self) -> Arc<dyn Feed> {
        Arc::clone(&self.log) as Arc<dyn Feed>
    }

    /// Ends long polls, and what runs beside the service: call it when the server begins to drain.
    pub fn close_feeds(&self) {
        self.closing.cancel();
    }

    /// Answers what is under way and ends every task. Requests that come later are answered 503.
    pub async fn shutdown(&self) {
        self.close_feeds();
        // while the bus still takes what became of its duties
        if let Some(reactor) = &self.reactor {
            reactor.shutdown().await;
        }
        self.tasks.close();
        self.tasks.wait().await;
        self.retention.shutdown().await;
        if let Some(erasure) = &self.erasure {
            erasure.shutdown().await;
        }
        (self.stop)().await;
        if let Some(replica) = &self.replica {
            replica.shutdown().await;
        }
        if let Some(index) = &self.saga_index {
            index.shutdown().await;
        }
    }
}

/// Why a service does not start.
#[derive(Debug, Error)]
#[error("start {what}: {reason}")]
pub struct StartError {
    pub what: &'static str,
    pub reason: String,
}

impl StartError {
    pub fn new(what: &'static str, reason: impl Into<String>) -> Self {
        Self { what, reason: reason.into() }
    }
}
