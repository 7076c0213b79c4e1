//! Making an event of this server: from what a user wants to say to a hashed and signed PDU.
//!
//! Whether the room allows it is [`crate::auth`]'s question. JSON is strict here in every room version: what
//! old rooms must bear from others, this server does not add.

use crate::json::{Numbers, Object};
use crate::key::SigningKey;
use crate::pdu::{Pdu, PduError, has_written_event_id};
use base::UnixMillis;
use base::limits::{ID_BYTES_MAX, PDU_BYTES_MAX};
use ruma::canonical_json::CanonicalJsonValue;
use ruma::events::TimelineEventType;
use ruma::room_version_rules::{EventsReferenceFormatVersion, RoomIdFormatVersion, RoomVersionRules};
use ruma::serde::Base64;
use ruma::serde::base64::Standard;
use ruma::{CanonicalJsonObject, Int, OwnedEventId, OwnedRoomId, OwnedUserId};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::fmt;

/// The most events that an event may follow (room version specifications, "Event format").
pub const PREV_EVENTS_MAX: usize = 20;
/// The most events that an event may name as allowing it (same place).
pub const AUTH_EVENTS_MAX: usize = 10;
/// The largest integer of canonical JSON.
const INTEGER_MAX: u64 = (1 << 53) - 1;

