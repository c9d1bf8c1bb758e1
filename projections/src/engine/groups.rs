//! What rows add up to. A row's facets say what it contributes, before a batch and after it; groups change by the
//! difference, all rows of a batch at once.

use std::collections::{BTreeMap, BTreeSet, btree_map};

use read_side::template::{Combine, GroupsTemplate, Template};

use super::batch::{json, push_field};
use crate::projection::{Facets, GroupKey, Projection};

/// The most that one row adds to one sum, either way: a million of them stay below 2^63, where the databases part (one
/// refuses, the other goes on in floating point). As an amount in minor units it is 88 thousand million.
pub(crate) const SUMMAND_MAX: i64 = 1 << 43;

/// What one row contributes, by group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Contribution(BTreeMap<GroupKey, Vec<i64>>);

impl Contribution {
    pub fn of(projection: &Projection, facets: &Facets) -> Self {
        let (Some(contribute), Some(groups)) = (projection.contribute, &projection.template.groups) else {
            return Self::default();
        };
        let mut by_group = BTreeMap::<GroupKey, Vec<i64>>::new();
        for share in contribute(facets) {
            assert_eq!(share.group.len(), groups.key.len(), "a value for each column of a group's key");
            assert_eq!(share.amounts.len(), groups.amounts.len(), "a value for each amount of a group");
            match by_group.entry(share.group) {
                btree_map::Entry::Vacant(vacant) => {
                    vacant.insert(share.amounts);
                }
                btree_map::Entry::Occupied(mut held) => combine(groups, held.get_mut(), &share.amounts),
            }
        }
        for (amount, template) in by_group.values_mut().flat_map(|amounts| amounts.iter_mut().zip(groups.amounts)) {
            if template.combine == Combine::Sum {
                *amount = (*amount).clamp(-SUMMAND_MAX, SUMMAND_MAX);
            }
        }
        Self(by_group)
    }
}

/// What a batch changes in the groups; in the order of their keys, so that two writers lock them in one order.
#[derive(Debug, Default)]
pub(crate) struct GroupChanges(BTreeMap<GroupKey, Change>);

/// What is to be done to one group.
#[derive(Debug, Default, PartialEq, Eq)]
struct Change {
    /// How many more rows contribute to it.
    contributors: i64,
    /// What is added to each sum; the latest that a row that has changed contributes.
    amounts: Vec<i64>,
    /// A row contributes to it no more.
    left: bool,
}

impl GroupChanges {
    /// One row contributed `before`, and contributes `after`. An error is a fault of the projection.
    pub fn add(&mut self, groups: &GroupsTemplate, before: &Contribution, after: &Contribution) -> Result<(), String> {
        let keys: BTreeSet<&GroupKey> = before.0.keys().chain(after.0.keys()).collect();
        for key in keys {
            let (before, after) = (before.0.get(key), after.0.get(key));
            if before == after {
                continue;
            }
            let mut amounts = Vec::with_capacity(groups.amounts.len());
            for (place, amount) in groups.amounts.iter().enumerate() {
                let (before, after) = (before.map(|amounts| amounts[place]), after.map(|amounts| amounts[place]));
                amounts.push(match amount.combine {
                    Combine::Sum => after.unwrap_or(0) - before.unwrap_or(0),
                    Combine::Latest => {
                        after.filter(|after| before.is_none_or(|before| before <= *after)).ok_or_else(|| {
                            format!("a row takes back the {} that it contributed: {before:?}", amount.column.name)
                        })?
                    }
                });
            }
            let joined = i64::from(after.is_some()) - i64::from(before.is_some());
            match self.0.entry(key.clone()) {
                btree_map::Entry::Vacant(vacant) => {
                    vacant.insert(Change { contributors: joined, amounts, left: joined < 0 });
                }
                btree_map::Entry::Occupied(mut held) => {
                    let held = held.get_mut();
                    held.contributors += joined;
                    held.left |= joined < 0;
                    combine(groups, &mut held.amounts, &amounts);
                }
            }
        }
        Ok(())
    }

    /// The keys of the groups that change, each as a JSON array.
    pub fn keys(&self) -> Vec<String> {
        self.0.keys().map(json).collect()
    }

