//! What a checkout is told and asks for in the tests of its definition: given, when and then.

use CheckoutStep::{Authorize, Capture, Refund, Reserve, Void};
use events::{
    checkout::{CheckoutFact, CheckoutIds, CheckoutLine, CheckoutStep, PlacedOrder, Setback},
    ids::{OrderId, ProductId, UserId},
    money::Currency,
    saga::{Decision, Input, Reply, Request, Timer},
};
use serde_json::json;
use uuid::Uuid;

use super::definition::{Checkout, Phase};
use crate::saga::{
    Definition, Instance, Outcome, Saga, SagaCommand,
    explore::{after, begun},
    instance::Status,
};

pub const ORDER: OrderId = OrderId(Uuid::from_u128(3));
pub const CHAI: ProductId = ProductId(Uuid::from_u128(11));
pub const TEA: ProductId = ProductId(Uuid::from_u128(12));

pub fn ids() -> CheckoutIds {
    CheckoutIds { order_id: ORDER, customer_id: Some(UserId(Uuid::from_u128(1))) }
}

/// Two of one product at 18.00, three of another at 9.00 with 10 % off: 36.00 + 24.30.
pub fn order() -> PlacedOrder {
    let line =
        |product_id, quantity, unit_minor, discount_bp| CheckoutLine { product_id, quantity, unit_minor, discount_bp };
    PlacedOrder {
        order_id: ORDER,
        customer_id: UserId(Uuid::from_u128(1)),
        currency: Currency::USD,
        lines: vec![line(CHAI, 2, 1_800, 0), line(TEA, 3, 900, 1_000)],
        payment_method: Some("pm_approve".to_owned()),
    }
}

/// A checkout, and what the last piece of news made it ask for.
pub struct Told {
    pub saga: Saga<Checkout>,
    pub asked: Vec<(CheckoutStep, Request)>,
}

pub fn given(order: PlacedOrder) -> Told {
    let saga = begun::<Checkout>(&ids(), &CheckoutFact::OrderPlaced(order));
    let asked = open(&saga, |_| true);
    Told { saga, asked }
}

pub fn open(saga: &Saga<Checkout>, is_new: impl Fn(&CheckoutStep) -> bool) -> Vec<(CheckoutStep, Request)> {
    let instance = saga.known().expect("it has begun");
    let steps = instance.open().map(|(step, _)| step).filter(is_new);
    steps.map(|step| (step, Checkout::request(instance.version, &instance.state, step))).collect()
}

impl Told {
    pub fn instance(&self) -> &Instance<Checkout> {
        self.saga.known().expect("it has begun")
    }

    pub fn then(self, input: Input<CheckoutStep, CheckoutFact>) -> Self {
        let next = after(&self.saga, &input);
        let before = self.instance().steps.clone();
        let asked = open(&next, |step| {
            let now = next.known().expect("it has begun").steps[step].effect;
            before.get(step).is_none_or(|asked| asked.effect != now)
        });
        Self { saga: next, asked }
    }

    pub fn fact(self, fact: CheckoutFact) -> Self {
        self.then(Input::Observed { fact })
    }

    #[track_caller]
    pub fn reply(self, step: CheckoutStep, reply: Reply) -> Self {
        let asked = self.instance().steps.get(&step).unwrap_or_else(|| panic!("{step} was not asked for"));
        assert_eq!(asked.status, Status::Open, "{step} is answered already");
        let effect = asked.effect;
        self.then(Input::Replied { effect, step, reply })
    }

    #[track_caller]
    pub fn accepted(self, steps: impl IntoIterator<Item = CheckoutStep>) -> Self {
        steps.into_iter().fold(self, |told, step| {
            let report = match step {
                Reserve(_) => Some(json!({ "status": "RESERVED" })),
                Authorize | Capture | Void | Refund(_) => Some(json!("an id")),
                _ => None,
            };
            told.reply(step, Reply::Accepted { report })
        })
    }

    #[track_caller]
    pub fn rejected(self, line: u32) -> Self {
        let report = Some(json!({ "status": "REJECTED", "quantity": 2, "available": 1 }));
        self.reply(Reserve(line), Reply::Accepted { report })
    }

    #[track_caller]
    pub fn refused(self, step: CheckoutStep, code: &str) -> Self {
        self.reply(step, Reply::Refused { code: code.to_owned(), detail: String::new() })
    }

    pub fn deadline(self) -> Self {
        let effect = self.instance().deadline.expect("it has not fired");
        self.then(Input::TimerFired { effect, timer: Timer::Deadline })
    }

    /// An operator's word.
    pub fn decided(self, step: CheckoutStep, decision: Decision) -> Self {
        let (by, reason) = ("staff".to_owned(), "seen to".to_owned());
        let at = chrono::DateTime::UNIX_EPOCH;
        let events = self.saga.decide(SagaCommand::Decide { step, decision, by, reason, at }).expect("it is open");
        let mut saga = self.saga;
        for event in events {
            cqrs_es::Aggregate::apply(&mut saga, event.into());
        }
        Self { asked: Vec::new(), saga }
    }

    #[track_caller]
    pub fn asks<const N: usize>(self, steps: [CheckoutStep; N]) -> Self {
        let mut asked: Vec<CheckoutStep> = self.asked.iter().map(|(step, _)| *step).collect();
        let mut steps = steps.to_vec();
        asked.sort();
        steps.sort();
        assert_eq!(asked, steps, "in {}", self.instance().phase());
        self
    }

    #[track_caller]
    pub fn is(self, phase: Phase) -> Self {
        assert_eq!(self.instance().phase(), phase.as_str());
        self
    }

    #[track_caller]
    pub fn ends(self, outcome: Outcome) -> Self {
        assert_eq!(self.instance().outcome(), Some(outcome), "{:#?}", self.instance().state);
        self
    }

    #[track_caller]
    pub fn compensated(self, setback: Setback) {
        self.ends(Outcome::Compensated { reason: setback.to_string() });
    }

    pub fn asked_amount(&self, step: CheckoutStep) -> i64 {
        let (_, request) = self.asked.iter().find(|(asked, _)| *asked == step).expect("it was asked for");
        request.body["amount"]["amount_minor"].as_i64().expect("an amount")
    }
}
