//! The load's end of HTTP: kept connections, requests written by hand, answers read no further than needed.
//!
//! It shares the processors with what it measures, and a full client costs about as much as a small service. So nothing
//! here is general: one answer to one request, with its length, and everything that is not 2xx is an error.

use std::{net::SocketAddr, sync::Mutex};

use anyhow::{Context, bail, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use uuid::Uuid;

use crate::workload::{Deposit, PREPARED_EVENTS, Plan, prepared_stream};

/// The longest head of an answer, in bytes: ours has about 500.
const HEAD_BYTES_MAX: usize = 16 * 1024;

const HEAD_END: &[u8] = b"\r\n\r\n";

/// As many connections as there are tasks.
pub struct Connections {
    idle: Mutex<Vec<Connection>>,
}

impl Connections {
    pub async fn open(address: SocketAddr, count: u64) -> anyhow::Result<Self> {
        let mut idle = Vec::new();
        for _ in 0..count {
            idle.push(Connection::open(address).await?);
        }
        Ok(Self { idle: Mutex::new(idle) })
    }

    /// One command, with a key of its own, on a connection that nobody else uses meanwhile.
    pub async fn deposit(&self, account: &str, command: &Deposit) -> anyhow::Result<()> {
        let body = serde_json::to_vec(command).context("a deposit as JSON")?;
        let mut connection =
            self.idle.lock().expect("no panic while held").pop().context("more tasks than connections")?;
        connection.post(&format!("/accounts/{account}/deposits"), &body).await?;
        self.idle.lock().expect("no panic while held").push(connection);
        Ok(())
    }

    /// Sends the first commands to `plan`'s streams.
    pub async fn prepare(&self, plan: Plan) -> anyhow::Result<()> {
        stream::iter(plan.first..plan.first + plan.prepared)
            .map(Ok)
            .try_for_each_concurrent(usize::try_from(plan.tasks)?, |n| async move {
                for _ in 0..PREPARED_EVENTS {
                    self.deposit(&prepared_stream(n), &Deposit::sample(100, false)).await?;
                }
                Ok(())
            })
            .await
    }
}

/// One kept connection, one request after another.
pub struct Connection {
    stream: TcpStream,
    address: SocketAddr,
    /// The answer that is being read.
    answer: Vec<u8>,
}

impl Connection {
    pub async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await.with_context(|| format!("connect to {address}"))?;
        stream.set_nodelay(true).context("send requests at once")?;
        Ok(Self { stream, address, answer: Vec::with_capacity(2_048) })
    }

    /// Both sides get the same bytes; one of them makes nothing of the key.
    async fn post(&mut self, path: &str, body: &[u8]) -> anyhow::Result<()> {
        let (host, key, length) = (self.address, Uuid::now_v7(), body.len());
        let mut request = format!(
            "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nIdempotency-Key: {key}\r\n\
             Content-Length: {length}\r\n\r\n"
        )
        .into_bytes();
        request.extend_from_slice(body);
        self.send(&request).await.with_context(|| format!("POST {path}")).map(drop)
    }

    /// Sends a whole request, and gives the body of its answer.
    pub async fn send(&mut self, request: &[u8]) -> anyhow::Result<&[u8]> {
        self.stream.write_all(request).await.context("send a request")?;
        let body_from = self.read_answer().await?;
        Ok(&self.answer[body_from..])
    }

    /// Where the body begins.
    async fn read_answer(&mut self) -> anyhow::Result<usize> {
        self.answer.clear();
        let body_from = loop {
            self.read().await?;
            if let Some(head) = self.answer.windows(HEAD_END.len()).position(|bytes| bytes == HEAD_END) {
                break head + HEAD_END.len();
            }
            ensure!(self.answer.len() < HEAD_BYTES_MAX, "the answer's head has more than {HEAD_BYTES_MAX} bytes");
        };
        let Head { status, length } = Head::read(&self.answer[..body_from])?;
        while self.answer.len() < body_from + length {
            self.read().await?;
        }
        ensure!(self.answer.len() == body_from + length, "there is more than one answer");
        if !(200..300).contains(&status) {
            bail!("answered {status}: {}", String::from_utf8_lossy(&self.answer[body_from..]));
        }
        Ok(body_from)
    }

    async fn read(&mut self) -> anyhow::Result<()> {
        let read = self.stream.read_buf(&mut self.answer).await.context("read an answer")?;
        ensure!(read > 0, "the connection was closed in the middle of an answer");
        Ok(())
    }
}

/// What of an answer's head tells where the answer ends, and whether it is a good one.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    /// Bytes of the body.
    length: usize,
}

impl Head {
    fn read(head: &[u8]) -> anyhow::Result<Self> {
        let head = std::str::from_utf8(head).context("the answer's head is not text")?;
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok());
        let status = status.with_context(|| format!("no status in {head:?}"))?;
        let mut fields = lines.filter_map(|line| line.split_once(':'));
        let length = fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        let length = match (length, status) {
            (Some((_, length)), _) => length.trim().parse().with_context(|| format!("a length in {head:?}"))?,
            // has no body, and may not say so
            (None, 204) => 0,
            (None, _) => bail!("no Content-Length in {head:?}"),
        };
        Ok(Self { status, length })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_tells_its_status_and_the_length_of_the_body() {
        let read = |head: &str| Head::read(head.as_bytes()).ok();
        assert_eq!(
            read("HTTP/1.1 200 OK\r\nETag: \"3\"\r\ncontent-length: 12\r\n\r\n"),
            Some(Head { status: 200, length: 12 })
        );
        assert_eq!(read("HTTP/1.1 204 No Content\r\n\r\n"), Some(Head { status: 204, length: 0 }));
        for wrong in ["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.1\r\n\r\n", "SSH-2.0-x\r\n\r\n"]
        {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
