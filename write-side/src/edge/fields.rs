//! Reading a JSON body field by field, so that every bad field is named at once, by its JSON pointer.
//!
//! serde would stop at the first one. Unknown fields are errors: a misspelt optional field must not be lost silently.

use std::str::FromStr;

use chrono::{DateTime, Utc};
use events::{
    money::{AMOUNT_MINOR_MAX, BASIS_POINTS, Currency, Money},
    payments::holds_card_number,
    users::Address,
};
use serde_json::{Map, Value};

use super::problem::FieldError;

/// The most bad fields that one answer names.
pub const FIELD_ERRORS_MAX: usize = 100;

/// The longest key of another system, in characters.
pub const EXTERNAL_REF_CHARS_MAX: usize = 128;

/// How much of an unknown field's name is repeated, in characters.
const NAME_CHARS_MAX: usize = 64;

/// The fields of one object.
pub struct Fields<'v> {
    pointer: String,
    object: &'v Map<String, Value>,
    known: Vec<&'static str>,
    errors: Vec<FieldError>,
}

/// What a field's value must be, or a sentence that says so.
pub type Reading<T> = Result<T, String>;

/// Reads `body` as an object. `Err`: everything that is wrong with it.
pub fn read<T>(body: &Value, fields: impl FnOnce(&mut Fields<'_>) -> Option<T>) -> Result<T, Vec<FieldError>> {
    let mut errors = Vec::new();
    read_object(body, String::new(), &mut errors, fields).filter(|_| errors.is_empty()).ok_or(errors)
}

fn read_object<T>(
    value: &Value,
    pointer: String,
    errors: &mut Vec<FieldError>,
    read: impl FnOnce(&mut Fields<'_>) -> Option<T>,
) -> Option<T> {
    let Value::Object(object) = value else {
        note(errors, pointer, "must be an object".to_owned());
        return None;
    };
    let mut fields = Fields { pointer, object, known: Vec::new(), errors: std::mem::take(errors) };
    let read = read(&mut fields);
    for name in object.keys().filter(|name| !fields.known.contains(&name.as_str())) {
        let name: String = name.chars().take(NAME_CHARS_MAX).collect();
        let pointer = format!("{}/{}", fields.pointer, name.replace('~', "~0").replace('/', "~1"));
        note(&mut fields.errors, pointer, format!("unknown field; known are {}", fields.known.join(", ")));
    }
    *errors = fields.errors;
    read
}

fn note(errors: &mut Vec<FieldError>, pointer: String, detail: String) {
    if errors.len() < FIELD_ERRORS_MAX {
        errors.push(FieldError { pointer, detail });
    }
}

impl<'v> Fields<'v> {
    fn value(&mut self, name: &'static str) -> Option<&'v Value> {
        self.known.push(name);
        self.object.get(name).filter(|value| !value.is_null())
    }

    fn at(&self, name: &str) -> String {
        format!("{}/{name}", self.pointer)
    }

    /// Says that a field is wrong, for a reason that spans fields.
    pub fn wrong(&mut self, name: &'static str, detail: impl Into<String>) {
        let pointer = self.at(name);
        note(&mut self.errors, pointer, detail.into());
    }

    pub fn required<T>(&mut self, name: &'static str, read: impl FnOnce(&Value) -> Reading<T>) -> Option<T> {
        match self.optional(name, read)? {
            Some(value) => Some(value),
            None => {
                self.wrong(name, "is required");
                None
            }
        }
    }

    /// `Some(None)` when the field is absent or null; `None` when it is wrong.
    pub fn optional<T>(&mut self, name: &'static str, read: impl FnOnce(&Value) -> Reading<T>) -> Option<Option<T>> {
        let Some(value) = self.value(name) else { return Some(None) };
        match read(value) {
            Ok(value) => Some(Some(value)),
            Err(detail) => {
                self.wrong(name, detail);
                None
            }
        }
    }

    /// A nested object.
    pub fn optional_object<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&mut Fields<'_>) -> Option<T>,
    ) -> Option<Option<T>> {
        let Some(value) = self.value(name) else { return Some(None) };
        let pointer = self.at(name);
        read_object(value, pointer, &mut self.errors, read).map(Some)
    }

    pub fn object<T>(&mut self, name: &'static str, read: impl FnOnce(&mut Fields<'_>) -> Option<T>) -> Option<T> {
        match self.optional_object(name, read)? {
            Some(value) => Some(value),
            None => {
                self.wrong(name, "is required");
                None
            }
        }
    }

    /// A list of 1 to `items_max` objects.
    pub fn optional_list<T>(
        &mut self,
        name: &'static str,
        items_max: usize,
        read: impl Fn(&mut Fields<'_>) -> Option<T>,
    ) -> Option<Option<Vec<T>>> {
        let Some(value) = self.value(name) else { return Some(None) };
        let Value::Array(items) = value else {
            self.wrong(name, "must be a list");
            return None;
        };
        if items.is_empty() || items.len() > items_max {
            self.wrong(name, format!("has {} entries; it may have 1 to {items_max}", items.len()));
            return None;
        }
        let pointer = self.at(name);
        let read = items
            .iter()
            .enumerate()
            .map(|(n, item)| read_object(item, format!("{pointer}/{n}"), &mut self.errors, &read))
            // every item is read, so that every bad one is named
            .collect::<Vec<_>>();
        read.into_iter().collect::<Option<Vec<T>>>().map(Some)
    }

    pub fn list<T>(
        &mut self,
        name: &'static str,
        items_max: usize,
        read: impl Fn(&mut Fields<'_>) -> Option<T>,
    ) -> Option<Vec<T>> {
        match self.optional_list(name, items_max, read)? {
            Some(items) => Some(items),
            None => {
                self.wrong(name, "is required");
                None
            }
        }
    }
}

/// A text of 1 to `chars_max` characters, not blank, without control characters.
pub fn text(chars_max: usize) -> impl Fn(&Value) -> Reading<String> {
    move |value| bounded_text(value, chars_max, false)
}

/// As [`text`], and may have line breaks.
pub fn lines(chars_max: usize) -> impl Fn(&Value) -> Reading<String> {
    move |value| bounded_text(value, chars_max, true)
}

fn bounded_text(value: &Value, chars_max: usize, breaks: bool) -> Reading<String> {
    let Value::String(text) = value else { return Err("must be a text".to_owned()) };
    if text.trim().is_empty() {
        return Err("must not be blank".to_owned());
    }
    let chars = text.chars().count();
    if chars > chars_max {
        return Err(format!("has {chars} characters; the limit is {chars_max}"));
    }
    if text.chars().any(|char| char.is_control() && !(breaks && matches!(char, '\n' | '\r'))) {
        return Err("must not hold control characters".to_owned());
    }
    Ok(text.clone())
}

/// Why somebody does something, in their own words. Free text is where card numbers end up, and a log forgets nothing.
pub fn reason(value: &Value) -> Reading<String> {
    const CHARS_MAX: usize = 500;
    let reason = bounded_text(value, CHARS_MAX, false)?;
    if holds_card_number(&reason) {
        return Err("holds what looks like a card number, which must not be sent here".to_owned());
    }
    Ok(reason)
}

/// A text without white space around it, such as a sku or a key of another system.
pub fn key(chars_max: usize) -> impl Fn(&Value) -> Reading<String> {
    move |value| {
        let text = bounded_text(value, chars_max, false)?;
        if text.trim().len() != text.len() {
            return Err("must not begin or end with white space".to_owned());
        }
        Ok(text)
    }
}

/// A UUID in its hyphenated form.
pub fn id<T: FromStr>(value: &Value) -> Reading<T> {
    let wrong = || "must be a UUID, such as 0198c0de-0000-7000-8000-000000000001".to_owned();
    match value {
        Value::String(text) if text.len() == 36 => text.parse().map_err(|_| wrong()),
        _ => Err(wrong()),
    }
}

/// A whole number of `min..=max`.
pub fn integer(min: i64, max: i64) -> impl Fn(&Value) -> Reading<i64> {
    move |value| {
        let number = value.as_i64().filter(|number| (min..=max).contains(number));
        number.ok_or_else(|| format!("must be a whole number from {min} to {max}"))
    }
}

/// How many pieces.
pub fn quantity(value: &Value) -> Reading<u32> {
    let quantity = integer(1, i64::from(crate::orders::order::QUANTITY_MAX))(value)?;
    u32::try_from(quantity).map_err(|error| error.to_string())
}

/// A discount in basis points.
pub fn basis_points(value: &Value) -> Reading<u16> {
    let basis_points = integer(0, i64::from(BASIS_POINTS))(value)?;
    u16::try_from(basis_points).map_err(|error| error.to_string())
}

/// A moment, RFC 3339, taken to the microsecond that logs keep.
pub fn time(value: &Value) -> Reading<DateTime<Utc>> {
    let wrong = || "must be a time such as 1996-07-04T00:00:00Z".to_owned();
    let text = value.as_str().ok_or_else(wrong)?;
    let time = DateTime::parse_from_rfc3339(text).map_err(|_| wrong())?;
    DateTime::from_timestamp_micros(time.timestamp_micros()).ok_or_else(wrong)
}

/// A word of a closed list.
pub fn word<T: FromStr<Err: std::fmt::Display>>(value: &Value) -> Reading<T> {
    value.as_str().ok_or("must be a text")?.parse().map_err(|error: T::Err| error.to_string())
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

/// An e-mail address in normal form. Whether mail arrives there is another question.
pub fn email(value: &Value) -> Reading<String> {
    /// RFC 5321
    const CHARS_MAX: usize = 254;
    let wrong = || "must be an e-mail address, such as ana@example.com".to_owned();
    let email = crate::users::user::normal_email(value.as_str().ok_or("must be a text")?);
    let chars = email.chars().count();
    if chars > CHARS_MAX {
        return Err(format!("has {chars} characters; the limit is {CHARS_MAX}"));
    }
    let (local, domain) = email.split_once('@').ok_or_else(wrong)?;
    let fine = !local.is_empty()
        && local.chars().count() <= 64
        && domain.contains('.')
        && domain.split('.').all(|label| !label.is_empty() && !label.starts_with('-') && !label.ends_with('-'))
        && !domain.contains('@')
        && !email.chars().any(|char| char.is_whitespace() || char.is_control());
    if fine { Ok(email) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pointers(errors: &[FieldError]) -> Vec<&str> {
        errors.iter().map(|error| error.pointer.as_str()).collect()
    }

    #[test]
    fn every_bad_field_is_named_at_once() {
        let body = json!({ "name": " ", "lines": [{ "n": 1 }, { "n": "2" }, 3, {}], "a/b": 1 });
        let read = read(&body, |fields| {
            let name = fields.required("name", text(10));
            let email = fields.required("email", email);
            let lines = fields.list("lines", 10, |line| line.required("n", integer(0, 1)));
            Some((name?, email?, lines?))
        });
        let errors = read.unwrap_err();
        assert_eq!(pointers(&errors), ["/name", "/email", "/lines/1/n", "/lines/2", "/lines/3/n", "/a~1b"]);
    }

    #[test]
    fn the_number_of_errors_is_bounded() {
        let lines: Vec<Value> = (0..500).map(|_| json!({})).collect();
        let read = read(&json!({ "lines": lines }), |fields| {
            fields.list("lines", 1_000, |line| line.required("n", integer(0, 1)))
        });
        assert_eq!(read.unwrap_err().len(), FIELD_ERRORS_MAX);
    }

    #[test]
    fn texts_are_bounded_and_printable() {
        assert_eq!(text(3)(&json!("🍵é日")), Ok("🍵é日".to_owned()));
        for wrong in [json!("four"), json!(""), json!("a\0b"), json!("a\nb"), json!(7), json!(["a"])] {
            assert!(text(3)(&wrong).is_err(), "{wrong}");
        }
        assert_eq!(lines(9)(&json!("a\nb")), Ok("a\nb".to_owned()));
        assert!(key(9)(&json!(" a")).is_err());
    }

    #[test]
    fn a_reason_holds_no_card_number() {
        assert_eq!(reason(&json!("line 2 of order 10248 broke")), Ok("line 2 of order 10248 broke".to_owned()));
        let refused = reason(&json!("refund to 4242 4242-4242 4242 please")).unwrap_err();
        assert!(!refused.contains("4242"), "{refused}");
    }

    #[test]
    fn an_email_address_is_brought_into_normal_form() {
        assert_eq!(email(&json!(" Ana.Tru@Example.COM ")), Ok("ana.tru@example.com".to_owned()));
        for wrong in ["", "ana", "@x.org", "a@", "a@x", "a@x..org", "a b@x.org", "a@b@x.org", "a@-x.org", "a\0@x.org"] {
            assert!(email(&json!(wrong)).is_err(), "{wrong}");
        }
        assert!(email(&json!(format!("a@{}.org", "x".repeat(300)))).is_err());
    }

    #[test]
    fn numbers_and_ids_are_taken_literally() {
        assert_eq!(quantity(&json!(1)), Ok(1));
        for wrong in [json!(0), json!(-1), json!(1.0), json!("1"), json!(1_000_001), json!(u64::MAX), json!(true)] {
            assert!(quantity(&wrong).is_err(), "{wrong}");
        }
        assert!(id::<uuid::Uuid>(&json!("0198c0de-0000-7000-8000-000000000001")).is_ok());
        for wrong in [json!(7), json!("7"), json!("0198c0de000070008000000000000001"), json!("x".repeat(36))] {
            assert!(id::<uuid::Uuid>(&wrong).is_err(), "{wrong}");
        }
    }
}
