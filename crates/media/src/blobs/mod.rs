//! Where bytes are: in a folder, or in an S3-compatible store.
//!
//! A file has a [`Name`], which follows from its bytes or from what it was made of. What comes in is written under a name
//! of its own first, hashed on its way, and takes its place when it is whole and on the disk; so there is never half a
//! file at its place. What is left in between by a crash is cleared.

mod folder;
mod objects;

use crate::S3;
use base::{Random, UnixMillis, random_string};
use bytes::Bytes;
use folder::Folder;
use futures::stream::BoxStream;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use objects::Objects;
use records::{BlobHash, ThumbnailKey};
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Bytes that come one after the other.
pub type ByteStream = BoxStream<'static, io::Result<Bytes>>;

/// How many letters the name of a file has that is not whole yet.
const INCOMING_LETTERS: usize = 24;
/// Into how many parts files are sorted, by the first byte of their hash.
pub(crate) const SHARDS: u8 = u8::MAX;

/// Where bytes are. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Blobs(Backend);

#[derive(Clone, Debug)]
enum Backend {
    Folder(Arc<Folder>),
    Objects(Arc<Objects>),
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    /// The bytes of this hash.
    Blob(BlobHash),
    /// A thumbnail of the bytes of this hash.
    Thumbnail(BlobHash, ThumbnailKey),
}

/// The kinds of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Blob,
    Thumbnail,
}

impl Kind {
    fn folder(self) -> &'static str {
        match self {
            Self::Blob => "blobs",
            Self::Thumbnail => "thumbnails",
        }
    }
}

impl Name {
    fn kind(&self) -> Kind {
        match self {
            Self::Blob(_) => Kind::Blob,
            Self::Thumbnail(..) => Kind::Thumbnail,
        }
    }

    /// The hash of the bytes that it is, or is made of.
    pub(crate) fn hash(&self) -> BlobHash {
        match self {
            Self::Blob(hash) | Self::Thumbnail(hash, _) => *hash,
        }
    }

    /// What the file is called within the folder of its kind and shard.
    fn file(&self) -> String {
        match self {
            Self::Blob(hash) => hash.to_string(),
            Self::Thumbnail(hash, key) => {
                let method = if key.crop { "crop" } else { "scale" };
                let moves = if key.animated { "-animated" } else { "" };
                format!("{hash}-{}x{}-{method}{moves}", key.width, key.height)
            }
        }
    }

    /// The name of a file of this kind; `None` if it is none of ours.
    fn read(kind: Kind, file: &str) -> Option<Self> {
        let read = match kind {
            Kind::Blob => Self::Blob(BlobHash::parse(file)?),
            Kind::Thumbnail => {
                let (hash, rest) = file.split_once('-')?;
                let (rest, animated) = match rest.strip_suffix("-animated") {
                    Some(rest) => (rest, true),
                    None => (rest, false),
                };
                let (size, method) = rest.split_once('-')?;
                let (width, height) = size.split_once('x')?;
                let (width, height) = (width.parse().ok()?, height.parse().ok()?);
                let key = ThumbnailKey { width, height, crop: method == "crop", animated };
                Self::Thumbnail(BlobHash::parse(hash)?, key)
            }
        };
        (read.file() == file).then_some(read)
    }

    /// Where it is, from the root of all files.
    fn path(&self) -> String {
        format!("{}/{:02x}/{}", self.kind().folder(), self.hash().0.first().copied().unwrap_or_default(), self.file())
    }
}

