//! The laws of a projection: whatever order services' events come in, however often, whenever the process dies, the rows
//! are the same; and a rebuild gives the rows that are live.
//!
//! Each law runs one history in its own way and compares every table with one pass in order. What it finds it says with
//! the seed that finds it again.

use std::{fmt, sync::Arc, time::Duration};

use event_store::{
    feed::Feed,
    follower::{ApplyError, FollowerOptions, ParkedStream, Status},
};
use tokio::time::timeout;

use super::{
    Kit,
    feed::ScriptedFeed,
    loading,
    place::{Kind, Place},
    random::{Random, seeds},
    story::Story,
    table::Tables,
};
use crate::{
    Projector, ProjectorOptions,
    engine::{rebuild::Phase, store::StoreOptions},
};

/// How long a projector may take for one history of a test: only one that fails waits so long.
const PATIENCE: Duration = Duration::from_secs(60);
/// Events of one step: between one and so many.
const CUT_MAX: u64 = 5;

/// What must hold of every projection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Law {
    /// Both databases hold the same table.
    OneTable,
    /// The feeds may come in any interleaving, in steps of any size, each step once more than needed.
    AnyInterleaving,
    /// What was folded and not committed, and what is folded again, leaves no trace.
    TwiceIsOnce,
    /// A stream with an event that cannot be folded waits, and is folded behind what others have said meanwhile.
    LateStream,
    /// The process may end between any two transactions; the next one goes on from what is stored.
    ResumeAnywhere,
    /// A generation may be filled by loading, with any memory, and cut off anywhere.
    LoadedIsFollowed,
    /// A generation that is built from the first event holds what the live one does, which saw events as they came: what is
    /// loaded with little memory is what was followed.
    RebuildEqualsLive,
}

impl Law {
    pub const ALL: [Self; 7] = [
        Self::OneTable,
        Self::AnyInterleaving,
        Self::TwiceIsOnce,
        Self::LateStream,
        Self::ResumeAnywhere,
        Self::LoadedIsFollowed,
        Self::RebuildEqualsLive,
    ];
}

impl fmt::Display for Law {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OneTable => "both databases hold the same table",
            Self::AnyInterleaving => "any interleaving gives the same table",
            Self::TwiceIsOnce => "twice is once",
            Self::LateStream => "a stream may come late",
            Self::ResumeAnywhere => "it resumes anywhere",
            Self::LoadedIsFollowed => "loaded is followed",
            Self::RebuildEqualsLive => "rebuild equals live",
        })
    }
}

/// A law that a projection does not keep.
#[derive(Debug)]
pub struct Broken {
    pub projection: &'static str,
    pub law: Law,
    pub database: Kind,
    /// `None`: the events were given, not drawn.
    pub seed: Option<u64>,
    /// Where the tables part, or what went wrong.
    pub why: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { projection, law, database, seed, why } = self;
        write!(f, "{projection} breaks the law \"{law}\" on {database:?}")?;
        if let Some(seed) = seed {
            write!(f, " with seed {seed} (SEED={seed} repeats it)")?;
        }
        write!(f, ":\n{why}")
    }
}

impl Kit {
    /// Tries every law on histories that `tell` makes up from chances, on every database. Panics at the first that is
    /// broken, with the seed and where the tables part.
    pub async fn laws(&self, tell: impl Fn(&mut Random, &Story)) {
        for law in Law::ALL {
            self.law(law, &tell).await.unwrap_or_else(|broken| panic!("{broken}"));
        }
    }

    /// Tries one law; says where it is broken.
    pub async fn law(&self, law: Law, tell: impl Fn(&mut Random, &Story)) -> Result<(), Broken> {
        let places = self.places().await;
        for seed in seeds(self.histories) {
            let (mut random, story) = (Random(seed), Story::new());
            tell(&mut random, &story);
            let kept = match law {
                Law::OneTable => one_table(self, &story, &places).await.map(drop),
                Law::RebuildEqualsLive => rebuilt(self, &story, random).await,
                _ => in_pieces(self, law, &story, &places, &random).await,
            };
            kept.map_err(|broken| Broken { law, seed: Some(seed), ..broken })?;
        }
        for place in places {
            place.remove().await;
        }
        Ok(())
    }

