//! A thousand subscribers while five hundred orders a second change, each of which two of them are told of, over sockets
//! against the real binary.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_tungstenite::{connect_async, tungstenite::Message, tungstenite::client::IntoClientRequest};
use uuid::Uuid;

use crate::{
    Scale,
    platform::Platform,
    report::{Number, Report, Row},
    shop::Shop,
    workload::percentile_ms,
};

/// Subscribers to one customer's orders: as many are told of each change.
const SUBSCRIBERS_PER_CUSTOMER: usize = 2;
/// Commands under way at once: when the platform cannot keep the rate, the backlog is bounded.
const COMMANDS_AT_ONCE: usize = 1_000;
/// Not told after this: the benchmark fails.
const TOLD_WITHIN: Duration = Duration::from_secs(20);

/// A report without rows yet.
pub fn report(scale: &Scale) -> Report {
    let title = format!("{} live subscribers, {} changes per second", scale.subscribers, scale.live_per_s);
    let mut report = Report::new("live", &title, scale.pairs);
    report.notes.push(format!(
        "Each subscriber has a socket of its own and is told of one customer's orders; {SUBSCRIBERS_PER_CUSTOMER} are told of \
         each. A change is an order of two lines that is imported over HTTP, and each message has its status, customer, lines \
         and total. Delivery is from the answer to the command to the message, so the fold of the event is in it. One process \
         with all roles; the load generator and the subscribers run on the same machine. The memory is VmHWM of the process: \
         once as many orders had been imported before anybody subscribed, once they had subscribed, and at the end."
    ));
    report
}

/// What a subscriber was told: which order, and when.
type Told = (Uuid, Instant);

/// Measures a platform that keeps its data in `databases`.
pub async fn run(scale: &Scale, tributary: &Path, databases: &str, arguments: &[String]) -> anyhow::Result<Vec<Row>> {
    eprintln!("live: {databases}");
    let platform = Platform::start(tributary, arguments).await?;
    let rows = measure(scale, &platform, databases).await;
    let rows = rows.with_context(|| format!("tributary said:\n{}", platform.output()))?;
    platform.stop().await?;
    Ok(rows)
}

async fn measure(scale: &Scale, platform: &Platform, databases: &str) -> anyhow::Result<Vec<Row>> {
    let customers = scale.subscribers.div_ceil(SUBSCRIBERS_PER_CUSTOMER);
    let shop = Arc::new(Shop::open_for(platform.url(), COMMANDS_AT_ONCE, customers).await?);
    let memory_mib = || platform.peak_memory_kib().map(|kib| kib as f64 / 1_024.0);
    import(&shop, scale.live_per_s, scale.visible_duration).await?;
    let without_mib = memory_mib()?;

    let (tell, mut told) = mpsc::unbounded_channel::<Told>();
    let mut subscribers = JoinSet::new();
    for n in 0..scale.subscribers {
        let mut subscriber = subscribe(platform.url(), shop.customer(n / SUBSCRIBERS_PER_CUSTOMER)).await?;
        let tell = tell.clone();
        subscribers.spawn(async move {
            while let Some(order) = subscriber.next().await? {
                if tell.send((order, Instant::now())).is_err() {
                    break;
                }
            }
            anyhow::Ok(())
        });
    }
    let subscribed_mib = memory_mib()?;

    import(&shop, scale.live_per_s, scale.warm_up).await?;
    let (mut deliveries, mut rates) = (Vec::new(), Vec::new());
    for _ in 0..scale.pairs {
        // those of the round before, and of the warm-up, have been told by now, or are not counted
        while told.try_recv().is_ok() {}
        let start = Instant::now();
        let acknowledged = import(&shop, scale.live_per_s, scale.visible_duration).await?;
        rates.push(acknowledged.len() as f64 / start.elapsed().as_secs_f64());
        deliveries.push(collect(&mut told, acknowledged).await?);
    }
    let number = |name, quantile| Number::of(name, deliveries.iter().map(|run| percentile_ms(run, quantile)));
    let row = |side: &str, numbers| Row { case: databases.to_owned(), side: side.to_owned(), numbers };
    let memory = vec![
        Number::of("without_mib", [without_mib]),
        Number::of("subscribed_mib", [subscribed_mib]),
        Number::of("peak_rss_mib", [memory_mib()?]),
    ];
    subscribers.abort_all();
    Ok(vec![
        row("acknowledged to told", vec![number("p50_ms", 0.5), number("p99_ms", 0.99)]),
        row("changes reached", vec![Number::of("per_s", rates)]),
        row("memory", memory),
    ])
}

