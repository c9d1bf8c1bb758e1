//! How a change is made: told, and then done; or only told.

use anyhow::Result;
use database::change::Change;
use serde::Serialize;
use sqlx::PgConnection;

use crate::{cli::Output, output};

/// What was done so far, or is to be done.
pub struct Steps {
    is_check: bool,
    output: Output,
    database: String,
    told: Vec<Step>,
}

#[derive(Serialize)]
struct Step {
    database: String,
    change: String,
    /// False for what is only told.
    done: bool,
}

impl Steps {
    pub fn new(is_check: bool, output: Output) -> Self {
        Self { is_check, output, database: String::new(), told: Vec::new() }
    }

    /// Whether nothing is to be changed.
    pub fn is_check(&self) -> bool {
        self.is_check
    }

    /// What follows is about this database.
    pub fn begin(&mut self, database: &str) {
        database.clone_into(&mut self.database);
    }

    pub async fn make(&mut self, connection: &mut PgConnection, change: Change) -> Result<()> {
        self.tell(&change.says);
        if !self.is_check {
            change.run(connection).await?;
        }
        Ok(())
    }

    pub async fn make_sql(&mut self, connection: &mut PgConnection, sql: String) -> Result<()> {
        self.make(connection, Change::new(sql)).await
    }

    /// Tells of a change; with a check that is all.
    pub fn tell(&mut self, change: &str) {
        self.say(change, !self.is_check, if self.is_check { "would " } else { "" });
    }

    /// Tells of what this role may not do.
    pub fn leave(&mut self, change: &Change, why: &str) {
        self.say(&format!("{} ({why})", change.says), false, "left undone: ");
    }

    fn say(&mut self, change: &str, done: bool, before: &str) {
        if self.output == Output::Human {
            output::line(format!("{}: {before}{change}", self.database));
        }
        self.told.push(Step { database: self.database.clone(), change: change.to_owned(), done });
    }

    /// How many there were.
    pub fn finish(self) -> usize {
        let (all, done) = (self.told.len(), self.told.iter().filter(|step| step.done).count());
        match self.output {
            Output::Json => output::json(&self.told),
            Output::Human if all == 0 => output::line("nothing to do"),
            Output::Human if self.is_check => output::line(format!("{all} changes to make")),
            Output::Human if all == done => output::line(format!("{done} changes made")),
            Output::Human => output::line(format!("{done} changes made, {} left undone", all - done)),
        }
        all
    }
}
