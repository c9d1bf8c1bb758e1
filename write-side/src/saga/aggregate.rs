//! A saga as an aggregate: what it is told becomes an event, and the event says what is to be done about it.
//!
//! Invariants:
//! - effects are computed here, once, and stored with their event; whoever does them only reads;
//! - only the answer to the very effect that is open counts: what is answered twice, late, or undone meanwhile changes
//!   nothing;
//! - a step that was asked for is asked for until it is answered, undone, or decided about by hand;
//! - it ends only when nothing is open, and every end is an event.

use chrono::{DateTime, Utc};
use cqrs_es::{Aggregate, event_sink::EventSink};
use event_store::bus::{Domain, Refusal};
use events::saga::{
    Advanced, Compensated, Completed, Decided, Decision, Effect, EffectId, Input, Reply, SagaEvent, Started, Stuck,
    Timer,
};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use uuid::Uuid;

use super::{
    definition::{Definition, Happened, Outcome},
    instance::{Asked, EffectOf, InputOf, Instance},
};

/// Counted on when the engine folds differently.
const ENGINE_FOLD: u32 = 1;

/// So many folds a definition may have had.
const DEFINITION_FOLDS_MAX: u32 = 10_000;

/// What a saga can be told, by its dispatcher and by operators.
#[derive(Debug, Clone, PartialEq)]
pub enum SagaCommand<D: Definition> {
    /// Something happened elsewhere; it may start an instance.
    Observe { ids: D::Ids, fact: D::Fact, at: DateTime<Utc>, deadline_at: DateTime<Utc> },
    /// Who was asked has answered.
    Reply { step: D::Step, effect: EffectId, reply: Reply, at: DateTime<Utc> },
    /// A time has come.
    Fire { effect: EffectId, timer: Timer, at: DateTime<Utc> },
    /// Who was asked does not answer.
    Unanswered { step: D::Step, effect: EffectId, attempts: u32, reason: String, at: DateTime<Utc> },
    /// An operator's word.
    Decide { step: D::Step, decision: Decision, by: String, reason: String, at: DateTime<Utc> },
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SagaError {
    #[error("there is no such {0}")]
    NotFound(&'static str),
    #[error("step {step} is not open: there is nothing to decide about it")]
    NotOpen { step: String },
}

/// An instance, or none yet.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(bound = "")]
pub enum Saga<D: Definition> {
    #[default]
    Absent,
    Known(Box<Instance<D>>),
}

impl<D: Definition> Saga<D> {
    pub fn known(&self) -> Option<&Instance<D>> {
        match self {
            Self::Absent => None,
            Self::Known(instance) => Some(instance),
        }
    }

    pub fn into_known(self) -> Option<Instance<D>> {
        match self {
            Self::Absent => None,
            Self::Known(instance) => Some(*instance),
        }
    }

    /// What comes of a command. Pure.
    pub fn decide(&self, command: SagaCommand<D>) -> Result<Vec<Happened<D>>, SagaError> {
        let Self::Known(instance) = self else {
            return match command {
                SagaCommand::Observe { ids, fact, at, deadline_at } => Ok(begin::<D>(ids, fact, at, deadline_at)),
                SagaCommand::Decide { .. } => Err(SagaError::NotFound(D::NAME)),
                // there is nothing that they could be about
                SagaCommand::Reply { .. } | SagaCommand::Fire { .. } | SagaCommand::Unanswered { .. } => Ok(Vec::new()),
            };
        };
        match command {
            SagaCommand::Observe { fact, at, .. } => Ok(instance.advance(Input::Observed { fact }, at)),
            SagaCommand::Reply { step, effect, reply, at } => match instance.waits_for(step, effect) {
                Some(_) => Ok(instance.advance(Input::Replied { effect, step, reply }, at)),
                None => Ok(Vec::new()),
            },
            SagaCommand::Fire { effect, timer, at } => {
                if instance.deadline != Some(effect) || at < instance.deadline_at || instance.outcome().is_some() {
                    return Ok(Vec::new());
                }
                Ok(instance.advance(Input::TimerFired { effect, timer }, at))
            }
            SagaCommand::Unanswered { step, effect, attempts, reason, at } => match instance.waits_for(step, effect) {
                Some(asked) if asked.stuck.is_none() => {
                    let (saga_id, ids) = instance.identity();
                    Ok(vec![SagaEvent::Stuck(Stuck { saga_id, ids, at, step, effect, attempts, reason })])
                }
                Some(_) | None => Ok(Vec::new()),
            },
            SagaCommand::Decide { step, decision, by, reason, at } => instance.decide(step, decision, by, reason, at),
        }
    }
}

fn begin<D: Definition>(ids: D::Ids, fact: D::Fact, at: DateTime<Utc>, deadline_at: DateTime<Utc>) -> Vec<Happened<D>> {
    let Some(mut instance) = Instance::<D>::begin(D::VERSION, &ids, &fact, at, deadline_at) else { return Vec::new() };
    let mut effects = vec![Effect::Wake { timer: Timer::Deadline, at: deadline_at }];
    effects.extend(instance.effects(at));
    instance.ask(&effects, at);
    let (saga_id, phase) = (instance.saga_id, instance.phase().to_owned());
    let started = Started { saga_id, ids, version: D::VERSION, deadline_at, at, fact, phase, effects };
    [SagaEvent::Started(started)].into_iter().chain(instance.ended(None, at)).collect()
}

impl<D: Definition> Instance<D> {
    fn identity(&self) -> (Uuid, D::Ids) {
        (self.saga_id, self.ids.clone())
    }

    /// What is news becomes an event, with what is to be done about it.
    fn advance(&self, input: InputOf<D>, at: DateTime<Utc>) -> Vec<Happened<D>> {
        let mut next = self.clone();
        next.learn(&input);
        let effects = next.effects(at);
        // what was known, or does not matter here; an answer and a timer always change something
        if effects.is_empty() && next == *self {
            return Vec::new();
        }
        next.ask(&effects, at);
        let (saga_id, ids) = self.identity();
        let phase = next.phase().to_owned();
        let mut events = vec![SagaEvent::Advanced(Advanced { saga_id, ids, at, input, phase, effects })];
        events.extend(next.refused_too_often(at));
        events.extend(next.ended(self.outcome(), at));
        events
    }

    fn decide(
        &self,
        step: D::Step,
        decision: Decision,
        by: String,
        reason: String,
        at: DateTime<Utc>,
    ) -> Result<Vec<Happened<D>>, SagaError> {
        if !self.open().any(|(open, _)| open == step) {
            return Err(SagaError::NotOpen { step: format!("{step:?}") });
        }
        let mut next = self.clone();
        next.decided(step, decision);
        let mut effects: Vec<EffectOf<D>> = match decision {
            Decision::Retry => vec![next.asking(step, None)],
            Decision::Force | Decision::Skip => Vec::new(),
        };
        effects.extend(next.effects(at));
        next.ask(&effects, at);
        let (saga_id, ids) = self.identity();
        let phase = next.phase().to_owned();
        let decided = Decided { saga_id, ids, at, decision, step, by, reason, phase, effects };
        let decided = SagaEvent::Decided(decided);
        Ok([decided].into_iter().chain(next.ended(self.outcome(), at)).collect())
    }

    /// Said once for each, at the bound: they go on being asked for.
    fn refused_too_often(&self, at: DateTime<Utc>) -> impl Iterator<Item = Happened<D>> {
        let too_often = |asked: &Asked| asked.refusals >= D::PACE.refusals_max && asked.stuck.is_none();
        self.open().filter(move |(_, asked)| too_often(asked)).map(move |(step, asked)| {
            let (saga_id, ids) = self.identity();
            let (effect, attempts) = (asked.effect, asked.refusals);
            let code = asked.refusal.as_deref().unwrap_or_default();
            let reason = format!("refused {attempts} times, the last time with {code}");
            SagaEvent::Stuck(Stuck { saga_id, ids, at, step, effect, attempts, reason })
        })
    }

    /// Its end, if it was not there `before`.
    fn ended(&self, before: Option<Outcome>, at: DateTime<Utc>) -> Option<Happened<D>> {
        let outcome = self.outcome().filter(|outcome| before.as_ref() != Some(outcome))?;
        let (saga_id, ids) = self.identity();
        Some(match outcome {
            Outcome::Completed => SagaEvent::Completed(Completed { saga_id, ids, at }),
            Outcome::Compensated { reason } => SagaEvent::Compensated(Compensated { saga_id, ids, at, reason }),
        })
    }
}

impl<D: Definition> Aggregate for Saga<D> {
    const TYPE: &'static str = D::NAME;
    type Command = SagaCommand<D>;
    type Event = D::Event;
    type Error = SagaError;
    type Services = ();

    async fn handle(
        &mut self,
        command: Self::Command,
        _services: &(),
        sink: &EventSink<Self>,
    ) -> Result<(), SagaError> {
        for event in self.decide(command)? {
            sink.write(event.into(), self).await;
        }
        Ok(())
    }

    fn apply(&mut self, event: D::Event) {
        let happened: Happened<D> = event.into();
        match (happened, &mut *self) {
            (SagaEvent::Started(started), _) => *self = Self::Known(Box::new(Instance::started(&started))),
            (happened, Self::Known(instance)) => instance.apply(happened),
            (_, Self::Absent) => {}
        }
    }
}

impl<D: Definition> Instance<D> {
    fn apply(&mut self, happened: Happened<D>) {
        match happened {
            // only ever the first
            SagaEvent::Started(_) => {}
            SagaEvent::Advanced(Advanced { input, effects, at, .. }) => {
                self.learn(&input);
                self.ask(&effects, at);
            }
            SagaEvent::Stuck(Stuck { step, reason, at, .. }) => {
                self.is_stuck(step, &reason);
                self.ask(&[], at);
            }
            SagaEvent::Decided(Decided { step, decision, effects, at, .. }) => {
                self.decided(step, decision);
                self.ask(&effects, at);
            }
            // what they say follows from what was learned before
            SagaEvent::Completed(Completed { at, .. }) | SagaEvent::Compensated(Compensated { at, .. }) => {
                self.ask(&[], at);
            }
        }
    }
}

impl<D: Definition> Domain for Saga<D> {
    const VERSION: u32 = ENGINE_FOLD * DEFINITION_FOLDS_MAX + D::FOLD;

    fn refusal(error: &SagaError) -> Refusal {
        let detail = error.to_string();
        match error {
            SagaError::NotFound(name) => Refusal::new(format!("{name}_not_found"), detail),
            SagaError::NotOpen { step } => Refusal::new("step_not_open", detail).with("step", step.as_str()),
        }
    }
}
