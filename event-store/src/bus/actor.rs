//! The task behind a bus: it owns the hot aggregates and the commands under way, and never waits for the log.
//!
//! A stream is idle (perhaps hot), loading, or has one chain with the writer. Commands that arrive meanwhile wait in the
//! stream's own line and become the next chain, so commands on one stream are decided one after another, on the state
//! that the chain before them has really led to.

use std::{
    collections::{HashMap, HashSet, VecDeque, hash_map::Entry},
    num::NonZeroUsize,
    panic::AssertUnwindSafe,
    sync::Arc,
};

use events::envelope::{Name, StreamId};
use foldhash::fast::RandomState;
use futures::FutureExt;
use lru::LruCache;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    task::JoinSet,
};

use super::{
    Answer, BusOptions, CommandError, Domain, Executed, Loaded, Message, Pending, Reply, Report,
    decide::{self, Decided, Said},
    snapshots::Snapshots,
};
use crate::{
    limits::Limits,
    log::{AppendItem, AppendOutcome, BatchError, Fingerprint, LogError, check_chain},
    seal,
    writer::{Settled, WriteError, Writer},
};

/// Messages taken from the mailbox at once, before their chains are sent.
const MESSAGES_PER_TURN: usize = 512;

pub(super) struct Actor<A: Domain> {
    writer: Writer,
    services: Arc<A::Services>,
    options: BusOptions,
    mailbox: mpsc::UnboundedReceiver<Message<A>>,
    settled: mpsc::UnboundedReceiver<Vec<Settled>>,
    settled_sender: mpsc::UnboundedSender<Vec<Settled>>,
    loads: JoinSet<(Name, Result<Loaded<A>, LogError>)>,
    loads_room: Arc<Semaphore>,
    /// Commands that run on their own: those with IO, and those that ask the log about a key.
    asides: JoinSet<(Pending<A>, Answer)>,
    snapshots: Snapshots<A>,
    hot: LruCache<Name, Loaded<A>, RandomState>,
    /// Those that something is going on with.
    streams: HashMap<Name, Stream<A>, RandomState>,
    keys: HashMap<(Name, Name), Twins, RandomState>,
}

/// A stream that something is going on with.
struct Stream<A: Domain> {
    /// The confirmed state; `None` while it is being loaded.
    base: Option<Loaded<A>>,
    /// `base` was read from the log for those who wait now, not kept from earlier.
    fresh: bool,
    /// What is in memory of it may tell more than the log does by now: it is read anew before anything else is decided
    /// on it, and not kept.
    stale: bool,
    waiting: VecDeque<Pending<A>>,
    chain: Option<Chain<A>>,
}

/// What is with the writer.
struct Chain<A: Domain> {
    members: Vec<(Pending<A>, Said)>,
    /// The state it leads to, if every item is applied.
    state: Option<A>,
}

/// Those that wait for the answer of a command with the same key.
struct Twins {
    fingerprint: Fingerprint,
    /// Each with its room among the commands under way: many that wait are no less a load than many that run.
    waiting: Vec<(oneshot::Sender<Answer>, OwnedSemaphorePermit)>,
}

impl<A: Domain> Actor<A> {
    pub(super) fn new(
        writer: Writer,
        services: A::Services,
        options: BusOptions,
        mailbox: mpsc::UnboundedReceiver<Message<A>>,
        snapshots: Snapshots<A>,
    ) -> Self {
        let (settled_sender, settled) = mpsc::unbounded_channel();
        let hot_max = NonZeroUsize::new(options.hot_aggregates_max).unwrap_or(NonZeroUsize::MIN);
        Self {
            writer,
            services: Arc::new(services),
            mailbox,
            settled,
            settled_sender,
            loads: JoinSet::new(),
            loads_room: Arc::new(Semaphore::new(options.loads_max)),
            asides: JoinSet::new(),
            snapshots,
            hot: LruCache::with_hasher(hot_max, RandomState::default()),
            streams: HashMap::default(),
            keys: HashMap::default(),
            options,
        }
    }

