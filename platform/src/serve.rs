//! The HTTP server: connections, and how long each may take its time.

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

use crate::roles::ready::HEALTH;

/// The longest that the head of a request may take to arrive, from the connection or from the last answer on. Who sends
/// a byte a second must not hold a connection for hours.
const HEAD_WAIT_MAX: Duration = Duration::from_secs(20);

/// The largest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// How long a client may take nothing of what is sent to it: many who do not read would otherwise take all connections. The
/// system counts, as only it knows whether anything was taken. Who takes 1 kB a second does so in pieces of 64 KiB where
/// packets are that large, so it is twice the time between two of those.
const UNREAD_MAX: Duration = Duration::from_secs(120);

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
        let connection = server.serve_connection(TokioIo::new(stream), service).with_upgrades();
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
    cut_off_after(&stream, UNREAD_MAX)?;
    Ok((stream, peer, room))
}

/// Breaks a connection on which something has waited to be taken for so long, and nothing was.
fn cut_off_after(stream: &TcpStream, wait: Duration) -> io::Result<()> {
    let wait_ms = u32::try_from(wait.as_millis()).map_err(io::Error::other)?;
    Ok(rustix::net::sockopt::set_tcp_user_timeout(stream, wait_ms)?)
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpSocket,
    };

    use super::*;

    /// A connection whose other side takes little in advance.
    async fn connection(wait: Duration) -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let client = TcpSocket::new_v4().expect("a socket");
        client.set_recv_buffer_size(4_096).expect("a size");
        let address = listener.local_addr().expect("an address");
        let (client, accepted) = tokio::join!(client.connect(address), listener.accept());
        let server = accepted.expect("a connection").0;
        cut_off_after(&server, wait).expect("the system counts");
        (client.expect("a connection"), server)
    }

    #[tokio::test]
    async fn whoever_reads_nothing_is_cut_off_and_whoever_reads_slowly_is_not() {
        let wait = Duration::from_secs(2);
        let endless = async |mut server: TcpStream| loop {
            if let Err(error) = server.write_all(&[0; 64 * 1024]).await {
                return error.kind();
            }
        };
        let (silent, server) = connection(wait).await;
        let ended = tokio::time::timeout(Duration::from_secs(60), endless(server)).await;
        assert_eq!(ended, Ok(io::ErrorKind::TimedOut));
        drop(silent);

        let (mut slow, server) = connection(wait).await;
        let reading = async {
            for _ in 0..20 {
                tokio::time::sleep(wait / 4).await;
                slow.read_exact(&mut [0; 4_096]).await.expect("it goes on");
            }
        };
        tokio::select! {
            error = endless(server) => panic!("it was cut off: {error}"),
            () = reading => {}
        }
    }
}
