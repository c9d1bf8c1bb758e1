//! How both sides serve HTTP: axum's own server on a free port of loopback, for as long as their owner lives.
//!
//! `bench/peers` includes this very file, so that nothing of the transport differs. It uses nothing of the project.

use std::io;

use anyhow::Context;
use axum::{Router, serve::ListenerExt};
use tokio::net::TcpListener;

/// Prints the address, the one line on stdout, and serves until standard input ends.
pub async fn serve(router: Router) -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await.context("listen on loopback")?;
    println!("{}", listener.local_addr().context("the address listened on")?);
    let listener = listener.tap_io(|stream| {
        // small answers must not wait for a full packet; where that is refused, the figures say so
        let _ = stream.set_nodelay(true);
    });
    axum::serve(listener, router).with_graceful_shutdown(owner_is_gone()).await.context("serve HTTP")
}

/// The owner holds the other end of our input; however it ends, its end closes.
async fn owner_is_gone() {
    let read = tokio::task::spawn_blocking(|| io::copy(&mut io::stdin(), &mut io::sink()));
    // an input that cannot be read has no owner either
    let _ = read.await;
}
