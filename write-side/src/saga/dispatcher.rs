//! Does what sagas' events ask for, and tells sagas what they are to know.
//!
//! One reaction on the [`reactor`](crate::reactor): it follows the sagas' own feed from the first event and those of
//! others from their heads. An effect of an own event is sent under a key made from the event and its place in it, and
//! the answer is recorded under the same key: whatever crashes in between, and however many dispatchers are at it, the
//! other service and the saga each take it once. What an effect is was decided with its event; here it is only looked up
//! whether it is still wanted.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use event_store::{
    bus::{CommandBus, CommandError, CommandRequest},
    clock::Clock,
    failpoint,
    follower::Reject,
    log::Fingerprint,
};
use events::{
    envelope::{Metadata, RecordedEvent},
    saga::{Effect, EffectId, Reply, Request, SagaEvent, Timer},
};
use uuid::Uuid;

use super::{
    aggregate::{Saga, SagaCommand},
    definition::{Definition, Happened, saga_id},
    instance::{EffectOf, Instance},
    patience::Patience,
};
use crate::{
    peer::{Peer, PeerAnswer, PeerCommand, PeerError},
    reactor::{Acted, Due, Part, Reaction, Wanted, decode},
};

/// Between a saga and the rest of the world.
pub struct Dispatcher<D: Definition> {
    bus: CommandBus<Saga<D>>,
    /// Who can be asked, by the names that requests have for them.
    peers: BTreeMap<&'static str, (Peer, Patience)>,
    /// How long a new instance may be on its way to the pivot.
    deadline: Duration,
    clock: Arc<dyn Clock>,
}

#[async_trait]
impl<D: Definition> Reaction for Dispatcher<D> {
    fn name(&self) -> &'static str {
        D::NAME
    }

    fn wants(&self, source: &str, event: &RecordedEvent) -> Result<Wanted, Reject> {
        if !self.is_own(source) {
            return Ok(D::told(source, event)?.map_or(Wanted::Nothing, |_| Wanted::Now));
        }
        let part = |(effect, part): (&EffectOf<D>, u16)| Part {
            part,
            // effects wait for nobody: the state says what may be done together
            lane: format!("{} {}.{part}", event.stream, event.sequence),
            at: match effect {
                Effect::Ask { not_before, .. } => *not_before,
                Effect::Wake { at, .. } => Some(*at),
            },
            timer: matches!(effect, Effect::Wake { .. }),
        };
        Ok(Wanted::Parts(effects::<D>(event)?.iter().zip(0..).map(part).collect()))
    }

    async fn act(&self, due: &Due) -> Acted {
        let acted = if self.is_own(&due.source) { self.effect(due).await } else { self.observe(due).await };
        acted.map_or_else(|acted| acted, |()| Acted::Done)
    }
}

impl<D: Definition> Dispatcher<D> {
    pub fn new(
        bus: CommandBus<Saga<D>>,
        peers: BTreeMap<&'static str, Peer>,
        deadline: Duration,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let peers = peers.into_iter().map(|(name, peer)| (name, (peer, Patience::default()))).collect();
        Self { bus, peers, deadline, clock }
    }

    fn is_own(&self, source: &str) -> bool {
        *self.bus.log().identity().source == *source
    }

    /// Tells an instance what happened elsewhere, or starts it.
    async fn observe(&self, due: &Due) -> Result<(), Acted> {
        let told = D::told(&due.source, &due.event).map_err(|reject| Acted::Hindered(reject.to_string()))?;
        let Some((ids, fact)) = told else { return Ok(()) };
        let id = saga_id(D::NAME, &D::key(&ids));
        // most facts about what no saga began concern none: to look costs less than to store that nothing was to do
        if self.load(&id.to_string()).await?.is_none() && D::begin(D::VERSION, &ids, &fact).is_none() {
            return Ok(());
        }
        let at = self.clock.now_as_kept();
        let command = SagaCommand::Observe { ids, fact, at, deadline_at: at + self.deadline };
        self.record(due, id, "observe", command).await
    }

    async fn effect(&self, due: &Due) -> Result<(), Acted> {
        let effects = effects::<D>(&due.event).map_err(|reject| Acted::Hindered(reject.to_string()))?;
        let id = EffectId { sequence: due.event.sequence, index: due.part };
        let Some(effect) = effects.into_iter().nth(due.part.into()) else { return Ok(()) };
        let Some(instance) = self.load(&due.event.stream.aggregate_id).await? else {
            return Err(Acted::Hindered(format!("{} has no state", due.event.stream)));
        };
        match effect {
            Effect::Ask { step, request, not_before } => {
                let Some(asked) = instance.waits_for(step, id) else { return Ok(()) };
                // a backoff is for politeness: one that became longer than any because a clock went back is over
                not_early(due, not_before.filter(|at| *at - due.now <= longest_backoff::<D>()))?;
                failpoint!("saga.before_send", Acted::Hindered("failpoint".to_owned()));
                let answered = self.send(due, request).await;
                failpoint!("saga.after_send", Acted::Hindered("failpoint".to_owned()));
                let at = self.clock.now_as_kept();
                let (what, command) = match answered.clone() {
                    Ok(reply) => ("reply", SagaCommand::Reply { step, effect: id, reply, at }),
                    Err(reason) if due.attempt >= D::PACE.attempts_max && asked.stuck.is_none() => {
                        ("stuck", SagaCommand::Unanswered { step, effect: id, attempts: due.attempt, reason, at })
                    }
                    Err(reason) => return Err(Acted::Failed(reason)),
                };
                self.record(due, instance.saga_id, what, command).await?;
                failpoint!("saga.after_record", Acted::Hindered("failpoint".to_owned()));
                answered.map(|_| ()).map_err(Acted::Failed)
            }
            Effect::Wake { timer, at } => self.wake(due, &instance, id, timer, at).await,
        }
    }