    pub(super) async fn run(mut self) {
        let mut messages = Vec::with_capacity(MESSAGES_PER_TURN);
        let mut stopping = false;
        loop {
            // streams on which something may be decided now
            let mut ready = Vec::new();
            tokio::select! {
                Some(settled) = self.settled.recv() => {
                    for Settled { chain, result } in settled {
                        let id = chain[0].stream.aggregate_id.clone();
                        self.on_settled(id, chain, result, &mut ready);
                    }
                }
                Some(loaded) = self.loads.join_next() => match loaded {
                    Ok((id, loaded)) => self.on_loaded(id, loaded, &mut ready),
                    Err(error) => tracing::error!(%error, "loading an aggregate ended badly"),
                },
                Some(done) = self.asides.join_next() => match done {
                    Ok((pending, answer)) => self.answer(pending, answer),
                    Err(error) => tracing::error!(%error, "a command on its own ended badly"),
                },
                count = self.mailbox.recv_many(&mut messages, MESSAGES_PER_TURN), if !stopping => {
                    stopping = count == 0;
                    for message in messages.drain(..) {
                        match message {
                            Message::Execute(pending) => self.admit(*pending, &mut ready),
                            Message::Peek(id, reply) => {
                                // a caller that is gone does not want to know
                                let _ = reply.send(self.confirmed(&id));
                            }
                            Message::Cool => self.cool(),
                            Message::Stop => stopping = true,
                        }
                    }
                }
                else => return,
            }
            for id in ready {
                self.advance(id).await;
            }
            if stopping && self.streams.is_empty() && self.asides.is_empty() {
                return;
            }
        }
    }

    fn confirmed(&mut self, id: &Name) -> Option<Loaded<A>> {
        match self.streams.get(id) {
            Some(stream) if stream.stale => None,
            Some(stream) => stream.base.clone(),
            None => self.hot.get(id).cloned(),
        }
    }

    fn cool(&mut self) {
        self.hot.clear();
        // a state that is under way, or was read before, would come back
        self.streams.values_mut().for_each(|stream| stream.stale = true);
    }

    fn admit(&mut self, mut pending: Pending<A>, ready: &mut Vec<Name>) {
        let key = (pending.request.scope.clone(), pending.request.key.clone());
        match self.keys.entry(key) {
            Entry::Occupied(mut held) => {
                let Pending { request, reply, room, .. } = pending;
                let answer = if held.get().fingerprint == request.fingerprint {
                    let (twin, answer) = oneshot::channel();
                    held.get_mut().waiting.push((twin, room));
                    Reply::Twin(answer)
                } else {
                    Reply::Done(Err(CommandError::KeyReused))
                };
                let _ = reply.send(answer);
                return;
            }
            Entry::Vacant(free) => {
                free.insert(Twins { fingerprint: pending.request.fingerprint, waiting: Vec::new() });
            }
        }
        let metadata = std::mem::take(&mut pending.request.metadata);
        pending.request.metadata = decide::with_command_id(metadata, &pending.request.key);
        if self.options.handle_does_io {
            let (writer, services, snapshots) =
                (self.writer.clone(), Arc::clone(&self.services), self.snapshots.clone());
            self.asides.spawn(async move {
                // a panic must not take the command's key with it
                let alone = run_alone::<A>(&writer, &services, &snapshots, &pending);
                let done = AssertUnwindSafe(alone).catch_unwind().await;
                let panicked = |_| Err(CommandError::Internal(format!("{} panicked while it decided", A::TYPE)));
                (pending, done.unwrap_or_else(panicked))
            });
            return;
        }
        let id = pending.request.aggregate_id.clone();
        match self.streams.entry(id.clone()) {
            Entry::Occupied(mut stream) => stream.get_mut().waiting.push_back(pending),
            Entry::Vacant(free) => {
                let creates = A::creates(&pending.request.command);
                let base = self.hot.pop(&id).or_else(|| creates.then(Loaded::default));
                let cold = base.is_none();
                let waiting = VecDeque::from([pending]);
                free.insert(Stream { base, fresh: false, stale: false, waiting, chain: None });
                if cold {
                    self.load(id, Loaded::default());
                    return;
                }
            }
        }
        ready.push(id);
    }

