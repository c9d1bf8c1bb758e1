//! Tokens of every kind, right and wrong. They are signed here by hand: the platform issues none.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{Json, Router, extract::State, routing::get};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use events::principal::Principal;
use jsonwebtoken::Algorithm;
use ring::{
    hmac,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair},
};
use serde_json::{Value, json};

use super::{
    AuthError, Authenticator,
    config::{AuthConfig, KeySource},
    token::LEEWAY_SECONDS,
};

const SECRET: &[u8] = b"a secret that is long enough for a test, and no longer";
const ANA: &str = "0198c0de-0000-7000-8000-000000000001";

fn part(value: &Value) -> String {
    BASE64.encode(value.to_string())
}

fn signed(header: &Value, claims: &Value, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let message = format!("{}.{}", part(header), part(claims));
    let signature = sign(message.as_bytes());
    format!("{message}.{}", BASE64.encode(signature))
}

fn hs256(claims: &Value) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
    signed(&json!({ "alg": "HS256", "typ": "JWT" }), claims, |message| hmac::sign(&key, message).as_ref().to_vec())
}

fn now() -> i64 {
    chrono::Utc::now().timestamp()
}

/// Ana's claims, changed as wanted; null takes a claim away.
fn claims(changes: Value) -> Value {
    let mut claims = json!({
        "iss": "https://id.example.com", "aud": "tributary", "sub": "ana", "exp": now() + 600,
        "scope": "orders:read orders:write", "customer_id": ANA,
    });
    for (name, value) in changes.as_object().expect("an object") {
        claims[name] = value.clone();
    }
    claims.as_object_mut().expect("an object").retain(|_, value| !value.is_null());
    claims
}

async fn authenticator(algorithm: Algorithm, keys: KeySource) -> Authenticator {
    let (issuer, audience) = ("https://id.example.com".to_owned(), "tributary".to_owned());
    Authenticator::start(AuthConfig { issuer, audience, algorithm, keys }).await.expect("the keys can be used")
}

async fn with_secret() -> (tempfile::TempDir, Authenticator) {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("secret");
    std::fs::write(&file, [SECRET, b"\n"].concat()).expect("a file");
    let authenticator = authenticator(Algorithm::HS256, KeySource::Secret(file)).await;
    (dir, authenticator)
}

async fn ask(authenticator: &Authenticator, token: &str) -> Result<Principal, AuthError> {
    let value = format!("Bearer {token}").parse().expect("a header value");
    authenticator.principal(&axum::http::HeaderMap::from_iter([(axum::http::header::AUTHORIZATION, value)])).await
}

#[tokio::test]
async fn a_good_token_names_principal_customer_and_scopes() {
    let (_dir, authenticator) = with_secret().await;
    let ana = ask(&authenticator, &hs256(&claims(json!({})))).await.expect("a good token");
    assert_eq!((&**ana.name(), ana.customer().map(|id| id.to_string())), ("ana", Some(ANA.to_owned())));
    assert!(ana.may("orders:write") && ana.may("orders:read") && !ana.may("users:read"));
    let several = json!({ "aud": ["other", "tributary"], "scope": null, "scp": ["feed"], "customer_id": null });
    let program = ask(&authenticator, &hs256(&claims(several))).await.expect("a good token");
    assert!(program.may("feed") && program.customer().is_none());
    let late = json!({ "exp": now() - LEEWAY_SECONDS as i64 + 5 });
    assert!(ask(&authenticator, &hs256(&claims(late))).await.is_ok(), "clocks may differ a little");
}

#[tokio::test]
async fn a_token_that_does_not_count_says_why() {
    let (_dir, authenticator) = with_secret().await;
    let long_ago = now() - LEEWAY_SECONDS as i64 - 5;
    for (change, why) in [
        (json!({ "exp": long_ago }), "ended"),
        (json!({ "exp": null }), "lacks the claim exp"),
        (json!({ "exp": "tomorrow" }), "lacks the claim exp"),
        (json!({ "nbf": now() + 600 }), "does not count yet"),
        (json!({ "iss": "https://evil.example" }), "another issuer"),
        (json!({ "iss": null }), "lacks the claim iss"),
        (json!({ "aud": "billing" }), "another audience"),
        (json!({ "aud": null }), "lacks the claim aud"),
        (json!({ "sub": null }), "not of the type"),
        (json!({ "sub": "anonymous" }), "the subject must"),
        (json!({ "sub": "a\nb" }), "the subject must"),
        (json!({ "sub": 7 }), "not of the type"),
        (json!({ "customer_id": "7" }), "not of the type"),
        (json!({ "customer_id": "" }), "not of the type"),
        (json!({ "scope": 7 }), "not of the type"),
    ] {
        let error = ask(&authenticator, &hs256(&claims(change.clone()))).await.expect_err("refused").to_string();
        assert!(error.contains(why), "{change}: {error}");
    }
}

