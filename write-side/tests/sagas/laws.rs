//! What holds of a saga whatever happens in whichever order: no database, no time, no dispatcher.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use cqrs_es::Aggregate;
use events::saga::{Decision, Effect, EffectId, Reply, SagaEvent, Timer};
use proptest::prelude::*;
use serde_json::{from_value, json, to_value};
use uuid::Uuid;
use write_side::saga::{
    Definition, Happened, Instance, Kind, Outcome, Saga, SagaCommand, definition::faults, explore, instance::Status,
};

use super::trip::{STEPS, Trip, TripFact, TripIds, TripStep};

const IDS: TripIds = TripIds { trip_id: Uuid::from_u128(7) };

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds)
}

/// A saga of version V, everything that is under way to others and back, and what others have made of it.
struct Play<const V: u32> {
    saga: Saga<Trip<V>>,
    history: Vec<Happened<Trip<V>>>,
    /// Sent and not there yet; may arrive late, and twice.
    requests: Vec<(TripStep, EffectId)>,
    replies: Vec<(TripStep, EffectId, Reply)>,
    /// By key.
    answered: BTreeMap<EffectId, Reply>,
    unwilling: BTreeSet<TripStep>,
    booked: BTreeSet<TripStep>,
    cancelled: BTreeSet<TripStep>,
    paid: u32,
}

impl<const V: u32> Play<V> {
    fn begin(unwilling: BTreeSet<TripStep>) -> Self {
        let mut play = Self {
            saga: Saga::Absent,
            history: Vec::new(),
            requests: Vec::new(),
            replies: Vec::new(),
            answered: BTreeMap::new(),
            unwilling,
            booked: BTreeSet::new(),
            cancelled: BTreeSet::new(),
            paid: 0,
        };
        play.observe(TripFact::Wished);
        play
    }

    fn instance(&self) -> &Instance<Trip<V>> {
        self.saga.known().expect("it has begun")
    }

    fn observe(&mut self, fact: TripFact) {
        self.tell(SagaCommand::Observe { ids: IDS, fact, at: at(0), deadline_at: at(900) });
    }

    /// Decides, folds, and sends what is to be sent.
    fn tell(&mut self, command: SagaCommand<Trip<V>>) -> usize {
        let events = self.saga.decide(command).expect("only operators are refused");
        let count = events.len();
        for event in events {
            let sequence = self.history.len() as u64 + 1;
            for (effect, index) in effects(&event).iter().zip(0..) {
                match effect {
                    Effect::Ask { step, .. } => self.requests.push((*step, EffectId { sequence, index })),
                    Effect::Wake { timer: Timer::Deadline, at: time } => assert_eq!(*time, at(900)),
                }
            }
            self.history.push(event.clone());
            self.saga.apply(event.into());
        }
        assert_eq!(self.instance().sequence, self.history.len() as u64);
        count
    }

    /// A request arrives; it may arrive again.
    fn deliver(&mut self, n: usize, again: bool) {
        let (step, effect) = if again { self.requests[n] } else { self.requests.remove(n) };
        let reply = match self.answered.get(&effect) {
            Some(reply) => reply.clone(),
            None => self.answer(step),
        };
        self.answered.insert(effect, reply.clone());
        self.replies.push((step, effect, reply));
    }

    /// What the others make of a command that they see for the first time.
    fn answer(&mut self, step: TripStep) -> Reply {
        let is_withdrawn =
            matches!(Trip::<V>::kind(step), Kind::Compensable { undo } if self.cancelled.contains(&undo));
        if is_withdrawn || self.unwilling.contains(&step) {
            return Reply::Refused { code: "unwilling".to_owned(), detail: String::new() };
        }
        match step {
            TripStep::BookHotel | TripStep::BookFlight => {
                self.booked.insert(step);
            }
            TripStep::Pay => self.paid += 1,
            TripStep::SendTicket | TripStep::Insure => {}
            TripStep::CancelFlight | TripStep::CancelHotel => {
                self.cancelled.insert(step);
                self.booked.retain(|booked| Trip::<V>::kind(*booked) != Kind::Compensable { undo: step });
            }
        }
        Reply::Accepted { report: (step == TripStep::Pay).then(|| json!(self.paid)) }
    }

    fn reply(&mut self, n: usize, again: bool) {
        let (step, effect, reply) = if again { self.replies[n].clone() } else { self.replies.remove(n) };
        self.tell(SagaCommand::Reply { step, effect, reply, at: at(1) });
    }

    fn deadline(&mut self, now: i64) -> usize {
        let Some(effect) = self.instance().deadline else { return 0 };
        self.tell(SagaCommand::Fire { effect, timer: Timer::Deadline, at: at(now) })
    }

