//! Why something that takes other servers failed.

use crate::PeerError;
use records::RecordsError;
use rooms::RoomError;
use store::CommitError;

/// Why something that takes other servers failed: a variant for each thing that the caller can tell the user.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FederationError {
    /// No server was named that could be asked.
    #[error("no other server is known that could be asked")]
    NobodyToAsk,
    /// Another server refused, cannot be reached or gave an answer of no use; of several, the one that says most.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// The room refused, or this server's part of it failed.
    #[error(transparent)]
    Room(#[from] RoomError),
    /// The records can't be read.
    #[error(transparent)]
    Records(#[from] RecordsError),
    /// What was decided can't be committed.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

impl FederationError {
    /// Whether another server has refused with this code.
    #[must_use]
    pub fn is_refusal(&self, code: &str) -> bool {
        matches!(self, Self::Peer(PeerError::Refused { errcode: Some(errcode), .. }) if errcode == code)
    }

    /// An answer that is not what was asked for.
    #[expect(clippy::needless_pass_by_value, reason = "so it can be given to `map_err`")]
    pub(crate) fn unusable(reason: impl ToString) -> Self {
        Self::Peer(PeerError::Unusable(reason.to_string()))
    }

    /// How much an error says: of several servers' refusals, the most telling is passed on.
    pub(crate) fn weight(&self) -> u8 {
        match self {
            Self::Peer(PeerError::Refused { status: 403, .. }) => 4,
            Self::Peer(PeerError::Refused { status: 400..=499, errcode: Some(_), .. }) | Self::Room(_) => 3,
            Self::Peer(PeerError::Refused { .. } | PeerError::Forbidden(_)) => 2,
            Self::Peer(_) => 1,
            _ => 0,
        }
    }
}
