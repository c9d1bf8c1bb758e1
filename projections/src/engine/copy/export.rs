//! A copy of what is live, while it goes on: each read model as of one moment, rows and checkpoint in one snapshot.

use std::{sync::Arc, time::Duration};

use event_store::backup::BackupError;
use futures::TryStreamExt;
use tokio::sync::mpsc;

use super::{
    super::{
        Doing, EngineError,
        compare::part_name,
        query_database::{QueryDatabase, Snapshot, now_us},
        statements::{
            dump_of,
            kept::{ANCHORS, DECISIONS, KEPT, dump_anchors, dump_decisions},
            tables,
        },
        transaction::Transaction,
    },
    CopyError,
    lines::{ReadModel, Writer},
};
use crate::projection::Projection;

/// Some lines at a time, and an error last if there is one.
pub type Contents = mpsc::Receiver<Result<Vec<u8>, CopyError>>;

/// Bytes that travel together.
const CHUNK_BYTES: usize = 1024 * 1024;
/// Chunks that wait for whoever reads them.
const CHUNKS_MAX: usize = 4;
/// How long a chunk is waited for to be taken: what is read is a snapshot, which must not be held for long.
const TAKE_MAX: Duration = Duration::from_secs(60);
/// Looks at which generation is live, until one was live before and after a snapshot began.
const LOOKS_MAX: usize = 10;

/// Copies the live generations of `projections`. It ends when the receiver is dropped.
pub fn export(database: &QueryDatabase, projections: Vec<Arc<Projection>>) -> Contents {
    let (to, contents) = mpsc::channel(CHUNKS_MAX);
    let mut export = Export { database: database.clone(), writer: Writer::new(now_us()), to };
    tokio::spawn(async move {
        for projection in projections {
            if let Err(error) = export.read_model(&projection).await {
                // nobody may be left to hear it
                let _ = export.to.send_timeout(Err(error), TAKE_MAX).await;
                return;
            }
        }
        let _ = export.to.send_timeout(Ok(export.writer.finish()), TAKE_MAX).await;
    });
    contents
}

struct Export {
    database: QueryDatabase,
    writer: Writer,
    to: mpsc::Sender<Result<Vec<u8>, CopyError>>,
}

impl Export {
    async fn read_model(&mut self, projection: &Projection) -> Result<(), CopyError> {
        let template = projection.template;
        let program = i64::from(projection.version);
        let held = self.hold(projection).await?;
        let (generation, version, left_out) = match &held {
            None => (0, 0, Some("it is not live yet".to_owned())),
            Some((live, version, _)) if *version != program => {
                let why = format!("what is live is of version {version}, and this program makes version {program}");
                (*live, *version, Some(why))
            }
            Some((live, version, _)) => (*live, *version, None),
        };
        let is_left_out = left_out.is_some();
        self.writer.read_model(ReadModel { name: template.name.to_owned(), version, generation, left_out });
        let Some((_, _, mut snapshot)) = held else { return Ok(()) };
        if !is_left_out {
            let postgres = snapshot.transaction.is_postgres();
            for kept in &KEPT {
                let dump = kept.dump(template, generation, postgres);
                self.table(kept.table, dump.into(), &mut snapshot.transaction).await?;
            }
            let dump = dump_anchors(template, generation, postgres);
            self.table(ANCHORS, dump.into(), &mut snapshot.transaction).await?;
            for table in tables(template, generation) {
                let name = part_name(template, generation, &table);
                let dump = dump_of(&table, &table.columns, postgres);
                self.table(&name, dump, &mut snapshot.transaction).await?;
            }
        }
        snapshot.end().await;
        if !is_left_out {
            // they lie beside the pointers, and are of no moment: what was left out by mistake is parked again
            let mut pointers = self.database.pointers().begin_snapshot().await.doing("begin")?;
            let dump = dump_decisions(template, pointers.is_postgres());
            let copied = self.table(DECISIONS.table, dump.into(), &mut pointers).await;
            pointers.rollback().await;
            copied?;
        }
        Ok(())
    }

    /// The live generation with its version, and a look at it that lasts.
    async fn hold(&self, projection: &Projection) -> Result<Option<(i64, i64, Snapshot)>, EngineError> {
        let template = projection.template;
        for _ in 0..LOOKS_MAX {
            let Some(live) = self.database.live(template).await? else { return Ok(None) };
            let snapshot = self.database.snapshot(template, live.generation).await?;
            if self.database.live(template).await?.as_ref() == Some(&live) {
                return Ok(Some((live.generation, live.version, snapshot)));
            }
            snapshot.end().await;
        }
        Err(EngineError::Damaged(format!("the live generation of {} changes all the time", template.name)))
    }

    async fn table(&mut self, name: &str, dump: Arc<str>, snapshot: &mut Transaction) -> Result<(), CopyError> {
        self.writer.table(name);
        let mut rows = snapshot.stream(&dump);
        while let Some(row) = rows.try_next().await.doing("read a generation")? {
            let row = row.into_iter().next().flatten().unwrap_or_default();
            let written = self.writer.row(&row);
            written.map_err(|error| EngineError::Damaged(format!("a row of {name} is no JSON: {error}")))?;
            if self.writer.bytes() >= CHUNK_BYTES {
                let chunk = self.writer.take();
                let sent = self.to.send_timeout(Ok(chunk), TAKE_MAX).await;
                sent.map_err(|_| BackupError::Refused("nobody takes the copy".to_owned()))?;
            }
        }
        Ok(())
    }
}
