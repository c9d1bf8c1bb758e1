//! Objects and lists that are resolved in turn.
//!
//! The library resolves the fields of an object, and the elements of a list, all at once: each field in a box, all of them in
//! a set of futures. That is right for fields that wait. Those of an order's parts are ready when they are asked for, and of
//! a page of orders the first one to wait for something has it read for all; there the set takes more time than all that is in
//! it. So they are awaited one after another.

use std::borrow::Cow;

use async_graphql::{
    ContainerType, ContextSelectionSet, Name, OutputType, Positioned, ServerResult, Value,
    indexmap::IndexMap,
    parser::types::{Field, Selection},
    registry::Registry,
    resolver_utils::resolve_container,
};

/// An object whose fields are resolved in turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InTurn<T>(pub(crate) T);

/// A list whose elements are, and the fields of each.
#[derive(Debug)]
pub(crate) struct ListInTurn<T>(pub(crate) Vec<T>);

impl<T: ContainerType> OutputType for InTurn<T> {
    fn type_name() -> Cow<'static, str> {
        T::type_name()
    }

    fn create_type_info(registry: &mut Registry) -> String {
        T::create_type_info(registry)
    }

    fn introspection_type_name(&self) -> Cow<'static, str> {
        self.0.introspection_type_name()
    }

    async fn resolve(&self, ctx: &ContextSelectionSet<'_>, _field: &Positioned<Field>) -> ServerResult<Value> {
        resolve(ctx, &self.0).await
    }
}

impl<T: ContainerType> OutputType for ListInTurn<T> {
    fn type_name() -> Cow<'static, str> {
        Cow::Owned(format!("[{}]", T::qualified_type_name()))
    }

    fn create_type_info(registry: &mut Registry) -> String {
        T::create_type_info(registry);
        Self::qualified_type_name()
    }

    async fn resolve(&self, ctx: &ContextSelectionSet<'_>, _field: &Positioned<Field>) -> ServerResult<Value> {
        let mut elements = Vec::with_capacity(self.0.len());
        for (index, element) in self.0.iter().enumerate() {
            elements.push(resolve(&ctx.with_index(index), element).await?);
        }
        Ok(Value::List(elements))
    }
}

async fn resolve<T: ContainerType>(ctx: &ContextSelectionSet<'_>, object: &T) -> ServerResult<Value> {
    // what never waits must come to an end of its turn now and then: others are answered, and the time bound is looked at
    tokio::task::consume_budget().await;
    if !is_plain(ctx) {
        return resolve_container(ctx, object).await;
    }
    let mut resolved = IndexMap::with_capacity(ctx.item.node.items.len());
    for selection in &ctx.item.node.items {
        let Selection::Field(field) = &selection.node else { continue };
        let key = field.node.response_key().node.clone();
        if field.node.name.node == "__typename" {
            resolved.insert(key, Value::String(object.introspection_type_name().into_owned()));
            continue;
        }
        match object.resolve_field(&ctx.with_field(field)).await {
            Ok(value) => {
                resolved.insert(key, value.unwrap_or_default());
            }
            Err(error) => ctx.add_error(error),
        }
    }
    // as the library has it: what failed is put in later
    Ok(if resolved.is_empty() { Value::Null } else { Value::Object(resolved) })
}

/// Whether a selection has fields alone, each under a key of its own: fragments, directives and what is selected twice are
/// the library's.
fn is_plain(ctx: &ContextSelectionSet<'_>) -> bool {
    fn key(selection: &Positioned<Selection>) -> Option<&Name> {
        match &selection.node {
            Selection::Field(field) if field.node.directives.is_empty() => Some(&field.node.response_key().node),
            _ => None,
        }
    }
    let items = &ctx.item.node.items;
    items.iter().enumerate().all(|(place, selection)| match key(selection) {
        Some(own) => items[..place].iter().all(|before| key(before) != Some(own)),
        None => false,
    })
}
