//! `tributary import northwind`: customers and products first, orders behind them, then the wait for the read model.
//!
//! Everything is entered under keys and ids made from the old keys, so an import that is killed is run again, and one
//! that is run twice enters nothing new.

use std::{collections::HashSet, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context, ensure};
use events::consistency::ConsistencyToken;
use futures::{StreamExt, stream};
use serde::Serialize;
use serde_json::json;

use super::{
    client::{Client, Outcome},
    mapping::{self, Command, Kind},
    progress::{Phase, say},
    report::{Refused, Report, Tally, print_summary},
    source::{Counts, OrderRows, Source},
    verify,
};
use crate::{
    cli::{Output, Target},
    output,
};

/// Requests under way at once: enough for the services to commit them in groups, far below what their queues hold.
const IN_FLIGHT_MAX: usize = 16;

/// How long the read model may take to catch up with the import. It is an import's worth of events behind at most.
const CATCH_UP_MAX: Duration = Duration::from_secs(600);

/// Rows were refused; they stand in the report.
const EXIT_REFUSED: u8 = 2;

/// The platform answers otherwise than the source.
const EXIT_DIFFERENT: u8 = 3;

/// Touches the read model, so that the token is waited for.
const CATCH_UP_QUERY: &str = "query CatchUp { orders(first: 1) { edges { node { orderId } } } }";

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The source: a SQLite file or a postgres:// URL. It is only read.
    #[arg(long, value_name = "FILE|URL")]
    from: String,
    #[command(flatten)]
    target: Target,
    /// Afterwards, compare every order in GraphQL with one SQL JOIN on the source.
    #[arg(long)]
    verify: bool,
    /// Where rows that break a rule are written, with key and reason. Not written when there are none.
    #[arg(long, value_name = "FILE", default_value = "northwind-import-report.jsonl")]
    report: PathBuf,
}

pub async fn run(args: Args, output: Output) -> anyhow::Result<ExitCode> {
    let mut source = Source::connect(&args.from).await?;
    let counts = source.counts().await?;
    let client = Client::connect(&args.target).await?;
    let mut import = Import {
        client,
        report: Report::new(&args.report)?,
        token: ConsistencyToken::default(),
        refused_orders: HashSet::new(),
    };
    let mut tallies = import.references(&mut source, &counts).await?;
    import.orders(&mut source, &counts, &mut tallies).await?;
    say("waiting for the read model");
    import.client.query(CATCH_UP_QUERY, &json!({}), &import.token, CATCH_UP_MAX).await.context("catch up")?;

    let refused = import.report.refused();
    let verdict = if args.verify {
        Some(verify::run(&mut source, &import.client, &import.token, &import.refused_orders).await?)
    } else {
        None
    };
    match output {
        Output::Human => {
            tallies.print();
            if refused > 0 {
                output::line(format!("{refused} refused, with key and reason in {}", args.report.display()));
            }
            if let Some(verdict) = &verdict {
                output::line(verdict.to_string());
            }
        }
        Output::Json => {
            let report = (refused > 0).then_some(&args.report);
            output::json(&json!({"entered": tallies, "refused": refused, "report": report, "verify": verdict}));
        }
    }
    if verdict.is_some_and(|verdict| !verdict.agrees()) {
        return Ok(ExitCode::from(EXIT_DIFFERENT));
    }
    Ok(if refused == 0 { ExitCode::SUCCESS } else { ExitCode::from(EXIT_REFUSED) })
}

struct Import {
    client: Client,
    report: Report,
    /// Everything entered so far: what comes later is sent behind it.
    token: ConsistencyToken,
    /// Old keys.
    refused_orders: HashSet<String>,
}

#[derive(Default, Serialize)]
struct Tallies {
    customers: Tally,
    products: Tally,
    discontinued: Tally,
    orders: Tally,
    lines: Tally,
    /// Old keys of what orders may refer to.
    #[serde(skip)]
    entered_customers: HashSet<String>,
    #[serde(skip)]
    entered_products: HashSet<String>,
}

/// A row on its way: its old key, how many lines hang on it, and its request, or why there is none.
struct Row {
    key: String,
    lines: u64,
    command: Result<Command, Refused>,
}

/// What became of it.
enum Ended {
    Entered { key: String, lines: u64, changed: bool },
    Refused { key: String, lines: u64 },
}

impl Import {
    /// Customers and products, each behind nothing, and the ends of products behind their products.
    async fn references(&mut self, source: &mut Source, counts: &Counts) -> anyhow::Result<Tallies> {
        let mut tallies = Tallies::default();
        let nothing = ConsistencyToken::default();
        let rows = source.customers().await?.into_iter().map(|row| Row {
            command: mapping::customer(&row).map_err(|e| Refused::bad_row(Kind::Customer, &row.customer_id, e)),
            key: row.customer_id,
            lines: 0,
        });
        for ended in self.enter(Kind::Customer, rows, &nothing, &mut Phase::new("customers", counts.customers)).await? {
            tallies.customers.count(&ended);
            tallies.entered_customers.extend(ended.entered());
        }

        let products = source.products().await?;
        let rows = products.iter().map(|row| Row {
            command: mapping::product(row).map_err(|e| Refused::bad_row(Kind::Product, &row.product_id, e)),
            key: row.product_id.clone(),
            lines: 0,
        });
        for ended in self.enter(Kind::Product, rows, &nothing, &mut Phase::new("products", counts.products)).await? {
            tallies.products.count(&ended);
            tallies.entered_products.extend(ended.entered());
        }

        let ends = products.iter().filter(|row| tallies.entered_products.contains(&row.product_id));
        let rows: Vec<Row> = ends
            .filter_map(|row| {
                let command = Ok(mapping::discontinue(row)?);
                Some(Row { key: row.product_id.clone(), lines: 0, command })
            })
            .collect();
        let mut phase = Phase::new("discontinued", rows.len() as u64);
        for ended in self.enter(Kind::Discontinued, rows, &nothing, &mut phase).await? {
            tallies.discontinued.count(&ended);
        }
        Ok(tallies)
    }

