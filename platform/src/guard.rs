//! What stands before every route: a bound on requests at once, and a guard against browsers on this machine.
//!
//! Loopback keeps other machines out, but not the pages that a browser here has open. Such a page can reach us by a name
//! that it makes point to 127.0.0.1 (the `Host` then names another site), or by posting across origins (then `Origin`
//! does). Both are refused.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use measures::{Counts, Kind, Level};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use write_side::edge::Problem;

use crate::door::Door;

/// Requests under way at once, long polls of feeds included: each may hold a body of 1 MiB. More are told to come again.
const REQUESTS_MAX: usize = 1_024;

/// The requests of a process.
#[derive(Debug)]
pub struct Requests {
    room: Semaphore,
    pub under_way: Level,
    pub answered: Counts<Class>,
}

impl Default for Requests {
    fn default() -> Self {
        Self { room: Semaphore::new(REQUESTS_MAX), under_way: Level::default(), answered: Counts::default() }
    }
}

/// Where a process says that it lives. There is always room for that: who has much to do is not dead.
const LIVENESS: &str = "/livez";

/// Sheds what would not fit, before anything of it is read.
pub async fn bounded(State(requests): State<Arc<Requests>>, request: Request, next: Next) -> Response {
    let _under_way = requests.under_way.enter();
    let room = requests.room.try_acquire();
    let response = if room.is_ok() || request.uri().path() == LIVENESS {
        next.run(request).await
    } else {
        Problem::overloaded(format!("more than {REQUESTS_MAX} requests are under way; try again")).into_response()
    };
    drop(room);
    requests.answered.one_more(Class::of(response.status()));
    response
}

/// What an answer's status begins with.
#[derive(Debug, Clone, Copy)]
pub enum Class {
    Informational,
    Success,
    Redirection,
    CallersFault,
    OurFault,
}

impl Class {
    fn of(status: StatusCode) -> Self {
        match status.as_u16() {
            ..200 => Self::Informational,
            200..300 => Self::Success,
            300..400 => Self::Redirection,
            400..500 => Self::CallersFault,
            500.. => Self::OurFault,
        }
    }
}

impl Kind for Class {
    const ALL: &'static [Self] =
        &[Self::Informational, Self::Success, Self::Redirection, Self::CallersFault, Self::OurFault];

    fn index(self) -> usize {
        self as usize
    }

    fn name(self) -> &'static str {
        match self {
            Self::Informational => "1xx",
            Self::Success => "2xx",
            Self::Redirection => "3xx",
            Self::CallersFault => "4xx",
            Self::OurFault => "5xx",
        }
    }
}

/// How long requests go on once the end was asked for. What is under way then is waiting for something: for a token, or
/// for a database.
const CLOSING_WAIT: Duration = Duration::from_secs(3);

/// Answers whoever still waits when the platform is about to end. What a command has begun goes on without its request.
pub async fn until_closing(State(closing): State<CancellationToken>, request: Request, next: Next) -> Response {
    let late = async {
        closing.cancelled().await;
        tokio::time::sleep(CLOSING_WAIT).await;
    };
    tokio::select! {
        response = next.run(request) => response,
        () = late => {
            let detail = "the platform is ending; whether a command took effect is not known: send it again with its key";
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "shutting_down", detail).retry_after(1).into_response()
        }
    }
}

/// Set by a gateway that asks for tokens on what it passes on. It says nothing of who asks, and gives nobody a right.
pub const TOKENS_ASKED_FOR: HeaderName = HeaderName::from_static("tributary-asks-for-tokens");

