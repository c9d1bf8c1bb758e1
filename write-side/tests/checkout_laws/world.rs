//! A checkout, the services it asks, and everything between them that may be late, lost or there twice.

use chrono::TimeDelta;
use cqrs_es::Aggregate;
use events::{
    checkout::{CheckoutEvent, CheckoutLine, CheckoutStep, PlacedOrder},
    ids::{OrderId, ProductId, RefundId, UserId},
    money::{Currency, Money},
    orders::{OrderStatus, ReturnedLine},
    saga::{Decision, Effect, EffectId, Reply, Request, SagaEvent, Timer},
};
use proptest::sample::Index;
use uuid::Uuid;
use write_side::{
    checkout::{definition::Checkout, told::told},
    inventory::stock_item::{StockCommand, StockItem},
    orders::order::{Order, OrderCommand},
    payments::payment::{Payment, PaymentCommand, RefundStatus},
    saga::{Outcome, Saga, SagaCommand},
    shipping::shipment::{Shipment, ShipmentCommand, ShipmentStatus},
};

use super::participants::{Participants, SOURCES, now};

/// Far more than any order here takes to end.
const STEPS_MAX: usize = 2_000;

const BY_STAFF: &str = "a present of the house";

/// One thing that happens.
#[derive(Debug, Clone)]
pub enum Moment {
    /// A request arrives: one that is open, or one that has been on its way for long.
    Send(Index),
    /// An answer arrives, perhaps once more.
    Record(Index),
    /// A request that is open is refused, for no reason that anybody knows.
    Refuse(Index),
    /// The checkout hears the next event of a service.
    Tell(usize),
    /// The gateway does what it was asked, or says no.
    Gateway(bool),
    CustomerCancels,
    CustomerReturns {
        line: usize,
        quantity: u32,
    },
    Dispatch,
    Deliver,
    Lose,
    StaffCancelsShipment,
    StaffRefunds(i64),
    ReservationsExpire,
    AuthorizationExpires,
    Deadline,
}

type Asked = (EffectId, CheckoutStep, Request);

pub struct World {
    placed: PlacedOrder,
    received: Vec<u32>,
    others: Participants,
    saga: Saga<Checkout>,
    /// Every request there ever was.
    outbox: Vec<Asked>,
    /// Every answer that is on its way to the checkout, or was.
    answers: Vec<(EffectId, CheckoutStep, Reply)>,
    /// A step that gets no answer, and whether it is done all the same.
    held_back: Option<(CheckoutStep, bool)>,
    /// A step that is refused the next time.
    to_refuse: Option<CheckoutStep>,
    story: Vec<String>,
    /// What the checkout's log holds.
    pub log: Vec<CheckoutEvent>,
}

impl World {
    /// An order of lines of (product, pieces, price, discount, pieces there are).
    pub fn new(lines: &[(ProductId, u32, i64, u16, u32)]) -> Self {
        let line = |&(product_id, quantity, unit_minor, discount_bp, _): &(ProductId, u32, i64, u16, u32)| {
            CheckoutLine { product_id, quantity, unit_minor, discount_bp }
        };
        let placed = PlacedOrder {
            order_id: OrderId(Uuid::from_u128(100)),
            customer_id: UserId(Uuid::from_u128(200)),
            currency: Currency::EUR,
            lines: lines.iter().map(line).collect(),
            payment_method: Some("pm_approve".to_owned()),
        };
        let received: Vec<u32> = lines.iter().map(|line| line.4).collect();
        Self {
            others: Participants::new(&placed, &received),
            placed,
            received,
            saga: Saga::Absent,
            outbox: Vec::new(),
            answers: Vec::new(),
            held_back: None,
            to_refuse: None,
            story: Vec::new(),
            log: Vec::new(),
        }
    }

    pub fn note(&mut self, line: String) {
        self.story.push(line);
    }

