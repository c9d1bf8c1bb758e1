//! What a generation holds, line by line, and where two of them part.

use std::collections::BTreeMap;

use read_side::template::Template;
use serde_json::Value;

use super::given::Rows;
use crate::engine::{
    statements::{Part, Table},
    store::GenerationStore,
    table_hash::each_line,
};

/// Every line of every table, in key order; what says how far a generation is is left out.
#[derive(Debug, Clone, Default)]
pub(super) struct Tables(Vec<(Table, Vec<Value>)>);

impl Tables {
    pub async fn of(store: &GenerationStore) -> Result<Self, String> {
        let tables = store.statements().tables.iter();
        let mut tables: Vec<(Table, Vec<Value>)> = tables.map(|table| (table.clone(), Vec::new())).collect();
        let read = each_line(store, |table, line| tables[table].1.push(line)).await;
        read.map_err(|error| error.to_string())?;
        Ok(Self(tables))
    }

    /// The first line in which two generations part; `None` when they hold the same.
    pub fn difference(&self, other: &Self) -> Option<String> {
        for ((table, one), (_, other)) in self.0.iter().zip(&other.0) {
            for line in 0..one.len().max(other.len()) {
                let (one, other) = (one.get(line), other.get(line));
                if one != other {
                    let shown = |this, that| shown(&table.key, this, that);
                    return Some(format!("  once {}\n  then {}", shown(one, other), shown(other, one)));
                }
            }
        }
        None
    }

    /// The rows that are served, by key, with the columns that queries read.
    pub fn rows(self, template: &Template) -> Rows {
        let (columns, key) = (template.columns.iter().map(|column| column.name).collect::<Vec<_>>(), template.key);
        let lines = self.lines(Part::Rows).into_iter().filter(|line| line[Template::SERVED] == true);
        let row = |line: Value| {
            let shown = columns.iter().map(|column| ((*column).to_owned(), line[*column].clone()));
            Some((line[key].as_str()?.to_owned(), Value::Object(shown.collect())))
        };
        lines.filter_map(row).collect::<BTreeMap<_, _>>()
    }

    /// Every line of one table, in key order.
    pub fn lines(self, part: Part) -> Vec<Value> {
        self.0.into_iter().find(|(table, _)| table.part == part).map(|(_, lines)| lines).unwrap_or_default()
    }
}

/// A line, less the fields that are the same in the other one; its key stays.
fn shown(key: &[&str], line: Option<&Value>, other: Option<&Value>) -> String {
    let (Some(Value::Object(line)), Some(Value::Object(other))) = (line, other) else {
        return line.map_or_else(|| "nothing".to_owned(), Value::to_string);
    };
    let differs = |name: &String, value: &Value| key.contains(&name.as_str()) || other.get(name) != Some(value);
    let fields = line.iter().filter(|(name, value)| differs(name, value));
    Value::Object(fields.map(|(name, value)| (name.clone(), value.clone())).collect()).to_string()
}
