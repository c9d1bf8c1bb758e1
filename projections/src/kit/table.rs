//! What a generation holds, line by line, and where two of them part.

use serde_json::{Map, Value};

use super::given::Rows;
use crate::{
    engine::{store::GenerationStore, table_hash::each_line},
    projection::Projection,
};

/// Every line of every table, in key order; what says how far a generation is is left out.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Table(Vec<Vec<Value>>);

impl Table {
    pub async fn of(store: &GenerationStore) -> Result<Self, String> {
        let mut tables: Vec<Vec<Value>> = Vec::new();
        let add = |table: usize, line: Value| {
            tables.resize(tables.len().max(table + 1), Vec::new());
            tables[table].push(line);
        };
        each_line(store, add).await.map_err(|error| error.to_string())?;
        while tables.last().is_some_and(Vec::is_empty) {
            tables.pop();
        }
        Ok(Self(tables))
    }

    /// The first line in which two tables part; `None` when they are the same.
    pub fn difference(&self, other: &Self) -> Option<String> {
        let none = Vec::new();
        for table in 0..self.0.len().max(other.0.len()) {
            let (one, other) = (self.0.get(table).unwrap_or(&none), other.0.get(table).unwrap_or(&none));
            for line in 0..one.len().max(other.len()) {
                let (one, other) = (one.get(line), other.get(line));
                if one != other {
                    return Some(format!("  once {}\n  then {}", shown(one, other), shown(other, one)));
                }
            }
        }
        None
    }

    /// The rows that are served, by key, with the columns that queries read.
    pub fn rows(self, projection: &Projection) -> Rows {
        let template = projection.template;
        let served = |line: &Map<String, Value>| {
            let served = line.get(read_side::template::Template::SERVED)?.as_bool()?;
            let key = line.get(template.key)?.as_str()?.to_owned();
            let columns = template
                .columns
                .iter()
                .map(|column| (column.name.to_owned(), line.get(column.name).cloned().unwrap_or_default()));
            served.then(|| (key, Value::Object(columns.collect())))
        };
        self.0.into_iter().next().unwrap_or_default().iter().filter_map(|line| served(line.as_object()?)).collect()
    }
}

/// A line, less the fields that are the same in the other one: the key stays, as it comes first in both.
fn shown(line: Option<&Value>, other: Option<&Value>) -> String {
    let (Some(Value::Object(line)), Some(Value::Object(other))) = (line, other) else {
        return line.map_or_else(|| "nothing".to_owned(), Value::to_string);
    };
    let is_key = |name: &str| name.ends_with("_id") || name.ends_with("key");
    let fields = line.iter().filter(|(name, value)| is_key(name) || other.get(*name) != Some(*value));
    Value::Object(fields.map(|(name, value)| (name.clone(), value.clone())).collect()).to_string()
}
