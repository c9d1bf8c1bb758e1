//! One run of a saga: what its definition knows, and what was asked for. Pure.
//!
//! [`Instance::learn`] and [`Instance::ask`] are the whole fold; [`Instance::effects`] is what a decision adds to it. So
//! what is computed when something is learned and what is read back later take the same way.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use events::saga::{Decision, Effect, EffectId, Input, Reply, Started, Timer};
use rpds::RedBlackTreeMapSync;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::definition::{Awaited, Definition, End, Kind, News, Outcome};

/// The most commands that one event asks for: with it an event stays far below what a log takes. What is due beyond it
/// is asked for with the next input, and there is one, since these are answered.
pub const ASKS_PER_EVENT_MAX: usize = 256;

pub type InputOf<D> = Input<<D as Definition>::Step, <D as Definition>::Fact>;
/// Every step that was ever asked for. The map shares what it has in common with its copies: each input is decided on a
/// copy, and an order of 2,000 lines comes to 8,000 steps.
pub type Steps<S> = RedBlackTreeMapSync<S, Asked>;
pub type EffectOf<D> = Effect<<D as Definition>::Step>;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Instance<D: Definition> {
    pub saga_id: Uuid,
    pub ids: D::Ids,
    /// Of the definition, for good.
    pub version: u32,
    pub started_at: DateTime<Utc>,
    pub changed_at: DateTime<Utc>,
    pub deadline_at: DateTime<Utc>,
    /// Its stream's: how many events have been folded.
    pub sequence: u64,
    pub state: D::State,
    /// Not fired yet.
    pub deadline: Option<EffectId>,
    #[serde(with = "as_list")]
    pub steps: Steps<D::Step>,
}

/// What became of a step that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// The last time it was asked for: answers to earlier ones are not waited for.
    pub effect: EffectId,
    pub status: Status,
    /// Since it was asked for first, or an operator last had it asked again.
    pub refusals: u32,
    /// The code of the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<DateTime<Utc>>,
    /// Why somebody should look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stuck: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Not answered yet.
    Open,
    /// Refused, and asked for again whenever it is due.
    Again,
    Accepted,
    Refused,
    /// By an operator.
    Skipped,
    /// Its undo was asked for before it was answered.
    Closed,
}

impl<D: Definition> Instance<D> {
    /// As a fact begins it; nothing is asked for yet.
    pub fn begin(
        version: u32,
        ids: &D::Ids,
        fact: &D::Fact,
        at: DateTime<Utc>,
        deadline_at: DateTime<Utc>,
    ) -> Option<Self> {
        Some(Self {
            saga_id: super::definition::saga_id(D::NAME, &D::key(ids)),
            ids: ids.clone(),
            version,
            started_at: at,
            changed_at: at,
            deadline_at,
            sequence: 0,
            state: D::begin(version, ids, fact)?,
            deadline: None,
            steps: Steps::new_sync(),
        })
    }

    /// As its first event tells it.
    pub fn started(started: &Started<D::Ids, D::Step, D::Fact>) -> Self {
        let Started { ids, version, deadline_at, at, fact, effects, .. } = started;
        let begun = Self::begin(*version, ids, fact, *at, *deadline_at);
        let mut instance = begun.expect("what began an instance once begins it whenever it is read");
        instance.ask(effects, *at);
        instance
    }

