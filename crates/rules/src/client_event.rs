//! Events as clients get them (client-server API, "Room event format", "Stripped state").
//!
//! The event is copied text by text, never parsed into a tree: this runs for every event of every sync.
//! `unsigned` depends on who asks, so the caller adds it with [`with_unsigned`].

use crate::pdu::Pdu;
use ruma::events::TimelineEventType;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::fmt::Write;

/// Whether an event says its room: `/sync` does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// With `room_id`.
    WithRoomId,
    /// Without `room_id`.
    WithoutRoomId,
}

/// An event in the client's format, as a JSON object without `unsigned`.
///
/// A redaction says what it redacts both at the top level and in its content, whatever the room version:
/// clients of both kinds find it.
#[must_use]
pub fn client_event(pdu: &Pdu, format: Format) -> String {
    let mut out = String::with_capacity(pdu.json().len());
    out.push_str("{\"content\":");
    push_content(&mut out, pdu);
    push_field(&mut out, "event_id", pdu.event_id().as_str());
    let _infallible = write!(out, ",\"origin_server_ts\":{}", pdu.origin_server_ts().0);
    if let Some(redacts) = pdu.redacts() {
        push_field(&mut out, "redacts", redacts.as_str());
    }
    if format == Format::WithRoomId {
        push_field(&mut out, "room_id", pdu.room_id().as_str());
    }
    push_field(&mut out, "sender", pdu.sender().as_str());
    if let Some(state_key) = pdu.state_key() {
        push_field(&mut out, "state_key", state_key);
    }
    push_field(&mut out, "type", pdu.kind_str());
    out.push('}');
    out
}

/// The same event with this JSON object as its `unsigned`.
#[must_use]
pub fn with_unsigned(mut event: String, unsigned: &str) -> String {
    if event.pop() != Some('}') {
        return event;
    }
    event.reserve(unsigned.len() + 14);
    event.push_str(",\"unsigned\":");
    event.push_str(unsigned);
    event.push('}');
    event
}

/// A state event as those outside of the room get it with an invitation or a knock: content, sender, state key
/// and type. Nothing if it is not a state event.
#[must_use]
pub fn stripped_state(pdu: &Pdu) -> Option<String> {
    let state_key = pdu.state_key()?;
    let mut out = String::with_capacity(pdu.content().get().len() + 200);
    out.push_str("{\"content\":");
    out.push_str(pdu.content().get());
    push_field(&mut out, "sender", pdu.sender().as_str());
    push_field(&mut out, "state_key", state_key);
    push_field(&mut out, "type", pdu.kind_str());
    out.push('}');
    Some(out)
}

/// The content, with `redacts` if the event is a redaction whose content does not have it.
fn push_content(out: &mut String, pdu: &Pdu) {
    #[derive(Deserialize)]
    struct Content<'a> {
        #[serde(borrow)]
        redacts: Option<&'a RawValue>,
    }

    let content = pdu.content().get();
    let missing = pdu.redacts().filter(|_| {
        *pdu.kind() == TimelineEventType::RoomRedaction
            && serde_json::from_str::<Content<'_>>(content).is_ok_and(|content| content.redacts.is_none())
    });
    // Only the content of an object can be extended; every event's content is one.
    let Some((redacts, rest)) = missing.zip(content.strip_prefix('{')) else {
        out.push_str(content);
        return;
    };
    out.push('{');
    push_name(out, "redacts", redacts.as_str());
    if !rest.trim_start().starts_with('}') {
        out.push(',');
    }
    out.push_str(rest);
}

fn push_field(out: &mut String, name: &str, value: &str) {
    out.push(',');
    push_name(out, name, value);
}

fn push_name(out: &mut String, name: &str, value: &str) {
    out.push('"');
    out.push_str(name);
    out.push_str("\":");
    push_string(out, value);
}

