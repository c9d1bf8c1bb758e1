//! The notifications service's reactor. What happens to orders becomes notifications of its own log; those it sends.
//!
//! Two steps, so that a message is asked for durably and once before anything leaves the house. An imported order is
//! history and nobody is told of it, nor of what happens to it later.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use event_store::{
    bus::{CommandBus, CommandError, CommandRequest},
    follower::Reject,
    log::Fingerprint,
};
use events::{
    envelope::{Metadata, RecordedEvent},
    ids::{NotificationId, OrderId, UserId},
    notifications::{Channel, FailureReason, NotificationEvent, NotificationKind, NotificationRequested, SOURCE},
    orders::{self, OrderEvent},
};
use uuid::Uuid;

use super::{
    mail::{Mail, MailError, Mailer, Sender},
    notification::{Notification, NotificationCommand, NotificationStatus},
};
use crate::{
    peer::{Peer, PeerError, PeerQuestion},
    reactor::{Acted, Due, Reaction, Wanted, decode},
};

/// How often a message is offered to the mailer. With the service's backoff that is about three hours.
pub const SEND_ATTEMPTS_MAX: u32 = 20;

const NAME: &str = "notifications-mailing";

/// Under which ids of notifications are made.
const ID_NAMESPACE: Uuid = Uuid::from_u128(0x9b6f_2c55_70d3_4f0e_8c55_2a0d_7b1e_33c4);

/// The version of an order's stream that says it was placed.
const PLACED_SEQUENCE: u64 = 1;

/// Between orders, the users service and the mailer.
pub struct Mailing {
    pub bus: CommandBus<Notification>,
    /// Knows names and addresses; asked for each message, and not remembered.
    pub users: Peer,
    pub mailer: Arc<dyn Mailer>,
    pub sender: Sender,
}

/// Who gets a message.
enum Recipient {
    Known { name: String, email: String },
    Erased,
    Unknown,
}

#[async_trait]
impl Reaction for Mailing {
    fn name(&self) -> &'static str {
        NAME
    }

    fn wants(&self, source: &str, event: &RecordedEvent) -> Result<Wanted, Reject> {
        Ok(match source {
            orders::SOURCE => match decode::<OrderEvent>(event)? {
                OrderEvent::OrderPlaced(_)
                | OrderEvent::OrderCancelled(_)
                | OrderEvent::OrderShipped(_)
                | OrderEvent::OrderDelivered(_)
                | OrderEvent::OrderReturned(_) => Wanted::Now,
                // who was told that it is received waits for it to be on its way: two messages within a second help nobody
                OrderEvent::OrderImported(_) | OrderEvent::OrderConfirmed(_) => Wanted::Nothing,
            },
            _ => match decode::<NotificationEvent>(event)? {
                NotificationEvent::NotificationRequested(_) => Wanted::Now,
                NotificationEvent::NotificationSent(_) | NotificationEvent::NotificationFailed(_) => Wanted::Nothing,
            },
        })
    }

    async fn act(&self, due: &Due) -> Acted {
        let acted = match &*due.source {
            orders::SOURCE => self.request(due).await,
            _ => self.send(due).await,
        };
        match acted {
            Ok(()) => Acted::Done,
            Err(acted) => acted,
        }
    }
}

/// The id of what is said about the event at `sequence` of an order's stream.
pub fn notification_id(order_id: OrderId, sequence: u64) -> NotificationId {
    Uuid::new_v5(&ID_NAMESPACE, format!("{order_id}|{sequence}").as_bytes()).into()
}

impl Mailing {
    /// Notes in our own log that a user is to be told what happened to their order.
    async fn request(&self, due: &Due) -> Result<(), Acted> {
        let event = decode::<OrderEvent>(&due.event).map_err(|reject| Acted::Hindered(reject.to_string()))?;
        let (order_id, kind, reason) = match event {
            OrderEvent::OrderPlaced(placed) => {
                let user_id = placed.customer_id;
                return self.ask(due, placed.order_id, user_id, NotificationKind::OrderReceived, None).await;
            }
            OrderEvent::OrderCancelled(cancelled) if cancelled.rejected => {
                (cancelled.order_id, NotificationKind::OrderRejected, Some(cancelled.reason))
            }
            OrderEvent::OrderCancelled(cancelled) => (cancelled.order_id, NotificationKind::OrderCancelled, None),
            OrderEvent::OrderShipped(shipped) => (shipped.order_id, NotificationKind::OrderShipped, None),
            OrderEvent::OrderDelivered(delivered) => (delivered.order_id, NotificationKind::OrderDelivered, None),
            OrderEvent::OrderReturned(returned) => (returned.order_id, NotificationKind::OrderReturned, None),
            OrderEvent::OrderImported(_) | OrderEvent::OrderConfirmed(_) => return Ok(()),
        };
        match self.told(order_id).await? {
            Some(user_id) => self.ask(due, order_id, user_id, kind, reason).await,
            None => Ok(()),
        }
    }

    async fn ask(
        &self,
        due: &Due,
        order_id: OrderId,
        user_id: UserId,
        kind: NotificationKind,
        reason: Option<String>,
    ) -> Result<(), Acted> {
        let notification_id = notification_id(order_id, due.event.sequence);
        let channel = Channel::Email;
        let requested = NotificationRequested { notification_id, order_id, user_id, kind, channel, reason };
        self.run(due, notification_id, NotificationCommand::Request(requested)).await
    }

