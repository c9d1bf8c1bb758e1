//! Rows of one table on their way to the database, in the form that it takes fastest: PostgreSQL's binary COPY, or the
//! values of SQLite's many-rowed inserts.
//!
//! The binary form: <https://www.postgresql.org/docs/current/sql-copy.html>, "Binary Format".

use read_side::template::{Column, Kind};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::super::{
    statements::load::Target,
    transaction::{Transaction, Value},
};

/// Signature, no flags, no extension.
const COPY_HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// In place of a row's number of fields.
const COPY_TRAILER: [u8; 2] = (-1_i16).to_be_bytes();
/// In place of a field's length.
const COPY_NULL: [u8; 4] = (-1_i32).to_be_bytes();

/// What is sent in one message. A message is copied once more on its way, and what is large is memory that the system
/// gives anew each time.
const PIECE_BYTES: usize = 64 * 1024;

pub(in crate::engine) struct Sheet {
    columns: i16,
    rows: usize,
    bytes: usize,
    form: Form,
}

enum Form {
    Copy(Pieces),
    Cells(Vec<Cell>),
}

/// Bytes in the pieces that they are sent in: they are never moved to a larger place.
struct Pieces {
    full: Vec<Vec<u8>>,
    last: Vec<u8>,
}

impl Pieces {
    fn new() -> Self {
        Self { full: Vec::new(), last: Vec::new() }
    }

    fn put(&mut self, bytes: &[u8]) {
        if self.last.len() + bytes.len() > self.last.capacity() {
            let next = Vec::with_capacity(PIECE_BYTES.max(bytes.len()));
            let full = std::mem::replace(&mut self.last, next);
            self.full.extend((!full.is_empty()).then_some(full));
        }
        self.last.extend_from_slice(bytes);
    }
}

/// One value that SQLite is given.
enum Cell {
    Null,
    Text(String),
    Integer(i64),
}

/// JSON that does not fit its column: what `derive` gives is not what the template says.
#[derive(Debug)]
pub(in crate::engine) struct Unfit {
    pub column: &'static str,
}

impl Sheet {
    pub fn new(is_postgres: bool, columns: usize) -> Self {
        let form = if is_postgres {
            let mut pieces = Pieces::new();
            pieces.put(COPY_HEADER);
            Form::Copy(pieces)
        } else {
            Form::Cells(Vec::new())
        };
        Self { columns: i16::try_from(columns).expect("a table has few columns"), rows: 0, bytes: 0, form }
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    /// What the values weigh.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Begins a row: its values follow, one for each column.
    pub fn row(&mut self) {
        self.rows += 1;
        if let Form::Copy(copy) = &mut self.form {
            copy.put(&self.columns.to_be_bytes());
        }
    }

    pub fn null(&mut self) {
        self.bytes += COPY_NULL.len();
        match &mut self.form {
            Form::Copy(copy) => copy.put(&COPY_NULL),
            Form::Cells(cells) => cells.push(Cell::Null),
        }
    }

    pub fn text(&mut self, text: &str) {
        self.bytes += text.len();
        match &mut self.form {
            Form::Copy(copy) => {
                let length = i32::try_from(text.len()).expect("a value is far below 2 GiB");
                copy.put(&length.to_be_bytes());
                copy.put(text.as_bytes());
            }
            Form::Cells(cells) => cells.push(Cell::Text(text.to_owned())),
        }
    }

    pub fn integer(&mut self, integer: i64) {
        self.bytes += size_of::<i64>();
        match &mut self.form {
            Form::Copy(copy) => {
                copy.put(&8_i32.to_be_bytes());
                copy.put(&integer.to_be_bytes());
            }
            Form::Cells(cells) => cells.push(Cell::Integer(integer)),
        }
    }

    pub fn boolean(&mut self, boolean: bool) {
        self.bytes += 1;
        match &mut self.form {
            Form::Copy(copy) => {
                copy.put(&1_i32.to_be_bytes());
                copy.put(&[boolean.into()]);
            }
            Form::Cells(cells) => cells.push(Cell::Integer(boolean.into())),
        }
    }

    /// The values of `object`, JSON of an object by column: what is not there is null, as is what no column asks for
    /// ignored. The same values as the statements of a followed batch give.
    pub fn object(&mut self, columns: &[Column], object: &str) -> Result<(), Unfit> {
        let unfit = |column: &Column| Unfit { column: column.name };
        let Fields(fields) =
            serde_json::from_str(object).map_err(|_| Unfit { column: columns.first().map_or("", |one| one.name) })?;
        for (place, column) in columns.iter().enumerate() {
            // mostly they come in the order of the columns
            let field = match fields.get(place) {
                Some(field) if field.0 == column.name => Some(field),
                _ => fields.iter().find(|field| field.0 == column.name),
            };
            let Some((_, value)) = field.filter(|(_, value)| value.get() != "null") else {
                self.null();
                continue;
            };
            let json = value.get();
            match column.kind {
                Kind::Integer => self.integer(json.parse().map_err(|_| unfit(column))?),
                Kind::Boolean => self.boolean(json.parse().map_err(|_| unfit(column))?),
                Kind::Json => self.text(json),
                Kind::Text => match json.strip_prefix('"').and_then(|json| json.strip_suffix('"')) {
                    Some(plain) if !plain.contains('\\') => self.text(plain),
                    _ => self.text(&serde_json::from_str::<String>(json).map_err(|_| unfit(column))?),
                },
            }
        }
        Ok(())
    }

    /// PostgreSQL: everything that one COPY takes, in pieces of any bounds.
    pub fn into_copy(self) -> impl Iterator<Item = Vec<u8>> {
        match self.form {
            Form::Copy(mut copy) => {
                copy.put(&COPY_TRAILER);
                copy.full.into_iter().chain([copy.last])
            }
            Form::Cells(_) => unreachable!("a sheet for SQLite"),
        }
    }

    /// SQLite: the values of all rows, one row after the other.
    pub fn values(&self) -> Vec<Value<'_>> {
        match &self.form {
            Form::Cells(cells) => cells
                .iter()
                .map(|cell| match cell {
                    Cell::Null => Value::MaybeText(None),
                    Cell::Text(text) => Value::Text(text),
                    Cell::Integer(integer) => Value::Integer(*integer),
                })
                .collect(),
            Form::Copy(_) => unreachable!("a sheet for PostgreSQL"),
        }
    }
}

