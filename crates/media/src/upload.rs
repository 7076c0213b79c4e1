//! Uploads: at once, or to a name that was made before (client-server API, "Content repository"; MSC2246).

use crate::blobs::Staged;
use crate::{Error, Media, Shared};
use base::{UnixMillis, random_string};
use bytes::Bytes;
use futures::{Stream, StreamExt};
use records::{GoneBlob, MediaRecord, Mxc};
use ruma::{OwnedUserId, UserId};
use std::collections::hash_map::Entry;
use std::pin::pin;
use std::sync::{Arc, PoisonError};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};

/// How many letters the id of a medium has: more than anybody guesses.
const ID_LETTERS: usize = 32;
/// The longest name of a file, in bytes.
const FILENAME_BYTES_MAX: usize = 1024;
/// The longest content type, in bytes.
const CONTENT_TYPE_BYTES_MAX: usize = 255;
/// What a file is of which nobody says what it is.
pub(crate) const ANY_TYPE: &str = "application/octet-stream";

/// What is said of a file that is uploaded.
#[derive(Clone, Debug, Default)]
pub struct NewFile {
    /// What it is.
    pub content_type: Option<String>,
    /// What it is called.
    pub filename: Option<String>,
    /// How many bytes it will have, if that is known before they come.
    pub length: Option<u64>,
}

/// What is known of a name before its bytes are kept.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// Nobody has heard of it.
    Fresh,
    /// It waits for an upload of this user.
    Awaited(OwnedUserId),
    /// It is another server's, and what it names may come in the place of what it named.
    Remote,
}

/// A name to which something can be uploaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// The name.
    pub mxc: Mxc,
    /// Until when.
    pub expires_at: UnixMillis,
}

impl NewFile {
    /// The content type, if it can be sent as a header, and the name of the file.
    fn checked(self) -> Result<(String, Option<String>), Error> {
        if self.filename.as_ref().is_some_and(|name| name.len() > FILENAME_BYTES_MAX) {
            return Err(Error::InvalidParam("the name of the file is too long"));
        }
        Ok((checked_type(self.content_type), self.filename.filter(|name| !name.is_empty())))
    }
}

/// A content type that can be sent as a header.
pub(crate) fn checked_type(content_type: Option<String>) -> String {
    let is_valid = |kind: &String| {
        let has_two_parts = kind.split_once('/').is_some_and(|(kind, sub)| !kind.is_empty() && !sub.is_empty());
        has_two_parts && kind.len() <= CONTENT_TYPE_BYTES_MAX && kind.bytes().all(|byte| (b' '..=b'~').contains(&byte))
    };
    content_type.filter(is_valid).unwrap_or_else(|| ANY_TYPE.to_owned())
}

/// Counts an upload of a user, as long as it is under way.
pub(crate) struct Admitted {
    shared: Arc<Shared>,
    user: OwnedUserId,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut uploading = self.shared.uploading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut count) = uploading.entry(self.user.clone()) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

