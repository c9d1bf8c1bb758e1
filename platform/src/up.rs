//! `tributary up`: all roles in one process.

use std::{process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use event_store::sqlite::DataDirLock;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use write_side::Service;

use crate::{
    auth::Authenticator,
    cli::Target,
    config::{ConfigError, Storage, UpArgs},
    demo,
    door::Door,
    output,
    roles::Roles,
    serve::serve,
    stores,
};

/// How long requests under way may take once the end was asked for.
const DRAIN_MAX: Duration = Duration::from_secs(10);

/// How long the roles may then take to end. They wait for databases, which may answer never; ending without them is a
/// crash to the databases, and those lose nothing that was acknowledged.
const STOP_MAX: Duration = Duration::from_secs(10);

/// Runs until SIGINT or SIGTERM, then drains and stops.
pub async fn run(args: Box<UpArgs>) -> Result<ExitCode> {
    let storage = args.storage()?;
    let door = door(&args).await?;
    let asking = args.asking.options().await?;
    let lock = prepare(&storage, args.reset)?;
    let listener = listen(&args).await?;
    let url = format!("http://{}", listener.local_addr().context("read the address listened on")?);
    let post = args.mail.post(&args.data_dir)?;
    let roles = Roles::start(&storage, &args.retention(), &args.saga(), &post, &args.projecting, asking).await?;
    let stop = CancellationToken::new();
    let server = tokio::spawn(serve(listener, roles.router(door), stop.clone()));

    greet(&url, &storage, roles.services());
    let mut seeding = args.demo.then(|| {
        let target = Target { url: url.clone(), token: None };
        tokio::spawn(async move { demo::seed(&target).await })
    });
    let mut end = std::pin::pin!(end_asked_for());
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
    tracing::info!("stopping: no new requests, those under way have {} s", DRAIN_MAX.as_secs());
    if let Some(seeding) = seeding {
        seeding.abort();
    }
    stop.cancel();
    roles.close();
    drain(server).await;
    if tokio::time::timeout(STOP_MAX, roles.shutdown()).await.is_err() {
        tracing::warn!("a database did not answer for {} s; what was not acknowledged is left", STOP_MAX.as_secs());
    }
    drop(lock);
    Ok(ExitCode::SUCCESS)
}

/// Makes the data directory ours for as long as the lock lives.
fn prepare(storage: &Storage, reset: bool) -> Result<Option<DataDirLock>> {
    let Storage::Sqlite { data_dir } = storage else { return Ok(None) };
    stores::make_private_dir(data_dir)?;
    let lock =
        DataDirLock::acquire(data_dir).with_context(|| format!("use the data directory {}", data_dir.display()))?;
    if reset {
        stores::reset(data_dir)?;
    }
    Ok(Some(lock))
}

async fn listen(args: &UpArgs) -> Result<TcpListener> {
    match TcpListener::bind(args.listen).await {
        Ok(listener) => Ok(listener),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => bail!(
            "{} is in use by another process; stop it, or choose another address with --listen 127.0.0.1:8081",
            args.listen
        ),
        Err(error) => Err(error).with_context(|| format!("listen on {}", args.listen)),
    }
}

/// What is asked of everybody, as configured.
async fn door(args: &UpArgs) -> Result<Door> {
    let authenticator = match args.auth.config().map_err(ConfigError::from)? {
        None => None,
        Some(config) => Some(Arc::new(Authenticator::start(config).await.context("set up authentication")?)),
    };
    let limits = args.limits.limits(authenticator.is_some()).map(Arc::new);
    Ok(Door { authenticator, limits, allowed_origins: args.graphql_allowed_origins.clone() })
}

async fn drain(mut server: JoinHandle<std::io::Result<()>>) {
    match tokio::time::timeout(DRAIN_MAX, &mut server).await {
        Ok(Ok(Ok(()))) => {}
        Ok(Ok(Err(error))) => tracing::error!(%error, "the server ended badly"),
        Ok(Err(error)) => tracing::error!(%error, "the server ended badly"),
        Err(_) => {
            tracing::warn!("requests were still under way after {} s and are cut off", DRAIN_MAX.as_secs());
            server.abort();
        }
    }
}

/// Completes on SIGINT (Ctrl-C) or SIGTERM.
async fn end_asked_for() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
        }
        Err(error) => {
            tracing::warn!(%error, "SIGTERM cannot be heard; Ctrl-C can");
            // without a handler the process ends at once, which is what was asked for
            let _ = tokio::signal::ctrl_c().await;
        }
    }
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
