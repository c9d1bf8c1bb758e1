//! How a service's events become one closed enum with hand-written, versioned type names, and how it still reads what
//! was published under an earlier version.

use serde::de::Error;
use serde_json::Value;
use thiserror::Error;

/// An event enum that can be read back from what a log stored.
pub trait Published: Sized {
    /// Every `(type, version)` that is written today, in the order it is written down.
    const PUBLISHED: &'static [(&'static str, &'static str)];

    /// How what is no longer written becomes what is. Nothing is ever taken off this list: logs are for ever.
    const UPCASTERS: &'static [Upcaster] = &[];

    /// Reads an event that is one of [`Self::PUBLISHED`].
    fn read(event_type: &str, event_version: &str, payload: &str) -> serde_json::Result<Self>;

    /// Reads one event back, whatever version it was written as: everything that folds events comes this way. An unknown
    /// type or version is an error and never skipped: a follower that skips what it does not know is wrong for ever after.
    fn decode(event_type: &str, event_version: &str, payload: &str) -> Result<Self, DecodeError> {
        let is = |(t, v): &(&str, &str)| *t == event_type && *v == event_version;
        if Self::PUBLISHED.iter().any(is) {
            return Self::read(event_type, event_version, payload).map_err(unfit(event_type, event_version));
        }
        upcast(event_type, event_version, payload)
    }
}

/// One step from a version of an event to a later one, on its JSON. Pure: the same event is read again and again.
#[derive(Debug, Clone, Copy)]
pub struct Upcaster {
    pub event_type: &'static str,
    pub from: &'static str,
    pub to: &'static str,
    /// The later version's payload; an error for one that the earlier version cannot have had, without its values.
    pub upcast: fn(Value) -> Result<Value, String>,
}

/// Why a stored event could not be read back.
#[derive(Debug, Error)]
pub enum DecodeError {
    #[error("unknown event type {event_type} version {event_version}: this binary is older than the event's writer")]
    UnknownType { event_type: String, event_version: String },
    #[error("payload of {event_type} version {event_version} does not fit its type: {reason}")]
    Payload { event_type: String, event_version: String, reason: String },
}

/// serde names the field and the place, and may quote the one value that does not fit: never a personal one, which
/// [`Personal`](crate::personal::Personal) keeps to itself.
fn unfit(event_type: &str, event_version: &str) -> impl FnOnce(serde_json::Error) -> DecodeError {
    move |error| DecodeError::Payload {
        event_type: event_type.to_owned(),
        event_version: event_version.to_owned(),
        reason: error.to_string(),
    }
}

/// Step by step to a version that is written today. Each upcaster is used once at most, so a circle ends as an unknown
/// version.
fn upcast<E: Published>(event_type: &str, event_version: &str, payload: &str) -> Result<E, DecodeError> {
    let at_first = unfit(event_type, event_version);
    let unknown =
        || DecodeError::UnknownType { event_type: event_type.to_owned(), event_version: event_version.to_owned() };
    let step_from =
        |version: &str| E::UPCASTERS.iter().find(|step| step.event_type == event_type && step.from == version);
    let mut step = step_from(event_version).ok_or_else(unknown)?;
    let mut value: Value = serde_json::from_str(payload).map_err(at_first)?;
    for _ in E::UPCASTERS {
        value =
            (step.upcast)(value).map_err(|reason| unfit(event_type, step.from)(serde_json::Error::custom(reason)))?;
        if E::PUBLISHED.contains(&(event_type, step.to)) {
            return E::read(event_type, step.to, &value.to_string()).map_err(unfit(event_type, event_version));
        }
        step = step_from(step.to).ok_or_else(unknown)?;
    }
    Err(unknown())
}

