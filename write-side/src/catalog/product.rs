//! A product: something the shop sells under a price.
//!
//! Why: name and price of a product have one owner; an order keeps what they were on its day. Invariants:
//! - one sku belongs to one product for ever (a claim of the log; a discontinued product keeps it);
//! - a product is added once; the same addition again changes nothing, another one under that id is refused;
//! - a discontinued product is not changed any more.

use cqrs_es::{Aggregate, event_sink::EventSink};
use event_store::{
    bus::{Domain, Refusal},
    log::{Claim, ClaimAction},
};
use events::{
    catalog::{PRODUCT, PriceChanged, ProductAdded, ProductDiscontinued, ProductEvent, ProductRenamed},
    ids::ProductId,
    money::Money,
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The claim under which skus are unique.
pub const SKU_CLAIM: &str = "sku";

/// What a product can be asked.
#[derive(Debug, Clone, PartialEq)]
pub enum ProductCommand {
    Add { product_id: ProductId, sku: String, name: String, unit_price: Money, external_ref: Option<String> },
    Rename { name: String },
    ChangePrice { unit_price: Money },
    Discontinue,
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ProductError {
    #[error("there is no such product")]
    NotFound,
    #[error("product {0} is there already, with other data")]
    Exists(ProductId),
    #[error("product {0} is discontinued")]
    Discontinued(ProductId),
}

/// Where a product stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub enum Product {
    #[default]
    Absent,
    Listed(Box<Listing>),
}

/// What is known of a product.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Listing {
    /// As it was at first: tells a repeated addition from another one, whatever has changed since.
    pub added: ProductAdded,
    pub name: String,
    pub unit_price: Money,
    pub discontinued: bool,
}

impl Product {
    /// What follows from `command` here. Nothing when it is already so.
    pub fn decide(&self, command: ProductCommand) -> Result<Vec<ProductEvent>, ProductError> {
        let listing = match (self, &command) {
            (Self::Listed(listing), _) => Some(listing),
            (Self::Absent, ProductCommand::Add { .. }) => None,
            (Self::Absent, _) => return Err(ProductError::NotFound),
        };
        match (command, listing) {
            (ProductCommand::Add { product_id, sku, name, unit_price, external_ref }, known) => {
                let added = ProductAdded { product_id, sku, name, unit_price, external_ref };
                match known {
                    None => Ok(vec![added.into()]),
                    Some(product) if product.added == added => Ok(vec![]),
                    Some(_) => Err(ProductError::Exists(product_id)),
                }
            }
            (ProductCommand::Discontinue, Some(product)) if !product.discontinued => {
                Ok(vec![ProductDiscontinued { product_id: product.id() }.into()])
            }
            (ProductCommand::Rename { .. } | ProductCommand::ChangePrice { .. }, Some(product))
                if product.discontinued =>
            {
                Err(ProductError::Discontinued(product.id()))
            }
            (ProductCommand::Rename { name }, Some(product)) if name != product.name => {
                Ok(vec![ProductRenamed { product_id: product.id(), name }.into()])
            }
            (ProductCommand::ChangePrice { unit_price }, Some(product)) if unit_price != product.unit_price => {
                Ok(vec![PriceChanged { product_id: product.id(), unit_price }.into()])
            }
            (ProductCommand::Rename { .. } | ProductCommand::ChangePrice { .. } | ProductCommand::Discontinue, _) => {
                Ok(vec![])
            }
        }
    }

    fn listing_mut(&mut self) -> Option<&mut Listing> {
        match self {
            Self::Listed(listing) => Some(listing),
            Self::Absent => None,
        }
    }
}

impl Listing {
    pub fn id(&self) -> ProductId {
        self.added.product_id
    }
}

impl Aggregate for Product {
    const TYPE: &'static str = PRODUCT;
    type Command = ProductCommand;
    type Event = ProductEvent;
    type Error = ProductError;
    type Services = ();

    async fn handle(&mut self, command: ProductCommand, (): &(), sink: &EventSink<Self>) -> Result<(), ProductError> {
        for event in self.decide(command)? {
            sink.write(event, self).await;
        }
        Ok(())
    }