    pub fn hold_back(&mut self, step: CheckoutStep, lands: bool) {
        self.held_back = Some((step, lands));
    }

    pub fn refuse_once(&mut self, step: CheckoutStep) {
        self.to_refuse = Some(step);
    }

    /// An operator's word about a step, if it is open.
    pub fn decide(&mut self, step: CheckoutStep, decision: Decision) {
        let is_open = self.saga.known().is_some_and(|it| it.open().any(|(open, _)| open == step));
        if is_open {
            self.note(format!("an operator says {decision} of {step}"));
            let (by, reason) = ("staff".to_owned(), "seen to".to_owned());
            self.tell(SagaCommand::Decide { step, decision, by, reason, at: now() });
        }
    }

    /// What an operator can decide about.
    pub fn waits_for(&self) -> Vec<CheckoutStep> {
        self.saga.known().map(|instance| instance.open().map(|(step, _)| step).collect()).unwrap_or_default()
    }

    /// A step that is open is done, and its answer is not heard.
    pub fn do_unanswered(&mut self, step: CheckoutStep) {
        let asked = self.open().into_iter().filter(|(_, open, _)| *open == step);
        for (effect, _, request) in asked.collect::<Vec<_>>() {
            self.others.answer(effect, &request);
        }
    }

    pub fn has_ended(&self) -> bool {
        self.saga.known().is_some_and(|instance| instance.outcome().is_some())
    }

    /// An older copy of the checkout's log and of its checkpoints is restored: it hears everything anew, and asks under keys that
    /// nobody has seen.
    pub fn forget_the_checkout(&mut self) {
        self.note("the checkout is restored from an older copy".to_owned());
        (self.saga, self.log) = (Saga::Absent, Vec::new());
        self.outbox.clear();
        self.answers.clear();
        self.others.tell_all_again();
    }

    /// How many events the other services have published.
    pub fn happenings(&self) -> usize {
        self.others.history.len()
    }

    /// A parcel has left whose pieces are to be had again.
    pub fn has_sent_what_it_kept(&self) -> bool {
        self.others.has_happened("ShipmentDispatched") && self.others.has_happened("StockReleased")
    }

    /// Every step that was ever asked for.
    pub fn asked(&self) -> Vec<CheckoutStep> {
        let mut asked: Vec<CheckoutStep> = self.outbox.iter().map(|(_, step, _)| *step).collect();
        asked.sort();
        asked.dedup();
        asked
    }

