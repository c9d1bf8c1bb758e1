//! A feed on loopback, served as the services do, with a connection that can be cut or bent.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use event_store::{
    feed::Feed,
    feed_http::{Answer, serve},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// What a server does to its answers.
pub type Bend = Box<dyn Fn(&mut Answer) + Send + Sync>;

/// Serves one feed at any path until it is dropped. One request per connection.
pub struct FeedServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    feed: Arc<dyn Feed>,
    cut_body_after: AtomicU64,
    bend: Mutex<Option<Bend>>,
    requests: Mutex<Vec<String>>,
}

impl FeedServer {
    pub async fn start(feed: Arc<dyn Feed>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let address = listener.local_addr().expect("it is bound");
        let cut_body_after = AtomicU64::new(u64::MAX);
        let shared = Arc::new(Shared { feed, cut_body_after, bend: Mutex::default(), requests: Mutex::default() });
        let task = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Self { address, shared, task }
    }

    /// Where an `HttpFeed` reads it.
    pub fn url(&self) -> String {
        format!("http://{}/feed", self.address)
    }

    /// From now on connections are closed after so many bytes of a body, though more were announced.
    pub fn cut_body_after(&self, bytes: u64) {
        self.shared.cut_body_after.store(bytes, Ordering::SeqCst);
    }

    /// From now on answers are changed like this before they are sent.
    pub fn bend(&self, bend: impl Fn(&mut Answer) + Send + Sync + 'static) {
        *self.shared.bend.lock().expect("no panic while bending") = Some(Box::new(bend));
    }

    /// Undoes [`Self::bend`] and [`Self::cut_body_after`].
    pub fn be_honest(&self) {
        *self.shared.bend.lock().expect("no panic while bending") = None;
        self.cut_body_after(u64::MAX);
    }

    /// The targets of all requests so far: path and query.
    pub fn requests(&self) -> Vec<String> {
        self.shared.requests.lock().expect("no panic while noting").clone()
    }
}

impl Drop for FeedServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // connections end with the task
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            // a client that goes away is its own business
            let _ = answer(stream, &shared).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn answer(mut stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let (read, mut write) = stream.split();
    let mut lines = BufReader::new(read).lines();
    let request = lines.next_line().await?.unwrap_or_default();
    while lines.next_line().await?.is_some_and(|header| !header.is_empty()) {}
    let target = request.split(' ').nth(1).unwrap_or_default().to_owned();
    shared.requests.lock().expect("no panic while noting").push(target.clone());

    let query = target.split_once('?').map(|(_, query)| query);
    let mut answer = serve(Arc::clone(&shared.feed), query, "trace-1").await;
    if let Some(bend) = &*shared.bend.lock().expect("no panic while bending") {
        bend(&mut answer);
    }
    let mut head = format!("HTTP/1.1 {} Feed\r\nconnection: close\r\n", answer.status);
    for (name, value) in &answer.headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += &format!("content-length: {}\r\n\r\n", answer.body.len());
    write.write_all(head.as_bytes()).await?;
    let cut = usize::try_from(shared.cut_body_after.load(Ordering::SeqCst)).unwrap_or(usize::MAX);
    write.write_all(&answer.body[..answer.body.len().min(cut)]).await?;
    write.shutdown().await
}
