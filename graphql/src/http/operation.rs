//! An operation as a stream of answers: one of a query, many of a subscription.

use std::{
    collections::{HashMap, HashSet},
    panic::AssertUnwindSafe,
    sync::Arc,
};

use async_graphql::{
    Executor, Name, Pos, Positioned, ServerError,
    parser::types::{
        DocumentOperations, ExecutableDocument, FragmentDefinition, OperationType, Selection, SelectionSet,
    },
};
use axum::http::StatusCode;
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};

use super::{
    answer::Refusal,
    asker::Asker,
    edge::{Edge, Prepared, answered},
};
use crate::errors::{code, coded};

/// One step of an operation. After the last one it is complete, unless everything is about to end.
#[derive(Debug)]
pub(super) enum Step {
    /// An answer as JSON; of a subscription to orders with the place behind it.
    Answer { json: String, cursor: Option<String> },
    /// It did not begin, or broke off: the last step.
    Failed(Vec<ServerError>),
}

impl<E: Executor> Edge<E> {
    /// Runs it.
    pub(super) fn steps(self: Arc<Self>, prepared: Prepared, asker: &Asker) -> BoxStream<'static, Step> {
        if prepared.kind != OperationType::Subscription {
            let answered = async move {
                match self.run(prepared).await {
                    Ok(answered) => Step::Answer { json: answered.json(), cursor: None },
                    Err(refusal) => Step::Failed(refusal.into_errors()),
                }
            };
            return stream::once(answered).boxed();
        }
        let seat = match self.seats.subscription(asker) {
            Ok(seat) => seat,
            Err(error) => return stream::once(async { Step::Failed(vec![error]) }).boxed(),
        };
        let Prepared { request, state, keys, .. } = prepared;
        let executed = self.executor.execute_stream(request, None);
        let answers = executed.map(move |executed| {
            let _seat = &seat;
            if !state.is_executed() {
                return Step::Failed(executed.errors.into_iter().map(|error| self.named(error)).collect());
            }
            let json = answered(executed, &keys, &state).json();
            Step::Answer { json, cursor: state.take_cursor() }
        });
        // a panic ends the operation, and not what it shares a connection with
        let answers = AssertUnwindSafe(answers).catch_unwind().map(|step| {
            step.unwrap_or_else(|_| {
                Step::Failed(vec![coded(code::INTERNAL, "the server failed; its log has the details")])
            })
        });
        answers.boxed()
    }
}

/// A subscription has one root field, and none that may be left out. The library looks for it outside of fragments only,
/// so fragments at the root are spread here.
pub(crate) fn one_root_field(document: &mut ExecutableDocument, name: Option<&str>) -> Result<(), ServerError> {
    let fragments = &document.fragments;
    let operation = match (&mut document.operations, name) {
        (DocumentOperations::Single(operation), _) => operation,
        (DocumentOperations::Multiple(named), Some(name)) => named.get_mut(name).expect("it was found before"),
        (DocumentOperations::Multiple(named), None) => named.values_mut().next().expect("it was found before"),
    };
    let pos = operation.pos;
    let set = &mut operation.node.selection_set.node;
    let (mut items, mut spread_here) = (Vec::new(), HashSet::new());
    spread(set, fragments, &mut items, &mut spread_here)?;
    let key = |item: &Positioned<Selection>| match &item.node {
        Selection::Field(field) => field.node.response_key().node.clone(),
        Selection::FragmentSpread(_) | Selection::InlineFragment(_) => unreachable!("they were spread"),
    };
    let is_one = items.first().is_some_and(|first| items.iter().all(|item| key(item) == key(first)));
    if !is_one || key(&items[0]).starts_with("__") {
        return Err(refused(pos, "a subscription has exactly one root field"));
    }
    if items.len() > 1 {
        return Err(refused(pos, "a subscription names its root field once"));
    }
    set.items = items;
    // what is spread at the root fits nowhere else, and one that is not used would be refused
    document.fragments.retain(|name, _| !spread_here.contains(name));
    Ok(())
}

// Bounded as the document's check is, which has gone before: no cycles, `selections` spreads.
fn spread(
    set: &SelectionSet,
    fragments: &HashMap<Name, Positioned<FragmentDefinition>>,
    items: &mut Vec<Positioned<Selection>>,
    spread_here: &mut HashSet<Name>,
) -> Result<(), ServerError> {
    for selection in &set.items {
        if !selection.node.directives().is_empty() {
            return Err(refused(selection.pos, "a subscription's root takes no directives"));
        }
        match &selection.node {
            Selection::Field(_) => items.push(selection.clone()),
            Selection::InlineFragment(inline) => {
                spread(&inline.node.selection_set.node, fragments, items, spread_here)?
            }
            Selection::FragmentSpread(named) => match fragments.get(&named.node.fragment_name.node) {
                Some(fragment) => {
                    spread_here.insert(named.node.fragment_name.node.clone());
                    spread(&fragment.node.selection_set.node, fragments, items, spread_here)?;
                }
                None => return Err(refused(selection.pos, "a fragment is not there")),
            },
        }
    }
    Ok(())
}

fn refused(pos: Pos, message: &str) -> ServerError {
    let mut error = coded(code::VALIDATION_FAILED, message);
    error.locations.push(pos);
    error
}

/// A request that is refused before anything of it is looked at.
pub(super) fn foreign_origin() -> Refusal {
    let error = coded(code::ORIGIN_NOT_ALLOWED, "pages of other origins may not open this here");
    Refusal::of_request(StatusCode::FORBIDDEN, error)
}