impl Media {
    /// Uploads a file. Its bytes are stored while they come. Once this is answered they are on the disk.
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`], [`Error::QuotaReached`], [`Error::Busy`], [`Error::CutOff`], [`Error::InvalidParam`];
    /// [`Error::Refused`] for bytes that are blocked or found infected.
    pub async fn upload<E: std::fmt::Display>(
        &self,
        user: &UserId,
        file: NewFile,
        body: impl Stream<Item = Result<Bytes, E>> + Send,
    ) -> Result<Mxc, Error> {
        let length = file.length;
        let (content_type, filename) = file.checked()?;
        let admitted = self.admit(user, length)?;
        let staged = self.receive(self.config().upload_bytes_max.0, body).await?;
        let mxc = self.fresh_mxc()?;
        let record = MediaRecord {
            blob: Some(staged.hash),
            bytes: staged.bytes,
            content_type,
            filename,
            uploader: Some(user.to_owned()),
            created_at: self.now(),
            expires_at: None,
            protected: false,
        };
        self.keep(mxc.clone(), Place::Fresh, record, staged, Some(admitted)).await?;
        Ok(mxc)
    }

    /// Makes a name to which its maker can upload something later.
    ///
    /// # Errors
    ///
    /// [`Error::TooManyPending`], [`Error::QuotaReached`].
    pub async fn create(&self, user: &UserId) -> Result<Pending, Error> {
        let (now, pending_max) = (self.now(), self.config().user_pending_max);
        let expires_at = now.after(self.config().pending_lifetime);
        let record = MediaRecord {
            blob: None,
            bytes: 0,
            content_type: ANY_TYPE.to_owned(),
            filename: None,
            uploader: Some(user.to_owned()),
            created_at: now,
            expires_at: Some(expires_at),
            protected: false,
        };
        let mxc = self.fresh_mxc()?;
        // One at a time for a user, or two could both be the last that is allowed.
        let _turn = self.turn(&user).await;
        self.change(|changes| {
            self.check_quota(changes.view(), user, 0)?;
            if changes.view().pending_media_count(user, now, pending_max)? >= pending_max {
                return Err(Error::TooManyPending);
            }
            changes.put_media(&mxc, Some(&record))?;
            Ok(())
        })
        .await?;
        Ok(Pending { mxc, expires_at })
    }

    /// Uploads to a name that the user has made.
    ///
    /// # Errors
    ///
    /// As [`Media::upload`]; [`Error::NotFound`] for a name that was not made here, or has expired;
    /// [`Error::NotTheCreator`]; [`Error::CannotOverwrite`].
    pub async fn upload_to<E: std::fmt::Display>(
        &self,
        user: &UserId,
        mxc: &Mxc,
        file: NewFile,
        body: impl Stream<Item = Result<Bytes, E>> + Send,
    ) -> Result<(), Error> {
        let length = file.length;
        let (content_type, filename) = file.checked()?;
        // Before all of it has come, and once more when it is kept.
        let record = self.awaiting(&self.view(), user, mxc)?;
        let admitted = self.admit(user, length)?;
        let staged = self.receive(self.config().upload_bytes_max.0, body).await?;
        let record = MediaRecord {
            blob: Some(staged.hash),
            bytes: staged.bytes,
            content_type,
            filename,
            expires_at: None,
            ..record
        };
        self.keep(mxc.clone(), Place::Awaited(user.to_owned()), record, staged, Some(admitted)).await
    }

    /// The name, if it waits for an upload of this user.
    fn awaiting(&self, view: &records::View, user: &UserId, mxc: &Mxc) -> Result<MediaRecord, Error> {
        let record = view.media(mxc)?.filter(|_| self.is_local(mxc)).ok_or(Error::NotFound)?;
        if record.uploader.as_deref() != Some(user) {
            return Err(Error::NotTheCreator);
        }
        if record.blob.is_some() {
            return Err(Error::CannotOverwrite);
        }
        if record.expires_at.is_some_and(|expires_at| expires_at <= self.now()) {
            return Err(Error::NotFound);
        }
        Ok(record)
    }

    pub(crate) fn fresh_mxc(&self) -> Result<Mxc, Error> {
        let id = random_string(&*self.0.random, ID_LETTERS);
        Mxc::new(&self.0.server_name, &id).ok_or(Error::InvalidParam("the name of this server"))
    }

    /// Counts an upload in, if its user may upload as much.
    fn admit(&self, user: &UserId, length: Option<u64>) -> Result<Admitted, Error> {
        let bytes_max = self.config().upload_bytes_max.0;
        if length.is_some_and(|length| length > bytes_max) {
            return Err(Error::TooLarge(bytes_max));
        }
        self.check_quota(&self.view(), user, length.unwrap_or_default())?;
        let permit = self.0.uploads.clone().try_acquire_owned().map_err(|_| Error::Busy)?;
        let mut uploading = self.0.uploading.lock().unwrap_or_else(PoisonError::into_inner);
        let count = uploading.entry(user.to_owned()).or_default();
        if *count >= self.config().user_uploads_at_once_max {
            return Err(Error::Busy);
        }
        *count += 1;
        Ok(Admitted { shared: self.0.clone(), user: user.to_owned(), _permit: permit })
    }

    fn check_quota(&self, view: &records::View, user: &UserId, more: u64) -> Result<(), Error> {
        let config = self.config();
        if config.user_bytes_max.is_none() && config.user_files_max.is_none() {
            return Ok(());
        }
        let usage = view.media_usage(user)?;
        let too_many = config.user_files_max.is_some_and(|files_max| usage.files >= files_max);
        let too_large = config.user_bytes_max.is_some_and(|bytes_max| usage.bytes.saturating_add(more) > bytes_max.0);
        if too_many || too_large { Err(Error::QuotaReached) } else { Ok(()) }
    }

    /// Takes bytes in, as long as they come.
    pub(crate) async fn receive<E: std::fmt::Display>(
        &self,
        bytes_max: u64,
        body: impl Stream<Item = Result<Bytes, E>> + Send,
    ) -> Result<Staged, Error> {
        let config = self.config();
        let all_until = Instant::now() + config.upload_timeout;
        let mut incoming = self.0.blobs.begin(&*self.0.random);
        let mut body = pin!(body);
        let mut received = 0_u64;
        loop {
            let until = all_until.min(Instant::now() + config.upload_idle_timeout);
            let next = timeout_at(until, body.next()).await;
            match next.map_err(|_| Error::CutOff("it took too long".to_owned()))? {
                None => return Ok(incoming.finish().await?),
                Some(Err(error)) => return Err(Error::CutOff(error.to_string())),
                Some(Ok(bytes)) => {
                    received = received.saturating_add(bytes.len() as u64);
                    if received > bytes_max {
                        return Err(Error::TooLarge(bytes_max));
                    }
                    if !bytes.is_empty() {
                        incoming.write(bytes).await?;
                    }
                }
            }
        }
    }

    /// Puts bytes at their place and names them. Goes on when who asked is gone: in between they would be left over.
    pub(crate) async fn keep(
        &self,
        mxc: Mxc,
        place: Place,
        record: MediaRecord,
        staged: Staged,
        admitted: Option<Admitted>,
    ) -> Result<(), Error> {
        let media = self.clone();
        let hash = staged.hash;
        let kept = tokio::spawn(async move {
            let kept = media.keep_now(&mxc, &place, &record, staged).await;
            drop(admitted);
            kept
        });
        kept.await??;
        self.arrived();
        self.scan_upload(hash).await
    }

    async fn keep_now(&self, mxc: &Mxc, place: &Place, record: &MediaRecord, staged: Staged) -> Result<(), Error> {
        let hash = staged.hash;
        let _turn = self.turn(&hash).await;
        self.check_acceptable(&self.view(), &hash)?;
        staged.place().await?;
        let named = self.change(|changes| {
            if let Place::Awaited(user) = place {
                self.awaiting(changes.view(), user, mxc)?;
            }
            if let Some(user) = &record.uploader {
                self.check_quota(changes.view(), user, record.bytes)?;
            }
            self.check_acceptable(changes.view(), &hash)?;
            // One of another server that had other bytes gives them up.
            Ok(changes.put_media(mxc, Some(record))?)
        });
        match named.await {
            Ok(None) => Ok(()),
            Ok(Some(gone)) => {
                self.remove_later(gone);
                Ok(())
            }
            Err(error) => {
                if self.view().blob(&hash)?.is_none() {
                    self.0.blobs.remove(crate::blobs::Name::Blob(hash)).await?;
                }
                Err(error)
            }
        }
    }

    /// Removes what nothing has any more, when it is its turn.
    fn remove_later(&self, gone: GoneBlob) {
        let media = self.clone();
        tokio::spawn(async move {
            if let Err(error) = media.remove_unused(gone).await {
                tracing::warn!(%error, "files that nothing refers to are left for the next clearing");
            }
        });
    }
}
