//! What a new schema takes away from the clients of an old one.

use std::collections::BTreeSet;

use async_graphql::{
    Name, Positioned,
    parser::{
        parse_schema,
        types::{
            BaseType, DirectiveDefinition, FieldDefinition, InputValueDefinition, ServiceDocument, Type,
            TypeDefinition, TypeKind, TypeSystemDefinition,
        },
    },
};

/// A change that breaks somebody: the coordinate of what changed, as the GraphQL specification writes it, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breaking {
    pub coordinate: String,
    pub how: String,
}

/// Everything in `new` that a document or a client which was written for `old` may fail of. Additions break nobody, but
/// for what has to be given where it did not.
pub fn breaking_changes(old: &str, new: &str) -> Vec<Breaking> {
    let read = |text: &str| parse_schema(text).unwrap_or_else(|error| panic!("not a schema: {error}"));
    let (old, new) = (read(old), read(new));
    let mut found = Found::default();
    found.roots(&old, &new);
    for was in types(&old) {
        let name = &was.name.node;
        match types(&new).find(|is| is.name.node == *name) {
            Some(is) => found.of_type(was, is),
            None => found.breaks(name.to_string(), "is gone"),
        }
    }
    for was in directives(&old) {
        let name = format!("@{}", was.name.node);
        match directives(&new).find(|is| is.name.node == was.name.node) {
            Some(is) => {
                found.inputs(&|argument| format!("{name}({argument}:)"), &was.arguments, &is.arguments);
                for place in &was.locations {
                    if !is.locations.iter().any(|each| each.node == place.node) {
                        found.breaks(name.clone(), format!("cannot be at {:?} any more", place.node));
                    }
                }
            }
            None => found.breaks(name, "is gone"),
        }
    }
    found.0
}

#[derive(Default)]
struct Found(Vec<Breaking>);

impl Found {
    fn breaks(&mut self, coordinate: impl Into<String>, how: impl Into<String>) {
        self.0.push(Breaking { coordinate: coordinate.into(), how: how.into() });
    }

    fn roots(&mut self, old: &ServiceDocument, new: &ServiceDocument) {
        for (was, is) in roots(old).into_iter().zip(roots(new)) {
            if let (Some(was), false) = (&was, was == is) {
                self.breaks(was.clone(), "is no root any more");
            }
        }
    }

    fn of_type(&mut self, was: &TypeDefinition, is: &TypeDefinition) {
        let name = was.name.node.to_string();
        match (&was.kind, &is.kind) {
            (TypeKind::Scalar, TypeKind::Scalar) => {}
            (TypeKind::Object(was), TypeKind::Object(is)) => {
                self.gone(&name, "is not of", &was.implements, &is.implements);
                self.fields(&name, &was.fields, &is.fields);
            }
            (TypeKind::Interface(was), TypeKind::Interface(is)) => {
                self.gone(&name, "is not of", &was.implements, &is.implements);
                self.fields(&name, &was.fields, &is.fields);
            }
            (TypeKind::Union(was), TypeKind::Union(is)) => {
                self.gone(&name, "cannot be", &was.members, &is.members);
            }
            (TypeKind::Enum(was), TypeKind::Enum(is)) => {
                let values: BTreeSet<&Name> = is.values.iter().map(|value| &value.node.value.node).collect();
                for value in &was.values {
                    if !values.contains(&value.node.value.node) {
                        self.breaks(format!("{name}.{}", value.node.value.node), "is gone");
                    }
                }
            }
            (TypeKind::InputObject(was), TypeKind::InputObject(is)) => {
                self.inputs(&|field| format!("{name}.{field}"), &was.fields, &is.fields);
            }
            _ => self.breaks(name, "is of another kind"),
        }
    }

    fn gone(&mut self, of: &str, how: &str, was: &[Positioned<Name>], is: &[Positioned<Name>]) {
        for name in was.iter().filter(|name| !is.iter().any(|each| each.node == name.node)) {
            self.breaks(of, format!("{how} {} any more", name.node));
        }
    }

