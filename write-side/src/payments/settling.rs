//! The payments service's reactor: asks the gateway for what payments intend, and records what it says.
//!
//! An authorization is waited for by a customer, so it is given up after [`AUTHORIZE_ATTEMPTS_MAX`] calls: it is then
//! declined, and what the gateway may hold all the same is given back. Captures, voids and refunds are asked for until
//! there is an answer: to give up would leave money where nobody looks for it. One that goes on failing is seen among
//! the reactor's open duties.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use chrono::TimeDelta;
use event_store::{
    bus::{CommandBus, CommandError, CommandRequest},
    follower::Reject,
    log::Fingerprint,
};
use events::{
    envelope::{RecordedEvent, StreamId},
    ids::RefundId,
    payments::{
        AuthorizationRequested, CaptureRequested, DeclineReason, PAYMENT, PaymentEvent, RefundRequested, SOURCE,
        holds_card_number,
    },
};
use tokio::time::timeout;
use uuid::Uuid;

use super::{
    gateway::{Gateway, GatewayError, Hold, Verdict},
    payment::{KnownPayment, Payment, PaymentCommand, PaymentStatus, RefundStatus, Settlement},
};
use crate::reactor::{Acted, Due, Reaction, Wanted, decode, key_of};

/// How often an authorization is asked for before it counts as declined.
pub const AUTHORIZE_ATTEMPTS_MAX: u32 = 5;

/// How long one call of the gateway may take.
const GATEWAY_WAIT_MAX: Duration = Duration::from_secs(10);

/// How soon to look again at an authorization whose time has come while something else is under way with it.
const EXPIRE_AGAIN: TimeDelta = TimeDelta::seconds(30);

const NAME: &str = "payments-gateway";

/// Between payments and the gateway.
pub struct Settling {
    pub bus: CommandBus<Payment>,
    pub gateway: Arc<dyn Gateway>,
}

#[async_trait]
impl Reaction for Settling {
    fn name(&self) -> &'static str {
        NAME
    }

    fn wants(&self, _source: &str, event: &RecordedEvent) -> Result<Wanted, Reject> {
        Ok(match decode::<PaymentEvent>(event)? {
            PaymentEvent::AuthorizationRequested(_)
            | PaymentEvent::CaptureRequested(_)
            | PaymentEvent::VoidRequested(_)
            | PaymentEvent::RefundRequested(_) => Wanted::Now,
            PaymentEvent::PaymentAuthorized(authorized) => Wanted::At(authorized.expires_at),
            PaymentEvent::PaymentDeclined(_)
            | PaymentEvent::PaymentCaptured(_)
            | PaymentEvent::CaptureFailed(_)
            | PaymentEvent::PaymentVoided(_)
            | PaymentEvent::PaymentBarred(_)
            | PaymentEvent::PaymentRefunded(_)
            | PaymentEvent::RefundFailed(_)
            | PaymentEvent::PaymentExpired(_) => Wanted::Nothing,
        })
    }

    async fn act(&self, due: &Due) -> Acted {
        match self.settle(due).await {
            Ok(acted) | Err(acted) => acted,
        }
    }
}

impl Settling {
    /// Asks the gateway, unless the payment knows the answer already.
    async fn settle(&self, due: &Due) -> Result<Acted, Acted> {
        let event = decode::<PaymentEvent>(&due.event).map_err(|reject| Acted::Hindered(reject.to_string()))?;
        let loaded = self.bus.load(&due.event.stream.aggregate_id).await;
        let loaded = loaded.map_err(|error| Acted::Hindered(error.to_string()))?;
        let Some(Payment::Known(payment)) = loaded.map(|loaded| loaded.state) else { return Ok(Acted::Done) };
        let settlement = match event {
            PaymentEvent::AuthorizationRequested(asked) if is_open(&payment) => self.authorize(due, &asked).await?,
            // another amount is another intent, of after this one had failed
            PaymentEvent::CaptureRequested(asked) if payment.capturing_minor == Some(asked.amount.amount_minor) => {
                self.capture(due, &asked).await?
            }
            PaymentEvent::VoidRequested(_) if payment.voiding => self.void(due).await?,
            PaymentEvent::RefundRequested(asked) if is_open_refund(&payment, asked.refund_id) => {
                self.refund(due, &asked).await?
            }
            PaymentEvent::PaymentAuthorized(_) if payment.status == PaymentStatus::Authorized => {
                return self.expire(due, &payment).await;
            }
            PaymentEvent::AuthorizationRequested(_)
            | PaymentEvent::CaptureRequested(_)
            | PaymentEvent::VoidRequested(_)
            | PaymentEvent::RefundRequested(_)
            | PaymentEvent::PaymentAuthorized(_)
            | PaymentEvent::PaymentDeclined(_)
            | PaymentEvent::PaymentCaptured(_)
            | PaymentEvent::CaptureFailed(_)
            | PaymentEvent::PaymentVoided(_)
            | PaymentEvent::PaymentBarred(_)
            | PaymentEvent::PaymentRefunded(_)
            | PaymentEvent::RefundFailed(_)
            | PaymentEvent::PaymentExpired(_) => return Ok(Acted::Done),
        };
        self.record(due, due.key.to_string(), PaymentCommand::Settle(settlement)).await?;
        Ok(Acted::Done)
    }

