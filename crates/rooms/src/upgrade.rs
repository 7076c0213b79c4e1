//! Room upgrades: a new room of another version takes the place of an old one (client-server API, "Room
//! Upgrades").
//!
//! The old room's writer decides it, and all of it is one batch: the new room, the tombstone of the old one,
//! whose power levels then keep people from going on there, the aliases and the entry in the directory. Either
//! everybody finds the new room, or nothing has happened.

use crate::found::lay;
use crate::work::Work;
use crate::{Draft, MembershipChange, RoomError, Rooms, create, membership, num_of, profile};
use base::{RoomNum, UnixMillis};
use records::{AliasRecord, Membership};
use room_core::Change;
use rules::PowerLevels;
use ruma::events::StateEventType;
use ruma::events::room::power_levels::UserPowerLevel;
use ruma::room_version_rules::{AuthorizationRules, RoomVersionRules};
use ruma::serde::JsonObject;
use ruma::{EventId, OwnedRoomAliasId, OwnedRoomId, OwnedUserId, RoomId, RoomVersionId, UserId};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value, json};

/// How many bans the new room starts with, and how many children a new space. Those beyond are added when it is
/// there: one batch must hold all that it starts with.
const BANS_AT_ONCE: usize = 300;
const CHILDREN_AT_ONCE: usize = 500;
/// How many bytes of reasons and of links those have together.
const BYTES_AT_ONCE: usize = 1 << 20;
/// How many bans, and how many children, are taken along altogether.
const BANS_MAX: usize = 10_000;
const CHILDREN_MAX: usize = 10_000;
/// How many aliases move.
const ALIASES_MAX: usize = 1_000;
/// For how long an upgrade that is asked for again, by the same user and to the same version, is the same one.
const REPEATED_WITHIN_MILLIS: u64 = 60_000;
/// How often the new room is dated a little later because there is one with its id.
const ATTEMPTS_MAX: u64 = 32;
/// The level of those who had power without limit, in versions that have no such power.
const CREATOR_LEVEL: i64 = 100;
/// What talking and inviting takes in a room that was replaced, at least.
const CLOSED_LEVEL: i64 = 50;

/// The type of what links a space to a room in it.
const CHILD: &str = "m.space.child";

/// The state that the new room takes over as it is, with empty state keys: what the specification recommends, but
/// for power levels, which are fitted to the new version.
const TRANSFERRED: [&str; 8] = [
    "m.room.server_acl",
    "m.room.encryption",
    "m.room.join_rules",
    "m.room.history_visibility",
    "m.room.guest_access",
    "m.room.name",
    "m.room.avatar",
    "m.room.topic",
];

/// What a user wants a room to be replaced by.
#[derive(Clone, Debug)]
pub struct Upgrade {
    /// Who replaces it.
    pub sender: OwnedUserId,
    /// The new version.
    pub version: RoomVersionId,
    /// Who has the sender's powers in the new room, if its version knows additional creators.
    pub additional_creators: Vec<OwnedUserId>,
}

impl Rooms {
    /// Replaces a room by a new one. Answers the new one's id.
    ///
    /// # Errors
    ///
    /// - [`RoomError::UnsupportedVersion`];
    /// - [`RoomError::Forbidden`]: the sender may not send an `m.room.tombstone`;
    /// - [`RoomError::InvalidRoomState`]: the new room's own rules don't allow what it should start with.
    pub async fn upgrade(&self, room_id: &RoomId, upgrade: Upgrade) -> Result<OwnedRoomId, RoomError> {
        let num = num_of(&self.records().view(), room_id)?;
        let sender = upgrade.sender.clone();
        let new = self.tell(num, |reply| crate::actor::Command::Upgrade { upgrade: Box::new(upgrade), reply }).await?;
        let (rooms, room_id) = (self.clone(), new.clone());
        tokio::spawn(async move {
            if let Err(error) = rooms.bring_the_rest(num, &room_id, &sender).await {
                tracing::warn!(%room_id, %error, "not all bans and children of the old room were taken along");
            }
        });
        Ok(new)
    }

