//! The pieces of one order, line by line, as its checkout knows them.

use serde::{Deserialize, Serialize};

/// How many lines are asked for at a time: an order of 2,000 lines must not crowd out the others.
pub const LINES_AT_ONCE: usize = 64;

/// What is held for a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Hold {
    /// Asked for, or still to be asked for.
    Wanted,
    /// For a while.
    Reserved,
    /// Until it is shipped or released.
    Secured,
    Shipped,
    /// Nothing: rejected, run out or released.
    Free,
    /// Nothing here: an operator takes care of the line.
    Waived,
}

/// All lines of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stock {
    holds: Vec<Hold>,
    /// Lines from this one on have never been asked for: there is nothing to release.
    asked: usize,
}

impl Stock {
    pub fn of(lines: usize) -> Self {
        Self { holds: vec![Hold::Wanted; lines], asked: lines.min(LINES_AT_ONCE) }
    }

    /// Notes what is held for a line. What has ended (shipped, free, waived) stays as it is: an answer may come late.
    pub fn note(&mut self, line: u32, hold: Hold) {
        if let Some(was) = self.hold_mut(line)
            && !matches!(was, Hold::Shipped | Hold::Free | Hold::Waived)
        {
            *was = hold;
        }
    }

    fn hold_mut(&mut self, line: u32) -> Option<&mut Hold> {
        usize::try_from(line).ok().and_then(|line| self.holds.get_mut(line))
    }

    /// Lets as many lines be asked for as may wait at a time.
    pub fn ask_for_more(&mut self) {
        let waiting = self.holds[..self.asked].iter().filter(|hold| **hold == Hold::Wanted).count();
        self.asked = (self.asked + LINES_AT_ONCE - waiting).min(self.holds.len());
    }

    pub fn to_reserve(&self) -> impl Iterator<Item = u32> {
        self.at_once(self.asked, |hold| hold == Hold::Wanted)
    }

    pub fn to_secure(&self) -> impl Iterator<Item = u32> {
        self.at_once(self.holds.len(), |hold| hold == Hold::Reserved)
    }

    pub fn to_ship(&self) -> impl Iterator<Item = u32> {
        self.at_once(self.holds.len(), |hold| hold == Hold::Secured)
    }

    /// Every line that was asked for, whatever has come of that: the release of what was never held is kept as a bar.
    pub fn to_release(&self) -> impl Iterator<Item = u32> {
        self.at_once(self.asked, |hold| matches!(hold, Hold::Wanted | Hold::Reserved | Hold::Secured))
    }

    fn at_once(&self, asked: usize, is_due: impl Fn(Hold) -> bool) -> impl Iterator<Item = u32> {
        let lines = (0..).zip(&self.holds[..asked]);
        lines.filter(move |(_, hold)| is_due(**hold)).map(|(line, _)| line).take(LINES_AT_ONCE)
    }

    pub fn is_reserved(&self) -> bool {
        self.holds.iter().all(|hold| matches!(hold, Hold::Reserved | Hold::Secured | Hold::Waived))
    }

    pub fn is_secured(&self) -> bool {
        self.holds.iter().all(|hold| matches!(hold, Hold::Secured | Hold::Waived))
    }

    pub fn is_shipped(&self) -> bool {
        self.holds.iter().all(|hold| matches!(hold, Hold::Shipped | Hold::Waived))
    }

    /// Whether nothing is held for any line, nor can be.
    pub fn is_free(&self) -> bool {
        self.to_release().next().is_none()
    }

    pub fn holds(&self) -> &[Hold] {
        &self.holds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_asked_for_some_at_a_time_and_only_those_are_released() {
        let mut stock = Stock::of(200);
        assert_eq!(stock.to_reserve().collect::<Vec<_>>(), (0..64).collect::<Vec<_>>());
        stock.note(5, Hold::Reserved);
        stock.ask_for_more();
        assert_eq!(stock.to_reserve().last(), Some(64));
        let mut released = 0;
        loop {
            let Some(line) = stock.to_release().next() else { break };
            stock.note(line, Hold::Free);
            released += 1;
        }
        assert_eq!(released, 65, "those from line 65 on were never asked for");
        assert!(stock.is_free());
    }

    #[test]
    fn what_has_ended_is_not_opened_by_a_late_answer() {
        let mut stock = Stock::of(1);
        stock.note(0, Hold::Free);
        stock.note(0, Hold::Reserved);
        assert_eq!(stock.holds(), [Hold::Free]);
        stock.note(7, Hold::Reserved);
        assert_eq!(stock.holds(), [Hold::Free], "a line that there is not is nobody's");
    }
}
