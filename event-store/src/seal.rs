//! Personal values in JSON, from readable to ciphertext and back, in place: not a byte around them changes.
//!
//! Text that a service serialized holds each as `{"personal_of":"<subject>","value":..}` (see [`events::personal`]),
//! which becomes `{"personal_of":"<subject>","ciphertext":".."}`: base64 of a random nonce, and AES-256-GCM under the
//! subject's key. What an event says is bound to its event id, so ciphertext that is moved elsewhere does not open.

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand::{SecureRandom, SystemRandom},
};
use serde::Deserialize;
use serde_json::value::RawValue;
use thiserror::Error;
use uuid::Uuid;

use crate::subject_keys::{KeyRing, SubjectKey};

/// How every personal value begins in compact JSON. It cannot stand inside of a string, where quotes are escaped.
const BEGIN: &str = r#"{"personal_of":""#;

/// Why a text cannot be sealed or opened. Without anything of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SealError {
    #[error("what begins like a personal value is none")]
    Malformed,
    #[error("a personal value was changed after it was written, or belongs to another event")]
    Tampered,
    #[error("the system gives no random bytes")]
    NoRandomness,
}

/// A personal value as it stands in a text.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Found<'t> {
    personal_of: Uuid,
    /// `None` also for null.
    #[serde(borrow, default)]
    value: Option<&'t RawValue>,
    #[serde(default)]
    ciphertext: Option<&'t str>,
}

/// Whether there may be something to seal or to open.
pub fn is_personal(text: &str) -> bool {
    text.contains(BEGIN)
}

/// Whose values are in `text`, once each.
pub fn subjects<'t>(texts: impl IntoIterator<Item = &'t str>) -> Result<Vec<Uuid>, SealError> {
    let mut subjects = Vec::new();
    for text in texts.into_iter().filter(|text| is_personal(text)) {
        rewrite(text, |found| {
            subjects.push(found.personal_of);
            Ok(String::new())
        })?;
    }
    subjects.sort_unstable();
    subjects.dedup();
    Ok(subjects)
}

