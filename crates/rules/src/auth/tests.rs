use super::*;
use crate::testing::{ALICE, BOB, CAROL, Room, key_of, rules, version};
use crate::{CheckedPdu, PduDraft};
use base::UnixMillis;
use ruma::{CanonicalJsonObject, owned_event_id, user_id};
use serde_json::{Value, json};

fn reason<T: std::fmt::Debug>(result: Result<T, Forbidden>) -> String {
    result.unwrap_err().0
}

fn join_via(room: &mut Room, user: &str, via: &str) -> Result<Arc<Pdu>, Forbidden> {
    let content = json!({"membership": "join", "join_authorised_via_users_server": via});
    room.put(user, "m.room.member", user, content)
}

#[test]
fn a_room_of_every_version_lives() {
    for number in 1..=12 {
        let mut room = Room::with_members(number);
        room.say(CAROL).unwrap();
        reason(room.put(CAROL, "m.room.name", "", json!({"name": "N"})));
        room.put(BOB, "m.room.name", "", json!({"name": "N"})).unwrap();
        room.member(BOB, CAROL, "leave").unwrap();
        reason(room.say(CAROL));
        reason(room.member(BOB, ALICE, "leave"));
        room.member(ALICE, CAROL, "ban").unwrap();
        reason(room.join(CAROL));
        room.member(ALICE, CAROL, "leave").unwrap();
        room.join(CAROL).unwrap();
    }
}

#[test]
fn an_invitation_opens_an_invite_only_room() {
    for number in 1..=12 {
        let mut room = Room::new(number);
        room.put(ALICE, "m.room.join_rules", "", json!({"join_rule": "invite"})).unwrap();
        reason(room.join(BOB));
        room.member(ALICE, BOB, "invite").unwrap();
        room.join(BOB).unwrap();
    }
}

#[test]
fn a_room_that_does_not_federate_is_closed_to_other_servers() {
    let mut room = Room::created_with(10, json!({"m.federate": false}));
    room.put(ALICE, "m.room.join_rules", "", json!({"join_rule": "public"})).unwrap();
    reason(room.join(BOB));
    room.join("@dora:a.example").unwrap();
}

#[test]
fn a_creation_names_a_supported_version() {
    for (content, expected) in [
        (json!({}), Ok(version(1))),
        (json!({"room_version": "9"}), Ok(version(9))),
        (json!({"room_version": "99"}), Err(())),
        (json!({"room_version": 9}), Err(())),
    ] {
        let mut room = Room::before_creation(11);
        let create = room.draft(ALICE, "m.room.create", Some(""), content.clone());
        assert_eq!(room_version_of(&create).map_err(|_| ()), expected, "{content}");
        assert_eq!(room.accept(create).is_ok(), expected.is_ok(), "{content}");
    }
}

#[test]
fn a_creation_has_an_empty_state_key() {
    for key in [None, Some("x")] {
        let mut room = Room::before_creation(11);
        let create = room.draft(ALICE, "m.room.create", key, json!({"room_version": "11"}));
        reason(room.accept(create));
    }
}

#[test]
fn a_creation_before_version_11_names_the_creator() {
    let mut room = Room::before_creation(10);
    let create = room.draft(ALICE, "m.room.create", Some(""), json!({"room_version": "10"}));
    assert!(reason(room.accept(create)).contains("creator"));
}

#[test]
fn a_creation_of_version_12_has_no_room_id() {
    let mut room = Room::before_creation(12);
    let create = room.creation(json!({}));
    assert_eq!(create.room_id().as_str()[1..], create.event_id().as_str()[1..]);
    let mut json: Value = serde_json::from_str(create.json()).unwrap();
    assert_eq!(json.get("room_id"), None);
    json["room_id"] = json!(create.room_id());
    let with_room_id = Pdu::parse_stored(create.event_id().clone(), json.to_string(), &room.rules, false).unwrap();
    assert!(reason(room.accept(with_room_id)).contains("room_id"));
    room.accept(create).unwrap();
}

