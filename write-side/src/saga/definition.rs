//! What a saga is made of. Pure: no time, no ids that are drawn, no IO.
//!
//! A definition says **what is due in a state**, not what to do after what. The engine asks for whatever is due and was
//! not asked for yet, so any order of answers and facts leads to the same place, and nothing is asked for twice.
//!
//! It has three kinds of steps ([`Kind`]). Up to the pivot everything that is asked for can be undone; from then on
//! everything that is due is asked for until it is done.

use std::{
    collections::BTreeSet,
    fmt::{self, Debug},
    hash::Hash,
    time::Duration,
};

use cqrs_es::DomainEvent;
use event_store::follower::{Backoff, Reject};
use events::{Published, envelope::RecordedEvent, saga::SagaEvent};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use uuid::Uuid;

pub use events::saga::Request;

/// Under which ids of instances are made.
const SAGA_NAMESPACE: Uuid = Uuid::from_u128(0x5a3e_1c70_94d2_4b6a_a1f7_3d0c_6e58_27b9);

/// The engine's words for a saga's events.
pub type Happened<D> = SagaEvent<<D as Definition>::Ids, <D as Definition>::Step, <D as Definition>::Fact>;

/// Which instance is told, and what.
pub type Told<D> = (<D as Definition>::Ids, <D as Definition>::Fact);

/// One saga: `#[derive(Debug, Clone, PartialEq)] pub struct Checkout;`.
///
/// **Versions.** An instance keeps the [`Definition::VERSION`] it was started with, and every function here that decides
/// something is told it. A change of what an instance does is a new version: the old one's branch stays for as long as
/// instances of it may be read again, and that is for ever, because `learn` folds them.
pub trait Definition: Debug + Clone + PartialEq + Send + Sync + 'static {
    /// The aggregate type of its streams, the first part of its instances' ids.
    const NAME: &'static str;
    /// What new instances get.
    const VERSION: u32;
    /// Of the state's form, for snapshots: counted on when [`Self::State`] changes or `learn` makes something else of the
    /// same events.
    const FOLD: u32 = 1;
    /// How long an instance may be on its way to the pivot, unless it is configured otherwise.
    const DEADLINE: Duration;
    const PACE: Pace = Pace::USUAL;

    /// What others know an instance by; goes onto each of its events.
    type Ids: Debug + Clone + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static;
    /// A step, with what tells it from others of its kind: `Reserve(line)`, `Refund(n)`.
    type Step: Debug + Copy + Ord + Hash + Serialize + DeserializeOwned + Send + Sync + 'static;
    /// What happened elsewhere, as far as it matters here. Nothing personal.
    type Fact: Debug + Clone + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static;
    /// What is known. It does not hold which steps were asked for: that is the engine's.
    type State: Debug + Clone + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static;
    /// Declared with [`events::saga_events!`].
    type Event: Published
        + DomainEvent
        + From<Happened<Self>>
        + Into<Happened<Self>>
        + Serialize
        + DeserializeOwned
        + Send
        + Sync
        + 'static;

    /// What an event of another service (or of this one's other aggregates) tells an instance: which one, and what.
    fn told(source: &str, event: &RecordedEvent) -> Result<Option<Told<Self>>, Reject>;

    /// Whether an event says that what would be the instance of `key` has gone on without one: then none is begun for it
    /// by hand any more.
    fn goes_on_without(source: &str, event: &RecordedEvent, key: &str) -> Result<bool, Reject> {
        let _ = (source, event, key);
        Ok(false)
    }

    /// What tells instances apart: [`saga_id`] is made from it.
    fn key(ids: &Self::Ids) -> String;

    /// Whether a fact starts an instance, and how that one begins. It is not told of this fact again.
    fn begin(version: u32, ids: &Self::Ids, fact: &Self::Fact) -> Option<Self::State>;

    /// Takes note. Whatever comes again, late or in another order must lead to the same place.
    fn learn(version: u32, state: &mut Self::State, news: News<'_, Self>);

    /// A fact by which a step failed although its request was accepted, since that only said that it would be tried: the
    /// step counts as refused, with this code. It is called before [`Self::learn`] is told the fact.
    fn failed(version: u32, state: &Self::State, fact: &Self::Fact) -> Option<(Self::Step, String)> {
        let _ = (version, state, fact);
        None
    }

    /// What is to be in flight or done in this state, in order. What was asked for once is not asked for again, so this
    /// may repeat what is done. What was refused is asked for again for as long as it stands here.
    fn due(version: u32, state: &Self::State) -> Vec<Self::Step>;

    /// How a step is asked for. It is called anew for each time that the step is asked for, in the state of that time.
    fn request(version: u32, state: &Self::State, step: Self::Step) -> Request;

    fn kind(step: Self::Step) -> Kind<Self::Step>;

    /// Where it stands, for people, metrics and the diagram: named after what it waits for.
    fn phase(version: u32, state: &Self::State) -> &'static str;

    /// What it waits for while it asks for nothing: a fact that somebody owes it. For people and metrics only; nothing
    /// is decided by it.
    fn awaits(version: u32, state: &Self::State) -> Option<Awaited> {
        let _ = (version, state);
        None
    }

    /// Whether it is at its end. It counts once no step is open any more, and may be taken back by a later fact.
    fn outcome(version: u32, state: &Self::State) -> Option<Outcome>;
}

