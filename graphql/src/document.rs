//! What a document may cost, found out before anything runs.
//!
//! The GraphQL library checks depth, complexity and recursion, but only after a parser that recurses once a bracket,
//! and with walks that spread every fragment anew. So the text is scanned first ([`scan`]: tokens and nesting), then
//! parsed, then measured with each fragment visited once ([`check`]).

use std::collections::HashMap;

use async_graphql::{
    Name, Pos, Positioned, ServerError, Value, Variables,
    parser::{
        parse_query,
        types::{DocumentOperations, ExecutableDocument, Field, OperationDefinition, Selection, SelectionSet},
    },
};

use crate::{
    errors::{code, coded, limit_exceeded, over_limit, with_asked},
    options::{Limits, PAGE_MAX},
};

/// Scans, then parses: time and stack are bounded by the scan. The document comes with how many tokens it has.
pub(crate) fn parse(query: &str, limits: &Limits) -> Result<(ExecutableDocument, usize), ServerError> {
    let tokens = scan(query, limits)?;
    let document = parse_query(query).map_err(|error| {
        let mut refused = coded(code::SYNTAX_ERROR, format!("the document is not GraphQL: {error}"));
        refused.locations.extend(error.positions());
        refused
    })?;
    Ok((document, tokens))
}

/// The operation that this request means.
pub(crate) fn operation<'a>(
    document: &'a ExecutableDocument,
    name: Option<&str>,
) -> Result<&'a Positioned<OperationDefinition>, ServerError> {
    match (&document.operations, name) {
        (DocumentOperations::Single(operation), None) => Ok(operation),
        (DocumentOperations::Multiple(named), Some(name)) if named.contains_key(name) => Ok(&named[name]),
        (DocumentOperations::Multiple(named), None) if named.len() == 1 => {
            Ok(named.values().next().expect("a map of one has a first"))
        }
        (DocumentOperations::Multiple(_), None) => Err(coded(
            code::VALIDATION_FAILED,
            "the document has several operations: operationName must say which one is meant",
        )),
        (_, Some(name)) => Err(coded(code::VALIDATION_FAILED, format!("the document has no operation named {name:?}"))),
    }
}

/// The variables of a request with the defaults of those that it leaves out. The library knows defaults where a value is an
/// argument of a field, but not where it is that of `@skip` or `@include` (7.2.1).
pub(crate) fn with_defaults(operation: &OperationDefinition, mut variables: Variables) -> Variables {
    for definition in &operation.variable_definitions {
        let (name, default) = (&definition.node.name.node, &definition.node.default_value);
        if let Some(default) = default
            && !variables.contains_key(name)
        {
            variables.insert(name.clone(), default.node.clone());
        }
    }
    variables
}

/// Measures a document: what depends on nothing else, and is found out once.
pub(crate) fn measure(document: &ExecutableDocument, limits: &Limits) -> Result<(), ServerError> {
    let mut walk = Walk { document, fragments: HashMap::new() };
    let mut cost = Cost::default();
    // The library walks all operations, not only the one that runs: so do the bounds.
    for (_, each) in document.operations.iter() {
        cost.add(walk.selections(&each.node.selection_set)?);
        cost.directives = cost.directives.saturating_add(each.node.directives.len());
    }
    cost.within(limits)?;
    document.fragments.keys().try_for_each(|name| walk.fragment(name).map(|_| ()))
}

/// Looks at the variables of the operation that will run, and at the page sizes that they say.
pub(crate) fn check_variables(
    document: &ExecutableDocument,
    operation: &Positioned<OperationDefinition>,
    variables: &Variables,
) -> Result<(), ServerError> {
    required_variables(&operation.node, variables)?;
    let sets = std::iter::once(&operation.node.selection_set)
        .chain(document.fragments.values().map(|fragment| &fragment.node.selection_set));
    sets.into_iter().try_for_each(|set| page_sizes(set, &operation.node, variables))
}

