//! The two files of a backup of one log: `orders.ndjson` and `orders.keys.ndjson`. Each is there as a whole or not at all,
//! and nobody else may read them.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{BufRead, BufReader, BufWriter, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use tokio::sync::mpsc;

use super::{
    BackupError, CHUNK_ITEMS, CHUNKS_MAX, Contents, Item,
    lines::{End, LineReader, LineWriter},
};

/// What a backup of a log is called.
const LOG_ENDING: &str = ".ndjson";
/// And its keys.
const KEYS_ENDING: &str = ".keys.ndjson";

/// A line is an event with its envelope, or an answer; both are bounded far below this. More is not read into memory.
const LINE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Where the two files of a backup are.
#[derive(Debug, Clone)]
pub struct BackupPaths {
    pub log: PathBuf,
    pub keys: PathBuf,
}

impl BackupPaths {
    /// In a directory, by the name of the service.
    pub fn in_dir(dir: &Path, service: &str) -> Self {
        let named = |ending| dir.join(format!("{service}{ending}"));
        Self { log: named(LOG_ENDING), keys: named(KEYS_ENDING) }
    }

    /// The keys lie beside the log.
    pub fn of_file(log: &Path) -> Self {
        let name = log.file_name().unwrap_or_default().to_string_lossy();
        let stem = name.strip_suffix(LOG_ENDING).unwrap_or(&name);
        Self { log: log.to_owned(), keys: log.with_file_name(format!("{stem}{KEYS_ENDING}")) }
    }

    /// Whether a path is to be taken as the file of one log.
    pub fn is_file(path: &Path) -> bool {
        path.is_file() || (!path.is_dir() && path.to_string_lossy().ends_with(LOG_ENDING))
    }
}

/// A file that gets its name once it is whole and on the disk.
pub struct AtomicFile {
    path: PathBuf,
    temporary: PathBuf,
    out: BufWriter<File>,
    is_kept: bool,
}

/// Bytes that are written at once.
const BUFFER_BYTES: usize = 256 * 1024;

impl AtomicFile {
    pub fn create(path: &Path) -> Result<Self, BackupError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let temporary = path.with_file_name(format!(".{name}.part"));
        let made = remove_abandoned(&temporary).and_then(|()| {
            let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
            lock(&made)?;
            Ok(made)
        });
        let out = BufWriter::with_capacity(BUFFER_BYTES, made.map_err(|error| io(&temporary, error))?);
        Ok(Self { path: path.to_owned(), temporary, out, is_kept: false })
    }

    /// Synced, then named: a crash leaves the file that was there before, or this one.
    pub fn keep(mut self) -> Result<(), BackupError> {
        let kept = self.out.flush().and_then(|()| {
            self.out.get_ref().sync_all()?;
            fs::rename(&self.temporary, &self.path)?;
            sync_dir(&self.path)
        });
        kept.map_err(|error| io(&self.path, error))?;
        self.is_kept = true;
        Ok(())
    }
}

