//! Questions per second over HTTP: our GraphQL endpoint against axum + sqlx written by hand for these two questions, and
//! against PostGraphile, all on the same rows.
//!
//! Reading order: [`question`] (what is asked), [`ours`], [`bare`], [`peer`] (the three sides, each a process of its own),
//! [`load`].

pub mod bare;
mod load;
pub mod ours;
mod peer;
mod question;

use anyhow::{Context, ensure};
use projections::{Projector, ProjectorOptions, QueryDatabase};
use read_side::order_details::TEMPLATE;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection as _, Executor, PgConnection};
use testkit::postgres::ThrowAwayPostgres;
use tokio::process::Command;

use self::{
    load::Requests,
    peer::PostGraphile,
    question::{Asked, Question},
};
use crate::{
    Scale,
    http::{client::Connection, server::Server},
    rebuild::history::Logs,
    report::{Bound, Ratio, Report, Row},
    workload::Measured,
};

/// So many orders each, so that a first page of 20 has a next one.
const ORDERS_PER_CUSTOMER: u64 = 25;

/// Where the rows are.
enum Place {
    Postgres { url: String },
    Sqlite { directory: tempfile::TempDir },
}

impl Place {
    fn name(&self) -> &'static str {
        match self {
            Self::Postgres { .. } => "PostgreSQL",
            Self::Sqlite { .. } => "SQLite",
        }
    }

    /// The command of one of our sides.
    fn serve(&self, subcommand: &str, generation: i64) -> anyhow::Result<Command> {
        let mut command = Command::new(std::env::current_exe().context("our own path")?);
        command.arg(subcommand);
        match self {
            Self::Postgres { url } => command.args(["--url", url]),
            Self::Sqlite { directory } => command.arg("--directory").arg(directory.path()),
        };
        command.args(["--generation", &generation.to_string()]);
        Ok(command)
    }
}

/// `with_peer` = false leaves PostGraphile out, and with it its ratios.
pub async fn run(scale: &Scale, server: &ThrowAwayPostgres, with_peer: bool) -> anyhow::Result<Report> {
    let title = format!(
        "GraphQL over HTTP, {} orders, {} connections, against axum + sqlx by hand and PostGraphile",
        scale.graphql_orders, scale.graphql_connections
    );
    let mut report = Report::new("graphql", &title, scale.pairs);
    let url = server.create_database("query").await?;
    let (rows, logs) = (Place::Postgres { url: url.clone() }, Logs::postgres(server).await?);
    let asked = fill(scale, &rows, QueryDatabase::open_postgres(&url).await?, &logs).await?;
    let peer = if with_peer { Some(PostGraphile::install().await?) } else { None };
    if peer.is_some() {
        // ours are over served rows alone, which PostGraphile neither asks for nor sees
        let table = TEMPLATE.table(asked.generation);
        let index = format!("create index on {table} (customer_id, placed_at_us desc, order_id desc)");
        PgConnection::connect(&url)
            .await?
            .execute(AssertSqlSafe(index))
            .await
            .context("make an index for PostGraphile")?;
    }
    compare(scale, &rows, &asked, peer.as_ref().map(|peer| (peer, url.as_str())), &mut report).await?;

    let directory = tempfile::tempdir().context("a temporary directory")?;
    let (logs, database) = (Logs::sqlite(directory.path())?, QueryDatabase::open_sqlite(directory.path()).await?);
    let rows = Place::Sqlite { directory };
    let asked = fill(scale, &rows, database, &logs).await?;
    compare(scale, &rows, &asked, None, &mut report).await?;
    report.notes.push(
        "Ours: the whole endpoint with its limits, reading as the customer whose rows they are (or the answer is empty), \
         each request with a consistency token. The token is the same for all, so that it is checked in the statement every five \
         seconds, and remembered as met in between. By hand: one address a question, one \
         prepared statement over the library's pool, which tests each connection when it comes back, the JSON made from structs. They answer the same JSON, which is compared before the load. \
         PostGraphile answers the row's columns, the lines as the JSON that lies in one, by an index of its own; it is one process of Node, while \
         ours and the one by hand use every processor, and so does PostgreSQL beside all of them."
            .to_owned(),
    );
    Ok(report)
}

