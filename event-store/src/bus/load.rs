//! Folding a stream into its aggregate.

use cqrs_es::Aggregate;
use events::envelope::{RecordedEvent, StreamId};

use crate::{
    bus::Loaded,
    log::{EventLog, LogError},
};

/// Events of one read. Streams are short; a long one is read in pages, so memory stays bounded.
const PAGE_EVENTS: usize = 1_000;

/// Folds what the log holds behind `loaded` into it.
pub(super) async fn catch_up<A: Aggregate>(
    log: &dyn EventLog,
    stream: &StreamId,
    mut loaded: Loaded<A>,
) -> Result<Loaded<A>, LogError> {
    loop {
        let page = log.read_stream(stream, loaded.version, PAGE_EVENTS).await?;
        let last_page = page.len() < PAGE_EVENTS;
        for event in page {
            fold(&mut loaded, &event)?;
        }
        if last_page {
            return Ok(loaded);
        }
    }
}

fn fold<A: Aggregate>(loaded: &mut Loaded<A>, event: &RecordedEvent) -> Result<(), LogError> {
    let place = || format!("{} at version {} (position {})", event.stream, event.sequence, event.position);
    if event.sequence != loaded.version + 1 {
        return Err(LogError::Damaged(format!("{}: follows version {}", place(), loaded.version)));
    }
    let payload = serde_json::from_str(&event.payload)
        .map_err(|error| LogError::Damaged(format!("{}: {} does not fit: {error}", place(), event.event_type)))?;
    loaded.state.apply(payload);
    loaded.version = event.sequence;
    loaded.position = event.position;
    loaded.event_id = Some(event.event_id);
    Ok(())
}
