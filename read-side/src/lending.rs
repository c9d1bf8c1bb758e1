//! Connections that are lent to reads.
//!
//! The library's pool tests a connection whenever it comes back, by a round trip, as somebody may have left it in the middle of
//! something. A read that has come to its end leaves nothing behind, so its connection goes to the next read as it is. One
//! that was broken off, or has failed, goes back to the pool and its test.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use database::RESTED;
use measures::{DatabaseUse, Entered};
use sqlx::{Database, Pool, pool::PoolConnection};
use tokio::sync::{Semaphore, SemaphorePermit};

/// How old a connection may be that is lent without having been in the pool meanwhile, which looks for itself how old it
/// is and whether its login still is the one to have. And how often those are looked at that nobody reads with.
const KEPT_MAX: Duration = Duration::from_secs(30);

/// How long after a change of the login the pool may still have connections of the one before: none is kept meanwhile.
const LOGIN_SETTLES: Duration = Duration::from_secs(1);

/// Which login the pool has: it grows when that changes, and connections from before are to be replaced.
type LoginVersion = Box<dyn Fn() -> u64 + Send + Sync>;

/// A pool, and what of it is with readers or about to be.
pub(crate) struct Lender<DB: Database> {
    pool: Pool<DB>,
    login_version: LoginVersion,
    /// The last one that was seen, and since when, if it has changed.
    login: Mutex<(u64, Option<Instant>)>,
    /// As many as are lent at once; the pool has more, so that whoever is let in need not wait for it, unless for one that was
    /// broken off and is still being tested.
    places: Semaphore,
    figures: Arc<DatabaseUse>,
    kept: Mutex<Vec<Kept<DB>>>,
}

#[derive(Debug)]
struct Kept<DB: Database> {
    connection: PoolConnection<DB>,
    since: Instant,
    /// It was given back at that time.
    resting_since: Instant,
    login_version: u64,
}

impl<DB: Database> Lender<DB> {
    /// Lends `lent_max` at most; the others of the pool are for whoever asks it directly.
    pub fn new(pool: Pool<DB>, lent_max: usize) -> Self {
        let (places, login_version) = (Semaphore::new(lent_max), Box::new(|| 0));
        let figures = Arc::new(DatabaseUse::of(None));
        Self { pool, login_version, login: Mutex::default(), places, figures, kept: Mutex::default() }
    }

    /// With a login that may change.
    pub fn of_login(mut self, version: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        self.login_version = Box::new(version);
        self
    }

    /// What is kept and may not be any more goes to the pool while nobody reads, too, for as long as the lender is there.
    pub fn looked_after(self) -> Arc<Self> {
        let lender = Arc::new(self);
        tokio::spawn(Self::look_after(Arc::downgrade(&lender), KEPT_MAX));
        lender
    }

    async fn look_after(lender: Weak<Self>, every: Duration) {
        loop {
            tokio::time::sleep(every).await;
            let Some(lender) = lender.upgrade() else { return };
            let login_version = lender.login_now();
            drop(lender.kept_of(login_version));
        }
    }

    /// With figures that others add to as well.
    pub fn measured_by(mut self, figures: &Arc<DatabaseUse>) -> Self {
        self.figures = Arc::clone(figures);
        self
    }

    /// For what is asked now and then.
    pub fn pool(&self) -> &Pool<DB> {
        &self.pool
    }

    /// A connection, when one is free. Cancel-safe.
    pub async fn lend(&self) -> Result<Lent<'_, DB>, sqlx::Error> {
        let ((kept, place), in_use) = self.noted(self.figures.connections.get(self.free()).await)?;
        Ok(Lent { lender: self, kept, _place: place, _in_use: in_use })
    }

    async fn free(&self) -> Result<(Kept<DB>, SemaphorePermit<'_>), sqlx::Error> {
        let wait = self.pool.options().get_acquire_timeout();
        let place = tokio::time::timeout(wait, self.places.acquire()).await;
        let place = place.map_err(|_| sqlx::Error::PoolTimedOut)?.map_err(|_| sqlx::Error::PoolClosed)?;
        let login_version = self.login_now();
        let kept = self.kept_of(login_version).pop();
        let kept = match kept {
            Some(kept) => kept,
            None => {
                let connection = self.pool.acquire().await?;
                let since = Instant::now();
                Kept { connection, since, resting_since: since, login_version }
            }
        };
        Ok((kept, place))
    }

    /// What is asked over a connection that was lent.
    pub async fn ask<T>(&self, asked: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
        self.noted(self.figures.calls.of(asked).await)
    }

    fn noted<T>(&self, done: Result<T, sqlx::Error>) -> Result<T, sqlx::Error> {
        if let Err(error) = &done {
            self.figures.failures.one_more(database::failure(error));
        }
        done
    }

    /// Lends no more, and closes every connection once its reader is done.
    pub async fn close(&self) {
        self.places.close();
        self.kept().clear();
        self.pool.close().await;
    }

    fn login_now(&self) -> u64 {
        let now = (self.login_version)();
        let mut login = self.login();
        if login.0 != now {
            *login = (now, Some(Instant::now()));
        }
        now
    }

    fn login_is_settled(&self) -> bool {
        self.login().1.is_none_or(|since| since.elapsed() > LOGIN_SETTLES)
    }

    fn login(&self) -> MutexGuard<'_, (u64, Option<Instant>)> {
        // a pair is whole between two calls
        self.login.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those that are kept; the old ones, those of another login and those whose server may have gone meanwhile are in the
    /// pool again, which replaces them.
    fn kept_of(&self, login_version: u64) -> MutexGuard<'_, Vec<Kept<DB>>> {
        let mut kept = self.kept();
        kept.retain(|one| {
            let is_young = one.since.elapsed() < KEPT_MAX && one.resting_since.elapsed() < RESTED;
            one.login_version == login_version && is_young
        });
        kept
    }

    fn kept(&self) -> MutexGuard<'_, Vec<Kept<DB>>> {
        // what is kept is whole between two calls
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<DB: Database> Drop for Lender<DB> {
    fn drop(&mut self) {
        // the pool would test each in a task, and there may be no runtime any more
        self.kept().drain(..).for_each(|kept| drop(kept.connection.detach()));
    }
}