    /// Who was told that the order has been received: only they are told of what comes after. Duties about one order
    /// are done in order, so that has been asked for by now.
    async fn told(&self, order_id: OrderId) -> Result<Option<UserId>, Acted> {
        match self.load(notification_id(order_id, PLACED_SEQUENCE)).await? {
            Notification::Known { requested, .. } => Ok(Some(requested.user_id)),
            Notification::Absent => Ok(None),
        }
    }

    async fn send(&self, due: &Due) -> Result<(), Acted> {
        let id = due.event.stream.aggregate_id.parse::<NotificationId>();
        let id = id.map_err(|_| Acted::Hindered("the stream's name is not an id".to_owned()))?;
        let Notification::Known { requested, status: NotificationStatus::Requested } = self.load(id).await? else {
            return Ok(());
        };
        let command = match self.recipient(due, requested.user_id).await? {
            Recipient::Unknown => NotificationCommand::Fail { reason: FailureReason::UserUnknown },
            Recipient::Erased => NotificationCommand::Fail { reason: FailureReason::UserErased },
            Recipient::Known { name, email } => {
                let mail = mail(&self.sender, &requested, due.event.recorded_at, name, email);
                match self.mailer.send(&mail).await {
                    Ok(()) => NotificationCommand::MarkSent,
                    Err(MailError::Refused(reason)) => {
                        tracing::warn!(notification = %id, reason, "a message was refused");
                        NotificationCommand::Fail { reason: FailureReason::Refused }
                    }
                    Err(MailError::Unavailable(_)) if due.attempt >= SEND_ATTEMPTS_MAX => {
                        NotificationCommand::Fail { reason: FailureReason::Undeliverable }
                    }
                    Err(error @ MailError::Unavailable(_)) => return Err(Acted::Failed(error.to_string())),
                }
            }
        };
        self.run(due, id, command).await
    }

    async fn recipient(&self, due: &Due, user_id: UserId) -> Result<Recipient, Acted> {
        // that the users service does not answer is no fault of the message: it is not spent an attempt on
        let hindered = |error: PeerError| Acted::Hindered(error.to_string());
        let Metadata { correlation_id, traceparent, .. } = due.metadata(NAME);
        let path = format!("/users/{user_id}");
        let question = PeerQuestion { path, correlation_id, traceparent, principal: SOURCE };
        let Some(user) = self.users.show(&question).await.map_err(hindered)? else {
            return Ok(Recipient::Unknown);
        };
        match (user["name"].as_str(), user["email"].as_str()) {
            _ if user["erased"] == true => Ok(Recipient::Erased),
            (Some(name), Some(email)) => Ok(Recipient::Known { name: name.to_owned(), email: email.to_owned() }),
            _ => Err(Acted::Hindered("the users service shows a user without name or e-mail".to_owned())),
        }
    }

    async fn load(&self, id: NotificationId) -> Result<Notification, Acted> {
        let loaded = self.bus.load(&id.to_string()).await.map_err(|error| Acted::Hindered(error.to_string()))?;
        Ok(loaded.map(|loaded| loaded.state).unwrap_or_default())
    }

    async fn run(&self, due: &Due, id: NotificationId, command: NotificationCommand) -> Result<(), Acted> {
        let request = CommandRequest {
            aggregate_id: id.to_string().into(),
            command,
            scope: format!("{SOURCE}|{NAME}").into(),
            key: due.key.to_string().into(),
            fingerprint: Fingerprint::of(self.bus.log().identity(), NAME, due.key.as_bytes()),
            expected_version: None,
            metadata: due.metadata(NAME),
        };
        match self.bus.execute(request).await {
            // refused: it is there already, and stays as it is
            Ok(_) | Err(CommandError::Refused(..)) => Ok(()),
            Err(error) => Err(Acted::Hindered(error.to_string())),
        }
    }
}

fn mail(sender: &Sender, asked: &NotificationRequested, date: DateTime<Utc>, name: String, email: String) -> Mail {
    let order_id = asked.order_id;
    let because = asked.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let rejected = format!("We cannot carry it out{because}. Nothing will be sent, and you pay nothing for it.");
    let (subject, said) = match asked.kind {
        NotificationKind::OrderReceived => (
            "We have received your order",
            "We have received it. You hear from us again when it is on its way, or if we cannot carry it out.",
        ),
        NotificationKind::OrderCancelled => {
            ("Your order is cancelled", "It is cancelled. Nothing will be sent, and you pay nothing for it.")
        }
        NotificationKind::OrderRejected => ("We cannot carry out your order", &*rejected),
        NotificationKind::OrderShipped => ("Your order is on its way", "It has been shipped."),
        NotificationKind::OrderDelivered => ("Your order has arrived", "It has been delivered."),
        // given back after it arrived, or given up before it left
        NotificationKind::OrderReturned => (
            "We have taken your order back",
            "We have taken it back, all or the part you wanted. What you have paid for that is paid back to you.",
        ),
    };
    let text = format!("Hello {name},\n\nthis is about your order {order_id}.\n{said}\n\nYour shop\n");
    let (id, from) = (asked.notification_id, sender.clone());
    Mail { id, date, from, to_name: name, to_email: email, subject: subject.to_owned(), text }
}
