//! Requests to the router, without a socket.
#![allow(dead_code, reason = "each test file uses its part")]

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{HeaderMap, HeaderName, Method, Request, StatusCode, header, request::Builder},
};
use events::principal::Principal;
use graphql::GraphqlOptions;
use read_side::ReadSide;
use serde_json::Value;
use tower::ServiceExt;

/// The router over one query database.
#[derive(Clone)]
pub struct Endpoint {
    router: Router,
    by: Principal,
}

impl Endpoint {
    /// Over a query database that nobody has made yet.
    pub fn new() -> Self {
        Self::with(GraphqlOptions::default())
    }

    pub fn with(options: GraphqlOptions) -> Self {
        Self::over(ReadSide::connect_sqlite("no-such-directory"), options)
    }

    pub fn over(read: ReadSide, options: GraphqlOptions) -> Self {
        Self { router: graphql::router(read, options), by: Principal::anonymous() }
    }

    /// The same for somebody else.
    pub fn by(&self, principal: Principal) -> Self {
        Self { router: self.router.clone(), by: principal }
    }

    /// A request as it is.
    pub async fn send(&self, request: Request<Body>) -> Answer {
        answer(self.router.clone(), request).await
    }

    pub fn request(&self, method: Method, path: &str) -> Asked {
        let builder = Request::builder().method(method).uri(path).extension(self.by.clone());
        Asked { router: self.router.clone(), builder, body: Body::empty() }
    }

    pub fn post(&self, body: &Value) -> Asked {
        self.post_as(Some("application/json"), body.to_string())
    }

    pub fn post_as(&self, content_type: Option<&str>, body: String) -> Asked {
        let mut asked = self.request(Method::POST, "/graphql");
        asked.body = body.into();
        match content_type {
            Some(content_type) => asked.header(header::CONTENT_TYPE, content_type),
            None => asked,
        }
    }

    pub fn get(&self, pairs: &[(&str, &str)]) -> Asked {
        let pair = |(name, value): &(&str, &str)| format!("{name}={}", percent_encoded(value));
        let query: Vec<_> = pairs.iter().map(pair).collect();
        self.request(Method::GET, &format!("/graphql?{}", query.join("&")))
    }

    /// The data of a query that must not fail.
    pub async fn data(&self, query: &str) -> Value {
        let answer = self.post(&serde_json::json!({ "query": query })).send().await;
        let json = answer.json();
        assert_eq!((answer.status, &json["errors"]), (StatusCode::OK, &Value::Null), "{query}");
        json["data"].clone()
    }
}

fn percent_encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

/// A request that is being written.
pub struct Asked {
    router: Router,
    builder: Builder,
    body: Body,
}

impl Asked {
    pub fn header(mut self, name: HeaderName, value: &str) -> Self {
        self.builder = self.builder.header(name, value);
        self
    }

    pub async fn send(self) -> Answer {
        answer(self.router, self.builder.body(self.body).unwrap()).await
    }
}

async fn answer(router: Router, request: Request<Body>) -> Answer {
    let response = router.oneshot(request).await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    let body = to_bytes(response.into_body(), usize::MAX).await.unwrap().to_vec();
    Answer { status, headers, body }
}

#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> String {
        self.headers.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the answer is JSON")
    }

    /// The code of the first error.
    pub fn code(&self) -> String {
        self.json()["errors"][0]["extensions"]["code"].as_str().unwrap_or_default().to_owned()
    }

    /// Nothing ran: status, code, and no `data`.
    #[track_caller]
    pub fn is_refused(&self, status: StatusCode, code: &str) {
        let json = self.json();
        assert_eq!((self.status, self.code().as_str()), (status, code), "{json}");
        assert!(json.get("data").is_none(), "{json}");
        assert!(json["errors"][0]["message"].as_str().is_some_and(|message| !message.is_empty()), "{json}");
    }
}
