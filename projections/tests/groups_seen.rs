//! Of a roll-up and of a list: which keys are told when they change, and why they are as they are.

mod common;

use std::time::Duration;

use common::{BOTH, Feeds, Place, cancelled, erased, order, placed, quick, registered, renamed, time, user};
use events::{
    envelope::RecordedEvent,
    orders::{self, OrderEvent},
    users::{self, UserEvent},
};
use projections::{
    Projector, ProjectorHandle,
    engine::why::{ToldBy, WhyError},
    projection::{Facets, Fold, Listing, Projection, Share},
};
use read_side::{
    ChangeCursor, Changes, ReadSide,
    template::{EntriesTemplate, GroupsTemplate, Kind, ReferenceTemplate, Template, column, sum},
};
use serde::{Deserialize, Serialize};

static ORDERS_PLACED: Template = Template {
    name: "orders_placed",
    key: "order_id",
    sources: &["orders", "users"],
    facets: &["order_facet"],
    references: &[ReferenceTemplate {
        name: "customer",
        key: "customer_id",
        columns: &[column("erased", Kind::Boolean), column("renames", Kind::Integer)],
    }],
    groups: Some(GroupsTemplate { key: &["customer_id", "currency"], amounts: &[sum("orders")], indexes: &[] }),
    ..Template::BLANK
};

static HAPPENINGS: Template = Template {
    name: "happenings",
    key: "order_id",
    sources: &["orders"],
    entries: Some(EntriesTemplate { columns: &[column("what", Kind::Text)], indexes: &[] }),
    ..Template::BLANK
};

/// Who has placed it, and in which currency.
struct Placed;

impl Fold for Placed {
    type Event = OrderEvent;
    type State = [String; 2];
    const SOURCE: &'static str = orders::SOURCE;

    fn key(event: &OrderEvent) -> Option<String> {
        if let OrderEvent::OrderPlaced(event) = event { Some(event.order_id.to_string()) } else { None }
    }

    fn fold(_: Option<[String; 2]>, event: OrderEvent, _: &RecordedEvent) -> Result<[String; 2], String> {
        let OrderEvent::OrderPlaced(event) = event else { return Err("only what is placed comes here".to_owned()) };
        Ok([event.customer_id.to_string(), event.lines[0].unit_price.currency.to_string()])
    }
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct Known {
    erased: bool,
    renames: u32,
}

struct Renames;

impl Fold for Renames {
    type Event = UserEvent;
    type State = Known;
    const SOURCE: &'static str = users::SOURCE;

    fn key(event: &UserEvent) -> Option<String> {
        match event {
            UserEvent::UserRegistered(event) => Some(event.user_id.to_string()),
            UserEvent::UserRenamed(event) => Some(event.user_id.to_string()),
            UserEvent::UserErased(event) => Some(event.user_id.to_string()),
            UserEvent::EmailChanged(_) | UserEvent::AddressChanged(_) => None,
        }
    }

    fn fold(state: Option<Known>, event: UserEvent, _: &RecordedEvent) -> Result<Known, String> {
        let known = state.unwrap_or_default();
        let renames = known.renames + u32::from(matches!(event, UserEvent::UserRenamed(_)));
        Ok(Known { erased: matches!(event, UserEvent::UserErased(_)), renames })
    }
}

#[derive(Serialize)]
struct Happened {
    what: String,
}

struct Happenings;

impl Listing for Happenings {
    type Event = OrderEvent;
    type Entry = Happened;
    const SOURCE: &'static str = orders::SOURCE;

