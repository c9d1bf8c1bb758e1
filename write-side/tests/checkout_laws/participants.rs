//! The services that a checkout asks, as far as they decide: their own aggregates, each request run on them as their HTTP
//! surfaces would.

use std::{
    collections::{BTreeMap, VecDeque},
    num::NonZeroU32,
};

use chrono::{DateTime, TimeDelta, Utc};
use cqrs_es::DomainEvent;
use event_store::bus::Domain;
use events::{
    checkout::PlacedOrder,
    envelope::{RecordedEvent, StreamId},
    ids::{OrderId, PaymentId, ProductId, ShipmentId, UserId},
    inventory, orders, payments,
    payments::{AuthorizationRequested, PaymentEvent},
    personal::Personal,
    saga::{EffectId, Reply, Request},
    shipping,
    shipping::{ShipmentLine, ShipmentScheduled},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use uuid::Uuid;
use write_side::{
    inventory::{
        reservations::ReservationId,
        stock_item::{StockCommand, StockItem},
    },
    orders::order::{Customer, Offer, Order, OrderCommand, PlaceOrder, WantedLine},
    payments::payment::{Payment, PaymentCommand, Settlement},
    shipping::shipment::{Shipment, ShipmentCommand},
};

pub const SOURCES: [&str; 4] = [inventory::SOURCE, orders::SOURCE, payments::SOURCE, shipping::SOURCE];

pub struct Participants {
    pub order: Order,
    pub payment: Payment,
    pub shipment: Shipment,
    pub stock: BTreeMap<ProductId, StockItem>,
    /// What the checkout has not been told yet, in the order of [`SOURCES`].
    pub untold: [VecDeque<RecordedEvent>; 4],
    /// Everything that ever happened.
    pub history: Vec<RecordedEvent>,
    /// What the gateway is to do.
    pub intents: VecDeque<PaymentEvent>,
    /// By key: what was answered once is answered so again.
    answers: BTreeMap<EffectId, Reply>,
}

pub fn now() -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::days(20_000)
}

/// A stored event as a feed shows it.
fn recorded(source: &str, id: Uuid, event: &impl DomainEvent) -> RecordedEvent {
    RecordedEvent {
        position: 1,
        event_id: Uuid::nil(),
        stream: StreamId::new(source, id.to_string()),
        sequence: 1,
        event_type: event.event_type().into(),
        event_version: event.event_version().into(),
        payload: serde_json::to_string(event).unwrap(),
        metadata: "{}".to_owned(),
        recorded_at: now(),
    }
}

/// A member of a request's body.
fn member<T: DeserializeOwned>(request: &Request, name: &str) -> T {
    serde_json::from_value(request.body[name].clone()).unwrap_or_else(|error| panic!("{name} of {request:?}: {error}"))
}

impl Participants {
    /// Stock as given, and an order that was just placed.
    pub fn new(placed: &PlacedOrder, stock: &[u32]) -> Self {
        let mut this = Self {
            order: Order::default(),
            payment: Payment::default(),
            shipment: Shipment::default(),
            stock: BTreeMap::new(),
            untold: Default::default(),
            history: Vec::new(),
            intents: VecDeque::new(),
            answers: BTreeMap::new(),
        };
        for (line, pieces) in placed.lines.iter().zip(stock) {
            let quantity = NonZeroU32::new(*pieces).unwrap();
            let received = StockCommand::Receive { product_id: line.product_id, quantity };
            this.stocked(line.product_id, received);
        }
        let lines = placed.lines.iter().map(|line| WantedLine {
            product_id: line.product_id,
            quantity: line.quantity,
            discount_bp: line.discount_bp,
            offer: Some(Offer {
                name: "a product".into(),
                unit_price: events::money::Money::new(line.unit_minor, placed.currency),
                discontinued: false,
            }),
        });
        let place = OrderCommand::Place(PlaceOrder {
            order_id: placed.order_id,
            customer_id: placed.customer_id,
            customer: Customer::Active,
            lines: lines.collect(),
            placed_at: now(),
            payment_method: placed.payment_method.clone(),
            external_ref: None,
        });
        assert!(matches!(this.ordered(place), Reply::Accepted { .. }));
        this
    }

