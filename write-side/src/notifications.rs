//! The notifications service: who was told what. Its HTTP surface; [`mailing`] decides whom to tell, [`notification`]
//! remembers it, [`mail`] is how it leaves the house: into a folder ([`mailbox`]) or to a server ([`smtp`]).

pub mod mail;
pub mod mailbox;
pub mod mailing;
pub mod notification;
#[cfg(feature = "smtp")]
pub mod smtp;

use std::{sync::Arc, time::Duration};

use axum::{extract::State, response::Response};
use event_store::follower::Backoff;
use events::{notifications::SOURCE, orders, users};
use serde_json::{Value, json};

use self::{
    mail::{Mailer, Sender},
    mailing::Mailing,
    notification::{Notification, NotificationStatus},
};
use crate::{
    edge::{
        Edge, PathId, Problem, Routes,
        openapi::{schema, view},
        request::ReadToken,
    },
    reactor::{self, Reactor, ReactorOptions},
    service::{Given, Service, StartError},
};

/// The feeds that it follows besides its own.
pub const FOLLOWS: [&str; 1] = [orders::SOURCE];

/// Whom it asks where a customer is reached.
pub const ASKS: [&str; 1] = [users::SOURCE];

/// Its place under HTTP.
pub const RESOURCE: &str = "notifications";

/// Between attempts to send: a mail server that is down is seldom back at once.
const BACKOFF: Backoff = Backoff { first: Duration::from_secs(1), max: Duration::from_secs(15 * 60) };

/// How messages leave the house.
#[derive(Clone)]
pub struct Post {
    pub mailer: Arc<dyn Mailer>,
    pub sender: Sender,
}

/// Starts the service on its log, and its reactor on the orders' feed and its own.
pub async fn start(given: Given) -> Result<Service, StartError> {
    let clock = Arc::clone(&given.clock);
    let options = ReactorOptions { backoff: BACKOFF, clock, ..ReactorOptions::default() };
    start_with(given, options).await
}

/// As [`start`], with a reactor of other bounds.
pub async fn start_with(mut given: Given, options: ReactorOptions) -> Result<Service, StartError> {
    let missing = |what: &str| StartError::new(SOURCE, format!("it is not given {what}"));
    let Post { mailer, sender } = given.post.take().ok_or_else(|| missing("a mailer"))?;
    let users = given.peers.remove(users::SOURCE).ok_or_else(|| missing("the users service to ask"))?;
    let duties = reactor::open(SOURCE, &given.duties).await?;
    let own = given.log.identity().clone();
    let mut feeds = given.feeds.clone();
    feeds.push(Arc::clone(&given.log) as _);
    let mut bus = None;
    let mut service = Service::start::<Notification, _>(SOURCE, given, RESOURCE, None, |notifications| {
        bus = Some(notifications.bus().clone());
        routes(notifications)
    })?;
    let bus = bus.ok_or_else(|| missing("routes"))?;
    let mailing = Arc::new(Mailing { bus, users, mailer, sender });
    let reactor = Reactor::start(mailing, duties, (&own.source, own.epoch), feeds, options).await?;
    service.reactor = Some(Arc::new(reactor));
    Ok(service)
}

fn routes(notifications: Edge<Notification>) -> Routes {
    Routes::of(SOURCE, "Who was told what.")
        .get(
            "/notifications/{id}",
            show,
            view("show_notification", "Show what became of a notification", shown())
                .refuses(&["notification_not_found"]),
        )
        .with_state(notifications)
}

async fn show(
    State(notifications): State<Edge<Notification>>,
    PathId(id): PathId,
    ReadToken(token): ReadToken,
) -> Result<Response, Problem> {
    notifications.show(id, &token, seen).await
}

/// A notification as the world sees one: without the address, which is not kept.
fn seen(notification: &Notification) -> Option<Value> {
    let Notification::Known { requested, status } = notification else { return None };
    let (status, failed_because) = match status {
        NotificationStatus::Requested => ("REQUESTED", None),
        NotificationStatus::Sent => ("SENT", None),
        NotificationStatus::Failed(reason) => ("FAILED", Some(reason)),
    };
    Some(json!({
        "id": requested.notification_id,
        "order_id": requested.order_id,
        "user_id": requested.user_id,
        "kind": requested.kind,
        "channel": requested.channel,
        "reason": requested.reason,
        "status": status,
        "failed_because": failed_because,
    }))
}

/// What [`seen`] makes.
fn shown() -> Value {
    schema::object([
        ("id", schema::uuid()),
        ("order_id", schema::uuid()),
        ("user_id", schema::uuid()),
        ("kind", schema::string()),
        ("channel", schema::string()),
        ("reason", schema::nullable(schema::string())),
        ("status", schema::string()),
        ("failed_because", schema::nullable(schema::string())),
    ])
}
