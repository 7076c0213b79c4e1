//! Why a room did not do what it was asked.

use records::RecordsError;
use room_core::Refusal;
use rules::{BuildError, Forbidden};
use store::CommitError;

/// What a caller can do something about, and [`RoomError::Internal`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RoomError {
    /// There is no such room, event or alias, or none that this server knows.
    #[error("{0} is not known here")]
    NotFound(&'static str),
    /// The room's rules don't allow it.
    #[error("{0}")]
    Forbidden(String),
    /// The room does not let guests in.
    #[error("the room does not let guests in")]
    GuestsForbidden,
    /// The user does not want to be invited by this one.
    #[error("the user has blocked this invitation")]
    InviteBlocked,
    /// The content is not what the specification demands.
    #[error("{0}")]
    BadJson(String),
    /// A parameter is not what the specification demands.
    #[error("{0}")]
    InvalidParam(String),
    /// The event is larger than the specification allows.
    #[error("{0}")]
    TooLarge(String),
    /// This server does not know the room version.
    #[error("this server does not support room version {0}")]
    UnsupportedVersion(String),
    /// The state that a room should be created with contradicts itself.
    #[error("{0}")]
    InvalidRoomState(String),
    /// The alias names a room already.
    #[error("the alias is taken")]
    AliasTaken,
    /// The event's relation to another is not one that there can be.
    #[error("{0}")]
    InvalidRelation(&'static str),
    /// The user has annotated the event in the same way already.
    #[error("you have annotated the event so already")]
    DuplicateAnnotation,
    /// An event refers to others that are not known here.
    #[error("{} events must be known first", .0.len())]
    Missing(Vec<ruma::OwnedEventId>),
    /// The room has changed since the request was planned: plan it again.
    #[error("the room has changed meanwhile")]
    Outdated,
    /// What was decided could not be written down.
    #[error("the decision could not be written down")]
    Unwritable,
    /// More is waiting for this room than it takes in. Trying again later helps.
    #[error("the room is overloaded")]
    Overloaded,
    /// The server is at fault.
    #[error("internal error: {0}")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl RoomError {
    pub(crate) fn internal(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Internal(error.into())
    }
}

impl From<RecordsError> for RoomError {
    fn from(error: RecordsError) -> Self {
        match error {
            RecordsError::IdsExhausted => Self::Overloaded,
            error => Self::internal(error),
        }
    }
}

impl From<CommitError> for RoomError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Conflict => Self::Overloaded,
            CommitError::TooLarge => Self::TooLarge("the request writes too much at once".to_owned()),
            error => Self::internal(error),
        }
    }
}

impl From<Forbidden> for RoomError {
    fn from(forbidden: Forbidden) -> Self {
        Self::Forbidden(forbidden.0)
    }
}

impl From<BuildError> for RoomError {
    fn from(error: BuildError) -> Self {
        match error {
            error @ BuildError::TooLarge(..) => Self::TooLarge(error.to_string()),
            error => Self::BadJson(error.to_string()),
        }
    }
}

impl From<Refusal> for RoomError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Forbidden(forbidden) => forbidden.into(),
            Refusal::Build(error) => error.into(),
        }
    }
}
