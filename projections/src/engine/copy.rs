//! The read models in a file, and read models of such a file.
//!
//! They can always be folded anew from the logs; a copy spares the time that takes. So it is never the truth: what is
//! restored becomes a generation under a number that nobody has known, and the projector brings it up to date with the logs
//! before it makes it live, as one that is gone back to. Until then readers read what they have read. So nobody's token is
//! met by something older, nobody who was erased since comes back, and a log that has another history is noticed as ever.
//!
//! Reading order: [`lines`] (what the file holds, and its digest), [`export`], [`restore`].

pub mod export;
pub mod lines;
pub mod restore;

use event_store::backup::BackupError;
use thiserror::Error;

use super::EngineError;

/// Why there is no copy, or no read model from it.
#[derive(Debug, Error)]
pub enum CopyError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    File(#[from] BackupError),
    #[error("{read_model} is there, in generation {generation}: another takes its place only if that is asked for")]
    NotEmpty { read_model: &'static str, generation: i64 },
    #[error("{read_model}: {cause}: `tributary projection cancel {read_model}` ends it")]
    UnderWay { read_model: &'static str, cause: EngineError },
    #[error("nothing of {name} can be restored by this program: {why}")]
    NothingFits { name: String, why: String },
}
