//! Media of other servers: fetched when somebody asks for them, and kept for the next who does.

use crate::upload::{Place, checked_type};
use crate::{ByteStream, Error, Media};
use base::UnixMillis;
use futures::future::BoxFuture;
use records::{MediaRecord, Mxc};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// How long another server has to begin to answer, whoever waits for it.
const FETCH_TIMEOUT: Duration = Duration::from_mins(1);

/// Asks other servers for their media: through the authenticated endpoint of the federation, and the old one where that
/// is not known (server-server API, "Content Repository").
pub trait RemoteMedia: Send + Sync + 'static {
    /// Asks for a medium. `timeout` is how long the other server may wait for an upload to it.
    fn fetch<'a>(&'a self, mxc: &'a Mxc, timeout: Duration) -> BoxFuture<'a, Result<RemoteFile, RemoteError>>;
}

/// A medium of another server.
pub struct RemoteFile {
    /// Its `Content-Type`.
    pub content_type: Option<String>,
    /// The name of the file in its `Content-Disposition`.
    pub filename: Option<String>,
    /// How many bytes it has, if that is told.
    pub length: Option<u64>,
    /// They.
    pub body: ByteStream,
}

/// Why another server did not give a medium.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RemoteError {
    /// It has none of this name.
    #[error("the other server has no such file")]
    NotFound,
    /// Nothing was uploaded to it yet.
    #[error("nothing was uploaded yet")]
    NotYetUploaded,
    /// It is too large.
    #[error("the file is too large")]
    TooLarge,
    /// The server can't be asked, or answers nonsense.
    #[error("{0}")]
    Failed(String),
}

impl From<RemoteError> for Error {
    fn from(error: RemoteError) -> Self {
        match error {
            RemoteError::NotFound => Self::NotFound,
            RemoteError::NotYetUploaded => Self::NotYetUploaded,
            RemoteError::TooLarge => Self::RemoteTooLarge,
            RemoteError::Failed(message) => Self::Remote(message),
        }
    }
}

impl Media {
    /// Fetches a medium of another server, or waits for who does. It goes on when nobody waits any more.
    pub(crate) async fn fetch(&self, mxc: &Mxc, deadline: Instant) -> Result<(), Error> {
        if self.0.remote.get().is_none() {
            return Err(Error::NotFound);
        }
        let timeout = deadline.saturating_duration_since(Instant::now());
        let fetched = self.0.fetching.join(mxc, || {
            let (media, mxc) = (self.clone(), mxc.clone());
            async move { media.fetch_now(&mxc, timeout).await }
        });
        // Who asks waits longer than they said for what is large, but not for ever: it comes all the same.
        match timeout_at(deadline.max(Instant::now() + FETCH_TIMEOUT), fetched).await {
            Ok(Some(fetched)) => fetched,
            Ok(None) => Err(Error::Stopped),
            Err(_) => Err(Error::NotYetUploaded),
        }
    }

    async fn fetch_now(&self, mxc: &Mxc, timeout: Duration) -> Result<(), Error> {
        let remote = self.0.remote.get().ok_or(Error::NotFound)?;
        let _permit = self.0.uploads.clone().acquire_owned().await.map_err(|_| Error::Stopped)?;
        let file = tokio::time::timeout(timeout + FETCH_TIMEOUT, remote.fetch(mxc, timeout)).await;
        let file = file.map_err(|_| Error::Remote("it did not answer in time".to_owned()))??;
        let bytes_max = self.config().remote_bytes_max.0;
        if file.length.is_some_and(|length| length > bytes_max) {
            return Err(Error::RemoteTooLarge);
        }
        let staged = self.receive(bytes_max, file.body).await.map_err(|error| match error {
            Error::TooLarge(_) => Error::RemoteTooLarge,
            Error::CutOff(message) => Error::Remote(message),
            error => error,
        })?;
        if file.length.is_some_and(|length| length != staged.bytes) {
            return Err(Error::Remote("it gave another number of bytes than it said".to_owned()));
        }
        let record = MediaRecord {
            blob: Some(staged.hash),
            bytes: staged.bytes,
            content_type: checked_type(file.content_type),
            filename: file.filename.filter(|name| !name.is_empty() && name.len() <= 1024),
            uploader: None,
            created_at: self.now().max(UnixMillis(1)),
            expires_at: None,
            protected: false,
        };
        match self.keep(mxc.clone(), Place::Remote, record, staged, None).await {
            // Whether it gets through is asked again by each who wants it.
            Err(Error::Refused) => Err(Error::NotFound),
            kept => kept,
        }
    }
}
