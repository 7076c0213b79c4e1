//! The events that a new room starts with (client-server API, `POST /createRoom`).
//!
//! This only writes them down, in the order that the specification gives. Whether they allow each other is
//! decided where they become events, all of them at once.

use crate::RoomError;
use crate::membership::{self, Profile};
use base::limits::{ID_BYTES_MAX, PDU_BYTES_MAX};
use records::Membership;
use room_core::Draft;
use ruma::room_version_rules::AuthorizationRules;
use ruma::serde::JsonObject;
use ruma::{OwnedRoomAliasId, OwnedUserId, RoomVersionId, ServerName, UserId};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// The most events that a room starts with, so that they fit into one batch.
pub const INITIAL_EVENTS_MAX: usize = 1000;
/// The most bytes of content that they have together; half of what one batch takes.
pub const INITIAL_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The level of the creator before room version 12, and of what only creators and their equals may do.
const CREATOR_LEVEL: i64 = 100;
/// The level that replacing the room takes from version 12 on: creators only, unless they grant it.
const TOMBSTONE_LEVEL: i64 = 150;
/// The level of moderators.
const MODERATOR_LEVEL: i64 = 50;
/// The greatest integer of canonical JSON, and so the greatest level.
const LEVEL_MAX: i64 = (1 << 53) - 1;

/// What a user wants a new room to be.
#[derive(Clone, Debug, Default)]
pub struct CreateRoom {
    /// Its version; the server's default if none is named.
    pub version: Option<RoomVersionId>,
    /// The settings that it starts with. By default those of [`Preset::PublicChat`] for a published room and of
    /// [`Preset::PrivateChat`] for any other.
    pub preset: Option<Preset>,
    /// Whether it is listed in the public room directory.
    pub published: bool,
    /// The localpart of its alias.
    pub alias_localpart: Option<String>,
    /// Its name.
    pub name: Option<String>,
    /// Its topic.
    pub topic: Option<String>,
    /// Who is invited: with the room, those of this server.
    pub invite: Vec<OwnedUserId>,
    /// Whether the invitations are to a direct chat.
    pub is_direct: bool,
    /// More fields of its creation.
    pub creation_content: JsonObject,
    /// More state events.
    pub initial_state: Vec<InitialState>,
    /// What replaces fields of the power levels.
    pub power_level_content_override: JsonObject,
}

/// The settings that a room starts with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// Whoever is invited can enter.
    PrivateChat,
    /// As a private chat, and those who are invited are the creator's equals.
    TrustedPrivateChat,
    /// Everybody can enter.
    PublicChat,
}

/// A state event that a room starts with.
#[derive(Clone, Debug)]
pub struct InitialState {
    /// Its type.
    pub kind: String,
    /// Its state key.
    pub state_key: String,
    /// Its content, a JSON object.
    pub content: Box<RawValue>,
}

/// A new room, written down.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Its version.
    pub version: RoomVersionId,
    /// Its events, in their order; the first is its creation.
    pub drafts: Vec<Draft>,
    /// The alias that it gets.
    pub alias: Option<OwnedRoomAliasId>,
    /// Whether it is listed in the public room directory.
    pub published: bool,
}

