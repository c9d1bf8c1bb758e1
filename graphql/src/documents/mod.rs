//! Documents that are known: parsed and measured once, and found again by their text or its SHA-256.
//!
//! Reading order: [`Known`] (a document and what is known of it), [`variable`] (which values need no check), [`shelf`] (those
//! of late, bounded), [`listed`] (those that an operator has listed, for good).
//!
//! A document that has been answered may be asked for by its hash alone ("automatic persisted queries"): there is one shelf
//! for both, as both are bounded by the same memory. Whoever asks by a hash that has left it sends the text once more.

pub mod listed;
mod shelf;
mod variable;

use std::{
    fmt::Write,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use async_graphql::{Name, ServerError, Variables, parser::types::ExecutableDocument};
use sha2::{Digest, Sha256};

use self::{listed::Listed, shelf::Shelf, variable::Variable};
use crate::{
    document,
    errors::{code, coded},
    http::complete::Keys,
    options::Limits,
};

/// What a document is known by: the SHA-256 of its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hash([u8; 32]);

impl Hash {
    pub fn of(text: &str) -> Self {
        Self(Sha256::digest(text.as_bytes()).into())
    }

    /// From 64 hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        let mut hash = [0; 32];
        for (byte, pair) in hash.iter_mut().zip(text.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Self(hash))
    }
}

impl std::fmt::Display for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// How a request names its document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Asked {
    Text(String),
    /// A text, and the hash that it is to be known by from now on.
    Named(String, Hash),
    Hash(Hash),
}

/// What a token of a document takes, once it is parsed: of those that take most, the fields, some 250 bytes for the field and
/// as many for the key of its answer.
const TOKEN_BYTES: usize = 512;

/// A document within the limits, and what every request of it would otherwise find out anew.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) document: ExecutableDocument,
    /// What all of it takes, about.
    bytes: usize,
    /// In the document's order.
    operations: Vec<KnownOperation>,
}

#[derive(Debug)]
struct KnownOperation {
    name: Option<Name>,
    /// Of its answer.
    keys: Arc<Keys>,
    variables: Vec<Variable>,
    /// Whether it was found valid, with a value for each variable.
    is_checked: AtomicBool,
}

impl Known {
    /// Scanned, parsed and measured.
    pub(crate) fn of(text: &str, limits: &Limits) -> Result<Self, ServerError> {
        let (document, tokens) = document::parse(text, limits)?;
        document::measure(&document, limits)?;
        let operations = document.operations.iter().map(|(name, operation)| KnownOperation {
            name: name.cloned(),
            keys: Arc::new(Keys::of(&document, &operation.node.selection_set.node)),
            variables: operation.node.variable_definitions.iter().map(|each| Variable::of(&each.node)).collect(),
            is_checked: AtomicBool::new(false),
        });
        let operations = operations.collect();
        let bytes = text.len() + tokens * TOKEN_BYTES;
        Ok(Self { document, bytes, operations })
    }

    /// The keys of an operation's answer; `name` is that of an operation that there is.
    pub(crate) fn keys(&self, name: Option<&str>) -> Arc<Keys> {
        Arc::clone(&self.operation(name).keys)
    }

    /// Whether a check would find nothing new: the operation was found valid, and these values are plainly what it takes.
    pub(crate) fn is_checked(&self, name: Option<&str>, variables: &Variables) -> bool {
        let operation = self.operation(name);
        let takes = |variable: &Variable| variables.get(&variable.name).is_some_and(|value| variable.takes(value));
        operation.is_checked.load(Ordering::Acquire) && operation.variables.iter().all(takes)
    }

    /// Notes that an operation is valid with these values. Where one is missing, what it stands in was not looked at.
    pub(crate) fn note_checked(&self, name: Option<&str>, variables: &Variables) {
        let operation = self.operation(name);
        if operation.variables.iter().all(|variable| variables.contains_key(&variable.name)) {
            operation.is_checked.store(true, Ordering::Release);
        }
    }

    fn operation(&self, name: Option<&str>) -> &KnownOperation {
        let named = |held: &&KnownOperation| name.is_none() || held.name.as_deref() == name;
        let found = self.operations.iter().find(named).or(self.operations.first());
        found.expect("a document has an operation")
    }
}