impl Blobs {
    /// The files in a folder, which is made if it isn't there. What was not whole when the process ended is removed.
    /// Blocks.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn folder(root: &Path) -> io::Result<Self> {
        Ok(Self(Backend::Folder(Arc::new(Folder::open(root)?))))
    }

    /// The files in an S3-compatible store.
    ///
    /// # Errors
    ///
    /// What is wrong with the settings; the store is not asked yet.
    pub fn s3(config: &S3) -> io::Result<Self> {
        Ok(Self(Backend::Objects(Arc::new(Objects::s3(config)?))))
    }

    /// Files in memory, for tests.
    #[must_use]
    pub fn in_memory() -> Self {
        Self::objects(Arc::new(InMemory::new()), "")
    }

    /// The files in any store of objects, under a prefix.
    pub(crate) fn objects(store: Arc<dyn ObjectStore>, prefix: &str) -> Self {
        Self(Backend::Objects(Arc::new(Objects::new(store, prefix))))
    }

    /// Begins to take bytes in.
    pub(crate) fn begin(&self, random: &dyn Random) -> Incoming {
        let name = random_string(random, INCOMING_LETTERS);
        match &self.0 {
            Backend::Folder(folder) => Incoming::Folder(Box::new(folder::Incoming::new(folder.clone(), &name))),
            Backend::Objects(objects) => Incoming::Objects(Box::new(objects::Incoming::new(objects.clone(), &name))),
        }
    }

    /// Reads a part of a file that has `bytes` bytes in all. `None`: it is not there, or not of that length.
    pub(crate) async fn read(&self, name: Name, bytes: u64, range: Range<u64>) -> io::Result<Option<ByteStream>> {
        match &self.0 {
            Backend::Folder(folder) => folder.read(name, bytes, range).await,
            Backend::Objects(objects) => objects.read(name, bytes, range).await,
        }
    }

    /// Writes a small file that can be made again, not necessarily to the disk.
    pub(crate) async fn write(&self, name: Name, bytes: Bytes, random: &dyn Random) -> io::Result<()> {
        match &self.0 {
            Backend::Folder(folder) => folder.write(name, bytes, &random_string(random, INCOMING_LETTERS)).await,
            Backend::Objects(objects) => objects.write(name, bytes).await,
        }
    }

    /// Removes a file, if it is there.
    pub(crate) async fn remove(&self, name: Name) -> io::Result<()> {
        match &self.0 {
            Backend::Folder(folder) => folder.remove(name).await,
            Backend::Objects(objects) => objects.remove(name).await,
        }
    }

    /// The files of a kind whose hash begins with a byte, and when they were written.
    pub(crate) async fn shard(&self, kind: Kind, shard: u8) -> io::Result<Vec<(Name, UnixMillis)>> {
        match &self.0 {
            Backend::Folder(folder) => folder.shard(kind, shard).await,
            Backend::Objects(objects) => objects.shard(kind, shard).await,
        }
    }

    /// Removes what was begun before a time and never got whole.
    pub(crate) async fn clear_incoming(&self, before: UnixMillis) -> io::Result<()> {
        match &self.0 {
            // That is done when the folder is opened, and by those who gave up.
            Backend::Folder(_) => Ok(()),
            Backend::Objects(objects) => objects.clear_incoming(before).await,
        }
    }
}

/// Bytes that come in. What was written goes if it is dropped.
pub(crate) enum Incoming {
    Folder(Box<folder::Incoming>),
    Objects(Box<objects::Incoming>),
}

impl Incoming {
    /// Takes bytes in, and waits as long as too many are on their way.
    pub(crate) async fn write(&mut self, bytes: Bytes) -> io::Result<()> {
        match self {
            Self::Folder(incoming) => incoming.write(&bytes).await,
            Self::Objects(incoming) => incoming.write(bytes).await,
        }
    }

    /// All has come: what it was. In a folder, it is on the disk.
    pub(crate) async fn finish(self) -> io::Result<Staged> {
        match self {
            Self::Folder(incoming) => {
                incoming.finish().await.map(|(hash, bytes, place)| Staged { hash, bytes, place: Place::Folder(place) })
            }
            Self::Objects(incoming) => incoming.finish().await.map(|(hash, bytes, place)| Staged {
                hash,
                bytes,
                place: Place::Objects(Box::new(place)),
            }),
        }
    }
}

/// Bytes that are whole, but not at their place. They go if they are dropped.
pub(crate) struct Staged {
    pub(crate) hash: BlobHash,
    pub(crate) bytes: u64,
    place: Place,
}

enum Place {
    Folder(folder::Staged),
    Objects(Box<objects::Staged>),
}

impl Staged {
    /// Puts them at their place; where they are already, nothing is done.
    pub(crate) async fn place(self) -> io::Result<()> {
        let name = Name::Blob(self.hash);
        match self.place {
            Place::Folder(staged) => staged.place(name, self.bytes).await,
            Place::Objects(staged) => staged.place(name, self.bytes).await,
        }
    }
}

