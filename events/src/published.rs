//! How a service's events become one closed enum with hand-written, versioned type names.

use thiserror::Error;

/// An event enum that can be read back from what a log stored.
pub trait Published: Sized {
    /// Every `(type, version)` this enum publishes, in the order it is written down.
    const PUBLISHED: &'static [(&'static str, &'static str)];

    /// Reads one event back. An unknown type or version is an error and never skipped: a follower that skips what it
    /// does not know is wrong for ever after.
    fn decode(event_type: &str, event_version: &str, payload: &str) -> Result<Self, DecodeError>;
}

/// Why a stored event could not be read back.
#[derive(Debug, Error)]
pub enum DecodeError {
    #[error("unknown event type {event_type} version {event_version}: this binary is older than the event's writer")]
    UnknownType { event_type: String, event_version: String },
    #[error("payload of {event_type} version {event_version} does not fit its type: {reason}")]
    Payload { event_type: String, event_version: String, reason: String },
}

/// Declares a service's event enum: `"TypeName" "version" => Struct`. The type name is written by hand, because it is
/// stored for ever; the payload carries it once more as `type`, so that it can be read without its envelope.
macro_rules! published {
    ($(#[$meta:meta])* pub enum $name:ident { $($event_type:literal $event_version:literal => $event:ident,)+ }) => {
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

            fn decode(event_type: &str, event_version: &str, payload: &str) -> Result<Self, $crate::DecodeError> {
                let outcome = match (event_type, event_version) {
                    $(($event_type, $event_version) => serde_json::from_str(payload).map(Self::$event),)+
                    _ => return Err($crate::DecodeError::UnknownType {
                        event_type: event_type.to_owned(),
                        event_version: event_version.to_owned(),
                    }),
                };
                outcome.map_err(|error| $crate::DecodeError::Payload {
                    event_type: event_type.to_owned(),
                    event_version: event_version.to_owned(),
                    // serde names the field and the place, never the value around it
                    reason: error.to_string(),
                })
            }
        }
    };
}
pub(crate) use published;