/// Writes down the events of a new room. `profile_of` knows how the users of this server appear.
///
/// # Errors
///
/// - [`RoomError::UnsupportedVersion`]: a version that this server does not know;
/// - [`RoomError::InvalidParam`]: an alias that is none;
/// - [`RoomError::InvalidRoomState`]: a second creation;
/// - [`RoomError::BadJson`]: power levels or creators that are none;
/// - [`RoomError::TooLarge`]: more than [`INITIAL_EVENTS_MAX`] events or [`INITIAL_BYTES_MAX`] bytes.
pub fn plan(
    request: CreateRoom,
    creator: &UserId,
    profile_of: impl Fn(&UserId) -> Option<Profile>,
    server_name: &ServerName,
    default_version: &RoomVersionId,
) -> Result<Plan, RoomError> {
    let version = request.version.clone().unwrap_or_else(|| default_version.clone());
    let Some(rules) = rules::room_rules(&version) else {
        return Err(RoomError::UnsupportedVersion(version.to_string()));
    };
    let rules = rules.authorization;
    let preset = request.preset.unwrap_or(if request.published { Preset::PublicChat } else { Preset::PrivateChat });
    if request.initial_state.iter().any(|event| event.kind == "m.room.create") {
        return Err(RoomError::InvalidRoomState("a room is created once".to_owned()));
    }
    let alias = request.alias_localpart.as_deref().map(|localpart| alias(localpart, server_name)).transpose()?;
    let invited = distinct(&request.invite);
    check_size(&request, &invited)?;

    let mut events = Events { creator, drafts: Vec::new() };
    let equals: &[OwnedUserId] = if preset == Preset::TrustedPrivateChat { &invited } else { &[] };
    events.state("m.room.create", "", &creation(request.creation_content, creator, equals, &version, &rules)?)?;
    let member = membership::content(Membership::Join, profile_of(creator).as_ref(), Map::new());
    events.state("m.room.member", creator.as_str(), &member)?;
    let levels = power_levels(request.power_level_content_override, creator, equals, preset, &rules)?;
    events.state("m.room.power_levels", "", &levels)?;
    if let Some(alias) = &alias {
        events.state("m.room.canonical_alias", "", &json!({"alias": alias}))?;
    }

    // Initial state wins over the preset, name and topic win over initial state: what loses is left out.
    let is_given =
        |kind: &str| request.initial_state.iter().any(|event| event.kind == kind && event.state_key.is_empty());
    for (kind, content) in preset_events(preset) {
        if !is_given(kind) {
            events.state(kind, "", &content)?;
        }
    }
    let overruled = |event: &InitialState| {
        event.state_key.is_empty()
            && (request.name.is_some() && event.kind == "m.room.name"
                || request.topic.is_some() && event.kind == "m.room.topic")
    };
    for event in request.initial_state.iter().filter(|event| !overruled(event)) {
        events.push(&event.kind, &event.state_key, event.content.clone());
    }
    if let Some(name) = &request.name {
        events.state("m.room.name", "", &json!({"name": name}))?;
    }
    if let Some(topic) = &request.topic {
        let text = json!([{"body": topic, "mimetype": "text/plain"}]);
        events.state("m.room.topic", "", &json!({"topic": topic, "m.topic": {"m.text": text}}))?;
    }
    // Those of other servers are invited when the room is there: their servers have to agree.
    for user in invited.iter().filter(|user| user.server_name() == server_name) {
        let mut given = Map::new();
        if request.is_direct {
            given.insert("is_direct".to_owned(), Value::Bool(true));
        }
        let member = membership::content(Membership::Invite, profile_of(user).as_ref(), given);
        events.state("m.room.member", user.as_str(), &member)?;
    }
    Ok(Plan { version, drafts: events.drafts, alias, published: request.published })
}

/// The drafts so far.
struct Events<'a> {
    creator: &'a UserId,
    drafts: Vec<Draft>,
}

impl Events<'_> {
    fn state(&mut self, kind: &str, state_key: &str, content: &impl serde::Serialize) -> Result<(), RoomError> {
        let content = to_raw_value(content).map_err(|error| RoomError::BadJson(error.to_string()))?;
        self.push(kind, state_key, content);
        Ok(())
    }

    fn push(&mut self, kind: &str, state_key: &str, content: Box<RawValue>) {
        self.drafts.push(Draft::state(self.creator.to_owned(), kind, state_key, content));
    }
}

fn alias(localpart: &str, server_name: &ServerName) -> Result<OwnedRoomAliasId, RoomError> {
    rules::id::new_room_alias(localpart, server_name)
        .map_err(|error| RoomError::InvalidParam(format!("the alias is not valid: {error}")))
}

/// The users without repetitions, in their order.
fn distinct(users: &[OwnedUserId]) -> Vec<OwnedUserId> {
    let mut seen = BTreeSet::new();
    users.iter().filter(|user| seen.insert(*user)).cloned().collect()
}

