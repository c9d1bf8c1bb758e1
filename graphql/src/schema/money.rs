//! Money: integer minor units with a currency.

use async_graphql::{InputValueError, InputValueResult, Object, Scalar, ScalarType, Value};
use events::money::{AMOUNT_MINOR_MAX, Currency};

use super::in_turn::InTurn;

/// See the description below, which is the schema's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SafeInt(pub(crate) i64);

impl SafeInt {
    /// A number that is not negative; what is beyond 2^53 - 1 is said to be that.
    pub(crate) fn of(number: u64) -> Self {
        Self(i64::try_from(number).map_or(AMOUNT_MINOR_MAX, |number| number.min(AMOUNT_MINOR_MAX)))
    }
}

/// A whole number that every JSON reader gets exactly: within -(2^53 - 1) and 2^53 - 1. `Int` ends at 2^31 - 1, which
/// money passes.
#[Scalar]
impl ScalarType for SafeInt {
    fn parse(value: Value) -> InputValueResult<Self> {
        match &value {
            Value::Number(number) => match number.as_i64() {
                Some(number) if number.abs() <= AMOUNT_MINOR_MAX => Ok(Self(number)),
                _ => Err(InputValueError::custom("a SafeInt is a whole number within -(2^53 - 1) and 2^53 - 1")),
            },
            _ => Err(InputValueError::expected_type(value)),
        }
    }

    fn to_value(&self) -> Value {
        Value::from(self.0)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Money {
    amount_minor: i64,
    currency: Currency,
}

/// An amount of money.
#[Object]
impl Money {
    /// The amount in the currency's minor unit: cents for USD.
    async fn amount_minor(&self) -> SafeInt {
        SafeInt(self.amount_minor)
    }

    /// The currency's ISO 4217 code, such as `USD`.
    async fn currency(&self) -> &str {
        self.currency.as_str()
    }
}

impl Money {
    pub(super) fn new(amount_minor: i64, currency: Currency) -> Self {
        Self { amount_minor, currency }
    }

    pub(super) fn in_turn(amount_minor: i64, currency: Currency) -> InTurn<Self> {
        InTurn(Self::new(amount_minor, currency))
    }
}
