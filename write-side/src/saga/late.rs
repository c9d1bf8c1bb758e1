//! Begins an instance by hand, of what happened before anybody listened for it.
//!
//! The dispatcher follows the feeds of others from where they were when it was first started, so what was there before has
//! no instance, and on purpose: history is not acted on. For what is still to be done, an operator says so, thing by
//! thing. The instance is then told everything that it would have been told, under the dispatcher's own keys, so it is all
//! the same how often that is done, and whether the dispatcher tells it some of that too.

use std::{collections::HashSet, time::Duration};

use event_store::{
    bus::{CommandError, Refusal},
    feed::{Cursor, Feed, PageLimit},
    follower::Reject,
    log::LogError,
};
use events::envelope::{Metadata, RecordedEvent};
use uuid::Uuid;

use super::{
    aggregate::SagaCommand,
    definition::{Definition, Told, saga_id},
    dispatcher::recording,
    handle::{SagaDesk, SagaHandle, refused},
};
use crate::reactor::key_of;

impl<D: Definition> SagaHandle<D> {
    /// Begins the instance of `key`, if something that began it ever happened and it has not gone on without. If there is
    /// one, it is only told what it has not been told yet, since whoever began it may have been cut off half-way. Reads the
    /// feeds from their first event, twice.
    ///
    /// In a task of its own: who asked may go away, and what was begun is told the rest all the same.
    pub async fn begin_late(&self, key: &str, by: &str) -> Result<(), CommandError> {
        let (handle, key, by) = (self.clone(), key.to_owned(), by.to_owned());
        let told = tokio::spawn(async move { handle.begin_and_tell(&key, &by).await }).await;
        told.unwrap_or_else(|error| Err(CommandError::Internal(format!("what began it ended badly: {error}"))))
    }

    async fn begin_and_tell(&self, key: &str, by: &str) -> Result<(), CommandError> {
        let mut heard = self.heard(saga_id(D::NAME, key)).await?;
        if heard.is_empty() {
            let Some((event, told)) = self.beginning(key).await? else {
                let detail = format!("nothing that happened begins a {} of {key}", D::NAME);
                return Err(refused(Refusal::new("saga_not_begun", detail)));
            };
            self.tell(&event, told, by).await?;
            heard.insert(event.event_id.to_string());
        }
        // only now: what happens from here on the dispatcher tells it, since it is there
        for feed in &*self.feeds {
            let mut rest = Vec::new();
            each(&**feed, |event| {
                rest.extend(about::<D>(feed.source(), event, key)?.map(|told| (event.clone(), told)));
                Ok(())
            })
            .await?;
            // the keys keep a fact from being taken twice, but not for ever; its own story does
            rest.retain(|(event, _)| !heard.contains(&event.event_id.to_string()));
            for (event, told) in rest {
                self.tell(&event, told, by).await?;
            }
        }
        Ok(())
    }

    /// The events because of which something has happened to an instance; none if there is no instance.
    async fn heard(&self, id: Uuid) -> Result<HashSet<String>, CommandError> {
        let unavailable = |error: LogError| CommandError::Unavailable(error.to_string());
        let story = SagaDesk::story(self, id).await.map_err(unavailable)?;
        let cause = |event: &RecordedEvent| {
            let cause = event.metadata().ok().and_then(|metadata| metadata.causation_id);
            // an operator's word has none; that there is a story is told by its own id, too
            [cause, Some(event.event_id.to_string())]
        };
        Ok(story.iter().flat_map(cause).flatten().collect())
    }

    /// The first event that begins it.
    async fn beginning(&self, key: &str) -> Result<Option<(RecordedEvent, Told<D>)>, CommandError> {
        let mut beginning = None;
        for feed in &*self.feeds {
            each(&**feed, |event| {
                if D::goes_on_without(feed.source(), event, key).map_err(unread)? {
                    let detail = format!(
                        "{key} has gone on without a {}: {} at {} of {}",
                        D::NAME,
                        event.event_type,
                        event.position,
                        feed.source()
                    );
                    return Err(refused(Refusal::new("saga_gone_on", detail)));
                }
                let told = about::<D>(feed.source(), event, key)?;
                let begins = |(ids, fact): &Told<D>| D::begin(D::VERSION, ids, fact).is_some();
                if let Some(told) = told.filter(begins)
                    && beginning.is_none()
                {
                    beginning = Some((event.clone(), told));
                }
                Ok(())
            })
            .await?;
        }
        Ok(beginning)
    }

    async fn tell(&self, event: &RecordedEvent, (ids, fact): Told<D>, by: &str) -> Result<(), CommandError> {
        let Metadata { correlation_id, traceparent, .. } = event.metadata().unwrap_or_default();
        let key = key_of(D::NAME, event.event_id);
        let metadata = Metadata {
            correlation_id,
            causation_id: Some(event.event_id.to_string()),
            command_id: Some(key.to_string()),
            actor: Some(by.to_owned()),
            traceparent,
            occurred_at: None,
        };
        let (id, at) = (saga_id(D::NAME, &D::key(&ids)), self.clock.now_as_kept());
        let command = SagaCommand::Observe { ids, fact, at, deadline_at: at + self.deadline };
        self.bus.execute(recording(&self.bus, key, id, "observe", command, metadata)).await.map(|_| ())
    }
}

/// What an event says to the instance of `key`.
fn about<D: Definition>(source: &str, event: &RecordedEvent, key: &str) -> Result<Option<Told<D>>, CommandError> {
    let told = D::told(source, event).map_err(unread)?;
    Ok(told.filter(|(ids, _)| D::key(ids) == key))
}

/// Reads a feed up to its head.
async fn each(
    feed: &dyn Feed,
    mut read: impl FnMut(&RecordedEvent) -> Result<(), CommandError>,
) -> Result<(), CommandError> {
    let mut here = Cursor::START;
    loop {
        let page = feed.page(here, PageLimit::events(PageLimit::EVENTS_MAX), Duration::ZERO).await;
        let page = page.map_err(|error| CommandError::Unavailable(format!("feed of {}: {error}", feed.source())))?;
        page.events.iter().try_for_each(&mut read)?;
        match page.events.last() {
            Some(last) => here = Cursor { position: last.position, event_id: Some(last.event_id) },
            None => return Ok(()),
        }
    }
}

fn unread(reject: Reject) -> CommandError {
    CommandError::Internal(format!("an event cannot be read: {reject}"))
}
