//! How a PostgreSQL database is reached, and as whom.
//!
//! A [`Database`] is told by a URL, or by a file that holds one; the password may stand in a file of its own, named as the
//! role. Files are read again when they change, so that a rotated secret needs no restart: connections that are made from
//! then on log in with what the files say now, and those from before are replaced when they are used next.
//!
//! And who may do what there: [`roles`] of a server and [`rights`] in a database are told, compared with what there is, and
//! made so by [`change`]s; [`scram`] is how a password is told to a server.
//!
//! What is deliberately not here: which tables there are, which rights they need, and which settings a connection has. Every
//! crate says that of what it keeps.

pub mod change;
pub mod rights;
pub mod roles;
pub mod scram;

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    str::FromStr,
    sync::{
        Arc, Mutex, OnceLock, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use measures::Failure;
use sqlx::{
    Connection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use thiserror::Error;
use tokio::{sync::watch, time::sleep};

/// How often files are looked at.
const LOOK_PAUSE: Duration = Duration::from_secs(1);

/// A connection that has rested for longer is asked whether it still is one before anybody gets it: its server may have gone
/// meanwhile, and come back. What is in use all the time pays nothing for that.
pub const RESTED: Duration = Duration::from_secs(1);

/// A database and who logs in to it. Cheap to clone; clones see the same changes.
#[derive(Clone)]
pub struct Database {
    shared: Arc<Shared>,
}

struct Shared {
    source: Source,
    login: watch::Sender<PgConnectOptions>,
    /// Grows when the login changes.
    version: AtomicU64,
    watching: OnceLock<()>,
}

/// Where a login is told.
#[derive(Clone)]
pub struct Source {
    pub url: Url,
    /// Holds passwords, each in a file named as the role; one that is there goes before that of the URL.
    pub secrets_dir: Option<PathBuf>,
}

/// Says neither itself nor what is in its file: both may hold a password.
#[derive(Clone)]
pub enum Url {
    Text(String),
    File(PathBuf),
}

/// Why a login cannot be told. Never says a URL: it may hold a password.
#[derive(Debug, Error)]
pub enum LoginError {
    #[error("read {}: {error}", path.display())]
    File { path: PathBuf, error: io::Error },
    #[error("not a URL of a PostgreSQL database (postgres://user:password@host:port/database)")]
    Url,
}

/// What the files say, to be compared with what they said before.
#[derive(PartialEq, Eq)]
struct Told {
    url: String,
    password: Option<String>,
}

impl Database {
    /// Reads what `source` says now.
    pub fn new(source: Source) -> Result<Self, LoginError> {
        let (_, options) = source.read()?;
        let login = watch::Sender::new(options);
        let shared = Shared { source, login, version: AtomicU64::new(0), watching: OnceLock::new() };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// How to connect now.
    pub fn options(&self) -> PgConnectOptions {
        self.shared.login.borrow().clone()
    }

    /// Grows when the login changes: connections from before are to be replaced. Files are watched from the first
    /// [`Self::pool`] on.
    pub fn version(&self) -> u64 {
        self.shared.version.load(Ordering::Acquire)
    }

    /// A pool that connects when it is first used, with the login of that moment and the settings that `with` adds.
    pub fn pool(
        &self,
        options: PgPoolOptions,
        with: impl Fn(PgConnectOptions) -> PgConnectOptions + Send + Sync + 'static,
    ) -> PgPool {
        if !self.shared.source.may_change() {
            let options = options.before_acquire(|connection, about| {
                Box::pin(async move { Ok(about.idle_for < RESTED || connection.ping().await.is_ok()) })
            });
            return options.connect_lazy_with(with(self.options()));
        }
        self.watch();
        let replaced: Arc<Mutex<Option<Instant>>> = Arc::default();
        let is_old = Arc::clone(&replaced);
        let mut changes = self.shared.login.subscribe();
        let pool = options
            .before_acquire(move |connection, about| {
                let replaced = *is_old.lock().unwrap_or_else(PoisonError::into_inner);
                let is_current = replaced.is_none_or(|at| about.age <= at.elapsed());
                Box::pin(async move { Ok(is_current && (about.idle_for < RESTED || connection.ping().await.is_ok())) })
            })
            .connect_lazy_with(with(changes.borrow_and_update().clone()));
        let following = pool.clone();
        // ends with the pool, or with the last that may tell of a change
        tokio::spawn(async move {
            let closed = following.close_event();
            let follow = async {
                while changes.changed().await.is_ok() {
                    following.set_connect_options(with(changes.borrow_and_update().clone()));
                    *replaced.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
                }
            };
            tokio::select! {
                () = closed => {}
                () = follow => {}
            }
        });
        pool
    }

    /// Looks at the files from now on, for as long as anybody has this.
    fn watch(&self) {
        self.shared.watching.get_or_init(|| {
            tokio::spawn(look_again_and_again(Arc::downgrade(&self.shared)));
        });
    }
}

async fn look_again_and_again(shared: Weak<Shared>) {
    let mut told: Option<Told> = None;
    // a fault is said once
    let mut is_at_fault = false;
    while let Some(now) = shared.upgrade() {
        let source = now.source.clone();
        // files may lie on a slow file system
        match tokio::task::spawn_blocking(move || source.read()).await {
            Ok(Ok((said, options))) => {
                is_at_fault = false;
                if told.as_ref().is_some_and(|before| *before != said) {
                    tracing::info!(role = options.get_username(), "the login of a database has changed");
                    now.version.fetch_add(1, Ordering::Release);
                    now.login.send_replace(options);
                } else if told.is_none() {
                    // what was said between the first reading and this one
                    now.login.send_replace(options);
                }
                told = Some(said);
            }
            Ok(Err(error)) if !is_at_fault => {
                tracing::warn!(code = "database_login_unreadable", %error, "the login stays as it was");
                is_at_fault = true;
            }
            Ok(Err(_)) => {}
            Err(error) => tracing::error!(%error, "reading a login ended badly"),
        }
        drop(now);
        sleep(LOOK_PAUSE).await;
    }
}

impl Source {
    fn may_change(&self) -> bool {
        self.secrets_dir.is_some() || matches!(self.url, Url::File(_))
    }

    fn read(&self) -> Result<(Told, PgConnectOptions), LoginError> {
        let url = match &self.url {
            Url::Text(url) => url.clone(),
            Url::File(path) => read(path)?,
        };
        let options = parse(&url)?;
        let password = match &self.secrets_dir {
            Some(secrets_dir) => password(secrets_dir, options.get_username())?,
            None => None,
        };
        let options = match &password {
            Some(password) => options.password(password),
            None => options,
        };
        Ok((Told { url, password }, options))
    }
}

/// The password of a role, if there is a file for it.
pub fn password(secrets_dir: &Path, role: &str) -> Result<Option<String>, LoginError> {
    match read(&secrets_dir.join(role)) {
        Ok(password) => Ok(Some(password)),
        Err(LoginError::File { error, .. }) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Why the driver's call has failed.
pub fn failure(error: &sqlx::Error) -> Failure {
    match error {
        sqlx::Error::Database(told) => told.code().map_or(Failure::Other, |code| Failure::of_code(&code)),
        sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed => Failure::NoConnection,
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed => {
            Failure::Unreachable
        }
        _ => Failure::Other,
    }
}

/// What a file says, without the end of its line.
fn read(path: &Path) -> Result<String, LoginError> {
    let text = fs::read_to_string(path).map_err(|error| LoginError::File { path: path.to_owned(), error })?;
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}

fn parse(url: &str) -> Result<PgConnectOptions, LoginError> {
    if !["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)) {
        return Err(LoginError::Url);
    }
    // what the driver says may repeat the URL
    url.parse().map_err(|_| LoginError::Url)
}

impl FromStr for Database {
    type Err = LoginError;

    /// From a URL with everything in it.
    fn from_str(url: &str) -> Result<Self, LoginError> {
        Self::new(Source { url: Url::Text(url.to_owned()), secrets_dir: None })
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_and_a_password_are_read_from_their_files() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("url");
        let source = || Source { url: Url::File(file.clone()), secrets_dir: Some(folder.path().to_owned()) };
        let missing = Database::new(source()).unwrap_err();
        assert!(matches!(&missing, LoginError::File { path, .. } if *path == file), "{missing}");
        fs::write(&file, "postgres://teller:old@db.internal/accounts\n").unwrap();
        let (without, _) = source().read().unwrap();
        assert_eq!(without.password, None, "that of the URL counts");
        fs::write(folder.path().join("teller"), "it's new\n").unwrap();
        let (told, options) = source().read().unwrap();
        assert_eq!((told.password.as_deref(), options.get_username()), (Some("it's new"), "teller"));
        assert!(without != told, "which is a change");
    }

    #[test]
    fn what_is_no_url_is_not_repeated() {
        for wrong in ["mysql://ana:secret@localhost/query", "secret", "postgres://ana:secret@localhost:no/query"] {
            let error = wrong.parse::<Database>().unwrap_err();
            assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
        }
    }
}