    async fn authorize(&self, due: &Due, asked: &AuthorizationRequested) -> Result<Settlement, Acted> {
        let AuthorizationRequested { order_id, amount, payment_method: method, requested_at, .. } = asked.clone();
        let hold = Hold { order_id, amount, method, requested_at };
        match answered(self.gateway.authorize(due.key, &hold)).await {
            Ok(Verdict::Approved { reference, expires_at }) => {
                Ok(Settlement::Authorized { gateway_reference: reference, expires_at })
            }
            Ok(Verdict::Declined(reason)) => Ok(Settlement::Declined { reason }),
            // nothing is held, and it is not for the customer to know why
            Err(GatewayError::Refused(reason)) => {
                let reason = published(reason);
                tracing::warn!(payment = %due.event.stream, reason, "the gateway refuses an authorization");
                Ok(Settlement::Declined { reason: DeclineReason::Declined })
            }
            Err(GatewayError::Unanswered(_)) if due.attempt >= AUTHORIZE_ATTEMPTS_MAX => Ok(Settlement::Unanswered),
            Err(error @ GatewayError::Unanswered(_)) => Err(failed(error)),
        }
    }

    async fn capture(&self, due: &Due, asked: &CaptureRequested) -> Result<Settlement, Acted> {
        let hold = self.hold_of(due).await?;
        match answered(self.gateway.capture(due.key, hold, asked.amount)).await {
            Ok(()) => Ok(Settlement::Captured),
            Err(GatewayError::Refused(reason)) => Ok(Settlement::CaptureFailed { reason: published(reason) }),
            Err(error @ GatewayError::Unanswered(_)) => Err(failed(error)),
        }
    }

    async fn void(&self, due: &Due) -> Result<Settlement, Acted> {
        let hold = self.hold_of(due).await?;
        let voided = answered(self.gateway.void(due.key, hold)).await;
        voided.map(|()| Settlement::Voided).map_err(failed)
    }

    async fn refund(&self, due: &Due, asked: &RefundRequested) -> Result<Settlement, Acted> {
        let (refund_id, hold) = (asked.refund_id, self.hold_of(due).await?);
        match answered(self.gateway.refund(due.key, hold, asked.amount)).await {
            Ok(()) => Ok(Settlement::Refunded { refund_id }),
            Err(GatewayError::Refused(reason)) => Ok(Settlement::RefundFailed { refund_id, reason: published(reason) }),
            Err(error @ GatewayError::Unanswered(_)) => Err(failed(error)),
        }
    }

    async fn expire(&self, due: &Due, payment: &KnownPayment) -> Result<Acted, Acted> {
        let expires_at = payment.expires_at.unwrap_or(due.now);
        if due.now < expires_at {
            return Ok(Acted::NotBefore(expires_at));
        }
        if payment.voiding || payment.capturing_minor.is_some() {
            return Ok(Acted::NotBefore(due.now + EXPIRE_AGAIN));
        }
        // asked anew each time: something may have got in between, and fail
        let key = format!("{}|{}", due.key, due.now.timestamp_micros());
        match self.record(due, key, PaymentCommand::Expire { now: due.now }).await? {
            true => Ok(Acted::Done),
            false => Ok(Acted::NotBefore(due.now + EXPIRE_AGAIN)),
        }
    }

    /// The key under which the gateway was asked to hold the amount: a payment's stream begins with that.
    async fn hold_of(&self, due: &Due) -> Result<Uuid, Acted> {
        let stream = StreamId::new(PAYMENT, due.event.stream.aggregate_id.clone());
        let first = self.bus.log().read_stream(&stream, 0, 1).await;
        let first = first.map_err(|error| Acted::Hindered(error.to_string()))?;
        let first = first.first().ok_or_else(|| Acted::Hindered(format!("{stream} has no events")))?;
        Ok(key_of(NAME, first.event_id))
    }

    /// Whether the payment is another one now.
    async fn record(&self, due: &Due, key: String, command: PaymentCommand) -> Result<bool, Acted> {
        let request = CommandRequest {
            aggregate_id: due.event.stream.aggregate_id.clone(),
            command,
            scope: format!("{SOURCE}|{NAME}").into(),
            fingerprint: Fingerprint::of(self.bus.log().identity(), NAME, key.as_bytes()),
            key: key.into(),
            expected_version: None,
            metadata: due.metadata(NAME),
        };
        match self.bus.execute(request).await {
            Ok(done) => Ok(done.changed),
            // nothing is left to record
            Err(CommandError::Refused(..)) => Ok(false),
            Err(error) => Err(Acted::Hindered(error.to_string())),
        }
    }
}

fn is_open(payment: &KnownPayment) -> bool {
    payment.status == PaymentStatus::Requested && !payment.voiding
}

fn is_open_refund(payment: &KnownPayment, refund_id: RefundId) -> bool {
    payment.refunds.get(&refund_id).is_some_and(|refund| refund.status == RefundStatus::Requested)
}

/// A gateway's words as they are stored and logged: somebody else's, so bounded, and without what looks like a card number.
fn published(words: String) -> String {
    const CHARS_MAX: usize = 200;
    match holds_card_number(&words) {
        true => "withheld: it holds what looks like a card number".to_owned(),
        false => words.chars().take(CHARS_MAX).collect(),
    }
}

fn failed(error: GatewayError) -> Acted {
    Acted::Failed(published(error.to_string()))
}

/// The gateway's answer, or its silence.
async fn answered<T>(call: impl Future<Output = Result<T, GatewayError>>) -> Result<T, GatewayError> {
    let silence = || GatewayError::Unanswered(format!("no answer within {} s", GATEWAY_WAIT_MAX.as_secs()));
    timeout(GATEWAY_WAIT_MAX, call).await.unwrap_or_else(|_| Err(silence()))
}
