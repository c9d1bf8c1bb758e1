//! What the notifications service publishes: ids only. Whom a message reaches and under which address is the users
//! service's to know.

use serde::{Deserialize, Serialize};

use crate::{
    ids::{NotificationId, OrderId, UserId},
    published::published,
};

/// The name of the notifications service: its source in vectors and tokens, and its place in URLs.
pub const SOURCE: &str = "notifications";

/// The aggregate type of a notification's stream.
pub const NOTIFICATION: &str = "notification";

published! {
    /// Everything that can be known to have happened to a notification.
    pub enum NotificationEvent {
        "NotificationRequested" "1" => NotificationRequested,
        "NotificationSent" "1" => NotificationSent,
        "NotificationFailed" "1" => NotificationFailed,
    }
}

/// A user is to be told something about an order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NotificationRequested {
    pub notification_id: NotificationId,
    pub order_id: OrderId,
    pub user_id: UserId,
    pub kind: NotificationKind,
    pub channel: Channel,
    /// Why, where that is ours to tell: what a customer has written stays with their order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Somebody who delivers messages has taken it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NotificationSent {
    pub notification_id: NotificationId,
    pub order_id: OrderId,
    pub user_id: UserId,
}

/// It was not sent, and will not be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NotificationFailed {
    pub notification_id: NotificationId,
    pub order_id: OrderId,
    pub user_id: UserId,
    pub reason: FailureReason,
}

/// What a user is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum NotificationKind {
    OrderReceived,
    OrderCancelled,
    /// We cannot carry it out.
    OrderRejected,
    OrderShipped,
    OrderDelivered,
    OrderReturned,
}

/// The way a message takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Channel {
    Email,
}

/// Why a message was not sent. A closed list: what a mail server says may hold the address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum FailureReason {
    /// The users service does not know the user.
    UserUnknown,
    /// The person asked to be forgotten: nobody is left to be told.
    UserErased,
    /// The mail server does not take mail for this address.
    Refused,
    /// The mail server did not take it, time after time.
    Undeliverable,
}
