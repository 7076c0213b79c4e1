use super::*;
use crate::testing::{ALICE, BOB, CAROL, Room, rules};
use ruma::owned_event_id;
use serde_json::{Value, json};

/// An event with all of `content`, and what is left of its content.
fn redacted(number: u8, kind: &str, content: &Value) -> Value {
    let event = json!({
        "type": kind, "content": content, "sender": ALICE, "room_id": "!r:a.example", "state_key": "", "depth": 1,
        "origin_server_ts": 1, "prev_events": [], "auth_events": [], "hashes": {}, "signatures": {},
        "origin": "a.example", "membership": "join", "prev_state": [], "redacts": "$x", "extra": 1,
    });
    let rules = rules(number);
    let pdu = Pdu::parse_stored(owned_event_id!("$e"), event.to_string(), &rules, false).unwrap();
    serde_json::from_str(redact(&pdu, &rules).unwrap().json()).unwrap()
}

/// A key of a content, and from which version to before which it is kept.
type Kept = (&'static str, (u8, u8));

fn content_keys(number: u8, kind: &str, content: &Value) -> Vec<String> {
    redacted(number, kind, content)["content"].as_object().unwrap().keys().cloned().collect()
}

#[test]
fn the_top_level_keeps_what_its_version_says() {
    for number in 1..=12 {
        let event = redacted(number, "m.room.message", &json!({"body": "B"}));
        let mut expected = vec![
            "auth_events",
            "content",
            "depth",
            "hashes",
            "origin_server_ts",
            "prev_events",
            "room_id",
            "sender",
            "signatures",
            "state_key",
            "type",
        ];
        if number < 11 {
            expected.extend(["membership", "origin", "prev_state"]);
        }
        expected.sort_unstable();
        assert_eq!(event.as_object().unwrap().keys().collect::<Vec<_>>(), expected, "{number}");
        assert_eq!(event["content"], json!({}));
    }
}

#[test]
fn the_content_keeps_what_its_version_says() {
    // For each type: all keys, and from which version to before which each is kept.
    let always = (1, 13);
    let cases: [(&str, &[Kept]); 8] = [
        ("m.room.member", &[("membership", always), ("join_authorised_via_users_server", (9, 13)), ("x", (0, 0))]),
        ("m.room.create", &[("creator", always), ("room_version", (11, 13)), ("x", (11, 13))]),
        ("m.room.join_rules", &[("join_rule", always), ("allow", (8, 13)), ("x", (0, 0))]),
        (
            "m.room.power_levels",
            &[
                ("ban", always),
                ("events", always),
                ("events_default", always),
                ("kick", always),
                ("redact", always),
                ("state_default", always),
                ("users", always),
                ("users_default", always),
                ("invite", (11, 13)),
                ("notifications", (0, 0)),
            ],
        ),
        ("m.room.aliases", &[("aliases", (1, 6)), ("x", (0, 0))]),
        ("m.room.history_visibility", &[("history_visibility", always), ("x", (0, 0))]),
        ("m.room.redaction", &[("redacts", (11, 13)), ("reason", (0, 0))]),
        ("m.room.name", &[("name", (0, 0))]),
    ];
    for (kind, keys) in cases {
        let content: Value = keys.iter().map(|(key, _)| ((*key).to_owned(), json!({"k": 1}))).collect();
        for number in 1..=12 {
            let mut expected: Vec<_> =
                keys.iter().filter(|(_, (from, to))| (*from..*to).contains(&number)).map(|(key, _)| *key).collect();
            expected.sort_unstable();
            assert_eq!(content_keys(number, kind, &content), expected, "{kind} in {number}");
        }
    }
}

#[test]
fn of_a_third_party_invitation_the_signed_part_is_kept_from_version_11() {
    let content = json!({"membership": "invite", "third_party_invite": {"display_name": "D", "signed": {"a": 1}}});
    assert_eq!(content_keys(10, "m.room.member", &content), ["membership"]);
    let left = redacted(11, "m.room.member", &content);
    let expected = json!({"membership": "invite", "third_party_invite": {"signed": {"a": 1}}});
    assert_eq!(left["content"], expected);
}

#[test]
fn a_redacted_event_is_the_same_event() {
    for number in 1..=12 {
        let room = Room::with_members(number);
        for pdu in room.events.values() {
            let once = redact(pdu, &room.rules).unwrap();
            assert_eq!(redact(&once, &room.rules).unwrap().json(), once.json());
            let reference_hash = |pdu: &Pdu| crate::draft::reference_hash_of(pdu, &room.rules).unwrap();
            assert_eq!(reference_hash(&once), reference_hash(pdu));
        }
    }
}

fn effect(number: u8, redactor: &str, author: &str, change: impl Fn(&mut Value)) -> bool {
    let mut room = Room::with_members(number);
    let target = room.say(author).unwrap();
    let draft = room.draft(redactor, "m.room.redaction", None, json!({}));
    let mut json: Value = serde_json::from_str(draft.json()).unwrap();
    json["redacts"] = json!(target.event_id());
    json["content"]["redacts"] = json!(target.event_id());
    change(&mut json);
    let redaction = Pdu::parse_stored(owned_event_id!("$r:x"), json.to_string(), &room.rules, false).unwrap();
    takes_effect(&redaction, &target, &PowerLevels::of(&room.rules, room.at(&room.state)), &room.rules)
}

#[test]
fn a_redaction_takes_effect_by_level_or_by_server() {
    for number in 3..=12 {
        assert!(effect(number, ALICE, CAROL, |_| ()));
        assert!(effect(number, BOB, CAROL, |_| ()));
        assert!(effect(number, CAROL, CAROL, |_| ()));
        assert!(!effect(number, CAROL, BOB, |_| ()));
        let same_server = |json: &mut Value| json["sender"] = json!("@other:c.example");
        assert!(effect(number, BOB, CAROL, same_server));
    }
}

#[test]
fn a_redaction_takes_effect_only_on_what_it_names() {
    for number in 1..=12 {
        let names_another = |json: &mut Value| {
            json["redacts"] = json!("$another");
            json["content"]["redacts"] = json!("$another");
        };
        assert!(!effect(number, ALICE, CAROL, names_another));
        assert!(!effect(number, ALICE, CAROL, |json| json["room_id"] = json!("!elsewhere:a.example")));
        assert!(!effect(number, ALICE, CAROL, |json| json["type"] = json!("m.room.message")));
    }
}

#[test]
fn in_version_11_only_the_contents_field_counts() {
    let without_top = |json: &mut Value| drop(json.as_object_mut().unwrap().remove("redacts"));
    let without_inner = |json: &mut Value| json["content"] = json!({});
    assert!(effect(11, ALICE, CAROL, without_top) && !effect(11, ALICE, CAROL, without_inner));
    assert!(!effect(10, ALICE, CAROL, without_top) && effect(10, ALICE, CAROL, without_inner));
}

#[test]
fn the_creation_of_a_room_stays_as_it_is() {
    let room = Room::with_members(11);
    let create = room.events.values().find(|pdu| *pdu.kind() == TimelineEventType::RoomCreate).unwrap();
    let json = json!({
        "type": "m.room.redaction", "content": {"redacts": create.event_id()}, "sender": ALICE, "depth": 1,
        "room_id": create.room_id(), "origin_server_ts": 1,
    });
    let redaction = Pdu::parse_stored(owned_event_id!("$r"), json.to_string(), &room.rules, false).unwrap();
    let power = PowerLevels::of(&room.rules, room.at(&room.state));
    assert!(power.can_redact_others(ruma::user_id!("@alice:a.example")));
    assert!(!takes_effect(&redaction, create, &power, &room.rules));
}