#[tokio::test]
async fn a_customer_whose_id_the_issuer_does_not_know_is_not_taken_for_staff() {
    let (_dir, authenticator) = with_secret().await;
    let mut nobody = claims(json!({}));
    nobody["customer_id"] = Value::Null;
    let error = ask(&authenticator, &hs256(&nobody)).await.expect_err("refused").to_string();
    assert!(error.contains("customer_id a UUID"), "{error}");
}

#[tokio::test]
async fn a_signature_that_is_not_the_issuers_never_counts() {
    let (_dir, authenticator) = with_secret().await;
    let good = hs256(&claims(json!({})));
    let (head, signature) = good.rsplit_once('.').expect("three parts");
    let other = hmac::Key::new(hmac::HMAC_SHA256, b"another secret of somebody who guesses well");
    let by_other =
        |header: Value| signed(&header, &claims(json!({})), |message| hmac::sign(&other, message).as_ref().to_vec());
    let changed =
        format!("{}.{}.{signature}", part(&json!({ "alg": "HS256" })), part(&claims(json!({ "sub": "eva" }))));
    for wrong in [
        String::new(),
        "x".to_owned(),
        "a.b.c".to_owned(),
        head.to_owned(),
        format!("{head}."),
        changed,
        by_other(json!({ "alg": "HS256" })),
        by_other(json!({ "alg": "none" })),
        by_other(json!({ "alg": "HS512" })),
        signed(&json!({ "alg": "none" }), &claims(json!({})), |_| Vec::new()),
        format!("{}.{}", good, "x".repeat(9_000)),
    ] {
        assert!(ask(&authenticator, &wrong).await.is_err(), "{wrong}");
    }
    assert!(ask(&authenticator, &good).await.is_ok());
}

/// A key pair on the curve P-256 with its JWK.
fn p256(id: &str) -> (EcdsaKeyPair, Value) {
    let random = SystemRandom::new();
    let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).expect("a key");
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, made.as_ref(), &random).expect("a key");
    let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
    let (x, y) = (BASE64.encode(x), BASE64.encode(y));
    let jwk = json!({ "kty": "EC", "crv": "P-256", "kid": id, "use": "sig", "alg": "ES256", "x": x, "y": y });
    (pair, jwk)
}

fn es256(pair: &EcdsaKeyPair, id: &str) -> String {
    let random = SystemRandom::new();
    signed(&json!({ "alg": "ES256", "kid": id }), &claims(json!({})), |message| {
        pair.sign(&random, message).expect("a signature").as_ref().to_vec()
    })
}

fn key_set_file(dir: &tempfile::TempDir, keys: &[&Value]) -> PathBuf {
    let file = dir.path().join("keys.json");
    std::fs::write(&file, json!({ "keys": keys }).to_string()).expect("a file");
    file
}

#[tokio::test]
async fn a_key_is_found_in_a_set_by_its_id_and_for_its_algorithm_only() {
    let dir = tempfile::tempdir().expect("a directory");
    let ((one, one_jwk), (two, two_jwk), (stranger, _)) = (p256("one"), p256("two"), p256("three"));
    let shared = json!({ "kty": "oct", "kid": "shared", "k": BASE64.encode(SECRET) });
    let file = key_set_file(&dir, &[&one_jwk, &two_jwk, &shared]);
    let authenticator = authenticator(Algorithm::ES256, KeySource::JwksFile(file)).await;
    assert!(ask(&authenticator, &es256(&one, "one")).await.is_ok());
    assert!(ask(&authenticator, &es256(&two, "two")).await.is_ok());
    for wrong in [es256(&one, "two"), es256(&stranger, "three"), hs256(&claims(json!({})))] {
        assert!(ask(&authenticator, &wrong).await.is_err());
    }
}