fn check_size(request: &CreateRoom, invited: &[OwnedUserId]) -> Result<(), RoomError> {
    // Creation, creator, levels, alias, three of the preset, name, topic.
    const OTHERS: usize = 9;
    let events = request.initial_state.len() + invited.len() + OTHERS;
    let bytes: usize = request.initial_state.iter().map(|event| event.content.get().len()).sum();
    if events > INITIAL_EVENTS_MAX {
        return Err(RoomError::TooLarge(format!("a room starts with at most {INITIAL_EVENTS_MAX} events")));
    }
    if bytes > INITIAL_BYTES_MAX {
        return Err(RoomError::TooLarge(format!("a room starts with at most {INITIAL_BYTES_MAX} bytes of state")));
    }
    let texts = [&request.name, &request.topic];
    if texts.into_iter().flatten().any(|text| text.len() > PDU_BYTES_MAX) {
        return Err(RoomError::TooLarge("the name or the topic does not fit into an event".to_owned()));
    }
    Ok(())
}

/// The content of the creation: what the client adds, without the fields that are the server's.
pub(crate) fn creation(
    mut content: JsonObject,
    creator: &UserId,
    equals: &[OwnedUserId],
    version: &RoomVersionId,
    rules: &AuthorizationRules,
) -> Result<JsonObject, RoomError> {
    content.insert("room_version".to_owned(), Value::from(version.as_str()));
    if rules.use_room_create_sender {
        content.remove("creator");
    } else {
        content.insert("creator".to_owned(), Value::from(creator.as_str()));
    }
    if content.get("m.federate").is_some_and(|federate| !federate.is_boolean()) {
        return Err(RoomError::BadJson("`m.federate` must be a boolean".to_owned()));
    }
    if rules.additional_room_creators {
        let creators = additional_creators(content.remove("additional_creators"), creator, equals)?;
        if !creators.is_empty() {
            content.insert("additional_creators".to_owned(), json!(creators));
        }
    }
    Ok(content)
}

/// Those who have the creator's powers: whom the client names, and the creator's equals.
fn additional_creators(
    given: Option<Value>,
    creator: &UserId,
    equals: &[OwnedUserId],
) -> Result<Vec<OwnedUserId>, RoomError> {
    let bad = || RoomError::BadJson("`additional_creators` must be a list of user ids".to_owned());
    let given: Vec<String> = given.map(serde_json::from_value).transpose().map_err(|_| bad())?.unwrap_or_default();
    let mut creators = Vec::with_capacity(given.len() + equals.len());
    for user in given {
        let fits = user.len() <= ID_BYTES_MAX;
        creators.push(OwnedUserId::try_from(user).ok().filter(|_| fits).ok_or_else(bad)?);
    }
    creators.extend_from_slice(equals);
    let mut creators = distinct(&creators);
    creators.retain(|user| user != creator);
    Ok(creators)
}

/// The power levels: moderators change how the room looks, the creator's equals whom it is for.
pub(crate) fn power_levels(
    given: JsonObject,
    creator: &UserId,
    equals: &[OwnedUserId],
    preset: Preset,
    rules: &AuthorizationRules,
) -> Result<JsonObject, RoomError> {
    check_levels(&given)?;
    let privileged = rules.explicitly_privilege_room_creators;
    let mut users = Map::new();
    if !privileged {
        let all = std::iter::once(creator).chain(equals.iter().map(AsRef::as_ref));
        users.extend(all.map(|user| (user.to_string(), Value::from(CREATOR_LEVEL))));
    }
    // A private room's members may bring others along; a public room's need not.
    let invite = if preset == Preset::PublicChat { MODERATOR_LEVEL } else { 0 };
    let mut levels = Map::new();
    let fields = [
        ("ban", json!(MODERATOR_LEVEL)),
        ("events", Value::Object(default_events())),
        ("events_default", json!(0)),
        ("invite", json!(invite)),
        ("kick", json!(MODERATOR_LEVEL)),
        ("redact", json!(MODERATOR_LEVEL)),
        ("state_default", json!(MODERATOR_LEVEL)),
        ("users", Value::Object(users)),
        ("users_default", json!(0)),
    ];
    levels.extend(fields.map(|(field, value)| (field.to_owned(), value)));
    let tombstone_given = given.get("events").is_some_and(|events| events.get("m.room.tombstone").is_some());
    levels.extend(given);
    if privileged && !tombstone_given {
        // It must be above `state_default`, whatever the client has made of that.
        let state_default = levels.get("state_default").and_then(Value::as_i64).unwrap_or(MODERATOR_LEVEL);
        if let Some(Value::Object(events)) = levels.get_mut("events") {
            events.insert("m.room.tombstone".to_owned(), json!(tombstone_level(state_default)));
        }
    }
    Ok(levels)
}