/// What becomes of a step that is refused, and how it is taken back. A compensable step without an undo cannot be
/// written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind<S> {
    /// Asking for `undo` also ends the step itself: if it is still open it is not sent any more, and a late answer
    /// changes nothing. So the undo must hold at the other service even if it arrives first. One undo may serve several
    /// steps; it is retriable itself.
    Compensable { undo: S },
    /// Its answer says which way it goes. It is asked for until there is one, and never undone.
    Pivot,
    /// Cannot be refused for good: it is asked for again until it is accepted, or not due any more.
    Retriable,
}

/// What a definition is told.
#[derive(Debug, Clone, PartialEq)]
pub enum News<'a, D: Definition> {
    /// Something happened elsewhere.
    Fact(&'a D::Fact),
    /// A step is over. Refusals of [`Kind::Retriable`] are none: the engine asks again.
    Ended { step: D::Step, end: End<'a> },
    /// The time is over. What it means is the definition's to say: before the pivot it gives up.
    Deadline,
}

/// How a step ended.
#[derive(Debug, Clone, PartialEq)]
pub enum End<'a> {
    /// With the member of the answer that the request wanted kept. `None` as well if an operator forced it: it was done
    /// by hand, and as it was wanted.
    Accepted { report: Option<&'a Value> },
    /// With a code of `docs/errors.md`.
    Refused { code: &'a str },
    /// An operator ended it, and it was not done.
    Skipped,
}

/// The end of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Completed,
    Compensated { reason: String },
}

/// A fact that somebody owes an instance, because it was promised or because it is their part to see to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Awaited {
    /// By the name of the event that it will be.
    pub fact: &'static str,
    /// Who is to publish it.
    pub service: &'static str,
    /// For how long there is nothing to wonder about. Beyond it the fact is overdue, and somebody should look there.
    pub patience: Duration,
}

/// How often and how soon what does not succeed is asked for again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// After a refusal of a retriable step, and after no answer.
    pub backoff: Backoff,
    /// After so many refusals in a row a step is stuck.
    pub refusals_max: u32,
    /// After so many attempts without an answer a step is stuck.
    pub attempts_max: u32,
}

impl Pace {
    /// Eight attempts take a good minute: longer than a restart, shorter than patience.
    pub const USUAL: Self = Self {
        backoff: Backoff { first: Duration::from_millis(500), max: Duration::from_secs(60) },
        refusals_max: 5,
        attempts_max: 8,
    };
}

/// The id of an instance: the same whoever computes it.
pub fn saga_id(name: &str, key: &str) -> Uuid {
    Uuid::new_v5(&Uuid::new_v5(&SAGA_NAMESPACE, name.as_bytes()), key.as_bytes())
}

/// What is wrong with the kinds of `steps`, which are all that a definition has: an undo that could be refused for good.
/// For a definition's test.
pub fn faults<D: Definition>(steps: impl IntoIterator<Item = D::Step>) -> Vec<String> {
    let steps: BTreeSet<D::Step> = steps.into_iter().collect();
    let fault = |step: &D::Step| match D::kind(*step) {
        Kind::Compensable { undo } if D::kind(undo) != Kind::Retriable => {
            Some(format!("{step:?} is undone by {undo:?}, which could itself be refused"))
        }
        Kind::Compensable { undo } if !steps.contains(&undo) => {
            Some(format!("{step:?} is undone by {undo:?}, which is not among the steps"))
        }
        Kind::Compensable { .. } | Kind::Pivot | Kind::Retriable => None,
    };
    steps.iter().filter_map(fault).collect()
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Completed => f.write_str("completed"),
            Self::Compensated { reason } => write!(f, "compensated: {reason}"),
        }
    }
}
