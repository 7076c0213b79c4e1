//! What an event says of its relation to another (client-server API, "Forming relationships between events").

use crate::Pdu;
use base::limits::ID_BYTES_MAX;
use ruma::OwnedEventId;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// The `rel_type` of the events of a thread.
pub const THREAD: &str = "m.thread";
/// The `rel_type` of edits.
pub const REPLACE: &str = "m.replace";
/// The `rel_type` of annotations, such as reactions.
pub const ANNOTATION: &str = "m.annotation";
/// The `rel_type` of references.
pub const REFERENCE: &str = "m.reference";

/// The relation of an event to another one, its target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    /// What the event is to the target.
    pub rel_type: String,
    /// The target. It may be an event that there is not, or of another room.
    pub target: OwnedEventId,
    /// The `key`, which annotations have.
    pub key: Option<String>,
}

#[derive(Deserialize)]
struct Content {
    #[serde(rename = "m.relates_to")]
    relates_to: Written,
}

#[derive(Deserialize)]
struct Written {
    rel_type: String,
    event_id: OwnedEventId,
    /// Any JSON: what is no text is no key.
    key: Option<Value>,
}

impl Relation {
    /// The relation of an event; none if it has none, or one that is not as the specification demands: those are
    /// ignored. A reply has none in this sense.
    #[must_use]
    pub fn of(pdu: &Pdu) -> Option<Self> {
        let content = pdu.content().get();
        // Most events have none, and stored JSON writes names in one way only.
        if !content.contains("\"m.relates_to\"") {
            return None;
        }
        let Written { rel_type, event_id, key } = serde_json::from_str::<Content>(content).ok()?.relates_to;
        let too_long = rel_type.len() > ID_BYTES_MAX || event_id.as_str().len() > ID_BYTES_MAX;
        if rel_type.is_empty() || too_long || event_id == *pdu.event_id() {
            return None;
        }
        let key = match key {
            Some(Value::String(key)) => Some(key),
            _ => None,
        };
        Some(Self { rel_type, target: event_id, key })
    }

    /// Whether the event is of a thread.
    #[must_use]
    pub fn is_thread(&self) -> bool {
        self.rel_type == THREAD
    }

    /// What an annotation says, in 32 bytes: annotations by one user of one event are the same if these are
    /// (client-server API, "Avoiding duplicate annotations"). None for what is no annotation with a key.
    #[must_use]
    pub fn annotation_digest(&self, event_type: &str) -> Option<[u8; 32]> {
        let key = self.key.as_deref().filter(|_| self.rel_type == ANNOTATION)?;
        let mut digest = Sha256::new();
        // No type contains this byte, so the two parts can't be mistaken.
        digest.update(event_type.as_bytes());
        digest.update([0xff]);
        digest.update(key.as_bytes());
        Some(digest.finalize().into())
    }
}

/// Whether an event can replace another one, apart from what depends on that one (client-server API, "Validity of
/// replacement events"): it is no state, and has a new content, which is inside of what is encrypted if it is.
#[must_use]
pub fn can_replace(pdu: &Pdu) -> bool {
    #[derive(Deserialize)]
    struct Content {
        #[serde(rename = "m.new_content")]
        _new_content: serde_json::Map<String, Value>,
    }

    let has_new_content = || {
        let content = pdu.content().get();
        content.contains("\"m.new_content\"") && serde_json::from_str::<Content>(content).is_ok()
    };
    pdu.state_key().is_none() && (pdu.kind_str() == "m.room.encrypted" || has_new_content())
}

/// Whether an event can be the root of a thread: it relates to no other event itself. Replies can.
#[must_use]
pub fn can_be_root(pdu: &Pdu) -> bool {
    Relation::of(pdu).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::room_rules;
    use ruma::{RoomVersionId, owned_event_id};
    use serde_json::json;

    fn pdu(kind: &str, content: &Value) -> Pdu {
        let json = json!({
            "type": kind, "content": content, "sender": "@a:a.example", "room_id": "!r:a.example", "depth": 1,
            "origin_server_ts": 7, "prev_events": [], "auth_events": [], "hashes": {"sha256": "x"}, "signatures": {},
        });
        let rules = room_rules(&RoomVersionId::V11).unwrap();
        Pdu::parse_stored(owned_event_id!("$event"), json.to_string(), &rules, false).unwrap()
    }

    fn relation(relates_to: &Value) -> Option<Relation> {
        Relation::of(&pdu("m.x", &json!({"m.relates_to": relates_to})))
    }

    #[test]
    fn a_relation_has_a_type_and_a_target_that_is_another_event() {
        let found = relation(&json!({"rel_type": "m.thread", "event_id": "$t", "key": 7})).unwrap();
        assert_eq!(found, Relation { rel_type: THREAD.to_owned(), target: owned_event_id!("$t"), key: None });
        for bad in [
            json!({"m.in_reply_to": {"event_id": "$t"}}),
            json!({"rel_type": "m.thread"}),
            json!({"rel_type": "m.thread", "event_id": "t"}),
            json!({"rel_type": 7, "event_id": "$t"}),
            json!({"rel_type": "", "event_id": "$t"}),
            json!({"rel_type": "x".repeat(256), "event_id": "$t"}),
            json!({"rel_type": "m.thread", "event_id": "$event"}),
            json!("m.thread"),
        ] {
            assert_eq!(relation(&bad), None, "{bad}");
        }
        assert_eq!(Relation::of(&pdu("m.x", &json!({"body": "m.relates_to"}))), None);
    }

    #[test]
    fn annotations_are_the_same_if_type_and_key_are() {
        let digest = |kind: &str, key: &str| {
            let relation = relation(&json!({"rel_type": ANNOTATION, "event_id": "$t", "key": key})).unwrap();
            relation.annotation_digest(kind).unwrap()
        };
        assert_eq!(digest("m.reaction", "a"), digest("m.reaction", "a"));
        assert_ne!(digest("m.reaction", "a"), digest("m.reaction", "b"));
        assert_ne!(digest("m.reaction", "a"), digest("m.reactiona", ""));
        let thread = relation(&json!({"rel_type": THREAD, "event_id": "$t", "key": "a"})).unwrap();
        assert_eq!(thread.annotation_digest("m.reaction"), None);
    }

    #[test]
    fn an_edit_has_a_new_content_that_only_encryption_hides() {
        assert!(can_replace(&pdu("m.room.message", &json!({"m.new_content": {"body": "b"}}))));
        assert!(!can_replace(&pdu("m.room.message", &json!({"body": "b"}))));
        assert!(!can_replace(&pdu("m.room.message", &json!({"m.new_content": "b"}))));
        assert!(can_replace(&pdu("m.room.encrypted", &json!({"ciphertext": "x"}))));
    }
}