/// The documents of one endpoint.
#[derive(Debug)]
pub(crate) struct Documents {
    limits: Limits,
    listed: Listed,
    of_late: Mutex<Shelf<Arc<Known>>>,
}

impl Documents {
    pub(crate) fn new(limits: Limits, listed: Listed) -> Self {
        let of_late = Mutex::new(Shelf::new(limits.documents_kept_max, limits.documents_kept_bytes_max));
        Self { limits, listed, of_late }
    }

    /// The document that is asked for, if it may be.
    pub(crate) fn find(&self, asked: Asked) -> Result<Arc<Known>, ServerError> {
        let (text, hash) = match asked {
            Asked::Text(text) => (Some(text), None),
            Asked::Named(text, hash) => (Some(text), Some(hash)),
            Asked::Hash(hash) => (None, Some(hash)),
        };
        let known_as = match (&text, hash) {
            (Some(text), named) => {
                let hash = Hash::of(text);
                if named.is_some_and(|named| named != hash) {
                    return Err(coded(
                        code::PERSISTED_QUERY_MISMATCH,
                        format!("sha256Hash is not the SHA-256 of the query, which is {hash}"),
                    ));
                }
                hash
            }
            (None, Some(hash)) => hash,
            (None, None) => unreachable!("a document is asked for by its text or its hash"),
        };
        if let Some(listed) = self.listed.get(&known_as) {
            return Ok(Arc::clone(listed));
        }
        if self.listed.is_strict() {
            return Err(coded(
                code::OPERATION_NOT_LISTED,
                format!("only listed documents are answered here, and sha256:{known_as} is not one of them"),
            ));
        }
        if let Some(known) = self.of_late().get(&known_as) {
            return Ok(Arc::clone(known));
        }
        let Some(text) = text else {
            // these words are what the clients of this protocol look for
            return Err(coded(code::PERSISTED_QUERY_NOT_FOUND, "PersistedQueryNotFound"));
        };
        let known = Arc::new(Known::of(&text, &self.limits)?);
        let bytes = known.bytes;
        self.of_late().put(known_as, Arc::clone(&known), bytes);
        Ok(known)
    }

    fn of_late(&self) -> std::sync::MutexGuard<'_, Shelf<Arc<Known>>> {
        // a shelf is whole between its calls
        self.of_late.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    #[cfg(test)]
    fn kept(&self) -> (usize, usize) {
        let shelf = self.of_late();
        (shelf.len(), shelf.bytes())
    }
}

/// A hash or a text in the log, cut to what a person can use.
pub(crate) fn shortened(text: &str) -> String {
    const CHARS_MAX: usize = 60;
    let mut short: String = text.chars().take(CHARS_MAX).collect();
    if short.len() < text.len() {
        let _ = write!(short, "… ({} bytes)", text.len());
    }
    short
}

#[cfg(test)]
mod tests {
    use async_graphql::Value;

    use super::*;
    use crate::errors::code_of;

    fn documents(kept_max: usize, bytes_max: usize) -> Documents {
        let limits = Limits { documents_kept_max: kept_max, documents_kept_bytes_max: bytes_max, ..Limits::default() };
        Documents::new(limits, Listed::default())
    }

    fn text(n: usize) -> String {
        format!("{{ a{n}: __typename }}")
    }

    /// The error's code, or the document's first key.
    fn code(result: Result<Arc<Known>, ServerError>) -> String {
        match result {
            Ok(known) => known.operations[0].keys.first().to_owned(),
            Err(error) => code_of(error.extensions.as_ref()).unwrap_or_default().to_owned(),
        }
    }

    #[test]
    fn a_document_is_parsed_once() {
        let documents = documents(10, 100_000);
        let first = documents.find(Asked::Text(text(1))).unwrap();
        let again = documents.find(Asked::Text(text(1))).unwrap();
        let by_hash = documents.find(Asked::Hash(Hash::of(&text(1)))).unwrap();
        assert!(Arc::ptr_eq(&first, &again) && Arc::ptr_eq(&first, &by_hash));
    }