    fn apply(&mut self, event: ProductEvent) {
        match event {
            ProductEvent::ProductAdded(added) => {
                let (name, unit_price) = (added.name.clone(), added.unit_price);
                *self = Self::Listed(Box::new(Listing { added, name, unit_price, discontinued: false }));
            }
            ProductEvent::ProductRenamed(renamed) => {
                if let Some(product) = self.listing_mut() {
                    product.name = renamed.name;
                }
            }
            ProductEvent::PriceChanged(changed) => {
                if let Some(product) = self.listing_mut() {
                    product.unit_price = changed.unit_price;
                }
            }
            ProductEvent::ProductDiscontinued(_) => {
                if let Some(product) = self.listing_mut() {
                    product.discontinued = true;
                }
            }
        }
    }
}

impl Domain for Product {
    fn claims(&self, event: &ProductEvent) -> Vec<Claim> {
        match event {
            ProductEvent::ProductAdded(added) => {
                vec![Claim { action: ClaimAction::Take, name: SKU_CLAIM.into(), value: added.sku.as_str().into() }]
            }
            ProductEvent::ProductRenamed(_) | ProductEvent::PriceChanged(_) | ProductEvent::ProductDiscontinued(_) => {
                vec![]
            }
        }
    }

    fn creates(command: &ProductCommand) -> bool {
        matches!(command, ProductCommand::Add { .. })
    }

    fn refusal(error: &ProductError) -> Refusal {
        let detail = error.to_string();
        match error {
            ProductError::NotFound => Refusal::new("product_not_found", detail),
            ProductError::Exists(product_id) => {
                Refusal::new("product_exists", detail).with("product_id", product_id.to_string())
            }
            ProductError::Discontinued(product_id) => {
                Refusal::new("product_discontinued", detail).with("product_id", product_id.to_string())
            }
        }
    }

    fn taken(claim: &Claim) -> Refusal {
        Refusal::new("sku_taken", "another product has this sku").with("sku", &*claim.value)
    }
}

#[cfg(test)]
mod tests {
    use events::money::Currency;
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    const ID: ProductId = ProductId(Uuid::from_u128(1));

    fn usd(amount_minor: i64) -> Money {
        Money::new(amount_minor, Currency::USD)
    }

    fn add(name: &str, price_minor: i64) -> ProductCommand {
        ProductCommand::Add {
            product_id: ID,
            sku: "CHAI".into(),
            name: name.into(),
            unit_price: usd(price_minor),
            external_ref: None,
        }
    }

    fn added() -> ProductEvent {
        let (sku, name) = ("CHAI".into(), "Chai".into());
        ProductAdded { product_id: ID, sku, name, unit_price: usd(1_800), external_ref: None }.into()
    }

    fn discontinued() -> ProductEvent {
        ProductDiscontinued { product_id: ID }.into()
    }

    fn folded(events: &[ProductEvent]) -> Product {
        let mut product = Product::default();
        events.iter().cloned().for_each(|event| product.apply(event));
        product
    }

    /// given these events, when this is asked, then this follows
    fn check(given: &[ProductEvent], when: ProductCommand, then: Result<Vec<ProductEvent>, ProductError>) {
        assert_eq!(folded(given).decide(when), then);
    }

    #[test]
    fn a_new_product_is_added_and_takes_its_sku() {
        check(&[], add("Chai", 1_800), Ok(vec![added()]));
        let sku = Claim { action: ClaimAction::Take, name: "sku".into(), value: "CHAI".into() };
        assert_eq!(folded(&[]).claims(&added()), [sku]);
        assert_eq!(folded(&[added()]).claims(&discontinued()), []);
    }

    #[test]
    fn the_same_addition_again_changes_nothing_and_another_is_refused() {
        let repriced: ProductEvent = PriceChanged { product_id: ID, unit_price: usd(2_000) }.into();
        check(&[added(), repriced, discontinued()], add("Chai", 1_800), Ok(vec![]));
        check(&[added()], add("Chai", 1_900), Err(ProductError::Exists(ID)));
    }

