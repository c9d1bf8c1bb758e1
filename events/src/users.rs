//! What the users service publishes.

use serde::{Deserialize, Serialize};

use crate::{ids::UserId, published::published};

/// The name of the users service: its source in vectors and tokens, and its place in URLs.
pub const SOURCE: &str = "users";

/// The aggregate type of a user's stream.
pub const USER: &str = "user";

published! {
    /// Everything that can be known to have happened to a user.
    pub enum UserEvent {
        "UserRegistered" "1" => UserRegistered,
        "UserRenamed" "1" => UserRenamed,
        "EmailChanged" "1" => EmailChanged,
        "AddressChanged" "1" => AddressChanged,
        "UserErased" "1" => UserErased,
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UserRegistered {
    pub user_id: UserId,
    pub name: String,
    pub email: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Address>,
    /// The key this user has in the system they came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_ref: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UserRenamed {
    pub user_id: UserId,
    pub name: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EmailChanged {
    pub user_id: UserId,
    pub email: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AddressChanged {
    pub user_id: UserId,
    pub address: Address,
}

/// The person asked to be forgotten: consumers erase what they hold of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UserErased {
    pub user_id: UserId,
}

/// A postal address. Every part but the street, city and country may be absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Address {
    pub street: String,
    pub city: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postal_code: Option<String>,
    pub country: String,
}