    /// One thing happens, whatever `choice` says.
    fn happen(&mut self, choice: u8) {
        let pick = usize::from(choice / 8);
        match choice % 8 {
            0 | 1 if !self.requests.is_empty() => self.deliver(pick % self.requests.len(), false),
            2 if !self.requests.is_empty() => self.deliver(pick % self.requests.len(), true),
            3 | 4 if !self.replies.is_empty() => self.reply(pick % self.replies.len(), false),
            5 if !self.replies.is_empty() => self.reply(pick % self.replies.len(), true),
            6 if pick % 8 == 0 => self.observe(TripFact::CalledOff),
            6 if pick % 8 == 1 => self.observe(TripFact::Bounced { times: self.instance().state.bounces + 1 }),
            6 if pick % 8 == 2 => self.observe(TripFact::Bounced { times: self.instance().state.bounces }),
            6 if pick % 8 == 3 => self.observe(TripFact::Wished),
            6 if pick % 8 == 4 => self.observe(TripFact::Collected),
            7 if pick % 4 == 0 => {
                self.deadline(900);
            }
            _ => {}
        }
    }

    /// From now on all goes well: everybody is willing, and everything arrives.
    fn heal(&mut self) {
        self.unwilling.retain(|step| Trip::<V>::kind(*step) != Kind::Retriable);
        for _ in 0..1_000 {
            while !self.requests.is_empty() {
                self.deliver(0, false);
            }
            if self.replies.is_empty() {
                return;
            }
            self.reply(0, false);
        }
        panic!("it never ends: {:#?}", self.instance());
    }

    /// The laws at rest.
    fn check(&self) {
        let (instance, both) = (self.instance(), BTreeSet::from([TripStep::BookHotel, TripStep::BookFlight]));
        assert_eq!(instance.open().count(), 0);
        let ends: Vec<_> = self.history.iter().filter(|event| is_end(event)).collect();
        match instance.outcome().expect("every saga ends") {
            Outcome::Completed => {
                assert_eq!((self.paid, &self.booked, self.cancelled.len()), (1, &both, 0));
                assert!(!ends.is_empty() && ends.iter().all(|end| matches!(end, SagaEvent::Completed(_))));
            }
            Outcome::Compensated { .. } => {
                assert_eq!((self.paid, self.booked.len()), (0, 0));
                assert!(matches!(ends[..], [SagaEvent::Compensated(_)]));
            }
        }
        // what is read back is what was decided
        let mut again = Saga::<Trip<V>>::default();
        self.history.iter().for_each(|event| again.apply(event.clone().into()));
        assert_eq!(again, self.saga);
        assert_eq!(from_value::<Saga<Trip<V>>>(to_value(&again).unwrap()).unwrap(), again, "as a snapshot keeps it");
    }
}

fn effects<I, F>(event: &SagaEvent<I, TripStep, F>) -> Vec<Effect<TripStep>> {
    match event {
        SagaEvent::Started(started) => started.effects.clone(),
        SagaEvent::Advanced(advanced) => advanced.effects.clone(),
        SagaEvent::Decided(decided) => decided.effects.clone(),
        SagaEvent::Stuck(_) | SagaEvent::Completed(_) | SagaEvent::Compensated(_) => Vec::new(),
    }
}

fn is_end<I, S, F>(event: &SagaEvent<I, S, F>) -> bool {
    matches!(event, SagaEvent::Completed(_) | SagaEvent::Compensated(_))
}

fn whatever_happens<const V: u32>(unwilling: BTreeSet<TripStep>, choices: &[u8]) {
    let mut play = Play::<V>::begin(unwilling);
    choices.iter().for_each(|choice| play.happen(*choice));
    play.heal();
    play.check();
}

fn some_steps() -> impl Strategy<Value = BTreeSet<TripStep>> {
    proptest::collection::btree_set(proptest::sample::select(&STEPS[..]), 0..3)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn in_any_order_late_twice_or_refused_it_ends_whole_or_undone(
        unwilling in some_steps(),
        choices in proptest::collection::vec(any::<u8>(), 0..120),
    ) {
        whatever_happens::<1>(unwilling.clone(), &choices);
        whatever_happens::<2>(unwilling, &choices);
    }

    #[test]
    fn the_order_of_answers_does_not_matter(picks in proptest::collection::vec(any::<usize>(), 40)) {
        let mut play = Play::<2>::begin(BTreeSet::new());
        for pick in picks {
            while !play.requests.is_empty() {
                play.deliver(pick % play.requests.len(), false);
            }
            if play.replies.is_empty() {
                break;
            }
            play.reply(pick % play.replies.len(), false);
        }
        play.heal();
        let mut in_order = Play::<2>::begin(BTreeSet::new());
        in_order.heal();
        prop_assert_eq!(&play.instance().state, &in_order.instance().state);
    }
}