    #[test]
    fn a_hash_is_unknown_until_its_text_came_once() {
        let documents = documents(10, 100_000);
        let hash = Hash::of(&text(1));
        assert_eq!(code(documents.find(Asked::Hash(hash))), code::PERSISTED_QUERY_NOT_FOUND);
        assert_eq!(code(documents.find(Asked::Named(text(1), hash))), "a1");
        assert_eq!(code(documents.find(Asked::Hash(hash))), "a1");
    }

    #[test]
    fn a_text_under_the_hash_of_another_is_refused_and_kept_under_neither() {
        let documents = documents(10, 100_000);
        let other = Hash::of(&text(2));
        assert_eq!(code(documents.find(Asked::Named(text(1), other))), code::PERSISTED_QUERY_MISMATCH);
        for hash in [other, Hash::of(&text(1))] {
            assert_eq!(code(documents.find(Asked::Hash(hash))), code::PERSISTED_QUERY_NOT_FOUND);
        }
    }

    #[test]
    fn what_is_kept_is_bounded_by_count_and_by_bytes_and_the_last_used_stays() {
        let documents = documents(3, 100_000);
        for n in 0..50 {
            documents.find(Asked::Text(text(n))).unwrap();
            documents.find(Asked::Text(text(0))).unwrap();
        }
        assert_eq!(documents.kept().0, 3);
        assert!(documents.find(Asked::Hash(Hash::of(&text(0)))).is_ok(), "used all the time");
        assert!(documents.find(Asked::Hash(Hash::of(&text(3)))).is_err(), "long ago");
        let documents = self::documents(1_000, 20_000);
        for n in 10..60 {
            let each = documents.find(Asked::Text(text(n))).unwrap().bytes;
            let (kept, bytes) = documents.kept();
            assert!(bytes <= 20_000 && bytes == kept * each, "{kept} documents of {bytes} bytes");
        }
        let long = format!("# {}\n{}", "x".repeat(20_000), text(1));
        let of_many_fields = format!("{{ __schema {{ types {{ {} }} }} }}", "name ".repeat(50));
        for much in [long, of_many_fields] {
            assert!(documents.find(Asked::Text(much.clone())).is_ok(), "answered");
            assert!(documents.find(Asked::Hash(Hash::of(&much))).is_err(), "but not kept");
        }
    }

    #[test]
    fn what_is_no_document_or_is_too_much_is_not_kept() {
        let documents = documents(10, 10_000);
        let aliases: String = (0..51).map(text).map(|one| one[1..one.len() - 1].to_owned()).collect();
        for wrong in ["{".to_owned(), format!("{{ {aliases} }}")] {
            assert!(documents.find(Asked::Text(wrong)).is_err());
        }
        assert_eq!(documents.kept(), (0, 0));
    }

    #[test]
    fn each_operation_has_the_keys_of_its_own_answer() {
        let known = Known::of("query A { a: x b: x } query B { b: x a: x }", &Limits::default());
        let known = known.unwrap();
        let sorted = |name| {
            let mut answer =
                async_graphql::Response::new(Value::from_json(serde_json::json!({"a": 1, "b": 2})).unwrap());
            crate::http::complete::complete(&mut answer, &known.keys(Some(name)));
            answer.data.to_string()
        };
        assert_eq!((sorted("A"), sorted("B")), ("{a: 1, b: 2}".to_owned(), "{b: 2, a: 1}".to_owned()));
    }

    #[test]
    fn a_hash_is_64_hexadecimal_digits_in_whatever_case() {
        let hash = Hash::of("{ __typename }");
        assert_eq!(hash.to_string(), "7f56e67dd21ab3f30d1ff8b7bed08893f0a0db86449836189b361dd1e56ddb4b");
        assert_eq!(Hash::from_hex(&hash.to_string().to_uppercase()), Some(hash));
        for wrong in ["", "7f56", &"g".repeat(64), &"é".repeat(32), &"0".repeat(65)] {
            assert_eq!(Hash::from_hex(wrong), None, "{wrong}");
        }
    }
}
