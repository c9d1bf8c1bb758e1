//! What the users service publishes. What tells of a person is [`Personal`]: null once they are erased.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{ids::UserId, personal::Personal, published::published};

/// The name of the users service: its source in vectors and tokens, and its place in URLs.
pub const SOURCE: &str = "users";

/// The aggregate type of a user's stream.
pub const USER: &str = "user";

published! {
    /// Everything that can be known to have happened to a user.
    pub enum UserEvent {
        "UserRegistered" "2" => UserRegistered,
        "UserRenamed" "2" => UserRenamed,
        "EmailChanged" "2" => EmailChanged,
        "AddressChanged" "2" => AddressChanged,
        "UserErased" "1" => UserErased,
    }
    upcast {
        "UserRegistered" "1" to "2" => plain_to_personal,
        "UserRenamed" "1" to "2" => plain_to_personal,
        "EmailChanged" "1" to "2" => plain_to_personal,
        "AddressChanged" "1" to "2" => plain_to_personal,
    }
}

/// Version 1 had every value in plain text, which no erasure reaches.
fn plain_to_personal(mut event: Value) -> Result<Value, String> {
    let subject = event["user_id"].clone();
    for field in ["name", "email", "address", "external_ref"] {
        if let Some(value) = event.get_mut(field).filter(|value| !value.is_null()) {
            *value = json!({ "personal_of": subject, "value": value.take() });
        }
    }
    Ok(event)
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UserRegistered {
    pub user_id: UserId,
    pub name: Personal<String>,
    pub email: Personal<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Personal<Address>>,
    /// The key this user has in the system they came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_ref: Option<Personal<String>>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UserRenamed {
    pub user_id: UserId,
    pub name: Personal<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EmailChanged {
    pub user_id: UserId,
    pub email: Personal<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AddressChanged {
    pub user_id: UserId,
    pub address: Personal<Address>,
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
