//! Why something about devices and keys failed.

use records::RecordsError;
use std::sync::Arc;
use store::CommitError;

/// Why something about devices and keys failed: a variant for each thing that the caller can tell the user.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What the client sent is JSON of another shape.
    #[error("{0}")]
    BadJson(String),
    /// What the client sent has the right shape, and is wrong.
    #[error("{0}")]
    InvalidParam(String),
    /// A one-time key of this name is another one.
    #[error("One time key {0} already exists, and is another one")]
    KeyExists(String),
    /// A signature is wrong or missing.
    #[error("{0}")]
    InvalidSignature(&'static str),
    /// The user has no master key, and uploads none.
    #[error("there is no master key")]
    NoMasterKey,
    /// The user may not do this.
    #[error("{0}")]
    Forbidden(&'static str),
    /// The user must prove who they are.
    #[error("the user must prove who they are")]
    ProofNeeded,
    /// The user has no such device, or not any more.
    #[error("there is no such device")]
    NoSuchDevice,
    /// There is no such thing.
    #[error("there is no such {0}")]
    NotFound(&'static str),
    /// Keys are for another version of the backup than the current one.
    #[error("the current version of the backup is {current}")]
    WrongBackupVersion {
        /// The current version.
        current: u64,
    },
    /// What would be stored is larger than its limit.
    #[error("{0} is too large")]
    TooLarge(&'static str),
    /// Something else wrote at the same time, again and again.
    #[error("the change met others too often")]
    Contended,
    /// The server is stopping.
    #[error("the server is stopping")]
    Stopped,
    /// What failed for many at once.
    #[error(transparent)]
    Shared(Arc<Error>),
    /// The records can't be read.
    #[error(transparent)]
    Records(#[from] RecordsError),
    /// The change can't be committed.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

impl Error {
    /// Whether the server is at fault, not what was asked.
    pub(crate) fn is_internal(&self) -> bool {
        matches!(self, Self::Records(_) | Self::Commit(_) | Self::Shared(_) | Self::Stopped)
    }
}