/// Declares a service's event enum: `"TypeName" "version" => Struct`. The type name is written by hand, because it is
/// stored for ever; the payload carries it once more as `type`, so that it can be read without its envelope. Versions
/// that are no longer written follow as `upcast { "TypeName" "1" to "2" => function, }`.
#[cfg(feature = "domain")]
#[macro_export]
macro_rules! published {
    (
        $(#[$meta:meta])* pub enum $name:ident { $($event_type:literal $event_version:literal => $event:ident,)+ }
        $(upcast { $($old_type:literal $from:literal to $to:literal => $upcast:path,)+ })?
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(tag = "type")]
        pub enum $name {
            $(#[serde(rename = $event_type)] $event($event),)+
        }

        $(impl From<$event> for $name {
            fn from(event: $event) -> Self {
                Self::$event(event)
            }
        })+

        impl cqrs_es::DomainEvent for $name {
            fn event_type(&self) -> String {
                match self { $(Self::$event(_) => $event_type.to_owned(),)+ }
            }

            fn event_version(&self) -> String {
                match self { $(Self::$event(_) => $event_version.to_owned(),)+ }
            }
        }

        impl $crate::Published for $name {
            const PUBLISHED: &'static [(&'static str, &'static str)] = &[$(($event_type, $event_version),)+];
            $(const UPCASTERS: &'static [$crate::Upcaster] = &[$($crate::Upcaster {
                event_type: $old_type,
                from: $from,
                to: $to,
                upcast: $upcast,
            },)+];)?

            fn read(event_type: &str, event_version: &str, payload: &str) -> serde_json::Result<Self> {
                match (event_type, event_version) {
                    $(($event_type, $event_version) => serde_json::from_str(payload).map(Self::$event),)+
                    _ => Err(serde::de::Error::custom("it is not published")),
                }
            }
        }
    };
}
#[cfg(feature = "domain")]
pub(crate) use published;

#[cfg(all(test, feature = "domain"))]
mod tests {
    use serde::{Deserialize, Serialize};
    use serde_json::json;

    use super::*;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub struct Opened {
        first_name: String,
        last_name: String,
        currency: String,
    }

    published! {
        /// An account, whose holder had one name at first, then two, and then a currency.
        pub enum AccountEvent {
            "Opened" "3" => Opened,
        }
        upcast {
            "Opened" "1" to "2" => one_name_to_two,
            "Opened" "2" to "3" => no_currency_to_eur,
            "Opened" "9" to "9" => no_currency_to_eur,
            "Opened" "7" to "8" => no_currency_to_eur,
        }
    }

    fn one_name_to_two(mut opened: Value) -> Result<Value, String> {
        let name = opened["name"].as_str().ok_or("there is no name")?.to_owned();
        let (first, last) = name.split_once(' ').unwrap_or((&name, ""));
        opened["first_name"] = json!(first);
        opened["last_name"] = json!(last);
        Ok(opened)
    }

    fn no_currency_to_eur(mut opened: Value) -> Result<Value, String> {
        opened["currency"] = json!("EUR");
        Ok(opened)
    }

    fn decoded(version: &str, payload: &str) -> Result<AccountEvent, String> {
        AccountEvent::decode("Opened", version, payload).map_err(|error| error.to_string())
    }

    #[test]
    fn every_version_reads_as_the_one_that_is_written_today() {
        let opened = |currency: &str| {
            let (first_name, last_name) = ("Ana".to_owned(), "Trujillo".to_owned());
            Ok(Opened { first_name, last_name, currency: currency.to_owned() }.into())
        };
        assert_eq!(decoded("1", r#"{"type":"Opened","name":"Ana Trujillo"}"#), opened("EUR"));
        assert_eq!(decoded("2", r#"{"type":"Opened","first_name":"Ana","last_name":"Trujillo"}"#), opened("EUR"));
        let today = r#"{"type":"Opened","first_name":"Ana","last_name":"Trujillo","currency":"MXN"}"#;
        assert_eq!(decoded("3", today), opened("MXN"));
    }

    #[test]
    fn a_version_that_leads_nowhere_is_unknown_and_not_skipped() {
        for version in ["4", "9", "7", ""] {
            let refused = decoded(version, "{}").unwrap_err();
            assert!(refused.starts_with(&format!("unknown event type Opened version {version}:")), "{refused}");
        }
    }

    #[test]
    fn a_payload_that_its_version_cannot_have_had_is_named_without_its_values() {
        let refused = decoded("1", r#"{"type":"Opened","nom":"Ana Trujillo"}"#).unwrap_err();
        assert_eq!(refused, "payload of Opened version 1 does not fit its type: there is no name");
        let refused = decoded("2", r#"{"type":"Opened","first_name":"Ana"}"#).unwrap_err();
        assert!(refused.starts_with("payload of Opened version 2 does not fit its type: missing field"), "{refused}");
        assert!(!refused.contains("Ana"), "{refused}");
    }
}
