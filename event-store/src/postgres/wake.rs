//! How a waiting reader learns that there is more: at once when this process commits, by looking when another does.
//!
//! No NOTIFY: a committing transaction that notifies holds a lock of the whole server, so the services that share one
//! would commit one behind the other, fsync included. Looking is one index look-up by one of the waiting readers for
//! all of them, often while there is news, seldom while there is none. What is seen here is a wake-up and never the
//! truth: the reader reads its page again.

use std::time::Duration;

use tokio::{
    sync::{Mutex, watch},
    time::{Instant, sleep, timeout_at},
};

use super::read::Reader;

/// The first look comes this soon, and each later one after twice the pause, up to the longest.
const LOOK_PAUSE_MIN: Duration = Duration::from_millis(5);
const LOOK_PAUSE_MAX: Duration = Duration::from_millis(100);

pub(super) struct Wake {
    head: watch::Sender<u64>,
    /// Held by the one waiting reader that looks for all.
    looking: Mutex<()>,
}

impl Default for Wake {
    fn default() -> Self {
        Self { head: watch::Sender::new(0), looking: Mutex::default() }
    }
}

impl Wake {
    /// The head was seen at `position`.
    pub(super) fn head_is(&self, position: u64) {
        self.head.send_if_modified(|head| std::mem::replace(head, position) != position);
    }

    /// To be called before the page is read, so that nothing seen since is missed.
    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.head.subscribe()
    }

    /// Waits until the head is seen to move, or is elsewhere than at `position`, where the reader's page showed it
    /// (further, or back in a restored log); false when `deadline` comes first. A server that is away ends the wait:
    /// the page that is then read says so.
    ///
    /// Any move ends it, whatever it says: a look that was overtaken by a commit may have the last word on where the
    /// head is, and who compared would then miss the commit.
    pub(super) async fn moved_from(
        &self,
        position: u64,
        mut head: watch::Receiver<u64>,
        reader: &Reader,
        deadline: Instant,
    ) -> bool {
        if Instant::now() >= deadline {
            return false;
        }
        let told = head.changed();
        let looked = async {
            let _one_looks_for_all = self.looking.lock().await;
            let mut pause = LOOK_PAUSE_MIN;
            loop {
                sleep(pause).await;
                match reader.head_position().await {
                    Ok(now) => {
                        self.head_is(now);
                        if now != position {
                            return;
                        }
                        pause = (pause * 2).min(LOOK_PAUSE_MAX);
                    }
                    Err(_) => return,
                }
            }
        };
        let either = async {
            tokio::select! {
                // the sender lives in self, so this is never an error
                _ = told => {}
                () = looked => {}
            }
        };
        timeout_at(deadline, either).await.is_ok()
    }
}