/// Refuses requests that were not meant for this machine by someone on it. With authentication nobody needs the guard: a
/// page of another site has no token, and none is sent by itself.
///
/// `Host` is what the caller says it is. So who checks no token does not answer whoever comes by way of a gateway that does,
/// or shows a token: both take it for a process that would look at it.
pub async fn local_only(State(door): State<Door>, request: Request, next: Next) -> Response {
    if door.authenticator.is_some() {
        return next.run(request).await;
    }
    if [TOKENS_ASKED_FOR, header::AUTHORIZATION].iter().any(|name| request.headers().contains_key(name)) {
        let detail = "this process checks no tokens, so it answers nobody who shows one or comes from a gateway that asks \
                      for them: start it with the --auth flags of the others, or send no token";
        return Problem::new(StatusCode::FORBIDDEN, "tokens_not_checked", detail).into_response();
    }
    match refusal(request.headers()) {
        Some(detail) => Problem::new(StatusCode::FORBIDDEN, "not_local", detail).into_response(),
        None => next.run(request).await,
    }
}

fn refusal(headers: &HeaderMap) -> Option<&'static str> {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    if text(header::HOST).is_some_and(|host| !is_local(host)) {
        return Some("the Host header names another machine: use 127.0.0.1 or localhost");
    }
    let origin = text(header::ORIGIN)?;
    let host = origin.split_once("://").map_or(origin, |(_, host)| host);
    (!is_local(host)).then_some("pages of other origins may not use this platform")
}

fn is_local(authority: &str) -> bool {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use axum::{Router, body::Body, middleware::from_fn_with_state, routing::get};
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn a_full_process_still_says_that_it_lives() {
        let requests = Arc::new(Requests::default());
        let router = Router::new()
            .route("/livez", get(async || "ok"))
            .route("/work", get(async || "ok"))
            .layer(from_fn_with_state(Arc::clone(&requests), bounded));
        let status = async |path: &str| {
            let asked = Request::get(path).body(Body::empty()).expect("a request");
            router.clone().oneshot(asked).await.map(|answer| answer.status().as_u16())
        };
        let full = requests.room.acquire_many(REQUESTS_MAX as u32).await.expect("it is never closed");
        assert_eq!((status("/livez").await, status("/work").await), (Ok(200), Ok(503)));
        drop(full);
        assert_eq!(status("/work").await, Ok(200));
    }

    #[test]
    fn names_of_this_machine_are_local_and_no_others() {
        for local in ["127.0.0.1:8080", "localhost", "LOCALHOST:1", "[::1]:8080", "[::1]", "127.0.0.9"] {
            assert!(is_local(local), "{local}");
        }
        for foreign in ["example.org", "localhost.example.org:80", "10.0.0.1:8080", "127.0.0.1.nip.example", "null", ""]
        {
            assert!(!is_local(foreign), "{foreign}");
        }
    }

    #[tokio::test]
    async fn who_checks_no_tokens_answers_nobody_who_relies_on_that() {
        let router =
            Router::new().route("/", get(async || "ok")).layer(from_fn_with_state(Door::default(), local_only));
        let status = async |name: HeaderName, value: &str| {
            let asked = Request::get("/").header(header::HOST, "localhost").header(name, value).body(Body::empty());
            router.clone().oneshot(asked.expect("a request")).await.map(|answer| answer.status().as_u16())
        };
        assert_eq!(status(header::ACCEPT, "text/plain").await, Ok(200));
        assert_eq!(status(header::AUTHORIZATION, "Bearer x").await, Ok(403));
        assert_eq!(status(TOKENS_ASKED_FOR, "1").await, Ok(403));
    }

    #[test]
    fn a_foreign_host_or_origin_is_refused() {
        let refused = |name, value: &'static str| {
            refusal(&HeaderMap::from_iter([(name, value.parse().expect("a header value"))])).is_some()
        };
        assert!(refused(header::HOST, "evil.example:8080"));
        assert!(refused(header::ORIGIN, "https://evil.example"));
        assert!(refused(header::ORIGIN, "null"));
        assert!(!refused(header::ORIGIN, "http://127.0.0.1:8080"));
        assert!(!refused(header::HOST, "localhost:8080"));
    }
}