/// A connection in the hands of a reader. Dropped, it goes to the pool to be tested.
pub(crate) struct Lent<'a, DB: Database> {
    lender: &'a Lender<DB>,
    kept: Kept<DB>,
    _place: SemaphorePermit<'a>,
    _in_use: Entered,
}

impl<DB: Database> Lent<'_, DB> {
    pub fn connection(&mut self) -> &mut DB::Connection {
        &mut self.kept.connection
    }

    /// For the next reader: what was asked has been answered, all of it.
    pub fn give_back(mut self) {
        if self.kept.since.elapsed() >= KEPT_MAX || !self.lender.login_is_settled() {
            return;
        }
        self.kept.resting_since = Instant::now();
        let mut kept = self.lender.kept();
        // looked at under the lock: who closes does that first, and clears what is kept then
        if !self.lender.places.is_closed() {
            kept.push(self.kept);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use sqlx::{Sqlite, SqlitePool, sqlite::SqlitePoolOptions};

    use super::*;

    async fn lender(lent_max: usize, pool_max: u32) -> Lender<Sqlite> {
        let pool = SqlitePoolOptions::new().max_connections(pool_max).acquire_timeout(Duration::from_millis(50));
        let pool: SqlitePool = pool.connect("sqlite::memory:").await.unwrap();
        Lender::new(pool, lent_max)
    }

    async fn mark(lent: &mut Lent<'_, Sqlite>) {
        sqlx::query("create temp table mark (n int)").execute(lent.connection()).await.unwrap();
    }

    async fn is_marked(lent: &mut Lent<'_, Sqlite>) -> bool {
        sqlx::query("select n from mark").fetch_all(lent.connection()).await.is_ok()
    }

    #[tokio::test]
    async fn what_is_given_back_is_lent_to_the_next() {
        let lender = lender(1, 2).await;
        let mut lent = lender.lend().await.unwrap();
        mark(&mut lent).await;
        lent.give_back();
        assert!(is_marked(&mut lender.lend().await.unwrap()).await);
    }

    #[tokio::test]
    async fn what_was_kept_of_another_login_goes_to_the_pool() {
        let version = Arc::new(AtomicU64::new(0));
        let told = Arc::clone(&version);
        let lender = lender(2, 3).await.of_login(move || told.load(Ordering::Relaxed));
        let (one, other) = (lender.lend().await.unwrap(), lender.lend().await.unwrap());
        one.give_back();
        other.give_back();
        assert_eq!(lender.kept().len(), 2);
        version.store(1, Ordering::Relaxed);
        lender.lend().await.unwrap().give_back();
        assert!(lender.kept().is_empty(), "the pool may not know yet");
        tokio::time::sleep(LOGIN_SETTLES + Duration::from_millis(50)).await;
        lender.lend().await.unwrap().give_back();
        assert_eq!(lender.kept()[0].login_version, 1);
    }

    #[tokio::test]
    async fn what_nobody_reads_with_goes_to_the_pool_when_it_is_old() {
        let lender = Arc::new(lender(2, 3).await);
        lender.lend().await.unwrap().give_back();
        lender.lend().await.unwrap().give_back();
        let looked_after = tokio::spawn(Lender::look_after(Arc::downgrade(&lender), Duration::from_millis(10)));
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(lender.kept().len(), 1, "it is young");
        lender.kept()[0].since -= KEPT_MAX;
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(lender.kept().is_empty());
        drop(lender);
        looked_after.await.expect("ends with what it looks after");
    }

    #[test]
    fn a_lender_may_outlive_its_runtime() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let lender = runtime.block_on(async {
            let lender = lender(1, 2).await;
            lender.lend().await.unwrap().give_back();
            lender
        });
        drop(runtime);
        drop(lender);
    }

    #[tokio::test]
    async fn as_many_are_lent_as_there_are_places_and_who_waits_too_long_is_told() {
        let lender = lender(2, 3).await;
        let (one, other) = (lender.lend().await.unwrap(), lender.lend().await.unwrap());
        assert!(matches!(lender.lend().await, Err(sqlx::Error::PoolTimedOut)));
        sqlx::query("select 1").fetch_all(lender.pool()).await.expect("the pool has one more");
        one.give_back();
        drop(other);
        lender.lend().await.expect("a place is free");
    }

    #[tokio::test]
    async fn what_was_broken_off_goes_to_the_pool_and_takes_no_place() {
        let lender = lender(1, 1).await;
        for _ in 0..20 {
            // dropped without having been given back
            drop(lender.lend().await.unwrap());
        }
        assert!(lender.kept().is_empty());
        lender.lend().await.unwrap().give_back();
        assert_eq!(lender.kept().len(), 1);
    }

    #[tokio::test]
    async fn a_lender_that_is_closed_has_no_connection_left() {
        let lender = lender(2, 3).await;
        lender.lend().await.unwrap().give_back();
        lender.close().await;
        assert!(matches!(lender.lend().await, Err(sqlx::Error::PoolClosed)));
        assert_eq!(lender.pool().size(), 0);
    }
}
