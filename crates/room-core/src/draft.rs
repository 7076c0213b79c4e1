//! What a user of this server wants to send.

use base::UnixMillis;
use rules::{BuildError, Forbidden};
use ruma::{OwnedEventId, OwnedUserId};
use serde_json::value::RawValue;

/// An event as its sender gives it. The room adds its place in the room's history and the signature.
#[derive(Clone, Debug)]
pub struct Draft {
    /// Who sends it.
    pub sender: OwnedUserId,
    /// The event type.
    pub kind: String,
    /// The state key of a state event.
    pub state_key: Option<String>,
    /// The content, a JSON object.
    pub content: Box<RawValue>,
    /// The event that a redaction redacts.
    pub redacts: Option<OwnedEventId>,
    /// The time to give it, where the sender may choose; else it is the time of the decision.
    pub timestamp: Option<UnixMillis>,
}

impl Draft {
    /// A message.
    #[must_use]
    pub fn message(sender: OwnedUserId, kind: impl Into<String>, content: Box<RawValue>) -> Self {
        Self { sender, kind: kind.into(), state_key: None, content, redacts: None, timestamp: None }
    }

    /// A state event.
    #[must_use]
    pub fn state(
        sender: OwnedUserId,
        kind: impl Into<String>,
        state_key: impl Into<String>,
        content: Box<RawValue>,
    ) -> Self {
        Self { state_key: Some(state_key.into()), ..Self::message(sender, kind, content) }
    }
}

/// Why a draft becomes no event.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The authorization rules don't allow it.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    /// It has not the form of an event.
    #[error(transparent)]
    Build(#[from] BuildError),
}
