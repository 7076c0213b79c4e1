//! Why a search failed.

use records::RecordsError;
use rooms::RoomError;
use tantivy::TantivyError;

/// Why a search failed: what the caller can do something about, and the rest.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// Search is turned off.
    #[error("search is turned off on this server")]
    Off,
    /// Too many search at once. Trying again later helps.
    #[error("too many search at once")]
    Overloaded,
    /// There is no index yet, or not any more. It is being made.
    #[error("the search index is not there yet")]
    NotReady,
    /// The rooms can't be read.
    #[error(transparent)]
    Room(#[from] RoomError),
    /// The records can't be read or written.
    #[error(transparent)]
    Records(#[from] RecordsError),
    /// The index fails.
    #[error("the search index fails: {0}")]
    Index(#[from] TantivyError),
    /// A task was cut off, by a panic within the index.
    #[error("the search was cut off: {0}")]
    CutOff(#[from] tokio::task::JoinError),
    /// How far the index has come can't be noted.
    #[error("the place in the log can't be noted: {0}")]
    Commit(#[from] store::CommitError),
}

impl SearchError {
    /// Whether the disk is at fault, as when it is full: a new index would not help.
    pub(crate) fn is_of_the_disk(&self) -> bool {
        let Self::Index(error) = self else { return false };
        matches!(error, TantivyError::IoError(_) | TantivyError::OpenWriteError(_) | TantivyError::LockFailure(..))
    }
}