    /// Adds the bans and children that the new room did not start with.
    async fn bring_the_rest(&self, old: RoomNum, new: &RoomId, sender: &UserId) -> Result<(), RoomError> {
        let (mut bans, mut children) = (Vec::new(), Vec::new());
        {
            let view = self.records().view();
            let (Some(old), Some(new)) = (self.reader(&view, old)?, self.reader_by_id(&view, new)?) else {
                return Ok(());
            };
            for (user, event) in view.room_members(old.num(), Membership::Ban, None, BANS_MAX)? {
                if user != *sender && new.membership(&user)?.is_none() {
                    bans.push((user, old.event(event)?.and_then(|event| reason(event.pdu.content()))));
                }
            }
            // What is no space has not begun to take any along.
            if !new.state().page_of(&view, CHILD, None, 1)?.entries.is_empty() {
                for entry in old.state().page_of(&view, CHILD, None, CHILDREN_MAX)?.entries {
                    let content = old.event(entry.event)?.map(|event| event.pdu.content().to_owned());
                    let content = content.filter(|content| is_link(content));
                    if let Some(content) = content
                        && new.state().get(&view, CHILD, &entry.state_key)?.is_none()
                    {
                        children.push((entry.state_key, content));
                    }
                }
            }
        }
        for (user, reason) in bans {
            self.change_membership(new, sender, MembershipChange::Ban { user }, reason, None).await?;
        }
        for (key, content) in children {
            self.send(new, Draft::state(sender.to_owned(), CHILD, key, content), None).await?;
        }
        Ok(())
    }
}

/// The old room as the new one needs it.
struct Old {
    room_id: OwnedRoomId,
    rules: RoomVersionRules,
    create: JsonObject,
    levels_content: Option<JsonObject>,
    levels: PowerLevels,
    transferred: Vec<(&'static str, Box<RawValue>)>,
    children: Vec<(String, Box<RawValue>)>,
    bans: Vec<(OwnedUserId, Option<String>)>,
    aliases: Vec<(OwnedRoomAliasId, AliasRecord)>,
    /// Its `m.room.canonical_alias`.
    main: Option<JsonObject>,
    published: bool,
}

impl Work {
    /// Replaces the room by a new one.
    pub fn upgrade(&mut self, upgrade: &Upgrade) -> Result<OwnedRoomId, RoomError> {
        let rules = rules::room_rules(&upgrade.version)
            .ok_or_else(|| RoomError::UnsupportedVersion(upgrade.version.to_string()))?;
        if let Some(done) = self.upgraded_just_now(upgrade)? {
            return Ok(done);
        }
        // Whoever may not do it shall not make us look at all of the room.
        self.tombstone(&upgrade.sender, &self.loaded.head.room_id.clone())?;
        let old = self.old(&upgrade.sender)?;
        let random_id = self.random_room_id()?;
        // An id that follows from the creation cannot be in the tombstone that the creation names.
        let mut tombstone = None;
        if !rules.authorization.room_create_event_id_as_room_id {
            tombstone = Some(self.tombstone(&upgrade.sender, &random_id)?);
        }
        let predecessor = tombstone.as_ref().map(|change| change.pdu.event_id().clone());
        let profile = self.shown_as(&upgrade.sender)?;
        let drafts = old.drafts(upgrade, &rules.authorization, &profile, predecessor.as_deref())?;
        let new = self.lay_new(upgrade, &rules, &random_id, &drafts, old.published)?;
        let new_id = new.loaded.head.room_id.clone();
        let tombstone = match tombstone {
            Some(tombstone) => tombstone,
            None => self.tombstone(&upgrade.sender, &new_id)?,
        };
        // From here on nothing is refused: all of it is written, or nothing of the run.
        let moved = self.move_over(upgrade, old, new, &tombstone);
        self.is_broken |= moved.is_err();
        self.replaced_by = Some((upgrade.version.clone(), new_id.clone()));
        moved.map(|()| new_id)
    }

