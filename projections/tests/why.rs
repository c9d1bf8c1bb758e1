//! Why a row is as it is: the events that were folded into it, and no others.

mod common;

use common::{
    BOTH, Feeds, Place, added, authorization_requested, authorized, cancelled, erased, placed, quick, registered,
    renamed, usd,
};
use projections::{
    ProjectorHandle,
    engine::why::{ToldBy, WhyError},
};

/// (source, position, parts) of each event, in order.
async fn told(projector: &ProjectorHandle, name: &str, key: &str) -> (ToldBy, Vec<(String, u64, String)>) {
    let why = projector.why(name, key).await.unwrap();
    assert!(!why.has_more);
    let causes = why.causes.iter().map(|cause| {
        assert_eq!(
            cause.event.position,
            u64::try_from((cause.event.recorded_at - common::time(0)).num_seconds()).unwrap()
        );
        (cause.source.to_string(), cause.event.position, cause.parts.join(" "))
    });
    (why.told_by, causes.collect())
}

fn events(listed: &[(&str, u64, &str)]) -> Vec<(String, u64, String)> {
    listed.iter().map(|(source, position, parts)| ((*source).to_owned(), *position, (*parts).to_owned())).collect()
}

#[tokio::test]
async fn the_events_that_made_a_row_are_told_with_those_of_what_it_refers_to() {
    for kind in BOTH {
        let feeds = Feeds::default();
        for n in 1..=2 {
            feeds.user(registered(n, "Ada"));
            feeds.product(added(n, "Tea"));
        }
        feeds.user(renamed(2, "Grace"));
        feeds.order(placed(1, 1, &[1]));
        feeds.order(placed(2, 2, &[2]));
        feeds.order(cancelled(2));
        feeds.payment(authorization_requested(1, 1, usd(180)));
        feeds.payment(authorization_requested(2, 2, usd(180)));
        feeds.payment(authorized(2, 2, usd(180)));
        let projector = Place::new(kind).await.projector(&feeds, quick()).await;
        projector.caught_up().await;
        let key = common::order(2).to_string();
        let (told_by, causes) = told(&projector, "order_details", &key).await;
        assert_eq!(told_by, ToldBy::History);
        let expected = events(&[
            ("catalog", 2, "product"),
            ("orders", 2, "order_facet"),
            ("payments", 2, "payment_facet"),
            ("users", 2, "customer"),
            ("orders", 3, "order_facet"),
            ("payments", 3, "payment_facet"),
            ("users", 3, "customer"),
        ]);
        assert_eq!(causes, expected, "{kind:?}");

        let nobody = projector.why("order_details", "nobody").await.unwrap_err();
        assert!(matches!(nobody, WhyError::NoRow { .. }), "{nobody:?}");
        let unknown = projector.why("order_detail", &key).await.unwrap_err();
        assert!(matches!(unknown, WhyError::Unknown(_)), "{unknown:?}");
        projector.shutdown().await;
    }
}

#[tokio::test]
async fn of_who_was_erased_only_the_erasure_is_told() {
    for kind in BOTH {
        let feeds = Feeds::default();
        feeds.user(registered(1, "Ada"));
        feeds.user(renamed(1, "Grace"));
        feeds.user(erased(1));
        feeds.order(placed(1, 1, &[1]));
        let projector = Place::new(kind).await.projector(&feeds, quick()).await;
        projector.caught_up().await;
        let (_, causes) = told(&projector, "order_details", &common::order(1).to_string()).await;
        assert_eq!(causes, events(&[("orders", 1, "order_facet"), ("users", 3, "customer")]), "{kind:?}");
        projector.shutdown().await;
    }
}
