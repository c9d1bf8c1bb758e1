//! The read side never writes: no statement of it changes a row or a table.

use std::path::Path;

const WRITES: [&str; 9] = [
    "insert into",
    "update ",
    "delete from",
    "create table",
    "drop table",
    "alter table",
    "truncate",
    "begin",
    ".begin(",
];

#[test]
fn no_statement_of_the_read_side_writes() {
    let mut files = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    let mut seen = 0;
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        seen += 1;
        let text = std::fs::read_to_string(&path).unwrap();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
            // statements are texts: what is outside of quotes is Rust
            for text in line.split('"').skip(1).step_by(2).map(str::to_lowercase) {
                let write = WRITES.iter().find(|write| text.contains(*write));
                assert!(write.is_none(), "{}:{}: {line}", path.display(), number + 1);
            }
        }
    }
    assert!(seen > 5, "the sources are found");
}
