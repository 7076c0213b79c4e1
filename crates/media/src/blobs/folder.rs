//! Files in a folder: `blobs/ab/…` and `thumbnails/ab/…` by the first byte of their hash, `incoming/…` while they come.

use super::{ByteStream, Kind, Name};
use base::UnixMillis;
use bytes::Bytes;
use futures::{FutureExt, StreamExt, stream};
use records::BlobHash;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;
use tokio::task::JoinHandle;

/// How many bytes are collected before they are hashed and written at once, away from the async threads. Twice as many
/// are in memory for an upload.
const WRITE_BYTES: usize = 512 * 1024;
/// How many bytes are read at once.
const READ_BYTES: u64 = 256 * 1024;
const INCOMING: &str = "incoming";

/// A folder of files.
#[derive(Debug)]
pub(crate) struct Folder {
    root: PathBuf,
}

impl Folder {
    /// Opens a folder. Blocks.
    pub(crate) fn open(root: &Path) -> io::Result<Self> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(root)?;
        let incoming = root.join(INCOMING);
        builder.create(&incoming)?;
        for entry in fs::read_dir(&incoming)? {
            fs::remove_file(entry?.path())?;
        }
        for kind in [Kind::Blob, Kind::Thumbnail] {
            let folder = root.join(kind.folder());
            if folder.join("ff").exists() {
                continue;
            }
            for shard in 0..=super::SHARDS {
                builder.create(folder.join(format!("{shard:02x}")))?;
            }
            File::open(&folder)?.sync_all()?;
        }
        File::open(root)?.sync_all()?;
        Ok(Self { root: root.to_owned() })
    }

    fn path(&self, name: Name) -> PathBuf {
        self.root.join(name.path())
    }

    pub(crate) async fn read(&self, name: Name, bytes: u64, range: Range<u64>) -> io::Result<Option<ByteStream>> {
        let path = self.path(name);
        let first = READ_BYTES.min(range.end.saturating_sub(range.start));
        let start = range.start;
        let opened = blocking(move || {
            let file = match File::open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error),
            };
            if file.metadata()?.len() != bytes {
                return Ok(None);
            }
            read_part(&file, start, first).map(|part| Some((file, part)))
        });
        let Some((file, part)) = opened.await? else { return Ok(None) };
        let next = start + first;
        let rest = stream::try_unfold((Arc::new(file), next), move |(file, at)| async move {
            if at >= range.end {
                return Ok(None);
            }
            let length = READ_BYTES.min(range.end - at);
            let reading = file.clone();
            let part = blocking(move || read_part(&reading, at, length)).await?;
            Ok(Some((part, (file, at + length))))
        });
        Ok(Some(stream::iter((first > 0).then_some(Ok(part))).chain(rest).boxed()))
    }

    pub(crate) async fn write(&self, name: Name, bytes: Bytes, incoming: &str) -> io::Result<()> {
        let (on_the_way, path) = (self.root.join(INCOMING).join(incoming), self.path(name));
        blocking(move || {
            let written = create(&on_the_way).and_then(|mut file| file.write_all(&bytes));
            written.and_then(|()| fs::rename(&on_the_way, path)).inspect_err(|_| {
                let _ = fs::remove_file(&on_the_way);
            })
        })
        .await
    }

    pub(crate) async fn remove(&self, name: Name) -> io::Result<()> {
        let path = self.path(name);
        blocking(move || match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        })
        .await
    }

    pub(crate) async fn shard(&self, kind: Kind, shard: u8) -> io::Result<Vec<(Name, UnixMillis)>> {
        let folder = self.root.join(kind.folder()).join(format!("{shard:02x}"));
        blocking(move || {
            let mut found = Vec::new();
            for entry in fs::read_dir(folder)? {
                let entry = entry?;
                let Some(name) = entry.file_name().to_str().and_then(|file| Name::read(kind, file)) else { continue };
                let written = match entry.metadata() {
                    Ok(metadata) => metadata.modified()?,
                    // It went meanwhile.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(error),
                };
                let since = written.duration_since(UNIX_EPOCH).unwrap_or_default();
                found.push((name, UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))));
            }
            Ok(found)
        })
        .await
    }
}

