//! The kit itself: it gives rows, and each of its laws is broken by a projection that does not keep it.

mod common;

use std::{
    collections::HashSet,
    sync::{
        LazyLock, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use common::{Feeds, kit, order, placed, registered, renamed, user};
use events::{
    envelope::RecordedEvent,
    orders::{self, OrderEvent},
    users::{self, UserEvent},
};
use projections::{
    kit::{Law, Random, Story},
    order_details,
    projection::{Facets, Fold, Projection, References},
};
use read_side::{
    Consistency,
    template::{Column, Kind, ReferenceTemplate, Template, column},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

const COLUMNS: &[Column] = &[column("shown", Kind::Text)];

/// A row per user.
static USERS: Template = Template {
    name: "kit_users",
    key: "user_id",
    sources: &[users::SOURCE],
    facets: &["user_facet"],
    columns: COLUMNS,
    ..Template::BLANK
};

/// Some users with several names each, and orders of theirs.
fn history(random: &mut Random, story: &Story) {
    let feeds = Feeds::of(story);
    for n in 1..=4 {
        feeds.user(registered(n, &format!("User {n}")));
    }
    for n in 1..=6 {
        feeds.user(renamed(1 + random.below(4), &format!("Renamed {n}")));
        feeds.order(placed(n, 1 + random.below(4), &[1]));
    }
}

/// The projection breaks the law, and what is said about it finds it again.
async fn assert_breaks(law: Law, projection: fn() -> Projection) {
    let broken = kit(projection).await.law(law, history).await.expect_err("the projection is broken");
    assert_eq!(broken.law, law);
    let said = broken.to_string();
    let seed = broken.seed.expect("the history was drawn");
    assert!(said.contains(&format!("SEED={seed}")) && said.contains(&law.to_string()), "{said}");
    assert!(!broken.why.is_empty(), "{said}");
}

fn user_of(event: &UserEvent) -> Option<String> {
    match event {
        UserEvent::UserRegistered(event) => Some(event.user_id.to_string()),
        UserEvent::UserRenamed(event) => Some(event.user_id.to_string()),
        UserEvent::EmailChanged(_) | UserEvent::AddressChanged(_) | UserEvent::UserErased(_) => None,
    }
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct Counted {
    events: u64,
}

/// Counts a user's events, as it should.
struct CountFold;

impl Fold for CountFold {
    type Event = UserEvent;
    type State = Counted;
    const SOURCE: &'static str = users::SOURCE;

    fn key(event: &UserEvent) -> Option<String> {
        user_of(event)
    }

    fn fold(state: Option<Counted>, _: UserEvent, _: &RecordedEvent) -> Result<Counted, String> {
        Ok(Counted { events: state.unwrap_or_default().events + 1 })
    }
}

fn count(facets: &Facets, _: &References) -> Option<String> {
    facets.get::<Counted>(0).map(|counted| json!({ "shown": counted.events.to_string() }).to_string())
}

fn counting() -> Projection {
    Projection::new(&USERS, 1).facet::<CountFold>().derive(count)
}

#[tokio::test]
async fn a_projection_that_keeps_every_law_is_left_in_peace() {
    kit(counting).await.laws(history).await;
}

#[tokio::test]
async fn rows_are_what_queries_read() {
    let kit = kit(counting).await;
    let told = |story: &Story| {
        story.says("users", user(1), &registered(1, "Ada")).says("users", user(1), &renamed(1, "Ada Lovelace"));
    };
    let rows = kit.given(told).rows().await;
    assert_eq!((rows.len(), &rows[&user(1).to_string()]), (1, &json!({ "shown": "2" })));
    assert!(kit.given(|_| {}).rows().await.is_empty());
}

#[tokio::test]
async fn typed_queries_are_asked_on_each_database() {
    let told = |story: &Story| {
        story.says("users", user(7), &registered(7, "Ada")).says("orders", order(1), &placed(1, 7, &[1]));
    };
    let asked = AtomicU64::new(0);
    let then = async |read: read_side::ReadSide| {
        let row = read.order(order(1), &Consistency::any()).await.unwrap().expect("the order is served");
        assert_eq!(row.customer_name.as_deref(), Some("Ada"));
        asked.fetch_add(1, Ordering::Relaxed);
    };
    kit(order_details::projection).await.given(told).then(then).await;
    assert_eq!(asked.load(Ordering::Relaxed), 2);
}

#[tokio::test]
#[should_panic(expected = "the history cannot be folded: 1 events cannot be applied, the first at position 1")]
async fn what_cannot_be_folded_is_said() {
    let kit = kit(counting).await;
    let told = |story: &Story| {
        story.says_raw("users", user(1), "UserRenamed", "1", "{}");
    };
    kit.given(told).rows().await;
}

/// Gives a text column a number that SQLite cannot hold.
fn number_for_text(facets: &Facets, _: &References) -> Option<String> {
    facets.get::<Counted>(0).map(|_| json!({ "shown": u64::MAX }).to_string())
}

#[tokio::test]
async fn what_the_databases_keep_differently_is_no_table() {
    assert_breaks(Law::OneTable, || Projection::new(&USERS, 1).facet::<CountFold>().derive(number_for_text)).await;
}

static RENAMED: Template = Template {
    name: "kit_renamed",
    references: &[ReferenceTemplate { name: "name", key: "user_id", columns: &[column("events", Kind::Integer)] }],
    facets: &["user_facet"],
    sources: &[users::SOURCE],
    key: "user_id",
    columns: COLUMNS,
    ..Template::BLANK
};

/// The row begins with the registration alone; what the user is called is a reference.
struct RegisteredFold;

impl Fold for RegisteredFold {
    type Event = UserEvent;
    type State = Counted;
    const SOURCE: &'static str = users::SOURCE;

    fn key(event: &UserEvent) -> Option<String> {
        match event {
            UserEvent::UserRegistered(event) => Some(event.user_id.to_string()),
            UserEvent::UserRenamed(_)
            | UserEvent::EmailChanged(_)
            | UserEvent::AddressChanged(_)
            | UserEvent::UserErased(_) => None,
        }
    }

    fn fold(_: Option<Counted>, _: UserEvent, recorded: &RecordedEvent) -> Result<Counted, String> {
        Ok(Counted { events: recorded.position })
    }
}

/// Looks up a reference that the row does not link to. User n is the one of position n.
fn unlinked(facets: &Facets, references: &References) -> Option<String> {
    let Counted { events: n } = facets.get(0)?;
    let renamed = references.get::<Counted>("name", &user(*n).to_string()).map(|counted| counted.events.to_string());
    Some(json!({ "shown": renamed }).to_string())
}

#[tokio::test]
async fn a_row_without_a_link_to_its_reference_depends_on_the_order() {
    let projection =
        || Projection::new(&RENAMED, 1).facet::<RegisteredFold>().reference::<CountFold>().derive(unlinked);
    assert_breaks(Law::AnyInterleaving, projection).await;
}

static LATEST_NAME: Mutex<String> = Mutex::new(String::new());

/// Tells the other fold of the latest name, behind everybody's back.
struct TellingFold;

impl Fold for TellingFold {
    type Event = UserEvent;
    type State = Counted;
    const SOURCE: &'static str = users::SOURCE;

    fn key(event: &UserEvent) -> Option<String> {
        user_of(event)
    }

    fn fold(state: Option<Counted>, event: UserEvent, recorded: &RecordedEvent) -> Result<Counted, String> {
        *LATEST_NAME.lock().unwrap() = recorded.event_id.to_string();
        CountFold::fold(state, event, recorded)
    }
}

struct HearingFold;

impl Fold for HearingFold {
    type Event = OrderEvent;
    type State = String;
    const SOURCE: &'static str = orders::SOURCE;

    fn key(event: &OrderEvent) -> Option<String> {
        match event {
            OrderEvent::OrderPlaced(event) => Some(event.customer_id.to_string()),
            OrderEvent::OrderImported(_)
            | OrderEvent::OrderConfirmed(_)
            | OrderEvent::OrderCancelled(_)
            | OrderEvent::OrderShipped(_)
            | OrderEvent::OrderDelivered(_)
            | OrderEvent::OrderReturned(_) => None,
        }
    }

    fn fold(_: Option<String>, _: OrderEvent, _: &RecordedEvent) -> Result<String, String> {
        Ok(LATEST_NAME.lock().unwrap().clone())
    }
}

static TOLD: Template = Template {
    name: "kit_told",
    key: "user_id",
    sources: &[users::SOURCE, orders::SOURCE],
    facets: &["user_facet", "order_facet"],
    columns: COLUMNS,
    ..Template::BLANK
};

fn heard(facets: &Facets, _: &References) -> Option<String> {
    facets.get::<String>(1).map(|heard| json!({ "shown": heard }).to_string())
}

#[tokio::test]
async fn folds_that_share_a_state_depend_on_the_order() {
    let projection = || Projection::new(&TOLD, 1).facet::<TellingFold>().facet::<HearingFold>().derive(heard);
    assert_breaks(Law::AnyInterleaving, projection).await;
}

static SEEN: LazyLock<Mutex<HashSet<Uuid>>> = LazyLock::new(Mutex::default);

/// Leaves out what it has seen, by a memory of its own: what was rolled back it takes for done.
struct RememberingFold;

impl Fold for RememberingFold {
    type Event = UserEvent;
    type State = Counted;
    const SOURCE: &'static str = users::SOURCE;

    fn key(event: &UserEvent) -> Option<String> {
        user_of(event)
    }

    fn fold(state: Option<Counted>, event: UserEvent, recorded: &RecordedEvent) -> Result<Counted, String> {
        let is_new = SEEN.lock().unwrap().insert(recorded.event_id);
        if is_new { CountFold::fold(state, event, recorded) } else { Ok(state.unwrap_or_default()) }
    }
}

#[tokio::test]
async fn a_fold_that_remembers_what_it_saw_is_not_the_same_twice() {
    assert_breaks(Law::TwiceIsOnce, || Projection::new(&USERS, 1).facet::<RememberingFold>().derive(count)).await;
}

/// One row for all users: whoever spoke last in the feed. Its state takes several streams and does not keep them apart.
struct LastFold;

impl Fold for LastFold {
    type Event = UserEvent;
    type State = String;
    const SOURCE: &'static str = users::SOURCE;

    fn key(event: &UserEvent) -> Option<String> {
        user_of(event).map(|_| "all".to_owned())
    }

    fn fold(_: Option<String>, event: UserEvent, _: &RecordedEvent) -> Result<String, String> {
        user_of(&event).ok_or_else(|| "it has a key".to_owned())
    }
}

fn last(facets: &Facets, _: &References) -> Option<String> {
    facets.get::<String>(0).map(|last| json!({ "shown": last }).to_string())
}

#[tokio::test]
async fn a_state_that_mixes_streams_cannot_wait_for_one() {
    assert_breaks(Law::LateStream, || Projection::new(&USERS, 1).facet::<LastFold>().derive(last)).await;
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct Forgetful {
    #[serde(skip)]
    events: u64,
}

/// Keeps part of its state in memory alone.
struct ForgetfulFold;

impl Fold for ForgetfulFold {
    type Event = UserEvent;
    type State = Forgetful;
    const SOURCE: &'static str = users::SOURCE;

    fn key(event: &UserEvent) -> Option<String> {
        user_of(event)
    }

    fn fold(state: Option<Forgetful>, _: UserEvent, _: &RecordedEvent) -> Result<Forgetful, String> {
        Ok(Forgetful { events: state.unwrap_or_default().events + 1 })
    }
}

fn forgotten(facets: &Facets, _: &References) -> Option<String> {
    facets.get::<Forgetful>(0).map(|counted| json!({ "shown": counted.events.to_string() }).to_string())
}

#[tokio::test]
async fn a_state_that_is_not_stored_whole_does_not_resume() {
    assert_breaks(Law::ResumeAnywhere, || Projection::new(&USERS, 1).facet::<ForgetfulFold>().derive(forgotten)).await;
}

static DERIVED: AtomicU64 = AtomicU64::new(0);

/// As if it looked at a clock.
fn aging(facets: &Facets, _: &References) -> Option<String> {
    let age = DERIVED.fetch_add(1, Ordering::Relaxed);
    facets.get::<Counted>(0).map(|_| json!({ "shown": age.to_string() }).to_string())
}

#[tokio::test]
async fn a_row_that_knows_what_time_it_is_is_not_rebuilt() {
    assert_breaks(Law::RebuildEqualsLive, || Projection::new(&USERS, 1).facet::<CountFold>().derive(aging)).await;
}
