//! What is ordered, and what is to become of it. The same for the same seed.
#![allow(dead_code, reason = "every test uses its own part of this")]

use std::fmt;

use events::ids::OrderId;
use serde_json::{Value, json};
use uuid::Uuid;

/// Products that there are plenty of.
const PRODUCTS: u64 = 7;
const CUSTOMERS: u64 = 5;

/// What is to become of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    Delivered,
    Declined,
    /// Its second line wants more pieces than there ever were.
    OutOfStock,
    /// The gateway answers the second time.
    GatewayLate,
    /// The gateway never answers.
    GatewaySilent,
    /// Before or behind the pivot, as it comes.
    CancelledAtOnce,
    /// Behind the pivot, before it is sent.
    CancelledOnceConfirmed,
    ReturnedInPart,
    Returned,
    Lost,
}

impl Fate {
    pub const ALL: [Self; 10] = [
        Self::Delivered,
        Self::Declined,
        Self::OutOfStock,
        Self::GatewayLate,
        Self::GatewaySilent,
        Self::CancelledAtOnce,
        Self::CancelledOnceConfirmed,
        Self::ReturnedInPart,
        Self::Returned,
        Self::Lost,
    ];

    /// Of the order with this number of a hundred: 20 % are declined, 10 % out of stock, for 5 % the gateway is silent.
    fn of(number: u64) -> Self {
        match number {
            0..20 => Self::Declined,
            20..30 => Self::OutOfStock,
            30..33 => Self::GatewayLate,
            33..35 => Self::GatewaySilent,
            35..41 => Self::CancelledAtOnce,
            41..47 => Self::CancelledOnceConfirmed,
            47..52 => Self::ReturnedInPart,
            52..55 => Self::Returned,
            55..60 => Self::Lost,
            _ => Self::Delivered,
        }
    }

    fn payment_method(self) -> &'static str {
        match self {
            Self::Declined => "pm_decline",
            Self::GatewayLate => "pm_timeout_then_approve",
            Self::GatewaySilent => "pm_timeout",
            Self::Delivered
            | Self::OutOfStock
            | Self::CancelledAtOnce
            | Self::CancelledOnceConfirmed
            | Self::ReturnedInPart
            | Self::Returned
            | Self::Lost => "pm_approve",
        }
    }
}

/// An order to be placed.
#[derive(Debug, Clone)]
pub struct Order {
    pub id: OrderId,
    pub fate: Fate,
    customer: Uuid,
    lines: [(Uuid, u32, u16); 2],
}

impl Order {
    pub fn body(&self) -> Value {
        let lines = self.lines.map(|(product_id, quantity, discount_bp)| {
            json!({ "product_id": product_id, "quantity": quantity, "discount_bp": discount_bp })
        });
        let method = self.fate.payment_method();
        json!({ "id": self.id, "customer_id": self.customer, "lines": lines, "payment_method": method })
    }

    /// One piece of its first line.
    pub fn one_piece(&self) -> Value {
        json!({ "lines": [{ "product_id": self.lines[0].0, "quantity": 1 }] })
    }
}

pub struct Plan {
    pub seed: u64,
    pub customers: Vec<Uuid>,
    pub products: Vec<Uuid>,
    pub orders: Vec<Order>,
}

impl Plan {
    /// A mixture of all fates.
    pub fn mixed(orders: u64, seed: u64) -> Self {
        // 37 and 100 have no common factor: every hundred orders have the same mixture, in an order of the seed's
        let fates = (0..orders).map(|n| Fate::of((n * 37 + seed % 100) % 100));
        Self::of(fates, seed)
    }

    /// One order of each.
    pub fn of(fates: impl IntoIterator<Item = Fate>, seed: u64) -> Self {
        let id = |name: String| Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("{seed} {name}").as_bytes());
        let customers: Vec<Uuid> = (0..CUSTOMERS).map(|n| id(format!("customer {n}"))).collect();
        let products: Vec<Uuid> = (0..PRODUCTS).map(|n| id(format!("product {n}"))).collect();
        let order = |(n, fate): (usize, Fate)| {
            let product = |n: usize| products[n % products.len()];
            let wanted = if fate == Fate::OutOfStock { 900_000 } else { 1 };
            let lines = [(product(n), 2 + n as u32 % 3, 0), (product(n + 1), wanted, 1_250)];
            Order { id: OrderId(id(format!("order {n}"))), fate, customer: customers[n % customers.len()], lines }
        };
        let orders = fates.into_iter().enumerate().map(order).collect();
        Self { seed, customers, products, orders }
    }

    /// Commands that must be done before anything can be ordered: address and body.
    pub fn prelude(&self) -> Vec<(String, Value)> {
        let address =
            json!({ "street": "Obere Str. 57", "city": "Berlin", "postal_code": "12209", "country": "Germany" });
        let customers = self.customers.iter().map(|id| {
            let email = format!("{id}@example.com");
            ("/users".to_owned(), json!({ "id": id, "name": "Ada", "email": email, "address": address }))
        });
        let products = self.products.iter().zip(0..).flat_map(|(id, n)| {
            let unit_price = json!({ "amount_minor": 995 + 101 * n, "currency": "EUR" });
            let product = json!({ "id": id, "sku": id, "name": format!("Product {n}"), "unit_price": unit_price });
            let received = (format!("/stock/{id}/receive"), json!({ "quantity": 100_000 }));
            [("/products".to_owned(), product), received]
        });
        customers.chain(products).collect()
    }
}

/// Numbers from a seed.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} orders; repeat with TRIBUTARY_SEED={}", self.orders.len(), self.seed)
    }
}
