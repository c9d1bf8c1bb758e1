//! The platform's HTTP API as the importer uses it: every request is repeated, with the same key, until it is answered.

use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use events::consistency::{ConsistencyToken, TOKEN_HEADER, WAIT_HEADER};
use reqwest::{RequestBuilder, StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::mapping::Command;
use crate::cli::Target;

/// How long one request is repeated: outlasts a restart of the platform, and ends.
pub const RETRY_FOR_MAX: Duration = Duration::from_secs(60);

/// The first pause before a repetition; it doubles up to `PAUSE_MAX`.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// An answer that takes longer than this is one that got lost.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(30);
const CONNECT_WAIT_MAX: Duration = Duration::from_secs(5);

/// What the platform is asked to wait for a token before it says that it is not there yet.
const CONSISTENCY_WAIT: &str = "2s";

/// Conflicts (409) that pass: a twin of the request is under way, or others write to the same stream.
const TRANSIENT_CONFLICTS: [&str; 2] = ["idempotency_key_busy", "contended"];

/// On answers that were given before, for the same key.
const REPLAYED_HEADER: &str = "idempotency-replayed";

pub struct Client {
    http: reqwest::Client,
    base: String,
}

/// What a service made of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Done, now or (`changed` = false) before.
    Done { token: ConsistencyToken, changed: bool },
    /// The rules are against it; asking again would not change that.
    Refused { code: String, reason: String },
}

/// One attempt.
enum Attempt<T> {
    Answered(T),
    /// Later, perhaps: the reason.
    Again(String),
}

/// What an answer says of a command that is done.
#[derive(Deserialize)]
struct Done {
    changed: bool,
}

/// An RFC 9457 problem, as far as a report needs it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Problem {
    code: String,
    title: String,
    detail: String,
    errors: Vec<FieldError>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct FieldError {
    pointer: String,
    detail: String,
}

impl Client {
    /// Makes sure that something answers there, so that a wrong address is said at once and not after a minute.
    pub async fn connect(target: &Target) -> anyhow::Result<Self> {
        let url = &*target.url;
        ensure!(url.starts_with("http://"), "--url: {url} is not an http:// address");
        let http = target
            .http()?
            .connect_timeout(CONNECT_WAIT_MAX)
            .timeout(ANSWER_WAIT_MAX)
            // the platform listens on loopback: a proxy of the environment is not meant for it
            .no_proxy()
            .build()
            .context("make an HTTP client")?;
        let client = Self { http, base: url.trim_end_matches('/').to_owned() };
        let answer = client.http.get(format!("{}/livez", client.base)).send().await;
        let answer = answer.with_context(|| format!("nothing answers at {url}; start the platform: tributary up"))?;
        ensure!(
            answer.status().is_success(),
            "{url}/livez answered {}: is this a Tributary platform?",
            answer.status()
        );
        Ok(client)
    }

    /// Sends a command behind everything that `token` names.
    pub async fn send(&self, command: &Command, token: &ConsistencyToken) -> anyhow::Result<Outcome> {
        let what = || format!("POST {} with key {}", command.path, command.key);
        repeat(RETRY_FOR_MAX, || self.send_once(command, token)).await.with_context(what)
    }

    /// Answers a GraphQL query's `data` as of `token`, trying for `retry_for`.
    pub async fn query(
        &self,
        query: &str,
        variables: &Value,
        token: &ConsistencyToken,
        retry_for: Duration,
    ) -> anyhow::Result<Value> {
        repeat(retry_for, || self.query_once(query, variables, token)).await.context("POST /graphql")
    }

