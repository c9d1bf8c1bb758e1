//! `tributary up`: all roles in one process.

use std::process::ExitCode;

use anyhow::{Context, Result};
use write_side::Service;

use crate::{
    cli::Target,
    config::{Storage, UpArgs},
    demo, output,
    process::{self, Starting},
    roles::Together,
    stores,
};

/// Runs until SIGINT or SIGTERM, then drains and stops.
pub async fn run(args: Box<UpArgs>) -> Result<ExitCode> {
    let storage = args.storage()?;
    let door = process::door(&args.auth, Some(args.limits), args.origins.graphql_allowed_origins.clone()).await?;
    let asking = args.asking.options().await?;
    let lock = process::lock(&storage)?;
    if args.reset {
        stores::reset(&args.data_dir)?;
    }
    let (listener, url) = process::listen(args.listen).await?;
    let starting = Starting::serve(listener, door);
    let process = starting.runs(Together::start(&storage, &args, asking).await?);

    greet(&url, &storage, process.role().services().running());
    let mut seeding = args.demo.then(|| {
        let target = Target { url: url.clone(), token: None };
        tokio::spawn(async move { demo::seed(&target).await })
    });
    let mut end = std::pin::pin!(process::end_asked_for());
    loop {
        tokio::select! {
            () = &mut end => break,
            seeded = async { seeding.as_mut().expect("guarded").await }, if seeding.is_some() => {
                seeding = None;
                match seeded.context("the demo data ended badly")? {
                    Ok(seeded) => greet_demo(&url, &seeded),
                    Err(error) => tracing::error!("the demo data could not be entered: {error:#}"),
                }
            }
        }
    }
    if let Some(seeding) = seeding {
        seeding.abort();
    }
    process.end().await;
    drop(lock);
    Ok(ExitCode::SUCCESS)
}

fn greet(url: &str, storage: &Storage, services: &[Service]) {
    let kept = match storage {
        Storage::Sqlite { data_dir } => format!("SQLite, one file a service, in {}", data_dir.display()),
        Storage::Postgres { .. } => "PostgreSQL, one database a service".to_owned(),
    };
    output::line(format!("Tributary is up ({kept})."));
    output::line("");
    output::line(format!("  GraphQL playground   {url}/graphql"));
    // in the form that curl and shells expand
    let each = |names: &mut dyn Iterator<Item = &'static str>| names.collect::<Vec<_>>().join(",");
    let commanded = services.iter().filter(|service| service.api.takes_commands());
    output::line(format!("  Commands             {url}/{{{}}}", each(&mut commanded.map(|service| service.resource))));
    output::line(format!("  Their documentation  {url}/docs"));
    output::line(format!(
        "  Feeds                {url}/{{{}}}/feed",
        each(&mut services.iter().map(|service| service.name))
    ));
    output::line("  Read models          tributary projection status");
    output::line("");
}

fn greet_demo(url: &str, seeded: &demo::Seeded) {
    output::line(format!("Demo data: {seeded}. Look at one order:"));
    output::line("");
    output::line(format!(
        "  curl -s {url}/graphql --json '{{\"query\": \"{{ order(id: \\\"{}\\\") {{ status customer {{ name }} \
                          total {{ amountMinor currency }} }} }}\"}}'",
        seeded.order_id
    ));
    output::line("");
}
