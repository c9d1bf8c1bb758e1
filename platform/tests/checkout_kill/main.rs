//! Orders by thirty-two customers while the platform dies at named places of the checkout's dispatcher and at random, on
//! SQLite and on PostgreSQL: every order ends whole or undone, and every law that the services owe it together holds.
//!
//! The short form runs with the other tests: 150 orders and four deaths, and of the walks one place of the three, which the
//! seed chooses, with a dozen lives. `TRIBUTARY_SOAK=1` (`cargo xtask soak checkout`) takes 2,000 orders and many more
//! deaths, and walks to every place. `TRIBUTARY_SEED=n` repeats a run.
#![allow(clippy::print_stderr, reason = "what a long run has come to is worth reading")]

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/crew.rs"]
mod crew;
#[path = "../common/plan.rs"]
mod plan;
#[path = "../common/verdict.rs"]
mod verdict;

use std::{os::unix::process::ExitStatusExt, time::Duration};

use common::{Home, Platform, SIGABRT, is_soak, seed, text, tributary};
use testkit::{northwind::Northwind, postgres};

use self::{
    crew::Crew,
    plan::{Dice, Fate, Plan},
    verdict::check,
};

/// Where the dispatcher may die, about each effect.
const PLACES: [&str; 3] = ["saga.before_send", "saga.after_send", "saga.after_record"];

/// How long a process may take to come to the place where it dies, if there is something to do.
const DEATH_WAIT_MAX: Duration = Duration::from_secs(60);

/// How a process ends.
enum Death {
    /// The nth time that it passes a place.
    At {
        place: &'static str,
        nth: u64,
    },
    After(Duration),
}

/// Only a run that fails waits so long: a step that nobody answers is asked for once a minute in the end.
fn patience() -> Duration {
    Duration::from_secs(if is_soak() { 1_800 } else { 240 })
}

/// Opens shop: customers, products, pieces.
async fn open(home: &Home, plan: Plan) -> Crew {
    let crew = Crew::new(plan);
    let platform = Platform::up(home).await;
    crew.turn_to(&[&platform.url]);
    crew.prepare().await;
    crew.let_order(crew.plan.orders.len());
    crew.turn_to(&[]);
    platform.terminate().await;
    crew
}

/// One life of the platform, up to its death. Whether it died where it was to.
async fn live(home: &Home, crew: &Crew, death: &Death) -> bool {
    let (place, wait) = match death {
        Death::At { place, nth } => (Some(format!("{place}:{nth}")), DEATH_WAIT_MAX),
        Death::After(wait) => (None, *wait),
    };
    let variable = place.as_deref().map(|place| ("TRIBUTARY_FAILPOINT", place));
    // it may be dead before it has said where it is to be found
    let mut platform = match Platform::begin(home, &[], variable.as_slice()).await {
        Ok(platform) => platform,
        Err(unborn) => {
            assert!(place.is_some() && unborn.died_of == Some(SIGABRT), "{unborn:?}; {}", crew.plan);
            return true;
        }
    };
    crew.turn_to(&[&platform.url]);
    let died = tokio::select! {
        ended = platform.ended() => {
            assert_eq!((place.is_some(), ended.signal()), (true, Some(SIGABRT)), "{ended} at {place:?}; {}", crew.plan);
            true
        }
        () = tokio::time::sleep(wait) => false,
        () = crew.rested() => false,
    };
    crew.turn_to(&[]);
    died
}

/// Orders in a storm, and deaths at three places and at random.
async fn storm(home: Home, seed: u64) {
    let (orders, deaths) = if is_soak() { (2_000, 44) } else { (100, 4) };
    let crew = open(&home, Plan::mixed(orders, seed)).await;
    let mut dice = Dice::new(seed);
    let dying = async {
        for n in 0..deaths {
            let death = match PLACES.get(n % (PLACES.len() + 1)) {
                Some(place) => Death::At { place, nth: 3 + dice.below(orders / 4) },
                None => Death::After(Duration::from_millis(500 + dice.below(3_000))),
            };
            let died = live(&home, &crew, &death).await;
            if let Death::At { place, nth } = death {
                assert!(died, "it did not die at {place}:{nth}; {}", crew.plan);
            }
        }
        let platform = Platform::up(&home).await;
        crew.turn_to(&[&platform.url]);
        let under_way = crew.books().await.books.under_way();
        assert!(!under_way.is_empty(), "checkouts are under way when the import begins; {}", crew.plan);
        import(&platform).await;
        platform
    };
    let (platform, (), ()) = tokio::join!(dying, crew.order_all(), crew.work(patience()));
    check(&platform, &crew).await;
}

/// History comes in while checkouts are under way.
async fn import(platform: &Platform) {
    let northwind = Northwind::synthetic().expect("a source");
    let from = northwind.path.display().to_string();
    let done = tributary(&["import", "northwind", "--from", &from, "--url", &platform.url]).await;
    assert!(done.status.success(), "{}", text(&done));
}

