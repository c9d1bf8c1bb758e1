//! What who operates a saga can ask of it and tell it.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use event_store::{
    bus::{CommandBus, CommandError, CommandRequest, Executed, Refusal},
    clock::Clock,
    feed::Feed,
    follower::Reject,
    log::{Fingerprint, LogError},
};
use events::{
    envelope::{Metadata, RecordedEvent, StreamId},
    saga::Decision,
};
use serde::de::{DeserializeOwned, IntoDeserializer, value::StrDeserializer};
use serde_json::Value;
use uuid::Uuid;

use super::{
    aggregate::{Saga, SagaCommand},
    definition::Definition,
    instance::Instance,
    plain::{Plain, plain},
};

/// Events of one story: an order of 2,000 lines takes about 10,000.
pub const STORY_EVENTS_MAX: usize = 20_000;

/// One kind of saga, for those who know which. Cheap to clone.
pub struct SagaHandle<D: Definition> {
    pub bus: CommandBus<Saga<D>>,
    pub clock: Arc<dyn Clock>,
    /// Of the others whom its dispatcher follows.
    pub feeds: Arc<[Arc<dyn Feed>]>,
    /// How long a new instance may be on its way to the pivot.
    pub deadline: Duration,
}

impl<D: Definition> Clone for SagaHandle<D> {
    fn clone(&self) -> Self {
        let (clock, feeds) = (Arc::clone(&self.clock), Arc::clone(&self.feeds));
        Self { bus: self.bus.clone(), clock, feeds, deadline: self.deadline }
    }
}

/// An operator's word about a step, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    pub decision: Decision,
    pub reason: String,
    /// The principal: an id, never a name.
    pub by: String,
}

impl<D: Definition> SagaHandle<D> {
    /// The command that an operator's word is, for who gives commands by way of the edge.
    pub fn word(&self, step: D::Step, word: Word) -> SagaCommand<D> {
        let Word { decision, reason, by } = word;
        SagaCommand::Decide { step, decision, by, reason, at: self.clock.now_as_kept() }
    }

    /// Decides about a step that is open.
    pub async fn decide(&self, id: Uuid, step: D::Step, word: Word) -> Result<Executed, CommandError> {
        let (key, identity) = (Uuid::now_v7().to_string(), self.bus.log().identity());
        let metadata = Metadata { actor: Some(word.by.clone()), ..Metadata::default() };
        let request = CommandRequest {
            aggregate_id: id.to_string().into(),
            command: self.word(step, word),
            scope: format!("{}|operator", identity.source).into(),
            fingerprint: Fingerprint::of(identity, D::NAME, key.as_bytes()),
            key: key.into(),
            expected_version: None,
            metadata,
        };
        self.bus.execute(request).await
    }

    /// Where an instance stands.
    pub async fn load(&self, id: Uuid) -> Result<Option<Instance<D>>, LogError> {
        let loaded = self.bus.load(&id.to_string()).await?;
        Ok(loaded.and_then(|loaded| loaded.state.into_known()))
    }
}

/// Any kind of saga, for those who know it by its name only.
#[async_trait]
pub trait SagaDesk: Send + Sync + 'static {
    /// The aggregate type of its streams.
    fn name(&self) -> &'static str;

    /// Where an instance stands, as [`Instance::view`] shows it.
    async fn view(&self, id: Uuid) -> Result<Option<Value>, LogError>;

    /// What happened to an instance, in order; empty if there is none.
    async fn story(&self, id: Uuid) -> Result<Vec<RecordedEvent>, LogError>;

    /// Reads an event of a story.
    fn plain(&self, event: &RecordedEvent) -> Result<Plain, Reject>;

    /// Decides about a step, given as [`Instance::view`] shows it: JSON, or a bare word for one that is a word.
    async fn decide(&self, id: Uuid, step: &str, word: Word) -> Result<Executed, CommandError>;

    /// Begins the instance of what happened before anybody listened, or tells the one there is what it has not been told.
    /// `by` is the principal.
    async fn begin_late(&self, key: &str, by: &str) -> Result<(), CommandError>;
}

#[async_trait]
impl<D: Definition> SagaDesk for SagaHandle<D> {
    fn name(&self) -> &'static str {
        D::NAME
    }

    async fn view(&self, id: Uuid) -> Result<Option<Value>, LogError> {
        Ok(self.load(id).await?.map(|instance| instance.view()))
    }

    async fn story(&self, id: Uuid) -> Result<Vec<RecordedEvent>, LogError> {
        let stream = StreamId::new(D::NAME, id.to_string());
        self.bus.log().read_stream(&stream, 0, STORY_EVENTS_MAX).await
    }

    fn plain(&self, event: &RecordedEvent) -> Result<Plain, Reject> {
        plain::<D>(event)
    }

    async fn decide(&self, id: Uuid, step: &str, word: Word) -> Result<Executed, CommandError> {
        let Some(step) = step_of(step) else {
            let refusal = Refusal::new("step_unknown", format!("{} has no step {step}", D::NAME)).with("step", step);
            return Err(refused(refusal));
        };
        SagaHandle::decide(self, id, step, word).await
    }

    async fn begin_late(&self, key: &str, by: &str) -> Result<(), CommandError> {
        SagaHandle::begin_late(self, key, by).await
    }
}

/// A refusal of which nothing was recorded.
pub(super) fn refused(refusal: Refusal) -> CommandError {
    let done = Executed { changed: false, version: 0, position: 0, event_id: None, replayed: false, report: None };
    CommandError::Refused(refusal, done)
}

/// A step as people type it.
pub fn step_of<S: DeserializeOwned>(text: &str) -> Option<S> {
    let bare: StrDeserializer<'_, serde::de::value::Error> = text.into_deserializer();
    serde_json::from_str(text).ok().or_else(|| S::deserialize(bare).ok())
}
