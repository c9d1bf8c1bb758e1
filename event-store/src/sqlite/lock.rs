//! One process per data directory.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
};

use thiserror::Error;

/// The file that is locked; it holds the process id of whoever locked it last.
const LOCK_FILE: &str = "tributary.lock";

/// Held for as long as a process uses a data directory. The system lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub struct DataDirLock {
    _file: File,
}

/// Why a data directory cannot be used.
#[derive(Debug, Error)]
pub enum LockError {
    #[error("data directory {} is in use by process {process}: stop it, or give another --data-dir", dir.display())]
    InUse { dir: PathBuf, process: String },
    #[error("lock data directory {}: {source}", dir.display())]
    Io { dir: PathBuf, source: io::Error },
}

impl DataDirLock {
    /// Makes the directory if it is not there, and locks it. Does not wait.
    pub fn acquire(dir: &Path) -> Result<Self, LockError> {
        let failed = |source| LockError::Io { dir: dir.to_owned(), source };
        std::fs::create_dir_all(dir).map_err(failed)?;
        let mut options = OpenOptions::new();
        let mut file =
            options.create(true).truncate(false).read(true).write(true).open(dir.join(LOCK_FILE)).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::Error(source)) => return Err(failed(source)),
            Err(TryLockError::WouldBlock) => {
                let mut process = String::new();
                // the number is there to help; without it the refusal is the same
                let _ = file.read_to_string(&mut process);
                let process = if process.trim().is_empty() { "unknown".to_owned() } else { process.trim().to_owned() };
                return Err(LockError::InUse { dir: dir.to_owned(), process });
            }
        }
        file.set_len(0).map_err(failed)?;
        file.rewind().map_err(failed)?;
        writeln!(file, "{}", std::process::id()).map_err(failed)?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_directory_is_used_once_and_free_again_afterwards() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("data");
        let held = DataDirLock::acquire(&dir).unwrap();
        let refused = DataDirLock::acquire(&dir).unwrap_err();
        assert!(refused.to_string().contains(&format!("in use by process {}", std::process::id())), "{refused}");
        drop(held);
        DataDirLock::acquire(&dir).unwrap();
    }
}
