//! What one phase of a load makes of events: the folds and listings of its sources, and where their states lie.

use std::{collections::BTreeSet, sync::Arc};

use event_store::follower::Reject;
use events::envelope::RecordedEvent;

use crate::{
    engine::decisions::Dropped,
    projection::{Decoded, Folding, Projection},
};

/// The table of the rows; behind it the references, in the template's order.
pub(super) const ROWS: usize = 0;

/// Sources that are loaded side by side. Their states lie in tables, one row a key, one slot of it a fold.
pub(super) struct Folds {
    projection: Arc<Projection>,
    dropped: Arc<Dropped>,
    sources: Vec<&'static str>,
    folds: Vec<Place>,
}

#[derive(Clone, Copy)]
enum Place {
    Facet(usize),
    Reference(usize),
}

/// Where an event goes.
#[derive(Default)]
pub(super) struct Routes {
    /// Fold, key, and the event as that fold takes it.
    pub folds: Vec<(usize, String, Decoded)>,
    /// Keys, and entries as JSON objects by column.
    pub entries: Vec<(String, String)>,
}

impl Folds {
    /// The two phases. Rows are derived from what they refer to, so sources that only fill references come first: then
    /// no row is ever rewritten for a reference. `None` where a source does both, and only a fan-out sees to it.
    ///
    /// `dropped` is left out.
    pub fn phases(projection: &Arc<Projection>, dropped: &Arc<Dropped>) -> Option<[Self; 2]> {
        let of_references: Vec<_> = projection.references.iter().map(|fold| fold.source()).collect();
        let is_first = |source: &&str| {
            of_references.contains(source)
                && projection.listings.of(source).is_none()
                && projection.facets.iter().all(|fold| fold.source() != *source)
        };
        let (first, second): (Vec<_>, Vec<_>) = projection.sources().into_iter().partition(is_first);
        if projection.links.is_some() && of_references.iter().any(|source| second.contains(source)) {
            return None;
        }
        Some([first, second].map(|sources| Self::of(projection, dropped, sources)))
    }

    fn of(projection: &Arc<Projection>, dropped: &Arc<Dropped>, sources: Vec<&'static str>) -> Self {
        let facets = (0..projection.facets.len()).map(Place::Facet);
        let references = (0..projection.references.len()).map(Place::Reference);
        let mut folds = Self {
            projection: Arc::clone(projection),
            dropped: Arc::clone(dropped),
            sources,
            folds: facets.chain(references).collect(),
        };
        folds.folds = (0..folds.folds.len())
            .filter(|fold| folds.sources.contains(&folds.fold(*fold).source()))
            .map(|fold| folds.folds[fold])
            .collect();
        folds
    }

    pub fn projection(&self) -> &Arc<Projection> {
        &self.projection
    }

    /// Every source of this phase.
    pub fn sources(&self) -> &[&'static str] {
        &self.sources
    }

    /// The tables that these sources fill.
    pub fn own_tables(&self) -> BTreeSet<usize> {
        (0..self.folds.len()).map(|fold| self.home(fold).0).collect()
    }

    /// All tables of states.
    pub fn tables(&self) -> usize {
        1 + self.projection.references.len()
    }

    /// States of one row of a table.
    pub fn slots(&self, table: usize) -> usize {
        if table == ROWS { self.projection.facets.len() } else { 1 }
    }

    /// By its place among these folds.
    pub fn fold(&self, fold: usize) -> &dyn Folding {
        match self.folds[fold] {
            Place::Facet(place) => &*self.projection.facets[place],
            Place::Reference(place) => &*self.projection.references[place],
        }
    }

    /// Table and slot of a fold's states.
    pub fn home(&self, fold: usize) -> (usize, usize) {
        match self.folds[fold] {
            Place::Facet(place) => (ROWS, place),
            Place::Reference(place) => (1 + place, 0),
        }
    }

    /// What folds into a slot of a table.
    pub fn folding(&self, table: usize, slot: usize) -> &dyn Folding {
        if table == ROWS { &*self.projection.facets[slot] } else { &*self.projection.references[table - 1] }
    }

    /// Under which name the states of a slot are kept in the history, where there is one.
    pub fn history(&self, table: usize, slot: usize) -> Option<&'static str> {
        let template = self.projection.template;
        let part = if table == ROWS { template.facets[slot] } else { template.references[table - 1].name };
        template.history.then_some(part)
    }

    /// Where an event of `source` goes.
    pub fn route(&self, source: &str, event: &RecordedEvent) -> Result<Routes, Reject> {
        let mut routes = Routes::default();
        if self.dropped.holds(source, event.event_id) {
            return Ok(routes);
        }
        for fold in 0..self.folds.len() {
            let folding = self.fold(fold);
            if folding.source() == source
                && let Some((key, decoded)) = folding.route(event)?
            {
                routes.folds.push((fold, key, decoded));
            }
        }
        if let Some(listing) = self.projection.listings.of(source) {
            routes.entries = listing.entries(event)?;
        }
        Ok(routes)
    }
}