    async fn orders(&mut self, source: &mut Source, counts: &Counts, tallies: &mut Tallies) -> anyhow::Result<()> {
        let mut phase = Phase::new("orders", counts.orders);
        // the orders service must know their customers and products
        let references = self.token.clone();
        let mut after: Option<String> = None;
        loop {
            let page = source.orders(after.as_deref()).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.order_id.clone());
            let rows = page.into_iter().map(|row| Row {
                command: order_command(&row, tallies),
                lines: row.lines.len() as u64,
                key: row.order_id,
            });
            let rows: Vec<Row> = rows.collect();
            for ended in self.enter(Kind::Order, rows, &references, &mut phase).await? {
                tallies.orders.count(&ended);
                tallies.lines.count_lines(&ended);
                if let Ended::Refused { key, .. } = ended {
                    self.refused_orders.insert(key);
                }
            }
        }
        for key in source.orphan_lines().await? {
            self.report.add(&Refused::bad_row(Kind::OrderLine, &key, "no order has this line"))?;
            tallies.lines.refused += 1;
        }
        let seen = (tallies.customers.total(), tallies.products.total(), tallies.orders.total(), tallies.lines.total());
        ensure!(
            seen == (counts.customers, counts.products, counts.orders, counts.lines),
            "the source holds {counts:?} but {seen:?} were seen: rows got lost between reading and sending"
        );
        Ok(())
    }

    /// Sends the rows, at most `IN_FLIGHT_MAX` at once, each behind `behind`, and notes what became of each.
    async fn enter(
        &mut self,
        kind: Kind,
        rows: impl IntoIterator<Item = Row>,
        behind: &ConsistencyToken,
        phase: &mut Phase,
    ) -> anyhow::Result<Vec<Ended>> {
        let client = &self.client;
        let mut answers = stream::iter(rows)
            .map(|row| async move {
                let outcome = match row.command {
                    Ok(command) => client.send(&command, behind).await?,
                    Err(Refused { code, reason, .. }) => Outcome::Refused { code, reason },
                };
                anyhow::Ok((row.key, row.lines, outcome))
            })
            .buffer_unordered(IN_FLIGHT_MAX);
        let mut ended = Vec::new();
        while let Some(answer) = answers.next().await {
            let (key, lines, outcome) = answer?;
            match outcome {
                Outcome::Done { token, changed } => {
                    self.token.merge(&token);
                    ended.push(Ended::Entered { key, lines, changed });
                }
                Outcome::Refused { code, reason } => {
                    self.report.add(&Refused { kind: kind.as_str(), key: key.clone(), code, reason })?;
                    ended.push(Ended::Refused { key, lines });
                }
            }
            phase.step();
        }
        Ok(ended)
    }
}

/// An order's request, if all that it refers to was entered.
fn order_command(row: &OrderRows, tallies: &Tallies) -> Result<Command, Refused> {
    let refused = |reason: String| Refused::bad_row(Kind::Order, &row.order_id, reason);
    let order = mapping::order(row).map_err(|error| refused(error.to_string()))?;
    if let Some(customer) = row.customer_id.as_ref().filter(|key| !tallies.entered_customers.contains(*key)) {
        return Err(refused(format!("customer {customer} was not entered")));
    }
    let mut products = row.lines.iter().map(|line| &line.product_id);
    if let Some(product) = products.find(|key| !tallies.entered_products.contains(*key)) {
        return Err(refused(format!("product {product} was not entered")));
    }
    Ok(mapping::import_order(&order))
}

impl Ended {
    fn entered(&self) -> Option<String> {
        match self {
            Self::Entered { key, .. } => Some(key.clone()),
            Self::Refused { .. } => None,
        }
    }
}

impl Tally {
    fn count(&mut self, ended: &Ended) {
        self.add(ended, 1);
    }

    fn count_lines(&mut self, ended: &Ended) {
        let (Ended::Entered { lines, .. } | Ended::Refused { lines, .. }) = ended;
        self.add(ended, *lines);
    }

    fn add(&mut self, ended: &Ended, n: u64) {
        match ended {
            Ended::Entered { changed: true, .. } => self.new += n,
            Ended::Entered { changed: false, .. } => self.already_there += n,
            Ended::Refused { .. } => self.refused += n,
        }
    }
}

impl Tallies {
    fn print(&self) {
        print_summary(&[
            ("customers", &self.customers),
            ("products", &self.products),
            ("discontinued", &self.discontinued),
            ("orders", &self.orders),
            ("order lines", &self.lines),
        ]);
    }
}
