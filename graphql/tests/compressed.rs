//! Long answers are compressed for whoever takes that, and short ones for nobody.

mod support;

use std::io::Read;

use axum::http::header;
use serde_json::{Value, json};
use support::{Answer, Endpoint};

async fn ask(query: &str, takes: &str) -> Answer {
    let request = Endpoint::new().post(&json!({ "query": query }));
    request.header(header::ACCEPT_ENCODING, takes).send().await
}

const LONG: &str = include_str!("support/introspection.graphql");

#[tokio::test]
async fn a_long_answer_is_compressed_as_the_client_likes_best() {
    let plain = ask(LONG, "identity").await;
    assert_eq!(plain.header("content-encoding"), "");
    assert!(plain.body.len() > 10_000, "{} bytes", plain.body.len());
    for (takes, sent) in [
        ("gzip", "gzip"),
        ("br", "br"),
        ("gzip, deflate, br", "br"),
        ("gzip;q=1, br;q=0.5", "gzip"),
        ("deflate", ""),
        ("zstd", ""),
        ("gzip;q=0", ""),
    ] {
        let answer = ask(LONG, takes).await;
        assert_eq!(answer.header("content-encoding"), sent, "{takes}");
        assert!(answer.headers.get_all(header::VARY).iter().any(|vary| vary == "accept-encoding"), "{takes}");
        if sent.is_empty() {
            assert_eq!(answer.body, plain.body);
        } else {
            let (compressed, whole) = (answer.body.len(), plain.body.len());
            assert!(compressed * 4 < whole, "{takes}: {compressed} of {whole} bytes");
        }
        if sent == "gzip" {
            let mut text = String::new();
            flate2::read::GzDecoder::new(answer.body.as_slice()).read_to_string(&mut text).unwrap();
            assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), plain.json());
        }
    }
}

#[tokio::test]
async fn a_short_answer_is_sent_as_it_is() {
    let answer = ask("{ __typename }", "gzip, br").await;
    assert_eq!(
        (answer.header("content-encoding"), answer.json()["data"]["__typename"].clone()),
        (String::new(), json!("Query"))
    );
}
