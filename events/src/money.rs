//! Money: integer minor units (cents) with a currency. No floats anywhere, and no arithmetic that can wrap.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

/// The largest amount in minor units: 2^53 - 1, so that every JSON reader gets the exact integer.
pub const AMOUNT_MINOR_MAX: i64 = (1 << 53) - 1;

/// The whole, in basis points.
pub const BASIS_POINTS: u16 = 10_000;

/// An amount in minor units of one currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Money {
    pub amount_minor: i64,
    pub currency: Currency,
}

impl Money {
    pub fn new(amount_minor: i64, currency: Currency) -> Self {
        Self { amount_minor, currency }
    }
}

/// An ISO 4217 code: three upper-case letters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency([u8; 3]);

impl Currency {
    pub const USD: Self = Self(*b"USD");
    pub const EUR: Self = Self(*b"EUR");

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("a currency is three ASCII letters")
    }
}

impl FromStr for Currency {
    type Err = MoneyError;

    fn from_str(text: &str) -> Result<Self, MoneyError> {
        match text.as_bytes() {
            &[a, b, c] if [a, b, c].iter().all(u8::is_ascii_uppercase) => Ok(Self([a, b, c])),
            _ => Err(MoneyError::Currency),
        }
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// What keeps an amount from being money.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum MoneyError {
    #[error("a currency is three upper-case letters, such as USD")]
    Currency,
    #[error("an amount must lie within 0 and {AMOUNT_MINOR_MAX} minor units")]
    Amount,
    #[error("a discount must lie within 0 and {BASIS_POINTS} basis points")]
    Discount,
}

/// The total of one order line in minor units: `(unit x quantity x (10000 - bp) + 5000) / 10000`, rounded half up,
/// once per line. This is the only place that computes it.
pub fn line_total_minor(unit_minor: i64, quantity: u32, discount_bp: u16) -> Result<i64, MoneyError> {
    if discount_bp > BASIS_POINTS {
        return Err(MoneyError::Discount);
    }
    if !(0..=AMOUNT_MINOR_MAX).contains(&unit_minor) {
        return Err(MoneyError::Amount);
    }
    let whole = i128::from(BASIS_POINTS);
    let gross = i128::from(unit_minor) * i128::from(quantity);
    let total = (gross * (whole - i128::from(discount_bp)) + whole / 2) / whole;
    i64::try_from(total).ok().filter(|total| *total <= AMOUNT_MINOR_MAX).ok_or(MoneyError::Amount)
}

/// The sum of amounts in minor units, within the bound that a single amount has.
pub fn sum_minor(amounts: impl IntoIterator<Item = i64>) -> Result<i64, MoneyError> {
    amounts.into_iter().try_fold(0_i64, |sum, amount| {
        sum.checked_add(amount).filter(|sum| (0..=AMOUNT_MINOR_MAX).contains(sum)).ok_or(MoneyError::Amount)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_total_rounds_half_up_once() {
        // 3 x 0.35 at 10 % off: 94.5 cents
        assert_eq!(line_total_minor(35, 3, 1_000), Ok(95));
        assert_eq!(line_total_minor(980, 10, 0), Ok(9_800));
        assert_eq!(line_total_minor(980, 10, 10_000), Ok(0));
    }

    #[test]
    fn a_total_beyond_the_json_integer_bound_is_refused() {
        assert_eq!(line_total_minor(AMOUNT_MINOR_MAX, 2, 0), Err(MoneyError::Amount));
        assert_eq!(line_total_minor(-1, 2, 0), Err(MoneyError::Amount));
        assert_eq!(line_total_minor(1, 2, 10_001), Err(MoneyError::Discount));
        assert_eq!(sum_minor([AMOUNT_MINOR_MAX, 1]), Err(MoneyError::Amount));
    }

    #[test]
    fn a_currency_is_three_upper_case_letters() {
        assert_eq!("USD".parse(), Ok(Currency::USD));
        for wrong in ["usd", "US", "USDX", "U1D", "", "€€€"] {
            assert_eq!(wrong.parse::<Currency>(), Err(MoneyError::Currency), "{wrong}");
        }
    }
}
