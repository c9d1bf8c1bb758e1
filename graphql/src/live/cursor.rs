//! Cursors of subscriptions as text: opaque to clients, who pass them on unchanged.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use read_side::ChangeCursor;

/// The layout's version, the generation, the change's number in it.
const CURSOR_BYTES: usize = 1 + 8 + 8;
/// Not that of a page's cursor, so that neither is taken for the other.
const CURSOR_VERSION: u8 = 0x41;

pub(crate) fn format_cursor(cursor: ChangeCursor) -> String {
    let mut bytes = [CURSOR_VERSION; CURSOR_BYTES];
    bytes[1..9].copy_from_slice(&cursor.generation.to_be_bytes());
    bytes[9..].copy_from_slice(&cursor.seq.to_be_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

/// `None`: the text is none of ours.
pub(crate) fn parse_cursor(text: &str) -> Option<ChangeCursor> {
    let bytes: [u8; CURSOR_BYTES] = URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?;
    let [CURSOR_VERSION, rest @ ..] = bytes else { return None };
    let (mut generation, mut seq) = ([0; 8], [0; 8]);
    generation.copy_from_slice(&rest[..8]);
    seq.copy_from_slice(&rest[8..]);
    Some(ChangeCursor { generation: i64::from_be_bytes(generation), seq: i64::from_be_bytes(seq) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_cursor_survives_its_text(generation: i64, seq: i64) {
            let cursor = ChangeCursor { generation, seq };
            prop_assert_eq!(parse_cursor(&format_cursor(cursor)), Some(cursor));
        }

        #[test]
        fn any_text_is_a_cursor_or_none(text in ".{0,40}") {
            let _ = parse_cursor(&text);
        }
    }
}
