//! What a field's value may be: readers that are also descriptions, so that the document of an API says what its reader
//! takes and nothing else. A reader is a value (`text(200)`) or a function that makes one (`email`, `id`).

use std::{fmt::Display, marker::PhantomData, str::FromStr};

use chrono::{DateTime, Utc};
use events::{
    money::{AMOUNT_MINOR_MAX, BASIS_POINTS, Currency, Money},
    payments::holds_card_number,
    users::Address,
};
use serde_json::{Value, json};

use super::Fields;

/// What a field's value must be, or a sentence that says so.
pub type Reading<T> = Result<T, String>;

/// Reads the value of one field, and says what it takes.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say what it takes",
    note = "a function of a value becomes a reader with `fields::described(schema, function)`"
)]
pub trait Read<T> {
    fn read(self, value: &Value) -> Reading<T>;

    /// What is taken, as JSON Schema.
    fn schema(self) -> Value;
}

/// The name of a reader is as good as the reader: `email` for `email()`.
impl<T, R: Read<T>, F: FnOnce() -> R> Read<T> for F {
    fn read(self, value: &Value) -> Reading<T> {
        self().read(value)
    }

    fn schema(self) -> Value {
        self().schema()
    }
}

/// A function that reads, and what it takes.
pub fn described<F>(schema: Value, read: F) -> Described<F> {
    Described { schema, read }
}

#[derive(Debug, Clone)]
pub struct Described<F> {
    schema: Value,
    read: F,
}

impl<T, F: FnOnce(&Value) -> Reading<T>> Read<T> for Described<F> {
    fn read(self, value: &Value) -> Reading<T> {
        (self.read)(value)
    }

    fn schema(self) -> Value {
        self.schema
    }
}

/// A text of 1 to `chars_max` characters, not blank, without control characters.
pub fn text(chars_max: usize) -> Text {
    Text { chars_max, kind: TextKind::Line }
}

/// As [`text`], and may have line breaks.
pub fn lines(chars_max: usize) -> Text {
    Text { chars_max, kind: TextKind::Lines }
}

/// A text without white space around it, such as a sku or a key of another system.
pub fn key(chars_max: usize) -> Text {
    Text { chars_max, kind: TextKind::Key }
}

#[derive(Debug, Clone, Copy)]
pub struct Text {
    chars_max: usize,
    kind: TextKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TextKind {
    Line,
    Lines,
    Key,
}

impl Read<String> for Text {
    fn read(self, value: &Value) -> Reading<String> {
        let Value::String(text) = value else { return Err("must be a text".to_owned()) };
        if text.trim().is_empty() {
            return Err("must not be blank".to_owned());
        }
        let chars = text.chars().count();
        if chars > self.chars_max {
            return Err(format!("has {chars} characters; the limit is {}", self.chars_max));
        }
        let breaks = self.kind == TextKind::Lines;
        if text.chars().any(|char| char.is_control() && !(breaks && matches!(char, '\n' | '\r'))) {
            return Err("must not hold control characters".to_owned());
        }
        if self.kind == TextKind::Key && text.trim().len() != text.len() {
            return Err("must not begin or end with white space".to_owned());
        }
        Ok(text.clone())
    }

    fn schema(self) -> Value {
        const CONTROL: &str = r"\u0000-\u001f\u007f-\u009f";
        const CONTROL_BUT_BREAKS: &str = r"\u0000-\u0009\u000b\u000c\u000e-\u001f\u007f-\u009f";
        const SPACE: &str = r"\u0020\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000";
        let pattern = match self.kind {
            TextKind::Line => format!("^[^{CONTROL}]*[^{CONTROL}{SPACE}][^{CONTROL}]*$"),
            TextKind::Lines => format!("^[^{CONTROL_BUT_BREAKS}]*[^{CONTROL}{SPACE}][^{CONTROL_BUT_BREAKS}]*$"),
            TextKind::Key => format!("^[^{CONTROL}{SPACE}]([^{CONTROL}]*[^{CONTROL}{SPACE}])?$"),
        };
        json!({ "type": "string", "minLength": 1, "maxLength": self.chars_max, "pattern": pattern })
    }
}

/// Why somebody does something, in their own words. Free text is where card numbers end up, and a log forgets nothing.
pub fn reason() -> Described<fn(&Value) -> Reading<String>> {
    const CHARS_MAX: usize = 500;
    described(text(CHARS_MAX).schema(), |value| {
        let reason = text(CHARS_MAX).read(value)?;
        if holds_card_number(&reason) {
            return Err("holds what looks like a card number, which must not be sent here".to_owned());
        }
        Ok(reason)
    })
}

/// A UUID in its hyphenated form.
pub fn id() -> Id {
    Id
}

#[derive(Debug, Clone, Copy)]
pub struct Id;

impl<T: FromStr> Read<T> for Id {
    fn read(self, value: &Value) -> Reading<T> {
        let wrong = || "must be a UUID, such as 0198c0de-0000-7000-8000-000000000001".to_owned();
        match value {
            Value::String(text) if text.len() == 36 => text.parse().map_err(|_| wrong()),
            _ => Err(wrong()),
        }
    }

