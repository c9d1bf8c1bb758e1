//! How what is built and what is live come to one vector, whatever comes in between.
//!
//! The live generation is of an older version, so no projector follows it: the test writes it, at the moments that it
//! chooses, as another process would. What the program that builds hears of the orders goes through a gate.

mod common;

use std::{
    collections::BTreeMap,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use common::{BOTH, Feeds, Kind, Place, order, placed, quick, registered, renamed, small};
use event_store::{
    feed::{Cursor, Feed, FeedError, FeedPage, PageLimit},
    follower::FollowerStore,
};
use events::{
    envelope::{Name, RecordedEvent},
    orders::{OrderEvent, SOURCE},
};
use projections::{
    ChangedVersions, Projector, ProjectorHandle, ProjectorOptions,
    engine::{
        compare::{Comparison, Difference},
        rebuild::{Phase, Progress, Purpose},
    },
    kit::{self, ScriptedFeed},
    order_details,
    projection::{Fold, Projection},
};
use read_side::{Consistency, order_details::TEMPLATE};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use tokio::{sync::watch, time::timeout};

const NAME: &str = "order_details";

/// What happens at all happens within this.
const PATIENCE: Duration = Duration::from_secs(60);

/// So long nothing happens when somebody stands still.
const A_MOMENT: Duration = Duration::from_millis(400);

/// Orders before anything is built: all of customer 1.
const BEFORE: u64 = 20;

/// A feed that lets nobody past one position until it is opened.
struct Gate {
    feed: Arc<ScriptedFeed>,
    closed_at: watch::Sender<Option<u64>>,
    asked_at: watch::Sender<Option<u64>>,
    is_away: AtomicBool,
}

impl Gate {
    fn new(feed: &Arc<ScriptedFeed>) -> Arc<Self> {
        let (closed_at, asked_at) = (watch::Sender::new(None), watch::Sender::new(None));
        Arc::new(Self { feed: Arc::clone(feed), closed_at, asked_at, is_away: AtomicBool::new(false) })
    }

    /// Whoever asks for what is behind `position` waits; who has waited elsewhere goes on.
    fn close_at(&self, position: u64) {
        self.asked_at.send_replace(None);
        self.closed_at.send_replace(Some(position));
    }

    fn open(&self) {
        self.closed_at.send_replace(None);
    }

    /// Until somebody waits where it is closed.
    async fn is_waited_at(&self) {
        let mut asked = self.asked_at.subscribe();
        let asked = timeout(PATIENCE, asked.wait_for(Option::is_some)).await;
        asked.expect("somebody asks for what is behind the gate").unwrap();
    }
}

#[async_trait]
impl Feed for Gate {
    fn source(&self) -> &Name {
        self.feed.source()
    }

    async fn page(&self, after: Cursor, limit: PageLimit, wait: Duration) -> Result<FeedPage, FeedError> {
        if self.is_away.load(Ordering::Relaxed) {
            return Err(FeedError::Unreachable { feed: self.source().clone(), cause: "the line is cut".into() });
        }
        let mut closed = self.closed_at.subscribe();
        let here = Some(after.position);
        if *closed.borrow_and_update() == here {
            self.asked_at.send_replace(here);
            closed.wait_for(|closed| *closed != here).await.expect("the gate is there");
        }
        self.feed.page(after, limit, wait).await
    }
}

/// The version before the program's.
fn older() -> Projection {
    let mut projection = order_details::projection();
    projection.version -= 1;
    projection
}

struct Scene {
    place: Place,
    feeds: Feeds,
    gate: Arc<Gate>,
    live: kit::Hand,
    projector: ProjectorHandle,
    orders: u64,
}

impl Scene {
    /// A live generation of the older version that has folded everything, and a projector that only builds.
    async fn given(kind: Kind) -> Self {
        Self::of(kind, older(), order_details::projection()).await
    }

    async fn of(kind: Kind, older: Projection, program: Projection) -> Self {
        let (place, feeds) = (Place::new(kind).await, Feeds::default());
        feeds.user(registered(1, "Ada"));
        (1..=BEFORE).for_each(|n| feeds.order(placed(n, 1, &[1])));
        let mut live = place.live(older, small()).await;
        finish(&mut live, &feeds).await;
        let gate = Gate::new(&feeds.orders);
        let gated = feeds.all().into_iter().map(|feed| match &**feed.source() {
            "orders" => Arc::clone(&gate) as Arc<dyn Feed>,
            _ => feed,
        });
        let options = ProjectorOptions { changed_versions: ChangedVersions::Wait, store: small(), ..quick() };
        let projector = Projector::start_with(vec![program], place.database().await, gated.collect(), options).await;
        Self { place, gate, live, projector: projector.unwrap(), feeds, orders: BEFORE }
    }

    /// Orders that are in the log, and not in the live generation yet.
    fn placed(&mut self, count: u64) {
        (1..=count).for_each(|n| self.feeds.order(placed(self.orders + n, 1, &[1])));
        self.orders += count;
    }

    /// Orders that the live generation folds.
    async fn folded(&mut self, count: u64) {
        self.placed(count);
        self.live.step(&self.feeds.orders, usize::MAX).await.unwrap();
    }

    async fn finish(&mut self) {
        finish(&mut self.live, &self.feeds).await;
    }

    /// Begins to build, and comes to where both are brought together for the last time: what is built knows all orders
    /// but the last `behind`, has asked for them, and waits at the gate.
    async fn meeting(&mut self, purpose: Purpose, behind: u64) -> watch::Receiver<Progress> {
        self.gate.close_at(0);
        let progress = self.projector.build(NAME, purpose, None).await.unwrap();
        self.gate.is_waited_at().await;
        // it is known by now what is to be caught up to
        self.folded(5).await;
        self.gate.close_at(BEFORE);
        self.gate.is_waited_at().await;
        // it has seen the live one's vector, and closes the gap while that goes on
        self.folded(behind).await;
        self.gate.close_at(BEFORE + 5);
        self.gate.is_waited_at().await;
        progress
    }

    /// Whether the live generation can be written now.
    async fn goes_on(&mut self, within: Duration) -> bool {
        self.placed(1);
        timeout(within, self.live.step(&self.feeds.orders, 1)).await.is_ok_and(|step| step.is_ok())
    }

    async fn end(self) {
        self.projector.shutdown().await;
    }
}

async fn finish(hand: &mut kit::Hand, feeds: &Feeds) {
    let sources = hand.store.projection().sources();
    let followed: Vec<_> =
        feeds.scripted().into_iter().filter(|feed| sources.contains(&&**feed.source())).cloned().collect();
    hand.finish(&followed).await.unwrap();
}

async fn over(mut progress: watch::Receiver<Progress>) -> Progress {
    let over = progress.wait_for(|progress| progress.phase.is_over());
    timeout(PATIENCE, over).await.expect("a rebuild ends").unwrap().clone()
}

/// What was found by a rebuild that has ended as it should.
async fn compared(progress: watch::Receiver<Progress>) -> Comparison {
    let told = over(progress).await;
    assert_eq!((told.phase, told.error), (Phase::Compared, None));
    told.report.expect("it was compared")
}

fn positions(report: &Comparison) -> BTreeMap<&str, u64> {
    report.vector.iter().map(|point| (&*point.source, point.position)).collect()
}

#[tokio::test]
async fn what_comes_while_both_are_brought_together_is_in_both_and_the_live_one_waits_for_the_last_of_it() {
    for kind in BOTH {
        let mut scene = Scene::given(kind).await;
        // rows that are rewritten by themselves, some at a time
        scene.feeds.user(renamed(1, "Grace"));
        scene.live.step(&scene.feeds.users, 1).await.unwrap();
        while scene.live.store.advance_fan_outs().await.unwrap() {}
        let progress = scene.meeting(Purpose::Diff, 5).await;
        scene.placed(1);
        {
            let mut writing = pin!(scene.live.step(&scene.feeds.orders, 1));
            assert!(timeout(A_MOMENT, &mut writing).await.is_err(), "{kind:?}: it is held still");
            scene.gate.open();
            timeout(PATIENCE, writing).await.expect("it is let go").unwrap();
        }
        let report = compared(progress).await;
        assert!(report.is_same() && report.notes.is_empty(), "{kind:?}: {report:?}");
        assert_eq!(positions(&report)["orders"], BEFORE + 10, "{kind:?}: where it was held");
        assert_eq!((report.live.rows, report.live.hash), (report.built.rows, report.built.hash), "{kind:?}");
        scene.end().await;
    }
}

#[tokio::test]
async fn rows_of_a_change_that_comes_at_the_last_moment_are_rewritten_before_they_are_compared() {
    for kind in BOTH {
        let mut scene = Scene::given(kind).await;
        scene.gate.close_at(0);
        let progress = scene.projector.diff(NAME).await.unwrap();
        scene.gate.is_waited_at().await;
        scene.folded(1).await;
        scene.gate.close_at(BEFORE);
        scene.gate.is_waited_at().await;
        scene.feeds.user(renamed(1, "Grace"));
        scene.finish().await;
        scene.gate.open();
        let report = compared(progress).await;
        assert!(report.is_same() && report.notes.is_empty(), "{kind:?}: {report:?}");
        assert_eq!(positions(&report)["users"], 2, "{kind:?}: the change was in it");
        scene.end().await;
    }
}

#[tokio::test]
async fn the_live_one_does_not_stand_still_for_more_than_a_few_events() {
    for kind in BOTH {
        let mut scene = Scene::given(kind).await;
        let progress = scene.meeting(Purpose::Diff, 501).await;
        assert!(scene.goes_on(Duration::from_secs(2)).await, "{kind:?}: so many are read while it goes on");
        scene.gate.open();
        let report = compared(progress).await;
        assert!(report.is_same(), "{kind:?}: {report:?}");
        assert_eq!(positions(&report)["orders"], scene.orders, "{kind:?}");
        scene.end().await;
    }
}

#[tokio::test]
async fn the_live_one_does_not_stand_still_for_a_service_that_does_not_answer() {
    let one = async |kind| {
        let mut scene = Scene::given(kind).await;
        let progress = scene.meeting(Purpose::Diff, 5).await;
        assert!(scene.goes_on(Duration::from_millis(4_500)).await, "{kind:?}: it is let go");
        // and is not held again before the service has answered
        let until = Instant::now() + Duration::from_secs(7);
        while Instant::now() < until {
            assert!(scene.goes_on(Duration::from_secs(1)).await, "{kind:?}: it is held again and again");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        scene.gate.open();
        let report = compared(progress).await;
        assert!(report.is_same(), "{kind:?}: {report:?}");
        scene.end().await;
    };
    tokio::join!(one(Kind::Sqlite), one(Kind::Postgres));
}

/// As a database does with a process that was held up for too long.
#[tokio::test]
async fn what_did_not_stand_still_after_all_is_not_compared() {
    let mut scene = Scene::given(Kind::Postgres).await;
    let progress = scene.meeting(Purpose::Diff, 5).await;
    let mut database = PgConnection::connect(scene.place.url()).await.unwrap();
    let ended = "select count(pg_terminate_backend(pid)) from pg_stat_activity \
         where datname = current_database() and state = 'idle in transaction' and pid <> pg_backend_pid()";
    let ended: i64 = sqlx::query_scalar(ended).fetch_one(&mut database).await.unwrap();
    assert_eq!(ended, 1, "the transaction that holds it still");
    scene.folded(3).await;
    scene.gate.open();
    let report = compared(progress).await;
    assert!(report.is_same(), "{report:?}");
    assert_eq!(positions(&report)["orders"], scene.orders, "it was tried again");
    scene.end().await;
}

#[tokio::test]
async fn rows_of_the_live_one_that_are_being_rewritten_are_waited_for() {
    for kind in BOTH {
        let mut scene = Scene::given(kind).await;
        scene.feeds.user(renamed(1, "Grace"));
        scene.live.step(&scene.feeds.users, 1).await.unwrap();
        let progress = scene.projector.diff(NAME).await.unwrap();
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(!progress.borrow().phase.is_over(), "{kind:?}: somebody may rewrite them");
        while scene.live.store.advance_fan_outs().await.unwrap() {}
        let report = compared(progress).await;
        assert!(report.is_same() && report.notes.is_empty(), "{kind:?}: {report:?}");
        scene.end().await;
    }
}

#[tokio::test]
async fn rows_that_nobody_rewrites_are_compared_as_they_are_and_that_is_said() {
    let one = async |kind| {
        let mut scene = Scene::given(kind).await;
        scene.feeds.user(renamed(1, "Grace"));
        scene.live.step(&scene.feeds.users, 1).await.unwrap();
        let report = compared(scene.projector.diff(NAME).await.unwrap()).await;
        assert_eq!(report.notes.len(), 1, "{kind:?}: {report:?}");
        assert!(report.notes[0].contains("1 changed references"), "{kind:?}: {report:?}");
        assert!(report.differences_total > 0, "{kind:?}: rows that wait say the old name");
        scene.end().await;
    };
    tokio::join!(one(Kind::Sqlite), one(Kind::Postgres));
}

#[tokio::test]
async fn a_process_that_is_taken_over_from_while_both_are_brought_together_leaves_the_rebuild_to_the_next() {
    for kind in BOTH {
        let mut scene = Scene::given(kind).await;
        let progress = scene.meeting(Purpose::Swap, 5).await;
        let built = progress.borrow().generation;
        let database = scene.place.database().await;
        let other = database.store(Arc::new(order_details::projection()), built, small(), scene.live.read.wake());
        other.await.unwrap().acquire().await.expect("the fence can be taken");
        scene.gate.open();
        let told = over(progress).await;
        assert_eq!((told.phase, told.error, told.generation), (Phase::Swapped, None, built), "{kind:?}");
        scene.end().await;
    }
}

#[tokio::test]
async fn a_rebuild_is_cancelled_also_while_both_are_brought_together() {
    for kind in BOTH {
        let mut scene = Scene::given(kind).await;
        let progress = scene.meeting(Purpose::Swap, 5).await;
        scene.projector.cancel(NAME).await.unwrap();
        let told = timeout(Duration::from_secs(15), over(progress)).await.expect("it is heard soon");
        assert_eq!(told.phase, Phase::Cancelled, "{kind:?}");
        assert!(scene.goes_on(Duration::from_secs(2)).await, "{kind:?}: nobody holds it any more");
        assert_eq!(scene.place.database().await.live(&TEMPLATE).await.unwrap().unwrap().generation, 1);
        scene.end().await;
    }
}

#[tokio::test]
async fn a_rebuild_is_cancelled_also_while_both_are_compared() {
    let scene = Scene::given(Kind::Postgres).await;
    let mut database = PgConnection::connect(scene.place.url()).await.unwrap();
    let mut held = database.begin().await.unwrap();
    sqlx::query("lock table order_details_g1 in access exclusive mode").execute(&mut *held).await.unwrap();
    let mut progress = scene.projector.diff(NAME).await.unwrap();
    let comparing = progress.wait_for(|progress| progress.phase == Phase::Comparing);
    timeout(PATIENCE, comparing).await.expect("it comes to that").unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    scene.projector.cancel(NAME).await.unwrap();
    let told = timeout(Duration::from_secs(10), over(progress)).await.expect("it is heard soon");
    assert_eq!(told.phase, Phase::Cancelled);
    held.rollback().await.unwrap();
    scene.end().await;
}

/// Hears of orders alone.
fn narrow() -> Projection {
    Projection::new(&TEMPLATE, 1).facet::<Placed>().derive(|facets, _| {
        let customer_id = &facets.get::<Value>(0)?["customer_id"];
        let row = json!({
            "external_ref": null, "customer_id": customer_id, "customer_name": null, "customer_email": null,
            "status": "PENDING", "placed_at_us": 0, "shipped_at_us": null, "lines": [],
            "total_minor": 0, "currency": "USD", "updated_at_us": 0,
        });
        Some(row.to_string())
    })
}

struct Placed;

impl Fold for Placed {
    type Event = OrderEvent;
    type State = Value;
    const SOURCE: &'static str = SOURCE;

    fn key(event: &OrderEvent) -> Option<String> {
        match event {
            OrderEvent::OrderPlaced(event) => Some(event.order_id.to_string()),
            _ => None,
        }
    }

    fn fold(_: Option<Value>, event: OrderEvent, _: &RecordedEvent) -> Result<Value, String> {
        match event {
            OrderEvent::OrderPlaced(event) => Ok(json!({ "customer_id": event.customer_id })),
            _ => Err("not of this test".to_owned()),
        }
    }
}

#[tokio::test]
async fn a_service_that_the_live_one_does_not_follow_is_read_to_its_end_and_one_that_only_it_follows_is_left_out() {
    for kind in BOTH {
        let scene = Scene::of(kind, narrow(), order_details::projection()).await;
        let report = compared(scene.projector.diff(NAME).await.unwrap()).await;
        let named = |difference: &Difference| difference.fields.iter().any(|field| field.field == "customer_name");
        assert_eq!(positions(&report).get("orders"), Some(&BEFORE), "{kind:?}: {report:?}");
        assert_eq!(report.differences.iter().filter(|one| named(one)).count() as u64, BEFORE, "{kind:?}: {report:?}");
        scene.end().await;

        let scene = Scene::of(kind, order_details::projection(), narrow()).await;
        let report = compared(scene.projector.diff(NAME).await.unwrap()).await;
        assert_eq!((report.built.version, positions(&report)["orders"]), (1, BEFORE), "{kind:?}: {report:?}");
        scene.end().await;
    }
}

#[tokio::test]
async fn a_service_that_does_not_answer_at_the_beginning_is_waited_for() {
    for kind in BOTH {
        let scene = Scene::given(kind).await;
        scene.gate.is_away.store(true, Ordering::Relaxed);
        let progress = scene.projector.diff(NAME).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!progress.borrow().phase.is_over(), "{kind:?}");
        scene.gate.is_away.store(false, Ordering::Relaxed);
        let report = compared(progress).await;
        assert!(report.is_same(), "{kind:?}: {report:?}");
        scene.end().await;
    }
}

#[tokio::test]
async fn a_history_that_goes_while_it_is_read_is_read_as_far_as_it_is_there() {
    for kind in BOTH {
        let mut scene = Scene::given(kind).await;
        scene.gate.close_at(0);
        let progress = scene.projector.rebuild(NAME).await.unwrap();
        scene.gate.is_waited_at().await;
        scene.feeds.orders.truncate(10);
        // the other services go on meanwhile
        scene.feeds.user(renamed(1, "Grace"));
        scene.live.step(&scene.feeds.users, 1).await.unwrap();
        scene.gate.open();
        let told = over(progress).await;
        assert_eq!((told.phase, &told.error), (Phase::Swapped, &None), "{kind:?}");
        let why = told.report.and_then(|report| report.not_compared).expect("there is nothing to compare it with");
        assert!(why.contains("orders") && why.contains("position 20"), "{kind:?}: {why}");
        let read = scene.place.read();
        let row = read.order(order(10), &Consistency::any()).await.unwrap().expect("it is in what is left");
        assert_eq!(row.customer_name.as_deref(), Some("Grace"), "{kind:?}");
        assert!(read.order(order(11), &Consistency::any()).await.unwrap().is_none(), "{kind:?}");
        scene.end().await;
    }
}

#[tokio::test]
async fn a_history_that_goes_after_it_was_read_ends_the_rebuild_soon_and_the_next_one_heals() {
    for kind in BOTH {
        let mut scene = Scene::given(kind).await;
        let progress = scene.meeting(Purpose::Swap, 5).await;
        scene.feeds.orders.truncate(10);
        scene.gate.open();
        let told = timeout(Duration::from_secs(20), over(progress)).await.expect("it is seen at once");
        assert_eq!(told.phase, Phase::Failed, "{kind:?}: {told:?}");
        assert!(told.error.as_ref().is_some_and(|error| error.contains("orders")), "{kind:?}: {told:?}");
        let told = over(scene.projector.rebuild(NAME).await.unwrap()).await;
        assert_eq!((told.phase, told.error), (Phase::Swapped, None), "{kind:?}");
        scene.end().await;
    }
}
