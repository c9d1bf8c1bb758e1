//! The whole platform as separate processes, each service on a PostgreSQL server of its own and every process with a login
//! that owns nothing, while customers order and one thing after the other goes wrong: each process and each server is
//! killed, connections run out, a reader crawls. Once all is whole again every acknowledged command is there once, the laws
//! of the checkout hold, and nothing differs from what a fold of the logs gives.
//!
//! The short form runs with the other tests. `TRIBUTARY_SOAK=1` (`cargo xtask soak chaos`) takes 2,000 orders and every
//! fault three times. `TRIBUTARY_SEED=n` repeats a run.
#![allow(clippy::print_stderr, reason = "what a long run has come to is worth reading")]

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/crew.rs"]
mod crew;
mod faults;
#[path = "../common/place.rs"]
mod place;
#[path = "../common/plan.rs"]
mod plan;
mod slow;
#[path = "../common/verdict.rs"]
mod verdict;
mod world;

use std::time::{Duration, Instant};

use common::{is_soak, seed, text, tributary};
use testkit::northwind::Northwind;

use self::{
    crew::Crew,
    faults::Fault,
    plan::{Dice, Plan},
    slow::SlowReaders,
    world::World,
};

/// What an import says whose every order GraphQL tells as one JOIN on its source does.
const ALL_AGREE: &str = "830 of 830 orders, 2,155 of 2,155 lines, 0 differences";

/// What may be answered while something is broken, or nothing at all. A fault of ours is none of it.
const PUT_OFF: [u16; 7] = [0, 409, 425, 429, 502, 503, 504];

/// What no process may need, however slowly somebody reads: the projector had 204 in a long run, which compares all rows.
const RESIDENT_MAX_MIB: u64 = 384;

/// How often a long run does everything.
const ROUNDS: usize = 3;

/// Only a run that fails waits so long.
fn patience() -> Duration {
    Duration::from_secs(if is_soak() { 1_800 } else { 240 })
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_breaks_every_acknowledged_command_is_there_once_and_the_laws_hold() {
    let orders = if is_soak() { 2_000 } else { 100 };
    let seed = seed();
    let mut dice = Dice::new(seed);
    let mut world = World::new().await;
    let crew = Crew::new(Plan::mixed(orders, seed));
    let gateway = world.apart.url("gateway");
    crew.turn_to(&[&gateway]);
    crew.prepare().await;

    let northwind = Northwind::real_or_synthetic().expect("a source");
    let from = northwind.path.display().to_string();
    let slow = SlowReaders::start(&gateway);
    let faults = if is_soak() { faults::all(ROUNDS, &mut dice) } else { faults::some(&mut dice) };
    let begun = Instant::now();
    let breaking = async {
        for (n, fault) in faults.iter().enumerate() {
            // some orders for each of them
            let share = |n: usize| orders as usize * n / faults.len();
            crew.let_order(share(n + 1) - share(n));
            eprintln!("{:>6.1} s {fault:?}", begun.elapsed().as_secs_f64());
            world.suffer(*fault, &mut dice).await;
        }
        eprintln!("{:>6.1} s everything is whole again", begun.elapsed().as_secs_f64());
    };
    tokio::join!(breaking, crew.order_all(), crew.work(patience()), import(&from, &gateway, &crew.plan));
    eprintln!("{:>6.1} s nothing is under way", begun.elapsed().as_secs_f64());
    check(&world, &crew, &from).await;

    assert_eq!(slow.refusal(), None);
    let resident_mib = world.resident_mib();
    eprintln!(
        "{:>6.1} s checked; {} bytes read slowly; MiB: {resident_mib:?}",
        begun.elapsed().as_secs_f64(),
        slow.bytes()
    );
    assert!(
        slow.bytes() > 0 && resident_mib.values().all(|mib| *mib < RESIDENT_MAX_MIB),
        "{resident_mib:?}; {}",
        crew.plan
    );
}

/// History comes in meanwhile: whoever is cut off begins again.
async fn import(from: &str, url: &str, plan: &Plan) {
    let started = Instant::now();
    loop {
        let done = tributary(&["import", "northwind", "--from", from, "--url", url]).await;
        if done.status.success() {
            return;
        }
        assert!(started.elapsed() < patience(), "{}; {plan}", text(&done));
    }
}

/// Everything that must hold once all is whole again.
async fn check(world: &World, crew: &Crew, from: &str) {
    let (gateway, plan) = (world.apart.gateway(), &crew.plan);
    verdict::check(gateway, crew).await;

    let events = crew.books().await.events();
    let taken = crew.ask_again().await;
    let mut audit = crew.books().await;
    audit.read(&gateway.url).await.expect("every feed goes on where it was");
    assert_eq!(audit.events(), events, "{taken} commands were sent again and nothing came of it; {plan}");

    for template in read_side::status::READ_MODELS {
        let verified = tributary(&["projection", "verify", template.name, "--url", &gateway.url]).await;
        assert!(verified.status.success(), "{}: {}; {plan}", template.name, text(&verified));
    }
    let chains = tributary(&["verify-chain", "--url", &gateway.url]).await;
    assert!(chains.status.success(), "{}; {plan}", text(&chains));
    let oracle = tributary(&["import", "northwind", "--from", from, "--url", &gateway.url, "--verify"]).await;
    assert!(oracle.status.success() && text(&oracle).contains(ALL_AGREE), "{}; {plan}", text(&oracle));

    let put_off = crew.put_off();
    eprintln!("{taken} commands taken, put off: {put_off:?}");
    assert!(put_off.keys().all(|(status, _)| PUT_OFF.contains(status)), "{put_off:?}; {plan}");
    // a few faults may pass between two commands, or be made up for by the gateway; all of them cannot
    assert!(!common::is_soak() || !put_off.is_empty(), "nobody noticed anything; {plan}");
}