    async fn wake(
        &self,
        due: &Due,
        instance: &Instance<D>,
        effect: EffectId,
        timer: Timer,
        at: DateTime<Utc>,
    ) -> Result<(), Acted> {
        if instance.deadline != Some(effect) || instance.outcome().is_some() {
            return Ok(());
        }
        not_early(due, Some(at))?;
        self.record(due, instance.saga_id, "fire", SagaCommand::Fire { effect, timer, at: due.now }).await?;
        failpoint!("saga.after_fire", Acted::Hindered("failpoint".to_owned()));
        Ok(())
    }

    /// The other's word, or why there is none.
    async fn send(&self, due: &Due, request: Request) -> Result<Reply, String> {
        let Request { service, path, body, any_version, keep } = request;
        let Some((peer, patience)) = self.peers.get(&*service) else {
            return Err(format!("{service} is not among the services that can be asked"));
        };
        let Some(_leave) = patience.leave() else {
            return Err(format!("{service} does not answer, and was not asked this time"));
        };
        let metadata = due.metadata(D::NAME);
        let command = PeerCommand {
            path,
            body,
            key: due.key.to_string(),
            any_version,
            correlation_id: metadata.correlation_id,
            causation_id: Some(due.event.event_id),
            traceparent: metadata.traceparent,
            principal: D::NAME,
        };
        let answer = peer.send(&command).await;
        match answer {
            Err(PeerError::Late(_)) => patience.unanswered(),
            Ok(_) | Err(_) => patience.answered(),
        }
        let answer = answer.map_err(|error| format!("{service}: {error}"))?;
        reply_of(answer, keep.as_deref()).map_err(|reason| format!("{service}: {reason}"))
    }

    async fn load(&self, id: &str) -> Result<Option<Instance<D>>, Acted> {
        let loaded = self.bus.load(id).await.map_err(|error| Acted::Hindered(error.to_string()))?;
        Ok(loaded.and_then(|loaded| loaded.state.into_known()))
    }

    /// The saga takes it once, whoever tells it how often.
    async fn record(&self, due: &Due, saga_id: Uuid, what: &str, command: SagaCommand<D>) -> Result<(), Acted> {
        let request = recording(&self.bus, due.key, saga_id, what, command, due.metadata(D::NAME));
        match self.bus.execute(request).await {
            // nothing is refused but operators
            Ok(_) | Err(CommandError::Refused(..)) => Ok(()),
            Err(error) => Err(Acted::Hindered(error.to_string())),
        }
    }
}

/// What a saga is told because of the duty or event with this `key`: taken once, whoever says it.
pub(super) fn recording<D: Definition>(
    bus: &CommandBus<Saga<D>>,
    key: Uuid,
    saga_id: Uuid,
    what: &str,
    command: SagaCommand<D>,
    metadata: Metadata,
) -> CommandRequest<SagaCommand<D>> {
    let (key, identity) = (format!("{key}|{what}"), bus.log().identity());
    CommandRequest {
        aggregate_id: saga_id.to_string().into(),
        command,
        scope: format!("{}|dispatcher", identity.source).into(),
        fingerprint: Fingerprint::of(identity, D::NAME, key.as_bytes()),
        key: key.into(),
        expected_version: None,
        metadata,
    }
}

fn longest_backoff<D: Definition>() -> TimeDelta {
    TimeDelta::from_std(D::PACE.backoff.max).unwrap_or(TimeDelta::MAX)
}

/// Clocks go back, too: what is due may be so no longer.
fn not_early(due: &Due, at: Option<DateTime<Utc>>) -> Result<(), Acted> {
    match at {
        Some(at) if due.now < at => Err(Acted::NotBefore(at)),
        Some(_) | None => Ok(()),
    }
}

fn effects<D: Definition>(event: &RecordedEvent) -> Result<Vec<EffectOf<D>>, Reject> {
    let happened: Happened<D> = decode::<D::Event>(event)?.into();
    Ok(match happened {
        SagaEvent::Started(started) => started.effects,
        SagaEvent::Advanced(advanced) => advanced.effects,
        SagaEvent::Decided(decided) => decided.effects,
        SagaEvent::Stuck(_) | SagaEvent::Completed(_) | SagaEvent::Compensated(_) => Vec::new(),
    })
}

/// What an answer says of the command. Anything that may be otherwise the next time says nothing: who is overloaded, who
/// does not know us, who has no such address because it is older than us.
fn reply_of(answer: PeerAnswer, keep: Option<&str>) -> Result<Reply, String> {
    let PeerAnswer { status, mut body } = answer;
    let code = body["code"].as_str().map(str::to_owned);
    match (status, code) {
        (200..=299, _) => match keep {
            None => Ok(Reply::Accepted { report: None }),
            Some(member) => match body.get_mut(member) {
                Some(report) => Ok(Reply::Accepted { report: Some(report.take()) }),
                None => Err(format!("it answers {status} without {member}")),
            },
        },
        (401 | 403 | 405 | 408 | 409 | 425 | 429, Some(code)) => Err(format!("it answers {status} {code}")),
        (404, Some(code)) if code == "route_not_found" => Err(format!("it answers {status} {code}")),
        (400..=499, Some(code)) => {
            Ok(Reply::Refused { code, detail: body["detail"].as_str().unwrap_or_default().to_owned() })
        }
        (status, Some(code)) => Err(format!("it answers {status} {code}")),
        (status, None) => Err(format!("it answers {status}")),
    }
}