/// Why a draft makes no event.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The content is not an object in canonical JSON: `M_BAD_JSON`.
    #[error("bad content: {0}")]
    BadJson(String),
    /// The event would have more than [`PDU_BYTES_MAX`] bytes: `M_TOO_LARGE`.
    #[error("the event has {0} bytes, more than {PDU_BYTES_MAX}")]
    TooLarge(usize),
    /// A field has more than [`ID_BYTES_MAX`] bytes: `M_TOO_LARGE`.
    #[error("`{0}` has more than {ID_BYTES_MAX} bytes")]
    FieldTooLarge(&'static str),
    /// More than [`PREV_EVENTS_MAX`] or [`AUTH_EVENTS_MAX`] references. The caller chose them.
    #[error("too many `{0}`")]
    TooManyReferences(&'static str),
    /// No room id where the room version has one in the event, or one where it has none.
    #[error("the room id must be given, except for the creation of a room from version 12 on")]
    RoomId,
    /// Room versions 1 and 2: no event id was given. Later versions: one was.
    #[error("the event id must be given in room versions 1 and 2, and only there")]
    EventId,
    /// Room versions 1 and 2: the hash of this referenced event was not given.
    #[error("no reference hash for {0}")]
    ReferenceHash(OwnedEventId),
    /// The event could not be read back. A bug here.
    #[error("the event cannot be read: {0}")]
    Pdu(#[from] PduError),
}

/// An event before it is hashed and signed.
#[derive(Clone, Debug)]
pub struct PduDraft {
    /// The room; nothing for the creation of a room from version 12 on, whose id follows from the event.
    pub room_id: Option<OwnedRoomId>,
    /// Who sends it: a user of the signing server.
    pub sender: OwnedUserId,
    /// Its type.
    pub kind: TimelineEventType,
    /// Its state key, if it is a state event.
    pub state_key: Option<String>,
    /// Its content, in any JSON encoding.
    pub content: Box<RawValue>,
    /// The event to redact. It is put where the room version has it, also into the content.
    pub redacts: Option<OwnedEventId>,
    /// The events it follows.
    pub prev_events: Vec<OwnedEventId>,
    /// The events that allow it: those of [`crate::auth::auth_events_for`] that exist.
    pub auth_events: Vec<OwnedEventId>,
    /// One more than the greatest depth of `prev_events`. Above 2^53 - 1 it stays there.
    pub depth: u64,
    /// The time now.
    pub origin_server_ts: UnixMillis,
    /// The event's id, in room versions 1 and 2 only: `$`, something random, `:` and the server name.
    pub event_id: Option<OwnedEventId>,
    /// The [`reference_hash_of`] each of `prev_events` and `auth_events`, in room versions 1 and 2 only.
    pub reference_hashes: BTreeMap<OwnedEventId, String>,
}

/// Hashes and signs a draft (server-server API, "Signing events").
///
/// # Errors
///
/// [`BuildError`]; `BadJson`, `TooLarge` and `FieldTooLarge` are the user's doing, the others the caller's.
pub fn build(draft: PduDraft, rules: &RoomVersionRules, key: &SigningKey) -> Result<Pdu, BuildError> {
    check_fields(&draft, rules)?;
    let event_id = draft.event_id.clone();
    let mut object = Object::new(object(draft, rules)?);
    hash_and_sign(&mut object, rules, key)?;
    let event_id = match event_id {
        Some(event_id) => event_id,
        None => event_id_of(&object, rules)?,
    };
    let json = object.text().map_err(bad_json)?;
    if json.len() > PDU_BYTES_MAX {
        return Err(BuildError::TooLarge(json.len()));
    }
    Ok(Pdu::parse_stored(event_id, json, rules, false)?)
}

/// The reference hash of an event in unpadded Base64, as room versions 1 and 2 write it beside each reference
/// (server-server API, "Calculating the reference hash for an event").
///
/// # Errors
///
/// [`BuildError::BadJson`] if the stored event cannot be hashed.
pub fn reference_hash_of(pdu: &Pdu, rules: &RoomVersionRules) -> Result<String, BuildError> {
    let object = Object::parse(pdu.json(), Numbers::of(rules)).map_err(bad_json)?;
    object.reference_hash(rules).ok_or_else(|| BuildError::BadJson("the event has no type".to_owned()))
}

fn check_fields(draft: &PduDraft, rules: &RoomVersionRules) -> Result<(), BuildError> {
    let lengths = [
        ("room_id", draft.room_id.as_ref().map(|id| id.as_str().len())),
        ("sender", Some(draft.sender.as_str().len())),
        ("type", Some(draft.kind.to_string().len())),
        ("state_key", draft.state_key.as_ref().map(String::len)),
        ("event_id", draft.event_id.as_ref().map(|id| id.as_str().len())),
    ];
    if let Some((field, _)) = lengths.iter().find(|(_, length)| length.is_some_and(|n| n > ID_BYTES_MAX)) {
        return Err(BuildError::FieldTooLarge(field));
    }
    if draft.prev_events.len() > PREV_EVENTS_MAX {
        return Err(BuildError::TooManyReferences("prev_events"));
    }
    if draft.auth_events.len() > AUTH_EVENTS_MAX {
        return Err(BuildError::TooManyReferences("auth_events"));
    }
    let room_id_follows =
        rules.room_id_format == RoomIdFormatVersion::V2 && draft.kind == TimelineEventType::RoomCreate;
    if draft.room_id.is_none() != room_id_follows {
        return Err(BuildError::RoomId);
    }
    if draft.event_id.is_some() != has_written_event_id(rules) {
        return Err(BuildError::EventId);
    }
    Ok(())
}

/// The draft as an object without hash and signature.
fn object(draft: PduDraft, rules: &RoomVersionRules) -> Result<CanonicalJsonObject, BuildError> {
    let mut content = Object::parse(draft.content.get(), Numbers::Canonical).map_err(bad_json)?.map;
    let mut object = CanonicalJsonObject::new();
    let mut put = |field: &str, value: CanonicalJsonValue| object.insert(field.to_owned(), value);

    if let Some(redacts) = draft.redacts {
        let redacts = CanonicalJsonValue::String(redacts.into());
        if rules.redaction.content_field_redacts {
            content.insert("redacts".to_owned(), redacts);
        } else {
            put("redacts", redacts);
        }
    }
    for (field, events) in [("prev_events", draft.prev_events), ("auth_events", draft.auth_events)] {
        let events = events.into_iter().map(|event_id| reference(event_id, &draft.reference_hashes, rules));
        put(field, CanonicalJsonValue::Array(events.collect::<Result<_, _>>()?));
    }
    put("content", CanonicalJsonValue::Object(content));
    put("depth", integer(draft.depth));
    put("origin_server_ts", integer(draft.origin_server_ts.0));
    put("sender", CanonicalJsonValue::String(draft.sender.into()));
    put("type", CanonicalJsonValue::String(draft.kind.to_string()));
    if let Some(event_id) = draft.event_id {
        put("event_id", CanonicalJsonValue::String(event_id.into()));
    }
    if let Some(room_id) = draft.room_id {
        put("room_id", CanonicalJsonValue::String(room_id.into()));
    }
    if let Some(state_key) = draft.state_key {
        put("state_key", CanonicalJsonValue::String(state_key));
    }
    Ok(object)
}

/// A reference to an event, with its hash in room versions 1 and 2.
fn reference(
    event_id: OwnedEventId,
    hashes: &BTreeMap<OwnedEventId, String>,
    rules: &RoomVersionRules,
) -> Result<CanonicalJsonValue, BuildError> {
    if rules.events_reference_format != EventsReferenceFormatVersion::V1 {
        return Ok(CanonicalJsonValue::String(event_id.into()));
    }
    let Some(hash) = hashes.get(&event_id) else { return Err(BuildError::ReferenceHash(event_id)) };
    let hash = CanonicalJsonObject::from([("sha256".to_owned(), CanonicalJsonValue::String(hash.clone()))]);
    let pair = vec![CanonicalJsonValue::String(event_id.into()), CanonicalJsonValue::Object(hash)];
    Ok(CanonicalJsonValue::Array(pair))
}

fn integer(value: u64) -> CanonicalJsonValue {
    let value = i64::try_from(value.min(INTEGER_MAX)).unwrap_or_default();
    CanonicalJsonValue::Integer(Int::try_from(value).unwrap_or(Int::MAX))
}

/// Adds the hash of the content, and the signature over what a redaction would leave.
fn hash_and_sign(object: &mut Object, rules: &RoomVersionRules, key: &SigningKey) -> Result<(), BuildError> {
    let unreadable = || BuildError::BadJson("the event has no type".to_owned());
    let nested = |name: String, value| CanonicalJsonValue::Object(CanonicalJsonObject::from([(name, value)]));

    let hash = Base64::<Standard>::new(object.content_hash().ok_or_else(unreadable)?).encode();
    object.map.insert("hashes".to_owned(), nested("sha256".to_owned(), CanonicalJsonValue::String(hash)));
    let signed = object.signed_text(&rules.redaction).ok_or_else(unreadable)?;
    let signature = CanonicalJsonValue::String(key.sign(signed.as_bytes()).base64());
    let signatures = nested(key.server_name().to_string(), nested(key.key_id(), signature));
    object.map.insert("signatures".to_owned(), signatures);
    Ok(())
}

/// An event that another server has signed, with the signature of this key as well: an invitation, or a membership
/// that a user of this server allows (server-server API, "Inviting to a room", "Restricted rooms"). What is signed is
/// not judged. `None` if it can't be read as an event.
#[must_use]
pub fn countersign(json: &str, rules: &RoomVersionRules, key: &SigningKey) -> Option<String> {
    let mut object = Object::parse(json, Numbers::of(rules)).ok()?;
    let signed = object.signed_text(&rules.redaction)?;
    let signature = CanonicalJsonValue::String(key.sign(signed.as_bytes()).base64());
    let empty = || CanonicalJsonValue::Object(CanonicalJsonObject::new());
    let signatures = object.map.entry("signatures".to_owned()).or_insert_with(empty).as_object_mut()?;
    let own = signatures.entry(key.server_name().to_string()).or_insert_with(empty).as_object_mut()?;
    own.insert(key.key_id(), signature);
    object.text().ok()
}

/// The event id that follows from the event (room versions 3 and later).
fn event_id_of(object: &Object, rules: &RoomVersionRules) -> Result<OwnedEventId, BuildError> {
    let hash = object.reference_hash(rules).ok_or_else(|| BuildError::BadJson("the event has no type".to_owned()))?;
    OwnedEventId::try_from(format!("${hash}")).map_err(bad_json)
}

fn bad_json(error: impl fmt::Display) -> BuildError {
    BuildError::BadJson(error.to_string())
}

#[cfg(test)]
mod tests;
