//! Sagas: which there are, and how they end.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use events::{
    checkout::{CheckoutEvent, CheckoutFact, CheckoutIds, CheckoutStep},
    ids::{OrderId, PaymentId, RefundId, ShipmentId},
    saga::{Decision, Effect, SagaEvent},
};
use uuid::Uuid;

use super::{Breaches, Law};

type Happened = SagaEvent<CheckoutIds, CheckoutStep, CheckoutFact>;

#[derive(Debug, Default)]
pub struct Sagas {
    pub known: BTreeMap<OrderId, KnownSaga>,
}

#[derive(Debug)]
pub struct KnownSaga {
    saga_id: Uuid,
    pub phase: String,
    /// Its end, unless something has woken it up since.
    pub end: Option<End>,
    /// Those that it asked for.
    pub refunds: BTreeSet<RefundId>,
    /// An operator has ended a step, whether or not it was done.
    pub is_by_hand: bool,
}

/// How a saga ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    Completed,
    Compensated { reason: String },
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Completed => f.write_str("completed"),
            Self::Compensated { reason } => write!(f, "compensated: {reason}"),
        }
    }
}

impl KnownSaga {
    /// The payment that it asks for.
    pub fn payment_id(&self) -> PaymentId {
        PaymentId(Uuid::new_v5(&self.saga_id, b"payment"))
    }

    /// The shipment that it asks for.
    pub fn shipment_id(&self) -> ShipmentId {
        ShipmentId(Uuid::new_v5(&self.saga_id, b"shipment"))
    }

    /// Something has happened; an end follows if it still is, or is now, at its end.
    fn goes_on(&mut self, phase: &str, effects: &[Effect<CheckoutStep>]) {
        let is_at_its_end = matches!(phase, "COMPLETED" | "COMPENSATED");
        if !is_at_its_end || !effects.is_empty() {
            self.end = None;
        }
        phase.clone_into(&mut self.phase);
        for effect in effects {
            if let Effect::Ask { step: CheckoutStep::Refund(_), request, .. } = effect {
                self.refunds.extend(request.body["id"].as_str().and_then(|id| id.parse().ok()).map(RefundId));
            }
        }
    }
}

impl Sagas {
    pub fn enter(&mut self, event: CheckoutEvent, breaches: &mut Breaches) {
        let happened: Happened = event.into();
        let (order_id, saga_id) = match &happened {
            SagaEvent::Started(event) => (event.ids.order_id, event.saga_id),
            SagaEvent::Advanced(event) => (event.ids.order_id, event.saga_id),
            SagaEvent::Stuck(event) => (event.ids.order_id, event.saga_id),
            SagaEvent::Decided(event) => (event.ids.order_id, event.saga_id),
            SagaEvent::Completed(event) => (event.ids.order_id, event.saga_id),
            SagaEvent::Compensated(event) => (event.ids.order_id, event.saga_id),
        };
        if let SagaEvent::Started(started) = &happened {
            let (phase, refunds) = Default::default();
            let mut saga = KnownSaga { saga_id, phase, end: None, refunds, is_by_hand: false };
            saga.goes_on(&started.phase, &started.effects);
            let before = self.known.insert(order_id, saga);
            return breaches.check(before.is_none(), Law::OneSagaEach, order_id, || "it has two".to_owned());
        }
        let Some(saga) = self.known.get_mut(&order_id).filter(|saga| saga.saga_id == saga_id) else {
            return breaches.check(false, Law::OneSagaEach, order_id, || format!("{saga_id} was never started"));
        };
        match happened {
            SagaEvent::Started(_) | SagaEvent::Stuck(_) => {}
            SagaEvent::Advanced(event) => saga.goes_on(&event.phase, &event.effects),
            SagaEvent::Decided(event) => {
                saga.is_by_hand |= matches!(event.decision, Decision::Force | Decision::Skip);
                saga.goes_on(&event.phase, &event.effects);
            }
            SagaEvent::Completed(_) => saga.end = Some(End::Completed),
            SagaEvent::Compensated(event) => saga.end = Some(End::Compensated { reason: event.reason }),
        }
    }
}
