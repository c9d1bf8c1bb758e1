//! The HTTP server: connections, and how long each may take its time.

mod patience;

use std::{convert::Infallible, io, pin::pin, sync::Arc, time::Duration};

use axum::{Router, body::Body, extract::ConnectInfo, http::Request};
use hyper::server::conn::http1::Builder;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, SetOnce},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

use self::patience::Patience;
use crate::roles::ready::HEALTH;

/// The longest that the head of a request may take to arrive, from the connection or from the last answer on. Who sends
/// a byte a second must not hold a connection for hours.
const HEAD_WAIT_MAX: Duration = Duration::from_secs(20);

/// The largest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// How long a client may take nothing of what is sent to it: many who do not read would otherwise take all connections. Who
/// takes 1 kB a second does so in pieces of up to 128 KiB, as the systems of both sides keep that much in advance.
const UNREAD_MAX: Duration = Duration::from_secs(180);

/// Connections at once. More wait in the system's queue.
const CONNECTIONS_MAX: usize = 4_096;

/// How long to wait when the system has no more file descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// What is served: health from the beginning, the rest once it is there.
pub struct Routes {
    /// Of a process that has not started.
    before: Router,
    then: SetOnce<Router>,
}

impl Routes {
    pub fn new(before: Router) -> Self {
        Self { before, then: SetOnce::new() }
    }

    /// From now on these, for those who wait for them too.
    pub fn started(&self, routes: Router) {
        // a process starts once
        let _ = self.then.set(routes);
    }

    /// Who answers at this path. Whoever asks for more than health waits for the start, as before a server that does not
    /// listen yet, but without having to ask again.
    async fn of(&self, path: &str) -> Router {
        match self.then.get() {
            Some(routes) => routes.clone(),
            None if HEALTH.contains(&path) => self.before.clone(),
            None => self.then.wait().await.clone(),
        }
    }
}

/// Serves until `stop`; then takes no new connection, and ends when the requests under way have been answered.
pub async fn serve(listener: TcpListener, routes: Arc<Routes>, stop: CancellationToken) -> io::Result<()> {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let connections = TaskTracker::new();
    let mut server = Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_WAIT_MAX).max_buf_size(HEAD_BYTES_MAX);
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &room) => accepted,
            () = stop.cancelled() => break,
        };
        let (stream, peer, room) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        let routes = Arc::clone(&routes);
        let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(ConnectInfo(peer));
            let routes = Arc::clone(&routes);
            async move {
                let router = routes.of(request.uri().path()).await;
                Ok::<_, Infallible>(router.oneshot(request).await.unwrap_or_else(|never| match never {}))
            }
        });
        let connection =
            server.serve_connection(TokioIo::new(Patience::new(stream, UNREAD_MAX)), service).with_upgrades();
        let stop = stop.clone();
        connections.spawn(async move {
            let mut connection = pin!(connection);
            // how a connection ends is its client's business
            tokio::select! {
                _ = connection.as_mut() => {}
                () = stop.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    let _ = connection.await;
                }
            }
            drop(room);
        });
    }
    drop(listener);
    connections.close();
    connections.wait().await;
    Ok(())
}

type Accepted = (TcpStream, std::net::SocketAddr, tokio::sync::OwnedSemaphorePermit);

async fn accept(listener: &TcpListener, room: &Arc<Semaphore>) -> io::Result<Accepted> {
    let room = Arc::clone(room).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    // small answers should not wait for a full packet
    stream.set_nodelay(true)?;
    Ok((stream, peer, room))
}
