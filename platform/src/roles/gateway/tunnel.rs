//! Sockets: once both sides have agreed, bytes go to and fro and are nobody's business here.

use std::{io, pin::pin, time::Duration};

use axum::{
    body::Body,
    http::{Request, Response, StatusCode},
};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::seats::Seat;

/// How long one side may go on when the other has ended: for the last that it has to say. Whoever keeps its side open for
/// longer does so for ever.
const LAST_WORDS_MAX: Duration = Duration::from_secs(5);

/// Who wants a socket.
pub struct Caller {
    pub connection: OnUpgrade,
    pub seat: Seat,
}

/// Joins the two connections as soon as the caller has been told, until one of them ends or `closing`. Who is cut off then
/// comes back, to another gateway or to the next one.
pub fn join(caller: Option<Caller>, answer: &mut Response<Body>, tasks: &TaskTracker, closing: &CancellationToken) {
    let (Some(caller), StatusCode::SWITCHING_PROTOCOLS) = (caller, answer.status()) else { return };
    let upstream = hyper::upgrade::on(answer);
    let closing = closing.clone();
    tasks.spawn(async move {
        let Caller { connection, seat: _seat } = caller;
        let joined = async {
            let (caller, upstream) = tokio::try_join!(connection, upstream)?;
            carry_both(TokioIo::new(caller), TokioIo::new(upstream)).await;
            Ok::<_, hyper::Error>(())
        };
        tokio::select! {
            ended = joined => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a socket did not come about");
                }
            }
            () = closing.cancelled() => {}
        }
    });
}

/// How a socket ends is the business of its ends, but for when: soon after the first of them.
async fn carry_both(caller: impl AsyncRead + AsyncWrite, upstream: impl AsyncRead + AsyncWrite) {
    let ((from_caller, to_caller), (from_upstream, to_upstream)) =
        (tokio::io::split(caller), tokio::io::split(upstream));
    let (mut there, mut back) = (pin!(carry(from_caller, to_upstream)), pin!(carry(from_upstream, to_caller)));
    let _ = tokio::select! {
        _ = there.as_mut() => tokio::time::timeout(LAST_WORDS_MAX, back).await,
        _ = back.as_mut() => tokio::time::timeout(LAST_WORDS_MAX, there).await,
    };
}

/// All of one direction, and that it has ended.
async fn carry(from: impl AsyncRead, to: impl AsyncWrite) -> io::Result<()> {
    let (mut from, mut to) = (pin!(from), pin!(to));
    tokio::io::copy(&mut from, &mut to).await?;
    to.shutdown().await
}

/// What becomes of the caller's connection, if this request is to make a socket of it.
pub fn connection<B>(request: &mut Request<B>) -> Option<OnUpgrade> {
    request.extensions_mut().remove::<OnUpgrade>()
}