#[test]
fn events_of_version_12_do_not_name_the_creation() {
    let mut room = Room::with_members(12);
    let message = room.draft(CAROL, "m.room.message", None, json!({}));
    let create = room.state[&(StateEventType::RoomCreate, String::new())].clone();
    assert!(!message.auth_events().contains(&create));
    let mut json: Value = serde_json::from_str(message.json()).unwrap();
    json["auth_events"].as_array_mut().unwrap().push(json!(create));
    let naming = Pdu::parse_stored(owned_event_id!("$n"), json.to_string(), &room.rules, false).unwrap();
    reason(room.accept(naming));
    room.accept(message).unwrap();
}

#[test]
fn an_event_of_version_12_needs_a_creation_that_was_accepted() {
    let mut room = Room::with_members(12);
    let message = room.draft(CAROL, "m.room.message", None, json!({}));
    let create = create_event_id(message.room_id(), &room.rules).unwrap();
    let rejected = |id: &EventId| {
        let pdu = room.get(id)?;
        if *id != create {
            return Some(pdu);
        }
        let pdu = Pdu::parse_stored(create.clone(), pdu.json(), &room.rules, true).unwrap();
        Some(Arc::new(pdu))
    };
    assert!(reason(authorize_alone(&room.rules, &message, rejected)).contains("rejected"));
    let unknown = |id: &EventId| room.get(id).filter(|_| *id != create);
    reason(authorize_alone(&room.rules, &message, unknown));
}

#[test]
fn creators_of_version_12_have_power_without_being_named() {
    let mut room = Room::created_with(12, json!({"additional_creators": [BOB]}));
    room.put(ALICE, "m.room.join_rules", "", json!({"join_rule": "public"})).unwrap();
    room.join(BOB).unwrap();
    room.join(CAROL).unwrap();
    let most = 9_007_199_254_740_991_u64;
    room.put(BOB, "m.room.power_levels", "", json!({"users": {CAROL: most}})).unwrap();
    reason(room.member(CAROL, BOB, "leave"));
    reason(room.member(CAROL, ALICE, "ban"));
    reason(room.member(ALICE, BOB, "leave"));
    for creator in [ALICE, BOB] {
        let levels = json!({"users": {creator: 100}});
        assert!(reason(room.put(ALICE, "m.room.power_levels", "", levels)).contains("creator"));
    }
    room.member(ALICE, CAROL, "leave").unwrap();
}

#[test]
fn additional_creators_are_user_ids() {
    for creators in [json!("@b:b.example"), json!([1]), json!(["b"]), json!({}), json!(["@b"])] {
        let mut room = Room::before_creation(12);
        let create = room.creation(json!({"additional_creators": creators}));
        assert!(reason(room.accept(create)).contains("additional_creators"), "{creators}");
    }
    let mut room = Room::before_creation(11);
    let create = room.creation(json!({"additional_creators": "ignored before version 12"}));
    room.accept(create).unwrap();
}

#[test]
fn a_restricted_room_opens_through_one_who_may_invite() {
    for (number, join_rule, opens) in [
        (7, "restricted", false),
        (8, "restricted", true),
        (9, "restricted", true),
        (9, "knock_restricted", false),
        (10, "knock_restricted", true),
        (12, "restricted", true),
        (12, "knock_restricted", true),
    ] {
        let mut room = Room::with_members(number);
        let allow = json!([{"type": "m.room_membership", "room_id": "!other:a.example"}]);
        let rule = json!({"join_rule": join_rule, "allow": allow});
        let rule = room.put(ALICE, "m.room.join_rules", "", rule).unwrap();
        let mut levels = json!({"users": {BOB: 50}, "invite": 50});
        if number < 12 {
            levels["users"][ALICE] = json!(100);
        }
        room.put(ALICE, "m.room.power_levels", "", levels).unwrap();
        let case = format!("{number} {join_rule}");
        let dora = "@dora:a.example";
        reason(room.join(dora));
        reason(join_via(&mut room, dora, CAROL));
        reason(join_via(&mut room, dora, "@nobody:b.example"));
        assert_eq!(join_via(&mut room, dora, BOB).is_ok(), opens, "{case}");
        assert_eq!(rooms_that_admit(&room.rules, &rule).is_some(), opens, "{case}");

        let power = PowerLevels::of(&room.rules, room.at(&room.state));
        let carol = user_id!("@carol:c.example");
        let bob = user_id!("@bob:b.example");
        assert_eq!(authorising_user(&power, [carol, bob]), Some(bob));
        assert_eq!(authorising_user(&power, [carol]), None);
    }
}