impl fmt::Debug for Staged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Staged").field("hash", &self.hash).field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::SeededRandom;
    use futures::TryStreamExt;
    use sha2::{Digest, Sha256};

    async fn read(blobs: &Blobs, name: Name, bytes: u64, range: Range<u64>) -> Option<Vec<u8>> {
        let stream = blobs.read(name, bytes, range).await.unwrap()?;
        Some(stream.try_collect::<Vec<_>>().await.unwrap().concat())
    }

    /// What holds for every place of bytes.
    async fn check(blobs: Blobs) {
        let random = SeededRandom::new(1);
        // Larger than any buffer, and not a multiple of one.
        let large: Vec<u8> = (0..20_000_003_u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
        for content in [&b""[..], b"small", &large] {
            let mut incoming = blobs.begin(&random);
            for chunk in content.chunks(70_000) {
                incoming.write(Bytes::copy_from_slice(chunk)).await.unwrap();
            }
            let staged = incoming.finish().await.unwrap();
            let (hash, bytes) = (staged.hash, staged.bytes);
            assert_eq!((hash.0, bytes), (Sha256::digest(content).into(), content.len() as u64));
            let name = Name::Blob(hash);
            assert!(read(&blobs, name, bytes, 0..bytes).await.is_none(), "not there before its place is taken");
            staged.place().await.unwrap();
            assert!(read(&blobs, name, bytes, 0..bytes).await.unwrap() == content);
            let part = (bytes / 3)..(bytes / 2);
            let expected = content[usize::try_from(part.start).unwrap()..usize::try_from(part.end).unwrap()].to_vec();
            assert!(read(&blobs, name, bytes, part).await.unwrap() == expected);
            assert!(read(&blobs, name, bytes + 1, 0..bytes).await.is_none(), "a file of another length is none");
            let listed = blobs.shard(Kind::Blob, hash.0[0]).await.unwrap();
            assert!(listed.iter().any(|(found, at)| *found == name && at.0 > 0));
            blobs.remove(name).await.unwrap();
            blobs.remove(name).await.unwrap();
            assert!(read(&blobs, name, bytes, 0..bytes).await.is_none());
        }
        let key = ThumbnailKey { width: 32, height: 24, crop: false, animated: true };
        let name = Name::Thumbnail(BlobHash([9; 32]), key);
        blobs.write(name, Bytes::from_static(b"pixels"), &random).await.unwrap();
        assert_eq!(read(&blobs, name, 6, 0..6).await.unwrap(), b"pixels");
        let listed = blobs.shard(Kind::Thumbnail, 9).await.unwrap();
        assert_eq!(listed.into_iter().map(|(name, _)| name).collect::<Vec<_>>(), [name]);
        assert!(blobs.shard(Kind::Thumbnail, 8).await.unwrap().is_empty());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn files_in_a_folder_come_and_go() {
        let folder = tempfile::tempdir().unwrap();
        check(Blobs::folder(folder.path()).unwrap()).await;
        let left = std::fs::read_dir(folder.path().join("incoming")).unwrap().count();
        assert_eq!(left, 0, "nothing is left on the way");
    }

    #[tokio::test]
    async fn files_in_a_store_of_objects_come_and_go() {
        check(Blobs::in_memory()).await;
        check(Blobs::objects(Arc::new(InMemory::new()), "agency.example/")).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_was_not_whole_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::folder(folder.path()).unwrap();
        let random = SeededRandom::new(1);
        let incoming = || std::fs::read_dir(folder.path().join("incoming")).unwrap().count();
        let mut given_up = blobs.begin(&random);
        given_up.write(Bytes::from(vec![1; 3_000_000])).await.unwrap();
        drop(given_up);
        let staged = blobs.begin(&random).finish().await.unwrap();
        drop(staged);
        std::fs::write(folder.path().join("incoming/left-by-a-crash"), "half").unwrap();
        assert_eq!(incoming(), 1);
        Blobs::folder(folder.path()).unwrap();
        assert_eq!(incoming(), 0);
    }

    #[test]
    fn names_read_back_as_they_are_written() {
        let key = ThumbnailKey { width: 320, height: 240, crop: true, animated: false };
        for name in [Name::Blob(BlobHash([171; 32])), Name::Thumbnail(BlobHash([3; 32]), key)] {
            assert_eq!(Name::read(name.kind(), &name.file()), Some(name));
        }
        assert_eq!(Name::read(Kind::Blob, &"AB".repeat(32)), None);
        assert_eq!(Name::read(Kind::Thumbnail, "x-1x1-crop"), None);
        assert!(Name::Blob(BlobHash([171; 32])).path().starts_with("blobs/ab/abab"));
    }
}