    fn load(&mut self, id: Name, from: Loaded<A>) {
        let (log, room) = (Arc::clone(self.writer.log()), Arc::clone(&self.loads_room));
        let snapshots = self.snapshots.clone();
        self.loads.spawn(async move {
            let _room = room.acquire().await;
            let stream = StreamId::new(A::TYPE, id.clone());
            // a panic in a fold must not leave those who wait for the stream waiting
            let loaded = AssertUnwindSafe(snapshots.load(&*log, &stream, from)).catch_unwind().await;
            let panicked = |_| Err(LogError::Damaged(format!("{stream}: panicked while it was folded")));
            (id, loaded.unwrap_or_else(panicked))
        });
    }

    fn on_loaded(&mut self, id: Name, loaded: Result<Loaded<A>, LogError>, ready: &mut Vec<Name>) {
        match loaded {
            Ok(loaded) => {
                let stream = self.streams.get_mut(&id).expect("a stream stays while it loads");
                stream.base = Some(loaded);
                stream.fresh = true;
                ready.push(id);
            }
            Err(error) => {
                let stream = self.streams.remove(&id).expect("a stream stays while it loads");
                let error = match error {
                    LogError::Unavailable(error) => CommandError::Unavailable(error.to_string()),
                    LogError::Damaged(reason) => CommandError::Internal(reason),
                };
                for pending in stream.waiting {
                    self.answer(pending, Err(error.clone()));
                }
            }
        }
    }

    /// Decides the commands that wait on a stream, and sends them to the writer as one chain.
    async fn advance(&mut self, id: Name) {
        if self.streams.get(&id).is_none_or(|stream| stream.chain.is_some() || stream.base.is_none()) {
            return;
        }
        let mut stream = self.streams.remove(&id).expect("it was there a line ago");
        if std::mem::take(&mut stream.stale) {
            self.reload(id, stream, Loaded::default());
            return;
        }
        let base = stream.base.take().expect("it was there a line ago");
        let mut speculative = base.clone();
        let mut items: Vec<AppendItem> = Vec::new();
        let mut members = Vec::new();
        let mut names = HashSet::new();
        let mut changed = false;
        while items.len() < self.options.chain_commands_max
            && let Some(mut pending) = stream.waiting.pop_front()
        {
            if let Some(expected) = pending.request.expected_version.filter(|v| *v != speculative.version) {
                if items.is_empty() && stream.fresh {
                    self.answer_mismatch(pending, expected, base.version);
                    continue;
                }
                // decided once it is certain what the commands before it, or other writers, have led to
                stream.waiting.push_front(pending);
                break;
            }
            let decided = match pending.refused.take() {
                Some(refusal) => Ok(decide::refuse(&speculative, &pending.request, refusal)),
                None => decide::decide(&speculative, &pending.request, &self.services),
            };
            let Decided { item, state, said } = match decided.and_then(|d| self.within_limits(d)) {
                Ok(decided) => decided,
                Err(error) => {
                    self.answer(pending, Err(error));
                    continue;
                }
            };
            if !item.claims.iter().all(|claim| names.insert((claim.name.clone(), claim.value.clone()))) {
                stream.waiting.push_front(pending);
                break;
            }
            speculative.version = item.version_after();
            if let Some(state) = state {
                speculative.state = state;
                changed = true;
            }
            items.push(item);
            members.push((pending, said));
        }
        if items.is_empty() {
            if stream.waiting.is_empty() {
                self.hot.put(id, base);
            } else {
                self.reload(id, stream, base);
            }
            return;
        }
        // whose key is gone when it is written is null in the log, and readable in the state that led to it
        stream.stale = self.writer.log().is_sealed() && items.iter().any(is_personal);
        stream.base = Some(base);
        stream.chain = Some(Chain { members, state: changed.then_some(speculative.state) });
        self.streams.insert(id.clone(), stream);
        if let Err(error) = self.writer.submit(items, self.settled_sender.clone()).await {
            self.on_settled(id, Vec::new(), Err(error), &mut Vec::new());
        }
    }

