//! Our side: accounts as a service on the project's own edge, with everything that a service of the register has there.

use anyhow::Context;
use axum::{extract::State, response::Response};
use event_store::bus::BusOptions;
use serde_json::json;
use tracing_subscriber::EnvFilter;
use write_side::{
    Given, Service,
    edge::{
        Edge, Incoming, PathId, Problem, Routes,
        fields::{Fields, id, integer, text},
        openapi::command,
    },
};

use crate::{
    serving, stores,
    workload::{Account, Deposit},
};

const AMOUNT_MINOR_MAX: i64 = 1_000_000_000;
const MEMO_CHARS_MAX: usize = 1_000;
const EXAMPLE: &str = "0198c0de-0000-7000-8000-000000000001";

/// More than any measurement has streams: all of them are hot.
const HOT_AGGREGATES_MAX: usize = 20_000;

/// Serves the accounts in the database at `url`, until standard input ends.
pub async fn serve(url: &str) -> anyhow::Result<()> {
    // as the binary logs when nobody says otherwise
    tracing_subscriber::fmt().with_env_filter(EnvFilter::new("warn")).with_writer(std::io::stderr).init();
    let bus = BusOptions { hot_aggregates_max: HOT_AGGREGATES_MAX, ..BusOptions::default() };
    let given = Given { bus, ..Given::new(stores::postgres_log(url).await?) };
    let service = Service::start::<Account, _>(stores::SOURCE, given, "accounts", None, routes);
    let service = service.context("start the accounts")?;
    let served = serving::serve(service.router.clone()).await;
    service.shutdown().await;
    served
}

fn routes(edge: Edge<Account>) -> Routes {
    let example = json!({ "amount_minor": 100, "reference": EXAMPLE, "memo": "Received with thanks" });
    Routes::of(stores::SOURCE, "Accounts that take deposits.")
        .post(
            "/accounts/{id}/deposits",
            deposit,
            command("deposit", "Deposit into an account").on(&[EXAMPLE]).takes(read, example),
        )
        .with_state(edge)
}

fn read(fields: &mut Fields<'_>) -> Option<Deposit> {
    let amount_minor = fields.required("amount_minor", integer(1, AMOUNT_MINOR_MAX));
    let reference = fields.required("reference", id);
    let memo = fields.required("memo", text(MEMO_CHARS_MAX));
    Some(Deposit { amount_minor: amount_minor?, reference: reference?, memo: memo?, opens: false })
}

async fn deposit(
    State(accounts): State<Edge<Account>>,
    PathId(id): PathId,
    incoming: Incoming,
) -> Result<Response, Problem> {
    let command = incoming.fields(read)?;
    accounts.change(&incoming, id, &command.clone(), command).await
}
