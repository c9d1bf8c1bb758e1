//! A stream for as long as somebody reads it.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll},
    time::Duration,
};

use futures::{Stream, StreamExt, stream::BoxStream};
use tokio::time::Instant;

/// Ends when nobody takes the next item for so long. What the stream holds is dropped then, and not when its reader goes, who
/// may never go: a connection whose other end does not read stays open.
pub(super) struct WhileRead<T>(Arc<Mutex<State<T>>>);

struct State<T> {
    /// `None`: it has ended.
    items: Option<BoxStream<'static, T>>,
    /// When the last item was taken, if nobody has asked for the next one since.
    unread_since: Option<Instant>,
}

impl<T: 'static> WhileRead<T> {
    pub(super) fn new(items: BoxStream<'static, T>, unread_max: Duration) -> Self {
        let state = Arc::new(Mutex::new(State { items: Some(items), unread_since: Some(Instant::now()) }));
        tokio::spawn(look_after(Arc::downgrade(&state), unread_max));
        Self(state)
    }
}

async fn look_after<T>(state: Weak<Mutex<State<T>>>, unread_max: Duration) {
    loop {
        tokio::time::sleep(unread_max).await;
        let Some(state) = state.upgrade() else { return };
        let mut state = lock(&state);
        if state.unread_since.is_some_and(|since| since.elapsed() >= unread_max) {
            state.items = None;
        }
        if state.items.is_none() {
            return;
        }
    }
}

impl<T> Stream for WhileRead<T> {
    type Item = T;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        let mut state = lock(&self.0);
        let Some(items) = &mut state.items else { return Poll::Ready(None) };
        let polled = items.poll_next_unpin(context);
        match &polled {
            Poll::Ready(Some(_)) => state.unread_since = Some(Instant::now()),
            Poll::Ready(None) => state.items = None,
            Poll::Pending => state.unread_since = None,
        }
        polled
    }
}

fn lock<T>(state: &Mutex<State<T>>) -> MutexGuard<'_, State<T>> {
    // a stream that has panicked is asked once more at most, and that is its own matter
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    const UNREAD_MAX: Duration = Duration::from_millis(50);

    #[tokio::test]
    async fn it_ends_when_nobody_takes_the_next_item() {
        let mut read = WhileRead::new(stream::iter(0..).boxed(), UNREAD_MAX);
        assert_eq!((read.next().await, read.next().await), (Some(0), Some(1)));
        tokio::time::sleep(3 * UNREAD_MAX).await;
        assert_eq!(read.next().await, None);
    }

    #[tokio::test]
    async fn who_waits_for_the_next_item_reads() {
        let late = stream::once(async {
            tokio::time::sleep(4 * UNREAD_MAX).await;
            7
        });
        let mut read = WhileRead::new(late.boxed(), UNREAD_MAX);
        assert_eq!((read.next().await, read.next().await), (Some(7), None));
    }
}
