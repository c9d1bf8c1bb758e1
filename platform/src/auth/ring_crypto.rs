//! Signatures of tokens by `ring`, which the database driver brings already: a second cryptography in the binary would be
//! one more to keep patched. Verification only: we issue no tokens.

use jsonwebtoken::{
    Algorithm, DecodingKey, DecodingKeyKind, EncodingKey,
    crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils},
    errors::{Error, ErrorKind},
    signature::{Error as SignatureError, Verifier},
};
use ring::{
    hmac,
    signature::{self, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm},
};

static PROVIDER: CryptoProvider =
    CryptoProvider { signer_factory: no_signer, verifier_factory: verifier, key_utils: KeyUtils::new_unimplemented() };

/// Makes it the one of this process. Again is no error.
pub fn install() {
    // an error says that it is there already, and nobody else installs one
    let _ = PROVIDER.install_default();
}

fn no_signer(_: &Algorithm, _: &EncodingKey) -> Result<Box<dyn JwtSigner>, Error> {
    Err(ErrorKind::UnsupportedAlgorithm.into())
}

fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>, Error> {
    // a key is of one family: a public key must never be taken for a shared secret
    if key.family() != algorithm.family() {
        return Err(ErrorKind::InvalidKeyFormat.into());
    }
    Ok(Box::new(ByRing { algorithm: *algorithm, key: key.clone() }))
}

struct ByRing {
    algorithm: Algorithm,
    key: DecodingKey,
}

impl JwtVerifier for ByRing {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

impl Verifier<Vec<u8>> for ByRing {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), SignatureError> {
        match self.algorithm {
            Algorithm::HS256 => self.verify_hmac(hmac::HMAC_SHA256, message, signature),
            Algorithm::HS384 => self.verify_hmac(hmac::HMAC_SHA384, message, signature),
            Algorithm::HS512 => self.verify_hmac(hmac::HMAC_SHA512, message, signature),
            Algorithm::RS256 => self.verify_rsa(&signature::RSA_PKCS1_2048_8192_SHA256, message, signature),
            Algorithm::RS384 => self.verify_rsa(&signature::RSA_PKCS1_2048_8192_SHA384, message, signature),
            Algorithm::RS512 => self.verify_rsa(&signature::RSA_PKCS1_2048_8192_SHA512, message, signature),
            Algorithm::PS256 => self.verify_rsa(&signature::RSA_PSS_2048_8192_SHA256, message, signature),
            Algorithm::PS384 => self.verify_rsa(&signature::RSA_PSS_2048_8192_SHA384, message, signature),
            Algorithm::PS512 => self.verify_rsa(&signature::RSA_PSS_2048_8192_SHA512, message, signature),
            Algorithm::ES256 => self.verify_bytes(&signature::ECDSA_P256_SHA256_FIXED, message, signature),
            Algorithm::ES384 => self.verify_bytes(&signature::ECDSA_P384_SHA384_FIXED, message, signature),
            Algorithm::EdDSA => self.verify_bytes(&signature::ED25519, message, signature),
            // the crate may learn others; the configuration names none of them
            _ => Err(SignatureError::new()),
        }
    }
}

impl ByRing {
    fn verify_hmac(&self, algorithm: hmac::Algorithm, message: &[u8], signature: &[u8]) -> Result<(), SignatureError> {
        let secret = self.key.try_get_as_bytes().map_err(SignatureError::from_source)?;
        hmac::verify(&hmac::Key::new(algorithm, secret), message, signature).map_err(|_| SignatureError::new())
    }

    fn verify_rsa(
        &self,
        algorithm: &'static RsaParameters,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), SignatureError> {
        match self.key.kind() {
            DecodingKeyKind::SecretOrDer(_) => self.verify_bytes(algorithm, message, signature),
            DecodingKeyKind::RsaModulusExponent { n, e } => {
                let key = RsaPublicKeyComponents { n, e };
                key.verify(algorithm, message, signature).map_err(|_| SignatureError::new())
            }
        }
    }

    fn verify_bytes(
        &self,
        algorithm: &'static dyn VerificationAlgorithm,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), SignatureError> {
        let key = self.key.try_get_as_bytes().map_err(SignatureError::from_source)?;
        UnparsedPublicKey::new(algorithm, key).verify(message, signature).map_err(|_| SignatureError::new())
    }
}
