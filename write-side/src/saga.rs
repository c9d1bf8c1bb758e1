//! Sagas: writes that span services, and end whole or undone.
//!
//! A saga is an aggregate with a log of its own. What it learns becomes an event, and the event holds what is to be done
//! about it; a dispatcher does that and tells the saga what the answer was. So whatever crashes, everything that was
//! decided is done at least once under one key, and nothing is decided twice.
//!
//! Reading order:
//! - [`definition`]: what a saga is made of; the only part that one writes for a new saga, besides its
//!   [`events`](events::saga).
//! - [`instance`]: one run of it: what is known, what was asked for, and what is to be asked for next.
//! - [`aggregate`]: inputs become events.
//! - [`dispatcher`]: effects become commands to other services, and their answers inputs; [`patience`] with those that do
//!   not answer.
//! - [`handle`]: for who operates it: where an instance stands, its story, and decisions by hand.
//! - `late`: an instance of what happened before anybody listened, begun by hand.
//! - [`index`]: which instances there are; [`plain`]: their events for those who do not know which saga it is.
//! - [`explore`]: every way that an instance can go, for laws and for the diagram.
//!
//! What does not live here: any saga, and any time or IO outside of the dispatcher.

pub mod aggregate;
pub mod definition;
pub mod dispatcher;
pub mod explore;
pub mod handle;
pub mod index;
pub mod instance;
mod late;
mod patience;
pub mod plain;

use std::{sync::Arc, time::Duration};

use event_store::feed::Feed;

use self::dispatcher::Dispatcher;
pub use self::{
    aggregate::{Saga, SagaCommand, SagaError},
    definition::{Awaited, Definition, End, Happened, Kind, News, Outcome, Pace, Request, saga_id},
    handle::{SagaDesk, SagaHandle, Word},
    index::SagaIndex,
    instance::Instance,
};
use crate::{
    edge::{Edge, Routes},
    reactor::{self, Reactor, ReactorOptions},
    service::{Given, Service, StartError},
};

/// Commands that are under way at once. An instance has a few at a time, and another service takes about a millisecond
/// for each.
const IN_FLIGHT_MAX: usize = 64;

/// How a saga runs.
#[derive(Debug, Clone, Default)]
pub struct SagaOptions {
    /// Instead of the definition's own. Instances keep what they were started with.
    pub deadline: Option<Duration>,
}

/// Starts a service that is a saga: `source` is its name and its log's, `resource` its collection over HTTP. It follows
/// all feeds that it is given, and asks the peers.
pub async fn start<D: Definition, R: Into<Routes>>(
    source: &'static str,
    resource: &'static str,
    given: Given,
    options: SagaOptions,
    routes: impl FnOnce(SagaHandle<D>, Edge<Saga<D>>) -> R,
) -> Result<Service, StartError> {
    let running = ReactorOptions {
        in_flight_max: IN_FLIGHT_MAX,
        backoff: D::PACE.backoff,
        clock: Arc::clone(&given.clock),
        ..ReactorOptions::default()
    };
    let (clock, peers, own) = (Arc::clone(&given.clock), given.peers.clone(), given.log.identity().clone());
    let (home, own_feed) = (given.replica.clone(), Arc::clone(&given.log) as Arc<dyn Feed>);
    let others: Arc<[Arc<dyn Feed>]> = given.feeds.clone().into();
    let mut feeds = vec![Arc::clone(&own_feed)];
    feeds.extend(others.iter().cloned());
    let deadline = options.deadline.unwrap_or(D::DEADLINE);
    let duties = reactor::open(source, &given.duties).await?;
    let mut handle = None;
    let mut service = Service::start::<Saga<D>, _>(source, given, resource, None, |edge| {
        let opened = SagaHandle { bus: edge.bus().clone(), clock: Arc::clone(&clock), feeds: others, deadline };
        handle = Some(opened.clone());
        routes(opened, edge).into()
    })?;
    let handle = handle.ok_or_else(|| StartError::new(source, "it has no routes"))?;
    let dispatcher = Dispatcher::new(handle.bus.clone(), peers, deadline, clock);
    let reactor = Reactor::start(Arc::new(dispatcher), duties, (&own.source, own.epoch), feeds, running).await?;
    service.reactor = Some(Arc::new(reactor));
    service.saga_index = Some(Arc::new(SagaIndex::start(&home, handle.clone(), own_feed).await?));
    service.saga = Some(Arc::new(handle));
    Ok(service)
}
