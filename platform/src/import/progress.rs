//! How far the import is: bars on a terminal, a plain line for every quarter elsewhere. On stderr, because stdout holds
//! the result.

use std::io::{IsTerminal, Write};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::report::thousands;

/// One phase of the import.
pub struct Phase {
    name: &'static str,
    total: u64,
    done: u64,
    /// `None` where there is no terminal to draw on.
    bar: Option<ProgressBar>,
}

impl Phase {
    pub fn new(name: &'static str, total: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
            let style =
                ProgressStyle::with_template("{prefix:<12} {wide_bar} {human_pos:>9} of {human_len:<9} {elapsed:>4}");
            bar.set_style(style.expect("the template is well-formed"));
            bar.set_prefix(name);
            bar
        });
        Self { name, total, done: 0, bar }
    }

    pub fn step(&mut self) {
        self.done += 1;
        match &self.bar {
            Some(bar) => bar.inc(1),
            None if is_quarter(self.done, self.total) => {
                say(&format!("{}: {} of {}", self.name, thousands(self.done), thousands(self.total)));
            }
            None => {}
        }
    }
}

impl Drop for Phase {
    fn drop(&mut self) {
        // leaves the bar as far as it came
        if let Some(bar) = &self.bar {
            bar.abandon();
            // the bar ends where its line does: what is printed next belongs below it
            say("");
        }
    }
}

/// A line of its own.
pub fn say(line: &str) {
    // with stderr closed there is nobody to tell
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Whether `done` has just reached another quarter of `total`.
fn is_quarter(done: u64, total: u64) -> bool {
    let quarter = |n: u64| n * 4 / total.max(1);
    quarter(done) > quarter(done - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_lines_at_most_and_the_last_one_at_the_end() {
        for total in [1, 7, 91, 830] {
            let lines: Vec<u64> = (1..=total).filter(|done| is_quarter(*done, total)).collect();
            assert!(lines.len() <= 4);
            assert_eq!(lines.last(), Some(&total));
        }
    }
}
