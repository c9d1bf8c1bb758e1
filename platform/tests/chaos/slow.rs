//! Readers who take 1 kB a second of whatever is sent to them, and let the rest wait.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpSocket,
    task::JoinSet,
};

/// What is asked, and in which form: a page of a feed, a list of orders, and the changes of all orders.
const ASKED: [(&str, &str); 3] = [
    ("/orders/feed?limit=1000", "*/*"),
    (
        "/graphql?query=%7Borders(first:100)%7Bedges%7Bnode%7BorderId%20lines%7BproductName%7D%20timeline%7Bat%7D%7D%7D%7D%7D",
        "application/json",
    ),
    (
        "/graphql?query=subscription%7BordersChanged%7Bkind%20node%7BorderId%20status%20customer%7Bname%7D%7D%7D%7D",
        "text/event-stream",
    ),
];

/// Of each kind.
const READERS: usize = 8;

/// What the system takes in advance for them, so that the sender notices.
const BUFFER_BYTES: u32 = 4_096;

const BYTES_A_SECOND: usize = 1_000;

/// They stop when this is dropped.
pub struct SlowReaders {
    _reading: JoinSet<()>,
    heard: Arc<Heard>,
}

#[derive(Default)]
struct Heard {
    bytes: AtomicU64,
    /// The beginning of an answer that says that something else should have been asked.
    refusal: Mutex<Option<String>>,
}

impl SlowReaders {
    /// All of them at the platform at `url`; who is cut off, or has it all, asks again.
    pub fn start(url: &str) -> Self {
        let (mut reading, heard) = (JoinSet::new(), Arc::<Heard>::default());
        let address = url.trim_start_matches("http://").to_owned();
        for n in 0..READERS * ASKED.len() {
            let (address, heard) = (address.clone(), Arc::clone(&heard));
            reading.spawn(async move {
                loop {
                    // whoever is broken off begins anew
                    let _ = read(&address, ASKED[n % ASKED.len()], &heard).await;
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            });
        }
        Self { _reading: reading, heard }
    }

    /// How many bytes all of them have read together.
    pub fn bytes(&self) -> u64 {
        self.heard.bytes.load(Ordering::Relaxed)
    }

    /// What one of them was told who should have asked otherwise.
    pub fn refusal(&self) -> Option<String> {
        self.heard.refusal.lock().expect("no panic while held").clone()
    }
}

async fn read(address: &str, (path, accept): (&str, &str), heard: &Heard) -> std::io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(BUFFER_BYTES)?;
    let mut stream = socket.connect(address.parse().expect("an address")).await?;
    let asked = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\naccept: {accept}\r\nconnection: close\r\n\r\n");
    stream.write_all(asked.as_bytes()).await?;
    let mut buffer = [0; BYTES_A_SECOND];
    loop {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        heard.bytes.fetch_add(read as u64, Ordering::Relaxed);
        if buffer.starts_with(b"HTTP/1.1 4") {
            let refusal = String::from_utf8_lossy(&buffer[..read]).into_owned();
            *heard.refusal.lock().expect("no panic while held") = Some(refusal);
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
