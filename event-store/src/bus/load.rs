//! Folding a stream into its aggregate.

use events::{
    Published,
    envelope::{RecordedEvent, StreamId},
};

use crate::{
    bus::{Domain, Loaded},
    log::{EventLog, LogError},
};

/// Events of the first read. Most streams end within it, and are not looked up among the snapshots.
const FIRST_PAGE_EVENTS: usize = 200;

/// Events of each later read, so that memory stays bounded.
const PAGE_EVENTS: usize = 1_000;

/// Whether a long stream may be read from a snapshot on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begin {
    AtSnapshot,
    AtFirstEvent,
}

impl Begin {
    /// Whoever keeps snapshots reads them.
    pub(super) fn of(snapshot_every_events: Option<u64>) -> Self {
        if snapshot_every_events.is_some() { Self::AtSnapshot } else { Self::AtFirstEvent }
    }
}

/// Folds what the log holds behind `loaded` into it. Returns also the version from which on events were read.
pub(super) async fn catch_up<A: Domain>(
    log: &dyn EventLog,
    stream: &StreamId,
    mut loaded: Loaded<A>,
    begin: Begin,
) -> Result<(Loaded<A>, u64), LogError> {
    let mut read_from = loaded.version;
    let mut page_events = FIRST_PAGE_EVENTS;
    let mut may_leap = begin == Begin::AtSnapshot && loaded.version == 0;
    loop {
        let page = log.read_stream(stream, loaded.version, page_events).await?;
        let last_page = page.len() < page_events;
        if !last_page
            && std::mem::take(&mut may_leap)
            && let Some(leapt) = from_snapshot(log, stream).await?
        {
            read_from = leapt.version;
            loaded = leapt;
            page_events = PAGE_EVENTS;
            continue;
        }
        for event in page {
            fold(&mut loaded, &event)?;
        }
        if last_page {
            return Ok((loaded, read_from));
        }
        page_events = PAGE_EVENTS;
    }
}

/// The state of the stream's snapshot, if it is of this fold and of this stream: its last event must be there, for the
/// stream may have been restored from an older copy. One that is of no use is passed over, and the next one replaces it.
async fn from_snapshot<A: Domain>(log: &dyn EventLog, stream: &StreamId) -> Result<Option<Loaded<A>>, LogError> {
    let passed_over = |reason: &dyn std::fmt::Display| {
        tracing::warn!(%stream, %reason, "a snapshot is passed over: the stream is read from its first event");
        Ok(None)
    };
    let snapshot = match log.snapshot(stream, A::VERSION).await {
        Ok(Some(snapshot)) => snapshot,
        Ok(None) => return Ok(None),
        Err(error) => return passed_over(&error),
    };
    let Some(before) = snapshot.sequence.checked_sub(1) else { return passed_over(&"it is of no event") };
    let anchor = log.read_stream(stream, before, 1).await?.pop();
    let Some(anchor) = anchor.filter(|anchor| anchor.event_id == snapshot.event_id) else {
        return passed_over(&"the stream does not hold the event that it ends with");
    };
    match serde_json::from_str(&snapshot.state) {
        Ok(state) => {
            let (version, position, event_id) = (anchor.sequence, anchor.position, Some(anchor.event_id));
            Ok(Some(Loaded { state, version, position, event_id }))
        }
        // without the parser's words: they may quote what is in the state
        Err(_) => passed_over(&"it does not read as a state"),
    }
}

fn fold<A: Domain>(loaded: &mut Loaded<A>, event: &RecordedEvent) -> Result<(), LogError> {
    let place = || format!("{} at version {} (position {})", event.stream, event.sequence, event.position);
    if event.sequence != loaded.version + 1 {
        return Err(LogError::Damaged(format!("{}: follows version {}", place(), loaded.version)));
    }
    let decoded = A::Event::decode(&event.event_type, &event.event_version, &event.payload)
        .map_err(|error| LogError::Damaged(format!("{}: {error}", place())))?;
    loaded.state.apply(decoded);
    loaded.version = event.sequence;
    loaded.position = event.position;
    loaded.event_id = Some(event.event_id);
    Ok(())
}
