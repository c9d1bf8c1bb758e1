//! Identities. Newtypes over UUIDs, so that an order id cannot be passed where a product id is meant.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! id {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }

        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }

        impl From<$name> for Uuid {
            fn from(id: $name) -> Self {
                id.0
            }
        }
    };
}

id!(
    /// A person known to the users service.
    UserId
);
id!(
    /// A product of the catalog.
    ProductId
);
id!(
    /// An order.
    OrderId
);
id!(
    /// A shipment of an order.
    ShipmentId
);
id!(
    /// A payment: one authorization, and what becomes of it.
    PaymentId
);
id!(
    /// One refund of a payment.
    RefundId
);
id!(
    /// One message to one user.
    NotificationId
);

/// A customer is a user seen from ordering: the same identity under the word that ordering uses.
pub type CustomerId = UserId;