    fn schema(self) -> Value {
        uuid()
    }
}

/// The schema of an id.
pub fn uuid() -> Value {
    let pattern = "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$";
    json!({ "type": "string", "format": "uuid", "pattern": pattern })
}

/// A whole number of `min..=max`.
pub fn integer(min: i64, max: i64) -> Integer<i64> {
    Integer { min, max, narrow: PhantomData }
}

/// How many pieces.
pub fn quantity() -> Integer<u32> {
    Integer { min: 1, max: i64::from(crate::orders::order::QUANTITY_MAX), narrow: PhantomData }
}

/// A discount in basis points.
pub fn basis_points() -> Integer<u16> {
    Integer { min: 0, max: i64::from(BASIS_POINTS), narrow: PhantomData }
}

#[derive(Debug, Clone, Copy)]
pub struct Integer<N> {
    min: i64,
    max: i64,
    narrow: PhantomData<N>,
}

impl<N: TryFrom<i64, Error: Display>> Read<N> for Integer<N> {
    fn read(self, value: &Value) -> Reading<N> {
        let Self { min, max, .. } = self;
        let number = value.as_i64().filter(|number| (min..=max).contains(number));
        let number = number.ok_or_else(|| format!("must be a whole number from {min} to {max}"))?;
        N::try_from(number).map_err(|error| error.to_string())
    }

    fn schema(self) -> Value {
        json!({ "type": "integer", "minimum": self.min, "maximum": self.max })
    }
}

/// A moment, RFC 3339, taken to the microsecond that logs keep.
pub fn time() -> Time {
    Time
}

#[derive(Debug, Clone, Copy)]
pub struct Time;

impl Read<DateTime<Utc>> for Time {
    fn read(self, value: &Value) -> Reading<DateTime<Utc>> {
        let wrong = || "must be a time such as 1996-07-04T00:00:00Z".to_owned();
        let text = value.as_str().ok_or_else(wrong)?;
        let moment = DateTime::parse_from_rfc3339(text).map_err(|_| wrong())?;
        DateTime::from_timestamp_micros(moment.timestamp_micros()).ok_or_else(wrong)
    }

    fn schema(self) -> Value {
        json!({ "type": "string", "format": "date-time" })
    }
}

/// A type whose texts are a closed list, or follow a pattern.
pub trait Word: FromStr<Err: Display> {
    /// The texts, as JSON Schema.
    fn words() -> Value;
}

impl Word for Currency {
    fn words() -> Value {
        json!({ "type": "string", "pattern": "^[A-Z]{3}$" })
    }
}

/// A word of a closed list.
pub fn word<T: Word>() -> WordOf<T> {
    WordOf(PhantomData)
}

#[derive(Debug, Clone, Copy)]
pub struct WordOf<T>(PhantomData<T>);

impl<T: Word> Read<T> for WordOf<T> {
    fn read(self, value: &Value) -> Reading<T> {
        value.as_str().ok_or("must be a text")?.parse().map_err(|error: T::Err| error.to_string())
    }

