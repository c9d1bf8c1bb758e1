//! What one request carries to its resolvers.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use async_graphql::{
    Response, ServerError,
    extensions::{Extension, ExtensionContext, ExtensionFactory, NextExecute},
};
use axum::http::HeaderMap;
use events::consistency::{ConsistencyToken, HeaderError, TOKEN_HEADER, WAIT_HEADER, from_headers};
use read_side::{Consistency, freshness::Witness};
use tokio::sync::{Mutex, MutexGuard};
use uuid::Uuid;

use crate::errors::{code, coded};

/// The headers that name a request across services; the first counts most.
const CORRELATION_HEADERS: [&str; 2] = ["x-correlation-id", "x-request-id"];

/// The longest correlation id that is taken over.
const CORRELATION_CHARS_MAX: usize = 128;

/// What one request carries to its resolvers.
#[derive(Debug)]
pub(crate) struct RequestState {
    /// The caller's correlation id, or one that is made when it is wanted.
    trace_id: OnceLock<String>,
    pub(crate) token: ConsistencyToken,
    /// Is told how fresh the answers are that fields read.
    pub(crate) witness: Witness,
    /// When the last wait for the token ends. One instant for the whole request: fields that are read one after another
    /// share the wait instead of adding theirs up.
    wait_until: Instant,
    /// Whether execution began. Before that, errors are about the request and its answer has no `data`.
    executed: AtomicBool,
    /// Whether a subscription has begun: its messages tell what is there, and wait for nothing.
    is_following: AtomicBool,
    /// The cursor to go on from that an event stream's client says by itself.
    resume_after: Option<String>,
    /// The cursor of the last message of a subscription.
    cursor: std::sync::Mutex<Option<String>>,
    /// By read model: each meets the token when it does.
    turns: std::sync::Mutex<BTreeMap<&'static str, Arc<Turn>>>,
}

/// Whose turn it is to wait for the token: one read of a request and a read model does, the others then find it met.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    waiting: Mutex<()>,
    met: AtomicBool,
}

impl Turn {
    /// `None` when there is nothing to wait for.
    pub(crate) async fn take(&self) -> Option<MutexGuard<'_, ()>> {
        if self.met.load(Ordering::Acquire) {
            return None;
        }
        Some(self.waiting.lock().await).filter(|_| !self.met.load(Ordering::Acquire))
    }

    /// A read that respects the token was answered.
    pub(crate) fn token_is_met(&self) {
        self.met.store(true, Ordering::Release);
    }
}

impl RequestState {
    /// Reads `Consistency-Token` and `Consistency-Wait`.
    pub(crate) fn from_headers(headers: &HeaderMap) -> Result<Self, ServerError> {
        let values = |name| headers.get_all(name).into_iter().map(|value| value.to_str().ok());
        let read = from_headers(values(TOKEN_HEADER), values(WAIT_HEADER));
        let (token, wait) = read.map_err(|error| {
            let code = match error {
                HeaderError::Token(_) => code::INVALID_CONSISTENCY_TOKEN,
                HeaderError::Wait(_) => code::INVALID_CONSISTENCY_WAIT,
            };
            coded(code, error.to_string())
        })?;
        Ok(Self {
            trace_id: given_trace_id(headers).map(OnceLock::from).unwrap_or_default(),
            token,
            witness: Witness::default(),
            wait_until: Instant::now() + wait,
            executed: AtomicBool::new(false),
            is_following: AtomicBool::new(false),
            resume_after: None,
            cursor: std::sync::Mutex::default(),
            turns: std::sync::Mutex::default(),
        })
    }

    /// Names the request in the log and, after an internal error, in the answer.
    pub(crate) fn trace_id(&self) -> &str {
        self.trace_id.get_or_init(|| Uuid::now_v7().to_string())
    }

    /// With the place that an event stream's client comes back to.
    pub(crate) fn resuming(self, after: Option<String>) -> Self {
        Self { resume_after: after, ..self }
    }

    pub(crate) fn resume_after(&self) -> Option<String> {
        self.resume_after.clone()
    }

    /// What a read must see, and how long it may wait for it.
    pub(crate) fn consistency(&self) -> Consistency {
        match self.is_following.load(Ordering::Acquire) {
            true => Consistency::any(),
            false => Consistency { token: self.token.clone(), wait: self.wait_left() },
        }
    }

    /// The token is met, and from now on the answer is a stream of what is there.
    pub(crate) fn begin_following(&self) {
        self.is_following.store(true, Ordering::Release);
    }

    /// Notes where the message that is answered next lies.
    pub(crate) fn tell_cursor(&self, cursor: impl FnOnce() -> String) {
        *self.cursor.lock().expect("no panic while held") = Some(cursor());
    }

    pub(crate) fn take_cursor(&self) -> Option<String> {
        self.cursor.lock().expect("no panic while held").take()
    }

    /// How long a reader may still wait.
    pub(crate) fn wait_left(&self) -> Duration {
        self.wait_until.saturating_duration_since(Instant::now())
    }

    /// The turn at a read model; without a token nobody waits for it.
    pub(crate) fn turn(&self, read_model: &'static str) -> Arc<Turn> {
        let turn = {
            let mut turns = self.turns.lock().expect("no panic while held");
            Arc::clone(turns.entry(read_model).or_default())
        };
        if self.token.is_empty() || self.is_following.load(Ordering::Acquire) {
            turn.token_is_met();
        }
        turn
    }

    /// A field of the root is reached.
    pub(crate) fn begin_execution(&self) {
        self.executed.store(true, Ordering::Release);
    }

    pub(crate) fn is_executed(&self) -> bool {
        self.executed.load(Ordering::Acquire)
    }
}

/// The caller's correlation id, by the rule that the services' own edges have.
fn given_trace_id(headers: &HeaderMap) -> Option<String> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let usable = |id: &&str| (1..=CORRELATION_CHARS_MAX).contains(&id.len());
    CORRELATION_HEADERS.into_iter().find_map(|name| text(name).filter(usable)).map(ToOwned::to_owned)
}

/// Notes when the execution of a request, or of a message of a subscription, begins.
pub(crate) struct NoteExecution;

impl ExtensionFactory for NoteExecution {
    fn create(&self) -> Arc<dyn Extension> {
        Arc::new(Self)
    }
}

#[async_graphql::async_trait::async_trait]
impl Extension for NoteExecution {
    async fn execute(
        &self,
        ctx: &ExtensionContext<'_>,
        operation_name: Option<&str>,
        next: NextExecute<'_>,
    ) -> Response {
        if let Some(state) = ctx.data_opt::<Arc<RequestState>>() {
            state.begin_execution();
        }
        next.run(ctx, operation_name).await
    }
}
