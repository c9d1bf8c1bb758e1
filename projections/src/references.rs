//! What rows of several read models refer to. Whoever changes what a fold here gives counts on the `VERSION` of each of
//! them: the golden corpus names them.

use events::{
    catalog::{self, ProductEvent},
    envelope::RecordedEvent,
    ids::{CustomerId, ProductId},
    users::{self, UserEvent},
};
use read_side::references::{Customer, ProductRow};

use crate::projection::{Fold, begun};

/// The customer as the users service knows them.
pub(crate) struct CustomerFold;

impl Fold for CustomerFold {
    type Event = UserEvent;
    type State = Customer;
    const SOURCE: &'static str = users::SOURCE;

    fn key(event: &UserEvent) -> Option<String> {
        let user_id: CustomerId = match event {
            UserEvent::UserRegistered(event) => event.user_id,
            UserEvent::UserRenamed(event) => event.user_id,
            UserEvent::EmailChanged(event) => event.user_id,
            // no row shows it
            UserEvent::AddressChanged(_) => return None,
            UserEvent::UserErased(event) => event.user_id,
        };
        Some(user_id.to_string())
    }

    fn fold(state: Option<Customer>, event: UserEvent, _: &RecordedEvent) -> Result<Customer, String> {
        let customer = match event {
            UserEvent::UserRegistered(event) => {
                // null when the key is gone already: the erasure follows
                Customer { name: event.name.into_value(), email: event.email.into_value(), erased: false }
            }
            UserEvent::UserRenamed(event) => Customer { name: event.name.into_value(), ..begun(state)? },
            UserEvent::EmailChanged(event) => Customer { email: event.email.into_value(), ..begun(state)? },
            UserEvent::AddressChanged(_) => begun(state)?,
            UserEvent::UserErased(_) => Customer { name: None, email: None, erased: true },
        };
        Ok(customer)
    }

    fn erases(event: &UserEvent) -> bool {
        match event {
            UserEvent::UserErased(_) => true,
            UserEvent::UserRegistered(_)
            | UserEvent::UserRenamed(_)
            | UserEvent::EmailChanged(_)
            | UserEvent::AddressChanged(_) => false,
        }
    }
}

/// The product as the catalog knows it.
pub(crate) struct ProductFold;

impl Fold for ProductFold {
    type Event = ProductEvent;
    type State = ProductRow;
    const SOURCE: &'static str = catalog::SOURCE;

    fn key(event: &ProductEvent) -> Option<String> {
        let product_id: ProductId = match event {
            ProductEvent::ProductAdded(event) => event.product_id,
            ProductEvent::ProductRenamed(event) => event.product_id,
            // an order keeps the price it was placed at
            ProductEvent::PriceChanged(_) => return None,
            ProductEvent::ProductDiscontinued(event) => event.product_id,
        };
        Some(product_id.to_string())
    }

    fn fold(state: Option<ProductRow>, event: ProductEvent, _: &RecordedEvent) -> Result<ProductRow, String> {
        let product = match event {
            ProductEvent::ProductAdded(event) => ProductRow { sku: event.sku, name: event.name, discontinued: false },
            ProductEvent::ProductRenamed(event) => ProductRow { name: event.name, ..begun(state)? },
            ProductEvent::PriceChanged(_) => begun(state)?,
            ProductEvent::ProductDiscontinued(_) => ProductRow { discontinued: true, ..begun(state)? },
        };
        Ok(product)
    }
}