/// Appends `text` as a JSON string.
pub(crate) fn push_string(out: &mut String, text: &str) {
    out.push('"');
    let mut rest = text;
    while let Some(at) = rest.bytes().position(|b| b < 0x20 || b == b'"' || b == b'\\') {
        let (plain, special) = rest.split_at(at);
        out.push_str(plain);
        let mut special = special.chars();
        match special.next() {
            Some(quoted @ ('"' | '\\')) => out.extend(['\\', quoted]),
            Some(control) => {
                let _infallible = write!(out, "\\u{:04x}", u32::from(control));
            }
            None => {}
        }
        rest = special.as_str();
    }
    out.push_str(rest);
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::room_rules;
    use proptest::prelude::*;
    use ruma::{RoomVersionId, owned_event_id};
    use serde_json::{Value, json};

    fn pdu(version: &RoomVersionId, json: &Value) -> Pdu {
        let rules = room_rules(version).unwrap();
        Pdu::parse_stored(owned_event_id!("$event"), json.to_string(), &rules, false).unwrap()
    }

    fn base(kind: &str, content: &Value) -> Value {
        json!({
            "type": kind, "content": content, "sender": "@a:a.example", "room_id": "!r:a.example", "depth": 1,
            "origin_server_ts": 7, "prev_events": ["$p"], "auth_events": ["$q"], "hashes": {"sha256": "x"},
            "signatures": {},
        })
    }

    fn parsed(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn clients_get_what_concerns_them_and_nothing_else() {
        let mut json = base("m.room.name", &json!({"name": "N"}));
        json["state_key"] = json!("");
        let pdu = pdu(&RoomVersionId::V11, &json);
        let mut expected = json!({
            "type": "m.room.name", "content": {"name": "N"}, "sender": "@a:a.example", "state_key": "",
            "event_id": "$event", "origin_server_ts": 7,
        });
        assert_eq!(parsed(&client_event(&pdu, Format::WithoutRoomId)), expected);
        expected["room_id"] = json!("!r:a.example");
        assert_eq!(parsed(&client_event(&pdu, Format::WithRoomId)), expected);
        expected["unsigned"] = json!({"age": 3});
        let event = with_unsigned(client_event(&pdu, Format::WithRoomId), r#"{"age":3}"#);
        assert_eq!(parsed(&event), expected);
    }

    #[test]
    fn a_redaction_says_what_it_redacts_in_both_places() {
        let mut old = base("m.room.redaction", &json!({"reason": "R"}));
        old["redacts"] = json!("$target");
        let new = base("m.room.redaction", &json!({"reason": "R", "redacts": "$target"}));
        for (version, json) in [(RoomVersionId::V10, old), (RoomVersionId::V11, new)] {
            let event = parsed(&client_event(&pdu(&version, &json), Format::WithRoomId));
            assert_eq!(event["redacts"], "$target");
            assert_eq!(event["content"], json!({"redacts": "$target", "reason": "R"}));
        }
        let mut bare = base("m.room.redaction", &json!({}));
        bare["redacts"] = json!("$target");
        let event = parsed(&client_event(&pdu(&RoomVersionId::V1, &bare), Format::WithRoomId));
        assert_eq!(event["content"], json!({"redacts": "$target"}));
    }

    #[test]
    fn the_creation_of_a_version_12_room_names_its_room() {
        let mut json = base("m.room.create", &json!({}));
        json.as_object_mut().unwrap().remove("room_id");
        let event = parsed(&client_event(&pdu(&RoomVersionId::V12, &json), Format::WithRoomId));
        assert_eq!(event["room_id"], "!event");
    }

    #[test]
    fn stripped_state_is_four_fields_of_a_state_event() {
        let mut json = base("m.room.name", &json!({"name": "N"}));
        assert_eq!(stripped_state(&pdu(&RoomVersionId::V11, &json)), None);
        json["state_key"] = json!("");
        let stripped = parsed(&stripped_state(&pdu(&RoomVersionId::V11, &json)).unwrap());
        let expected =
            json!({"type": "m.room.name", "content": {"name": "N"}, "sender": "@a:a.example", "state_key": ""});
        assert_eq!(stripped, expected);
    }

    proptest! {
        #[test]
        fn any_string_is_written_so_that_it_reads_back(text in any::<String>()) {
            let mut out = String::new();
            push_string(&mut out, &text);
            prop_assert_eq!(serde_json::from_str::<String>(&out).unwrap(), text);
        }

        #[test]
        fn any_type_and_state_key_make_valid_json(kind in any::<String>(), key in any::<String>()) {
            let mut json = base(&kind, &json!({"body": key}));
            json["state_key"] = json!(key);
            let pdu = pdu(&RoomVersionId::V11, &json);
            let event = parsed(&client_event(&pdu, Format::WithRoomId));
            prop_assert_eq!(event["type"].as_str(), Some(kind.as_str()));
            prop_assert_eq!(event["state_key"].as_str(), Some(key.as_str()));
            parsed(&stripped_state(&pdu).unwrap());
        }
    }
}