/// The level that replacing a room of version 12 takes, where other state takes `state_default`.
pub(crate) fn tombstone_level(state_default: i64) -> i64 {
    TOMBSTONE_LEVEL.max(state_default.saturating_add(1)).min(LEVEL_MAX)
}

fn default_events() -> JsonObject {
    let creators = ["m.room.power_levels", "m.room.history_visibility", "m.room.tombstone", "m.room.server_acl"];
    let moderators = ["m.room.name", "m.room.canonical_alias", "m.room.avatar", "m.room.topic"];
    let encryption = std::iter::once("m.room.encryption");
    let creators = creators.into_iter().chain(encryption).map(|kind| (kind.to_owned(), json!(CREATOR_LEVEL)));
    creators.chain(moderators.map(|kind| (kind.to_owned(), json!(MODERATOR_LEVEL)))).collect()
}

/// Power levels are integers, by whatever room version: what old ones bear, new events don't add.
///
/// # Errors
///
/// [`RoomError::BadJson`].
pub fn check_levels(content: &JsonObject) -> Result<(), RoomError> {
    const LEVELS: [&str; 7] = ["ban", "events_default", "invite", "kick", "redact", "state_default", "users_default"];
    let is_level = |value: &Value| value.as_i64().is_some_and(|level| (-LEVEL_MAX..=LEVEL_MAX).contains(&level));
    let bad = |field: &str, what: &str| Err(RoomError::BadJson(format!("`{field}` must be {what}")));
    for field in LEVELS {
        if content.get(field).is_some_and(|value| !is_level(value)) {
            return bad(field, "an integer");
        }
    }
    for field in ["events", "notifications", "users"] {
        let Some(value) = content.get(field) else { continue };
        if !value.as_object().is_some_and(|entries| entries.values().all(is_level)) {
            return bad(field, "an object of integers");
        }
    }
    let users = content.get("users").and_then(Value::as_object).into_iter().flatten();
    if users.into_iter().any(|(user, _)| <&UserId>::try_from(user.as_str()).is_err()) {
        return bad("users", "an object whose keys are user ids");
    }
    Ok(())
}