/// Counts tokens and open brackets without building anything, to the end: the body bounds it.
fn scan(query: &str, limits: &Limits) -> Result<usize, ServerError> {
    let bytes = query.as_bytes();
    let (mut at, mut tokens, mut nesting, mut deepest) = (0, 0_usize, 0_usize, 0_usize);
    while let Some(&byte) = bytes.get(at) {
        let skip = match byte {
            b' ' | b'\t' | b'\r' | b'\n' | b',' => {
                at += 1;
                continue;
            }
            b'#' => {
                at += length_until(&bytes[at..], |byte| matches!(byte, b'\n' | b'\r'));
                continue;
            }
            b'"' => string_length(&bytes[at..]),
            b'.' => length_until(&bytes[at..], |byte| byte != b'.'),
            b'_' | b'-' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => {
                1 + length_until(&bytes[at + 1..], |byte| !(byte == b'_' || byte.is_ascii_alphanumeric()))
            }
            b'{' | b'[' | b'(' => {
                nesting += 1;
                1
            }
            b'}' | b']' | b')' => {
                nesting = nesting.saturating_sub(1);
                1
            }
            _ => 1,
        };
        at += skip;
        tokens += 1;
        deepest = deepest.max(nesting);
    }
    for (measured, limit, max, what) in [
        (tokens, "document_tokens", limits.document_tokens_max, "the document is too long"),
        (deepest, "document_nesting", limits.document_nesting_max, "the document has too many open brackets"),
    ] {
        if measured > max {
            return Err(over_limit(limit, max, measured, what, None));
        }
    }
    Ok(tokens)
}

fn length_until(bytes: &[u8], ends: impl Fn(u8) -> bool) -> usize {
    bytes.iter().position(|byte| ends(*byte)).unwrap_or(bytes.len())
}