    /// What became of the chain of a stream: it has one at a time.
    fn on_settled(
        &mut self,
        id: Name,
        items: Vec<AppendItem>,
        result: Result<Vec<AppendOutcome>, WriteError>,
        ready: &mut Vec<Name>,
    ) {
        let mut stream = self.streams.remove(&id).expect("a stream stays while its chain is under way");
        let chain = stream.chain.take().expect("a settled chain was under way");
        let outcomes = match result {
            Ok(outcomes) => outcomes,
            Err(error) => {
                for (pending, _) in chain.members {
                    let answer = Err(unacknowledged(&error, &pending.request.key));
                    self.answer(pending, answer);
                }
                // what the log holds now is not known: the next command reads it again
                self.reload(id, stream, Loaded::default());
                return;
            }
        };
        let mut base = stream.base.take().expect("a chain was decided on a base");
        let mut again = Vec::new();
        let mut applied = true;
        let version_before = base.version;
        let mut regressed = false;
        let decided = chain.members.into_iter().zip(outcomes).zip(items);
        for (((mut pending, said), outcome), item) in decided {
            let first_failure = applied && !outcome.is_applied();
            applied &= outcome.is_applied();
            match outcome {
                AppendOutcome::Appended { version, position } => {
                    base.version = version;
                    base.position = position;
                    base.event_id = item.events().last().map(|event| event.event_id);
                    self.answer(pending, Ok(done(&base, true, said.report)));
                }
                AppendOutcome::Unchanged { .. } => self.answer(pending, Ok(done(&base, false, said.report))),
                AppendOutcome::Refused { .. } => {
                    let refusal = said.refusal.expect("a refused item was decided as a refusal");
                    self.answer(pending, Err(CommandError::Refused(refusal, done(&base, false, said.report))));
                }
                AppendOutcome::Duplicate(stored) => {
                    let answer = decide::replay(&stored, pending.request.fingerprint);
                    self.answer(pending, answer);
                }
                AppendOutcome::Taken(claim) => {
                    pending.refused = Some(A::taken(&claim));
                    again.push(pending);
                }
                AppendOutcome::Conflict { actual, .. } => {
                    regressed |= actual < base.version;
                    pending.attempts += u32::from(first_failure);
                    if pending.attempts >= self.options.attempts_max {
                        let attempts = pending.attempts;
                        self.answer(pending, Err(CommandError::Contended { attempts }));
                    } else {
                        again.push(pending);
                    }
                }
            }
        }
        for pending in again.into_iter().rev() {
            stream.waiting.push_front(pending);
        }
        if applied {
            if let Some(state) = chain.state {
                base.state = state;
            }
            self.snapshots.offer(&id, version_before, &base);
            if stream.waiting.is_empty() {
                if !stream.stale {
                    self.hot.put(id, base);
                }
            } else {
                stream.base = Some(base);
                stream.fresh = false;
                self.streams.insert(id.clone(), stream);
                ready.push(id);
            }
        } else {
            // the state behind an applied prefix was not kept: only an untouched base can be read on from
            let untouched = base.version == version_before && !regressed;
            self.reload(id, stream, if untouched { base } else { Loaded::default() });
        }
    }

    /// Reads the stream from `from` on if someone waits for it, else forgets it.
    fn reload(&mut self, id: Name, mut stream: Stream<A>, from: Loaded<A>) {
        if !stream.waiting.is_empty() {
            stream.base = None;
            self.streams.insert(id.clone(), stream);
            self.load(id, from);
        }
    }

    /// A version that is not the stream's: unless this very command was done before.
    fn answer_mismatch(&mut self, pending: Pending<A>, expected: u64, actual: u64) {
        let log = Arc::clone(self.writer.log());
        self.asides.spawn(async move {
            let request = &pending.request;
            let answer = match log.stored_outcome(&request.scope, &request.key).await {
                Ok(Some(stored)) => decide::replay(&stored, request.fingerprint),
                Ok(None) => Err(CommandError::VersionMismatch { expected, actual }),
                Err(error) => Err(CommandError::Unavailable(error.to_string())),
            };
            (pending, answer)
        });
    }

