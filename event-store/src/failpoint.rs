//! Named places where a test makes the process die or an operation fail. Compiled to nothing without the `failpoints`
//! feature, which no release has.
//!
//! From outside: `TRIBUTARY_FAILPOINT=name` aborts the process (as SIGKILL would) the first time the place is passed,
//! `TRIBUTARY_FAILPOINT=name:7` the seventh time. From inside a test: [`arm`] makes the place return an error once.

/// Marks a place. `failpoint!("name")` may abort; `failpoint!("name", error)` may also return `Err(error)`.
#[macro_export]
macro_rules! failpoint {
    ($name:literal) => {
        #[cfg(feature = "failpoints")]
        let _ = $crate::failpoint::reached($name);
    };
    ($name:literal, $error:expr) => {
        #[cfg(feature = "failpoints")]
        if $crate::failpoint::reached($name) {
            return Err($error);
        }
    };
}

#[cfg(feature = "failpoints")]
pub use armed::{arm, disarm_all, is_armed, reached};

#[cfg(feature = "failpoints")]
mod armed {
    use std::{
        collections::HashMap,
        sync::{
            LazyLock, Mutex,
            atomic::{AtomicU64, Ordering},
        },
    };

    static ARMED: LazyLock<Mutex<HashMap<String, u64>>> = LazyLock::new(Mutex::default);
    static ABORT: LazyLock<Option<(String, u64)>> = LazyLock::new(|| {
        let text = std::env::var("TRIBUTARY_FAILPOINT").ok()?;
        match text.split_once(':') {
            Some((name, nth)) => Some((name.to_owned(), nth.parse().ok()?)),
            None => Some((text, 1)),
        }
    });
    static PASSED: AtomicU64 = AtomicU64::new(0);

    /// Makes the place `name` fail once, when it is passed the `nth` time from now (1 = the next time).
    pub fn arm(name: &str, nth: u64) {
        ARMED.lock().expect("no panic while armed").insert(name.to_owned(), nth);
    }

    /// Whether the place has not failed yet: a test that means to see it fail finds out that it did.
    pub fn is_armed(name: &str) -> bool {
        ARMED.lock().expect("no panic while armed").contains_key(name)
    }

    pub fn disarm_all() {
        ARMED.lock().expect("no panic while armed").clear();
    }

    /// Called by the macro: whether the place shall fail now.
    pub fn reached(name: &str) -> bool {
        if let Some((abort_at, nth)) = &*ABORT
            && abort_at == name
            && PASSED.fetch_add(1, Ordering::SeqCst) + 1 == *nth
        {
            std::process::abort();
        }
        let mut armed = ARMED.lock().expect("no panic while armed");
        match armed.get_mut(name) {
            Some(1) => armed.remove(name).is_some(),
            Some(nth) => {
                *nth -= 1;
                false
            }
            None => false,
        }
    }
}
