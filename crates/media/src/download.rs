//! Downloads: from the name of a medium to its bytes.

use crate::blobs::Name;
use crate::thumbnail::{Method, Wish};
use crate::{ByteStream, Error, Legacy, Media};
use base::UnixMillis;
use bytes::Bytes;
use records::{BlobHash, MediaRecord, Mxc, ThumbnailKey};
use std::ops::Range;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// How long anybody waits for something that is not there yet, at most.
const WAIT_MAX: Duration = Duration::from_secs(50);
/// How exactly it is known when a medium was last asked for.
const ACCESS_EVERY: Duration = Duration::from_hours(6);

/// What who asks for a medium says.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// How long they wait for an upload; what is longer than the server waits is shortened.
    pub timeout: Duration,
    /// Whether another server may be asked.
    pub allow_remote: bool,
    /// Whether they asked without authentication, at one of the old endpoints: then it depends on when the medium came.
    pub legacy: bool,
    /// Whether they get what is blocked, too: administrators who look at it.
    pub even_blocked: bool,
}

impl Default for Wanted {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(20), allow_remote: true, legacy: false, even_blocked: false }
    }
}

/// What who asks for a thumbnail says.
#[derive(Clone, Copy, Debug)]
pub struct WantedThumbnail {
    /// As for the medium.
    pub media: Wanted,
    /// How wide it should be at least.
    pub width: u32,
    /// How high it should be at least.
    pub height: u32,
    /// Whether what doesn't fit is cut off.
    pub method: Method,
    /// Whether it should move if the image does.
    pub animated: bool,
}

/// A medium whose bytes may be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its name.
    pub mxc: Mxc,
    /// The SHA-256 of its bytes, which never change.
    pub sha256: BlobHash,
    /// How many it has.
    pub bytes: u64,
    /// What its uploader says that it is.
    pub content_type: String,
    /// What its uploader calls it.
    pub filename: Option<String>,
    /// Who uploaded it here.
    pub uploader: Option<ruma::OwnedUserId>,
    /// When it came.
    pub created_at: UnixMillis,
}

/// A thumbnail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thumbnail {
    /// The SHA-256 of what it was made of.
    pub sha256: BlobHash,
    /// Which of it.
    pub key: ThumbnailKey,
    /// What it is.
    pub content_type: String,
    /// Its bytes.
    pub body: Bytes,
}

impl Media {
    /// A medium that may be read by who asks. Waits for its upload, its scan, or the server that it is from.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`], also for what does not get through the gate; [`Error::NotYetUploaded`];
    /// [`Error::RemoteTooLarge`], [`Error::Remote`].
    pub async fn find(&self, mxc: &Mxc, wanted: Wanted) -> Result<File, Error> {
        let deadline = Instant::now() + wanted.timeout.min(WAIT_MAX);
        if wanted.legacy && self.config().legacy == Legacy::Off {
            return Err(Error::NotFound);
        }
        let record = if self.is_local(mxc) {
            self.uploaded(mxc, deadline).await?
        } else {
            self.of_other_server(mxc, wanted, deadline).await?
        };
        if wanted.legacy && !self.is_before_freeze(record.created_at) {
            return Err(Error::NotFound);
        }
        let sha256 = record.blob.ok_or(Error::NotYetUploaded)?;
        self.pass(sha256, wanted.even_blocked, deadline).await?;
        self.note_access(mxc).await;
        Ok(File {
            mxc: mxc.clone(),
            sha256,
            bytes: record.bytes,
            content_type: record.content_type,
            filename: record.filename,
            uploader: record.uploader,
            created_at: record.created_at,
        })
    }

    /// Reads a part of a medium. Constant memory, however large it is.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if its bytes are gone, [`Error::Blobs`].
    pub async fn read(&self, file: &File, range: Range<u64>) -> Result<ByteStream, Error> {
        let read = self.0.blobs.read(Name::Blob(file.sha256), file.bytes, range).await?;
        read.ok_or_else(|| {
            tracing::error!(mxc = %file.mxc, sha256 = %file.sha256, "the bytes of a file are missing or have another length");
            Error::NotFound
        })
    }

    /// A thumbnail of a medium, made if there is none yet. `Err` of the file itself if that is to be shown instead: it
    /// is small enough already.
    ///
    /// # Errors
    ///
    /// As [`Media::find`]; [`Error::NotAnImage`], [`Error::ImageTooLarge`].
    pub async fn thumbnail(&self, mxc: &Mxc, wanted: WantedThumbnail) -> Result<Result<Thumbnail, File>, Error> {
        let file = self.find(mxc, wanted.media).await?;
        let wish = Wish::new(wanted.width, wanted.height, wanted.method, wanted.animated)?;
        self.thumbnail_of(&file, wish).await
    }

    /// A medium of this server. Waits until something is uploaded.
    async fn uploaded(&self, mxc: &Mxc, deadline: Instant) -> Result<MediaRecord, Error> {
        let mut arrivals = self.0.arrivals.subscribe();
        let mut waiting = None;
        loop {
            arrivals.mark_unchanged();
            let record = self.view().media(mxc)?.ok_or(Error::NotFound)?;
            if record.blob.is_some() {
                // What was made for a preview goes by itself.
                return if self.has_expired(&record) { Err(Error::NotFound) } else { Ok(record) };
            }
            if self.has_expired(&record) {
                return Err(Error::NotFound);
            }
            if waiting.is_none() {
                let permit = self.0.waiting.clone().try_acquire_owned();
                waiting = Some(permit.map_err(|_| Error::NotYetUploaded)?);
            }
            let arrived = timeout_at(deadline, arrivals.changed()).await;
            arrived.map_err(|_| Error::NotYetUploaded)?.map_err(|_| Error::Stopped)?;
        }
    }

    fn has_expired(&self, record: &MediaRecord) -> bool {
        record.expires_at.is_some_and(|expires_at| expires_at <= self.now())
    }

    async fn of_other_server(&self, mxc: &Mxc, wanted: Wanted, deadline: Instant) -> Result<MediaRecord, Error> {
        if let Some(record) = self.view().media(mxc)? {
            return Ok(record);
        }
        // What would come only now is beyond the freeze.
        let may_fetch = wanted.allow_remote && (!wanted.legacy || self.config().legacy == Legacy::Open);
        if !may_fetch {
            return Err(Error::NotFound);
        }
        self.fetch(mxc, deadline).await?;
        self.view().media(mxc)?.ok_or(Error::NotFound)
    }

    fn is_before_freeze(&self, created_at: UnixMillis) -> bool {
        match self.config().legacy {
            Legacy::Off => false,
            Legacy::Open => true,
            Legacy::Frozen => {
                let frozen_at = self.config().legacy_frozen_at.unwrap_or_default();
                created_at.0 < frozen_at.saturating_mul(1000)
            }
        }
    }

    /// Notes that a medium was asked for, now and then.
    async fn note_access(&self, mxc: &Mxc) {
        let now = self.now();
        let noted = self.0.accesses.get(mxc);
        if noted.is_some_and(|noted| now.since(noted) < ACCESS_EVERY) {
            return;
        }
        self.0.accesses.insert(mxc.clone(), now);
        let noted = self.change(|changes| {
            let noted = changes.view().media_accessed_at(mxc)?;
            if noted.is_none_or(|noted| now.since(noted) >= ACCESS_EVERY) && changes.view().media(mxc)?.is_some() {
                changes.put_media_access(mxc, now);
                // Nobody was told of it.
                changes.derived();
            }
            Ok(())
        });
        if let Err(error) = noted.await {
            tracing::warn!(%error, "it was not noted that a file was asked for");
        }
    }
}
