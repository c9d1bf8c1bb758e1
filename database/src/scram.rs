//! What PostgreSQL keeps of a password: told it instead of the password, the server never sees that, and no log of its can
//! repeat it. As of RFC 5803, with what PostgreSQL 15 takes by itself: 4,096 rounds and 16 bytes of salt.

use std::num::NonZeroU32;

use base64::{Engine, prelude::BASE64_STANDARD};
use ring::{digest, hmac, pbkdf2, rand};

const ROUNDS: NonZeroU32 = NonZeroU32::new(4_096).expect("not zero");
const SALT_BYTES: usize = 16;

/// A verifier for `password`, of printable ASCII: of other text there may be several spellings, which the server would first
/// have to bring into one.
pub fn verifier(password: &str) -> Option<String> {
    let salt: [u8; SALT_BYTES] = rand::generate(&rand::SystemRandom::new()).ok()?.expose();
    is_plain(password).then(|| made_with(password, &salt, ROUNDS))
}

/// Whether `stored` is a verifier of `password`.
pub fn fits(password: &str, stored: &str) -> bool {
    let made = || {
        let (rounds, rest) = stored.strip_prefix("SCRAM-SHA-256$")?.split_once(':')?;
        let salt = BASE64_STANDARD.decode(rest.split_once('$')?.0).ok()?;
        Some(made_with(password, &salt, rounds.parse().ok()?))
    };
    made().is_some_and(|made| made == stored)
}

/// Whether there is one spelling of it only.
pub fn is_plain(password: &str) -> bool {
    !password.is_empty() && password.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

fn made_with(password: &str, salt: &[u8], rounds: NonZeroU32) -> String {
    let mut salted = [0; digest::SHA256_OUTPUT_LEN];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, salt, password.as_bytes(), &mut salted);
    let salted = hmac::Key::new(hmac::HMAC_SHA256, &salted);
    let stored_key = digest::digest(&digest::SHA256, hmac::sign(&salted, b"Client Key").as_ref());
    let server_key = hmac::sign(&salted, b"Server Key");
    let base64 = |bytes: &[u8]| BASE64_STANDARD.encode(bytes);
    format!("SCRAM-SHA-256${rounds}:{}${}:{}", base64(salt), base64(stored_key.as_ref()), base64(server_key.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verifier_fits_its_password_and_no_other() {
        let stored = verifier("it's a secret").unwrap();
        assert!(fits("it's a secret", &stored) && !fits("it's no secret", &stored));
        assert!(!fits("it's a secret", "md5c20dd9cbdc49a1e1bfa1fc9b0f6a3a53") && !fits("", ""));
        assert_ne!(stored, verifier("it's a secret").unwrap(), "another salt each time");
    }

    #[test]
    fn a_password_of_several_spellings_is_not_taken() {
        assert!(["", "schlüssel", "a\nb", "\u{7f}"].iter().all(|password| verifier(password).is_none()));
    }
}