/// Writes the rows of `sheet` into the table that it is for: all of them, or none.
pub(in crate::engine) async fn send(
    transaction: &mut Transaction,
    target: &Target,
    sheet: Sheet,
) -> Result<(), sqlx::Error> {
    if sheet.rows() == 0 {
        return Ok(());
    }
    if transaction.is_postgres() {
        let mut copy = transaction.begin_copy(&target.copy).await?;
        for piece in sheet.into_copy() {
            copy.send(piece).await?;
        }
        copy.finish().await?;
        return Ok(());
    }
    let values = sheet.values();
    let mut left = &values[..];
    for (rows, insert) in &target.inserts {
        while let Some((some, rest)) = left.split_at_checked(rows * target.columns.len()) {
            if some.is_empty() {
                break;
            }
            transaction.execute(insert, some).await?;
            left = rest;
        }
    }
    Ok(())
}

/// The fields of a JSON object as they are written.
struct Fields<'j>(Vec<(&'j str, &'j RawValue)>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::with_capacity(32);
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

#[cfg(test)]
mod tests {
    use read_side::template::column;

    use super::*;

    const COLUMNS: [Column; 4] = [
        column("name", Kind::Text),
        column("amount", Kind::Integer),
        column("lines", Kind::Json),
        column("open", Kind::Boolean),
    ];

    fn written(object: &str) -> Vec<String> {
        let mut sheet = Sheet::new(false, COLUMNS.len());
        sheet.row();
        sheet.object(&COLUMNS, object).unwrap();
        sheet.values().iter().map(|value| format!("{value:?}")).collect()
    }

    #[test]
    fn texts_are_unescaped_json_stays_as_it_is_and_what_is_missing_is_null() {
        let object = r#"{"name":"A \"b\" ä","more":1,"open":true,"lines":[{"a": "\n"}]}"#;
        assert_eq!(
            written(object),
            [r#"Text("A \"b\" ä")"#, "MaybeText(None)", r#"Text("[{\"a\": \"\\n\"}]")"#, "Integer(1)"]
        );
        assert_eq!(written(r#"{"amount":-7,"name":null}"#)[..2], ["MaybeText(None)", "Integer(-7)"]);
    }

    #[test]
    fn a_value_of_another_kind_names_its_column() {
        let mut sheet = Sheet::new(true, COLUMNS.len());
        sheet.row();
        let unfit = sheet.object(&COLUMNS, r#"{"name":"a","amount":"7"}"#).unwrap_err();
        assert_eq!(unfit.column, "amount");
    }

    #[test]
    fn a_copy_has_a_header_counted_fields_and_an_end() {
        let mut sheet = Sheet::new(true, 3);
        sheet.row();
        sheet.text("é");
        sheet.integer(-2);
        sheet.null();
        let copy = sheet.into_copy().collect::<Vec<_>>().concat();
        let row: &[u8] = b"\0\x03\0\0\0\x02\xc3\xa9\0\0\0\x08\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff\xff";
        assert_eq!(copy, [COPY_HEADER, row, &[0xff, 0xff]].concat());
    }

    #[test]
    fn a_copy_is_the_same_in_many_pieces_and_a_piece_is_as_large_as_its_largest_value() {
        let texts = ["a".repeat(PIECE_BYTES / 3), "b".repeat(3 * PIECE_BYTES), String::new(), "c".repeat(10)];
        let mut sheet = Sheet::new(true, 1);
        let mut expected = COPY_HEADER.to_vec();
        for text in texts.iter().cycle().take(40) {
            sheet.row();
            sheet.text(text);
            expected.extend(1_i16.to_be_bytes());
            expected.extend(i32::try_from(text.len()).unwrap().to_be_bytes());
            expected.extend(text.as_bytes());
        }
        expected.extend(COPY_TRAILER);
        let pieces: Vec<Vec<u8>> = sheet.into_copy().collect();
        assert!(pieces.iter().all(|piece| piece.len() <= 3 * PIECE_BYTES));
        assert!(pieces.len() > 20);
        assert_eq!(pieces.concat(), expected);
    }
}