#[test]
fn conditions_of_a_restricted_room_that_are_not_understood_are_passed_over() {
    let mut room = Room::new(10);
    let allow = json!([
        {"type": "m.room_membership", "room_id": "!one:a.example"},
        {"type": "m.room_membership", "room_id": 7},
        {"type": "m.room_membership"},
        {"type": "org.example", "room_id": "!two:a.example"},
        7,
        {"type": "m.room_membership", "room_id": "!three:a.example"},
    ]);
    let content = json!({"join_rule": "restricted", "allow": allow});
    let rule = room.put(ALICE, "m.room.join_rules", "", content).unwrap();
    let rooms = rooms_that_admit(&room.rules, &rule).unwrap();
    assert_eq!(rooms, ["!one:a.example", "!three:a.example"]);
    let rule = room.put(ALICE, "m.room.join_rules", "", json!({"join_rule": "public"})).unwrap();
    assert_eq!(rooms_that_admit(&room.rules, &rule), None);
}

#[test]
fn one_knocks_where_the_room_version_and_the_rule_allow_it() {
    for (number, join_rule, allowed) in [
        (6, "knock", false),
        (7, "knock", true),
        (9, "knock_restricted", false),
        (10, "knock_restricted", true),
        (12, "knock", true),
        (12, "invite", false),
        (12, "public", false),
    ] {
        let mut room = Room::new(number);
        room.put(ALICE, "m.room.join_rules", "", json!({"join_rule": join_rule})).unwrap();
        assert_eq!(room.member(BOB, BOB, "knock").is_ok(), allowed, "{number} {join_rule}");
        if allowed {
            reason(room.join(BOB));
            room.member(ALICE, BOB, "invite").unwrap();
            room.join(BOB).unwrap();
            reason(room.member(BOB, BOB, "knock"));
        }
    }
}

#[test]
fn a_third_party_invitation_needs_the_key_that_the_room_has() {
    let identity = key_of("c.example");
    let stranger = key_of("b.example");
    for number in 1..=12 {
        let mut room = Room::new(number);
        room.put(ALICE, "m.room.join_rules", "", json!({"join_rule": "invite"})).unwrap();
        let invite = |key: &crate::SigningKey, mxid: &str, token: &str| {
            let mut signed: CanonicalJsonObject =
                serde_json::from_value(json!({"mxid": mxid, "token": token})).unwrap();
            key.sign_json(&mut signed).unwrap();
            let invite = json!({"display_name": "B", "signed": signed});
            json!({"membership": "invite", "third_party_invite": invite})
        };
        reason(room.put(ALICE, "m.room.member", BOB, invite(&identity, BOB, "T")));
        let third_party = json!({
            "display_name": "B", "key_validity_url": "https://c.example",
            "public_key": stranger.public_key().encode().replace(['A', 'B'], "C"),
            "public_keys": [{"public_key": identity.public_key()}],
        });
        room.put(ALICE, "m.room.third_party_invite", "T", third_party).unwrap();
        reason(room.put(ALICE, "m.room.member", BOB, invite(&stranger, BOB, "T")));
        reason(room.put(ALICE, "m.room.member", BOB, invite(&identity, CAROL, "T")));
        reason(room.put(ALICE, "m.room.member", BOB, invite(&identity, BOB, "other")));
        reason(room.put(CAROL, "m.room.member", BOB, invite(&identity, BOB, "T")));
        let mut unsigned = invite(&identity, BOB, "T");
        unsigned["third_party_invite"].as_object_mut().unwrap().remove("signed");
        reason(room.put(ALICE, "m.room.member", BOB, unsigned));
        let good = room.put(ALICE, "m.room.member", BOB, invite(&identity, BOB, "T")).unwrap();
        let keys = auth_events_for(&room.rules, good.kind(), good.sender(), good.state_key(), good.content());
        assert!(keys.unwrap().contains(&(StateEventType::RoomThirdPartyInvite, "T".to_owned())));
        room.join(BOB).unwrap();
    }
}