    /// The answer to a request, under its key.
    pub fn answer(&mut self, key: EffectId, request: &Request) -> Reply {
        if let Some(answered) = self.answers.get(&key) {
            return answered.clone();
        }
        let reply = match &*request.service {
            inventory::SOURCE => self.inventory(request),
            orders::SOURCE => self.orders(request),
            payments::SOURCE => self.payments(request),
            shipping::SOURCE => self.shipping(request),
            stranger => panic!("there is no {stranger}"),
        };
        // an answer says more than the saga wants to keep
        let reply = match reply {
            Reply::Accepted { .. } if request.keep.is_none() => Reply::Accepted { report: None },
            reply => reply,
        };
        self.answers.insert(key, reply.clone());
        reply
    }

    /// Publishes everything once more, and knows none of the keys that come.
    pub fn tell_all_again(&mut self) {
        self.answers.clear();
        for (untold, source) in self.untold.iter_mut().zip(SOURCES) {
            let of_source = self.history.iter().filter(|event| *event.stream.aggregate_type == *source);
            *untold = of_source.cloned().collect();
        }
    }

    /// Refuses a request, whatever it is, unless it is answered.
    pub fn refuse(&mut self, key: EffectId) -> Reply {
        let refused = Reply::Refused { code: "no_such_luck".to_owned(), detail: String::new() };
        self.answers.entry(key).or_insert(refused).clone()
    }

    fn inventory(&mut self, request: &Request) -> Reply {
        let (product_id, what) = parts(request, "/stock/");
        let product_id = ProductId(product_id);
        let id = ReservationId { order_id: member(request, "order_id"), line: member(request, "line") };
        let command = match what {
            "reserve" => StockCommand::Reserve {
                product_id,
                id,
                quantity: member(request, "quantity"),
                expires_at: now() + TimeDelta::seconds(member(request, "hold_seconds")),
            },
            "confirm" => StockCommand::Confirm { id },
            "ship" => StockCommand::Ship { id },
            "release" => StockCommand::Release { product_id, id },
            stranger => panic!("inventory has no {stranger}"),
        };
        self.stocked(product_id, command)
    }

    fn orders(&mut self, request: &Request) -> Reply {
        let (_, what) = parts(request, "/orders/");
        self.ordered(match what {
            "confirm" => OrderCommand::Confirm,
            "reject" => OrderCommand::Reject { reason: member(request, "reason") },
            "ship" => OrderCommand::MarkShipped { shipped_at: now() },
            "deliver" => OrderCommand::MarkDelivered { delivered_at: now() },
            "return" => OrderCommand::Return { lines: None },
            stranger => panic!("orders have no {stranger}"),
        })
    }

    fn payments(&mut self, request: &Request) -> Reply {
        if request.path == "/payments" {
            return self.paid(PaymentCommand::Authorize(AuthorizationRequested {
                payment_id: member(request, "id"),
                order_id: member(request, "order_id"),
                amount: member(request, "amount"),
                payment_method: member(request, "method"),
                requested_at: now(),
            }));
        }
        let (id, what) = parts(request, "/payments/");
        self.paid(match what {
            "capture" => PaymentCommand::Capture { amount: Some(member(request, "amount")) },
            "void" => PaymentCommand::Void { payment_id: PaymentId(id), order_id: Some(member(request, "order_id")) },
            "refund" => {
                assert!(request.any_version, "a refund wants to know a version");
                PaymentCommand::Refund {
                    refund_id: member(request, "id"),
                    amount: member(request, "amount"),
                    reason: member(request, "reason"),
                }
            }
            stranger => panic!("payments have no {stranger}"),
        })
    }

    fn shipping(&mut self, request: &Request) -> Reply {
        if request.path == "/shipments" {
            let customer_id: UserId = member(request, "customer_id");
            let lines: Vec<ShipmentLine> = member(request, "lines");
            let wanted = ShipmentScheduled {
                shipment_id: member(request, "id"),
                order_id: member(request, "order_id"),
                customer_id,
                lines,
                address: Personal::erased(customer_id),
            };
            return self.sent(ShipmentCommand::Schedule { wanted, names_address: false });
        }
        let (id, what) = parts(request, "/shipments/");
        assert_eq!(what, "cancel");
        let order_id: OrderId = member(request, "order_id");
        let reason = member(request, "reason");
        self.sent(ShipmentCommand::Cancel { shipment_id: ShipmentId(id), order_id, reason })
    }

    pub fn stocked(&mut self, product_id: ProductId, command: StockCommand) -> Reply {
        let mut item = self.stock.remove(&product_id).unwrap_or_default();
        let reply = self.run(0, product_id.0, &mut item, command, StockItem::decide);
        self.stock.insert(product_id, item);
        reply
    }

    pub fn ordered(&mut self, command: OrderCommand) -> Reply {
        let mut order = std::mem::take(&mut self.order);
        let reply = self.run(1, Uuid::nil(), &mut order, command, Order::decide);
        self.order = order;
        reply
    }