    fn broken(&self, law: Law, database: Kind, why: impl Into<String>) -> Broken {
        Broken { projection: self.projection().template.name, law, database, seed: None, why: why.into() }
    }
}

/// The table of one story on each database of its own; all are the same.
pub(super) async fn folded(kit: &Kit, story: &Story) -> Result<Vec<Tables>, Broken> {
    let places = kit.places().await;
    let tables = one_table(kit, story, &places).await?;
    for place in places {
        place.remove().await;
    }
    Ok(tables)
}

async fn one_table(kit: &Kit, story: &Story, places: &[Place]) -> Result<Vec<Tables>, Broken> {
    let mut tables: Vec<Tables> = Vec::new();
    for place in places {
        let table = in_order(kit, story, place).await.map_err(|why| kit.broken(Law::OneTable, place.kind, why))?;
        if let Some(why) = tables.first().and_then(|first| first.difference(&table)) {
            return Err(kit.broken(Law::OneTable, place.kind, why));
        }
        tables.push(table);
    }
    Ok(tables)
}

/// The table after one pass in order, one step a feed.
async fn in_order(kit: &Kit, story: &Story, place: &Place) -> Result<Tables, String> {
    let feeds = story.of(&kit.projection().sources());
    let mut hand = place.another(kit.projection(), StoreOptions::default()).await;
    hand.finish(&feeds).await.map_err(refused)?;
    let table = hand.table().await?;
    hand.drop_generation().await?;
    Ok(table)
}

/// Compares the table of a story that comes in pieces with that of one pass in order.
async fn in_pieces(kit: &Kit, law: Law, story: &Story, places: &[Place], random: &Random) -> Result<(), Broken> {
    for place in places {
        // the same chances on each
        let mut random = random.clone();
        let compared = async {
            let expected = in_order(kit, story, place).await?;
            let table = match law {
                Law::LoadedIsFollowed => loading::loaded(kit, story, place, &mut random).await?,
                _ => piecemeal(kit, law, story, place, &mut random).await?,
            };
            expected.difference(&table).map_or(Ok(()), Err)
        };
        compared.await.map_err(|why: String| kit.broken(law, place.kind, why))?;
    }
    Ok(())
}

/// The table of a story whose feeds come in turns, as `random` has it, disturbed as `law` has it.
async fn piecemeal(kit: &Kit, law: Law, story: &Story, place: &Place, random: &mut Random) -> Result<Tables, String> {
    let feeds = story.of(&kit.projection().sources());
    let mut hand = place.another(kit.projection(), narrow(random)).await;
    let late = if law == Law::LateStream { drawn(&feeds, random) } else { None };
    loop {
        let waiting: Vec<_> = feeds.iter().filter(|feed| hand.behind(feed) > 0).collect();
        if waiting.is_empty() {
            break;
        }
        let feed = waiting[random.place(waiting.len())];
        let cut = if law == Law::ResumeAnywhere { 1 } else { 1 + random.place(CUT_MAX as usize) };
        if law == Law::TwiceIsOnce {
            hand.rehearse(feed, cut).await.map_err(refused)?;
        }
        let events = feed.events();
        let (from, to, range) = hand.next(feed, &events, cut).expect("it is behind");
        hand.step_but(feed, cut, late.as_ref()).await.map_err(refused)?;
        if matches!(law, Law::AnyInterleaving | Law::TwiceIsOnce) && random.below(3) == 0 {
            let again = hand.apply(feed, from, to, &events[range]).await;
            if !matches!(again, Err(ApplyError::Moved)) {
                return Err(format!("a step that was applied is not refused, but {again:?}"));
            }
        }
        if random.below(3) == 0 {
            hand.store.advance_fan_outs().await.map_err(refused)?;
        }
        if law == Law::ResumeAnywhere {
            hand = hand.taken_over(kit.projection(), narrow(random)).await;
        }
    }
    if let Some(late) = &late {
        hand.unpark(&feeds, late).await.map_err(refused)?;
    }
    hand.finish(&feeds).await.map_err(refused)?;
    let table = hand.table().await?;
    hand.drop_generation().await?;
    Ok(table)
}