fn preset_events(preset: Preset) -> [(&'static str, Value); 3] {
    let (join_rule, guest_access) = match preset {
        Preset::PrivateChat | Preset::TrustedPrivateChat => ("invite", "can_join"),
        Preset::PublicChat => ("public", "forbidden"),
    };
    [
        ("m.room.join_rules", json!({"join_rule": join_rule})),
        ("m.room.history_visibility", json!({"history_visibility": "shared"})),
        ("m.room.guest_access", json!({"guest_access": guest_access})),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use ruma::{owned_user_id, server_name, user_id};

    fn creator() -> &'static UserId {
        user_id!("@creator:a.example")
    }

    fn request() -> CreateRoom {
        CreateRoom::default()
    }

    fn object(value: &Value) -> JsonObject {
        value.as_object().unwrap().clone()
    }

    fn initial(kind: &str, content: &str) -> InitialState {
        InitialState {
            kind: kind.to_owned(),
            state_key: String::new(),
            content: RawValue::from_string(content.to_owned()).unwrap(),
        }
    }

    fn check(request: CreateRoom) -> Result<Plan, RoomError> {
        let profile =
            |user: &UserId| Some(Profile { displayname: Some(user.localpart().to_owned()), avatar_url: None });
        plan(request, creator(), profile, server_name!("a.example"), &RoomVersionId::V12)
    }

    fn events(request: CreateRoom) -> Vec<(String, Value)> {
        let plan = check(request).unwrap();
        assert!(plan.drafts.iter().all(|draft| draft.sender == creator() && draft.redacts.is_none()));
        let event = |draft: &Draft| (draft.kind.clone(), serde_json::from_str(draft.content.get()).unwrap());
        plan.drafts.iter().map(event).collect()
    }

    fn content(request: CreateRoom, kind: &str) -> Value {
        let mut found = events(request).into_iter().filter(|(k, _)| k == kind);
        let content = found.next().unwrap().1;
        assert!(found.next().is_none() || kind == "m.room.member", "{kind} is there twice");
        content
    }

    #[test]
    fn the_events_come_in_the_order_of_the_specification() {
        let request = CreateRoom {
            alias_localpart: Some("room".to_owned()),
            name: Some("Name".to_owned()),
            topic: Some("Topic".to_owned()),
            invite: vec![owned_user_id!("@b:a.example"), owned_user_id!("@b:a.example")],
            initial_state: vec![initial("m.room.encryption", "{}")],
            ..request()
        };
        let kinds: Vec<_> = events(request).into_iter().map(|(kind, _)| kind).collect();
        let expected = [
            "m.room.create",
            "m.room.member",
            "m.room.power_levels",
            "m.room.canonical_alias",
            "m.room.join_rules",
            "m.room.history_visibility",
            "m.room.guest_access",
            "m.room.encryption",
            "m.room.name",
            "m.room.topic",
            "m.room.member",
        ];
        assert_eq!(kinds, expected);
    }

    #[test]
    fn the_preset_follows_from_the_visibility_unless_it_is_given() {
        let join_rule = |published, preset| {
            content(CreateRoom { preset, published, ..request() }, "m.room.join_rules")["join_rule"].clone()
        };
        assert_eq!(join_rule(false, None), "invite");
        assert_eq!(join_rule(true, None), "public");
        assert_eq!(join_rule(true, Some(Preset::PrivateChat)), "invite");
        assert_eq!(join_rule(false, Some(Preset::PublicChat)), "public");
        assert_eq!(join_rule(false, Some(Preset::TrustedPrivateChat)), "invite");
    }

    #[test]
    fn only_private_rooms_let_guests_join() {
        let guests = |preset| {
            content(CreateRoom { preset: Some(preset), ..request() }, "m.room.guest_access")["guest_access"].clone()
        };
        assert_eq!(guests(Preset::PrivateChat), "can_join");
        assert_eq!(guests(Preset::TrustedPrivateChat), "can_join");
        assert_eq!(guests(Preset::PublicChat), "forbidden");
    }

    #[test]
    fn the_creation_says_what_its_version_has_it_say() {
        let creation = |version: RoomVersionId| {
            let creation_content = object(&json!({"creator": "@x:y", "room_version": "77", "type": "m.space"}));
            content(CreateRoom { version: Some(version), creation_content, ..request() }, "m.room.create")
        };
        let old = json!({"creator": creator(), "room_version": "10", "type": "m.space"});
        assert_eq!(creation(RoomVersionId::V10), old);
        assert_eq!(creation(RoomVersionId::V11), json!({"room_version": "11", "type": "m.space"}));
        assert_eq!(creation(RoomVersionId::V12), json!({"room_version": "12", "type": "m.space"}));
    }

    #[test]
    fn those_trusted_are_the_creators_equals_by_whatever_the_version_has_for_that() {
        let trusted = |version| CreateRoom {
            version: Some(version),
            preset: Some(Preset::TrustedPrivateChat),
            invite: vec![owned_user_id!("@b:a.example"), owned_user_id!("@c:a.example")],
            creation_content: object(&json!({"additional_creators": ["@c:a.example", "@d:a.example", creator()]})),
            ..request()
        };
        let old = content(trusted(RoomVersionId::V11), "m.room.power_levels");
        assert_eq!(old["users"], json!({(creator()): 100, "@b:a.example": 100, "@c:a.example": 100}));
        let new = content(trusted(RoomVersionId::V12), "m.room.power_levels");
        assert_eq!(new["users"], json!({}));
        let creation = content(trusted(RoomVersionId::V12), "m.room.create");
        assert_eq!(creation["additional_creators"], json!(["@c:a.example", "@d:a.example", "@b:a.example"]));
    }

    #[test]
    fn replacing_a_room_of_version_12_takes_more_than_any_state() {
        let tombstone = |levels: &Value| {
            let levels = CreateRoom { power_level_content_override: object(levels), ..request() };
            content(levels, "m.room.power_levels")["events"]["m.room.tombstone"].clone()
        };
        assert_eq!(tombstone(&json!({})), 150);
        assert_eq!(tombstone(&json!({"events": {"m.room.name": 1}})), 150);
        assert_eq!(tombstone(&json!({"state_default": 200})), 201);
        assert_eq!(tombstone(&json!({"events": {"m.room.tombstone": 60}})), 60);
        let old = CreateRoom { version: Some(RoomVersionId::V11), ..request() };
        assert_eq!(content(old, "m.room.power_levels")["events"]["m.room.tombstone"], 100);
    }

    #[test]
    fn given_levels_replace_the_defaults_field_by_field() {
        let given = object(&json!({"users": {"@b:a.example": 7}, "invite": 3, "x": "y"}));
        let levels = CreateRoom { power_level_content_override: given, ..request() };
        let levels = content(levels, "m.room.power_levels");
        assert_eq!(levels["users"], json!({"@b:a.example": 7}));
        assert_eq!((&levels["invite"], &levels["ban"], &levels["x"]), (&json!(3), &json!(50), &json!("y")));
    }

    #[test]
    fn levels_that_are_none_are_refused() {
        for levels in [
            json!({"ban": "50"}),
            json!({"ban": 1.5}),
            json!({"kick": 9_007_199_254_740_992_i64}),
            json!({"users": []}),
            json!({"users": {"b": 1}}),
            json!({"events": {"m.room.name": null}}),
            json!({"notifications": {"room": "50"}}),
        ] {
            let request = CreateRoom { power_level_content_override: object(&levels), ..request() };
            assert!(matches!(check(request), Err(RoomError::BadJson(_))), "{levels}");
        }
    }

    #[test]
    fn initial_state_wins_over_the_preset_and_loses_to_name_and_topic() {
        let request = CreateRoom {
            initial_state: vec![
                initial("m.room.join_rules", r#"{"join_rule":"knock"}"#),
                initial("m.room.name", r#"{"name":"lost"}"#),
            ],
            name: Some("won".to_owned()),
            ..request()
        };
        assert_eq!(content(request.clone(), "m.room.join_rules"), json!({"join_rule": "knock"}));
        assert_eq!(content(request, "m.room.name"), json!({"name": "won"}));
    }

    #[test]
    fn a_topic_is_written_plain_and_rich() {
        let topic = content(CreateRoom { topic: Some("T".to_owned()), ..request() }, "m.room.topic");
        let text = json!([{"body": "T", "mimetype": "text/plain"}]);
        assert_eq!(topic, json!({"topic": "T", "m.topic": {"m.text": text}}));
    }

    #[test]
    fn an_invitation_shows_the_profile_and_whether_the_chat_is_direct() {
        let invite = vec![owned_user_id!("@b:a.example")];
        let last = events(CreateRoom { invite, is_direct: true, ..request() }).pop().unwrap().1;
        assert_eq!(last, json!({"membership": "invite", "displayname": "b", "is_direct": true}));
    }

    #[test]
    fn an_alias_must_be_one_and_a_version_known() {
        let alias = |localpart: &str| check(CreateRoom { alias_localpart: Some(localpart.to_owned()), ..request() });
        assert_eq!(alias("ok").unwrap().alias.unwrap(), "#ok:a.example");
        for localpart in ["", "a b", "a:b", &"x".repeat(300)] {
            assert!(matches!(alias(localpart), Err(RoomError::InvalidParam(_))), "{localpart}");
        }
        let version = RoomVersionId::try_from("13").unwrap();
        let unknown = check(CreateRoom { version: Some(version), ..request() });
        assert!(matches!(unknown, Err(RoomError::UnsupportedVersion(_))));
    }

    #[test]
    fn a_room_is_created_once() {
        let initial_state = vec![initial("m.room.create", "{}")];
        assert!(matches!(check(CreateRoom { initial_state, ..request() }), Err(RoomError::InvalidRoomState(_))));
    }

    #[test]
    fn a_room_cannot_start_with_more_than_a_batch_takes() {
        let initial_state = vec![initial("m.x", "{}"); INITIAL_EVENTS_MAX];
        assert!(matches!(check(CreateRoom { initial_state, ..request() }), Err(RoomError::TooLarge(_))));
    }
}
