//! A change of the schema that breaks clients is in the changelog, or it is not made.

#[path = "support/schema_changes.rs"]
mod support;

use std::{fs, path::Path};

use support::{Breaking, breaking_changes};

/// The heading in the changelog's part on what is not released yet, below which each change is named by its coordinate.
const HEADING: &str = "### Changed incompatibly in GraphQL";

fn file(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Those of `changes` that the changelog does not name.
fn untold<'c>(changes: &'c [Breaking], changelog: &str) -> Vec<&'c Breaking> {
    let unreleased = changelog.split("\n## ").find(|part| part.starts_with("[Unreleased]")).unwrap_or_default();
    let told = unreleased.split(HEADING).nth(1).unwrap_or_default();
    let told = told.split("\n### ").next().unwrap_or_default();
    changes.iter().filter(|change| !told.contains(&format!("`{}`", change.coordinate))).collect()
}

/// At a release, `schema.graphql` is copied over `schema.released.graphql`.
#[test]
fn what_breaks_clients_of_the_released_schema_is_in_the_changelog() {
    let changes = breaking_changes(&file("schema.released.graphql"), &graphql::schema_sdl());
    let untold = untold(&changes, &file("../CHANGELOG.md"));
    assert!(
        untold.is_empty(),
        "these changes of the schema break clients: {untold:#?}\nKeep the old name beside the new one, deprecated. If it has to \
         be, name each coordinate in backticks below \"{HEADING}\" in the changelog's [Unreleased]."
    );
}

#[test]
fn a_change_is_told_by_its_coordinate_under_the_heading_and_nowhere_else() {
    let change = Breaking { coordinate: "Order.total".to_owned(), how: "is gone".to_owned() };
    let is_told = |changelog: &str| untold(std::slice::from_ref(&change), changelog).is_empty();
    assert!(is_told(&format!(
        "# Changelog\n\n## [Unreleased]\n\n{HEADING}\n\n- `Order.total` is gone.\n\n### Added\n"
    )));
    assert!(!is_told(&format!("# Changelog\n\n## [Unreleased]\n\n{HEADING}\n\n- `Order.totals`\n")));
    assert!(!is_told("# Changelog\n\n## [Unreleased]\n\n### Added\n\n- `Order.total`\n"));
    assert!(!is_told(&format!("# Changelog\n\n## [Unreleased]\n\n{HEADING}\n\n### Added\n\n- `Order.total`\n")));
    assert!(!is_told(&format!("# Changelog\n\n## [Unreleased]\n\n## [0.1.0]\n\n{HEADING}\n\n- `Order.total`\n")));
}

const OLD: &str = "
schema { query: Query }
type Query implements Node & Named { a(x: Int! = 1, y: [Int!]): [Thing!] id: ID! }
interface Node { id: ID! }
interface Named { id: ID! }
type Thing { n: Int b: Boolean! }
union Any = Thing | Query
enum Way { UP DOWN }
input Filter { way: Way! = UP n: Int }
scalar Time
directive @cold(degrees: Int) on FIELD | QUERY
";

#[track_caller]
fn check(change: (&str, &str), expected: &[&str]) {
    let new = OLD.replace(change.0, change.1);
    assert_ne!(new, OLD, "{change:?} changes nothing");
    let found: Vec<String> = breaking_changes(OLD, &new).into_iter().map(|found| found.coordinate).collect();
    assert_eq!(found, expected, "{change:?}");
}

#[test]
fn what_is_taken_away_breaks() {
    check(("scalar Time", ""), &["Time"]);
    check(("n: Int b: Boolean!", "b: Boolean!"), &["Thing.n"]);
    check(("UP DOWN", "UP"), &["Way.DOWN"]);
    check(("(x: Int! = 1, y: [Int!])", "(y: [Int!])"), &["Query.a(x:)"]);
    check(("way: Way! = UP n: Int", "way: Way! = UP"), &["Filter.n"]);
    check(("Node & Named", "Node"), &["Query"]);
    check(("Thing | Query", "Thing"), &["Any"]);
    check(("directive @cold(degrees: Int) on FIELD | QUERY", ""), &["@cold"]);
    check(("FIELD | QUERY", "FIELD"), &["@cold"]);
    check(("@cold(degrees: Int)", "@cold(more: Int)"), &["@cold(degrees:)"]);
    check(("{ query: Query }", "{ query: Thing }"), &["Query"]);
}

#[test]
fn another_type_breaks_unless_everything_that_fitted_fits() {
    check(("n: Int b: Boolean!", "n: Float b: Boolean!"), &["Thing.n"]);
    check(("n: Int b: Boolean!", "n: Int b: Boolean"), &["Thing.b"]);
    check(("n: Int b: Boolean!", "n: Int! b: Boolean!"), &[]);
    check(("): [Thing!]", "): [Thing]"), &["Query.a"]);
    check(("): [Thing!]", "): Thing"), &["Query.a"]);
    check(("): [Thing!]", "): [Thing!]!"), &[]);
    check(("x: Int! = 1", "x: Int"), &[]);
    check(("y: [Int!]", "y: [Int]"), &[]);
    check(("y: [Int!]", "y: [Int!]!"), &["Query.a(y:)"]);
    check(("way: Way! = UP n: Int", "way: Way! = UP n: Int!"), &["Filter.n"]);
    check(("scalar Time", "type Time { n: Int }"), &["Time"]);
}

#[test]
fn what_has_to_be_given_or_means_something_else_breaks() {
    check(("x: Int! = 1", "x: Int!"), &["Query.a(x:)"]);
    check(("x: Int! = 1", "x: Int! = 2"), &["Query.a(x:)"]);
    check(("y: [Int!])", "y: [Int!], z: Int!)"), &["Query.a(z:)"]);
    check(("way: Way! = UP", "way: Way! = DOWN"), &["Filter.way"]);
    check(("input Filter {", "input Filter { more: Int!"), &["Filter.more"]);
    check(("(degrees: Int)", "(degrees: Int, more: Int!)"), &["@cold(more:)"]);
}

#[test]
fn what_is_added_breaks_nobody() {
    check(("scalar Time", "scalar Time scalar Day"), &[]);
    check(("n: Int b: Boolean!", "n: Int b: Boolean! c(x: Int!): Int"), &[]);
    check(("UP DOWN", "UP DOWN LEFT"), &[]);
    check(("y: [Int!])", "y: [Int!], z: Int)"), &[]);
    check(("input Filter {", "input Filter { more: Int! = 1"), &[]);
    check(("Thing | Query", "Thing | Query | Other"), &[]);
    check(("query: Query", "query: Query subscription: Thing"), &[]);
    assert_eq!(breaking_changes(OLD, OLD), []);
}
