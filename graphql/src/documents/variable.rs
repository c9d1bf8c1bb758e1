//! A variable, and the values that it takes as they are.

use async_graphql::{
    Name, Value,
    parser::types::{BaseType, VariableDefinition},
};

/// A variable of an operation.
#[derive(Debug)]
pub(super) struct Variable {
    pub(super) name: Name,
    /// `None` for a type whose values only a check can tell.
    scalar: Option<Scalar>,
}

/// The scalars whose values are all that they look like.
#[derive(Debug, Clone, Copy)]
enum Scalar {
    Boolean,
    Id,
    Int,
    String,
}

impl Variable {
    pub(super) fn of(definition: &VariableDefinition) -> Self {
        let scalar = match &definition.var_type.node.base {
            BaseType::List(_) => None,
            BaseType::Named(name) => match name.as_str() {
                "Boolean" => Some(Scalar::Boolean),
                "ID" => Some(Scalar::Id),
                "Int" => Some(Scalar::Int),
                "String" => Some(Scalar::String),
                _ => None,
            },
        };
        Self { name: definition.name.node.clone(), scalar }
    }

    /// Whether a value plainly is one of this variable's type. Null is not: where it may stand depends on the document.
    pub(super) fn takes(&self, value: &Value) -> bool {
        match (self.scalar, value) {
            (Some(Scalar::Boolean), Value::Boolean(_)) => true,
            (Some(Scalar::Id | Scalar::String), Value::String(_)) => true,
            (Some(Scalar::Int), Value::Number(number)) => {
                number.as_i64().is_some_and(|number| i32::try_from(number).is_ok())
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use async_graphql::parser::parse_query;
    use serde_json::json;

    use super::*;

    fn takes(var_type: &str, value: serde_json::Value) -> bool {
        let document = parse_query(format!("query ($v: {var_type}) {{ x(v: $v) }}")).unwrap();
        let (_, operation) = document.operations.iter().next().unwrap();
        let variable = Variable::of(&operation.node.variable_definitions[0].node);
        variable.takes(&Value::from_json(value).unwrap())
    }

    #[test]
    fn plain_values_of_plain_types_need_no_check() {
        for (var_type, value) in [
            ("ID!", json!("0198")),
            ("String", json!("")),
            ("Int!", json!(i32::MAX)),
            ("Int", json!(i32::MIN)),
            ("Boolean!", json!(false)),
        ] {
            assert!(takes(var_type, value.clone()), "{var_type} {value}");
        }
    }

    #[test]
    fn everything_else_is_checked() {
        for (var_type, value) in [
            ("ID", json!(null)),
            ("ID", json!(7)),
            ("String", json!(7)),
            ("Int", json!(1.5)),
            ("Int", json!(i64::from(i32::MAX) + 1)),
            ("Int", json!("7")),
            ("Boolean", json!("true")),
            ("[ID!]", json!(["0198"])),
            ("OrderFilter", json!({})),
            ("DateTime", json!("2026-11-21T08:30:00Z")),
        ] {
            assert!(!takes(var_type, value.clone()), "{var_type} {value}");
        }
    }
}
