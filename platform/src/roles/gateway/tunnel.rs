//! Sockets: once both sides have agreed, bytes go to and fro and are nobody's business here.

use axum::{
    body::Body,
    http::{Request, Response, StatusCode},
};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Joins the two connections as soon as the caller has been told, until one of them ends or `closing`. Who is cut off then
/// comes back, to another gateway or to the next one.
pub fn join(
    caller: Option<OnUpgrade>,
    answer: &mut Response<Body>,
    sockets: &TaskTracker,
    closing: &CancellationToken,
) {
    let (Some(caller), StatusCode::SWITCHING_PROTOCOLS) = (caller, answer.status()) else { return };
    let upstream = hyper::upgrade::on(answer);
    let closing = closing.clone();
    sockets.spawn(async move {
        let joined = async {
            let (caller, upstream) = tokio::try_join!(caller, upstream)?;
            // how a socket ends is the business of its ends
            let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(caller), &mut TokioIo::new(upstream)).await;
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

/// What becomes of the caller's connection, if this request is to make a socket of it.
pub fn caller<B>(request: &mut Request<B>) -> Option<OnUpgrade> {
    request.extensions_mut().remove::<OnUpgrade>()
}
