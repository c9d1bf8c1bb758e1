//! Which rows changed, in order, for whoever keeps what was read up to date.
//!
//! Only a live generation tells: what happens to one that is being built, or that was swapped out, nobody has read. So
//! when one becomes live, it begins with a mark across which nobody can follow: everything may have changed.

use super::{
    super::{
        Doing, EngineError,
        batch::json,
        transaction::{Transaction, Value},
    },
    GenerationStore, Refused, Writing,
};

/// How long changes are kept: whoever was away for longer reads everything anew.
const KEPT_US: i64 = 24 * 60 * 60 * 1_000_000;
/// Between two sweeps over the oldest changes.
const SWEEP_EVERY_US: i64 = 10 * 1_000_000;

impl GenerationStore {
    /// From now on this is the live generation, and tells what changes; to be called before readers are pointed to it.
    ///
    /// A crash between the two leaves a mark too many, which only says less than is known.
    pub async fn go_live(&self) -> Result<(), EngineError> {
        let mut writing = self.writing.lock().await;
        let now_us = self.options.clock.now().timestamp_micros();
        let mut transaction = self.pool.begin().await.doing("begin")?;
        transaction.execute(&self.statements.changes.mark, &[Value::Integer(now_us)]).await.doing("go live")?;
        transaction.commit().await.doing("go live")?;
        writing.tells_changes = true;
        Ok(())
    }

    /// This has been the live generation all along: what it tells goes on.
    pub async fn stays_live(&self) {
        self.writing.lock().await.tells_changes = true;
    }

    /// Tells that the rows of `keys` were written anew, and forgets what is old.
    pub(super) async fn write_changes(
        &self,
        transaction: &mut Transaction,
        writing: &mut Writing,
        keys: &[String],
    ) -> Result<(), Refused> {
        if !writing.tells_changes || keys.is_empty() {
            return Ok(());
        }
        let now_us = self.options.clock.now().timestamp_micros();
        transaction
            .execute(&self.statements.changes.insert, &[Value::Text(&json(keys)), Value::Integer(now_us)])
            .await?;
        if now_us.saturating_sub(writing.swept_at_us) >= SWEEP_EVERY_US {
            writing.swept_at_us = now_us;
            transaction.execute(&self.statements.changes.sweep, &[Value::Integer(now_us - KEPT_US)]).await?;
        }
        Ok(())
    }
}