    /// What the same user has just replaced the room by, with a room of the same version: a request that comes twice is
    /// meant once.
    fn upgraded_just_now(&mut self, upgrade: &Upgrade) -> Result<Option<OwnedRoomId>, RoomError> {
        let Some((_, tombstone)) = self.current(&(StateEventType::RoomTombstone, String::new()))? else {
            return Ok(None);
        };
        let age = self.now.0.saturating_sub(u64::from(tombstone.origin_server_ts().0));
        if *tombstone.sender() != upgrade.sender || age > REPEATED_WITHIN_MILLIS {
            return Ok(None);
        }
        let replacement = object(tombstone.content()).and_then(|mut content| content.remove("replacement_room"));
        let replacement = replacement.and_then(|id| OwnedRoomId::try_from(id.as_str()?).ok());
        let Some(replacement) = replacement else { return Ok(None) };
        if let Some((version, id)) = &self.replaced_by
            && *id == replacement
        {
            return Ok((*version == upgrade.version).then_some(replacement));
        }
        let view = self.changes.view();
        let head = view.room_num(&replacement)?.map(|num| view.room_head(num)).transpose()?.flatten();
        Ok(head.filter(|head| head.version == upgrade.version).map(|head| head.room_id))
    }

    fn move_over(&mut self, upgrade: &Upgrade, old: Old, new: Work, tombstone: &Change) -> Result<(), RoomError> {
        let (new_num, new_id) = (new.num, new.loaded.head.room_id.clone());
        self.absorb(new);
        self.record(tombstone, self.loaded.head.state, None)?;
        self.close(&upgrade.sender, &old)?;
        for (alias, record) in old.aliases {
            self.changes.clear_alias(&alias, self.num)?;
            self.changes.put_alias(&alias, new_num, &AliasRecord { room_id: new_id.clone(), ..record })?;
        }
        if old.published {
            self.publish(false);
        }
        Ok(())
    }

    fn tombstone(&mut self, sender: &UserId, replacement: &RoomId) -> Result<Box<Change>, RoomError> {
        let content = json!({"body": "This room has been replaced", "replacement_room": replacement});
        self.decided(Draft::state(sender.to_owned(), "m.room.tombstone", "", raw(&content)?))
    }

    /// The new room, from version 12 on with the id that follows from its creation.
    fn lay_new(
        &self,
        upgrade: &Upgrade,
        rules: &RoomVersionRules,
        random_id: &RoomId,
        drafts: &[Draft],
        published: bool,
    ) -> Result<Work, RoomError> {
        for attempt in 0..ATTEMPTS_MAX {
            let at = UnixMillis(self.now.0 + attempt);
            let changes = self.changes.fresh();
            let (shared, random_id) = (self.shared.clone(), random_id.to_owned());
            let mut new = lay(shared, &upgrade.version, rules.clone(), random_id, drafts, at, changes)?;
            if self.changes.room_num(&new.loaded.head.room_id)?.is_none() {
                if published {
                    new.publish(true);
                }
                new.finish()?;
                return Ok(new);
            }
        }
        Err(RoomError::Overloaded)
    }

    fn content_of(&mut self, kind: &str) -> Result<Option<Box<RawValue>>, RoomError> {
        let event = self.current(&(StateEventType::from(kind), String::new()))?;
        Ok(event.map(|(_, pdu)| pdu.content().to_owned()))
    }

