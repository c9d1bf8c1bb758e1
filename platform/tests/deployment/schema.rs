//! JSON Schema (2020-12) as far as the Compose Specification uses it. A keyword or pattern that this does not know fails
//! the test, so nothing in the schema is passed over.

use std::collections::HashSet;

use serde_json::{Map, Value};

/// Keywords that describe and do not constrain.
const ANNOTATIONS: [&str; 8] = ["$schema", "$id", "$defs", "title", "description", "default", "deprecated", "format"];

/// Checks `value` against `schema`; the error names the place.
pub fn check(schema: &Value, value: &Value) -> Result<(), String> {
    node(schema, schema, value, "").map(drop)
}

/// Answers which properties of an object some part of the schema has spoken about (for `unevaluatedProperties`).
fn node(root: &Value, schema: &Value, value: &Value, at: &str) -> Result<HashSet<String>, String> {
    let schema = match schema {
        Value::Bool(true) => return Ok(keys(value)),
        Value::Bool(false) => return Err(format!("{at}: not allowed")),
        schema => schema.as_object().ok_or_else(|| format!("{at}: a schema is an object"))?,
    };
    let mut spoken_of = HashSet::new();
    for (keyword, rule) in schema {
        match keyword.as_str() {
            "$ref" => {
                let pointer = rule.as_str().and_then(|text| text.strip_prefix('#')).ok_or("a foreign $ref")?;
                let target = root.pointer(pointer).ok_or_else(|| format!("{at}: {pointer} leads nowhere"))?;
                spoken_of.extend(node(root, target, value, at)?);
            }
            "type" => {
                let types = rule.as_array().cloned().unwrap_or_else(|| vec![rule.clone()]);
                ensure(types.iter().any(|name| is_a(value, name)), || format!("{at}: is not of type {rule}"))?;
            }
            "enum" => ensure(list(rule).contains(value), || format!("{at}: {value} is none of {rule}"))?,
            "required" => {
                let missing = list(rule).iter().filter_map(Value::as_str).find(|name| value.get(name).is_none());
                ensure(!value.is_object() || missing.is_none(), || format!("{at}: {missing:?} is missing"))?;
            }
            "minimum" | "maximum" => {
                let bounds = value.as_f64().zip(rule.as_f64());
                let kept = bounds
                    .is_none_or(|(value, bound)| if keyword == "minimum" { value >= bound } else { value <= bound });
                ensure(kept, || format!("{at}: {value} is beyond the {keyword} {rule}"))?;
            }
            "uniqueItems" => {
                let texts: Vec<String> = list(value).iter().map(Value::to_string).collect();
                let distinct: HashSet<&String> = texts.iter().collect();
                ensure(distinct.len() == texts.len(), || format!("{at}: an item stands twice"))?;
            }
            "pattern" => {
                let fits = value.as_str().is_none_or(|text| fits(rule.as_str().unwrap_or_default(), text));
                ensure(fits, || format!("{at}: {value} does not fit {rule}"))?;
            }
            "items" => {
                for (n, item) in list(value).iter().enumerate() {
                    node(root, rule, item, &format!("{at}/{n}"))?;
                }
            }
            "allOf" => {
                for part in list(rule) {
                    spoken_of.extend(node(root, part, value, at)?);
                }
            }
            "anyOf" | "oneOf" => {
                let parts: Vec<_> = list(rule).iter().map(|part| node(root, part, value, at)).collect();
                let accepted = parts.iter().filter(|part| part.is_ok()).count();
                let reasons: Vec<_> = parts.iter().filter_map(|part| part.as_ref().err()).collect();
                let enough = accepted == 1 || (accepted > 1 && keyword == "anyOf");
                ensure(enough, || format!("{at}: {accepted} of the {keyword} fit: {reasons:?}"))?;
                spoken_of.extend(parts.into_iter().flatten().flatten());
            }
            "properties" | "patternProperties" | "additionalProperties" | "unevaluatedProperties" => {}
            annotation if ANNOTATIONS.contains(&annotation) => {}
            unknown => return Err(format!("{at}: the keyword {unknown} is not known here")),
        }
    }
    if let Some(object) = value.as_object() {
        properties(root, schema, object, at, &mut spoken_of)?;
    }
    Ok(spoken_of)
}

fn properties(
    root: &Value,
    schema: &Map<String, Value>,
    object: &Map<String, Value>,
    at: &str,
    spoken_of: &mut HashSet<String>,
) -> Result<(), String> {
    for (name, value) in object {
        let at = format!("{at}/{name}");
        let named = schema.get("properties").and_then(|rules| rules.get(name));
        let by_pattern = schema.get("patternProperties").and_then(Value::as_object).into_iter().flatten();
        let mut rules: Vec<&Value> =
            by_pattern.filter(|(pattern, _)| fits(pattern, name)).map(|(_, rule)| rule).collect();
        rules.extend(named);
        if rules.is_empty() {
            rules.extend(schema.get("additionalProperties"));
        }
        if rules.is_empty() && !spoken_of.contains(name) {
            rules.extend(schema.get("unevaluatedProperties"));
        }
        for rule in &rules {
            node(root, rule, value, &at)?;
            spoken_of.insert(name.clone());
        }
    }
    Ok(())
}

/// The patterns of the specification, by hand: they are few.
fn fits(pattern: &str, text: &str) -> bool {
    let name = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    match pattern {
        "^x-" => text.starts_with("x-"),
        ".+" | "^.+$" => !text.is_empty(),
        "^[a-z]+$" => !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase()),
        "^[a-zA-Z0-9._-]+$" => !text.is_empty() && text.chars().all(name),
        unknown => panic!("the pattern {unknown} is not known here"),
    }
}

fn is_a(value: &Value, name: &Value) -> bool {
    match name.as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("number") => value.is_number(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("boolean") => value.is_boolean(),
        Some("null") => value.is_null(),
        unknown => panic!("the type {unknown:?} is not known here"),
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn keys(value: &Value) -> HashSet<String> {
    value.as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect()
}

fn ensure(holds: bool, reason: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(reason()) }
}
