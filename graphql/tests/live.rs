//! What subscriptions tell, and to whom.

#[path = "support/stage.rs"]
mod stage;

use std::{sync::Arc, time::Duration};

use axum::http::HeaderName;
use event_store::{feed::Feed, follower::FollowerOptions};
use graphql::{GraphqlOptions, LiveOptions};
use projections::{
    Projector, ProjectorOptions,
    engine::store::StoreOptions,
    kit::{Kind, Story},
};
use read_side::{Consistency, ReadSide};
use stage::{
    BOTH, ORDERS, Stage, Subscriber, Subscription, customer, of_customer, order, place_of, placed_event, tight,
};

fn one(n: u128) -> String {
    format!("subscription {{ orderChanged(id: \"{}\") {{ kind cursor orderId node {{ status }} }} }}", order(n))
}

const PENDING: &str =
    "subscription { ordersChanged(filter: { status: PENDING }) { kind cursor orderId node { status } } }";

#[tokio::test]
async fn an_order_is_told_whenever_it_changes_and_what_was_before_is_not() {
    for kind in BOTH {
        let mut stage = Stage::new(kind).await;
        stage.placed(1, 1);
        stage.placed(2, 1);
        stage.fold().await;
        let mut subscriber = stage.staff(&one(1)).await;
        subscriber.hears(&[("STARTED", None)]).await;
        stage.confirmed(2, 1);
        stage.fold().await;
        subscriber.hears_nothing().await;
        stage.confirmed(1, 1);
        stage.fold().await;
        let told = subscriber.told().await;
        assert_eq!((told.order, told.node["status"].as_str()), (Some(1), Some("CONFIRMED")), "{kind:?}");
        subscriber.hears_nothing().await;
    }
}

#[tokio::test]
async fn each_customer_is_told_of_their_own_orders_from_the_moment_there_are_any() {
    for kind in BOTH {
        let mut stage = Stage::new(kind).await;
        let (mut ana, mut eva) = (stage.customer(1, ORDERS).await, stage.customer(2, ORDERS).await);
        // of an order that there is not, and of one that will be another's, nobody hears more than of any other
        let (mut anas_first, mut not_evas) = (stage.customer(1, &one(1)).await, stage.customer(2, &one(1)).await);
        for subscriber in [&mut ana, &mut eva, &mut anas_first, &mut not_evas] {
            subscriber.hears(&[("STARTED", None)]).await;
        }
        stage.placed(1, 1);
        stage.placed(2, 2);
        stage.fold().await;
        stage.confirmed(1, 1);
        stage.fold().await;
        assert_eq!(anas_first.told().await.order, Some(1), "{kind:?}");
        let cursor = ana.told().await.cursor;
        eva.hears(&[("CHANGED", Some(2))]).await;
        not_evas.hears_nothing().await;
        // a filter that names another customer lets nothing pass, and somebody else's cursor opens nothing
        let document = format!(
            "subscription($after: String) {{ ordersChanged(after: $after, filter: {{ customerId: \"{}\" }}) \
             {{ kind cursor orderId node {{ status }} }} }}",
            customer(1)
        );
        let (principal, after) = (Some(of_customer(2)), Some(cursor));
        let request = Subscription { principal, after, ..Subscription::of(&document) };
        let mut curious = request.open(&stage.router()).await;
        stage.cancelled(1, 1, "");
        stage.fold().await;
        curious.hears_nothing().await;
    }
}

#[tokio::test]
async fn what_ceases_to_fit_the_filter_is_gone_once() {
    for kind in BOTH {
        let mut stage = Stage::new(kind).await;
        let mut subscriber = stage.staff(PENDING).await;
        subscriber.hears(&[("STARTED", None)]).await;
        stage.placed(1, 1);
        stage.fold().await;
        subscriber.hears(&[("CHANGED", Some(1))]).await;
        stage.confirmed(1, 1);
        stage.fold().await;
        subscriber.hears(&[("GONE", Some(1))]).await;
        stage.registered(1, "Ada");
        stage.fold().await;
        subscriber.hears_nothing().await;
    }
}

#[tokio::test]
async fn a_subscription_with_a_token_begins_when_it_is_met() {
    for kind in BOTH {
        let mut stage = Stage::new(kind).await;
        stage.placed(1, 1);
        let token = |wait: &str| {
            vec![
                (HeaderName::from_static("consistency-token"), stage.token().to_string()),
                (HeaderName::from_static("consistency-wait"), wait.to_owned()),
            ]
        };
        let (late, in_time) = (token("50ms"), token("20s"));
        let mut late = Subscription { headers: late, ..Subscription::of(ORDERS) }.open(&stage.router()).await;
        let answer = late.answer().await;
        assert_eq!(Subscriber::code_in(&answer), "consistency_timeout", "{kind:?}: {answer}");
        assert!(answer.get("data").is_none(), "{answer}");
        assert_eq!(late.event().await.map(|event| event.event).as_deref(), Some("complete"), "{kind:?}");

        let mut waiting = Subscription { headers: in_time, ..Subscription::of(ORDERS) }.open(&stage.router()).await;
        waiting.hears_nothing().await;
        stage.fold().await;
        let started = waiting.told().await;
        assert_eq!((started.kind.as_str(), place_of(&started.cursor).1), ("STARTED", 1), "{kind:?}: behind the write");
        stage.confirmed(1, 1);
        stage.fold().await;
        waiting.hears(&[("CHANGED", Some(1))]).await;
    }
}

