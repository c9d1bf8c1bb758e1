//! What every saga publishes, whichever it is: the same six events over its own ids `I`, steps `S` and facts `F`.
//!
//! A saga's file declares them with [`saga_events!`](crate::saga_events): types of its own names, one closed enum, and
//! the way between that enum and [`SagaEvent`], which the engine speaks. What is to be done is part of the event that
//! made it so ([`Effect`]): whoever does it reads it here, and never computes it anew.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

/// The events of any saga.
#[derive(Debug, Clone, PartialEq)]
pub enum SagaEvent<I, S, F> {
    Started(Started<I, S, F>),
    Advanced(Advanced<I, S, F>),
    Stuck(Stuck<I, S>),
    Decided(Decided<I, S>),
    Completed(Completed<I>),
    Compensated(Compensated<I>),
}

/// A fact has begun an instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Started<I, S, F> {
    pub saga_id: Uuid,
    /// What others know it by.
    #[serde(flatten)]
    pub ids: I,
    /// Of the definition. The instance keeps it to its end.
    pub version: u32,
    /// When it gives up, unless it is past the point of no return by then.
    pub deadline_at: DateTime<Utc>,
    pub at: DateTime<Utc>,
    pub fact: F,
    /// For people: where it stands behind this event.
    pub phase: String,
    pub effects: Vec<Effect<S>>,
}

/// It has learned something.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Advanced<I, S, F> {
    pub saga_id: Uuid,
    #[serde(flatten)]
    pub ids: I,
    pub at: DateTime<Utc>,
    pub input: Input<S, F>,
    pub phase: String,
    #[serde(default = "Vec::new", skip_serializing_if = "Vec::is_empty")]
    pub effects: Vec<Effect<S>>,
}

/// A step is not answered, or refused again and again. It goes on being asked for, slowly; somebody should look.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stuck<I, S> {
    pub saga_id: Uuid,
    #[serde(flatten)]
    pub ids: I,
    pub at: DateTime<Utc>,
    pub step: S,
    pub effect: EffectId,
    pub attempts: u32,
    /// Nothing personal.
    pub reason: String,
}

/// Somebody has decided about a step by hand.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decided<I, S> {
    pub saga_id: Uuid,
    #[serde(flatten)]
    pub ids: I,
    pub at: DateTime<Utc>,
    pub decision: Decision,
    pub step: S,
    /// The principal: an id, never a name.
    pub by: String,
    pub reason: String,
    pub phase: String,
    #[serde(default = "Vec::new", skip_serializing_if = "Vec::is_empty")]
    pub effects: Vec<Effect<S>>,
}

/// It has come to its good end. A later fact may wake it up again; then it ends once more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Completed<I> {
    pub saga_id: Uuid,
    #[serde(flatten)]
    pub ids: I,
    pub at: DateTime<Utc>,
}

/// What it had done is undone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Compensated<I> {
    pub saga_id: Uuid,
    #[serde(flatten)]
    pub ids: I,
    pub at: DateTime<Utc>,
    pub reason: String,
}

/// Something to be done outside. Its identity is its event's and its place there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Effect<S> {
    /// A command is to be sent until it is answered.
    Ask {
        step: S,
        request: Request,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        not_before: Option<DateTime<Utc>>,
    },
    /// The saga is to be told that a time has come.
    Wake { timer: Timer, at: DateTime<Utc> },
}

/// What a saga can be woken up for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Timer {
    Deadline,
}

/// Where an effect is written down: the version of the saga's stream that its event made, and its place in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EffectId {
    pub sequence: u64,
    pub index: u16,
}

impl fmt::Display for EffectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.sequence, self.index)
    }
}

/// A command to another service, as it goes out. Holds nothing personal: it is written down for good.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    pub service: String,
    pub path: String,
    pub body: Value,
    /// Whichever version the other's stream has (`If-Match: *`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub any_version: bool,
    /// The member of the answer that the saga wants to be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<String>,
}

impl Request {
    /// `POST path` of `service`.
    pub fn post(service: &str, path: impl Into<String>, body: Value) -> Self {
        Self { service: service.to_owned(), path: path.into(), body, any_version: false, keep: None }
    }

