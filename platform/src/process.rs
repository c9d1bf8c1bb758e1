//! The life of a process: it listens, serves a role behind the door, and ends in good order when it is asked to.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use event_store::sqlite::DataDirLock;
use tokio::{
    net::{TcpListener, TcpSocket},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use crate::{
    auth::{Authenticator, config::AuthArgs},
    config::{ConfigError, Storage},
    door::Door,
    limits::LimitArgs,
    roles::{Front, Role},
    serve::{Routes, serve},
    stores,
};

/// How long requests under way may take once the end was asked for.
const DRAIN_MAX: Duration = Duration::from_secs(10);

/// How long a role may then take to end. It waits for databases, which may answer never; ending without it is a crash to
/// the databases, and those lose nothing that was acknowledged.
const STOP_MAX: Duration = Duration::from_secs(10);

/// Connections that wait to be accepted: as many clients may come at once as there may be requests. The library takes 128,
/// beyond which a client's connection begins a second late.
const BACKLOG: u32 = 1_024;

/// A process that answers for its health, and runs nothing yet.
pub struct Starting {
    door: Door,
    front: Front,
    routes: Arc<Routes>,
    stop: CancellationToken,
    server: JoinHandle<std::io::Result<()>>,
}

impl Starting {
    pub fn serve(listener: TcpListener, door: Door) -> Self {
        let (front, stop) = (Front::default(), CancellationToken::new());
        let routes = Arc::new(Routes::new(front.before_nobody(door.clone())));
        let server = tokio::spawn(serve(listener, Arc::clone(&routes), stop.clone()));
        Self { door, front, routes, stop, server }
    }

    /// What has started is served from now on.
    pub fn runs<R: Role + 'static>(self, role: R) -> Process<R> {
        let Self { door, front, routes, stop, server } = self;
        let role = Arc::new(role);
        routes.started(front.before(Arc::clone(&role) as Arc<dyn Role>, door));
        Process { role, front, stop, server }
    }
}

/// A role that is served.
pub struct Process<R> {
    role: Arc<R>,
    front: Front,
    stop: CancellationToken,
    server: JoinHandle<std::io::Result<()>>,
}

impl<R: Role> Process<R> {
    pub fn role(&self) -> &R {
        &self.role
    }

    /// Takes no new requests, lets those under way end, then the role.
    pub async fn end(self) {
        tracing::info!("stopping: no new requests, those under way have {} s", DRAIN_MAX.as_secs());
        self.stop.cancel();
        self.front.close();
        self.role.close();
        drain(self.server).await;
        if tokio::time::timeout(STOP_MAX, self.role.shutdown()).await.is_err() {
            tracing::warn!("a database did not answer for {} s; what was not acknowledged is left", STOP_MAX.as_secs());
        }
    }
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

/// Makes the data directory ours for as long as the lock lives.
pub fn lock(storage: &Storage) -> Result<Option<DataDirLock>> {
    let Storage::Sqlite { data_dir } = storage else { return Ok(None) };
    stores::make_private_dir(data_dir)?;
    let lock = DataDirLock::acquire(data_dir);
    lock.map(Some).with_context(|| format!("use the data directory {}", data_dir.display()))
}

/// Listens, and says where.
pub async fn listen(address: SocketAddr) -> Result<(TcpListener, String)> {
    let listener = match bind(address) {
        Ok(listener) => listener,
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => bail!(
            "{address} is in use by another process; stop it, or choose another address with --listen 127.0.0.1:{}",
            address.port().wrapping_add(1)
        ),
        Err(error) => return Err(error).with_context(|| format!("listen on {address}")),
    };
    let url = format!("http://{}", listener.local_addr().context("read the address listened on")?);
    Ok((listener, url))
}

fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // a process that is started again need not wait for connections of the one before to be forgotten
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// What is asked of everybody, as configured. Behind a gateway, which has `limits`, there are none.
pub async fn door(auth: &AuthArgs, limits: Option<LimitArgs>, allowed_origins: Vec<String>) -> Result<Door> {
    let authenticator = match auth.config().map_err(ConfigError::from)? {
        None => None,
        Some(config) => Some(Arc::new(Authenticator::start(config).await.context("set up authentication")?)),
    };
    let limits = limits.and_then(|limits| limits.limits(authenticator.is_some())).map(Arc::new);
    Ok(Door { authenticator, limits, allowed_origins })
}

/// Completes on SIGINT (Ctrl-C) or SIGTERM.
pub async fn end_asked_for() {
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