#[tokio::test]
async fn a_public_key_is_never_taken_for_a_shared_secret() {
    // whoever signs with the public key as if it were a secret must not get in
    let dir = tempfile::tempdir().expect("a directory");
    let (pair, jwk) = p256("one");
    let authenticator = authenticator(Algorithm::ES256, KeySource::JwksFile(key_set_file(&dir, &[&jwk]))).await;
    let key = hmac::Key::new(hmac::HMAC_SHA256, pair.public_key().as_ref());
    let sign = |message: &[u8]| hmac::sign(&key, message).as_ref().to_vec();
    for algorithm in ["HS256", "ES256"] {
        let token = signed(&json!({ "alg": algorithm, "kid": "one" }), &claims(json!({})), sign);
        assert!(ask(&authenticator, &token).await.is_err(), "{algorithm}");
    }
}

#[tokio::test]
async fn ed25519_keys_and_pem_files_work_too() {
    let dir = tempfile::tempdir().expect("a directory");
    let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key");
    let pair = Ed25519KeyPair::from_pkcs8(made.as_ref()).expect("a key");
    // RFC 8410: a SubjectPublicKeyInfo of Ed25519 is these twelve bytes and the key
    let head = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
    let der = [&head[..], pair.public_key().as_ref()].concat();
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let file = dir.path().join("key.pem");
    std::fs::write(&file, format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n")).expect("a file");
    let authenticator = authenticator(Algorithm::EdDSA, KeySource::Pem(file)).await;
    let token = signed(&json!({ "alg": "EdDSA" }), &claims(json!({})), |message| pair.sign(message).as_ref().to_vec());
    assert!(ask(&authenticator, &token).await.is_ok());
    let changed = token.replacen("eyJ", "eyK", 1);
    assert!(ask(&authenticator, &changed).await.is_err());
}

#[tokio::test]
async fn keys_that_cannot_be_used_are_said_at_the_start() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("key");
    let start = async |keys: KeySource, algorithm: Algorithm| {
        let (issuer, audience) = ("i".to_owned(), "a".to_owned());
        let started = Authenticator::start(AuthConfig { issuer, audience, algorithm, keys }).await;
        started.err().expect("refused").to_string()
    };
    assert!(start(KeySource::Secret(file.clone()), Algorithm::HS256).await.contains("read the key file"));
    std::fs::write(&file, "too short\n").expect("a file");
    assert!(start(KeySource::Secret(file.clone()), Algorithm::HS256).await.contains("9 bytes"));
    assert!(start(KeySource::Pem(file.clone()), Algorithm::RS256).await.contains("no public key in PEM"));
    assert!(start(KeySource::JwksFile(file.clone()), Algorithm::RS256).await.contains("no key set"));
    std::fs::write(&file, json!({ "keys": [p256("one").1] }).to_string()).expect("a file");
    assert!(start(KeySource::JwksFile(file), Algorithm::RS256).await.contains("none of its 1 keys"));
}

/// An issuer's key set behind HTTP, and how often it was asked for.
#[derive(Clone, Default)]
struct Issuer {
    set: Arc<Mutex<Value>>,
    asked: Arc<AtomicUsize>,
    /// How long it takes to answer.
    wait_ms: Arc<AtomicU64>,
}