    pub fn paid(&mut self, command: PaymentCommand) -> Reply {
        let mut payment = std::mem::take(&mut self.payment);
        let known = self.history.len();
        let reply = self.run(2, Uuid::nil(), &mut payment, command, Payment::decide);
        self.payment = payment;
        let happened = self.history[known..].iter();
        let happened = happened.map(|event| serde_json::from_str::<PaymentEvent>(&event.payload).unwrap());
        let is_intent = |event: &PaymentEvent| {
            matches!(
                event,
                PaymentEvent::AuthorizationRequested(_)
                    | PaymentEvent::CaptureRequested(_)
                    | PaymentEvent::VoidRequested(_)
                    | PaymentEvent::RefundRequested(_)
            )
        };
        self.intents.extend(happened.filter(is_intent));
        reply
    }

    pub fn sent(&mut self, command: ShipmentCommand) -> Reply {
        let mut shipment = std::mem::take(&mut self.shipment);
        let reply = self.run(3, Uuid::nil(), &mut shipment, command, Shipment::decide);
        self.shipment = shipment;
        reply
    }

    /// Decides, takes note, publishes and answers.
    fn run<A: Domain>(
        &mut self,
        source: usize,
        id: Uuid,
        state: &mut A,
        command: A::Command,
        decide: impl Fn(&A, A::Command) -> Result<Vec<A::Event>, A::Error>,
    ) -> Reply {
        match decide(state, command.clone()) {
            Ok(events) => {
                for event in events {
                    let recorded = recorded(SOURCES[source], id, &event);
                    self.untold[source].push_back(recorded.clone());
                    self.history.push(recorded);
                    state.apply(event);
                }
                let report = state.report(&command).and_then(|report| report.get("reservation").cloned());
                Reply::Accepted { report: Some(report.unwrap_or_else(|| json!(id))) }
            }
            Err(error) => Reply::Refused { code: A::refusal(&error).code.into_owned(), detail: error.to_string() },
        }
    }

    /// The gateway does what it was asked first; `kindly`, or not if it may say no.
    pub fn gateway(&mut self, kindly: bool) {
        let Some(intent) = self.intents.pop_front() else { return };
        let settlement = match intent {
            PaymentEvent::AuthorizationRequested(_) if kindly => {
                let expires_at = now() + TimeDelta::days(7);
                Settlement::Authorized { gateway_reference: "held".to_owned(), expires_at }
            }
            PaymentEvent::AuthorizationRequested(_) => Settlement::Unanswered,
            PaymentEvent::CaptureRequested(_) if kindly => Settlement::Captured,
            PaymentEvent::CaptureRequested(_) => Settlement::CaptureFailed { reason: "no".to_owned() },
            PaymentEvent::RefundRequested(refund) if kindly => Settlement::Refunded { refund_id: refund.refund_id },
            PaymentEvent::RefundRequested(refund) => {
                Settlement::RefundFailed { refund_id: refund.refund_id, reason: "no".to_owned() }
            }
            PaymentEvent::VoidRequested(_) => Settlement::Voided,
            other => panic!("{other:?} asks for nothing"),
        };
        self.paid(PaymentCommand::Settle(settlement));
    }

    /// How many pieces events of one type were about, by line.
    pub fn pieces(&self, event_type: &str, line: u64) -> u64 {
        let events = self.history.iter().filter(|event| *event.event_type == *event_type);
        let payloads = events.map(|event| serde_json::from_str::<Value>(&event.payload).unwrap());
        payloads.filter(|event| event["line"] == line).map(|event| event["quantity"].as_u64().unwrap()).sum()
    }

    /// How much money events of one type were about.
    pub fn minor(&self, event_type: &str) -> i64 {
        let events = self.history.iter().filter(|event| *event.event_type == *event_type);
        let payloads = events.map(|event| serde_json::from_str::<Value>(&event.payload).unwrap());
        payloads.map(|event| event["amount"]["amount_minor"].as_i64().unwrap()).sum()
    }

    pub fn has_happened(&self, event_type: &str) -> bool {
        self.history.iter().any(|event| *event.event_type == *event_type)
    }
}

/// The id and the verb of an address.
fn parts<'a>(request: &'a Request, before: &str) -> (Uuid, &'a str) {
    let rest = request.path.strip_prefix(before).unwrap_or_else(|| panic!("{request:?}"));
    let (id, what) = rest.split_once('/').unwrap_or_else(|| panic!("{request:?}"));
    (id.parse().unwrap(), what)
}