    pub fn phase(&self) -> &'static str {
        D::phase(self.version, &self.state)
    }

    /// Its end. There is none while a step is open.
    pub fn outcome(&self) -> Option<Outcome> {
        if self.open().next().is_some() { None } else { D::outcome(self.version, &self.state) }
    }

    /// The fact that it waits for, and when that is overdue. There is none while a step is open: that is waited for first.
    pub fn awaits(&self) -> Option<(Awaited, DateTime<Utc>)> {
        if self.open().next().is_some() || self.outcome().is_some() {
            return None;
        }
        let awaited = D::awaits(self.version, &self.state)?;
        Some((awaited, self.changed_at + awaited.patience))
    }

    /// What it waits for an answer to.
    pub fn open(&self) -> impl Iterator<Item = (D::Step, &Asked)> {
        self.steps.iter().filter(|(_, asked)| asked.status == Status::Open).map(|(step, asked)| (*step, asked))
    }

    /// What somebody should look at.
    pub fn stuck(&self) -> impl Iterator<Item = (D::Step, &Asked, &str)> {
        self.open().filter_map(|(step, asked)| Some((step, asked, asked.stuck.as_deref()?)))
    }

    /// The step, if this very effect of it is not answered yet.
    pub fn waits_for(&self, step: D::Step, effect: EffectId) -> Option<&Asked> {
        self.steps.get(&step).filter(|asked| asked.status == Status::Open && asked.effect == effect)
    }

    /// Takes note of an input.
    pub fn learn(&mut self, input: &InputOf<D>) {
        match input {
            Input::Observed { fact } => {
                if let Some((step, code)) = D::failed(self.version, &self.state, fact) {
                    self.refused(step, &code);
                }
                self.tell(News::Fact(fact));
            }
            Input::Replied { step, reply: Reply::Accepted { report }, .. } => self.accepted(*step, report.as_ref()),
            Input::Replied { step, reply: Reply::Refused { code, .. }, .. } => self.refused(*step, code),
            Input::TimerFired { timer: Timer::Deadline, .. } => {
                self.deadline = None;
                self.tell(News::Deadline);
            }
        }
    }

    /// Takes note of an operator's decision.
    pub fn decided(&mut self, step: D::Step, decision: Decision) {
        match decision {
            Decision::Retry => {
                if let Some(asked) = self.steps.get_mut(&step) {
                    (asked.refusals, asked.stuck) = (0, None);
                }
            }
            Decision::Force => self.accepted(step, None),
            Decision::Skip => {
                self.end(step, Status::Skipped);
                self.tell(News::Ended { step, end: End::Skipped });
            }
        }
    }

    /// Takes note that somebody should look at a step.
    pub fn is_stuck(&mut self, step: D::Step, reason: &str) {
        if let Some(asked) = self.steps.get_mut(&step) {
            asked.stuck = Some(reason.to_owned());
        }
    }

    /// What is to be asked for now: what is due and was not asked for, or was refused and may not be.
    pub fn effects(&self, at: DateTime<Utc>) -> Vec<EffectOf<D>> {
        let (mut effects, mut asked_now) = (Vec::new(), BTreeSet::new());
        for step in D::due(self.version, &self.state) {
            let not_before = match self.steps.get(&step) {
                None => None,
                Some(asked) if asked.status == Status::Again => Some(at + D::PACE.backoff.after(asked.refusals)),
                Some(_) => continue,
            };
            // what is undone is over
            let is_asked = |step| self.steps.contains_key(&step) || asked_now.contains(&step);
            let is_undone = matches!(D::kind(step), Kind::Compensable { undo } if is_asked(undo));
            if !is_undone && asked_now.insert(step) {
                effects.push(self.asking(step, not_before));
            }
            if effects.len() == ASKS_PER_EVENT_MAX {
                break;
            }
        }
        effects
    }

    /// A step as it is asked for in this state.
    pub fn asking(&self, step: D::Step, not_before: Option<DateTime<Utc>>) -> EffectOf<D> {
        Effect::Ask { step, request: D::request(self.version, &self.state, step), not_before }
    }

    /// Takes note of the effects of the event that comes next, and so of that event.
    pub fn ask(&mut self, effects: &[EffectOf<D>], at: DateTime<Utc>) {
        self.sequence += 1;
        self.changed_at = at;
        for (effect, index) in effects.iter().zip(0..) {
            let id = EffectId { sequence: self.sequence, index };
            match effect {
                Effect::Ask { step, not_before, .. } => {
                    let before = self.steps.get(step).cloned().unwrap_or_else(|| Asked::first(id));
                    let asked = Asked { effect: id, status: Status::Open, not_before: *not_before, ..before };
                    self.steps.insert_mut(*step, asked);
                    self.close_undone_by(*step);
                }
                Effect::Wake { timer: Timer::Deadline, .. } => self.deadline = Some(id),
            }
        }
    }

    fn close_undone_by(&mut self, undo: D::Step) {
        let is_undone = |step: &D::Step| D::kind(*step) == (Kind::Compensable { undo });
        let undone: Vec<D::Step> = self.open().map(|(step, _)| step).filter(is_undone).collect();
        undone.into_iter().for_each(|step| self.end(step, Status::Closed));
    }

    fn accepted(&mut self, step: D::Step, report: Option<&Value>) {
        self.end(step, Status::Accepted);
        self.tell(News::Ended { step, end: End::Accepted { report } });
    }

    fn refused(&mut self, step: D::Step, code: &str) {
        if D::kind(step) != Kind::Retriable {
            self.end(step, Status::Refused);
            return self.tell(News::Ended { step, end: End::Refused { code } });
        }
        if let Some(asked) = self.steps.get_mut(&step) {
            asked.status = Status::Again;
            asked.refusals = asked.refusals.saturating_add(1);
            asked.refusal = Some(code.to_owned());
        }
    }

    fn end(&mut self, step: D::Step, status: Status) {
        if let Some(asked) = self.steps.get_mut(&step) {
            // refusals are kept: what is accepted may fail later, time after time
            (asked.status, asked.not_before, asked.stuck) = (status, None, None);
        }
    }

    fn tell(&mut self, news: News<'_, D>) {
        D::learn(self.version, &mut self.state, news);
    }

    /// For people and programs that operate it: where it stands, and what it waits for.
    pub fn view(&self) -> Value {
        let open = self.open().map(|(step, asked)| {
            json!({
                "step": step,
                "effect": asked.effect.to_string(),
                "not_before": asked.not_before,
                "refusals": asked.refusals,
                "refusal": asked.refusal,
                "stuck": asked.stuck,
            })
        });
        let awaits = self.awaits().map(|(awaited, overdue_at)| {
            let Awaited { fact, service, .. } = awaited;
            json!({ "fact": fact, "service": service, "since": self.changed_at, "overdue_at": overdue_at })
        });
        json!({
            "saga_id": self.saga_id,
            "ids": self.ids,
            "version": self.version,
            "phase": self.phase(),
            "outcome": self.outcome().map(|outcome| outcome.to_string()),
            "started_at": self.started_at,
            "changed_at": self.changed_at,
            "deadline_at": self.deadline_at,
            "waits_for": open.collect::<Vec<_>>(),
            "awaits": awaits,
        })
    }
}

impl Asked {
    fn first(effect: EffectId) -> Self {
        Self { effect, status: Status::Open, refusals: 0, refusal: None, not_before: None, stuck: None }
    }
}

/// The keys of a JSON object are texts, and steps need not be.
mod as_list {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};

    use super::{Asked, Steps};

    pub fn serialize<T: Serialize + Ord, S: Serializer>(steps: &Steps<T>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(steps.iter())
    }

    pub fn deserialize<'de, T: DeserializeOwned + Ord, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Steps<T>, D::Error> {
        Ok(Vec::<(T, Asked)>::deserialize(deserializer)?.into_iter().collect())
    }
}
