//! Who may do what in a room: its power levels, read once (client-server API, `m.room.power_levels`).
//!
//! This is the view for endpoints, sync and redactions. Whether an event is allowed in the end is decided by
//! [`crate::auth`]. Values that cannot be read count as missing here.

use crate::auth::StateKey;
use crate::pdu::Pdu;
use ruma::events::room::power_levels::UserPowerLevel;
use ruma::events::{StateEventType, TimelineEventType};
use ruma::room_version_rules::{AuthorizationRules, RoomVersionRules};
use ruma::serde::deserialize_v1_powerlevel;
use ruma::state_res::events::RoomCreateEvent;
use ruma::{Int, OwnedUserId, UserId};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The level of a room's creator while the room has no power levels.
const CREATOR_LEVEL: i64 = 100;

/// What takes a level of its own, besides sending an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// Inviting a user.
    Invite,
    /// Removing a user, or taking back an invitation.
    Kick,
    /// Banning a user; with [`Action::Kick`], taking the ban back.
    Ban,
    /// Redacting an event that another server's user sent.
    Redact,
}

/// The power levels of a room.
#[derive(Clone, Debug)]
pub struct PowerLevels {
    /// Those above all levels: from room version 12 on the creators.
    infinite: BTreeSet<OwnedUserId>,
    users: BTreeMap<OwnedUserId, i64>,
    users_default: i64,
    events: BTreeMap<String, i64>,
    notifications: BTreeMap<String, i64>,
    events_default: i64,
    state_default: i64,
    invite: i64,
    kick: i64,
    ban: i64,
    redact: i64,
}

impl PowerLevels {
    /// The entries of the state that [`PowerLevels::of`] reads.
    #[must_use]
    pub fn state_needed() -> [StateKey; 2] {
        [(StateEventType::RoomCreate, String::new()), (StateEventType::RoomPowerLevels, String::new())]
    }

    /// The power levels of a room in the state that `state` looks up.
    #[must_use]
    pub fn of(rules: &RoomVersionRules, state: impl Fn(&StateEventType, &str) -> Option<Arc<Pdu>>) -> Self {
        let create = state(&StateEventType::RoomCreate, "");
        let power_levels = state(&StateEventType::RoomPowerLevels, "");
        Self::new(rules, create.as_deref(), power_levels.as_deref())
    }

    /// The power levels that the room's creation and its `m.room.power_levels` make.
    #[must_use]
    pub fn new(rules: &RoomVersionRules, create: Option<&Pdu>, power_levels: Option<&Pdu>) -> Self {
        let rules = &rules.authorization;
        let creators = create.and_then(|create| RoomCreateEvent::new(create).creators(rules).ok());
        let creators: BTreeSet<OwnedUserId> = creators.into_iter().flatten().collect();
        let mut levels = match power_levels.map(|event| serde_json::from_str(event.judged_content().get())) {
            Some(content) => Self::of_content(rules, &content.unwrap_or_default()),
            None => Self::without_event(rules, &creators),
        };
        if rules.explicitly_privilege_room_creators {
            levels.infinite = creators;
        }
        levels
    }

    fn without_event(rules: &AuthorizationRules, creators: &BTreeSet<OwnedUserId>) -> Self {
        let mut levels = Self::of_content(rules, &Map::new());
        levels.users = creators.iter().map(|creator| (creator.clone(), CREATOR_LEVEL)).collect();
        levels
    }

    fn of_content(rules: &AuthorizationRules, content: &Map<String, Value>) -> Self {
        let level =
            |field: &str, default: i64| content.get(field).and_then(|value| level_of(rules, value)).unwrap_or(default);
        let entries = |field: &str| {
            let entries = content.get(field).and_then(Value::as_object).into_iter().flatten();
            entries.filter_map(|(name, value)| Some((name.clone(), level_of(rules, value)?)))
        };
        Self {
            infinite: BTreeSet::new(),
            users: entries("users").filter_map(|(user, level)| Some((user.try_into().ok()?, level))).collect(),
            users_default: level("users_default", 0),
            events: entries("events").collect(),
            notifications: entries("notifications").collect(),
            events_default: level("events_default", 0),
            state_default: level("state_default", 50),
            invite: level("invite", 0),
            kick: level("kick", 50),
            ban: level("ban", 50),
            redact: level("redact", 50),
        }
    }