/// Every step in turn: refused; and unanswered until all is over, and then done late.
#[test]
fn each_step_may_be_refused_or_late() {
    for step in STEPS {
        whatever_happens::<1>(BTreeSet::from([step]), &[]);
        whatever_happens::<2>(BTreeSet::from([step]), &[]);
        let mut play = Play::<2>::begin(BTreeSet::new());
        for _ in 0..40 {
            let others: Vec<usize> = (0..play.requests.len()).filter(|n| play.requests[*n].0 != step).collect();
            if let Some(n) = others.first() {
                play.deliver(*n, false);
            }
            if !play.replies.is_empty() {
                play.reply(0, false);
            }
        }
        let waits = play.instance().open().any(|(open, _)| open == step);
        play.deadline(900);
        play.heal();
        play.check();
        let is_before_the_pivot = [TripStep::BookHotel, TripStep::BookFlight].contains(&step);
        let outcome = play.instance().outcome().unwrap();
        let expected = if is_before_the_pivot && waits {
            Outcome::Compensated { reason: "too late".to_owned() }
        } else {
            Outcome::Completed
        };
        assert_eq!(outcome, expected, "{step:?}");
    }
}

#[test]
fn the_deadline_fires_once_late_rather_than_early_and_not_after_the_end() {
    let mut play = Play::<1>::begin(BTreeSet::new());
    assert_eq!(play.deadline(899), 0, "a clock that runs ahead elsewhere does not count");
    let effect = play.instance().deadline.unwrap();
    assert_eq!(play.deadline(4_500), 1);
    let again = SagaCommand::Fire { effect, timer: Timer::Deadline, at: at(4_501) };
    assert_eq!(play.tell(again), 0, "doubled");
    play.heal();
    play.check();
    let mut play = Play::<1>::begin(BTreeSet::new());
    play.heal();
    assert_eq!(play.deadline(900), 0, "it has ended");
}

#[test]
fn an_undo_closes_what_is_open_and_a_late_answer_changes_nothing() {
    let mut play = Play::<2>::begin(BTreeSet::new());
    let hotel = play.requests.iter().position(|request| request.0 == TripStep::BookHotel).unwrap();
    play.deliver(hotel, false);
    play.observe(TripFact::CalledOff);
    let status = |play: &Play<2>, step| play.instance().steps.get(&step).map(|asked| asked.status);
    assert_eq!(status(&play, TripStep::BookFlight), Some(Status::Closed), "its undo is under way");
    assert_eq!(status(&play, TripStep::BookHotel), Some(Status::Open), "its turn to be undone comes later");
    let (flight, effect) = *play.requests.iter().find(|request| request.0 == TripStep::BookFlight).unwrap();
    let late = Reply::Accepted { report: None };
    assert_eq!(play.tell(SagaCommand::Reply { step: flight, effect, reply: late, at: at(2) }), 0);
    play.heal();
    play.check();
}

#[test]
fn a_retriable_step_is_asked_for_again_under_a_new_key_and_is_stuck_at_the_bound() {
    let mut play = Play::<1>::begin(BTreeSet::from([TripStep::CancelHotel, TripStep::Pay]));
    let mut effects = BTreeSet::new();
    let mut waits = Vec::new();
    while play.history.iter().filter(|event| matches!(event, SagaEvent::Stuck(_))).count() < 1 {
        while !play.requests.is_empty() {
            play.deliver(0, false);
        }
        play.reply(0, false);
        if let Some(asked) = play.instance().steps.get(&TripStep::CancelHotel) {
            effects.insert(asked.effect);
            waits.extend(asked.not_before.filter(|_| asked.refusals > waits.len() as u32));
        }
    }
    assert_eq!(effects.len(), 4, "the first, and one for each refusal");
    assert!(waits.is_sorted() && waits[0] > at(1), "{waits:?}");
    let (step, asked, reason) = play.instance().stuck().next().unwrap();
    assert_eq!((step, asked.refusals), (TripStep::CancelHotel, 3));
    assert_eq!(reason, "refused 3 times, the last time with unwilling");
    assert_eq!(play.instance().outcome(), None, "never done while it is not");
    play.heal();
    play.check();
    assert_eq!(play.instance().stuck().count(), 0, "healed by itself");
}