    async fn send_once(&self, command: &Command, token: &ConsistencyToken) -> anyhow::Result<Attempt<Outcome>> {
        let request = self.http.post(format!("{}{}", self.base, command.path)).json(&command.body);
        let request = with_token(request, token).header("idempotency-key", &command.key);
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) => return lost(error),
        };
        let status = answer.status();
        let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok());
        let token = header(TOKEN_HEADER).map(str::to_owned);
        let replayed = header(REPLAYED_HEADER) == Some("true");
        let text = match answer.text().await {
            Ok(text) => text,
            Err(error) => return lost(error),
        };
        if status.is_success() {
            let token = token.context("the answer carries no Consistency-Token")?.parse()?;
            let Done { changed } = serde_json::from_str(&text).context("the answer does not say what it changed")?;
            // known by its key, or, when that has expired, by what is there
            return Ok(Attempt::Answered(Outcome::Done { token, changed: changed && !replayed }));
        }
        let problem = Problem::from_answer(status, &text);
        if is_transient(status) || TRANSIENT_CONFLICTS.contains(&problem.code.as_str()) {
            return Ok(Attempt::Again(problem.reason()));
        }
        // what the rules refuse; anything else is a fault of this program or of the platform, and ends the import
        let refused = [
            StatusCode::BAD_REQUEST,
            StatusCode::NOT_FOUND,
            StatusCode::PRECONDITION_FAILED,
            StatusCode::PAYLOAD_TOO_LARGE,
            StatusCode::UNPROCESSABLE_ENTITY,
        ];
        ensure!(refused.contains(&status), "{status}: {}", problem.reason());
        Ok(Attempt::Answered(Outcome::Refused { reason: problem.reason(), code: problem.code }))
    }

    async fn query_once(
        &self,
        query: &str,
        variables: &Value,
        token: &ConsistencyToken,
    ) -> anyhow::Result<Attempt<Value>> {
        let request = self.http.post(format!("{}/graphql", self.base));
        let request = request.header(header::ACCEPT, "application/graphql-response+json, application/json;q=0.9");
        let request = with_token(request, token).json(&json!({"query": query, "variables": variables}));
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) => return lost(error),
        };
        let status = answer.status();
        let text = match answer.text().await {
            Ok(text) => text,
            Err(error) => return lost(error),
        };
        let body: Value = match serde_json::from_str(&text) {
            Ok(body) => body,
            Err(_) if is_transient(status) => return Ok(Attempt::Again(status.to_string())),
            Err(error) => return Err(error).with_context(|| format!("the answer ({status}) is not JSON")),
        };
        if let Some(error) = body["errors"].get(0) {
            let message = error["message"].as_str().unwrap_or("an error without a message").to_owned();
            if is_transient(status) || error["extensions"]["retryable"] == true {
                return Ok(Attempt::Again(message));
            }
            bail!("{status}: {message}");
        }
        match body.get("data") {
            Some(data) if status.is_success() => Ok(Attempt::Answered(data.clone())),
            _ if is_transient(status) => Ok(Attempt::Again(Problem::from_answer(status, &text).reason())),
            _ => bail!("{}", Problem::from_answer(status, &text).reason()),
        }
    }
}

