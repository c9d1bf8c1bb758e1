//! What the replica knows, in memory: the fold of the catalog's and the users' feeds.

use std::collections::{BTreeMap, HashMap};

use event_store::follower::{ApplyError, Reject, Step};
use events::{
    DecodeError, Published, catalog,
    catalog::ProductEvent,
    envelope::RecordedEvent,
    ids::{ProductId, UserId},
    users,
    users::UserEvent,
};

use crate::orders::order::{Customer, Offer};

/// Everything, by id.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Known {
    pub products: HashMap<ProductId, Offer>,
    /// Whether the user has been erased.
    pub users: HashMap<UserId, bool>,
}

/// The rows that a step leaves different: at most one a product and user, however many events it has.
#[derive(Debug, Default, PartialEq)]
pub struct Changes {
    pub products: BTreeMap<ProductId, Offer>,
    pub users: BTreeMap<UserId, bool>,
}

impl Known {
    pub fn customer(&self, user_id: UserId) -> Customer {
        match self.users.get(&user_id) {
            None => Customer::Unknown,
            Some(false) => Customer::Active,
            Some(true) => Customer::Erased,
        }
    }

    /// What the events of `step` change.
    pub fn fold(&self, step: &Step<'_>) -> Result<Changes, ApplyError> {
        let mut changes = Changes::default();
        for event in step.folded() {
            let folded = match &**step.source {
                users::SOURCE => fold_user(&mut changes, event),
                catalog::SOURCE => self.fold_product(&mut changes, event),
                other => return Err(ApplyError::Bug(format!("the replica does not follow {other}"))),
            };
            folded.map_err(|reject| reject.of(event))?;
        }
        Ok(changes)
    }

    fn fold_product(&self, changes: &mut Changes, event: &RecordedEvent) -> Result<(), Reject> {
        match decode::<ProductEvent>(event)? {
            ProductEvent::ProductAdded(added) => {
                let offer = Offer { name: added.name.into(), unit_price: added.unit_price, discontinued: false };
                changes.products.insert(added.product_id, offer);
            }
            ProductEvent::ProductRenamed(renamed) => {
                self.product_mut(changes, renamed.product_id)?.name = renamed.name.into();
            }
            ProductEvent::PriceChanged(changed) => {
                self.product_mut(changes, changed.product_id)?.unit_price = changed.unit_price;
            }
            ProductEvent::ProductDiscontinued(discontinued) => {
                self.product_mut(changes, discontinued.product_id)?.discontinued = true;
            }
        }
        Ok(())
    }

    fn product_mut<'c>(&self, changes: &'c mut Changes, id: ProductId) -> Result<&'c mut Offer, Reject> {
        use std::collections::btree_map::Entry;
        match changes.products.entry(id) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => match self.products.get(&id) {
                Some(offer) => Ok(entry.insert(offer.clone())),
                None => Err(Reject::Poison(format!("product {id} was never added"))),
            },
        }
    }

    /// Takes over what is durable.
    pub fn apply(&mut self, changes: Changes) {
        self.products.extend(changes.products);
        self.users.extend(changes.users);
    }
}

fn fold_user(changes: &mut Changes, event: &RecordedEvent) -> Result<(), Reject> {
    match decode::<UserEvent>(event)? {
        UserEvent::UserRegistered(registered) => changes.users.insert(registered.user_id, false),
        UserEvent::UserErased(erased) => changes.users.insert(erased.user_id, true),
        // nothing personal is kept here
        UserEvent::UserRenamed(_) | UserEvent::EmailChanged(_) | UserEvent::AddressChanged(_) => None,
    };
    Ok(())
}

fn decode<E: Published>(event: &RecordedEvent) -> Result<E, Reject> {
    E::decode(&event.event_type, &event.event_version, &event.payload).map_err(|error| match error {
        DecodeError::UnknownType { .. } => Reject::UnknownEventType,
        DecodeError::Payload { .. } => Reject::Poison(error.to_string()),
    })
}
