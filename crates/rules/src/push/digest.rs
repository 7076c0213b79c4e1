//! What the predefined rules make of an event, as far as that is the same for everybody.

use crate::pdu::Pdu;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Kept with an event's place in its timeline, so that counting what a user has not read need not read all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Digest {
    /// The predefined rules notify nobody of it.
    Silent,
    /// A message of the main timeline that mentions nobody: the predefined rules notify all others of it, and
    /// highlight it for none.
    Plain,
    /// What it means for a user, only reading it tells.
    Special,
}

impl Digest {
    /// The digest of an event.
    #[must_use]
    pub fn of(pdu: &Pdu) -> Self {
        let content = pdu.content().get();
        // Names can be written with escapes, which only reading the JSON undoes.
        let may_have = |name: &str| content.contains(name) || content.contains("\\u");
        match (pdu.kind_str(), pdu.state_key()) {
            ("m.room.message" | "m.room.encrypted", None) => {
                // Patterns match whatever the case.
                let is_notice = content.to_ascii_lowercase().contains("m.notice");
                let needs_reading = is_notice || ["m.mentions", "m.relates_to"].into_iter().any(may_have);
                if !needs_reading || is_plain(content) { Self::Plain } else { Self::Special }
            }
            // A redaction notifies nobody, but those who were notified of what it redacts.
            (
                "m.room.message" | "m.room.encrypted" | "m.room.member" | "m.room.tombstone" | "m.room.redaction"
                | "m.call.invite",
                _,
            ) => Self::Special,
            (kind, _) if kind.starts_with("org.matrix.msc3381.poll.") || may_have("m.mentions") => Self::Special,
            _ => Self::Silent,
        }
    }
}

/// Whether a message concerns all alike. Clients that know of mentions write `m.mentions` into each message, mostly
/// to say that there are none.
fn is_plain(content: &str) -> bool {
    let Ok(content) = serde_json::from_str::<Value>(content) else { return false };
    let mentions_nobody = match content.get("m.mentions") {
        None => true,
        Some(Value::Object(mentions)) => {
            let users = mentions.get("user_ids").map(Value::as_array);
            users.is_none_or(|users| users.is_some_and(Vec::is_empty))
                && mentions.get("room").is_none_or(|room| *room == Value::Bool(false))
        }
        Some(_) => false,
    };
    // What it relates to decides in which thread it is.
    let is_related = content.get("m.relates_to").is_some();
    let is_notice =
        content.get("msgtype").and_then(Value::as_str).is_some_and(|kind| kind.eq_ignore_ascii_case("m.notice"));
    mentions_nobody && !is_related && !is_notice
}