    /// The groups that change, as JSON objects by column.
    pub fn rows(&self, groups: &GroupsTemplate) -> Vec<String> {
        let row = |(key, change): (&GroupKey, &Change)| {
            let mut row = key_fields(groups, key);
            push_field(&mut row, Template::CONTRIBUTORS, &json(&change.contributors));
            for (template, amount) in groups.amounts.iter().zip(&change.amounts) {
                push_field(&mut row, template.column.name, &json(amount));
            }
            row.push('}');
            row
        };
        self.0.iter().map(row).collect()
    }

    /// The keys of the groups that a row has left, as JSON objects: nobody may be in them any more.
    pub fn left(&self, groups: &GroupsTemplate) -> Vec<String> {
        let left = self.0.iter().filter(|(_, change)| change.left);
        left.map(|(key, _)| key_fields(groups, key) + "}").collect()
    }
}

fn combine(groups: &GroupsTemplate, held: &mut [i64], more: &[i64]) {
    for ((held, more), amount) in held.iter_mut().zip(more).zip(groups.amounts) {
        *held = match amount.combine {
            Combine::Sum => held.saturating_add(*more),
            Combine::Latest => *more.max(held),
        };
    }
}

/// An object of the key's columns that more can be added to.
fn key_fields(groups: &GroupsTemplate, key: &GroupKey) -> String {
    let mut row = String::from("{");
    for (column, value) in groups.key.iter().zip(key) {
        push_field(&mut row, column, &json(value));
    }
    row
}

#[cfg(test)]
mod tests {
    use read_side::template::{latest, sum};

    use super::*;

    const GROUPS: GroupsTemplate =
        GroupsTemplate { key: &["of"], amounts: &[sum("pieces"), latest("at_us")], indexes: &[] };
    const SUMS: GroupsTemplate = GroupsTemplate { key: &["of"], amounts: &[sum("pieces")], indexes: &[] };

    fn contribution(groups: &[(&str, &[i64])]) -> Contribution {
        Contribution(groups.iter().map(|(key, amounts)| (vec![(*key).to_owned()], amounts.to_vec())).collect())
    }

    fn changed(groups: &GroupsTemplate, rows: &[(Contribution, Contribution)]) -> Result<GroupChanges, String> {
        let mut changes = GroupChanges::default();
        rows.iter().try_for_each(|(before, after)| changes.add(groups, before, after))?;
        Ok(changes)
    }

    #[test]
    fn rows_of_one_batch_change_a_group_once() {
        let rows = [
            (contribution(&[]), contribution(&[("tea", &[2, 10])])),
            (contribution(&[("tea", &[5, 30])]), contribution(&[("tea", &[1, 30])])),
            (contribution(&[("tea", &[7, 20])]), contribution(&[("tea", &[7, 20])])),
        ];
        let changes = changed(&GROUPS, &rows).unwrap();
        assert_eq!(changes.rows(&GROUPS), [r#"{"of":"tea","contributors":1,"pieces":-2,"at_us":30}"#]);
        assert_eq!(changes.left(&GROUPS), [""; 0]);
    }

    #[test]
    fn a_group_that_a_row_has_left_may_be_empty() {
        let rows = [(contribution(&[("tea", &[2])]), contribution(&[("milk", &[2])]))];
        let changes = changed(&SUMS, &rows).unwrap();
        assert_eq!(
            changes.rows(&SUMS),
            [r#"{"of":"milk","contributors":1,"pieces":2}"#, r#"{"of":"tea","contributors":-1,"pieces":-2}"#]
        );
        assert_eq!(changes.left(&SUMS), [r#"{"of":"tea"}"#]);
    }

    #[test]
    fn a_latest_that_falls_or_is_taken_back_is_a_fault() {
        let before = contribution(&[("tea", &[1, 20])]);
        for after in [contribution(&[("tea", &[1, 19])]), contribution(&[])] {
            let fault = changed(&GROUPS, &[(before.clone(), after)]).unwrap_err();
            assert!(fault.contains("at_us"), "{fault}");
        }
    }
}
