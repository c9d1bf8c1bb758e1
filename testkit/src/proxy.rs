//! A small TCP proxy on loopback that breaks connections where a test says: after so many bytes, when an answer comes
//! back, silently in one direction, or slowly.
//!
//! Faults are set while it runs and hold for all its connections, those to come included, until [`FaultProxy::heal`].

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream, ToSocketAddrs,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinHandle,
};

/// The end of every answer of PostgreSQL outside of a transaction: ReadyForQuery, idle.
pub const POSTGRES_READY: &[u8] = b"Z\0\0\0\x05I";

/// Bytes that are moved at once.
const CHUNK_BYTES: usize = 16 * 1024;
/// A throttled connection moves this many chunks a second, so that it is slow and not jerky.
const CHUNKS_PER_SECOND: u64 = 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    ToServer,
    ToClient,
}

/// Forwards a port of its own on 127.0.0.1 to one target. Dropping it cuts everything.
pub struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    faults: Mutex<Faults>,
    /// Counts the orders to cut every connection.
    cuts: watch::Sender<u64>,
    connections: AtomicUsize,
}

#[derive(Default)]
struct Faults {
    refuse: bool,
    cut_after: [Option<u64>; 2],
    lose_answer: Option<LoseAnswer>,
    blackhole: [bool; 2],
    bytes_per_second: Option<u64>,
}

struct LoseAnswer {
    marker: Vec<u8>,
    end: Vec<u8>,
}

impl FaultProxy {
    pub async fn start(target: impl ToSocketAddrs) -> anyhow::Result<Self> {
        let target = tokio::net::lookup_host(target).await.context("the proxy's target")?.next();
        let target = target.context("the proxy's target has no address")?;
        let listener = TcpListener::bind("127.0.0.1:0").await.context("a port for the proxy")?;
        let address = listener.local_addr().context("the proxy's port")?;
        let shared = Arc::new(Shared::default());
        let accepting = tokio::spawn(accept(listener, target, Arc::clone(&shared)));
        Ok(Self { address, shared, accepting })
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `url` (of PostgreSQL or HTTP, with host 127.0.0.1 and a port) with the proxy in the server's place.
    pub fn url_through(&self, url: &str) -> anyhow::Result<String> {
        const HOST: &str = "127.0.0.1:";
        let start = url.find(HOST).with_context(|| format!("no {HOST} in {url}"))? + HOST.len();
        let end = url[start..].find(|c: char| !c.is_ascii_digit()).map_or(url.len(), |digits| start + digits);
        Ok(format!("{}{}{}", &url[..start], self.address.port(), &url[end..]))
    }

    /// How many connections are open through it.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Cuts every connection now; new ones are taken.
    pub fn cut(&self) {
        self.shared.cut();
    }

    /// Lets `bytes` more pass in `direction`, over all connections together, then cuts all, once.
    pub fn cut_after(&self, bytes: u64, direction: Direction) {
        self.shared.faults().cut_after[direction as usize] = Some(bytes);
    }

    /// Lets the next request that holds `marker` through, swallows its answer up to and with the bytes `end`, and then
    /// cuts that connection, once. So the server has done what it was asked and the client does not know it.
    pub fn lose_answer(&self, marker: &[u8], end: &[u8]) {
        let fault = LoseAnswer { marker: marker.to_vec(), end: end.to_vec() };
        self.shared.faults().lose_answer = Some(fault);
    }

    /// [`Self::lose_answer`] of a PostgreSQL server: cut after the commit. Choose a marker that is in the values: the
    /// text of a statement travels ahead of its first execution.
    pub fn cut_after_commit(&self, marker: &str) {
        self.lose_answer(marker.as_bytes(), POSTGRES_READY);
    }

    /// Lets nothing through in `direction`, without closing anything. A connection that lost bytes stays dead.
    pub fn blackhole(&self, direction: Direction) {
        self.shared.faults().blackhole[direction as usize] = true;
    }

    /// At most so many bytes per second, per connection and direction.
    pub fn throttle(&self, bytes_per_second: u64) {
        self.shared.faults().bytes_per_second = Some(bytes_per_second.max(CHUNKS_PER_SECOND));
    }

    /// Takes no new connections: they are closed at once.
    pub fn refuse(&self) {
        self.shared.faults().refuse = true;
    }

    /// Takes every fault back.
    pub fn heal(&self) {
        *self.shared.faults() = Faults::default();
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.shared.cut();
    }
}

impl Shared {
    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().expect("no panic while held")
    }

    fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        if shared.faults().refuse {
            continue;
        }
        let shared = Arc::clone(&shared);
        let mut cuts = shared.cuts.subscribe();
        tokio::spawn(async move {
            let Ok(server) = TcpStream::connect(target).await else { return };
            let _ = (client.set_nodelay(true), server.set_nodelay(true));
            shared.connections.fetch_add(1, Ordering::SeqCst);
            let losing = Losing::default();
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            // one ended direction ends both, as a cut cable does
            tokio::select! {
                _ = pump(from_client, to_server, Direction::ToServer, &shared, &losing) => {}
                _ = pump(from_server, to_client, Direction::ToClient, &shared, &losing) => {}
                _ = cuts.changed() => {}
            }
            shared.connections.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

/// What one connection knows of an answer that is to be lost.
#[derive(Default)]
struct Losing {
    is_on: AtomicBool,
    end: Mutex<Vec<u8>>,
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    direction: Direction,
    shared: &Shared,
    losing: &Losing,
) -> std::io::Result<()> {
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut seen = Vec::new();
    let mut is_dead = false;
    loop {
        let chunk = shared.faults().bytes_per_second.map_or(CHUNK_BYTES, |rate| {
            usize::try_from(rate / CHUNKS_PER_SECOND).unwrap_or(CHUNK_BYTES).clamp(1, CHUNK_BYTES)
        });
        let length = from.read(&mut buffer[..chunk]).await?;
        if length == 0 {
            return Ok(());
        }
        // asked anew: it may have been set while nothing came
        let bytes_per_second = shared.faults().bytes_per_second;
        if let Some(rate) = bytes_per_second {
            tokio::time::sleep(Duration::from_millis(length as u64 * 1_000 / rate)).await;
        }
        let mut bytes = &buffer[..length];
        match direction {
            Direction::ToServer => look_for_marker(bytes, &mut seen, shared, losing),
            Direction::ToClient if losing.is_on.load(Ordering::SeqCst) => {
                seen.extend_from_slice(bytes);
                let end = losing.end.lock().expect("no panic while held").clone();
                if contains(&seen, &end) {
                    return Ok(());
                }
                keep_tail(&mut seen, end.len());
                continue;
            }
            Direction::ToClient => {}
        }
        let mut is_last = false;
        {
            let mut faults = shared.faults();
            is_dead |= faults.blackhole[direction as usize];
            if let Some(left) = &mut faults.cut_after[direction as usize] {
                let passing = usize::try_from(*left).unwrap_or(usize::MAX).min(length);
                bytes = &bytes[..passing];
                *left -= passing as u64;
                if *left == 0 {
                    faults.cut_after[direction as usize] = None;
                    is_last = true;
                }
            }
        }
        if !is_dead {
            to.write_all(bytes).await?;
        }
        if is_last {
            to.flush().await?;
            shared.cut();
            return Ok(());
        }
    }
}

/// A marker may lie across two chunks, so the end of what has passed is kept.
fn look_for_marker(bytes: &[u8], seen: &mut Vec<u8>, shared: &Shared, losing: &Losing) {
    seen.extend_from_slice(bytes);
    let mut faults = shared.faults();
    let Some(fault) = &faults.lose_answer else { return seen.clear() };
    if !contains(seen, &fault.marker) {
        return keep_tail(seen, fault.marker.len());
    }
    if let Some(fault) = faults.lose_answer.take() {
        *losing.end.lock().expect("no panic while held") = fault.end;
        losing.is_on.store(true, Ordering::SeqCst);
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    part.is_empty() || bytes.windows(part.len()).any(|window| window == part)
}

fn keep_tail(seen: &mut Vec<u8>, length: usize) {
    let surplus = seen.len().saturating_sub(length);
    seen.drain(..surplus);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers every line with itself.
    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.into_split();
                    tokio::io::copy(&mut from, &mut to).await
                });
            }
        });
        address
    }

    async fn ask(stream: &mut TcpStream, text: &str) -> std::io::Result<String> {
        stream.write_all(text.as_bytes()).await?;
        let mut answer = vec![0; text.len()];
        stream.read_exact(&mut answer).await?;
        Ok(String::from_utf8(answer).unwrap())
    }

    async fn proxied() -> (FaultProxy, TcpStream) {
        let proxy = FaultProxy::start(echo().await).await.unwrap();
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(ask(&mut stream, "hello").await.unwrap(), "hello");
        (proxy, stream)
    }

    #[tokio::test]
    async fn a_connection_is_cut_after_so_many_bytes() {
        let (proxy, mut stream) = proxied().await;
        proxy.cut_after(8, Direction::ToClient);
        assert_eq!(ask(&mut stream, "12345").await.unwrap(), "12345");
        stream.write_all(b"67890").await.unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
        assert_eq!(rest, b"678");
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(ask(&mut stream, "again").await.unwrap(), "again", "once");
    }

    #[tokio::test]
    async fn an_answer_is_lost_and_what_came_before_is_not() {
        let (proxy, mut stream) = proxied().await;
        proxy.lose_answer(b"commit", b"!");
        assert_eq!(ask(&mut stream, "insert").await.unwrap(), "insert");
        assert!(ask(&mut stream, "commit it!").await.is_err());
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(ask(&mut stream, "commit it!").await.unwrap(), "commit it!", "once");
    }

    #[tokio::test]
    async fn a_black_hole_takes_one_direction_and_says_nothing() {
        let (proxy, mut stream) = proxied().await;
        proxy.blackhole(Direction::ToClient);
        let silence = tokio::time::timeout(Duration::from_millis(100), ask(&mut stream, "anybody?")).await;
        assert!(silence.is_err(), "{silence:?}");
        assert_eq!(proxy.connections(), 1);
        proxy.heal();
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(ask(&mut stream, "healed").await.unwrap(), "healed");
    }

    #[tokio::test]
    async fn a_throttled_connection_is_slow_and_whole() {
        let (proxy, mut stream) = proxied().await;
        proxy.throttle(2_000);
        let start = std::time::Instant::now();
        let text = "x".repeat(1_000);
        assert_eq!(ask(&mut stream, &text).await.unwrap(), text);
        assert!(start.elapsed() >= Duration::from_millis(400), "{:?}", start.elapsed());
        assert_eq!(proxy.url_through("postgres://u@127.0.0.1:5432/db").unwrap(), {
            format!("postgres://u@127.0.0.1:{}/db", proxy.address().port())
        });
    }
}