    #[must_use]
    pub fn any_version(self) -> Self {
        Self { any_version: true, ..self }
    }

    #[must_use]
    pub fn keep(self, member: &str) -> Self {
        Self { keep: Some(member.to_owned()), ..self }
    }
}

/// What a saga learns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Input<S, F> {
    /// Something happened elsewhere.
    Observed { fact: F },
    /// Who was asked has answered: the only source for what became of a saga's own commands.
    Replied { effect: EffectId, step: S, reply: Reply },
    /// A time has come.
    TimerFired { effect: EffectId, timer: Timer },
}

/// An answer to what a saga asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    Accepted {
        /// The member of the answer that [`Request::keep`] names.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        report: Option<Value>,
    },
    Refused {
        /// One of `docs/errors.md`.
        code: String,
        /// One sentence, nothing personal.
        detail: String,
    },
}

/// What an operator can decide about a step that is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// Ask again, now.
    Retry,
    /// It counts as accepted: it was done by hand.
    Force,
    /// It counts as over, without having been done.
    Skip,
}

impl Decision {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Force => "force",
            Self::Skip => "skip",
        }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Declares a saga's events: six types of the names given, over its ids, steps and facts, and the enum of all of them.
/// The order is that of [`SagaEvent`]; versions that are no longer written follow as in [`published!`](crate::published).
#[macro_export]
macro_rules! saga_events {
    (
        $(#[$meta:meta])* pub enum $name:ident of <$ids:ty, $step:ty, $fact:ty> {
            $started_type:literal $started_version:literal => $started:ident,
            $advanced_type:literal $advanced_version:literal => $advanced:ident,
            $stuck_type:literal $stuck_version:literal => $stuck:ident,
            $decided_type:literal $decided_version:literal => $decided:ident,
            $completed_type:literal $completed_version:literal => $completed:ident,
            $compensated_type:literal $compensated_version:literal => $compensated:ident,
        }
        $(upcast { $($old:tt)+ })?
    ) => {
        pub type $started = $crate::saga::Started<$ids, $step, $fact>;
        pub type $advanced = $crate::saga::Advanced<$ids, $step, $fact>;
        pub type $stuck = $crate::saga::Stuck<$ids, $step>;
        pub type $decided = $crate::saga::Decided<$ids, $step>;
        pub type $completed = $crate::saga::Completed<$ids>;
        pub type $compensated = $crate::saga::Compensated<$ids>;

        $crate::published! {
            $(#[$meta])*
            #[allow(clippy::enum_variant_names)]
            pub enum $name {
                $started_type $started_version => $started,
                $advanced_type $advanced_version => $advanced,
                $stuck_type $stuck_version => $stuck,
                $decided_type $decided_version => $decided,
                $completed_type $completed_version => $completed,
                $compensated_type $compensated_version => $compensated,
            }
            $(upcast { $($old)+ })?
        }

        impl From<$crate::saga::SagaEvent<$ids, $step, $fact>> for $name {
            fn from(event: $crate::saga::SagaEvent<$ids, $step, $fact>) -> Self {
                match event {
                    $crate::saga::SagaEvent::Started(event) => Self::$started(event),
                    $crate::saga::SagaEvent::Advanced(event) => Self::$advanced(event),
                    $crate::saga::SagaEvent::Stuck(event) => Self::$stuck(event),
                    $crate::saga::SagaEvent::Decided(event) => Self::$decided(event),
                    $crate::saga::SagaEvent::Completed(event) => Self::$completed(event),
                    $crate::saga::SagaEvent::Compensated(event) => Self::$compensated(event),
                }
            }
        }

        impl From<$name> for $crate::saga::SagaEvent<$ids, $step, $fact> {
            fn from(event: $name) -> Self {
                match event {
                    $name::$started(event) => Self::Started(event),
                    $name::$advanced(event) => Self::Advanced(event),
                    $name::$stuck(event) => Self::Stuck(event),
                    $name::$decided(event) => Self::Decided(event),
                    $name::$completed(event) => Self::Completed(event),
                    $name::$compensated(event) => Self::Compensated(event),
                }
            }
        }
    };
}
