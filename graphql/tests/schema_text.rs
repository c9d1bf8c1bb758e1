//! The schema that clients are told of is the schema that answers.

use std::path::Path;

/// Set to anything, it makes the test write the file instead of comparing with it.
const REFRESH: &str = "TRIBUTARY_REFRESH";

#[test]
fn the_schema_file_is_what_the_code_says() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema.graphql");
    let said = graphql::schema_sdl();
    if std::env::var_os(REFRESH).is_some() {
        std::fs::write(&file, &said).unwrap();
    }
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    let different = said.lines().zip(written.lines()).find(|(said, written)| said != written);
    assert!(
        said == written,
        "schema.graphql is not what the code says (first difference: {different:?}). If the change is meant: \
         {REFRESH}=1 cargo test -p graphql --test schema_text"
    );
}
