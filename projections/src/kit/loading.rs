//! The table of a story that is loaded, cut off and resumed as chance has it.

use std::{sync::Arc, time::Duration};

use event_store::follower::Backoff;
use tokio_util::sync::CancellationToken;

use super::{Kit, hand::Hand, law::narrow, place::Place, random::Random, story::Story, table::Tables};
use crate::engine::{
    load::{Hindrance, Load, LoadError, LoadOptions},
    pace::Pace,
};

/// From one row at a time to everything at once.
const MEMORY_BYTES: [usize; 5] = [0, 4_000, 40_000, 400_000, 1 << 28];
const BATCH_EVENTS: [usize; 4] = [1, 3, 17, 1_000];

/// Loads the story with as much memory as `random` has it, from cut to cut; what cannot be loaded is followed.
pub(super) async fn loaded(kit: &Kit, story: &Story, place: &Place, random: &mut Random) -> Result<Tables, String> {
    let sources = kit.projection().sources();
    let (feeds, scripted) = (story.feeds(&sources), story.of(&sources));
    let events = scripted.iter().map(|feed| feed.head().position).sum::<u64>();
    let Hand { store, acquired, database, read, place } = place.another(kit.projection(), narrow(random)).await;
    let store = Arc::new(store);
    let mut cut = 0;
    loop {
        cut += 1 + random.below(events / 2 + 1);
        let options = LoadOptions {
            memory_bytes: MEMORY_BYTES[random.place(MEMORY_BYTES.len())],
            batch_events_max: BATCH_EVENTS[random.place(BATCH_EVENTS.len())],
        };
        let cancel = CancellationToken::new();
        let load = Load {
            store: &store,
            feeds: &feeds,
            options: &options,
            backoff: Backoff { first: Duration::from_millis(1), max: Duration::from_millis(10) },
            until: None,
            pace: &Pace::default(),
            hindrance: &Hindrance::default(),
            cancel: &cancel,
        };
        let ended = load.run(|loaded| {
            if loaded.events_done >= cut {
                cancel.cancel();
            }
        });
        match ended.await {
            Ok(()) => break,
            Err(LoadError::Cancelled) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    let generation = store.generation();
    drop((store, acquired));
    let mut hand = place.hand(database, kit.projection(), generation, narrow(random)).await;
    drop(read);
    hand.finish(&scripted).await.map_err(|error| error.to_string())?;
    let table = hand.table().await?;
    hand.drop_generation().await?;
    Ok(table)
}