/// Fills the read model from a history, and says what is there to be asked for.
async fn fill(scale: &Scale, rows: &Place, database: QueryDatabase, logs: &Logs) -> anyhow::Result<Asked> {
    eprintln!("graphql: filling the read model with {} orders", scale.graphql_orders);
    logs.fill_for(0, scale.graphql_orders, ORDERS_PER_CUSTOMER).await?;
    let only = vec![projections::order_details::projection()];
    let options = ProjectorOptions::default();
    let projector = Projector::start_with(only, database.clone(), logs.feeds(), options).await?;
    projector.caught_up().await;
    projector.shutdown().await;
    database.close().await;
    let asked = Asked::of(rows, logs.token(events::orders::SOURCE).await?).await?;
    let found = asked.each(Question::ById).count() as u64;
    ensure!(found == scale.graphql_orders, "{found} orders");
    Ok(asked)
}

/// Every side and question in turn, once a pair.
async fn compare(
    scale: &Scale,
    place: &Place,
    asked: &Asked,
    peer: Option<(&PostGraphile, &str)>,
    report: &mut Report,
) -> anyhow::Result<()> {
    let mut sides = vec![
        ("tributary", Server::start(place.serve("serve-graphql", asked.generation)?).await?),
        ("axum + sqlx", Server::start(place.serve("serve-bare", asked.generation)?).await?),
    ];
    if let Some((peer, url)) = peer {
        sides.push(("PostGraphile 5", Server::start(peer.serve(url)).await?));
    }
    for question in Question::ALL {
        same_answers(question, asked, &sides).await?;
        let case = format!("{}, {}", place.name(), question.name());
        let mut runs: Vec<Vec<Measured>> = vec![Vec::new(); sides.len()];
        for pair in 0..scale.pairs {
            eprintln!("graphql: {case}, pair {} of {}", pair + 1, scale.pairs);
            for (side, (name, server)) in sides.iter().enumerate() {
                let requests = requests(side, question, asked);
                runs[side].push(load::measure(name, server.address(), scale, requests).await?);
            }
        }
        for ((name, _), runs) in sides.iter().zip(&runs) {
            report.rows.push(Row::of_commands(&case, name, runs));
        }
        let pairs = |other: usize| runs[0].iter().zip(&runs[other]).map(|(ours, other)| (ours.per_s, other.per_s));
        let (gates, goal) = match question {
            Question::ById => ([0.6, 1.5], 0.8),
            Question::Page => ([0.5, 1.2], 0.7),
        };
        let bare = Ratio::of(&case, "GraphQL answers per second / by hand on axum + sqlx", pairs(1));
        report.ratios.push(bare.gate(Bound::AtLeast(gates[0])).goal(Bound::AtLeast(goal)));
        if peer.is_some() {
            let ratio = Ratio::of(&case, "GraphQL answers per second / PostGraphile 5", pairs(2));
            report.ratios.push(ratio.gate(Bound::AtLeast(gates[1])));
        }
    }
    for (_, server) in sides {
        server.stop().await?;
    }
    Ok(())
}

/// What the sides are sent; PostGraphile is the third.
fn requests(side: usize, question: Question, asked: &Asked) -> Requests {
    let ask = match side {
        0 => Asked::of_ours,
        1 => Asked::of_bare,
        _ => Asked::of_peer,
    };
    Requests::of(asked.each(question).map(|of| ask(asked, question, of)))
}

/// A benchmark of different answers would compare nothing.
async fn same_answers(question: Question, asked: &Asked, sides: &[(&str, Server)]) -> anyhow::Result<()> {
    let of = asked.each(question).nth(1).context("more than one to ask for")?;
    let mut answers = Vec::new();
    for (ask, (name, server)) in [Asked::of_ours, Asked::of_bare, Asked::of_peer].into_iter().zip(sides) {
        let mut connection = Connection::open(server.address()).await?;
        let answer = connection.send(&ask(asked, question, of)).await.with_context(|| format!("ask {name}"))?;
        answers.push(serde_json::from_slice::<Value>(answer).with_context(|| format!("read what {name} answers"))?);
    }
    // how fresh the answer is, ours says beside the data
    let data = [&answers[0]["data"], &answers[1]["data"]];
    ensure!(data[0] == data[1], "answers differ: {} is not {}", data[0], data[1]);
    let rows = question.rows(&answers[0]["data"]);
    ensure!(rows.len() == question.rows_expected(), "{} rows: {}", rows.len(), answers[0]);
    if let Some(peers) = answers.get(2) {
        let peers = question.rows_of_peer(&peers["data"]);
        let ids = |rows: &[&Value]| rows.iter().map(|row| row["orderId"].clone()).collect::<Vec<_>>();
        ensure!(ids(&rows) == ids(&peers), "PostGraphile answers other rows: {:?}", answers[2]);
    }
    Ok(())
}
