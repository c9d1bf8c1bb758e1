//! Given events of several services, these are the rows.

use std::collections::BTreeMap;

use read_side::ReadSide;
use serde_json::Value;

use super::{Kit, law, story::Story, table::Tables};
use crate::engine::{statements::Part, store::StoreOptions};

/// The served rows of a read model by key, each with the columns that queries read.
pub type Rows = BTreeMap<String, Value>;

/// What services have said, on its way into rows.
pub struct Given {
    kit: Kit,
    story: Story,
}

impl Kit {
    /// What several services have said.
    pub fn given(&self, tell: impl FnOnce(&Story)) -> Given {
        let story = Story::new();
        tell(&story);
        Given { kit: self.clone(), story }
    }
}

impl Given {
    /// Folds it on every database of the kit; all must hold the same. Panics with what is wrong otherwise.
    pub async fn rows(self) -> Rows {
        self.folded().await.rows(self.kit.projection().template)
    }

    /// The same for what rows add up to: every group, in the order of its key.
    pub async fn groups(self) -> Vec<Value> {
        self.folded().await.lines(Part::Groups)
    }

    /// The same for what events have added to lists: every entry, by key, source, position and part.
    pub async fn entries(self) -> Vec<Value> {
        self.folded().await.lines(Part::Entries)
    }

    async fn folded(&self) -> Tables {
        let tables = law::folded(&self.kit, &self.story).await.unwrap_or_else(|broken| panic!("{broken}"));
        tables.into_iter().next().unwrap_or_default()
    }

    /// Folds it on every database of the kit, and lets `then` ask the queries of the read side on each.
    pub async fn then(self, then: impl AsyncFn(ReadSide)) {
        let sources = self.kit.projection().sources();
        let feeds = self.story.of(&sources);
        for place in self.kit.places().await {
            let mut hand = place.live(self.kit.projection(), StoreOptions::default()).await;
            let folded = hand.finish(&feeds).await;
            folded.unwrap_or_else(|error| panic!("on {:?}: {error}", place.kind));
            then(hand.read.clone()).await;
            hand.database.close().await;
            place.remove().await;
        }
    }
}