/// One order of each fate, and a process that dies again and again at one place of the dispatcher. Every effect that is
/// sent is met there: whoever dies behind the first comes to the second in its next life.
async fn walk(home: Home, place: &'static str, seed: u64) {
    let (nth, lives_max) = match (is_soak(), place) {
        (true, "saga.after_record") => (1, 400),
        // the first is the one that it died of
        (true, _) => (2, 400),
        (false, _) => (19, 12),
    };
    let crew = open(&home, Plan::of(Fate::ALL, seed)).await;
    let dying = async {
        let mut lives = 0;
        while lives < lives_max && live(&home, &crew, &Death::At { place, nth }).await {
            lives += 1;
        }
        assert!(lives > 3, "it died at {place} {lives} times only; {}", crew.plan);
        let platform = Platform::up(&home).await;
        crew.turn_to(&[&platform.url]);
        platform
    };
    let (platform, (), ()) = tokio::join!(dying, crew.order_all(), crew.work(patience()));
    check(&platform, &crew).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_anywhere_every_checkout_ends_whole_or_undone() {
    let seed = seed();
    for home in Home::both_or_one(seed).await {
        storm(home, seed).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_about_every_step_of_every_fate_the_laws_hold() {
    // the seed that is printed chooses the place, too: one of them a run; the soak has time for all
    let seed = seed();
    let places = if is_soak() { &PLACES[..] } else { &PLACES[(seed % PLACES.len() as u64) as usize..][..1] };
    for place in places {
        for home in Home::both_or_one(seed).await {
            eprintln!("deaths at {place}");
            walk(home, place, seed).await;
        }
    }
}

/// The deadline has fired, and the process dies before it is noted that it has.
async fn a_timer_between_its_fire_and_its_record(home: Home) {
    let at_once = ["--checkout-deadline-seconds=1"];
    let crew = open(&home, Plan::of([Fate::GatewaySilent], seed())).await;
    let order = crew.plan.orders[0].id.to_string();
    let dying = async {
        let death = [("TRIBUTARY_FAILPOINT", "saga.after_fire:1")];
        let mut platform = Platform::begin(&home, &at_once, &death).await.expect("it dies later");
        crew.turn_to(&[&platform.url]);
        let ended = tokio::time::timeout(DEATH_WAIT_MAX, platform.ended()).await.expect("the timer fires");
        assert_eq!(ended.signal(), Some(SIGABRT), "{ended}; {}", crew.plan);
        crew.turn_to(&[]);
        let platform = Platform::up_with(&home, &at_once, &[]).await.expect("the platform comes up");
        crew.turn_to(&[&platform.url]);
        platform
    };
    let (platform, (), ()) = tokio::join!(dying, crew.order_all(), crew.work(patience()));
    let (_, checkout) = platform.get(&format!("/checkouts/{order}")).await;
    assert_eq!((&checkout["phase"], &checkout["setback"]), (&"COMPENSATED".into(), &"DEADLINE_PASSED".into()));
    let told = tributary(&["saga", "show", &order, "--url", &platform.url]).await;
    assert_eq!(text(&told).matches("the deadline has passed").count(), 1, "{}", text(&told));
    check(&platform, &crew).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timer_that_is_killed_between_its_fire_and_its_record_fires_once_on_sqlite() {
    a_timer_between_its_fire_and_its_record(Home::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timer_that_is_killed_between_its_fire_and_its_record_fires_once_on_postgresql() {
    a_timer_between_its_fire_and_its_record(Home::postgres(postgres::shared().await).await).await;
}

/// Two processes on one database, of which the younger acts. It is frozen in the middle of its work for longer than a
/// lease, so the one that stands by goes on. It wakes up: what it does then was done by the other long ago, and it stands
/// by in turn. Then the other is killed, and it takes over again. Nobody starts anything meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn two_dispatchers_replace_each_other_and_double_nothing_on_postgresql() {
    let home = Home::postgres(postgres::shared().await).await;
    let orders = if is_soak() { 1_000 } else { 60 };
    let crew = open(&home, Plan::mixed(orders, seed())).await;
    let changing = async {
        let second = Platform::up(&home).await;
        let first = Platform::up(&home).await;
        crew.turn_to(&[&first.url]);
        crew.some_more_ended().await;
        first.signal("-STOP").await;
        crew.turn_to(&[&second.url]);
        crew.some_more_ended().await;
        let times = times_stood_by(&first);
        first.signal("-CONT").await;
        // commands are taken by both
        crew.turn_to(&[&second.url, &first.url]);
        let stands_by = async {
            while times_stood_by(&first) == times {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let waited = tokio::time::timeout(patience(), stands_by).await;
        assert!(waited.is_ok(), "the first does not stand by; {}", crew.plan);
        crew.turn_to(&[&first.url]);
        second.kill().await;
        first
    };
    let (first, (), ()) = tokio::join!(changing, crew.order_all(), crew.work(patience()));
    first.terminate().await;
    // a projector that was replaced does not come back by itself
    check(&Platform::up(&home).await, &crew).await;
}

/// How often the dispatcher of a process has said that another took over.
fn times_stood_by(platform: &Platform) -> usize {
    let said = platform.said();
    let is_its = |line: &&String| line.contains("checkout") && !line.contains("checkout-index");
    said.iter().filter(|line| line.contains("stands by")).filter(is_its).count()
}
