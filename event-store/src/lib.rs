//! The log of a service and everything that follows it. Knows no event by name.
//!
//! Reading order:
//! - [`log`]: the port. What an item to append is, and what can become of it. [`limits`] says what is too much.
//! - [`feed`]: the log as its followers see it; [`feed_http`] serves and reads it over HTTP, [`token_file`] is what is shown there.
//! - [`writer`]: group commit, the one task that writes; [`bus`]: commands on cqrs-es aggregates over it.
//! - [`snapshot`], [`subject_keys`]: what is kept beside a log, in its database.
//! - [`sealed_log`]: a log whose personal values are ciphertext ([`seal`]); [`erasure`] deletes the keys.
//! - [`backup`]: a log as files, and back.
//! - [`retention`]: how long answers to commands are kept.
//! - [`follower`]: the kernel under projections, replicas, reactors and sagas.
//! - Adapters: [`memory`], [`sqlite`], [`postgres`]; [`batch_hash`] is the tamper evidence they share.
//! - [`figures`]: what is measured of a log, of what waits before it and of commands.
//! - [`clock`]: where the time comes from; [`failpoint`]: where tests make it break.
//!
//! What does not live here: the name of any event, any decision, any read model.

pub mod backup;
pub mod batch_hash;
pub mod bus;
pub mod clock;
pub mod erasure;
pub mod failpoint;
pub mod feed;
pub mod feed_http;
pub mod figures;
pub mod follower;
pub mod limits;
pub mod log;
pub mod memory;
#[cfg(feature = "postgres")]
pub mod postgres;
pub mod retention;
pub mod seal;
pub mod sealed_log;
pub mod snapshot;
#[cfg(feature = "sqlite")]
pub mod sqlite;
pub mod subject_keys;
pub mod token_file;
pub mod writer;