    pub fn live(&mut self, moment: &Moment) {
        self.note(format!("{moment:?}"));
        match moment {
            Moment::Send(at) if !self.outbox.is_empty() => {
                let asked = at.get(&self.outbox).clone();
                self.send(asked);
            }
            Moment::Record(at) if !self.answers.is_empty() => {
                let (effect, step, reply) = at.get(&self.answers).clone();
                self.tell(SagaCommand::Reply { step, effect, reply, at: now() });
            }
            Moment::Refuse(at) => {
                let open: Vec<Asked> = self.open();
                if !open.is_empty() {
                    let (effect, step, _) = at.get(&open).clone();
                    let reply = self.others.refuse(effect);
                    self.answers.push((effect, step, reply));
                }
            }
            Moment::Send(_) | Moment::Record(_) => {}
            Moment::Tell(source) => drop(self.hear(*source)),
            Moment::Gateway(kindly) => self.others.gateway(*kindly),
            Moment::CustomerCancels => {
                drop(self.others.ordered(OrderCommand::Cancel { reason: "changed my mind".to_owned() }));
            }
            Moment::CustomerReturns { line, quantity } => {
                let product_id = self.placed.lines[*line].product_id;
                let lines = Some(vec![ReturnedLine { product_id, quantity: *quantity }]);
                drop(self.others.ordered(OrderCommand::Return { lines }));
            }
            Moment::Dispatch => {
                let (carrier, tracking) = ("a carrier".to_owned(), "1".to_owned());
                drop(self.others.sent(ShipmentCommand::Dispatch { carrier, tracking, at: now() }));
            }
            Moment::Deliver => drop(self.others.sent(ShipmentCommand::Deliver { at: now() })),
            Moment::Lose => drop(self.others.sent(ShipmentCommand::Lose { reason: "gone".to_owned() })),
            Moment::StaffCancelsShipment => {
                if let Shipment::Known(shipment) = &self.others.shipment {
                    let (shipment_id, order_id) = (shipment.id(), self.placed.order_id);
                    let reason = "out of boxes".to_owned();
                    drop(self.others.sent(ShipmentCommand::Cancel { shipment_id, order_id, reason }));
                }
            }
            Moment::StaffRefunds(amount_minor) => {
                let refund_id = RefundId(Uuid::from_u128(self.story.len() as u128));
                let (amount, reason) = (Money::new(*amount_minor, Currency::EUR), BY_STAFF.to_owned());
                drop(self.others.paid(PaymentCommand::Refund { refund_id, amount, reason }));
            }
            Moment::ReservationsExpire => {
                for product_id in self.placed.lines.iter().map(|line| line.product_id).collect::<Vec<_>>() {
                    let tomorrow = now() + TimeDelta::days(1);
                    drop(self.others.stocked(product_id, StockCommand::Expire { now: tomorrow }));
                }
            }
            Moment::AuthorizationExpires => {
                drop(self.others.paid(PaymentCommand::Expire { now: now() + TimeDelta::days(8) }));
            }
            Moment::Deadline => {
                if let Some((effect, at)) = self.saga.known().and_then(|it| Some((it.deadline?, it.deadline_at))) {
                    self.tell(SagaCommand::Fire { effect, timer: Timer::Deadline, at });
                }
            }
        }
    }

    /// What the checkout waits for.
    fn open(&self) -> Vec<Asked> {
        let waits = |(effect, step, _): &&Asked| {
            self.saga.known().is_some_and(|instance| instance.waits_for(*step, *effect).is_some())
        };
        self.outbox.iter().filter(waits).cloned().collect()
    }

    fn send(&mut self, (effect, step, request): Asked) {
        let reply = self.others.answer(effect, &request);
        self.answers.push((effect, step, reply));
    }

    fn hear(&mut self, source: usize) -> bool {
        let Some(event) = self.others.untold[source].pop_front() else { return false };
        if let Some((ids, fact)) = told(SOURCES[source], &event).unwrap() {
            let at = now();
            self.tell(SagaCommand::Observe { ids, fact, at, deadline_at: at + TimeDelta::minutes(15) });
        }
        true
    }

    fn tell(&mut self, command: SagaCommand<Checkout>) {
        for event in self.saga.decide(command).unwrap() {
            self.log.push(event.clone().into());
            self.saga.apply(event.clone().into());
            let sequence = self.saga.known().unwrap().sequence;
            let effects = match event {
                SagaEvent::Started(started) => started.effects,
                SagaEvent::Advanced(advanced) => advanced.effects,
                SagaEvent::Decided(decided) => decided.effects,
                SagaEvent::Stuck(_) | SagaEvent::Completed(_) | SagaEvent::Compensated(_) => Vec::new(),
            };
            for (effect, index) in effects.into_iter().zip(0..) {
                if let Effect::Ask { step, request, .. } = effect {
                    self.story.push(format!("    asks {step}"));
                    self.outbox.push((EffectId { sequence, index }, step, request));
                }
            }
        }
    }

