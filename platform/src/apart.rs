//! `tributary serve`, `project`, `graphql` and `gateway`: the roles as processes of their own.

use std::process::ExitCode;

use anyhow::Result;

use crate::{
    config::{
        Storage,
        apart::{GatewayArgs, GraphqlArgs, ProjectArgs, ServeArgs},
        check_address,
    },
    output,
    process::{self, Starting},
    roles::{Role, asking::Asking, gateway::Gateway, projector::Projecting, services::Services},
    stores,
};

/// Runs command services until SIGINT or SIGTERM.
pub async fn serve(args: ServeArgs) -> Result<ExitCode> {
    check_address(args.listen, &args.auth)?;
    let (storage, elsewhere) = (args.storage()?, args.elsewhere()?);
    let door = process::door(&args.auth, None, Vec::new()).await?;
    let lock = process::lock(&storage)?;
    let (listener, url) = process::listen(args.listen).await?;
    let starting = Starting::serve(listener, door);
    let entries = args.entries();
    let services = Services::start(&entries, &storage, &args.options, &args.data_dir, &elsewhere).await?;
    let names: Vec<&str> = entries.iter().map(|entry| entry.name).collect();
    let kept = match &storage {
        Storage::Sqlite { data_dir } => format!("SQLite in {}", data_dir.display()),
        Storage::Postgres { .. } => "PostgreSQL".to_owned(),
    };
    until_end(starting, services, &format!("{} on {kept}", names.join(", ")), &url).await;
    drop(lock);
    Ok(ExitCode::SUCCESS)
}

/// Runs the projector until SIGINT or SIGTERM.
pub async fn project(args: ProjectArgs) -> Result<ExitCode> {
    check_address(args.listen, &args.auth)?;
    let (storage, elsewhere) = (args.database.storage()?, args.elsewhere()?);
    let door = process::door(&args.auth, None, Vec::new()).await?;
    let (listener, url) = process::listen(args.listen).await?;
    let starting = Starting::serve(listener, door);
    let feeds = elsewhere.bases.keys().map(|service| elsewhere.feed(service)).collect::<Result<_>>()?;
    let projecting = Projecting::start(&storage, feeds, &args.projecting).await?;
    until_end(starting, projecting, "the projector", &url).await;
    Ok(ExitCode::SUCCESS)
}

/// Runs GraphQL until SIGINT or SIGTERM.
pub async fn graphql(args: GraphqlArgs) -> Result<ExitCode> {
    check_address(args.listen, &args.auth)?;
    let read = stores::open_read_side(&args.database.storage()?)?;
    let door = process::door(&args.auth, None, args.origins.graphql_allowed_origins).await?;
    let limits = args.limits.limits(door.authenticator.is_some());
    let asking = Asking::new(read, args.asking.options().await?).behind_gateway(limits);
    let (listener, url) = process::listen(args.listen).await?;
    until_end(Starting::serve(listener, door), asking, "GraphQL", &url).await;
    Ok(ExitCode::SUCCESS)
}

/// Runs the gateway until SIGINT or SIGTERM.
pub async fn gateway(args: GatewayArgs) -> Result<ExitCode> {
    check_address(args.listen, &args.auth)?;
    let gateway = Gateway::new(args.upstreams()?);
    let door = process::door(&args.auth, Some(args.limits), Vec::new()).await?;
    let (listener, url) = process::listen(args.listen).await?;
    until_end(Starting::serve(listener, door), gateway, "the gateway", &url).await;
    Ok(ExitCode::SUCCESS)
}

async fn until_end(starting: Starting, role: impl Role + 'static, what: &str, url: &str) {
    let process = starting.runs(role);
    output::line(format!("Tributary runs {what} at {url}"));
    process::end_asked_for().await;
    process.end().await;
}