    fn fields(&mut self, of: &str, was: &[Positioned<FieldDefinition>], is: &[Positioned<FieldDefinition>]) {
        for was in was.iter().map(|field| &field.node) {
            let coordinate = format!("{of}.{}", was.name.node);
            let Some(is) = is.iter().map(|field| &field.node).find(|is| is.name.node == was.name.node) else {
                self.breaks(coordinate, "is gone");
                continue;
            };
            let (before, now) = (&was.ty.node, &is.ty.node);
            if !still_answers(before, now) {
                self.breaks(&coordinate, format!("is {now} instead of {before}"));
            }
            self.inputs(&|argument| format!("{coordinate}({argument}:)"), &was.arguments, &is.arguments);
        }
    }

    /// Arguments, or the fields of an input.
    fn inputs(
        &mut self,
        coordinate: &dyn Fn(&Name) -> String,
        was: &[Positioned<InputValueDefinition>],
        is: &[Positioned<InputValueDefinition>],
    ) {
        for was in was.iter().map(|input| &input.node) {
            let coordinate = coordinate(&was.name.node);
            let Some(is) = is.iter().map(|input| &input.node).find(|is| is.name.node == was.name.node) else {
                self.breaks(coordinate, "is gone");
                continue;
            };
            let (before, now) = (&was.ty.node, &is.ty.node);
            if !still_takes(before, now) {
                self.breaks(&coordinate, format!("takes {now} instead of {before}"));
            } else if must_be_given(is) && !must_be_given(was) {
                self.breaks(&coordinate, "must be given, and had a default");
            } else if let (Some(before), Some(now)) = (&was.default_value, &is.default_value)
                && before.node != now.node
            {
                self.breaks(&coordinate, format!("is {} instead of {} where it is not given", now.node, before.node));
            }
        }
        for is in is.iter().map(|input| &input.node) {
            let is_new = !was.iter().any(|was| was.node.name.node == is.name.node);
            if is_new && must_be_given(is) {
                self.breaks(coordinate(&is.name.node), "is new and must be given");
            }
        }
    }
}

fn must_be_given(input: &InputValueDefinition) -> bool {
    !input.ty.node.nullable && input.default_value.is_none()
}

/// Whoever reads the old type can read the new one: null where there was null, at most.
fn still_answers(was: &Type, is: &Type) -> bool {
    (was.nullable || !is.nullable)
        && match (&was.base, &is.base) {
            (BaseType::Named(was), BaseType::Named(is)) => was == is,
            (BaseType::List(was), BaseType::List(is)) => still_answers(was, is),
            _ => false,
        }
}

/// Whatever could be given for the old type can be given for the new one.
fn still_takes(was: &Type, is: &Type) -> bool {
    (is.nullable || !was.nullable)
        && match (&was.base, &is.base) {
            (BaseType::Named(was), BaseType::Named(is)) => was == is,
            (BaseType::List(was), BaseType::List(is)) => still_takes(was, is),
            _ => false,
        }
}

fn types(document: &ServiceDocument) -> impl Iterator<Item = &TypeDefinition> {
    document.definitions.iter().filter_map(|definition| match definition {
        TypeSystemDefinition::Type(definition) => Some(&definition.node),
        _ => None,
    })
}

fn directives(document: &ServiceDocument) -> impl Iterator<Item = &DirectiveDefinition> {
    document.definitions.iter().filter_map(|definition| match definition {
        TypeSystemDefinition::Directive(definition) => Some(&definition.node),
        _ => None,
    })
}

/// Query, mutation, subscription.
fn roots(document: &ServiceDocument) -> [Option<String>; 3] {
    let schema = document.definitions.iter().find_map(|definition| match definition {
        TypeSystemDefinition::Schema(definition) => Some(&definition.node),
        _ => None,
    });
    let name = |name: &Option<Positioned<Name>>| name.as_ref().map(|name| name.node.to_string());
    schema.map_or_else(Default::default, |schema| [&schema.query, &schema.mutation, &schema.subscription].map(name))
}
