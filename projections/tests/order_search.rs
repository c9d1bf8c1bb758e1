//! Given events of several services, then which orders are found by which words.

mod common;

use std::sync::Arc;

use common::{
    BOTH, Feeds, Place, Random, added, cancelled, email_changed, kit, order, placed, product_renamed, registered,
    renamed, small,
};
use projections::{kit::Given, order_search::projection};
use read_side::{Consistency, ReadSide, order_search::FoundOrder};

async fn given(tell: impl Fn(&Feeds)) -> Given {
    kit(projection).await.given(|story| tell(&Feeds::of(story)))
}

async fn search(read: &ReadSide, text: &str) -> Vec<FoundOrder> {
    read.search_orders(text, 10, &Consistency::any()).await.unwrap()
}

/// The numbers of the orders that are found.
async fn found(read: &ReadSide, text: &str) -> Vec<u64> {
    let found = search(read, text).await;
    (1..=40).rev().filter(|n| found.iter().any(|row| row.order_id == order(*n))).collect()
}

#[tokio::test]
async fn an_order_is_found_by_whatever_is_remembered_of_it() {
    let tell = |feeds: &Feeds| {
        feeds.user(registered(1, "José García"));
        feeds.user(registered(2, "Zoë O'Brien-Łukasik"));
        feeds.product(added(1, "Crème brûlée"));
        feeds.product(added(2, "Darjeeling"));
        feeds.order(placed(1, 1, &[1]));
        feeds.order(placed(2, 1, &[2]));
        feeds.order(placed(3, 2, &[1, 2]));
        feeds.order(cancelled(3));
    };
    let then = async |read: ReadSide| {
        for (text, orders) in [
            ("jose", vec![2, 1]),
            ("GARCÍA jos", vec![2, 1]),
            ("garcia creme", vec![1]),
            ("1@example.org jose", vec![2, 1]),
            ("lukasik", vec![3]),
            ("o'brien", vec![3]),
            ("brûl", vec![3, 1]),
            ("sku-2", vec![3, 2]),
            ("old-2", vec![2]),
            ("ordered 2", vec![3, 2]),
            ("cancelled", vec![3]),
            ("pending garcia", vec![2, 1]),
            // a word inside is no beginning, and only the last may be one
            ("arjeeling", vec![]),
            ("dar jose", vec![]),
            ("nobody", vec![]),
        ] {
            assert_eq!(found(&read, text).await, orders, "{text}");
        }
        for nothing in ["", "  ", "'", "\"", "* OR 1 & ! :", "--", "(", "\0"] {
            let _ = search(&read, nothing).await;
        }
        assert_eq!(search(&read, " ' \" ").await, []);
    };
    given(tell).await.then(then).await;
}

#[tokio::test]
async fn an_order_that_was_found_says_what_it_is() {
    let tell = |feeds: &Feeds| {
        feeds.user(registered(1, "Ada"));
        feeds.order(placed(2, 1, &[1, 2]));
    };
    let then = async |read: ReadSide| {
        let row = search(&read, "ada").await.pop().unwrap();
        assert_eq!((row.order_id, row.customer_id), (order(2), common::user(1)));
        assert_eq!((row.external_ref.as_deref(), row.customer_name.as_deref()), (Some("old-2"), Some("Ada")));
        assert_eq!((row.status.as_str(), row.total_minor, row.currency.as_str()), ("PENDING", 540, "USD"));
        assert_eq!(row.placed_at_us, common::time(0).timestamp_micros());
    };
    given(tell).await.then(then).await;
}

#[tokio::test]
async fn the_newest_are_found_first_and_not_more_than_wanted() {
    let tell = |feeds: &Feeds| {
        feeds.user(registered(1, "Ada"));
        (1..=9).for_each(|n| feeds.order(placed(n, 1, &[1])));
    };
    let then = async |read: ReadSide| {
        let found = read.search_orders("ada", 4, &Consistency::any()).await.unwrap();
        assert_eq!(found.iter().map(|row| row.order_id).collect::<Vec<_>>(), [9, 8, 7, 6].map(order));
    };
    given(tell).await.then(then).await;
}

/// SQLite's full-text index has lost rows whose words a transaction took away and gave back (secure-delete with
/// `detail = 'none'`, in 3.51.3): so words come and go in every mixture, and each is looked for.
#[tokio::test]
async fn an_order_is_found_by_its_words_whatever_changed_before() {
    for kind in BOTH {
        let feeds = Feeds::default();
        let mut random = Random(7);
        feeds.user(registered(1, "Ada Byron"));
        feeds.product(added(1, "Tea"));
        (1..=7).for_each(|n| feeds.order(placed(n, 1, &[1])));
        let mut hand = Place::new(kind).await.live(projection(), small()).await;
        hand.finish(&feeds.scripted().map(Arc::clone)).await.unwrap();
        let (mut name, mut product) = ("Ada Byron", "Tea");
        for round in 0..20 {
            for _ in 0..2 {
                if random.below(2) == 0 {
                    name = ["Ada Byron", "Ada Lovelace", "Grace"][random.below(3) as usize];
                    feeds.user(renamed(1, name));
                    hand.step(&feeds.users, 1).await.unwrap();
                } else {
                    product = ["Tea", "Green leaf", "Ada's tea"][random.below(3) as usize];
                    feeds.product(product_renamed(1, product));
                    hand.step(&feeds.catalog, 1).await.unwrap();
                }
            }
            while hand.store.advance_fan_outs().await.unwrap() {}
            let all = (1..=7).rev().collect::<Vec<_>>();
            for word in ["ada", "byron", "lovelace", "grace", "tea", "green", "leaf"] {
                let is_in = format!("{name} {product}").to_lowercase().contains(word);
                let expected = if is_in { all.clone() } else { Vec::new() };
                assert_eq!(found(&hand.read, word).await, expected, "{kind:?}, round {round}: {word}");
            }
        }
    }
}

#[tokio::test]
async fn words_follow_the_customer_and_the_products_to_every_order() {
    for kind in BOTH {
        let feeds = Feeds::default();
        feeds.user(registered(1, "Ada Byron"));
        feeds.product(added(1, "Tea"));
        (1..=7).for_each(|n| feeds.order(placed(n, 1, &[1])));
        let mut hand = Place::new(kind).await.live(projection(), small()).await;
        hand.finish(&feeds.scripted().map(Arc::clone)).await.unwrap();
        feeds.user(renamed(1, "Ada Lovelace"));
        feeds.user(email_changed(1, "countess@example.org"));
        feeds.product(product_renamed(1, "Green leaf"));
        hand.finish(&feeds.scripted().map(Arc::clone)).await.unwrap();
        let all = (1..=7).rev().collect::<Vec<_>>();
        for text in ["ada lovelace", "countess", "green leaf", "ordered"] {
            assert_eq!(found(&hand.read, text).await, all, "{kind:?}: {text}");
        }
        for text in ["byron", "tea"] {
            assert_eq!(found(&hand.read, text).await, Vec::<u64>::new(), "{kind:?}: {text}");
        }
    }
}