/// Any event of any source: its stream waits from there on.
fn drawn(feeds: &[Arc<ScriptedFeed>], random: &mut Random) -> Option<ParkedStream> {
    let all: usize = feeds.iter().map(|feed| feed.events().len()).sum();
    let mut place = if all == 0 { return None } else { random.place(all) };
    for feed in feeds {
        let events = feed.events();
        if let Some(event) = events.get(place) {
            let (source, stream) = (feed.source().clone(), event.stream.clone());
            let (position, event_id, reason) = (event.position, event.event_id, "the law has it so".to_owned());
            return Some(ParkedStream { source, stream, position, event_id, reason });
        }
        place -= events.len();
    }
    None
}

/// A projector follows the story as it is told; then it builds the next generation and swaps it in.
async fn rebuilt(kit: &Kit, story: &Story, random: Random) -> Result<(), Broken> {
    for place in kit.places().await {
        let mut random = random.clone();
        let rebuilt = timeout(PATIENCE, rebuild(kit, story, &place, &mut random)).await;
        let rebuilt = rebuilt.unwrap_or_else(|_| Err(format!("not done within {} s", PATIENCE.as_secs())));
        rebuilt.map_err(|why| kit.broken(Law::RebuildEqualsLive, place.kind, why))?;
        place.remove().await;
    }
    Ok(())
}

async fn rebuild(kit: &Kit, story: &Story, place: &Place, random: &mut Random) -> Result<(), String> {
    let name = kit.projection().template.name;
    let sources = kit.projection().sources();
    let told = story.beginning(&sources, random);
    let options = ProjectorOptions {
        follower: FollowerOptions {
            batch_events_max: 1 + random.place(CUT_MAX as usize),
            poll_wait: Duration::from_millis(50),
            ..FollowerOptions::default()
        },
        store: narrow(random),
        // from room for a state or two to room for all of them
        rebuild_memory_bytes: 1 << (10 + random.below(12)),
        ..ProjectorOptions::default()
    };
    let database = place.database().await;
    let projector = Projector::start_with(vec![kit.projection()], database, told.feeds(&sources), options).await;
    let projector = projector.map_err(|error| error.to_string())?;
    // live, the rest comes bit by bit
    let feeds = story.of(&sources);
    while feeds.iter().zip(told.of(&sources)).any(|(whole, told)| told.head() != whole.head()) {
        let feed = &feeds[random.place(feeds.len())];
        told.feed(feed.source()).copy(feed, 1 + random.place(CUT_MAX as usize));
        tokio::task::yield_now().await;
    }
    projector.caught_up().await;
    let stopped = |status: &Status| {
        status.stopped.as_ref().map(ToString::to_string).or(status.stuck().map(|(_, reason)| reason.to_string()))
    };
    if let Some(reason) = projector.status().await.iter().find_map(|report| stopped(&report.live.as_ref()?.1)) {
        return Err(reason);
    }
    let mut progress = projector.rebuild(name).await.map_err(|error| error.to_string())?;
    let over = progress.wait_for(|progress| progress.phase.is_over()).await;
    let over = over.map_err(|_| "the rebuild ended without a word".to_owned())?.clone();
    projector.shutdown().await;
    match (over.phase, over.error) {
        (Phase::Swapped, None) => Ok(()),
        (phase, error) => Err(error.unwrap_or_else(|| format!("the rebuild ended as {phase:?}"))),
    }
}

/// Bounds so small that every history passes them.
pub(super) fn narrow(random: &mut Random) -> StoreOptions {
    StoreOptions {
        fan_out_rows_max: 1 + random.place(4),
        fan_outs_open_max: 2 + random.place(4),
        anchors_kept_events: 20,
        ..StoreOptions::default()
    }
}

/// A story is one that can be told: what cannot be folded belongs into a test of its own.
fn refused(error: ApplyError) -> String {
    format!("the history cannot be folded: {error}")
}