fn create(path: &Path) -> io::Result<File> {
    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

fn read_part(file: &File, at: u64, length: u64) -> io::Result<Bytes> {
    let mut part = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    file.read_exact_at(&mut part, at)?;
    Ok(part.into())
}

/// Does on a thread of its own what waits for the disk.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// What is written to by one thread at a time.
struct Pen {
    file: Option<File>,
    on_the_way: OnTheWay,
    hasher: Sha256,
    bytes: u64,
}

impl Pen {
    /// Hashes and writes bytes. Blocks. What is given back can be filled again.
    fn put(mut self, mut buffer: Vec<u8>) -> io::Result<(Self, Vec<u8>)> {
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(create(&self.on_the_way.0)?),
        };
        self.hasher.update(&buffer);
        file.write_all(&buffer)?;
        self.bytes += buffer.len() as u64;
        buffer.clear();
        Ok((self, buffer))
    }
}

/// A file that is not at its place. It goes when this is dropped.
struct OnTheWay(PathBuf);

impl Drop for OnTheWay {
    fn drop(&mut self) {
        // One that took its place, or was never made, is not there.
        let _ = fs::remove_file(&self.0);
    }
}

/// Bytes that come in: some are collected while others are written.
pub(crate) struct Incoming {
    folder: Arc<Folder>,
    collected: Vec<u8>,
    pen: Writing,
}

enum Writing {
    Idle(Box<Pen>, Vec<u8>),
    Busy(JoinHandle<io::Result<(Pen, Vec<u8>)>>),
    Failed,
}

impl Incoming {
    pub(crate) fn new(folder: Arc<Folder>, name: &str) -> Self {
        let on_the_way = OnTheWay(folder.root.join(INCOMING).join(name));
        let pen = Pen { file: None, on_the_way, hasher: Sha256::new(), bytes: 0 };
        Self { folder, collected: Vec::new(), pen: Writing::Idle(Box::new(pen), Vec::new()) }
    }

    pub(crate) async fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let room = WRITE_BYTES.saturating_sub(self.collected.len());
            let (now, later) = bytes.split_at_checked(room).unwrap_or((bytes, &[]));
            self.collected.extend_from_slice(now);
            bytes = later;
            if self.collected.len() >= WRITE_BYTES {
                let (pen, empty) = self.pen().await?;
                let full = std::mem::replace(&mut self.collected, empty);
                self.pen = Writing::Busy(tokio::task::spawn_blocking(move || pen.put(full)));
            }
        }
        Ok(())
    }

    /// Waits until what was handed over is written.
    async fn pen(&mut self) -> io::Result<(Pen, Vec<u8>)> {
        match &mut self.pen {
            // Awaited in place: whoever gives up here leaves it where it is.
            Writing::Busy(task) => {
                let done = task.map(|done| done.map_err(io::Error::other)).await;
                self.pen = Writing::Failed;
                done?
            }
            Writing::Idle(..) => match std::mem::replace(&mut self.pen, Writing::Failed) {
                Writing::Idle(pen, buffer) => Ok((*pen, buffer)),
                _ => Err(failed()),
            },
            Writing::Failed => Err(failed()),
        }
    }

    pub(crate) async fn finish(mut self) -> io::Result<(BlobHash, u64, Staged)> {
        let (pen, _) = self.pen().await?;
        let (folder, last) = (self.folder, self.collected);
        blocking(move || {
            let (pen, _) = pen.put(last)?;
            if let Some(file) = &pen.file {
                file.sync_all()?;
            }
            let hash = BlobHash(pen.hasher.finalize().into());
            Ok((hash, pen.bytes, Staged { folder, on_the_way: pen.on_the_way }))
        })
        .await
    }
}

fn failed() -> io::Error {
    io::Error::other("what was written before failed")
}

/// Bytes that are whole.
pub(crate) struct Staged {
    folder: Arc<Folder>,
    on_the_way: OnTheWay,
}

impl Staged {
    pub(crate) async fn place(self, name: Name, bytes: u64) -> io::Result<()> {
        let path = self.folder.path(name);
        blocking(move || {
            if fs::metadata(&path).is_ok_and(|found| found.len() == bytes) {
                return Ok(());
            }
            fs::rename(&self.on_the_way.0, &path)?;
            path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
        })
        .await
    }
}
