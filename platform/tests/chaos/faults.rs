//! What goes wrong, and in which order.

use std::time::Duration;

use super::{
    common::{apart, databases},
    plan::Dice,
};

/// Databases that are on small disks, and their MiB: a log, and the read models, which some generations of are there at once.
pub const SMALL_DISKS: [(&str, u32); 2] = [("orders", 32), ("query", 256)];

/// Of each kind, where there is no time for all.
const KILLED_IN_SHORT: usize = 4;
const CRASHED_IN_SHORT: usize = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A process gets SIGKILL, and is started again in a while.
    Killed(&'static str),
    /// The PostgreSQL server of a database is stopped as by a crash, and is started again in a while.
    Crashed(&'static str),
    /// Whoever is connected to the server of a database loses that, and others have all its connections.
    Starved(&'static str),
    /// The disk of a database is full.
    Full(&'static str),
    /// The projector reads the orders' feed with 1 kB/s.
    Crawling,
}

/// Everything that may go wrong, once a round, in the order that the dice say.
pub fn all(rounds: usize, dice: &mut Dice) -> Vec<Fault> {
    let kinds = [
        apart::all().into_iter().map(Fault::Killed).collect(),
        databases().map(Fault::Crashed).collect(),
        databases().map(Fault::Starved).collect(),
        SMALL_DISKS.map(|(database, _)| Fault::Full(database)).to_vec(),
        vec![Fault::Crawling],
    ];
    let kinds: Vec<Fault> = kinds.concat();
    (0..rounds).flat_map(|_| shuffled(kinds.clone(), dice)).collect()
}

/// Some of it, as the dice say, and something of each kind.
pub fn some(dice: &mut Dice) -> Vec<Fault> {
    let mut killed = shuffled(apart::all().into_iter().map(Fault::Killed).collect(), dice);
    killed.truncate(KILLED_IN_SHORT);
    let servers = shuffled(databases().collect(), dice);
    let (starved, crashed) = servers.split_first().expect("there are databases");
    let crashed = crashed.iter().take(CRASHED_IN_SHORT).copied().map(Fault::Crashed).collect();
    let (full, _) = SMALL_DISKS[dice.below(SMALL_DISKS.len() as u64) as usize];
    let one_each = vec![Fault::Starved(starved), Fault::Full(full), Fault::Crawling];
    shuffled([killed, crashed, one_each].concat(), dice)
}

fn shuffled<T>(mut all: Vec<T>, dice: &mut Dice) -> Vec<T> {
    for last in (1..all.len()).rev() {
        all.swap(last, dice.below(last as u64 + 1) as usize);
    }
    all
}

/// How long something is away.
pub fn a_while(dice: &mut Dice) -> Duration {
    Duration::from_millis(100 + dice.below(1_400))
}