    fn entries(event: OrderEvent, recorded: &RecordedEvent) -> Result<Vec<(String, Happened)>, String> {
        let order_id = match event {
            OrderEvent::OrderPlaced(event) => event.order_id,
            OrderEvent::OrderCancelled(event) => event.order_id,
            _ => return Ok(Vec::new()),
        };
        Ok(vec![(order_id.to_string(), Happened { what: recorded.event_type.to_string() })])
    }
}

fn share(facets: &Facets) -> Vec<Share> {
    let placed = facets.get::<[String; 2]>(0);
    placed.map(|group| Share { group: group.to_vec(), amounts: vec![1] }).into_iter().collect()
}

async fn started(place: &Place, feeds: &Feeds) -> ProjectorHandle {
    let projections = vec![
        Projection::new(&ORDERS_PLACED, 1).facet::<Placed>().reference::<Renames>().contribute(share),
        Projection::new(&HAPPENINGS, 1).listing::<Happenings>(),
    ];
    let projector = Projector::start_with(projections, place.database().await, feeds.all(), quick()).await.unwrap();
    projector.caught_up().await;
    projector
}

/// The keys that are told next behind the cursor, which moves on.
async fn told(read: &ReadSide, template: &'static Template, cursor: &mut ChangeCursor) -> Vec<String> {
    let look = async {
        loop {
            let Changes::Since { changes, cursor: next, .. } =
                read.changes(template, Some(*cursor), 100).await.unwrap()
            else {
                panic!("nothing is to be read anew");
            };
            *cursor = next;
            if !changes.is_empty() {
                return changes.into_iter().map(|change| change.key).collect();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), look).await.expect("something is told")
}

async fn begin(read: &ReadSide, template: &'static Template) -> ChangeCursor {
    match read.changes(template, None, 1).await.unwrap() {
        Changes::Resync { cursor } => cursor,
        told => panic!("{told:?}"),
    }
}

#[tokio::test]
async fn of_a_roll_up_the_groups_are_told_and_of_a_list_the_keys() {
    for kind in BOTH {
        let feeds = Feeds::default();
        feeds.user(registered(1, "Ada"));
        let place = Place::new(kind).await;
        let projector = started(&place, &feeds).await;
        let read = place.read();
        let (mut groups, mut list) = (begin(&read, &ORDERS_PLACED).await, begin(&read, &HAPPENINGS).await);
        feeds.order(placed(1, 1, &[1]));
        let customer = user(1);
        assert_eq!(told(&read, &ORDERS_PLACED, &mut groups).await, [format!("[\"{customer}\",\"USD\"]")], "{kind:?}");
        assert_eq!(told(&read, &HAPPENINGS, &mut list).await, [order(1).to_string()], "{kind:?}");
        // beside what it adds up, a group shows its customer
        feeds.user(renamed(1, "Grace"));
        assert_eq!(told(&read, &ORDERS_PLACED, &mut groups).await, [format!("[\"{customer}\"]")], "{kind:?}");
        feeds.order(cancelled(1));
        assert_eq!(told(&read, &HAPPENINGS, &mut list).await, [order(1).to_string()], "{kind:?}");
        projector.shutdown().await;
    }
}

#[tokio::test]
async fn without_a_history_the_feeds_tell_what_made_a_group_or_a_list() {
    for kind in BOTH {
        let feeds = Feeds::default();
        feeds.user(registered(1, "Ada"));
        feeds.user(registered(2, "Bob"));
        feeds.order(placed(1, 1, &[1]));
        feeds.order(placed(2, 2, &[2]));
        feeds.order(cancelled(1));
        feeds.order(placed(3, 1, &[1]));
        feeds.user(erased(1));
        let place = Place::new(kind).await;
        let projector = started(&place, &feeds).await;
        let why = async |name: &str, key: &str| {
            let why = projector.why(name, key).await?;
            assert_eq!((why.told_by, why.has_more), (ToldBy::Feeds, false), "{kind:?}");
            let told = why.causes.iter().map(|cause| {
                assert_eq!(cause.event.recorded_at, time(i64::try_from(cause.event.position).unwrap()));
                format!("{} {} {}", cause.source, cause.event.position, cause.parts.join(" "))
            });
            Ok::<_, WhyError>(told.collect::<Vec<_>>())
        };
        let customer = user(1).to_string();
        let group = ["orders 1 order_facet", "users 1 customer", "users 3 customer", "orders 4 order_facet"];
        for key in [customer.clone(), format!("{customer},USD")] {
            assert_eq!(why("orders_placed", &key).await.unwrap(), group, "{kind:?} {key}");
        }
        let list = ["orders 1 entries", "orders 3 entries"];
        assert_eq!(why("happenings", &order(1).to_string()).await.unwrap(), list, "{kind:?}");
        for name in ["orders_placed", "happenings"] {
            let nobody = why(name, &user(9).to_string()).await.unwrap_err();
            assert!(matches!(nobody, WhyError::NoRow { .. }), "{kind:?}: {nobody:?}");
        }
        projector.shutdown().await;
    }
}
