//! Roles as processes of their own on PostgreSQL: two replicas of a command service against one on the same database, and from
//! a command to its row where feeds go over HTTP.

use std::{
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use testkit::postgres::ThrowAwayPostgres;
use tokio::task::JoinSet;

use crate::{
    Scale, databases,
    platform::{Platform, free_place},
    report::{Number, Ratio, Report, Row},
    shop::Shop,
    visible::{self, PIECES},
    workload::percentile_ms,
};

/// Whoever asks services without a name of their own: everything but orders runs in one process.
const OTHERS: [&str; 7] = ["users", "catalog", "inventory", "payments", "shipping", "notifications", "checkout"];

/// The processes, and where the orders service and GraphQL are.
struct Apart {
    processes: Vec<Platform>,
    orders: [String; 2],
    graphql: String,
    /// Gateways before one and before both processes of the orders service.
    gateways: [String; 2],
}

pub async fn run(scale: &Scale, tributary: &Path, postgres: &ThrowAwayPostgres) -> anyhow::Result<Report> {
    let mut apart = Apart::start(tributary, &databases(postgres).await?)?;
    let measured = measure(scale, &mut apart).await;
    let measured = measured.with_context(|| format!("the processes said:\n{}", apart.output()))?;
    for process in apart.processes {
        process.stop().await?;
    }
    Ok(measured)
}

async fn measure(scale: &Scale, apart: &mut Apart) -> anyhow::Result<Report> {
    for process in &mut apart.processes {
        process.wait_until_ready().await?;
    }
    let title = "Services apart: two replicas of one against one, and from a command to its row over HTTP feeds";
    let mut report = Report::new("apart", title, scale.pairs);
    report.notes.push(format!(
        "PostgreSQL, {} requests at once. Processes: orders twice, all other services, the projector, GraphQL, two gateways. \
         Commands are imports of orders of two lines, one event each; both processes run throughout, also while one of them \
         has nothing to do. The load generator, the projector and the database run on the same machine, so what a second \
         process adds is bounded by the processors that are left.",
        scale.connections
    ));
    let connections = usize::try_from(scale.connections).context("connections")?;
    let shop = Shop::open(&apart.gateways[1], connections).await?;
    shop.stock_up(PIECES).await?;
    replicas(scale, apart, &shop, &mut report).await?;
    for (how, orders, graphql) in [
        ("asked directly", &apart.orders[0], &apart.graphql),
        ("behind the gateway", &apart.gateways[1], &apart.gateways[1]),
    ] {
        let shop = Arc::new(shop.apart(orders, graphql));
        report.rows.extend(visible::of_shop(scale, &shop, &format!("processes apart, {how}")).await?);
    }
    Ok(report)
}

/// One run of one side.
struct Commands {
    per_s: f64,
    sorted_us: Vec<u32>,
}

async fn replicas(scale: &Scale, apart: &Apart, shop: &Shop, report: &mut Report) -> anyhow::Result<()> {
    let at = |places: &[String]| -> Vec<Arc<Shop>> {
        places.iter().map(|place| Arc::new(shop.apart(place, &apart.graphql))).collect()
    };
    let case = format!("imports of orders, {} at once", scale.connections);
    let sides = [
        ("one process, directly", at(&apart.orders[..1])),
        ("two processes, directly", at(&apart.orders)),
        ("one process, behind the gateway", at(&apart.gateways[..1])),
        ("two processes, behind the gateway", at(&apart.gateways[1..])),
    ];
    let mut runs: [Vec<Commands>; 4] = Default::default();
    for (_, places) in &sides {
        commands(scale.connections, scale.warm_up, places).await?;
    }
    for pair in 1..=scale.pairs {
        eprintln!("apart: {case}, {pair} of {}", scale.pairs);
        for ((_, places), runs) in sides.iter().zip(&mut runs) {
            runs.push(commands(scale.connections, scale.duration, places).await?);
        }
    }
    for ((side, _), runs) in sides.iter().zip(&runs) {
        let latency = |name, quantile| Number::of(name, runs.iter().map(|run| percentile_ms(&run.sorted_us, quantile)));
        let numbers = vec![
            Number::of("per_s", runs.iter().map(|run| run.per_s)),
            latency("p50_ms", 0.5),
            latency("p99_ms", 0.99),
        ];
        report.rows.push(Row { case: case.clone(), side: (*side).to_owned(), numbers });
    }
    let ratio = |what: &str, of: usize, over: usize| {
        let pairs = runs[of].iter().zip(&runs[over]);
        Ratio::of(&case, what, pairs.map(|(one, other)| (one.per_s, other.per_s)))
    };
    report.ratios.extend([
        ratio("per_s, two processes over one, directly", 1, 0),
        ratio("per_s, two processes over one, behind the gateway", 3, 2),
        ratio("per_s, behind the gateway over directly, one process", 2, 0),
    ]);
    Ok(())
}

/// So many tasks that import one order after another, in turns at `places`.
async fn commands(tasks: u64, duration: Duration, places: &[Arc<Shop>]) -> anyhow::Result<Commands> {
    let start = Instant::now();
    let mut sending = JoinSet::new();
    for (task, place) in (0..usize::try_from(tasks)?).zip(places.iter().cycle()) {
        let place = Arc::clone(place);
        sending.spawn(async move {
            let mut waited_us = Vec::new();
            while start.elapsed() < duration {
                let sent = Instant::now();
                place.import(task + waited_us.len()).await?;
                waited_us.push(u32::try_from(sent.elapsed().as_micros()).unwrap_or(u32::MAX));
            }
            anyhow::Ok(waited_us)
        });
    }
    let mut sorted_us = Vec::new();
    while let Some(done) = sending.join_next().await {
        sorted_us.extend(done.context("a task panicked")??);
    }
    let per_s = sorted_us.len() as f64 / start.elapsed().as_secs_f64();
    sorted_us.sort_unstable();
    Ok(Commands { per_s, sorted_us })
}

impl Apart {
    /// Everything has begun, and need not be ready.
    fn start(tributary: &Path, databases: &[(&'static str, String)]) -> anyhow::Result<Self> {
        let place = free_place;
        let ([one, two], [others, project, graphql]) = ([place()?, place()?], [place()?, place()?, place()?]);
        let gateways = [place()?, place()?];
        let url = |place: SocketAddr| format!("http://{place}");
        let database = |name: &str| {
            let found = databases.iter().find(|(database, _)| *database == name);
            found.map(|(_, url)| format!("--{name}-database-url={url}")).with_context(|| format!("a database {name}"))
        };
        let services = format!("--services-url={}", url(others));
        let orders = |places: &[SocketAddr]| {
            let urls: Vec<String> = places.iter().map(|place| url(*place)).collect();
            format!("--orders-url={}", urls.join(","))
        };
        let mut processes = Vec::new();
        for place in [one, two] {
            processes.push(Platform::begin(
                tributary,
                &["serve", "orders"],
                place,
                &[database("orders")?, services.clone()],
            )?);
        }
        let mut arguments: Vec<String> = OTHERS.iter().map(|name| database(name)).collect::<Result<_, _>>()?;
        // one of the two: whoever has replicas is behind a gateway
        arguments.push(orders(&gateways[1..]));
        processes.push(Platform::begin(tributary, &[&["serve"], &OTHERS[..]].concat(), others, &arguments)?);
        let read_from = [database("query")?, services.clone(), orders(&gateways[1..])];
        processes.push(Platform::begin(tributary, &["project"], project, &read_from)?);
        processes.push(Platform::begin(tributary, &["graphql"], graphql, &[database("query")?])?);
        for (gateway, before) in gateways.iter().zip([&[one][..], &[one, two]]) {
            processes.push(Platform::begin(
                tributary,
                &["gateway"],
                *gateway,
                &[
                    services.clone(),
                    orders(before),
                    format!("--project-url={}", url(project)),
                    format!("--graphql-url={}", url(graphql)),
                    "--rate-limit-per-second=0".to_owned(),
                ],
            )?);
        }
        Ok(Self { processes, orders: [one, two].map(url), graphql: url(graphql), gateways: gateways.map(url) })
    }

    fn output(&self) -> String {
        self.processes.iter().map(Platform::output).collect()
    }
}