/// Every value of a subject with a key as ciphertext, every other as null: it is erased before it is written.
pub fn seal(text: &str, ring: &KeyRing, bound_to: Uuid) -> Result<String, SealError> {
    rewrite(text, |Found { personal_of, value, ciphertext }| match (value, ring.get(&personal_of)) {
        // ciphertext is bound to where it stands: there is no moving it
        _ if ciphertext.is_some() => Err(SealError::Malformed),
        (Some(value), Some(key)) => {
            let ciphertext = encrypt(key, bound_to, value.get())?;
            Ok(format!(r#"{BEGIN}{personal_of}","ciphertext":"{ciphertext}"}}"#))
        }
        (None, _) | (_, None) => Ok(erased(personal_of)),
    })
}

/// Every ciphertext of a subject with a key as the value it was, every other as null.
pub fn open(text: &str, ring: &KeyRing, bound_to: Uuid) -> Result<String, SealError> {
    rewrite(text, |Found { personal_of, value, ciphertext }| match (ciphertext, ring.get(&personal_of), value) {
        (Some(ciphertext), Some(key), _) => {
            let value = decrypt(key, bound_to, ciphertext)?;
            Ok(format!(r#"{BEGIN}{personal_of}","value":{value}}}"#))
        }
        // written by a log that seals nothing
        (None, _, Some(value)) => Ok(format!(r#"{BEGIN}{personal_of}","value":{value}}}"#)),
        (Some(_), None, _) | (None, _, None) => Ok(erased(personal_of)),
    })
}

fn erased(subject: Uuid) -> String {
    format!(r#"{BEGIN}{subject}","value":null}}"#)
}

/// The text with each personal value replaced.
fn rewrite(text: &str, mut replace: impl FnMut(Found<'_>) -> Result<String, SealError>) -> Result<String, SealError> {
    let mut written = String::with_capacity(text.len() + text.len() / 2);
    let mut rest = text;
    while let Some(begin) = rest.find(BEGIN) {
        written.push_str(&rest[..begin]);
        rest = &rest[begin..];
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Found<'_>>();
        let found = values.next().and_then(Result::ok).ok_or(SealError::Malformed)?;
        let end = values.byte_offset();
        written.push_str(&replace(found)?);
        rest = &rest[end..];
    }
    written.push_str(rest);
    Ok(written)
}

fn cipher(key: &SubjectKey) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key.0).expect("a key has 256 bits"))
}

fn encrypt(key: &SubjectKey, bound_to: Uuid, value: &str) -> Result<String, SealError> {
    let mut nonce = [0; NONCE_LEN];
    SystemRandom::new().fill(&mut nonce).map_err(|_| SealError::NoRandomness)?;
    let mut sealed = nonce.to_vec();
    let mut in_out = value.as_bytes().to_vec();
    cipher(key)
        .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(bound_to.as_bytes()), &mut in_out)
        .expect("a value is far shorter than the cipher can take");
    sealed.append(&mut in_out);
    Ok(STANDARD.encode(sealed))
}

fn decrypt(key: &SubjectKey, bound_to: Uuid, ciphertext: &str) -> Result<String, SealError> {
    let sealed = STANDARD.decode(ciphertext).map_err(|_| SealError::Tampered)?;
    let (nonce, sealed) = sealed.split_at_checked(NONCE_LEN).ok_or(SealError::Tampered)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::Tampered)?;
    let mut in_out = sealed.to_vec();
    let opened = cipher(key).open_in_place(nonce, Aad::from(bound_to.as_bytes()), &mut in_out);
    let opened = opened.map_err(|_| SealError::Tampered)?;
    String::from_utf8(opened.to_vec()).map_err(|_| SealError::Tampered)
}

#[cfg(test)]
mod tests {
    use events::personal::Personal;
    use serde::Serialize;

    use super::*;

    const ANA: Uuid = Uuid::from_u128(1);
    const EVA: Uuid = Uuid::from_u128(2);
    const EVENT: Uuid = Uuid::from_u128(3);

    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    struct Met {
        note: String,
        host: Personal<String>,
        guests: Vec<Personal<(String, u32)>>,
        count: u32,
    }

    fn met() -> Met {
        Met {
            note: r#"a note that says {"personal_of":"nobody" \"#.to_owned(),
            host: Personal::of(ANA, "Ana \"é\" }".to_owned()),
            guests: vec![Personal::of(EVA, ("Eva".to_owned(), 7)), Personal::erased(EVA)],
            count: 2,
        }
    }

    fn ring(subjects: &[Uuid]) -> KeyRing {
        subjects.iter().map(|subject| (*subject, SubjectKey([subject.as_bytes()[15]; 32]))).collect()
    }

    fn text() -> String {
        serde_json::to_string(&met()).unwrap()
    }

    #[test]
    fn what_is_sealed_shows_nothing_and_opens_as_it_was() {
        let sealed = seal(&text(), &ring(&[ANA, EVA]), EVENT).unwrap();
        assert!(!sealed.contains("Ana") && !sealed.contains("Eva"), "{sealed}");
        assert!(sealed.contains("a note that says"), "what is not personal stays as it is");
        assert_eq!(open(&sealed, &ring(&[ANA, EVA]), EVENT).unwrap(), text());
    }

    #[test]
    fn without_its_key_a_value_is_null_and_its_neighbours_are_not() {
        let sealed = seal(&text(), &ring(&[ANA, EVA]), EVENT).unwrap();
        let opened: Met = serde_json::from_str(&open(&sealed, &ring(&[EVA]), EVENT).unwrap()).unwrap();
        assert_eq!(opened, Met { host: Personal::erased(ANA), ..met() });
        let sealed: Met = serde_json::from_str(&seal(&text(), &ring(&[]), EVENT).unwrap()).unwrap();
        assert_eq!(sealed.guests, [Personal::erased(EVA), Personal::erased(EVA)], "and never written without a key");
    }

    #[test]
    fn everybody_is_named_once() {
        assert_eq!(subjects([&*text(), "{}", &*text()]).unwrap(), [ANA, EVA]);
        let sealed = seal(&text(), &ring(&[ANA, EVA]), EVENT).unwrap();
        assert_eq!(subjects([&*sealed]).unwrap(), [ANA, EVA], "also in ciphertext");
    }

    #[test]
    fn ciphertext_opens_nowhere_else_and_not_when_it_was_changed() {
        let sealed = seal(&text(), &ring(&[ANA, EVA]), EVENT).unwrap();
        assert_eq!(open(&sealed, &ring(&[ANA, EVA]), Uuid::nil()), Err(SealError::Tampered));
        let other = KeyRing::from([(ANA, SubjectKey([9; 32]))]);
        assert_eq!(open(&sealed, &other, EVENT), Err(SealError::Tampered));
        let short = r#"{"personal_of":"00000000-0000-0000-0000-000000000001","ciphertext":"AAAA"}"#;
        assert_eq!(open(short, &ring(&[ANA]), EVENT), Err(SealError::Tampered));
    }

    #[test]
    fn the_same_value_never_looks_the_same() {
        let ring = ring(&[ANA, EVA]);
        assert_ne!(seal(&text(), &ring, EVENT).unwrap(), seal(&text(), &ring, EVENT).unwrap());
    }

    #[test]
    fn what_only_begins_like_a_personal_value_is_refused() {
        for text in [r#"{"personal_of":"nobody","value":1}"#, r#"[{"personal_of":""#] {
            assert_eq!(seal(text, &KeyRing::new(), EVENT), Err(SealError::Malformed), "{text}");
        }
    }
}
