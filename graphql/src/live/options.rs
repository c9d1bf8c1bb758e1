//! How live answers behave: their bounds, who is let in over a socket, and how they end.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::http::HeaderMap;
use events::{asker::Asker, principal::Principal};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How live answers behave. The default lets everybody in, as the default of the whole edge does.
#[derive(Debug, Clone, Default)]
pub struct LiveOptions {
    pub limits: LiveLimits,
    /// Asked with what a socket's first message says. `None` where there is no authentication.
    pub authenticate: Option<Authentication>,
    /// Asked before each operation over a socket, whose request was counted when it was opened. `None`: there is no limit.
    pub allowance: Option<Allowance>,
    /// Pages of these origins may open sockets and event streams too, such as `https://shop.example.com`; those of the
    /// address that is asked always may.
    pub allowed_origins: Vec<String>,
    pub closing: Closing,
}

/// The bounds of live answers. What is refused because of one names it in `extensions.limit`, or in the close reason.
#[derive(Debug, Clone)]
pub struct LiveLimits {
    /// Sockets at once: each is a connection, with buffers of some 20 KiB.
    pub sockets_max: usize,
    /// Of those, how many may be one principal's, or one address's that has shown no token yet; nobody counts where nobody
    /// is known.
    pub sockets_per_asker_max: usize,
    /// Whether addresses are those of who asks. Behind a gateway they are its own, so who has shown no token yet counts there,
    /// and here among all only.
    pub counts_by_address: bool,
    /// Subscriptions at once, over all connections.
    pub subscriptions_max: usize,
    /// Of those, how many may be one principal's; nobody counts where nobody is known.
    pub subscriptions_per_principal_max: usize,
    /// Operations at once over one socket, queries included.
    pub operations_per_socket_max: usize,
    /// From a socket's beginning to its first message.
    pub init_max: Duration,
    /// How often a socket is pinged and an event stream gets a comment: often enough that proxies keep them open.
    pub ping_every: Duration,
    /// How long a socket may be silent, pongs included, until it is taken for dead.
    pub silence_max: Duration,
    /// How long a socket may have nothing to do.
    pub idle_max: Duration,
    /// How long a message may take to be sent: whoever does not read at all for so long is cut off.
    pub send_max: Duration,
    /// Rows that wait for one subscriber; beyond, it reads them when it is ready.
    pub waiting_rows_max: usize,
    /// About how many bytes they may have.
    pub waiting_bytes_max: usize,
    /// Subscribers that read what they have missed at the same time.
    pub catch_ups_max: usize,
    /// How often changes are looked for when nobody says that there are any: a projector in another process cannot.
    pub poll_every: Duration,
    /// How often it is looked how far the projections are.
    pub progress_every: Duration,
    /// How often their rows are counted for that, which reads whole tables. In between they are told as they were.
    pub count_every: Duration,
}

impl Default for LiveLimits {
    fn default() -> Self {
        Self {
            sockets_max: 4_096,
            sockets_per_asker_max: 512,
            counts_by_address: true,
            subscriptions_max: 16_384,
            subscriptions_per_principal_max: 256,
            operations_per_socket_max: 128,
            init_max: Duration::from_secs(10),
            ping_every: Duration::from_secs(15),
            silence_max: Duration::from_secs(60),
            idle_max: Duration::from_secs(10 * 60),
            send_max: Duration::from_secs(30),
            waiting_rows_max: 64,
            waiting_bytes_max: 256 * 1024,
            catch_ups_max: 4,
            poll_every: Duration::from_millis(50),
            progress_every: Duration::from_secs(1),
            count_every: Duration::from_secs(15),
        }
    }
}

/// Who is let in, until when.
#[derive(Debug, Clone)]
pub struct Admitted {
    pub principal: Principal,
    /// When what they have shown ends; `None` if it does not.
    pub until: Option<SystemTime>,
}

/// Why somebody is not let in: a code of `docs/errors.md` and a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotAdmitted {
    pub code: String,
    pub detail: String,
}

/// Whoever knows tokens.
pub trait Authenticate: Send + Sync + 'static {
    /// Judges `Authorization` for asking queries, as of a request to the endpoint.
    fn admit<'a>(
        &'a self,
        headers: &'a HeaderMap,
    ) -> Pin<Box<dyn Future<Output = Result<Admitted, NotAdmitted>> + Send + 'a>>;
}

/// A shared [`Authenticate`].
#[derive(Clone)]
pub struct Authentication(pub Arc<dyn Authenticate>);

impl fmt::Debug for Authentication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authentication")
    }
}

/// How often somebody may ask: an operation more, or why not.
#[derive(Clone)]
pub struct Allowance(pub Arc<dyn Fn(Asker) -> Result<(), NotAdmitted> + Send + Sync>);

impl fmt::Debug for Allowance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Allowance")
    }
}

/// How live answers end: whoever serves them keeps a clone, and ends them before it waits for its connections.
#[derive(Debug, Clone, Default)]
pub struct Closing {
    pub(crate) asked_for: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

impl Closing {
    /// Sockets are closed (1001, going away), event streams end, and the tasks behind them do.
    pub fn close(&self) {
        self.asked_for.cancel();
        self.tasks.close();
    }

    /// Completes when all of them have ended, after [`close`](Self::close).
    pub async fn ended(&self) {
        self.tasks.wait().await;
    }
}
