//! What goes wrong.

use std::time::Duration;

use super::{
    common::{apart, databases},
    plan::Dice,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A process gets SIGKILL, and is started again in a while.
    Killed(&'static str),
    /// The PostgreSQL server of a database is stopped as by a crash, and is started again in a while.
    Crashed(&'static str),
}

/// Everything that may go wrong, once a round, in the order that the dice say.
pub fn in_any_order(rounds: usize, dice: &mut Dice) -> Vec<Fault> {
    let killed = apart::all().into_iter().map(Fault::Killed);
    let all: Vec<Fault> = killed.chain(databases().map(Fault::Crashed)).collect();
    let round = |_| {
        let mut round = all.clone();
        for last in (1..round.len()).rev() {
            round.swap(last, dice.below(last as u64 + 1) as usize);
        }
        round
    };
    (0..rounds).flat_map(round).collect()
}

/// How long something is away.
pub fn a_while(dice: &mut Dice) -> Duration {
    Duration::from_millis(100 + dice.below(1_400))
}
