//! Files as objects of an S3-compatible store, named as in a folder.
//!
//! What is small enough is sent as one object when all of it has come. What is larger is sent part by part under a name
//! of its own, and copied to its place within the store: only then is its hash known.

use super::{ByteStream, Kind, Name};
use crate::S3;
use base::UnixMillis;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::aws::AmazonS3Builder;
use object_store::path::Path;
use object_store::{
    Error, GetOptions, GetRange, MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload, WriteMultipart,
};
use records::BlobHash;
use sha2::{Digest, Sha256};
use std::io;
use std::ops::Range;
use std::sync::Arc;

/// How large the parts of an upload are. At most three of them are in memory.
const PART_BYTES: usize = 8 * 1024 * 1024;
/// How many parts are sent at once.
const PARTS_AT_ONCE: usize = 2;
const INCOMING: &str = "incoming";

/// A store of objects.
#[derive(Debug)]
pub(crate) struct Objects {
    store: Arc<dyn ObjectStore>,
    prefix: String,
}

impl Objects {
    pub(crate) fn new(store: Arc<dyn ObjectStore>, prefix: &str) -> Self {
        let prefix = prefix.trim_matches('/');
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        Self { store, prefix }
    }

    pub(crate) fn s3(config: &S3) -> io::Result<Self> {
        // The client within asks for the process's own cryptography. Whoever was first has chosen the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&config.bucket)
            .with_region(&config.region)
            .with_access_key_id(&config.access_key_id)
            .with_secret_access_key(config.secret_access_key.expose())
            .with_virtual_hosted_style_request(config.bucket_in_host);
        if let Some(endpoint) = &config.endpoint {
            builder = builder.with_endpoint(endpoint).with_allow_http(endpoint.starts_with("http://"));
        }
        let store = builder.build().map_err(io::Error::other)?;
        Ok(Self::new(Arc::new(store), config.prefix.as_deref().unwrap_or_default()))
    }

    fn path(&self, rest: &str) -> Path {
        Path::from(format!("{}{rest}", self.prefix))
    }

    pub(crate) async fn read(&self, name: Name, bytes: u64, range: Range<u64>) -> io::Result<Option<ByteStream>> {
        let is_empty = range.start >= range.end;
        // A range without bytes can't be asked for: then it is only looked whether the object is there.
        let asked = if is_empty {
            GetOptions { head: true, ..GetOptions::default() }
        } else {
            GetOptions { range: Some(GetRange::Bounded(range)), ..GetOptions::default() }
        };
        match self.store.get_opts(&self.path(&name.path()), asked).await {
            Ok(found) if found.meta.size != bytes => Ok(None),
            Ok(_) if is_empty => Ok(Some(futures::stream::empty().boxed())),
            Ok(found) => Ok(Some(found.into_stream().map_err(io::Error::other).boxed())),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(io::Error::other(error)),
        }
    }

    pub(crate) async fn write(&self, name: Name, bytes: Bytes) -> io::Result<()> {
        let put = self.store.put(&self.path(&name.path()), PutPayload::from_bytes(bytes)).await;
        put.map(|_| ()).map_err(io::Error::other)
    }

    pub(crate) async fn remove(&self, name: Name) -> io::Result<()> {
        self.remove_path(&self.path(&name.path())).await
    }

    async fn remove_path(&self, path: &Path) -> io::Result<()> {
        match self.store.delete(path).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(io::Error::other(error)),
        }
    }

    pub(crate) async fn shard(&self, kind: Kind, shard: u8) -> io::Result<Vec<(Name, UnixMillis)>> {
        let folder = self.path(&format!("{}/{shard:02x}", kind.folder()));
        let mut found = Vec::new();
        let mut listed = self.store.list(Some(&folder));
        while let Some(object) = listed.try_next().await.map_err(io::Error::other)? {
            let name = object.location.filename().and_then(|file| Name::read(kind, file));
            found.extend(name.map(|name| (name, millis(object.last_modified.timestamp_millis()))));
        }
        Ok(found)
    }

    pub(crate) async fn clear_incoming(&self, before: UnixMillis) -> io::Result<()> {
        let mut listed = self.store.list(Some(&self.path(INCOMING)));
        while let Some(object) = listed.try_next().await.map_err(io::Error::other)? {
            if millis(object.last_modified.timestamp_millis()) < before {
                self.remove_path(&object.location).await?;
            }
        }
        Ok(())
    }
}

fn millis(since_epoch: i64) -> UnixMillis {
    UnixMillis(u64::try_from(since_epoch).unwrap_or_default())
}