    #[test]
    fn name_and_price_change_once() {
        let renamed: ProductEvent = ProductRenamed { product_id: ID, name: "Tea".into() }.into();
        let repriced: ProductEvent = PriceChanged { product_id: ID, unit_price: usd(2_000) }.into();
        check(&[added()], ProductCommand::Rename { name: "Tea".into() }, Ok(vec![renamed.clone()]));
        check(&[added(), renamed], ProductCommand::Rename { name: "Tea".into() }, Ok(vec![]));
        check(&[added()], ProductCommand::ChangePrice { unit_price: usd(2_000) }, Ok(vec![repriced.clone()]));
        check(&[added(), repriced], ProductCommand::ChangePrice { unit_price: usd(2_000) }, Ok(vec![]));
    }

    #[test]
    fn a_discontinued_product_is_not_changed_any_more() {
        let given = [added(), discontinued()];
        check(&given[..1], ProductCommand::Discontinue, Ok(vec![discontinued()]));
        check(&given, ProductCommand::Discontinue, Ok(vec![]));
        check(&given, ProductCommand::Rename { name: "Tea".into() }, Err(ProductError::Discontinued(ID)));
        check(&given, ProductCommand::ChangePrice { unit_price: usd(1) }, Err(ProductError::Discontinued(ID)));
    }

    #[test]
    fn what_was_never_added_is_not_found() {
        check(&[], ProductCommand::Discontinue, Err(ProductError::NotFound));
        check(&[], ProductCommand::Rename { name: "Tea".into() }, Err(ProductError::NotFound));
    }

    fn any_command() -> impl Strategy<Value = ProductCommand> {
        let name = || prop_oneof![Just("Chai".to_owned()), Just("Tea".to_owned())];
        prop_oneof![
            (name(), 1_i64..3).prop_map(|(name, price_minor)| add(&name, price_minor)),
            name().prop_map(|name| ProductCommand::Rename { name }),
            (1_i64..3).prop_map(|minor| ProductCommand::ChangePrice { unit_price: usd(minor) }),
            Just(ProductCommand::Discontinue),
        ]
    }

    proptest! {
        #[test]
        fn the_right_events_are_written_when_due(history in proptest::collection::vec(any_command(), 0..8), command in any_command()) {
            let mut product = Product::default();
            for command in history {
                product.decide(command).into_iter().flatten().for_each(|event| product.apply(event));
            }
            let before = product.clone();
            let decision = product.decide(command.clone());
            decision.iter().flatten().cloned().for_each(|event| product.apply(event));
            // something is written when something changes, and nothing else is
            prop_assert_eq!(decision.iter().flatten().count(), usize::from(product != before));
            match (&before, &command, &decision) {
                (Product::Absent, ProductCommand::Add { .. }, Ok(_)) => prop_assert!(product.listing_mut().is_some()),
                (Product::Listed(_), ProductCommand::Add { .. }, Ok(_)) => prop_assert_eq!(&product, &before),
                (_, ProductCommand::Rename { name }, Ok(_)) => prop_assert_eq!(&product.listing_mut().unwrap().name, name),
                (_, ProductCommand::ChangePrice { unit_price }, Ok(_)) => prop_assert_eq!(&product.listing_mut().unwrap().unit_price, unit_price),
                (_, ProductCommand::Discontinue, Ok(_)) => prop_assert!(product.listing_mut().unwrap().discontinued),
                (Product::Listed(_), ProductCommand::Add { .. }, Err(ProductError::Exists(_))) => {}
                (Product::Listed(listing), _, Err(ProductError::Discontinued(_))) => prop_assert!(listing.discontinued),
                (Product::Absent, _, Err(ProductError::NotFound)) => {}
                other => prop_assert!(false, "{:?}", other),
            }
        }

        #[test]
        fn the_same_command_twice_writes_nothing_new(history in proptest::collection::vec(any_command(), 0..8), command in any_command()) {
            let mut product = Product::default();
            for command in history {
                product.decide(command).into_iter().flatten().for_each(|event| product.apply(event));
            }
            let first = product.decide(command.clone());
            first.iter().flatten().cloned().for_each(|event| product.apply(event));
            match first {
                Ok(_) => prop_assert_eq!(product.decide(command), Ok(vec![])),
                Err(refused) => prop_assert_eq!(product.decide(command), Err(refused)),
            }
        }
    }
}