    /// One thing that is to happen when all goes well, if there is one.
    pub fn go_on(&mut self) -> bool {
        if (0..SOURCES.len()).any(|source| self.hear(source)) {
            return true;
        }
        if !self.others.intents.is_empty() {
            self.others.gateway(true);
            return true;
        }
        for (effect, step, request) in self.open() {
            if self.held_back.is_some_and(|(held, _)| held == step) {
                if self.held_back == Some((step, true)) {
                    let happened = self.others.history.len();
                    self.others.answer(effect, &request);
                    if self.others.history.len() > happened {
                        return true;
                    }
                }
                continue;
            }
            let reply = match self.to_refuse.take_if(|refused| *refused == step) {
                Some(_) => self.others.refuse(effect),
                None => self.others.answer(effect, &request),
            };
            self.tell(SagaCommand::Reply { step, effect, reply, at: now() });
            return true;
        }
        let Shipment::Known(shipment) = &self.others.shipment else { return false };
        match shipment.status {
            ShipmentStatus::Scheduled => self.live(&Moment::Dispatch),
            ShipmentStatus::Dispatched => self.live(&Moment::Deliver),
            ShipmentStatus::Delivered | ShipmentStatus::Cancelled | ShipmentStatus::Lost => return false,
        }
        true
    }

    /// From here on all goes well.
    #[track_caller]
    pub fn come_to_rest(&mut self) {
        let steps = (0..=STEPS_MAX).take_while(|_| self.go_on()).count();
        assert!(steps <= STEPS_MAX, "it does not come to rest\n{self}");
    }

    pub fn let_the_late_arrive(&mut self) {
        for (effect, step, request) in self.outbox.clone() {
            let reply = self.others.answer(effect, &request);
            self.tell(SagaCommand::Reply { step, effect, reply, at: now() });
        }
    }

    pub fn hold_nothing_back(&mut self) {
        self.held_back = None;
    }

    pub fn release_what_was_held_back(&mut self) {
        let Some((held, _)) = self.held_back.take() else { return };
        for (effect, step, request) in self.outbox.clone().into_iter().filter(|(_, step, _)| *step == held) {
            let reply = self.others.answer(effect, &request);
            self.tell(SagaCommand::Reply { step, effect, reply, at: now() });
        }
    }

    /// Tells the checkout once more whatever it was answered.
    pub fn repeat_all_answers(&mut self) {
        for (effect, step, request) in self.outbox.clone() {
            let is_open = self.saga.known().is_some_and(|it| it.waits_for(step, effect).is_some());
            if !is_open {
                let reply = self.others.answer(effect, &request);
                let before = self.saga.clone();
                self.tell(SagaCommand::Reply { step, effect, reply, at: now() });
                assert_eq!(self.saga, before, "{step} was answered twice\n{self}");
            }
        }
    }

