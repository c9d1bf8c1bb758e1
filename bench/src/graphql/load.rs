//! The load: kept connections, on each one question after another, about somebody else each time.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use crate::{
    Scale,
    http::client::Connection,
    workload::{Measured, Streams, percentile_ms},
};

/// Whole requests, made before the time is taken.
#[derive(Clone)]
pub struct Requests(Arc<[Vec<u8>]>);

impl Requests {
    pub fn of(requests: impl Iterator<Item = Vec<u8>>) -> Self {
        Self(requests.collect())
    }
}

/// How far the next question lies from the last one, in requests: prime, so that all have their turn, in no order that a
/// page cache likes.
const STRIDE: usize = 7_919;

pub async fn measure(name: &str, address: SocketAddr, scale: &Scale, requests: Requests) -> anyhow::Result<Measured> {
    let counted_from = Instant::now() + scale.warm_up;
    let ends = counted_from + scale.duration;
    let mut tasks = Vec::new();
    for task in 0..scale.graphql_connections {
        let (requests, mut connection) = (requests.clone(), Connection::open(address).await?);
        tasks.push(tokio::spawn(async move {
            let requests = &requests.0;
            // each begins elsewhere
            let mut next = task * 104_729 % requests.len();
            let mut latencies_us = Vec::with_capacity(65_536);
            loop {
                next = (next + STRIDE) % requests.len();
                let sent = Instant::now();
                connection.send(&requests[next]).await?;
                let done = Instant::now();
                if done >= ends {
                    return anyhow::Ok(latencies_us);
                }
                if done >= counted_from {
                    latencies_us.push(u32::try_from((done - sent).as_micros()).unwrap_or(u32::MAX));
                }
            }
        }));
    }
    let mut latencies_us = Vec::new();
    for task in tasks {
        latencies_us.extend(task.await.expect("a task only fails if the code it runs panics")?);
    }
    latencies_us.sort_unstable();
    Ok(Measured {
        name: name.to_owned(),
        streams: Streams::Hot,
        tasks: scale.graphql_connections as u64,
        pool: 0,
        n: latencies_us.len() as u64,
        per_s: latencies_us.len() as f64 / scale.duration.as_secs_f64(),
        p50_ms: percentile_ms(&latencies_us, 0.50),
        p99_ms: percentile_ms(&latencies_us, 0.99),
    })
}