#[test]
fn a_refused_step_that_is_not_due_any_more_is_not_asked_for_again() {
    let mut play = Play::<1>::begin(BTreeSet::from([TripStep::SendTicket]));
    while play.instance().phase() != "AwaitingTicket" {
        play.deliver(0, false);
        play.reply(0, false);
    }
    play.observe(TripFact::Collected);
    assert_eq!(play.instance().outcome(), None, "it may be on its way");
    play.deliver(0, false);
    play.reply(0, false);
    assert_eq!(play.instance().steps[&TripStep::SendTicket].status, Status::Again);
    assert!(play.requests.is_empty());
    play.check();
}

#[test]
fn a_fact_that_shows_a_step_failed_has_it_done_again() {
    let mut play = Play::<1>::begin(BTreeSet::new());
    play.heal();
    play.check();
    play.observe(TripFact::Bounced { times: 1 });
    assert_eq!(play.instance().outcome(), None, "woken up");
    assert_eq!(
        play.tell(SagaCommand::Observe {
            ids: IDS,
            fact: TripFact::Bounced { times: 1 },
            at: at(3),
            deadline_at: at(4)
        }),
        0,
        "known already"
    );
    play.heal();
    play.check();
    assert_eq!(play.history.iter().filter(|event| is_end(event)).count(), 2);
}

#[test]
fn an_operator_decides_about_open_steps_only() {
    let decide = |step, decision| SagaCommand::<Trip<1>>::Decide {
        step,
        decision,
        by: "staff".to_owned(),
        reason: "a call".to_owned(),
        at: at(5),
    };
    let refused = Saga::default().decide(decide(TripStep::Pay, Decision::Force)).unwrap_err();
    assert_eq!(refused.to_string(), "there is no such trip");
    let mut play = Play::<1>::begin(BTreeSet::new());
    assert!(play.saga.decide(decide(TripStep::Pay, Decision::Force)).is_err(), "not asked for yet");

    let before = play.instance().steps[&TripStep::BookHotel].effect;
    play.tell(decide(TripStep::BookHotel, Decision::Retry));
    let after = &play.instance().steps[&TripStep::BookHotel];
    assert!(after.effect > before && after.not_before.is_none());
    play.tell(decide(TripStep::BookHotel, Decision::Force));
    assert_eq!(play.instance().steps[&TripStep::BookHotel].status, Status::Accepted);
    assert!(
        play.instance().waits_for(TripStep::BookFlight, play.instance().steps[&TripStep::BookFlight].effect).is_some()
    );
    play.tell(decide(TripStep::BookFlight, Decision::Skip));
    assert_eq!(play.instance().phase(), "Cancelling", "what was not done cannot be paid for");
    play.heal();
    assert!(matches!(play.instance().outcome(), Some(Outcome::Compensated { .. })));
}

#[test]
fn every_way_leads_to_an_end_and_makes_the_diagram() {
    assert_eq!(faults::<Trip<2>>(STEPS), Vec::<String>::new());
    let inputs = |instance: &Instance<Trip<2>>| {
        let mut inputs = explore::replies(instance);
        inputs.push(events::saga::Input::Observed { fact: TripFact::CalledOff });
        inputs
            .extend(instance.deadline.map(|effect| events::saga::Input::TimerFired { effect, timer: Timer::Deadline }));
        inputs
    };
    let label = |input: &events::saga::Input<TripStep, TripFact>| match input {
        events::saga::Input::Observed { fact } => format!("{fact:?}"),
        events::saga::Input::Replied { step, reply: Reply::Accepted { .. }, .. } => format!("{step:?}"),
        events::saga::Input::Replied { step, reply: Reply::Refused { .. }, .. } => format!("{step:?} refused"),
        events::saga::Input::TimerFired { timer, .. } => format!("{timer:?}"),
    };
    let explored = explore::explore(&IDS, &TripFact::Wished, inputs, label, 10_000).unwrap();
    assert!(explored.dead_ends.is_empty(), "{explored:?}");
    assert_eq!(
        explored.mermaid(),
        "stateDiagram-v2\n    [*] --> AwaitingBookings\n    \
         AwaitingBookings --> AwaitingPayment: BookFlight<br/>BookHotel\n    \
         AwaitingBookings --> Cancelling: BookFlight refused<br/>BookHotel refused<br/>CalledOff<br/>Deadline\n    \
         AwaitingPayment --> AwaitingTicket: Pay\n    \
         AwaitingPayment --> Cancelling: Pay refused\n    \
         AwaitingTicket --> Travelling: Insure<br/>SendTicket\n    \
         Cancelling --> Cancelled: CancelHotel\n    \
         Cancelled --> [*]: compensated\n    Travelling --> [*]: completed\n"
    );
    let too_few = explore::explore(&IDS, &TripFact::Wished, inputs, label, 3);
    assert_eq!(too_few, None);
}