    fn schema(self) -> Value {
        T::words()
    }
}

/// An e-mail address in normal form. Whether mail arrives there is another question.
pub fn email() -> Email {
    Email
}

#[derive(Debug, Clone, Copy)]
pub struct Email;

impl Email {
    /// RFC 5321
    const CHARS_MAX: usize = 254;
}

impl Read<String> for Email {
    fn read(self, value: &Value) -> Reading<String> {
        let wrong = || "must be an e-mail address, such as ana@example.com".to_owned();
        let address = crate::users::user::normal_email(value.as_str().ok_or("must be a text")?);
        let chars = address.chars().count();
        if chars > Self::CHARS_MAX {
            return Err(format!("has {chars} characters; the limit is {}", Self::CHARS_MAX));
        }
        let (local, domain) = address.split_once('@').ok_or_else(wrong)?;
        let fine = !local.is_empty()
            && local.chars().count() <= 64
            && domain.contains('.')
            && domain.split('.').all(|label| !label.is_empty() && !label.starts_with('-') && !label.ends_with('-'))
            && !domain.contains('@')
            && !address.chars().any(|char| char.is_whitespace() || char.is_control());
        if fine { Ok(address) } else { Err(wrong()) }
    }

    fn schema(self) -> Value {
        // white space around an address is taken off, so no length of the raw text is promised
        json!({ "type": "string", "format": "email" })
    }
}

/// `{amount_minor, currency}`
pub fn money(fields: &mut Fields<'_>) -> Option<Money> {
    let amount_minor = fields.required("amount_minor", integer(0, AMOUNT_MINOR_MAX));
    let currency = fields.required("currency", word::<Currency>);
    Some(Money::new(amount_minor?, currency?))
}

/// `{street, city, region?, postal_code?, country}`
pub fn address(fields: &mut Fields<'_>) -> Option<Address> {
    let street = fields.required("street", lines(200));
    let city = fields.required("city", text(100));
    let region = fields.optional("region", text(100));
    let postal_code = fields.optional("postal_code", text(20));
    let country = fields.required("country", text(100));
    Some(Address { street: street?, city: city?, region: region?, postal_code: postal_code?, country: country? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_bounded_and_printable() {
        assert_eq!(text(3).read(&json!("🍵é日")), Ok("🍵é日".to_owned()));
        for wrong in [json!("four"), json!(""), json!("a\0b"), json!("a\nb"), json!(7), json!(["a"])] {
            assert!(text(3).read(&wrong).is_err(), "{wrong}");
        }
        assert_eq!(lines(9).read(&json!("a\nb")), Ok("a\nb".to_owned()));
        assert!(key(9).read(&json!(" a")).is_err());
    }

    #[test]
    fn a_reason_holds_no_card_number() {
        assert_eq!(reason().read(&json!("line 2 of order 10248 broke")), Ok("line 2 of order 10248 broke".to_owned()));
        let refused = reason().read(&json!("refund to 4242 4242-4242 4242 please")).unwrap_err();
        assert!(!refused.contains("4242"), "{refused}");
    }

    #[test]
    fn an_email_address_is_brought_into_normal_form() {
        assert_eq!(email.read(&json!(" Ana.Tru@Example.COM ")), Ok("ana.tru@example.com".to_owned()));
        for wrong in ["", "ana", "@x.org", "a@", "a@x", "a@x..org", "a b@x.org", "a@b@x.org", "a@-x.org", "a\0@x.org"] {
            assert!(email.read(&json!(wrong)).is_err(), "{wrong}");
        }
        assert!(email.read(&json!(format!("a@{}.org", "x".repeat(300)))).is_err());
    }

    #[test]
    fn numbers_and_ids_are_taken_literally() {
        assert_eq!(quantity.read(&json!(1)), Ok(1));
        for wrong in [json!(0), json!(-1), json!(1.0), json!("1"), json!(1_000_001), json!(u64::MAX), json!(true)] {
            assert!(quantity.read(&wrong).is_err(), "{wrong}");
        }
        let read = |value: &Value| Read::<uuid::Uuid>::read(id, value);
        assert!(read(&json!("0198c0de-0000-7000-8000-000000000001")).is_ok());
        for wrong in [json!(7), json!("7"), json!("0198c0de000070008000000000000001"), json!("x".repeat(36))] {
            assert!(read(&wrong).is_err(), "{wrong}");
        }
    }
}