    /// The level of a user.
    #[must_use]
    pub fn user(&self, user: &UserId) -> UserPowerLevel {
        if self.infinite.contains(user) {
            return UserPowerLevel::Infinite;
        }
        let level = self.users.get(user).copied().unwrap_or(self.users_default);
        UserPowerLevel::Int(Int::new_saturating(level))
    }

    /// The users who have a level of their own, creators of infinite level first.
    pub fn users(&self) -> impl Iterator<Item = &UserId> {
        self.infinite.iter().chain(self.users.keys()).map(AsRef::as_ref)
    }

    /// The level that sending an event of `kind` takes.
    #[must_use]
    pub fn needed_for_message(&self, kind: &TimelineEventType) -> i64 {
        self.events.get(&kind.to_string()).copied().unwrap_or(self.events_default)
    }

    /// The level that setting an entry of the state of `kind` takes.
    #[must_use]
    pub fn needed_for_state(&self, kind: &StateEventType) -> i64 {
        self.events.get(&kind.to_string()).copied().unwrap_or(self.state_default)
    }

    /// The level that an action takes.
    #[must_use]
    pub fn needed_for(&self, action: Action) -> i64 {
        match action {
            Action::Invite => self.invite,
            Action::Kick => self.kick,
            Action::Ban => self.ban,
            Action::Redact => self.redact,
        }
    }

    /// The level that notifying the room under `name` takes, such as `room` (`@room`): 50 unless set.
    #[must_use]
    pub fn needed_to_notify(&self, name: &str) -> i64 {
        self.notifications.get(name).copied().unwrap_or(50)
    }

    /// Whether `user` has the level that sending an event of `kind` takes.
    #[must_use]
    pub fn can_send_message(&self, user: &UserId, kind: &TimelineEventType) -> bool {
        self.has(user, self.needed_for_message(kind))
    }

    /// Whether `user` has the level that setting an entry of the state of `kind` takes.
    #[must_use]
    pub fn can_send_state(&self, user: &UserId, kind: &StateEventType) -> bool {
        self.has(user, self.needed_for_state(kind))
    }

    /// Whether `user` has the level that inviting takes.
    #[must_use]
    pub fn can_invite(&self, user: &UserId) -> bool {
        self.has(user, self.invite)
    }

    /// Whether `user` has the level that notifying the room under `name` takes.
    #[must_use]
    pub fn can_notify(&self, user: &UserId, name: &str) -> bool {
        self.has(user, self.needed_to_notify(name))
    }

    /// Whether `user` has the level that redacting others' events takes.
    #[must_use]
    pub fn can_redact_others(&self, user: &UserId) -> bool {
        self.has(user, self.redact)
    }

    /// Whether `user` has the level that `action` on `target` takes. To kick and to ban, it must also be
    /// above the target's.
    #[must_use]
    pub fn can_act_on(&self, user: &UserId, action: Action, target: &UserId) -> bool {
        let above = || self.user(target) < self.user(user);
        self.has(user, self.needed_for(action)) && (!matches!(action, Action::Kick | Action::Ban) || above())
    }

    fn has(&self, user: &UserId, needed: i64) -> bool {
        self.user(user) >= UserPowerLevel::Int(Int::new_saturating(needed))
    }
}

