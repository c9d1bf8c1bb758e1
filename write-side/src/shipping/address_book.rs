//! Where a shipment goes if nobody says: the address that the users service has of its customer at that moment.
//!
//! Asked for and not copied beforehand: an address stands with the user and, sealed, with each shipment, and nowhere else
//! from where it would have to be erased. So whoever schedules need not know one: nothing personal passes through them.

use axum::http::StatusCode;
use events::{
    ids::CustomerId,
    shipping::SOURCE,
    users::{self, Address},
};

use crate::{
    edge::{Problem, trace::Conversation},
    peer::{Peer, PeerQuestion},
};

/// The users service, as far as shipments want to know of it.
pub struct AddressBook {
    pub users: Peer,
}

impl AddressBook {
    /// `None`: the customer has no address, or is erased or unknown, and has none to give.
    pub async fn address_of(
        &self,
        customer_id: CustomerId,
        conversation: &Conversation,
    ) -> Result<Option<Address>, Problem> {
        let question = PeerQuestion::within(conversation, SOURCE, format!("/users/{customer_id}"));
        let user = self.users.show(&question).await.map_err(|error| unavailable(error.to_string()))?;
        let address = user.map(|mut user| user["address"].take()).filter(|address| !address.is_null());
        // without the parser's words: they quote what does not fit
        let address = address.map(serde_json::from_value).transpose();
        address.map_err(|_| unavailable("the users service shows an address that is none".to_owned()))
    }
}

fn unavailable(cause: String) -> Problem {
    let detail =
        "the shipment names no address, and the service that knows the customer's does not answer now; try again";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "users_unavailable", detail)
        .caused_by(cause)
        .with("source", users::SOURCE)
        .retry_after(1)
}