    fn old(&mut self, sender: &UserId) -> Result<Old, RoomError> {
        let rules = self.loaded.room.rules.clone();
        let create = self.content_of("m.room.create")?.as_deref().and_then(object).unwrap_or_default();
        let mut transferred = Vec::new();
        for kind in TRANSFERRED {
            transferred.extend(self.content_of(kind)?.map(|content| (kind, content)));
        }
        let [create_key, levels_key] = PowerLevels::state_needed();
        let (create_event, levels_event) = (self.current(&create_key)?, self.current(&levels_key)?);
        let (create_event, levels_event) = (create_event.map(|(_, pdu)| pdu), levels_event.map(|(_, pdu)| pdu));
        let levels = PowerLevels::new(&rules, create_event.as_deref(), levels_event.as_deref());
        let is_space = create.get("type").and_then(Value::as_str) == Some("m.space");
        let children = if is_space { self.children()? } else { Vec::new() };
        let mut bans = Vec::new();
        let mut bytes = 0;
        for (user, event) in self.changes.view().room_members(self.num, Membership::Ban, None, BANS_AT_ONCE)? {
            let reason = self.pdu(event)?.and_then(|pdu| reason(pdu.content()));
            bytes += reason.as_ref().map_or(0, String::len);
            if user != *sender && bytes <= BYTES_AT_ONCE {
                bans.push((user, reason));
            }
        }
        let mut aliases = Vec::new();
        for alias in self.changes.view().room_aliases(self.num)?.into_iter().take(ALIASES_MAX) {
            let record = self.changes.alias(&alias)?;
            aliases.extend(
                record.filter(|record| record.room_id == self.loaded.head.room_id).map(|record| (alias, record)),
            );
        }
        Ok(Old {
            room_id: self.loaded.head.room_id.clone(),
            rules,
            create,
            levels_content: levels_event.and_then(|event| object(event.content())),
            levels,
            transferred,
            children,
            bans,
            aliases,
            main: self.content_of("m.room.canonical_alias")?.as_deref().and_then(object),
            published: self.is_published()?,
        })
    }

    fn children(&mut self) -> Result<Vec<(String, Box<RawValue>)>, RoomError> {
        let page = self.loaded.head.state.page_of(&self.changes, CHILD, None, CHILDREN_AT_ONCE)?;
        let mut children = Vec::new();
        let mut bytes = 0;
        for entry in page.entries {
            let content = self.pdu(entry.event)?.map(|pdu| pdu.content().to_owned());
            if let Some(content) = content.filter(|content| is_link(content)) {
                bytes += content.get().len();
                if bytes > BYTES_AT_ONCE {
                    break;
                }
                children.push((entry.state_key, content));
            }
        }
        Ok(children)
    }

    fn shown_as(&self, user: &UserId) -> Result<membership::Profile, RoomError> {
        profile(self.changes.view(), user)
    }

