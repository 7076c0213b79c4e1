//! Why something could not be done.

use records::RecordsError;
use std::sync::Arc;
use store::CommitError;

/// Why something could not be done. Cheap to clone, because several may have waited for the same.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// There is no such medium, or nobody gets it.
    #[error("there is no such file")]
    NotFound,
    /// Nothing was uploaded yet, or it was not scanned yet, or its server did not answer in time.
    #[error("the file is not there yet")]
    NotYetUploaded,
    /// The upload is larger than this.
    #[error("a file may have {0} bytes")]
    TooLarge(u64),
    /// The medium of another server is too large for this one.
    #[error("the file of the other server is too large")]
    RemoteTooLarge,
    /// The user has uploaded as much as they may.
    #[error("the quota for uploaded files is reached")]
    QuotaReached,
    /// The user has too many names to which nothing was uploaded.
    #[error("too many files are waited for: upload some of them first")]
    TooManyPending,
    /// Too many uploads, thumbnails or requests are under way.
    #[error("too much is under way at once")]
    Busy,
    /// Something was uploaded already.
    #[error("something was uploaded there already")]
    CannotOverwrite,
    /// Somebody else has made the name.
    #[error("only who has made it may upload to it")]
    NotTheCreator,
    /// These bytes are blocked, or a scanner does not let them through.
    #[error("this file is not accepted")]
    Refused,
    /// A value that the asker gave is wrong.
    #[error("{0}")]
    InvalidParam(&'static str),
    /// The upload broke off, or came too slowly.
    #[error("the file did not come: {0}")]
    CutOff(String),
    /// There is no thumbnail of such a file.
    #[error("there are no thumbnails of this kind of file")]
    NotAnImage,
    /// The image is too large to make a thumbnail of it; whether it is from another server.
    #[error("the image is too large for a thumbnail")]
    ImageTooLarge {
        /// Whether the image is from another server.
        remote: bool,
    },
    /// The other server did not give what was asked for.
    #[error("the other server failed: {0}")]
    Remote(String),
    /// There are no previews on this server.
    #[error("there are no previews of pages here")]
    NoPreviews,
    /// There is no preview of this page: its host is not one of which there are any.
    #[error("there are no previews of pages of this host")]
    PageRefused,
    /// An administrator has said that it is not to be quarantined.
    #[error("the file is protected from quarantine")]
    Protected,
    /// Another writer was first, again and again.
    #[error("too many want to change the same at once")]
    Contended,
    /// The place of the bytes failed.
    #[error("the files can't be read or written: {0}")]
    Blobs(Arc<std::io::Error>),
    /// What was done broke off.
    #[error("the work was cut off")]
    Stopped,
    /// The records can't be read.
    #[error(transparent)]
    Records(Arc<RecordsError>),
    /// The change can't be committed.
    #[error(transparent)]
    Commit(Arc<CommitError>),
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self::Blobs(Arc::new(error))
    }
}

impl From<RecordsError> for Error {
    fn from(error: RecordsError) -> Self {
        Self::Records(Arc::new(error))
    }
}

impl From<CommitError> for Error {
    fn from(error: CommitError) -> Self {
        Self::Commit(Arc::new(error))
    }
}

impl From<tokio::task::JoinError> for Error {
    fn from(_: tokio::task::JoinError) -> Self {
        Self::Stopped
    }
}
