//! What another server sent, on its way to becoming an event: bounds, format, signatures, hash (server-server
//! API, "Checks performed on receipt of a PDU", steps 1 to 3).
//!
//! The work is in two steps, because the keys have to be fetched between them: [`Unverified::read`] says whose
//! signatures are needed, [`Unverified::verify`] checks them. Only these functions make a [`CheckedPdu`], so a
//! function that takes one need not ask whether it was checked. Whether the room allows the event comes
//! later: [`crate::auth`].

use crate::draft::{AUTH_EVENTS_MAX, BuildError, PREV_EVENTS_MAX, PduDraft, build};
use crate::json::{Numbers, Object};
use crate::key::SigningKey;
use crate::pdu::{Pdu, has_written_event_id};
use base::limits::{ID_BYTES_MAX, PDU_BYTES_MAX};
use ruma::canonical_json::CanonicalJsonValue;
use ruma::room_version_rules::{EventsReferenceFormatVersion, RoomVersionRules};
use ruma::serde::Base64;
use ruma::serde::base64::Standard;
use ruma::signatures::{PublicKeyMap, verify_canonical_json_bytes};
use ruma::{
    CanonicalJsonObject, EventId, OwnedEventId, OwnedRoomId, OwnedServerName, OwnedUserId, SigningKeyAlgorithm, UserId,
};
use std::collections::BTreeSet;
use std::ops::Deref;

/// The most bytes of JSON that are read as an event: one of [`PDU_BYTES_MAX`] with every character escaped
/// and some room for what is not kept.
pub const RAW_BYTES_MAX: usize = 8 * PDU_BYTES_MAX;
/// The most servers that one event needs signatures of: the sender's, the event id's, the authorising user's.
pub const SIGNERS_MAX: usize = 3;

/// Why something that another server sent is not an event: it is dropped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DropReason {
    /// Not JSON, or not canonical where the room version asks for it, or nested too deeply.
    #[error("bad JSON: {0}")]
    Json(String),
    /// More than [`PDU_BYTES_MAX`] bytes.
    #[error("larger than {PDU_BYTES_MAX} bytes")]
    TooLarge,
    /// A field is missing, of another type, too long or not in its format.
    #[error("bad `{0}`")]
    Format(&'static str),
    /// A server that must have signed it has not, or not with a key that was given.
    #[error("no signature of {0} with a known key")]
    NoSignature(OwnedServerName),
    /// A signature is wrong.
    #[error("wrong signature of {0}")]
    BadSignature(OwnedServerName),
}

/// The outcome of all checks.
#[derive(Debug)]
pub enum Checked {
    /// It is no event.
    Drop(DropReason),
    /// The signatures are right, but the content is not what was hashed: what remains when it is redacted.
    Redacted(CheckedPdu),
    /// Everything is as it was signed.
    Whole(CheckedPdu),
}

/// An event whose format, signatures and hash are right. [`Unverified::verify`] makes it of what others sent,
/// [`CheckedPdu::build`] of what this server sends.
#[derive(Debug)]
pub struct CheckedPdu(Pdu);

impl CheckedPdu {
    /// Builds an event of this server: its own hash and signature need no check.
    ///
    /// # Errors
    ///
    /// As [`build`].
    pub fn build(draft: PduDraft, rules: &RoomVersionRules, key: &SigningKey) -> Result<Self, BuildError> {
        build(draft, rules, key).map(Self)
    }

    /// The event.
    #[must_use]
    pub fn into_pdu(self) -> Pdu {
        self.0
    }
}

impl Deref for CheckedPdu {
    type Target = Pdu;

    fn deref(&self) -> &Pdu {
        &self.0
    }
}

/// Something in the format of an event whose signatures are not yet checked.
#[derive(Debug)]
pub struct Unverified {
    object: Object,
    event_id: OwnedEventId,
    room_id: Option<OwnedRoomId>,
    sender: OwnedUserId,
    signers: BTreeSet<OwnedServerName>,
}

/// Reads and verifies in one step, for when the keys are known beforehand.
#[must_use]
pub fn check(json: &str, rules: &RoomVersionRules, keys: &PublicKeyMap) -> Checked {
    match Unverified::read(json, rules) {
        Ok(unverified) => unverified.verify(rules, keys),
        Err(reason) => Checked::Drop(reason),
    }
}