/// Bytes that come in.
pub(crate) struct Incoming {
    objects: Arc<Objects>,
    path: Path,
    hasher: Sha256,
    bytes: u64,
    /// What has come as long as it fits one part.
    small: Vec<Bytes>,
    large: Option<Large>,
}

/// An upload in parts. It is given up if this is dropped, so that the store does not keep parts of nothing.
struct Large(Option<WriteMultipart>);

impl Large {
    fn new(upload: Box<dyn MultipartUpload>) -> Self {
        Self(Some(WriteMultipart::new_with_chunk_size(upload, PART_BYTES)))
    }

    async fn put(&mut self, bytes: Bytes) -> object_store::Result<()> {
        if let Some(upload) = &mut self.0 {
            upload.wait_for_capacity(PARTS_AT_ONCE).await?;
            upload.put(bytes);
        }
        Ok(())
    }

    async fn finish(mut self) -> object_store::Result<()> {
        match self.0.take() {
            Some(upload) => upload.finish().await.map(|_| ()),
            None => Ok(()),
        }
    }
}

impl Drop for Large {
    fn drop(&mut self) {
        if let (Some(upload), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(async move {
                if let Err(error) = upload.abort().await {
                    tracing::warn!(%error, "an upload that was given up could not be cleared");
                }
            });
        }
    }
}

impl Incoming {
    pub(crate) fn new(objects: Arc<Objects>, name: &str) -> Self {
        let path = objects.path(&format!("{INCOMING}/{name}"));
        Self { objects, path, hasher: Sha256::new(), bytes: 0, small: Vec::new(), large: None }
    }

    pub(crate) async fn write(&mut self, bytes: Bytes) -> io::Result<()> {
        self.hasher.update(&bytes);
        self.bytes += bytes.len() as u64;
        if let Some(large) = &mut self.large {
            return large.put(bytes).await.map_err(io::Error::other);
        }
        self.small.push(bytes);
        if self.bytes > PART_BYTES as u64 {
            let upload = self.objects.store.put_multipart(&self.path).await.map_err(io::Error::other)?;
            let large = self.large.insert(Large::new(upload));
            for bytes in self.small.drain(..) {
                large.put(bytes).await.map_err(io::Error::other)?;
            }
        }
        Ok(())
    }

    pub(crate) async fn finish(self) -> io::Result<(BlobHash, u64, Staged)> {
        let hash = BlobHash(self.hasher.finalize().into());
        let staged = match self.large {
            Some(large) => {
                large.finish().await.map_err(io::Error::other)?;
                Staged::Large(OnTheWay { objects: self.objects, path: Some(self.path) })
            }
            None => Staged::Small(self.objects, PutPayload::from_iter(self.small)),
        };
        Ok((hash, self.bytes, staged))
    }
}

/// Bytes that are whole.
pub(crate) enum Staged {
    Small(Arc<Objects>, PutPayload),
    Large(OnTheWay),
}

/// An object that is not at its place. It goes when this is dropped.
pub(crate) struct OnTheWay {
    objects: Arc<Objects>,
    path: Option<Path>,
}

impl Drop for OnTheWay {
    fn drop(&mut self) {
        if let (Some(path), Ok(runtime)) = (self.path.take(), tokio::runtime::Handle::try_current()) {
            let objects = self.objects.clone();
            runtime.spawn(async move {
                if let Err(error) = objects.remove_path(&path).await {
                    tracing::warn!(%error, "what was uploaded for nothing could not be removed");
                }
            });
        }
    }
}

impl Staged {
    pub(crate) async fn place(self, name: Name, bytes: u64) -> io::Result<()> {
        let objects = match &self {
            Self::Small(objects, _) => objects,
            Self::Large(on_the_way) => &on_the_way.objects,
        };
        let to = objects.path(&name.path());
        match objects.store.head(&to).await {
            Ok(found) if found.size == bytes => return Ok(()),
            Ok(_) | Err(Error::NotFound { .. }) => {}
            Err(error) => return Err(io::Error::other(error)),
        }
        match self {
            Self::Small(objects, payload) => {
                objects.store.put(&to, payload).await.map(|_| ()).map_err(io::Error::other)
            }
            // What was copied goes from where it was when this is dropped.
            Self::Large(on_the_way) => match &on_the_way.path {
                Some(path) => on_the_way.objects.store.copy(path, &to).await.map_err(io::Error::other),
                None => Ok(()),
            },
        }
    }
}