/// Repeats an attempt with growing pauses until it is answered, fails for good, or `retry_for` is over.
async fn repeat<T>(
    retry_for: Duration,
    mut attempt: impl AsyncFnMut() -> anyhow::Result<Attempt<T>>,
) -> anyhow::Result<T> {
    let give_up_at = Instant::now() + retry_for;
    let mut pause = PAUSE_MIN;
    loop {
        match attempt().await? {
            Attempt::Answered(answer) => return Ok(answer),
            Attempt::Again(reason) if Instant::now() + pause > give_up_at => {
                return Err(anyhow!("{reason}").context(format!("gave up after {} s", retry_for.as_secs())));
            }
            Attempt::Again(_) => sleep(pause).await,
        }
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

fn with_token(request: RequestBuilder, token: &ConsistencyToken) -> RequestBuilder {
    if token.is_empty() {
        return request;
    }
    request.header(TOKEN_HEADER, token.to_string()).header(WAIT_HEADER, CONSISTENCY_WAIT)
}

/// A request without an answer. Whether it had an effect is settled by its key.
fn lost<T>(error: reqwest::Error) -> anyhow::Result<Attempt<T>> {
    if error.is_builder() {
        return Err(error.into());
    }
    let mut reason = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        reason = format!("{reason}: {error}");
        cause = error.source();
    }
    Ok(Attempt::Again(reason))
}

/// Answers that say "later": overload, a restart, a replica on its way.
fn is_transient(status: StatusCode) -> bool {
    [
        StatusCode::REQUEST_TIMEOUT,
        StatusCode::TOO_MANY_REQUESTS,
        StatusCode::BAD_GATEWAY,
        StatusCode::SERVICE_UNAVAILABLE,
        StatusCode::GATEWAY_TIMEOUT,
    ]
    .contains(&status)
}

impl Problem {
    fn from_answer(status: StatusCode, text: &str) -> Self {
        let mut problem: Self = serde_json::from_str(text).unwrap_or_default();
        if problem.code.is_empty() {
            problem.code = format!("http_{}", status.as_u16());
        }
        if problem.title.is_empty() && problem.detail.is_empty() {
            problem.detail = status.to_string();
        }
        problem
    }

    fn reason(&self) -> String {
        let mut reason = if self.detail.is_empty() { self.title.clone() } else { self.detail.clone() };
        for error in &self.errors {
            reason = format!("{reason}; {}: {}", error.pointer, error.detail);
        }
        reason
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::VecDeque,
        sync::{Arc, Mutex},
    };

    use axum::{
        Router,
        extract::State,
        http::HeaderMap,
        response::{IntoResponse, Response},
        routing::{get, post},
    };

    use super::*;

    const TOKEN: &str = "users:9f1c2ab34d5e:7:77aa01bc23de";

    /// Answers in turn, and remembers the keys they were asked with. Stands for a network and a restart, which the
    /// platform cannot be told to have at the right moment.
    #[derive(Clone, Default)]
    struct Script {
        answers: Arc<Mutex<VecDeque<(u16, &'static str)>>>,
        keys: Arc<Mutex<Vec<String>>>,
    }

    async fn answer(State(script): State<Script>, headers: HeaderMap) -> Response {
        let key = headers["idempotency-key"].to_str().unwrap().to_owned();
        script.keys.lock().unwrap().push(key);
        let (status, body) = script.answers.lock().unwrap().pop_front().unwrap();
        assert_ne!(status, 0, "the connection is cut");
        (StatusCode::from_u16(status).unwrap(), [(TOKEN_HEADER, TOKEN)], body).into_response()
    }

    async fn send(answers: &[(u16, &'static str)]) -> (anyhow::Result<Outcome>, Vec<String>) {
        let script = Script::default();
        script.answers.lock().unwrap().extend(answers);
        let router = Router::new().route("/livez", get(|| async {})).route("/users", post(answer));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(axum::serve(listener, router.with_state(script.clone())).into_future());
        let client = Client::connect(&Target { url, token: None }).await.unwrap();
        let command = Command { path: "/users".to_owned(), key: "northwind-customer-1".to_owned(), body: json!({}) };
        let outcome = client.send(&command, &ConsistencyToken::default()).await;
        server.abort();
        let keys = script.keys.lock().unwrap().clone();
        (outcome, keys)
    }

    #[tokio::test]
    async fn a_request_is_repeated_with_the_same_key_until_it_is_answered() {
        let busy = r#"{"code": "idempotency_key_busy", "detail": "still under way"}"#;
        let cut = (0, "");
        let (outcome, keys) = send(&[(503, "restarting"), cut, (409, busy), (201, r#"{"changed": true}"#)]).await;
        assert_eq!(outcome.unwrap(), Outcome::Done { token: TOKEN.parse().unwrap(), changed: true });
        assert_eq!(keys, ["northwind-customer-1"; 4]);
    }

    #[tokio::test]
    async fn a_refusal_is_taken_at_its_word() {
        let refusal =
            r#"{"code": "invalid", "detail": "two fields", "errors": [{"pointer": "/name", "detail": "is empty"}]}"#;
        let (outcome, keys) = send(&[(422, refusal)]).await;
        let reason = "two fields; /name: is empty".to_owned();
        assert_eq!(outcome.unwrap(), Outcome::Refused { code: "invalid".to_owned(), reason });
        assert_eq!(keys.len(), 1);
    }

    #[tokio::test]
    async fn what_was_there_before_is_not_new() {
        let (outcome, _) = send(&[(200, r#"{"changed": false}"#)]).await;
        assert_eq!(outcome.unwrap(), Outcome::Done { token: TOKEN.parse().unwrap(), changed: false });
    }

    #[tokio::test]
    async fn faults_and_lost_consistency_end_the_import_at_once() {
        for (status, body, said) in [
            (500, r#"{"code": "internal", "detail": "our bug"}"#, "our bug"),
            (409, r#"{"code": "consistency_lost", "detail": "restored"}"#, "restored"),
            (201, "{}", "does not say what it changed"),
        ] {
            let (outcome, keys) = send(&[(status, body)]).await;
            let error = format!("{:#}", outcome.unwrap_err());
            assert!(error.contains(said) && error.contains("POST /users with key northwind-customer-1"), "{error}");
            assert_eq!(keys.len(), 1);
        }
    }

    #[tokio::test]
    async fn a_platform_that_is_not_there_is_said_at_once() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let error = Client::connect(&Target { url, token: None }).await.err().unwrap().to_string();
        assert!(error.contains("nothing answers") && error.contains("tributary up"), "{error}");
        let wrong = Target { url: "127.0.0.1:8080".to_owned(), token: None };
        assert!(Client::connect(&wrong).await.is_err());
    }
}
