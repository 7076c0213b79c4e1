//! What remains of an event when it is redacted, and who may do that.

use crate::json::{Numbers, Object};
use crate::pdu::{Pdu, PduError};
use crate::power::PowerLevels;
use ruma::events::TimelineEventType;
use ruma::room_version_rules::RoomVersionRules;
use serde::de::Error as _;

/// What remains of an event (room version specifications, "Redactions"). It keeps its id.
///
/// # Errors
///
/// [`PduError`] if the stored event cannot be read: the store is damaged.
pub fn redact(pdu: &Pdu, rules: &RoomVersionRules) -> Result<Pdu, PduError> {
    let mut object = Object::parse(pdu.json(), Numbers::of(rules))?;
    object.redact(&rules.redaction).ok_or_else(|| serde_json::Error::custom("nothing to redact"))?;
    Pdu::parse_stored(pdu.event_id().clone(), object.text()?, rules, pdu.rejected())
}

/// Whether a redaction takes effect on `target`, the event that it names, in a room with these power levels at
/// the redaction.
///
/// From room version 3 on, its sender must have the level to redact, or be of the server of the target's
/// sender ("Handling redactions"). Before, the authorization rules decided: every redaction that they allowed
/// takes effect. In no version does it cross rooms, or does a rejected one take effect, or one of the room's
/// creation.
#[must_use]
pub fn takes_effect(redaction: &Pdu, target: &Pdu, power: &PowerLevels, rules: &RoomVersionRules) -> bool {
    let names_target = *redaction.kind() == TimelineEventType::RoomRedaction
        && redaction.redacts() == Some(target.event_id())
        && redaction.room_id() == target.room_id();
    let may_be_redacted = *target.kind() != TimelineEventType::RoomCreate && !redaction.rejected();
    names_target
        && may_be_redacted
        && (rules.authorization.special_case_room_redaction
            || power.can_redact_others(redaction.sender())
            || redaction.sender().server_name() == target.sender().server_name())
}

#[cfg(test)]
mod tests;