impl Unverified {
    /// Checks bounds and format. What is in `unsigned` is forgotten: nobody signed it.
    ///
    /// # Errors
    ///
    /// [`DropReason`].
    pub fn read(json: &str, rules: &RoomVersionRules) -> Result<Self, DropReason> {
        if json.len() > RAW_BYTES_MAX {
            return Err(DropReason::TooLarge);
        }
        let mut object =
            Object::parse(json, Numbers::of(rules)).map_err(|error| DropReason::Json(error.to_string()))?;
        object.map.remove("unsigned");
        let text = object.text().map_err(|error| DropReason::Json(error.to_string()))?;
        if text.len() > PDU_BYTES_MAX {
            return Err(DropReason::TooLarge);
        }
        let (sender, room_id) = check_format(&object, rules)?;
        let event_id = event_id(&object, rules).ok_or(DropReason::Format("event_id"))?;
        let signers = required_signers(&object.map, &sender, &event_id, rules)?;
        // Everything else that is read of a stored event.
        Pdu::parse_stored(event_id.clone(), text, rules, false).map_err(|error| DropReason::Json(error.to_string()))?;
        Ok(Self { object, event_id, room_id, sender, signers })
    }

    /// The id that the event has, or would have if it were one.
    #[must_use]
    pub fn event_id(&self) -> &OwnedEventId {
        &self.event_id
    }

    /// The room it names. Nothing for the creation of a room of version 12.
    #[must_use]
    pub fn room_id(&self) -> Option<&OwnedRoomId> {
        self.room_id.as_ref()
    }

    /// Who it says sent it.
    #[must_use]
    pub fn sender(&self) -> &UserId {
        &self.sender
    }

    /// The servers whose signatures it needs, at most [`SIGNERS_MAX`] (server-server API, "Validating hashes
    /// and signatures on received events").
    #[must_use]
    pub fn required_signers(&self) -> &BTreeSet<OwnedServerName> {
        &self.signers
    }

    /// The ids of the keys with which `server` says it signed, to fetch those and no others.
    pub fn key_ids<'a>(&'a self, server: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        signatures_of(&self.object.map, server).into_iter().flat_map(|keys| keys.keys().map(String::as_str))
    }

    /// When it says it was sent. From room version 5 on the caller gives only keys that were valid then.
    #[must_use]
    pub fn origin_server_ts(&self) -> base::UnixMillis {
        let time = self.object.map.get("origin_server_ts").and_then(CanonicalJsonValue::as_integer);
        base::UnixMillis(time.and_then(|time| u64::try_from(i64::from(time)).ok()).unwrap_or_default())
    }

    /// Checks the signatures, then the hash.
    #[must_use]
    pub fn verify(mut self, rules: &RoomVersionRules, keys: &PublicKeyMap) -> Checked {
        if let Err(reason) = self.check_signatures(rules, keys) {
            return Checked::Drop(reason);
        }
        let whole = self.hash_is_right();
        if !whole && self.object.redact(&rules.redaction).is_none() {
            return Checked::Drop(DropReason::Format("type"));
        }
        let pdu = match self.object.text() {
            Ok(text) => Pdu::parse_stored(self.event_id, text, rules, false),
            Err(error) => return Checked::Drop(DropReason::Json(error.to_string())),
        };
        match pdu {
            Ok(pdu) if whole => Checked::Whole(CheckedPdu(pdu)),
            Ok(pdu) => Checked::Redacted(CheckedPdu(pdu)),
            Err(error) => Checked::Drop(DropReason::Json(error.to_string())),
        }
    }

    fn check_signatures(&self, rules: &RoomVersionRules, keys: &PublicKeyMap) -> Result<(), DropReason> {
        let signed = self.object.signed_text(&rules.redaction).ok_or(DropReason::Format("content"))?;
        for server in &self.signers {
            let known = keys.get(server.as_str());
            let mut verified = false;
            for (key_id, signature) in signatures_of(&self.object.map, server.as_str()).into_iter().flatten() {
                let Some(key) = known.and_then(|keys| keys.get(key_id)) else { continue };
                if !key_id.starts_with("ed25519:") {
                    continue;
                }
                let signature = signature.as_str().and_then(|text| Base64::<Standard>::parse(text).ok());
                let right = signature.is_some_and(|signature| {
                    let algorithm = SigningKeyAlgorithm::Ed25519;
                    let (key, signature) = (key.as_bytes(), signature.as_bytes());
                    verify_canonical_json_bytes(&algorithm, key, signature, signed.as_bytes()).is_ok()
                });
                if !right {
                    return Err(DropReason::BadSignature(server.clone()));
                }
                verified = true;
            }
            if !verified {
                return Err(DropReason::NoSignature(server.clone()));
            }
        }
        Ok(())
    }

    fn hash_is_right(&self) -> bool {
        let Some(actual) = self.object.content_hash() else { return false };
        let hashes = self.object.map.get("hashes").and_then(CanonicalJsonValue::as_object);
        let claimed = hashes.and_then(|hashes| hashes.get("sha256")).and_then(CanonicalJsonValue::as_str);
        let claimed = claimed.and_then(|text| Base64::<Standard>::parse(text).ok());
        claimed.is_some_and(|claimed| claimed.as_bytes() == actual)
    }
}