    fn within_limits(&self, decided: Decided<A>) -> Result<Decided<A>, CommandError> {
        check_item(&decided.item, self.writer.limits()).map(|()| decided)
    }

    /// Answers a command and everyone who waits for the same key.
    fn answer(&mut self, pending: Pending<A>, answer: Answer) {
        let key = (pending.request.scope.clone(), pending.request.key.clone());
        if let Some(twins) = self.keys.remove(&key) {
            for (twin, _room) in twins.waiting {
                let _ = twin.send(answer.clone());
            }
        }
        // a caller that is gone does not want to know
        let _ = pending.reply.send(Reply::Done(answer));
    }
}

fn check_item(item: &AppendItem, limits: &Limits) -> Result<(), CommandError> {
    match check_chain(std::slice::from_ref(item), limits) {
        Ok(()) => Ok(()),
        Err(BatchError::Limit(limit)) => Err(CommandError::Limit(limit)),
        Err(error) => Err(CommandError::Internal(error.to_string())),
    }
}

fn is_personal(item: &AppendItem) -> bool {
    item.events().iter().any(|event| seal::is_personal(&event.payload))
}

fn done<A>(base: &Loaded<A>, changed: bool, report: Option<Report>) -> Executed {
    let Loaded { version, position, event_id, .. } = *base;
    Executed { changed, version, position, event_id, replayed: false, report }
}

fn unacknowledged(error: &WriteError, key: &Name) -> CommandError {
    match error {
        WriteError::Unavailable(reason) => CommandError::Unavailable(reason.clone()),
        WriteError::Unknown(_) => CommandError::OutcomeUnknown { key: key.clone() },
        WriteError::Stopped => super::stopped(),
        WriteError::Refused(reason) => CommandError::Internal(reason.clone()),
    }
}

/// One command of an adopted domain: handled once, appended once.
async fn run_alone<A: Domain>(
    writer: &Writer,
    services: &A::Services,
    snapshots: &Snapshots<A>,
    pending: &Pending<A>,
) -> Answer {
    let request = &pending.request;
    let unavailable = |error: LogError| CommandError::Unavailable(error.to_string());
    // its effects must not be repeated, so the key is asked before, not after
    let stored = writer.log().stored_outcome(&request.scope, &request.key).await.map_err(unavailable)?;
    if let Some(stored) = stored {
        return decide::replay(&stored, request.fingerprint);
    }
    let stream = StreamId::new(A::TYPE, request.aggregate_id.clone());
    let base = snapshots.load(&**writer.log(), &stream, Loaded::default()).await.map_err(unavailable)?;
    if let Some(expected) = request.expected_version.filter(|version| *version != base.version) {
        return Err(CommandError::VersionMismatch { expected, actual: base.version });
    }
    let mut decided = decide::decide_with_io(&base, request, services).await?;
    loop {
        check_item(&decided.item, writer.limits())?;
        let event_id = decided.item.events().last().map(|event| event.event_id).or(base.event_id);
        let outcomes = writer.append(vec![decided.item]).await.map_err(|e| unacknowledged(&e, &request.key))?;
        let Said { refusal, report } = decided.said;
        let executed =
            |changed, version, position| Executed { changed, version, position, event_id, replayed: false, report };
        return match outcomes.into_iter().next() {
            Some(AppendOutcome::Appended { version, position }) => Ok(executed(true, version, position)),
            Some(AppendOutcome::Unchanged { version, position }) => Ok(executed(false, version, position)),
            Some(AppendOutcome::Refused { version, position }) => {
                let refusal = refusal.expect("a refused item was decided as a refusal");
                Err(CommandError::Refused(refusal, executed(false, version, position)))
            }
            Some(AppendOutcome::Duplicate(stored)) => decide::replay(&stored, request.fingerprint),
            Some(AppendOutcome::Taken(claim)) => {
                decided = decide::refuse(&base, request, A::taken(&claim));
                continue;
            }
            Some(AppendOutcome::Conflict { .. }) => Err(CommandError::Contended { attempts: 1 }),
            None => Err(CommandError::Internal("the log answered nothing".to_owned())),
        };
    }
}
