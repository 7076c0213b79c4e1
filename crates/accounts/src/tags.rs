//! Tags of rooms, and what else of a user's settings follows them into a room that replaces another.
//!
//! All of it is account data: tags are the room's `m.tag`, direct chats and push rules the account's `m.direct` and
//! `m.push_rules`.

use crate::stored::{PUSH_RULES, put_account_data};
use crate::{Accounts, Error};
use ruma::serde::JsonObject;
use ruma::{RoomId, UserId};
use serde_json::{Map, Value, json};

const TAG: &str = "m.tag";
const DIRECT: &str = "m.direct";
/// Copies what is said of one room to another, and answers whether there was anything.
type Copy = fn(&mut JsonObject, &str, &str) -> bool;

/// The kinds of push rules that may be about a room.
const RULE_KINDS: [&str; 5] = ["override", "content", "room", "sender", "underride"];

impl Accounts {
    /// The tags that a user has given a room.
    pub fn tags(&self, user: &UserId, room: &RoomId) -> Result<JsonObject, Error> {
        Ok(tags_of(self.view().account_data(user, Some(room), TAG)?.as_deref()).1)
    }

    /// Gives a room a tag with this content, in place of one of the same name; or takes it off.
    pub async fn set_tag(
        &self,
        user: &UserId,
        room: &RoomId,
        tag: &str,
        content: Option<JsonObject>,
    ) -> Result<(), Error> {
        self.change(|changes| {
            let before = changes.view().account_data(user, Some(room), TAG)?;
            let (mut data, mut tags) = tags_of(before.as_deref());
            match &content {
                Some(content) => tags.insert(tag.to_owned(), Value::Object(content.clone())),
                None => match tags.remove(tag) {
                    Some(removed) => Some(removed),
                    None => return Ok(()),
                },
            };
            data.insert("tags".to_owned(), Value::Object(tags));
            put_account_data(changes, user, Some(room), TAG, &Value::Object(data).to_string())
        })
        .await
    }

    /// Copies what a user has set for a room to another: tags, whether it is a direct chat, push rules. What the
    /// other has already stays.
    pub async fn copy_room_settings(&self, user: &UserId, from: &RoomId, to: &RoomId) -> Result<(), Error> {
        self.change(|changes| {
            let view = changes.view().clone();
            if let Some(tags) = view.account_data(user, Some(from), TAG)?
                && view.account_data(user, Some(to), TAG)?.is_none()
            {
                put_account_data(changes, user, Some(to), TAG, &tags)?;
            }
            for (kind, copy) in [(DIRECT, copy_direct as Copy), (PUSH_RULES, copy_rules as Copy)] {
                let Some(content) = view.account_data(user, None, kind)? else { continue };
                let Ok(mut content) = serde_json::from_str::<JsonObject>(&content) else { continue };
                if copy(&mut content, from.as_str(), to.as_str()) {
                    put_account_data(changes, user, None, kind, &Value::Object(content).to_string())?;
                }
            }
            Ok(())
        })
        .await
    }
}

/// The content of an `m.tag`, and the tags in it.
fn tags_of(content: Option<&str>) -> (JsonObject, JsonObject) {
    let data: JsonObject = content.and_then(|content| serde_json::from_str(content).ok()).unwrap_or_default();
    let tags = data.get("tags").and_then(Value::as_object).cloned().unwrap_or_default();
    (data, tags)
}

/// Adds a room to the direct chats with those with whom another is one. Answers whether that changed anything.
fn copy_direct(direct: &mut JsonObject, from: &str, to: &str) -> bool {
    let mut changed = false;
    for rooms in direct.values_mut().filter_map(Value::as_array_mut) {
        let has = |room: &str| rooms.iter().any(|other| other.as_str() == Some(room));
        if has(from) && !has(to) {
            rooms.push(json!(to));
            changed = true;
        }
    }
    changed
}

/// Adds the rules for a room that there are for another, each right behind it. Answers whether there were any.
fn copy_rules(rules: &mut JsonObject, from: &str, to: &str) -> bool {
    let Some(Value::Object(kinds)) = rules.get_mut("global") else { return false };
    let mut changed = false;
    for kind in RULE_KINDS {
        let Some(Value::Array(rules)) = kinds.get_mut(kind) else { continue };
        let place = |id: &str| rules.iter().position(|rule| rule.get("rule_id").and_then(Value::as_str) == Some(id));
        let (Some(at), None) = (place(from), place(to)) else { continue };
        let Some(mut rule) = rules.get(at).and_then(Value::as_object).cloned() else { continue };
        rule.insert("rule_id".to_owned(), json!(to));
        if let Some(Value::Array(conditions)) = rule.get_mut("conditions") {
            conditions.iter_mut().filter_map(Value::as_object_mut).for_each(|condition| name(condition, from, to));
        }
        rules.insert(at + 1, Value::Object(rule));
        changed = true;
    }
    changed
}

/// Lets a condition that names a room name another.
fn name(condition: &mut Map<String, Value>, from: &str, to: &str) {
    for field in ["pattern", "value"] {
        if condition.get(field).and_then(Value::as_str) == Some(from) {
            condition.insert(field.to_owned(), json!(to));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(value: Value) -> JsonObject {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_direct_chat_stays_one_with_the_same_people() {
        let mut direct = object(json!({"@b:x": ["!a", "!c"], "@d:x": ["!c"], "@e:x": 1}));
        assert!(copy_direct(&mut direct, "!a", "!n"));
        assert_eq!(Value::Object(direct.clone()), json!({"@b:x": ["!a", "!c", "!n"], "@d:x": ["!c"], "@e:x": 1}));
        assert!(!copy_direct(&mut direct, "!a", "!n"));
        assert!(!copy_direct(&mut direct, "!z", "!n"));
    }

    #[test]
    fn rules_of_a_room_are_copied_with_what_names_it() {
        let mute = |room: &str| {
            json!({"rule_id": room, "enabled": true, "actions": [], "conditions": [
                {"kind": "event_match", "key": "room_id", "pattern": room}, {"kind": "x", "value": 1},
            ]})
        };
        let mut rules = object(json!({"global": {
            "override": [{"rule_id": ".m.rule.master"}, mute("!a"), {"rule_id": "x"}],
            "room": [{"rule_id": "!a", "actions": ["notify"]}],
            "sender": [{"rule_id": "@a:x"}],
        }}));
        assert!(copy_rules(&mut rules, "!a", "!n"));
        let expected = json!({"global": {
            "override": [{"rule_id": ".m.rule.master"}, mute("!a"), mute("!n"), {"rule_id": "x"}],
            "room": [{"rule_id": "!a", "actions": ["notify"]}, {"rule_id": "!n", "actions": ["notify"]}],
            "sender": [{"rule_id": "@a:x"}],
        }});
        assert_eq!(Value::Object(rules.clone()), expected);
        assert!(!copy_rules(&mut rules, "!a", "!n"));
        assert!(!copy_rules(&mut object(json!({})), "!a", "!n"));
    }
}