/// The id of an event: written in it in room versions 1 and 2, its reference hash from there on.
fn event_id(object: &Object, rules: &RoomVersionRules) -> Option<OwnedEventId> {
    if has_written_event_id(rules) {
        let event_id = object.str("event_id").filter(|id| id.len() <= ID_BYTES_MAX)?;
        return OwnedEventId::try_from(event_id).ok();
    }
    OwnedEventId::try_from(format!("${}", object.reference_hash(rules)?)).ok()
}

/// The signatures of a server, by the id of the key.
fn signatures_of<'a>(object: &'a CanonicalJsonObject, server: &str) -> Option<&'a CanonicalJsonObject> {
    object.get("signatures")?.as_object()?.get(server)?.as_object()
}

/// The servers that must have signed an event: the sender's, unless it is an invitation that a third party
/// passed on; the event id's in room versions 1 and 2; and for a membership that another server authorised,
/// that one (from room version 8 on).
fn required_signers(
    object: &CanonicalJsonObject,
    sender: &UserId,
    event_id: &EventId,
    rules: &RoomVersionRules,
) -> Result<BTreeSet<OwnedServerName>, DropReason> {
    let mut signers = BTreeSet::new();
    let field = |field| object.get(field).and_then(CanonicalJsonValue::as_str);
    let content = object.get("content").and_then(CanonicalJsonValue::as_object);
    let content = content.filter(|_| field("type") == Some("m.room.member"));
    let member = |field| content.and_then(|content| content.get(field));

    let is_invite = member("membership").and_then(CanonicalJsonValue::as_str) == Some("invite");
    if !(is_invite && member("third_party_invite").is_some_and(CanonicalJsonValue::is_object)) {
        signers.insert(sender.server_name().to_owned());
    }
    if rules.signatures.check_event_id_server {
        let server = event_id.server_name().ok_or(DropReason::Format("event_id"))?;
        signers.insert(server.to_owned());
    }
    if rules.signatures.check_join_authorised_via_users_server
        && let Some(user) = member("join_authorised_via_users_server")
    {
        let user = user.as_str().and_then(|user| <&UserId>::try_from(user).ok());
        let user = user.ok_or(DropReason::Format("content.join_authorised_via_users_server"))?;
        signers.insert(user.server_name().to_owned());
    }
    Ok(signers)
}

/// Checks what every event of the room version must have (room version specifications, "Event format";
/// client-server API, "Size limits").
fn check_format(object: &Object, rules: &RoomVersionRules) -> Result<(OwnedUserId, Option<OwnedRoomId>), DropReason> {
    let string = |field: &'static str| match object.map.get(field) {
        None => Ok(None),
        Some(_) => {
            object.str(field).filter(|text| text.len() <= ID_BYTES_MAX).map(Some).ok_or(DropReason::Format(field))
        }
    };
    let required = |field: &'static str| string(field)?.ok_or(DropReason::Format(field));

    let kind = required("type")?;
    let sender = OwnedUserId::try_from(required("sender")?).map_err(|_| DropReason::Format("sender"))?;
    string("state_key")?;
    let room_id = string("room_id")?.map(OwnedRoomId::try_from).transpose();
    let room_id = room_id.map_err(|_| DropReason::Format("room_id"))?;
    let room_id_follows = kind == "m.room.create" && !rules.event_format.require_room_create_room_id;
    if room_id.is_none() && !room_id_follows {
        return Err(DropReason::Format("room_id"));
    }
    if rules.event_format.require_event_id {
        required("event_id")?;
    }
    check_references(object, "prev_events", PREV_EVENTS_MAX, rules)?;
    check_references(object, "auth_events", AUTH_EVENTS_MAX, rules)?;
    for field in ["content", "hashes", "signatures"] {
        if !object.map.get(field).is_some_and(CanonicalJsonValue::is_object) {
            return Err(DropReason::Format(field));
        }
    }
    Ok((sender, room_id))
}

/// Checks a list of references to other events.
fn check_references(
    object: &Object,
    field: &'static str,
    max: usize,
    rules: &RoomVersionRules,
) -> Result<(), DropReason> {
    let references = object.map.get(field).and_then(CanonicalJsonValue::as_array);
    let references = references.filter(|list| list.len() <= max).ok_or(DropReason::Format(field))?;
    let well_formed = |reference: &CanonicalJsonValue| match rules.events_reference_format {
        EventsReferenceFormatVersion::V1 => reference
            .as_array()
            .is_some_and(|pair| matches!(pair, [CanonicalJsonValue::String(_), CanonicalJsonValue::Object(_)])),
        _ => reference.is_string(),
    };
    if references.iter().all(well_formed) { Ok(()) } else { Err(DropReason::Format(field)) }
}

#[cfg(test)]
mod tests;
