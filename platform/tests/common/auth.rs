//! A platform that asks for tokens, and tokens for it.

use std::path::Path;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use super::{Home, Platform};

const SECRET: &str = "a secret of a test that is long enough for HS256";

/// A token for so many hours; with less than none it has ended.
pub fn token(subject: &str, scope: &str, customer: Option<&str>, hours: i64) -> String {
    let part = |value: Value| BASE64.encode(value.to_string());
    let exp = chrono::Utc::now().timestamp() + hours * 3_600;
    let mut claims = json!({ "iss": "test", "aud": "tributary", "sub": subject, "scope": scope, "exp": exp });
    if let Some(customer) = customer {
        claims["customer_id"] = json!(customer);
    }
    let message = format!("{}.{}", part(json!({ "alg": "HS256" })), part(claims));
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("any length will do");
    mac.update(message.as_bytes());
    format!("{message}.{}", BASE64.encode(mac.finalize().into_bytes()))
}

/// What makes a process ask for tokens. The secret lies in this folder.
pub fn flags(folder: &Path) -> [String; 4] {
    let secret = folder.join("secret");
    std::fs::write(&secret, SECRET).expect("a file");
    let key_file = format!("--auth-key-file={}", secret.display());
    [
        "--auth-issuer=test".to_owned(),
        "--auth-audience=tributary".to_owned(),
        "--auth-algorithm=HS256".to_owned(),
        key_file,
    ]
}

pub async fn with_authentication(home: &Home, more: &[&str]) -> Platform {
    let auth = flags(home.folder().path());
    let auth: Vec<&str> = auth.iter().map(String::as_str).collect();
    Platform::up_with(home, &[&auth[..], more].concat(), &[]).await.expect("the platform comes up")
}