/// The length of the string or block string that starts here; the parser complains about one that does not end.
fn string_length(bytes: &[u8]) -> usize {
    let block = bytes.starts_with(b"\"\"\"");
    let mut at = if block { 3 } else { 1 };
    while let Some(&byte) = bytes.get(at) {
        let rest = &bytes[at..];
        match byte {
            b'\\' if block => at += if rest.starts_with(b"\\\"\"\"") { 4 } else { 1 },
            b'\\' => at += 2,
            b'"' if block && rest.starts_with(b"\"\"\"") => return at + 3,
            b'"' | b'\n' | b'\r' if !block => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// What a selection set comes to with its fragments spread.
#[derive(Debug, Clone, Copy, Default)]
struct Cost {
    selections: usize,
    /// Fields of the set itself, not of the sets below.
    fields_here: usize,
    aliases: usize,
    directives: usize,
    depth: usize,
}

impl Cost {
    fn add(&mut self, other: Self) {
        self.selections = self.selections.saturating_add(other.selections);
        self.fields_here = self.fields_here.saturating_add(other.fields_here);
        self.aliases = self.aliases.saturating_add(other.aliases);
        self.directives = self.directives.saturating_add(other.directives);
        self.depth = self.depth.max(other.depth);
    }

    fn within(&self, limits: &Limits) -> Result<(), ServerError> {
        for (measured, limit, max, what) in [
            (self.selections, "selections", limits.selections_max, "the document selects too much"),
            (self.depth, "depth", limits.depth_max, "the document is nested too deep"),
            (self.aliases, "aliases", limits.aliases_max, "the document has too many aliases"),
            (self.fields_here, "root_fields", limits.root_fields_max, "the document has too many root fields"),
            (self.directives, "directives", limits.directives_max, "the document has too many directives"),
        ] {
            if measured > max {
                return Err(over_limit(limit, max, measured, what, None));
            }
        }
        Ok(())
    }
}

struct Walk<'a> {
    document: &'a ExecutableDocument,
    /// `None` while a fragment is being measured: meeting it again is a cycle.
    fragments: HashMap<&'a Name, Option<Cost>>,
}

impl<'a> Walk<'a> {
    // Recursion is bounded: brackets by `document_nesting`, chains of fragments by `document_tokens`.
    fn selections(&mut self, set: &'a Positioned<SelectionSet>) -> Result<Cost, ServerError> {
        let mut sum = Cost::default();
        for selection in &set.node.items {
            let below = match &selection.node {
                Selection::Field(field) => {
                    let below = self.selections(&field.node.selection_set)?;
                    Cost {
                        fields_here: 1,
                        aliases: below.aliases.saturating_add(usize::from(field.node.alias.is_some())),
                        depth: below.depth.saturating_add(1),
                        ..below
                    }
                }
                Selection::InlineFragment(fragment) => self.selections(&fragment.node.selection_set)?,
                Selection::FragmentSpread(spread) => self.fragment(&spread.node.fragment_name.node)?,
            };
            sum.add(below);
            sum.selections = sum.selections.saturating_add(1);
            sum.directives = sum.directives.saturating_add(selection.node.directives().len());
        }
        Ok(sum)
    }

    fn fragment(&mut self, name: &Name) -> Result<Cost, ServerError> {
        // An unknown fragment costs nothing; validation refuses it.
        let Some((name, fragment)) = self.document.fragments.get_key_value(name) else { return Ok(Cost::default()) };
        match self.fragments.get(name) {
            Some(Some(cost)) => return Ok(*cost),
            Some(None) => {
                let mut error = coded(code::VALIDATION_FAILED, format!("the fragment {name:?} spreads itself"));
                error.locations.push(fragment.pos);
                return Err(error);
            }
            None => {}
        }
        self.fragments.insert(name, None);
        let cost = self.selections(&fragment.node.selection_set)?;
        self.fragments.insert(name, Some(cost));
        Ok(cost)
    }
}

/// A required variable without a value is a request error, not an error of the field that uses it.
fn required_variables(operation: &OperationDefinition, variables: &Variables) -> Result<(), ServerError> {
    for definition in &operation.variable_definitions {
        let (name, required) = (&definition.node.name.node, !definition.node.var_type.node.nullable);
        let given = !matches!(variables.get(name), None | Some(Value::Null));
        if required && !given && definition.node.default_value.is_none() {
            let var_type = &definition.node.var_type.node;
            let message = format!("the variable ${name} of the required type {var_type} has no value");
            let mut error = coded(code::VALIDATION_FAILED, message);
            error.locations.push(definition.pos);
            return Err(error);
        }
    }
    Ok(())
}

/// Every `first` and `last` within the document is at most [`PAGE_MAX`].
fn page_sizes(
    set: &Positioned<SelectionSet>,
    operation: &OperationDefinition,
    variables: &Variables,
) -> Result<(), ServerError> {
    for selection in &set.node.items {
        match &selection.node {
            Selection::Field(field) => {
                for argument in PAGE_ARGUMENTS {
                    page_size(field, argument, operation, variables)?;
                }
                page_sizes(&field.node.selection_set, operation, variables)?;
            }
            Selection::InlineFragment(fragment) => page_sizes(&fragment.node.selection_set, operation, variables)?,
            Selection::FragmentSpread(_) => {}
        }
    }
    Ok(())
}

/// The arguments that say how long a page is.
const PAGE_ARGUMENTS: [&str; 2] = ["first", "last"];

fn page_size(
    field: &Positioned<Field>,
    name: &'static str,
    operation: &OperationDefinition,
    variables: &Variables,
) -> Result<(), ServerError> {
    let Some(argument) = field.node.get_argument(name) else { return Ok(()) };
    let value_of = |name: Name| {
        let definition = operation.variable_definitions.iter().find(|each| each.node.name.node == name);
        let default = || definition?.node.default_value.as_ref().map(|value| &value.node);
        variables.get(&name).or_else(default).cloned().ok_or(())
    };
    let asked = match argument.node.clone().into_const_with(value_of) {
        Ok(Value::Number(number)) => number.as_i64(),
        // what is no number is refused by the validation
        _ => None,
    };
    match asked {
        Some(asked) if asked > PAGE_MAX as i64 => {
            Err(with_asked(page_too_large(name, Some(argument.pos)), usize::try_from(asked).unwrap_or(usize::MAX)))
        }
        Some(asked) if asked < 1 => {
            let mut error = coded(code::VALIDATION_FAILED, format!("{name} must be at least 1"));
            error.locations.push(argument.pos);
            Err(error)
        }
        _ => Ok(()),
    }
}

/// A page of more than [`PAGE_MAX`] rows was asked for.
pub(crate) fn page_too_large(argument: &'static str, at: Option<Pos>) -> ServerError {
    limit_exceeded(argument, PAGE_MAX, "the page is too large", at)
}
