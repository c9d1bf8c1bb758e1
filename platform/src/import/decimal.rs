//! A number of the source as a scaled integer, rounded once, without arithmetic on floats.
//!
//! The source keeps money in 32-bit floats: what a clerk entered as 9.80 is stored as 9.80000019. The shortest decimal
//! text that names the same float is what was entered, so that text is rounded, digit by digit, half up. Multiplying by
//! 100 and rounding the float instead is off at half cents.

use thiserror::Error;

/// From here on neighbouring 32-bit floats are more than a cent apart (2^17), so cents cannot be had from them.
const CENTS_HELD_BELOW: f32 = 131_072.0;

/// Why a number could not be taken over.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DecimalError {
    #[error("{0:?} is not a number")]
    NotANumber(String),
    #[error("{0} is negative")]
    Negative(String),
    #[error("{0} is too large for a 32-bit float to hold its cents")]
    TooLarge(String),
}

/// The number in `text` (decimal text of a 32-bit float) times 10^`digits`, rounded half up.
pub fn scaled(text: &str, digits: usize) -> Result<i64, DecimalError> {
    let float: f32 = text.trim().parse().map_err(|_| DecimalError::NotANumber(text.to_owned()))?;
    if !float.is_finite() {
        return Err(DecimalError::NotANumber(text.to_owned()));
    }
    if float < 0.0 {
        return Err(DecimalError::Negative(text.to_owned()));
    }
    if float >= CENTS_HELD_BELOW {
        return Err(DecimalError::TooLarge(text.to_owned()));
    }
    // Display of a float is the shortest text that reads back as the same float, never with an exponent
    Ok(round(&float.to_string(), digits))
}

/// Rounds plain decimal text half up to `digits` places and drops the point.
fn round(text: &str, digits: usize) -> i64 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let place = |n: usize| fraction.as_bytes().get(n).map_or(0, |digit| i64::from(digit - b'0'));
    let kept = (0..digits).fold(number(whole), |sum, n| sum * 10 + place(n));
    if place(digits) >= 5 { kept + 1 } else { kept }
}

/// The digits before the point. `-0` is what negative zero prints.
fn number(whole: &str) -> i64 {
    whole.trim_start_matches('-').bytes().fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_float_of_32_bits_becomes_the_cents_that_were_entered() {
        for (stored, cents) in [
            ("9.80000019", 980),
            ("34.7999992", 3480),
            ("123.790001", 12_379),
            ("210.800003", 21_080),
            ("7.44999981", 745),
            ("263.5", 26_350),
            ("14", 1400),
            ("14.0", 1400),
            ("0", 0),
            ("-0.0", 0),
            ("1e2", 10_000),
            ("131071.99", 13_107_199),
        ] {
            assert_eq!(scaled(stored, 2), Ok(cents), "{stored}");
        }
    }

    #[test]
    fn half_a_cent_is_rounded_up_on_its_digits() {
        // as floats these lie below the half: 1.00499999523, 8.02499961853, 2.67499995232
        assert_eq!(scaled("1.005", 2), Ok(101));
        assert_eq!(scaled("8.025", 2), Ok(803));
        assert_eq!(scaled("2.675", 2), Ok(268));
        assert_eq!(scaled("1.00499", 2), Ok(100));
        assert_eq!(scaled("0.995", 2), Ok(100));
    }

    #[test]
    fn a_discount_fraction_becomes_basis_points() {
        for (stored, basis_points) in [
            ("0.150000006", 1500),
            ("0.0500000007", 500),
            ("0.200000003", 2000),
            ("0.0199999996", 200),
            ("0.0299999993", 300),
            ("0.00999999978", 100),
            ("0.25", 2500),
            ("0", 0),
            ("1", 10_000),
        ] {
            assert_eq!(scaled(stored, 4), Ok(basis_points), "{stored}");
        }
    }

    #[test]
    fn what_holds_no_cents_is_an_error() {
        assert_eq!(scaled("131072", 2), Err(DecimalError::TooLarge("131072".to_owned())));
        assert_eq!(scaled("-0.01", 2), Err(DecimalError::Negative("-0.01".to_owned())));
        for text in ["", "NaN", "inf", "1e99", "ten", "1,5"] {
            assert_eq!(scaled(text, 2), Err(DecimalError::NotANumber(text.to_owned())), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_price_survives_being_stored_as_a_float(cents in 0_i64..10_000_000) {
            let entered: f32 = format!("{}.{:02}", cents / 100, cents % 100).parse().unwrap();
            // nine significant digits: how the source prints its floats
            let stored = format!("{entered:.9}");
            prop_assert_eq!(scaled(&stored, 2), Ok(cents));
        }
    }
}