#[test]
fn power_levels_of_old_rooms_may_be_strings_and_fractions() {
    for number in 1..=5 {
        let rules = rules(number);
        let mut room = Room::with_members(number);
        let content = format!(r#"{{"users":{{"{ALICE}":"100","{BOB}":50.9,"{CAROL}":" +5 "}},"events_default":5.0}}"#);
        let draft = room.draft(ALICE, "m.room.power_levels", Some(""), json!({}));
        let json = draft.json().replacen("\"content\":{}", &format!("\"content\":{content}"), 1);
        let levels = Pdu::parse_stored(draft.event_id().clone(), json, &rules, false).unwrap();
        assert_eq!(levels.content().get(), content);
        room.accept(levels).unwrap();
        room.say(CAROL).unwrap();
        room.put(BOB, "m.room.name", "", json!({"name": "N"})).unwrap();
        reason(room.put(CAROL, "m.room.name", "", json!({"name": "N"})));
        let power = PowerLevels::of(&rules, room.at(&room.state));
        assert!(power.can_act_on(user_id!("@bob:b.example"), crate::power::Action::Kick, user_id!("@carol:c.example")));
    }
}

#[test]
fn version_10_takes_only_integers_as_power_levels() {
    for (number, allowed) in [(9, true), (10, false), (12, false)] {
        let mut room = Room::new(number);
        assert_eq!(room.put(ALICE, "m.room.power_levels", "", json!({"ban": "50"})).is_ok(), allowed, "{number}");
    }
}

#[test]
fn the_state_that_is_needed_includes_the_creation() {
    let needed = |number, kind| {
        let content = RawValue::from_string("{}".to_owned()).unwrap();
        state_needed(&rules(number), &kind, user_id!("@a:a.example"), None, &content).unwrap()
    };
    let create = (StateEventType::RoomCreate, String::new());
    for number in 1..=12 {
        let keys = needed(number, TimelineEventType::RoomMessage);
        assert_eq!(keys.iter().filter(|key| **key == create).count(), 1);
        assert_eq!(keys.len(), 3);
        assert_eq!(needed(number, TimelineEventType::RoomCreate), []);
    }
}

#[test]
fn a_rejected_auth_event_is_no_ground_to_stand_on() {
    let mut room = Room::with_members(11);
    let message = room.draft(CAROL, "m.room.message", None, json!({}));
    let rejected = |id: &EventId| {
        let pdu = room.get(id)?;
        let rejected = pdu.state_key() == Some(CAROL);
        let pdu = Pdu::parse_stored(pdu.event_id().clone(), pdu.json(), &room.rules, rejected).unwrap();
        Some(Arc::new(pdu))
    };
    assert!(reason(authorize_with_auth_events(&room.rules, &message, rejected)).contains("rejected"));
}

#[test]
fn the_cases_of_redactions_in_versions_1_and_2() {
    for number in [1, 2, 3] {
        let mut room = Room::with_members(number);
        let message = room.say(BOB).unwrap();
        for (sender, allowed) in [(ALICE, true), (BOB, true), (CAROL, number >= 3)] {
            let blank = room.draft(sender, "m.room.redaction", None, json!({}));
            let draft = PduDraft {
                room_id: Some(blank.room_id().to_owned()),
                sender: blank.sender().to_owned(),
                kind: blank.kind().clone(),
                state_key: None,
                content: blank.content().to_owned(),
                redacts: Some(message.event_id().clone()),
                prev_events: Vec::new(),
                auth_events: blank.auth_events().to_vec(),
                depth: blank.depth(),
                origin_server_ts: UnixMillis(1),
                event_id: (number < 3).then(|| format!("$r:{}", blank.sender().server_name()).try_into().unwrap()),
                reference_hashes: blank.auth_events().iter().map(|id| (id.clone(), "H".to_owned())).collect(),
            };
            let key = key_of(blank.sender().server_name().as_str());
            let redaction = CheckedPdu::build(draft, &room.rules, &key).unwrap().into_pdu();
            let judged = authorize_with_state(&room.rules, &redaction, room.at(&room.state));
            assert_eq!(judged.is_ok(), allowed, "{number} {sender}");
        }
    }
}
