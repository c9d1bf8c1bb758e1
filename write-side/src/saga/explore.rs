//! Every way that an instance can go: for a definition's laws, and for the diagram in `docs/`.
//!
//! Breadth first over all inputs that the caller says are possible in a state. Two ways that lead to the same knowledge
//! and the same steps in the same status are one; when and how often something was asked for does not tell states apart.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use chrono::{DateTime, Utc};
use cqrs_es::Aggregate;
use events::saga::{Input, Reply};
use serde_json::Value;

use super::{
    aggregate::{Saga, SagaCommand},
    definition::{Definition, Kind, Outcome},
    instance::{InputOf, Instance},
};

/// From one phase to another, by an input.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edge {
    pub from: &'static str,
    pub input: String,
    pub to: &'static str,
}

/// All that can happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explored {
    pub begins: &'static str,
    /// Between different phases only.
    pub edges: BTreeSet<Edge>,
    /// Phases in which an instance may be at its end.
    pub ends: BTreeMap<&'static str, BTreeSet<&'static str>>,
    pub states: usize,
    /// Phases with a state that no input leads out of and that is no end: nobody would ever hear of it again.
    pub dead_ends: BTreeSet<&'static str>,
}

/// Explores all ways from `fact`. `inputs` says what may happen in a state ([`replies`] is a good part of it), `label`
/// what the diagram calls it. `None` = there are more than `states_max` states.
pub fn explore<D: Definition>(
    ids: &D::Ids,
    fact: &D::Fact,
    inputs: impl Fn(&Instance<D>) -> Vec<InputOf<D>>,
    label: impl Fn(&InputOf<D>) -> String,
    states_max: usize,
) -> Option<Explored> {
    let start = begun::<D>(ids, fact);
    let first = start.known().expect("the fact begins an instance");
    let mut explored = Explored {
        begins: first.phase(),
        edges: BTreeSet::new(),
        ends: BTreeMap::new(),
        states: 1,
        dead_ends: BTreeSet::new(),
    };
    let mut seen = BTreeSet::from([likeness(first)]);
    let mut ahead = VecDeque::from([start]);
    while let Some(saga) = ahead.pop_front() {
        let instance = saga.known().expect("what began stays");
        let from = instance.phase();
        let mut goes_on = false;
        for input in inputs(instance) {
            let next = after(&saga, &input);
            let reached = next.known().expect("what began stays");
            goes_on |= likeness(reached) != likeness(instance);
            if reached.phase() != from {
                explored.edges.insert(Edge { from, input: label(&input), to: reached.phase() });
            }
            if seen.insert(likeness(reached)) {
                ahead.push_back(next);
            }
        }
        let end = instance.outcome().map(|outcome| match outcome {
            Outcome::Completed => "completed",
            Outcome::Compensated { .. } => "compensated",
        });
        match end {
            Some(end) => {
                explored.ends.entry(from).or_default().insert(end);
            }
            None if !goes_on => {
                explored.dead_ends.insert(from);
            }
            None => {}
        }
        explored.states = seen.len();
        if explored.states > states_max {
            return None;
        }
    }
    Some(explored)
}

impl Explored {
    /// As a state diagram in Mermaid's words; inputs that lead the same way share an arrow.
    pub fn mermaid(&self) -> String {
        let mut arrows: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
        for Edge { from, input, to } in &self.edges {
            arrows.entry((from, to)).or_default().push(input);
        }
        let mut text = format!("stateDiagram-v2\n    [*] --> {}\n", self.begins);
        for ((from, to), inputs) in arrows {
            text.push_str(&format!("    {from} --> {to}: {}\n", inputs.join("<br/>")));
        }
        for (phase, outcomes) in &self.ends {
            let outcomes: Vec<&str> = outcomes.iter().copied().collect();
            text.push_str(&format!("    {phase} --> [*]: {}\n", outcomes.join(" or ")));
        }
        text
    }
}

/// Each open step accepted without a report, and refused where that is news.
pub fn replies<D: Definition>(instance: &Instance<D>) -> Vec<InputOf<D>> {
    let answers = |(step, asked): (D::Step, &super::instance::Asked)| {
        let effect = asked.effect;
        let refused = Reply::Refused { code: "refused".to_owned(), detail: String::new() };
        let refused = (D::kind(step) != Kind::Retriable).then_some(refused);
        [Some(Reply::Accepted { report: None }), refused].into_iter().flatten().map(move |reply| Input::Replied {
            effect,
            step,
            reply,
        })
    };
    instance.open().flat_map(answers).collect()
}

/// What `fact` begins.
pub fn begun<D: Definition>(ids: &D::Ids, fact: &D::Fact) -> Saga<D> {
    let (ids, fact, at) = (ids.clone(), fact.clone(), DateTime::UNIX_EPOCH);
    applied(&Saga::Absent, SagaCommand::Observe { ids, fact, at, deadline_at: at })
}

/// A saga after an input, at a time that says nothing.
pub fn after<D: Definition>(saga: &Saga<D>, input: &InputOf<D>) -> Saga<D> {
    let Some(instance) = saga.known() else { return saga.clone() };
    let at: DateTime<Utc> = DateTime::UNIX_EPOCH;
    let command = match input.clone() {
        Input::Observed { fact } => {
            SagaCommand::Observe { ids: instance.ids.clone(), fact, at, deadline_at: instance.deadline_at }
        }
        Input::Replied { effect, step, reply } => SagaCommand::Reply { step, effect, reply, at },
        Input::TimerFired { effect, timer } => SagaCommand::Fire { effect, timer, at },
    };
    applied(saga, command)
}

fn applied<D: Definition>(saga: &Saga<D>, command: SagaCommand<D>) -> Saga<D> {
    let mut next = saga.clone();
    // only operators are refused
    for event in saga.decide(command).unwrap_or_default() {
        next.apply(event.into());
    }
    next
}

/// What tells states apart.
fn likeness<D: Definition>(instance: &Instance<D>) -> String {
    let steps: Vec<_> = instance.steps.iter().map(|(step, asked)| (step, asked.status)).collect();
    let state: Value = serde_json::to_value(&instance.state).expect("a state serializes");
    serde_json::to_string(&(state, steps, instance.deadline.is_some())).expect("values serialize")
}