/// A level as the room version writes it: before version 10 also as a string or a fraction.
fn level_of(rules: &AuthorizationRules, value: &Value) -> Option<i64> {
    if rules.integer_power_levels { value.as_i64() } else { deserialize_v1_powerlevel(value).ok().map(i64::from) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::room_rules;
    use ruma::{RoomVersionId, user_id};

    fn event(version: &RoomVersionId, kind: &str, content: &str) -> Pdu {
        let json = format!(
            "{{\"type\":\"{kind}\",\"state_key\":\"\",\"sender\":\"@creator:a.example\",\"room_id\":\"!r:a.example\",\
             \"content\":{content},\"depth\":1,\"origin_server_ts\":1}}"
        );
        Pdu::parse_stored(ruma::owned_event_id!("$e"), json, &room_rules(version).unwrap(), false).unwrap()
    }

    fn levels(version: &RoomVersionId, create: &str, power_levels: Option<&str>) -> PowerLevels {
        let create = event(version, "m.room.create", create);
        let power_levels = power_levels.map(|content| event(version, "m.room.power_levels", content));
        PowerLevels::new(&room_rules(version).unwrap(), Some(&create), power_levels.as_ref())
    }

    fn creator() -> &'static UserId {
        user_id!("@creator:a.example")
    }

    fn other() -> &'static UserId {
        user_id!("@other:a.example")
    }

    fn int(level: i64) -> UserPowerLevel {
        UserPowerLevel::Int(Int::new_saturating(level))
    }

    #[test]
    fn without_power_levels_the_creator_has_100_and_others_nothing() {
        let levels = levels(&RoomVersionId::V11, "{}", None);
        assert_eq!(levels.user(creator()), int(100));
        assert_eq!(levels.user(other()), int(0));
        assert_eq!(levels.needed_for_state(&StateEventType::RoomName), 50);
        assert_eq!(levels.needed_for_message(&TimelineEventType::RoomMessage), 0);
        assert!(levels.can_invite(other()));
    }

    #[test]
    fn creators_of_version_12_are_above_all_levels() {
        let create = r#"{"additional_creators":["@second:a.example"]}"#;
        let levels = levels(&RoomVersionId::V12, create, Some(r#"{"users":{"@other:a.example":100},"kick":50}"#));
        assert_eq!(levels.user(creator()), UserPowerLevel::Infinite);
        assert_eq!(levels.user(user_id!("@second:a.example")), UserPowerLevel::Infinite);
        assert!(levels.can_act_on(creator(), Action::Kick, other()));
        assert!(!levels.can_act_on(other(), Action::Kick, creator()));
    }

    #[test]
    fn the_creator_before_version_11_is_the_one_in_the_content() {
        let levels = levels(&RoomVersionId::V10, r#"{"creator":"@other:a.example"}"#, None);
        assert_eq!(levels.user(other()), int(100));
        assert_eq!(levels.user(creator()), int(0));
    }

    #[test]
    fn levels_before_version_10_may_be_strings_and_fractions() {
        let content = r#"{"users":{"@other:a.example":" +050 ","@creator:a.example":50.57},"ban":"7"}"#;
        let old = levels(&RoomVersionId::V1, "{}", Some(content));
        assert_eq!((old.user(other()), old.user(creator())), (int(50), int(50)));
        assert_eq!(old.needed_for(Action::Ban), 7);
        let new = levels(&RoomVersionId::V10, "{}", Some(content));
        assert_eq!((new.user(other()), new.needed_for(Action::Ban)), (int(0), 50));
    }

    #[test]
    fn a_level_of_a_type_counts_for_messages_and_state_alike() {
        let levels = levels(&RoomVersionId::V11, "{}", Some(r#"{"events":{"m.room.name":7},"events_default":3}"#));
        assert_eq!(levels.needed_for_state(&StateEventType::RoomName), 7);
        assert_eq!(levels.needed_for_message(&TimelineEventType::RoomName), 7);
        assert_eq!(levels.needed_for_message(&TimelineEventType::RoomMessage), 3);
        assert!(!levels.can_send_message(other(), &TimelineEventType::RoomMessage));
    }

    #[test]
    fn one_can_kick_only_those_below() {
        let content = r#"{"users":{"@creator:a.example":50,"@other:a.example":50}}"#;
        let levels = levels(&RoomVersionId::V11, "{}", Some(content));
        assert!(!levels.can_act_on(creator(), Action::Kick, other()));
        assert!(levels.can_act_on(creator(), Action::Kick, user_id!("@third:a.example")));
    }
}
