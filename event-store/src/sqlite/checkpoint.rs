//! Checkpoints beside the writer: the WAL is copied into the file by a thread of its own, so that no commit waits for it.
//!
//! Left to itself, SQLite checkpoints inside whichever commit passes the threshold, and everybody waits for tens of
//! milliseconds. Here that commit only wakes the checkpointer. While it copies, the writer goes on, so it never quite
//! catches up; when little is left, it tells the writer, which copies the rest behind its next commit: then the whole WAL
//! is in the file, and is written from its start again.

use std::{
    cell::Cell,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::JoinHandle,
};

use rusqlite::Connection;

use super::connection::connect_checkpointer;

/// The writer checkpoints by itself at so many times the pages that wake the checkpointer, should it not keep up: this
/// bounds the file.
const INLINE_FACTOR: i32 = 4;

/// What the writer may be left to copy, as a part of the pages that wake the checkpointer: a millisecond or two.
const REST_PART: i32 = 16;

/// Rounds of one wake-up: each has to copy what was committed during the one before, a fraction of it.
const ROUNDS_MAX: u32 = 4;

const CHECKPOINT: &str = "pragma wal_checkpoint(passive)";

thread_local! {
    /// Pages in the WAL behind the last commit of this thread's connection.
    static WAL_PAGES: Cell<i32> = const { Cell::new(0) };
}

/// Lets commits on `connection` note how long the WAL is, in place of SQLite's own checkpoints.
pub(super) fn watch(connection: &Connection) {
    connection.wal_hook(Some(|_, pages| {
        WAL_PAGES.set(pages);
        Ok(())
    }));
}

/// The writer's end: it looks behind every commit.
pub(super) struct Checkpoints {
    wake: SyncSender<()>,
    /// Pages in the WAL that wake the checkpointer.
    wake_pages: i32,
    /// Little is left to copy.
    nearly_done: Arc<AtomicBool>,
}

impl Checkpoints {
    /// Starts the thread. It ends when the writer does.
    pub fn start(path: PathBuf, name: &str, wake_pages: u16) -> std::io::Result<(Self, JoinHandle<()>)> {
        // one wake-up may wait while another is seen to
        let (wake, woken) = sync_channel(1);
        let nearly_done = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&nearly_done);
        let wake_pages = i32::from(wake_pages).max(REST_PART);
        let thread = std::thread::Builder::new()
            .name(format!("checkpoint-{name}"))
            .spawn(move || run(&path, wake_pages / REST_PART, &woken, &told))?;
        Ok((Self { wake, wake_pages, nearly_done }, thread))
    }

    pub fn committed(&self, connection: &Connection) {
        let pages = WAL_PAGES.get();
        if pages < self.wake_pages {
            return;
        }
        if pages >= INLINE_FACTOR * self.wake_pages || self.nearly_done.swap(false, Ordering::Relaxed) {
            // what fails or is busy now is tried again behind a later commit
            if let Err(error) = checkpoint(connection) {
                tracing::warn!(%error, "a checkpoint failed; the WAL grows");
            }
            return;
        }
        // full: it has been woken already
        let _ = self.wake.try_send(());
    }
}

fn run(path: &Path, rest_pages: i32, woken: &Receiver<()>, nearly_done: &AtomicBool) {
    let mut connection = None;
    while woken.recv().is_ok() {
        let result = match connection.take() {
            Some(connection) => Ok(connection),
            None => connect_checkpointer(path),
        };
        match result.and_then(|opened| catch_up(&opened, rest_pages).map(|()| opened)) {
            Ok(opened) => {
                connection = Some(opened);
                nearly_done.store(true, Ordering::Relaxed);
            }
            Err(error) => tracing::warn!(%error, file = %path.display(), "a checkpoint failed; the WAL grows"),
        }
    }
}

fn catch_up(connection: &Connection, rest_pages: i32) -> rusqlite::Result<()> {
    for _ in 0..ROUNDS_MAX {
        if checkpoint(connection)? <= rest_pages {
            break;
        }
    }
    Ok(())
}

/// Copies what may be copied without waiting for anybody, and syncs it. How many pages are left.
fn checkpoint(connection: &Connection) -> rusqlite::Result<i32> {
    let (wal, copied): (i32, i32) =
        connection.prepare_cached(CHECKPOINT)?.query_row([], |row| Ok((row.get(1)?, row.get(2)?)))?;
    Ok(wal - copied)
}
