//! The payment gateway behind a port, and the simulated one that the platform runs with.

use std::{
    num::NonZeroUsize,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use events::{
    ids::OrderId,
    money::Money,
    payments::{DeclineReason, PaymentMethod},
};
use lru::LruCache;
use thiserror::Error;
use uuid::Uuid;

/// What moves money. Every call carries a key: the same call with the same key has one effect and one answer, however
/// often it is made. Calls may be dropped at any await.
#[async_trait]
pub trait Gateway: Send + Sync + 'static {
    /// Holds an amount. `key` also names the hold in later calls.
    async fn authorize(&self, key: Uuid, hold: &Hold) -> Result<Verdict, GatewayError>;

    /// Takes `amount` of a hold, and gives back what is left of it.
    async fn capture(&self, key: Uuid, hold: Uuid, amount: Money) -> Result<(), GatewayError>;

    /// Gives back a hold. One that the gateway does not know is barred: it will not be held when it is asked for later.
    async fn void(&self, key: Uuid, hold: Uuid) -> Result<(), GatewayError>;

    /// Pays back `amount` of what was taken.
    async fn refund(&self, key: Uuid, hold: Uuid, amount: Money) -> Result<(), GatewayError>;
}

/// An amount to hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Hold {
    pub order_id: OrderId,
    pub amount: Money,
    pub method: PaymentMethod,
    pub requested_at: DateTime<Utc>,
}

/// What a gateway says to an authorization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Approved {
        /// Under which the gateway knows the hold.
        reference: String,
        expires_at: DateTime<Utc>,
    },
    Declined(DeclineReason),
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum GatewayError {
    /// Whether it happened is unknown: ask again with the same key.
    #[error("the gateway does not answer: {0}")]
    Unanswered(String),
    /// It did not happen and will not. The gateway's word for it, which is published: nothing of a card.
    #[error("the gateway refuses: {0}")]
    Refused(String),
}

/// How long the simulated gateway holds an amount.
const HOLD_DAYS: i64 = 7;

/// How many calls that were left without an answer it remembers. Without its memory, such a call is left so once more.
const UNANSWERED_MAX: NonZeroUsize = NonZeroUsize::new(10_000).expect("more than none");

/// A gateway that moves no money. It decides by the payment method:
///
/// | method | what happens |
/// |---|---|
/// | `pm_decline` | declined |
/// | `pm_insufficient` | declined for want of funds |
/// | `pm_timeout` | never an answer |
/// | `pm_timeout_then_approve` | approved, and the first answer is lost |
/// | `pm_approve` and any other | approved |
///
/// An answer is made from the call alone, so a repeated call gets the same one, after a restart too.
pub struct SimulatedGateway {
    /// Before a call that it does not answer ends.
    timeout: Duration,
    unanswered: Mutex<LruCache<Uuid, ()>>,
}

impl SimulatedGateway {
    pub fn new(timeout: Duration) -> Self {
        Self { timeout, unanswered: Mutex::new(LruCache::new(UNANSWERED_MAX)) }
    }

    async fn no_answer<T>(&self) -> Result<T, GatewayError> {
        tokio::time::sleep(self.timeout).await;
        Err(GatewayError::Unanswered(format!("no answer within {} ms", self.timeout.as_millis())))
    }

    /// Whether this is the first call with `key`.
    fn is_first(&self, key: Uuid) -> bool {
        self.unanswered.lock().unwrap_or_else(PoisonError::into_inner).put(key, ()).is_none()
    }
}

impl Default for SimulatedGateway {
    fn default() -> Self {
        Self::new(Duration::from_millis(200))
    }
}

#[async_trait]
impl Gateway for SimulatedGateway {
    async fn authorize(&self, key: Uuid, hold: &Hold) -> Result<Verdict, GatewayError> {
        match hold.method.as_str() {
            "pm_decline" => Ok(Verdict::Declined(DeclineReason::Declined)),
            "pm_insufficient" => Ok(Verdict::Declined(DeclineReason::InsufficientFunds)),
            "pm_timeout" => self.no_answer().await,
            "pm_timeout_then_approve" if self.is_first(key) => self.no_answer().await,
            _ => Ok(Verdict::Approved {
                reference: format!("sim-{key}"),
                expires_at: hold.requested_at + TimeDelta::days(HOLD_DAYS),
            }),
        }
    }

    async fn capture(&self, _key: Uuid, _hold: Uuid, _amount: Money) -> Result<(), GatewayError> {
        Ok(())
    }

    async fn void(&self, _key: Uuid, _hold: Uuid) -> Result<(), GatewayError> {
        Ok(())
    }

    async fn refund(&self, _key: Uuid, _hold: Uuid, _amount: Money) -> Result<(), GatewayError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use events::money::Currency;

    use super::*;

    fn hold(method: &str) -> Hold {
        Hold {
            order_id: OrderId(Uuid::from_u128(1)),
            amount: Money::new(100, Currency::USD),
            method: method.parse().unwrap(),
            requested_at: DateTime::UNIX_EPOCH,
        }
    }

    #[tokio::test]
    async fn the_method_decides_and_a_repeated_call_gets_the_same_answer() {
        let gateway = SimulatedGateway::new(Duration::from_millis(1));
        let key = Uuid::from_u128(7);
        let reference = format!("sim-{key}");
        let approved =
            Ok(Verdict::Approved { reference, expires_at: DateTime::UNIX_EPOCH + TimeDelta::days(HOLD_DAYS) });
        let insufficient = Ok(Verdict::Declined(DeclineReason::InsufficientFunds));
        for _ in 0..2 {
            assert_eq!(gateway.authorize(key, &hold("pm_approve")).await, approved);
            assert_eq!(
                gateway.authorize(key, &hold("pm_decline")).await,
                Ok(Verdict::Declined(DeclineReason::Declined))
            );
            assert_eq!(gateway.authorize(key, &hold("pm_insufficient")).await, insufficient);
            let silence = gateway.authorize(key, &hold("pm_timeout")).await;
            assert!(matches!(silence, Err(GatewayError::Unanswered(_))), "{silence:?}");
        }
        let silence = gateway.authorize(key, &hold("pm_timeout_then_approve")).await;
        assert!(matches!(silence, Err(GatewayError::Unanswered(_))), "{silence:?}");
        for _ in 0..2 {
            assert_eq!(gateway.authorize(key, &hold("pm_timeout_then_approve")).await, approved);
        }
    }
}