impl Issuer {
    async fn listen(&self) -> String {
        let keys = async |State(issuer): State<Issuer>| {
            issuer.asked.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(issuer.wait_ms.load(Ordering::SeqCst))).await;
            Json(issuer.set.lock().expect("no panic").clone())
        };
        let router = Router::new().route("/keys", get(keys)).with_state(self.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/keys", listener.local_addr().expect("an address"));
        tokio::spawn(axum::serve(listener, router).into_future());
        url
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn has(&self, keys: &[&Value]) {
        *self.set.lock().expect("no panic") = json!({ "keys": keys });
    }

    fn takes(&self, time: Duration) {
        self.wait_ms.store(u64::try_from(time.as_millis()).expect("a short time"), Ordering::SeqCst);
    }
}

/// An authenticator that has the keys of `issuer`.
async fn with_keys_of(issuer: &Issuer) -> Authenticator {
    authenticator(Algorithm::ES256, KeySource::JwksUrl(issuer.listen().await)).await
}

#[tokio::test]
async fn an_unknown_key_is_asked_for_once_in_a_while_and_not_with_every_token() {
    let issuer = Issuer::default();
    let ((one, one_jwk), (two, two_jwk)) = (p256("one"), p256("two"));
    issuer.has(&[&one_jwk]);
    let authenticator = with_keys_of(&issuer).await;
    assert_eq!(issuer.asked(), 1, "asked at the start");
    for _ in 0..20 {
        ask(&authenticator, &es256(&one, "one")).await.expect("a good token");
        ask(&authenticator, &es256(&two, "made-up")).await.expect_err("not known");
    }
    assert_eq!(issuer.asked(), 1, "not within the time in which it was just asked");
    issuer.has(&[&two_jwk]);
    super::keys::let_time_pass(&authenticator.keys, super::keys::REFETCH_MIN).await;
    let (token, again) = (es256(&two, "two"), es256(&two, "two"));
    let (first, second) = tokio::join!(ask(&authenticator, &token), ask(&authenticator, &again));
    assert!(first.is_ok() && second.is_ok(), "the key that came since is found");
    assert_eq!(issuer.asked(), 2, "once for both");
    assert!(ask(&authenticator, &es256(&one, "one")).await.is_err(), "the key that was taken back is gone");
}

#[tokio::test]
async fn an_issuer_that_was_never_reached_is_our_trouble_and_not_the_bearers() {
    let authenticator = authenticator(Algorithm::ES256, KeySource::JwksUrl("http://127.0.0.1:1/keys".to_owned())).await;
    let error = ask(&authenticator, &es256(&p256("one").0, "one")).await.expect_err("no keys");
    assert_eq!(super::refused(&error).status.as_u16(), 503);
}

/// Else whoever makes up a key id and hangs up, twice a minute, would keep everybody from a new key.
#[tokio::test]
async fn who_hangs_up_does_not_take_the_new_keys_with_them() {
    let issuer = Issuer::default();
    let ((_, one_jwk), (two, two_jwk)) = (p256("one"), p256("two"));
    issuer.has(&[&one_jwk]);
    let authenticator = with_keys_of(&issuer).await;
    issuer.has(&[&two_jwk]);
    issuer.takes(Duration::from_millis(300));
    super::keys::let_time_pass(&authenticator.keys, super::keys::REFETCH_MIN).await;
    let token = es256(&two, "two");
    let hung_up = tokio::time::timeout(Duration::from_millis(50), ask(&authenticator, &token)).await;
    assert!(hung_up.is_err(), "the issuer is slower");
    assert!(ask(&authenticator, &token).await.is_ok(), "the next one gets what the first one asked for");
    assert_eq!(issuer.asked(), 2);
}

#[tokio::test]
async fn an_issuer_that_fails_holds_up_nobody_whose_key_is_known_and_refuses_no_other() {
    let issuer = Issuer::default();
    let ((one, one_jwk), (two, _)) = (p256("one"), p256("two"));
    issuer.has(&[&one_jwk]);
    let authenticator = with_keys_of(&issuer).await;
    issuer.has(&[]);
    issuer.takes(Duration::from_secs(60));
    super::keys::let_time_pass(&authenticator.keys, super::keys::KEEP_MAX).await;
    let started = Instant::now();
    assert!(ask(&authenticator, &es256(&one, "one")).await.is_ok(), "the key that is known goes on to count");
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());

    issuer.takes(Duration::ZERO);
    let authenticator = with_keys_of(&issuer).await;
    for _ in 0..2 {
        let error = ask(&authenticator, &es256(&two, "two")).await.expect_err("nobody can say");
        assert_eq!(super::refused(&error).status.as_u16(), 503, "{error}");
    }
    issuer.has(&[&one_jwk]);
    super::keys::let_time_pass(&authenticator.keys, super::keys::REFETCH_MIN).await;
    assert!(ask(&authenticator, &es256(&one, "one")).await.is_ok());
    issuer.has(&[]);
    super::keys::let_time_pass(&authenticator.keys, super::keys::REFETCH_MIN).await;
    for _ in 0..2 {
        let error = ask(&authenticator, &es256(&two, "two")).await.expect_err("nobody can say");
        assert_eq!(super::refused(&error).status.as_u16(), 503, "{error}");
    }
    assert!(ask(&authenticator, &es256(&one, "one")).await.is_ok());
}
