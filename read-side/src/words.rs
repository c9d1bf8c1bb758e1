//! Texts as the words that a search finds them by.
//!
//! The words are made here, for rows and for questions alike, and not by a database: both databases hold the same ones, a
//! rebuild makes them again, and who looks for `jose` finds `José`.

use std::collections::BTreeSet;

use unicode_normalization::{UnicodeNormalization, char::is_combining_mark};

/// What is kept of a word, in characters. Nobody types more, and PostgreSQL wants an end.
pub const WORD_CHARS_MAX: usize = 64;
/// The most words of one row: with four bytes to a character they stay below the 1 MiB that a tsvector may have.
pub const ROW_WORDS_MAX: usize = 4_000;
/// The most words of a question; what follows is not looked at.
pub const SEARCH_WORDS_MAX: usize = 16;

/// The words of `texts`, each once, in order, with spaces between them. Of more than [`ROW_WORDS_MAX`] the first stay.
pub fn words<'t>(texts: impl IntoIterator<Item = &'t str>) -> String {
    let mut words = BTreeSet::new();
    for word in texts.into_iter().flat_map(split) {
        if words.len() == ROW_WORDS_MAX {
            break;
        }
        words.insert(word);
    }
    words.into_iter().collect::<Vec<_>>().join(" ")
}

/// A question: every word must be there, the last one at least as the beginning of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Search {
    words: Vec<String>,
}

impl Search {
    /// `None` where `text` has no word.
    pub fn of(text: &str) -> Option<Self> {
        let words: Vec<_> = split(text).into_iter().take(SEARCH_WORDS_MAX).collect();
        (!words.is_empty()).then_some(Self { words })
    }

    /// As SQLite's FTS5 wants it. Words are letters and digits, so nothing in them is an operator.
    pub(crate) fn fts5(&self) -> String {
        let quoted: Vec<_> = self.words.iter().map(|word| format!("\"{word}\"")).collect();
        quoted.join(" AND ") + "*"
    }

    /// As PostgreSQL's `tsquery` wants it.
    pub(crate) fn tsquery(&self) -> String {
        let quoted: Vec<_> = self.words.iter().map(|word| format!("'{word}'")).collect();
        quoted.join(" & ") + ":*"
    }
}

/// Lower case, without accents, cut at everything that is neither letter nor digit.
fn split(text: &str) -> Vec<String> {
    let bare = text.nfkd().filter(|char| !is_combining_mark(*char));
    let folded = bare.flat_map(char::to_lowercase).flat_map(spelled_out);
    let mut words = Vec::new();
    let (mut word, mut chars) = (String::new(), 0);
    for char in folded.chain([' ']) {
        if char.is_alphanumeric() {
            chars += 1;
            if chars <= WORD_CHARS_MAX {
                word.push(char);
            }
        } else if chars > 0 {
            words.push(std::mem::take(&mut word));
            chars = 0;
        }
    }
    words
}

/// Letters that many keyboards do not have, and that are no others with a mark.
fn spelled_out(char: char) -> impl Iterator<Item = char> {
    let (first, second) = match char {
        'ß' => ('s', Some('s')),
        'æ' => ('a', Some('e')),
        'œ' => ('o', Some('e')),
        'þ' => ('t', Some('h')),
        'ø' => ('o', None),
        'ł' => ('l', None),
        'đ' | 'ð' => ('d', None),
        'ı' => ('i', None),
        other => (other, None),
    };
    [first].into_iter().chain(second)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_are_lower_case_without_accents_and_once_each() {
        assert_eq!(words(["José GARCÍA", "jose.garcia@example.org"]), "example garcia jose org");
        assert_eq!(words(["Straße Łódź", "Crème brûlée", "SKU-0042/b"]), "0042 b brulee creme lodz sku strasse");
        assert_eq!(words(["Σίσυφος", "ＡＢＣ１２", "日本茶"]), "abc12 σισυφος 日本茶");
        assert_eq!(words(["", " - ", "\u{301}"]), "");
    }

    #[test]
    fn a_question_is_made_of_the_same_words() {
        let search = Search::of("García, Jos").unwrap();
        assert_eq!(search.fts5(), r#""garcia" AND "jos"*"#);
        assert_eq!(search.tsquery(), "'garcia' & 'jos':*");
        assert_eq!(Search::of("' * \" & :"), None);
    }

    #[test]
    fn a_row_of_very_many_words_stays_within_what_a_database_takes() {
        let word = |n: usize| format!("{n:04}{}", "\u{20000}".repeat(2 * WORD_CHARS_MAX));
        let texts: Vec<String> = (0..2 * ROW_WORDS_MAX).map(word).collect();
        let words = words(texts.iter().map(String::as_str));
        assert_eq!(words.split(' ').count(), ROW_WORDS_MAX);
        assert!(words.len() < 1 << 20, "{}", words.len());
    }

    proptest! {
        /// Otherwise a row would not be found by its own words.
        #[test]
        fn the_words_of_words_are_the_same(text in any::<String>()) {
            let once = words([text.as_str()]);
            prop_assert_eq!(&words([once.as_str()]), &once);
        }

        #[test]
        fn there_is_nothing_in_a_word_but_letters_and_digits(text in any::<String>()) {
            for word in split(&text) {
                prop_assert!(word.chars().all(char::is_alphanumeric), "{}", word);
                prop_assert!(word.chars().count() <= WORD_CHARS_MAX);
            }
        }
    }
}
