//! Values that belong to a person, and go when the person asks for it.
//!
//! In memory such a value is there or erased. As JSON it says whose it is, `{"personal_of": "<subject>", "value": ..}`,
//! so that a log can keep it as ciphertext under that person's key, `{"personal_of": "<subject>", "ciphertext": ".."}`,
//! without knowing any event. Once the key is gone, `value` is null, for ever and for everybody.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeOwned, Error as _, IgnoredAny},
};
use serde_json::Value;
use uuid::Uuid;

/// A value of the person `subject`.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Personal<T> {
    #[serde(rename = "personal_of")]
    subject: Uuid,
    value: Option<T>,
}

impl<T> Personal<T> {
    pub fn of(subject: impl Into<Uuid>, value: T) -> Self {
        Self { subject: subject.into(), value: Some(value) }
    }

    /// What is left of a value of `subject` once it is erased.
    pub fn erased(subject: impl Into<Uuid>) -> Self {
        Self { subject: subject.into(), value: None }
    }

    pub fn subject(&self) -> Uuid {
        self.subject
    }

    /// The value, unless it is erased.
    pub fn value(&self) -> Option<&T> {
        self.value.as_ref()
    }

    /// The value, unless it is erased.
    pub fn into_value(self) -> Option<T> {
        self.value
    }

    pub fn is(&self, value: &T) -> bool
    where
        T: PartialEq,
    {
        self.value.as_ref() == Some(value)
    }
}

/// Never shows the value: it would end in logs and panics.
impl<T> fmt::Debug for Personal<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = if self.value.is_some() { ".." } else { "erased" };
        write!(f, "Personal({value} of {})", self.subject)
    }
}

/// The three forms on the wire.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    personal_of: Uuid,
    #[serde(default)]
    value: Option<Value>,
    #[serde(default)]
    ciphertext: Option<IgnoredAny>,
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Personal<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wire = Wire::deserialize(deserializer)?;
        if wire.ciphertext.is_some() {
            return Err(D::Error::custom("a personal value is ciphertext: it was not read through its log"));
        }
        // without the parser's words: they quote what does not fit
        let value = wire.value.map(serde_json::from_value).transpose();
        let value = value.map_err(|_| D::Error::custom("a personal value does not fit its type"))?;
        Ok(Self { subject: wire.personal_of, value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUBJECT: Uuid = Uuid::from_u128(7);
    const OPEN: &str = r#"{"personal_of":"00000000-0000-0000-0000-000000000007","value":"Ana"}"#;

    fn read(json: &str) -> Result<Personal<String>, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn a_value_says_whose_it_is() {
        let ana = Personal::of(SUBJECT, "Ana".to_owned());
        assert_eq!(serde_json::to_string(&ana).unwrap(), OPEN);
        assert_eq!(read(OPEN), Ok(ana));
    }

    #[test]
    fn an_erased_value_is_null() {
        let erased: Personal<String> = Personal::erased(SUBJECT);
        let json = OPEN.replace("\"Ana\"", "null");
        assert_eq!(serde_json::to_string(&erased).unwrap(), json);
        assert_eq!(read(&json), Ok(erased));
    }

    #[test]
    fn what_does_not_fit_is_refused_without_being_quoted() {
        let number: Result<Personal<u32>, _> = serde_json::from_str(OPEN);
        let refused = number.unwrap_err().to_string();
        assert!(refused.starts_with("a personal value does not fit its type"), "{refused}");
        let refused = read(&OPEN.replace("value", "ciphertext")).unwrap_err();
        assert!(refused.starts_with("a personal value is ciphertext"), "{refused}");
        assert!(!refused.contains("Ana"), "{refused}");
    }

    #[test]
    fn nothing_that_is_printed_shows_a_value() {
        let shown = format!("{:?} {:?}", Personal::of(SUBJECT, "Ana"), Personal::<String>::erased(SUBJECT));
        assert!(!shown.contains("Ana") && shown.contains("erased"), "{shown}");
    }
}
