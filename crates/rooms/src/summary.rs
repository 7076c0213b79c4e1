//! What those outside of a room get to know of it, and who does (client-server API, `GET /room_summary`,
//! `GET /hierarchy` and `/publicRooms`).

use crate::{RoomError, RoomReader};
use records::{Membership, RoomHead, RoomSummary};
use rules::Pdu;
use rules::visibility::HistoryVisibility;
use ruma::room_version_rules::RoomVersionRules;
use ruma::serde::JsonObject;
use ruma::{RoomAliasId, UserId};
use serde_json::Value;
use std::sync::Arc;

/// The types of the state events, with empty state keys, that a summary is made of.
pub(crate) const SUMMARY_TYPES: [&str; 9] = [
    "m.room.create",
    "m.room.name",
    "m.room.topic",
    "m.room.canonical_alias",
    "m.room.avatar",
    "m.room.join_rules",
    "m.room.history_visibility",
    "m.room.guest_access",
    "m.room.encryption",
];

/// Puts a summary together from the events of [`SUMMARY_TYPES`], in their order. What cannot be read is left out.
pub(crate) fn summary(head: &RoomHead, rules: &RoomVersionRules, events: &[Option<Arc<Pdu>>; 9]) -> RoomSummary {
    let [create, name, topic, canonical_alias, avatar, join_rules, visibility, guest_access, encryption] = events;
    let text = |event: &Option<Arc<Pdu>>, field: &str| match content(event.as_ref()).remove(field) {
        Some(Value::String(text)) if !text.is_empty() => Some(text),
        _ => None,
    };
    let allowed = join_rules.as_deref().and_then(|event| rules::auth::rooms_that_admit(rules, event));
    let visibility = HistoryVisibility::of_content(visibility.as_ref().map(|event| event.content()));
    RoomSummary {
        room_id: head.room_id.clone(),
        version: head.version.clone(),
        joined: head.joined,
        name: text(name, "name"),
        topic: plain_topic(&content(topic.as_ref())),
        canonical_alias: text(canonical_alias, "alias").filter(|alias| <&RoomAliasId>::try_from(&**alias).is_ok()),
        avatar_url: text(avatar, "url"),
        join_rule: text(join_rules, "join_rule"),
        allowed_room_ids: allowed.unwrap_or_default(),
        world_readable: visibility == HistoryVisibility::WorldReadable,
        guest_can_join: text(guest_access, "guest_access").as_deref() == Some("can_join"),
        room_type: text(create, "type"),
        encryption: text(encryption, "algorithm"),
    }
}

fn content(event: Option<&Arc<Pdu>>) -> JsonObject {
    event.and_then(|event| serde_json::from_str(event.content().get()).ok()).unwrap_or_default()
}

/// The plain text of an `m.room.topic`: the first `text/plain` of its representations, or else its `topic`.
fn plain_topic(content: &JsonObject) -> Option<String> {
    let representations = content.get("m.topic").and_then(|topic| topic.get("m.text")).and_then(Value::as_array);
    let plain = representations.into_iter().flatten().find(|text| {
        let mimetype = text.get("mimetype").and_then(Value::as_str);
        text.get("body").is_some_and(Value::is_string) && mimetype.is_none_or(|mimetype| mimetype == "text/plain")
    });
    let topic = plain.and_then(|text| text.get("body")).or_else(|| content.get("topic"));
    topic.and_then(Value::as_str).filter(|topic| !topic.is_empty()).map(ToOwned::to_owned)
}

impl RoomReader {
    /// What those outside of the room get to know of it, if they may know of it.
    pub fn summary(&self) -> Result<RoomSummary, RoomError> {
        let keys = SUMMARY_TYPES.map(|kind| (kind, ""));
        let nums = self.head.state.get_many(&self.view, &keys)?;
        let mut events: [Option<Arc<Pdu>>; 9] = Default::default();
        for (event, num) in events.iter_mut().zip(nums) {
            *event = num.map(|num| self.event(num)).transpose()?.flatten().map(|event| event.pdu.clone());
        }
        Ok(summary(&self.head, &self.rules, &events))
    }

    /// Whether a user, or somebody who is not logged in, may know what [`RoomReader::summary`] tells: those who
    /// are in the room, invited, or could join or knock, and everybody if the world may read the room.
    pub fn may_preview(&self, user: Option<&UserId>) -> Result<bool, RoomError> {
        let record = user.map(|user| self.membership(user)).transpose()?.flatten();
        match record.map(|(_, record)| record.membership) {
            Some(Membership::Join | Membership::Invite) => return Ok(true),
            // Those who are banned can neither join nor knock.
            Some(Membership::Ban) => return self.is_world_readable(),
            Some(Membership::Knock | Membership::Leave) | None => {}
        }
        Ok(self.opens_to(user)? || self.is_world_readable()?)
    }

    /// Whether everybody can join the room.
    pub(crate) fn is_public(&self) -> Result<bool, RoomError> {
        let Some(event) = self.state_event(self.head.state, "m.room.join_rules", "")? else { return Ok(false) };
        let content: JsonObject = serde_json::from_str(event.pdu.content().get()).unwrap_or_default();
        Ok(content.get("join_rule").and_then(Value::as_str) == Some("public"))
    }

    /// Whether the join rules let a user join or knock who is not invited.
    fn opens_to(&self, user: Option<&UserId>) -> Result<bool, RoomError> {
        let Some(event) = self.state_event(self.head.state, "m.room.join_rules", "")? else { return Ok(false) };
        let content: JsonObject = serde_json::from_str(event.pdu.content().get()).unwrap_or_default();
        let rules = &self.rules.authorization;
        match content.get("join_rule").and_then(Value::as_str) {
            Some("public") => Ok(true),
            Some("knock") => Ok(rules.knocking),
            Some("knock_restricted") => Ok(rules.knock_restricted_join_rule),
            Some("restricted") => {
                let Some(user) = user else { return Ok(false) };
                for room_id in rules::auth::rooms_that_admit(&self.rules, &event.pdu).into_iter().flatten() {
                    let Some(num) = self.view.room_num(&room_id)? else { continue };
                    let record = self.view.membership(user, num)?;
                    if record.is_some_and(|(_, record)| record.membership == Membership::Join) {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            _ => Ok(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(content: &Value) -> Option<String> {
        plain_topic(content.as_object().unwrap())
    }

    #[test]
    fn a_topic_is_its_plain_text() {
        let text = |topic: &str| Some(topic.to_owned());
        assert_eq!(check(&json!({"topic": "a"})), text("a"));
        let rich = json!({"topic": "a", "m.topic": {"m.text": [
            {"body": "<b>b</b>", "mimetype": "text/html"}, {"body": "b"}, {"body": "c", "mimetype": "text/plain"},
        ]}});
        assert_eq!(check(&rich), text("b"));
        assert_eq!(check(&json!({"topic": "a", "m.topic": {"m.text": "x"}})), text("a"));
        assert_eq!(check(&json!({"topic": ""})), None);
        assert_eq!(check(&json!({"topic": 1})), None);
    }
}