/// Imports orders by the clock; when each was acknowledged.
async fn import(shop: &Arc<Shop>, per_s: u32, duration: Duration) -> anyhow::Result<HashMap<Uuid, Instant>> {
    let commands = ((f64::from(per_s) * duration.as_secs_f64()).ceil() as usize).max(2);
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / per_s);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
    let acknowledged = Arc::new(Mutex::new(HashMap::with_capacity(commands)));
    let mut tasks = JoinSet::new();
    for n in 0..commands {
        ticks.tick().await;
        while tasks.len() >= COMMANDS_AT_ONCE {
            tasks.join_next().await.context("there are some")?.context("a task panicked")??;
        }
        let (shop, acknowledged) = (Arc::clone(shop), Arc::clone(&acknowledged));
        tasks.spawn(async move {
            let (order, _) = shop.import(n).await?;
            acknowledged.lock().expect("no panic while held").insert(order, Instant::now());
            anyhow::Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.context("a task panicked")??;
    }
    Ok(std::mem::take(&mut acknowledged.lock().expect("no panic while held")))
}

/// Waits until everybody was told of every order; microseconds of each delivery, sorted. What is told before the answer
/// has arrived took no time at all.
async fn collect(
    told: &mut mpsc::UnboundedReceiver<Told>,
    acknowledged: HashMap<Uuid, Instant>,
) -> anyhow::Result<Vec<u32>> {
    let expected = acknowledged.len() * SUBSCRIBERS_PER_CUSTOMER;
    let mut deliveries = Vec::with_capacity(expected);
    while deliveries.len() < expected {
        let next = tokio::time::timeout(TOLD_WITHIN, told.recv()).await;
        let next = next.with_context(|| format!("{} of {expected} deliveries came", deliveries.len()))?;
        let (order, at) = next.context("a subscriber has ended")?;
        if let Some(acknowledged) = acknowledged.get(&order) {
            let micros = at.saturating_duration_since(*acknowledged).as_micros();
            deliveries.push(u32::try_from(micros).unwrap_or(u32::MAX).max(1));
        }
    }
    deliveries.sort_unstable();
    Ok(deliveries)
}

struct Subscriber(tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>);

async fn subscribe(url: &str, customer: Uuid) -> anyhow::Result<Subscriber> {
    let url = format!("{}/graphql", url.replacen("http", "ws", 1));
    let mut request = url.into_client_request().context("an address")?;
    request.headers_mut().insert("sec-websocket-protocol", "graphql-transport-ws".parse().context("a header")?);
    let (socket, _) = connect_async(request).await.context("open a socket")?;
    let mut subscriber = Subscriber(socket);
    subscriber.say(&json!({ "type": "connection_init" })).await?;
    ensure!(subscriber.hear().await?["type"] == "connection_ack", "not acknowledged");
    let query = format!(
        "subscription {{ ordersChanged(filter: {{ customerId: \"{customer}\" }}) {{ kind cursor node {{ orderId status \
         customer {{ name }} lines {{ productName quantity total {{ amountMinor }} }} total {{ amountMinor currency }} }} }} }}"
    );
    subscriber.say(&json!({ "type": "subscribe", "id": "1", "payload": { "query": query } })).await?;
    let started = subscriber.hear().await?;
    ensure!(started["payload"]["data"]["ordersChanged"]["kind"] == "STARTED", "not started: {started}");
    Ok(subscriber)
}

impl Subscriber {
    async fn say(&mut self, message: &Value) -> anyhow::Result<()> {
        self.0.send(Message::text(message.to_string())).await.context("write to a socket")
    }

    async fn hear(&mut self) -> anyhow::Result<Value> {
        loop {
            match self.0.next().await.context("the socket was closed")?.context("read a socket")? {
                Message::Text(text) => return serde_json::from_str(&text).context("a message is JSON"),
                Message::Close(frame) => anyhow::bail!("the socket was closed: {frame:?}"),
                _ => {}
            }
        }
    }

    /// The next order that is told.
    async fn next(&mut self) -> anyhow::Result<Option<Uuid>> {
        let message = self.hear().await?;
        ensure!(message["type"] == "next", "{message}");
        let change = &message["payload"]["data"]["ordersChanged"];
        ensure!(change["kind"] == "CHANGED", "{message}");
        Ok(change["node"]["orderId"].as_str().and_then(|id| id.parse().ok()))
    }
}