/// What one who was killed has left, keys of persons perhaps, does not stay. Who still writes holds a lock on it.
fn remove_abandoned(temporary: &Path) -> std::io::Result<()> {
    match File::open(temporary) {
        Ok(left) => {
            lock(&left)?;
            fs::remove_file(temporary)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn lock(file: &File) -> std::io::Result<()> {
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => std::io::Error::other("somebody else writes it"),
        TryLockError::Error(error) => error,
    })
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.out.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if !self.is_kept {
            // what is half is of no use; that it cannot be removed changes nothing
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// A rename is on the disk once its directory is.
pub(crate) fn sync_dir(path: &Path) -> std::io::Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(dir)?.sync_all()
}

/// Writes a backup, item by item.
pub struct BackupWriter {
    log: LineWriter<AtomicFile>,
    keys: LineWriter<AtomicFile>,
}

impl BackupWriter {
    pub fn create(paths: &BackupPaths) -> Result<Self, BackupError> {
        let writer = |path: &Path| {
            let file = AtomicFile::create(path)?;
            Ok::<_, BackupError>(LineWriter::new(&path.display().to_string(), file))
        };
        Ok(Self { log: writer(&paths.log)?, keys: writer(&paths.keys)? })
    }

    pub fn item(&mut self, item: &Item) -> Result<(), BackupError> {
        match item {
            Item::Head(head) => {
                // the file of the keys says whose they are and from when; it holds no events to end there
                self.keys.item(&Item::KeysHead(head.clone()))?;
                self.log.item(item)
            }
            Item::Batch(_) | Item::Event(_) | Item::Command(_) | Item::Claim(_) => self.log.item(item),
            Item::KeysHead(_) | Item::FingerprintKey(_) | Item::SubjectKey(..) => self.keys.item(item),
            Item::Whole => self.keys.item(item).and_then(|()| self.log.item(item)),
        }
    }

    /// Keeps both files, the keys first: keys that are newer than their log open it too.
    pub fn finish(self) -> Result<End, BackupError> {
        let (keys, of_keys) = self.keys.finish()?;
        let (log, of_log) = self.log.finish()?;
        keys.keep()?;
        log.keep()?;
        Ok(End { subjects: of_keys.subjects, ..of_log })
    }
}

/// Writes all that a log holds, and tells of each item. Writes to the disk between two chunks, on the task that calls it.
pub async fn write(
    mut contents: Contents,
    paths: &BackupPaths,
    mut seen: impl FnMut(&Item) + Send,
) -> Result<End, BackupError> {
    let mut writer = BackupWriter::create(paths)?;
    while let Some(chunk) = contents.recv().await {
        for item in chunk? {
            writer.item(&item)?;
            seen(&item);
        }
    }
    // one that stopped telling half-way is not kept
    writer.finish()
}

/// Items on their way from the files of a backup: the keys first.
pub type FileContents = mpsc::Receiver<Result<Vec<Item>, BackupError>>;

/// Reads a backup and checks all of it: that its lines are those that were written, that its hash chain holds, and that
/// the keys are of this log. Whoever takes the items keeps them only if no error is among them.
pub fn read(paths: &BackupPaths) -> FileContents {
    let (to, contents) = mpsc::channel(CHUNKS_MAX);
    let paths = paths.clone();
    tokio::task::spawn_blocking(move || {
        let mut chunk = Vec::with_capacity(CHUNK_ITEMS);
        let checked = check(&paths, |item| {
            chunk.push(item);
            if chunk.len() < CHUNK_ITEMS {
                return Ok(());
            }
            let whole = std::mem::replace(&mut chunk, Vec::with_capacity(CHUNK_ITEMS));
            to.blocking_send(Ok(whole)).map_err(|_| BackupError::Refused("nobody takes it".to_owned()))
        });
        // nobody may be left to hear it
        let _ = to.blocking_send(checked.map(|_| {
            chunk.push(Item::Whole);
            chunk
        }));
    });
    contents
}

/// Reads a backup from its first line to its last, and hands out its items. Blocks on the disk.
pub fn check(paths: &BackupPaths, mut each: impl FnMut(Item) -> Result<(), BackupError>) -> Result<End, BackupError> {
    let name = |path: &Path| path.display().to_string();
    if paths.log.exists() && !paths.keys.exists() {
        let reason = format!(
            "{} is not there: without its keys a backup can be read, but no log comes of it",
            paths.keys.display()
        );
        return Err(BackupError::Refused(reason));
    }
    let mut keys_head = None;
    let of_keys = lines(&paths.keys, |item| {
        if let Item::KeysHead(head) = &item {
            keys_head = Some(head.clone());
        }
        each(item)
    })?;
    let Some(keys_head) = keys_head else {
        return Err(BackupError::Refused(format!("{} is not the keys of a log", name(&paths.keys))));
    };
    let mut is_log = false;
    let of_log = lines(&paths.log, |item| {
        if let Item::Head(head) = &item {
            is_log = true;
            // newer keys are welcome: they know of later erasures
            if head.epoch != keys_head.epoch || head.source != keys_head.source || head.position > keys_head.position {
                let (keys, log) = (name(&paths.keys), name(&paths.log));
                return Err(BackupError::Refused(format!(
                    "{keys} holds the keys of another or an older log than {log}"
                )));
            }
        }
        each(item)
    })?;
    if !is_log {
        return Err(BackupError::Refused(format!("{} is not a log", name(&paths.log))));
    }
    Ok(End { subjects: of_keys.subjects, ..of_log })
}

fn lines(path: &Path, mut each: impl FnMut(Item) -> Result<(), BackupError>) -> Result<End, BackupError> {
    let file = File::open(path).map_err(|error| io(path, error))?;
    let mut file = BufReader::with_capacity(BUFFER_BYTES, file);
    let mut reader = LineReader::new(&path.display().to_string());
    let mut line = String::new();
    loop {
        line.clear();
        let read = (&mut file).take(LINE_BYTES_MAX).read_line(&mut line).map_err(|error| io(path, error))?;
        if read == 0 {
            return reader.finish();
        }
        let Some(whole) = line.strip_suffix('\n') else {
            return Err(BackupError::CutOff { name: path.display().to_string() });
        };
        if let Some(item) = reader.line(whole)? {
            each(item)?;
        }
    }
}

fn io(path: &Path, source: std::io::Error) -> BackupError {
    BackupError::Io { name: path.display().to_string(), source }
}