#[tokio::test]
async fn a_rebuild_tells_to_read_anew_exactly_once() {
    for kind in BOTH {
        let story = Story::new();
        let sources = ["users", "catalog", "orders", "inventory", "payments", "shipping"];
        let feeds: Vec<Arc<dyn Feed>> = story.feeds(&sources);
        let place = stage::place(kind).await;
        let read = place.read();
        let follower = FollowerOptions { poll_wait: Duration::from_millis(100), ..FollowerOptions::default() };
        let options = ProjectorOptions { wake: read.wake(), follower, ..ProjectorOptions::default() };
        let projector = Projector::start(place.database().await, feeds, options).await.unwrap();
        let options = GraphqlOptions { live: tight(), ..GraphqlOptions::default() };
        // whatever was said of orders is in the rows
        let seen = async |read: &ReadSide| {
            let all = Consistency::at_least(story.feed("orders").token()).with_wait(Duration::from_secs(20));
            read.order(order(1), &all).await.unwrap();
        };
        let routers = [graphql::router(read.clone(), options.clone()), graphql::router(place.read(), options)];
        let placed = |n: u128| _ = story.says("orders", order(n), &placed_event(n, 1));
        placed(1);
        seen(&read).await;
        let mut here = Subscription::of(ORDERS).open(&routers[0]).await;
        let mut there = Subscription::of(ORDERS).open(&routers[1]).await;
        let cursor = here.told().await.cursor;
        there.told().await;
        for generation in 2..=3 {
            let mut progress = projector.rebuild("order_details").await.unwrap();
            progress.wait_for(|progress| progress.phase.is_over()).await.unwrap();
            for subscriber in [&mut here, &mut there] {
                let cursor = subscriber.hears(&[("RESYNC", None)]).await;
                assert_eq!(place_of(&cursor).0, generation, "{kind:?}");
            }
        }
        placed(2);
        seen(&read).await;
        here.hears(&[("CHANGED", Some(2))]).await;
        there.hears(&[("CHANGED", Some(2))]).await;
        let back = Subscription { after: Some(cursor), ..Subscription::of(ORDERS) };
        back.open(&routers[1]).await.hears(&[("RESYNC", None)]).await;
        projector.shutdown().await;
    }
}

#[tokio::test]
async fn how_far_a_read_model_is_comes_at_once_and_when_it_changes() {
    for kind in BOTH {
        let mut live = tight();
        (live.limits.progress_every, live.limits.count_every) = (Duration::from_millis(20), Duration::ZERO);
        let mut stage = Stage::with(kind, live, StoreOptions::default()).await;
        let document =
            "subscription { projectionProgress(name: \"order_details\") { rows sources { source position } } }";
        let mut subscriber = stage.staff(document).await;
        let rows = |answer: serde_json::Value| answer["data"]["projectionProgress"]["rows"].as_i64();
        assert_eq!(rows(subscriber.answer().await), Some(0), "{kind:?}");
        subscriber.hears_nothing().await;
        stage.placed(1, 1);
        stage.fold().await;
        while rows(subscriber.answer().await) != Some(1) {}
        // whoever comes later is told at once too
        assert_eq!(rows(stage.staff(document).await.answer().await), Some(1), "{kind:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_subscribed_to_is_refused_with_a_code() {
    let stage = Stage::new(Kind::Sqlite).await;
    let unknown = "subscription { projectionProgress(name: \"nothing\") { rows } }";
    let progress = "subscription { projectionProgress(name: \"order_details\") { rows } }";
    for (document, principal, code) in [
        (progress, Some(of_customer(1)), "not_for_customers"),
        (unknown, None, "validation_failed"),
        ("subscription { orderChanged(id: \"x\") { kind } }", None, "validation_failed"),
        ("subscription { ordersChanged(after: \"x\") { kind } }", None, "validation_failed"),
        ("subscription { ordersChanged { kind } projectionProgress(name: \"x\") { rows } }", None, "validation_failed"),
        ("subscription { a: ordersChanged { kind } b: ordersChanged { kind } }", None, "validation_failed"),
        ("subscription { __typename }", None, "validation_failed"),
        ("subscription { ordersChanged @skip(if: true) { kind } }", None, "validation_failed"),
        ("subscription { nothing }", None, "validation_failed"),
    ] {
        let mut subscriber = Subscription { principal, ..Subscription::of(document) }.open(&stage.router()).await;
        let answer = subscriber.answer().await;
        assert_eq!(Subscriber::code_in(&answer), code, "{document}: {answer}");
        assert!(answer.get("data").is_none(), "{document}: {answer}");
        assert_eq!(subscriber.event().await.map(|event| event.event).as_deref(), Some("complete"), "{document}");
        assert_eq!(subscriber.event().await, None, "{document}");
    }
}

#[tokio::test]
async fn a_root_field_in_a_fragment_is_one_too() {
    let mut stage = Stage::new(Kind::Sqlite).await;
    let document =
        "subscription { ...F } fragment F on Subscription { ordersChanged { kind cursor orderId node { id } } }";
    let mut subscriber = stage.staff(document).await;
    subscriber.hears(&[("STARTED", None)]).await;
    stage.placed(1, 1);
    stage.fold().await;
    subscriber.hears(&[("CHANGED", Some(1))]).await;
}

#[tokio::test]
async fn when_everything_ends_streams_end_without_being_complete() {
    let live = LiveOptions::default();
    let closing = live.closing.clone();
    let stage = Stage::with(Kind::Sqlite, live, StoreOptions::default()).await;
    let mut subscriber = stage.staff(ORDERS).await;
    subscriber.hears(&[("STARTED", None)]).await;
    closing.close();
    assert_eq!(subscriber.event().await, None);
    tokio::time::timeout(Duration::from_secs(5), closing.ended()).await.expect("all of it ends");
}