    pub fn phase(&self) -> Option<&'static str> {
        self.saga.known().map(|instance| instance.phase())
    }

    pub fn gateway_is_asked(&self) -> bool {
        !self.others.intents.is_empty()
    }

    pub fn is_compensated(&self) -> bool {
        matches!(self.saga.known().and_then(|instance| instance.outcome()), Some(Outcome::Compensated { .. }))
    }

    pub fn captured_minor(&self) -> i64 {
        self.others.minor("PaymentCaptured")
    }

    /// ARCHITECTURE: every saga ends; nothing is held; what was taken and not paid back is the price of what was kept,
    /// less goodwill.
    #[track_caller]
    pub fn check_laws(&self) {
        let instance = self.saga.known().unwrap_or_else(|| panic!("it never began\n{self}"));
        let outcome = instance.outcome().unwrap_or_else(|| panic!("it has no end\n{self}"));
        let (kept_minor, shipped) = self.check_stock();
        let paid_minor = self.check_payment();
        let Order::Known(order) = &self.others.order else { panic!("the order is gone\n{self}") };
        match outcome {
            Outcome::Compensated { .. } => {
                assert_eq!((shipped, paid_minor), (0, 0), "undone means undone\n{self}");
                // an order that was confirmed although that was skipped is given back, and its parcel kept from leaving
                let is_kept = self.others.has_happened("ShipmentWithdrawn");
                let ends = order.status == OrderStatus::Cancelled || (order.status == OrderStatus::Returned && is_kept);
                assert!(ends, "an order that is undone is {}\n{self}", order.status);
            }
            Outcome::Completed => {
                let is_lost = self.others.has_happened("ShipmentLost");
                let ends = match order.status {
                    OrderStatus::Delivered | OrderStatus::Returned => true,
                    OrderStatus::Shipped => is_lost,
                    OrderStatus::Pending | OrderStatus::Confirmed | OrderStatus::Cancelled => false,
                };
                assert!(ends, "a completed order is {}\n{self}", order.status);
                let kept_minor = if is_lost { 0 } else { kept_minor };
                let refused = ["CaptureFailed", "PaymentExpired"].iter().any(|event| self.others.has_happened(event));
                let is_written_off = refused && self.captured_minor() == 0;
                if is_written_off {
                    assert_eq!(paid_minor, 0, "{self}");
                } else {
                    assert_eq!(paid_minor, (kept_minor - self.goodwill_minor()).max(0), "{self}");
                }
            }
        }
    }

    /// What the customer keeps costs, and how many pieces left the house.
    #[track_caller]
    fn check_stock(&self) -> (i64, u64) {
        let Order::Known(order) = &self.others.order else { panic!("the order is gone\n{self}") };
        let (mut kept_minor, mut all_shipped) = (0, 0);
        for ((n, line), received) in (0..).zip(&self.placed.lines).zip(&self.received) {
            let pieces = |event_type| self.others.pieces(event_type, n);
            let (reserved, shipped) = (pieces("StockReserved"), pieces("StockShipped"));
            let gone = shipped + pieces("StockReleased") + pieces("ReservationExpired");
            assert_eq!(reserved, gone, "reserved = shipped + released + expired at rest, of line {n}\n{self}");
            let Some(StockItem::Known(stock)) = self.others.stock.get(&line.product_id) else {
                panic!("the stock is gone\n{self}")
            };
            assert_eq!(stock.held, 0, "nothing is held at rest, of line {n}\n{self}");
            assert_eq!(stock.on_hand + shipped, u64::from(*received), "no piece is lost\n{self}");
            let returned = u64::from(order.returned.get(&line.product_id).copied().unwrap_or_default());
            let kept = u32::try_from(shipped.saturating_sub(returned)).unwrap();
            kept_minor += line.price_minor(kept).unwrap();
            all_shipped += shipped;
        }
        (kept_minor, all_shipped)
    }

    /// What was taken and not paid back.
    #[track_caller]
    fn check_payment(&self) -> i64 {
        let Payment::Known(payment) = &self.others.payment else { return 0 };
        assert_eq!(payment.held_minor(), 0, "authorized = captured + voided + expired at rest\n{self}");
        assert!(!payment.voiding && payment.capturing_minor.is_none(), "nothing is under way\n{self}");
        assert!(payment.refunds.values().all(|refund| refund.status != RefundStatus::Requested), "{self}");
        assert!(payment.refunded_minor <= payment.captured_minor, "{self}");
        payment.captured_minor - payment.refunded_minor
    }

    fn goodwill_minor(&self) -> i64 {
        let Payment::Known(payment) = &self.others.payment else { return 0 };
        let by_staff = payment
            .refunds
            .values()
            .filter(|refund| refund.reason == BY_STAFF && refund.status == RefundStatus::Refunded);
        by_staff.map(|refund| refund.amount_minor).sum()
    }
}

impl std::fmt::Display for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{}", self.story.join("\n"))?;
        for event in &self.others.history {
            writeln!(f, "{} {}", event.event_type, event.payload)?;
        }
        writeln!(f, "{:?}, {:?}, {:?}", self.others.order, self.others.payment, self.others.shipment)?;
        match self.saga.known() {
            Some(instance) => writeln!(f, "{:#}", instance.view()),
            None => writeln!(f, "no checkout"),
        }
    }
}