    /// Keeps people from talking in the old room and from inviting others, and takes away the main alias that it
    /// has no longer; as far as the sender may.
    fn close(&mut self, sender: &UserId, old: &Old) -> Result<(), RoomError> {
        let mut drafts = Vec::new();
        if let Some(content) = old.levels_content.clone().and_then(closed) {
            drafts.push(Draft::state(sender.to_owned(), "m.room.power_levels", "", raw(&content)?));
        }
        if let Some(main) = &old.main
            && !old.moved_main(main).is_empty()
        {
            let left = old.main_left(main);
            // It comes first: afterwards the level that it takes may be out of reach.
            drafts.insert(0, Draft::state(sender.to_owned(), "m.room.canonical_alias", "", raw(&left)?));
        }
        for draft in drafts {
            match self.draft(draft, None, None) {
                Ok(_) | Err(RoomError::Forbidden(_) | RoomError::BadJson(_) | RoomError::TooLarge(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Takes what another run has made into this one, so that one batch commits both.
    fn absorb(&mut self, other: Work) {
        let shift = self.changes.absorb(other.changes);
        self.added.extend(other.added.into_iter().map(|added| added.shifted(shift)));
    }
}

impl Old {
    /// The events of the new room, in their order. Power levels are the last that count: until then its creator
    /// may do everything.
    fn drafts(
        &self,
        upgrade: &Upgrade,
        rules: &AuthorizationRules,
        profile: &membership::Profile,
        tombstone: Option<&EventId>,
    ) -> Result<Vec<Draft>, RoomError> {
        let sender = &upgrade.sender;
        let mut drafts = Vec::new();
        let mut state = |kind: &str, key: &str, content: Box<RawValue>| {
            drafts.push(Draft::state(sender.clone(), kind, key, content));
        };
        state("m.room.create", "", raw(&self.creation(upgrade, rules, tombstone)?)?);
        let member = membership::content(Membership::Join, Some(profile), Map::new());
        state("m.room.member", sender.as_str(), raw(&member)?);
        for (kind, content) in &self.transferred {
            state(kind, "", content.clone());
        }
        for (key, content) in &self.children {
            state(CHILD, key, content.clone());
        }
        if let Some(moved) = self.main.as_ref().map(|main| self.moved_main(main)).filter(|moved| !moved.is_empty()) {
            state("m.room.canonical_alias", "", raw(&moved)?);
        }
        for (user, reason) in &self.bans {
            let reason = reason.iter().map(|reason| ("reason".to_owned(), Value::from(reason.as_str())));
            let content = membership::content(Membership::Ban, None, reason.collect());
            state("m.room.member", user.as_str(), raw(&content)?);
        }
        state("m.room.power_levels", "", raw(&self.new_levels(upgrade, rules)?)?);
        Ok(drafts)
    }

    fn creation(
        &self,
        upgrade: &Upgrade,
        rules: &AuthorizationRules,
        tombstone: Option<&EventId>,
    ) -> Result<JsonObject, RoomError> {
        let mut content = Map::new();
        let mut predecessor = json!({"room_id": self.room_id});
        if let (Some(tombstone), Value::Object(predecessor)) = (tombstone, &mut predecessor) {
            predecessor.insert("event_id".to_owned(), json!(tombstone));
        }
        content.insert("predecessor".to_owned(), predecessor);
        for field in ["type", "m.federate"] {
            content.extend(self.create.get(field).map(|value| (field.to_owned(), value.clone())));
        }
        if rules.additional_room_creators {
            content.insert("additional_creators".to_owned(), json!(upgrade.additional_creators));
        }
        create::creation(content, &upgrade.sender, &[], &upgrade.version, rules)
    }

    /// The old room's power levels as the new version writes them. Creators have none where they have power
    /// without limit, and get theirs where they have it no longer.
    fn new_levels(&self, upgrade: &Upgrade, rules: &AuthorizationRules) -> Result<JsonObject, RoomError> {
        let sender = &upgrade.sender;
        let Some(old) = &self.levels_content else {
            return create::power_levels(Map::new(), sender, &[], create::Preset::PrivateChat, rules);
        };
        let mut levels = old.clone();
        if rules.integer_power_levels && !self.rules.authorization.integer_power_levels {
            whole(&mut levels);
        }
        let mut users = match levels.remove("users") {
            Some(Value::Object(users)) => users,
            _ => Map::new(),
        };
        if rules.explicitly_privilege_room_creators {
            users
                .retain(|user, _| user != sender && !upgrade.additional_creators.iter().any(|creator| creator == user));
            let state_default = levels.get("state_default").and_then(Value::as_i64).unwrap_or(CLOSED_LEVEL);
            let events = levels.entry("events").or_insert_with(|| json!({}));
            if let Value::Object(events) = events {
                let given = events.get("m.room.tombstone").and_then(Value::as_i64);
                // Elsewhere the level of administrators was enough; here it is to be the creators' alone.
                let is_own = self.rules.authorization.explicitly_privilege_room_creators;
                if !is_own || given.is_none_or(|level| level <= state_default) {
                    let level = create::tombstone_level(state_default).max(given.unwrap_or_default());
                    events.insert("m.room.tombstone".to_owned(), json!(level));
                }
            }
        } else {
            for creator in self.levels.users().filter(|user| self.levels.user(user) == UserPowerLevel::Infinite) {
                users.insert(creator.to_string(), json!(CREATOR_LEVEL));
            }
        }
        levels.insert("users".to_owned(), Value::Object(users));
        Ok(levels)
    }

    /// What of the main alias and the others moves: this server's aliases of the room.
    fn moved_main(&self, main: &JsonObject) -> JsonObject {
        let moves = |value: &Value| self.aliases.iter().any(|(alias, _)| value.as_str() == Some(alias.as_str()));
        let mut moved = Map::new();
        if let Some(alias) = main.get("alias").filter(|alias| moves(alias)) {
            moved.insert("alias".to_owned(), alias.clone());
        }
        if let Some(Value::Array(others)) = main.get("alt_aliases") {
            let others: Vec<_> = others.iter().filter(|other| moves(other)).cloned().collect();
            if !others.is_empty() {
                moved.insert("alt_aliases".to_owned(), Value::Array(others));
            }
        }
        moved
    }

    /// What of them the old room keeps.
    fn main_left(&self, main: &JsonObject) -> JsonObject {
        let moves = |value: &Value| self.aliases.iter().any(|(alias, _)| value.as_str() == Some(alias.as_str()));
        let mut left = main.clone();
        if left.get("alias").is_some_and(moves) {
            left.remove("alias");
        }
        if let Some(Value::Array(others)) = left.get_mut("alt_aliases") {
            others.retain(|other| !moves(other));
            if others.is_empty() {
                left.remove("alt_aliases");
            }
        }
        left
    }
}

/// Power levels in which most can neither talk nor invite; nothing if they are so already.
fn closed(mut levels: JsonObject) -> Option<JsonObject> {
    let level = |levels: &JsonObject, field: &str| levels.get(field).and_then(whole_level).unwrap_or(0);
    let least = level(&levels, "users_default").saturating_add(1).max(CLOSED_LEVEL);
    let mut changed = false;
    for field in ["events_default", "invite"] {
        if level(&levels, field) < least {
            levels.insert(field.to_owned(), json!(least));
            changed = true;
        }
    }
    changed.then_some(levels)
}

/// Writes all levels as the integers that they mean, and leaves out what means none.
fn whole(levels: &mut JsonObject) {
    let fit = |entries: &mut JsonObject| {
        entries.retain(|_, value| whole_level(value).map(|level| *value = json!(level)).is_some());
    };
    for field in ["events", "notifications", "users"] {
        if let Some(Value::Object(mut entries)) = levels.remove(field) {
            fit(&mut entries);
            levels.insert(field.to_owned(), Value::Object(entries));
        }
    }
    for field in ["ban", "events_default", "invite", "kick", "redact", "state_default", "users_default"] {
        match levels.get(field).map(whole_level) {
            Some(Some(level)) => {
                levels.insert(field.to_owned(), json!(level));
            }
            Some(None) => {
                levels.remove(field);
            }
            None => {}
        }
    }
}

/// A level as any room version may have written it.
fn whole_level(value: &Value) -> Option<i64> {
    ruma::serde::deserialize_v1_powerlevel(value).ok().map(i64::from)
}

/// Whether a link to a child is one, and was not taken back.
fn is_link(content: &RawValue) -> bool {
    object(content).is_some_and(|content| content.contains_key("via"))
}

fn reason(content: &RawValue) -> Option<String> {
    match object(content)?.remove("reason") {
        Some(Value::String(reason)) => Some(reason),
        _ => None,
    }
}

fn object(content: &RawValue) -> Option<JsonObject> {
    serde_json::from_str(content.get()).ok()
}

fn raw(content: &impl serde::Serialize) -> Result<Box<RawValue>, RoomError> {
    to_raw_value(content).map_err(|error| RoomError::BadJson(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object_of(value: Value) -> JsonObject {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_closed_room_is_for_moderators() {
        let check = |levels: Value| closed(object_of(levels)).map(Value::Object);
        assert_eq!(check(json!({"x": 1})), Some(json!({"x": 1, "events_default": 50, "invite": 50})));
        assert_eq!(
            check(json!({"users_default": 60, "events_default": 70})),
            Some(json!({"users_default": 60, "events_default": 70, "invite": 61}))
        );
        assert_eq!(check(json!({"events_default": 50, "invite": 100})), None);
        assert_eq!(check(json!({"events_default": "50", "invite": "50"})), None);
    }

    #[test]
    fn levels_become_integers_or_go() {
        let mut levels = object_of(json!({
            "ban": "50", "kick": " 7 ", "invite": [3], "redact": null, "x": "y",
            "users": {"@a:x": "100", "@b:x": []}, "events": [], "notifications": {"room": 20},
        }));
        whole(&mut levels);
        let expected = json!({
            "ban": 50, "kick": 7, "x": "y",
            "users": {"@a:x": 100}, "notifications": {"room": 20},
        });
        assert_eq!(Value::Object(levels), expected);
    }
}
