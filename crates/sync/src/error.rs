//! Why a sync, a receipt or a typing notification was refused.

use records::RecordsError;
use rooms::RoomError;
use store::CommitError;

/// What the caller can tell the user, and [`SyncError::Internal`].
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// The filter is not one: 400 `M_BAD_JSON`.
    #[error("the filter is not valid: {0}")]
    BadFilter(String),
    /// The user has stored no such filter: 400 `M_INVALID_PARAM`.
    #[error("there is no such filter")]
    NoSuchFilter,
    /// A parameter is wrong: 400 `M_INVALID_PARAM`.
    #[error("{0}")]
    InvalidParam(&'static str),
    /// The position is none that the connection is at: 400 `M_UNKNOWN_POS` (MSC4186).
    #[error("the connection is not at this position any more: begin it anew")]
    UnknownPosition,
    /// The user may not do this: 403 `M_FORBIDDEN`.
    #[error("{0}")]
    Forbidden(&'static str),
    /// The push rules can't be changed so: 404 `M_NOT_FOUND`, or 400.
    #[error(transparent)]
    PushRule(rules::push::EditError),
    /// More users sync than the server keeps track of, or a write met others too often. Trying again later
    /// helps: 429 `M_LIMIT_EXCEEDED`.
    #[error("the server is overloaded")]
    Overloaded,
    /// The server is at fault.
    #[error("internal error: {0}")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl SyncError {
    pub(crate) fn internal(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Internal(error.into())
    }
}

impl From<RecordsError> for SyncError {
    fn from(error: RecordsError) -> Self {
        Self::internal(error)
    }
}

impl From<RoomError> for SyncError {
    fn from(error: RoomError) -> Self {
        Self::internal(error)
    }
}

impl From<CommitError> for SyncError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Conflict => Self::Overloaded,
            error => Self::internal(error),
        }
    }
}
