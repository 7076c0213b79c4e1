use super::*;
use crate::json::Object;
use crate::testing::{ALICE, Room, key_of, rules};
use crate::{Checked, incoming};
use ruma::serde::Base64;
use ruma::{owned_event_id, server_name};
use serde_json::{Value, json};

fn draft(number: u8, content: &str) -> PduDraft {
    let written = number <= 2;
    PduDraft {
        room_id: Some("!r:a.example".try_into().unwrap()),
        sender: ALICE.try_into().unwrap(),
        kind: TimelineEventType::from("m.room.message"),
        state_key: None,
        content: RawValue::from_string(content.to_owned()).unwrap(),
        redacts: None,
        prev_events: vec![owned_event_id!("$p")],
        auth_events: vec![owned_event_id!("$q")],
        depth: 7,
        origin_server_ts: UnixMillis(1_000_000),
        event_id: written.then(|| owned_event_id!("$own:a.example")),
        reference_hashes: [(owned_event_id!("$p"), "P".to_owned()), (owned_event_id!("$q"), "Q".to_owned())].into(),
    }
}

fn built(number: u8, draft: PduDraft) -> Result<Pdu, BuildError> {
    build(draft, &rules(number), &key_of("a.example"))
}

// Appendices, "Event Signing".
#[test]
fn events_are_hashed_and_signed_as_in_the_specification() {
    let seed = Base64::<Standard>::parse("YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1").unwrap();
    let key = SigningKey::from_stored(server_name!("domain").to_owned(), "1", seed.as_bytes()).unwrap();
    for (event, hash, signature) in [
        (
            json!({
                "room_id": "!x:domain", "sender": "@a:domain", "origin": "domain", "origin_server_ts": 1_000_000,
                "signatures": {}, "hashes": {}, "type": "X", "content": {}, "prev_events": [], "auth_events": [],
                "depth": 3, "unsigned": {"age_ts": 1_000_000},
            }),
            "5jM4wQpv6lnBo7CLIghJuHdW+s2CMBJPUOGOC89ncos",
            "KxwGjPSDEtvnFgU00fwFz+l6d2pJM6XBIaMEn81SXPTRl16AqLAYqfIReFGZlHi5KLjAWbOoMszkwsQma+lYAg",
        ),
        (
            json!({
                "content": {"body": "Here is the message content"}, "event_id": "$0:domain", "origin": "domain",
                "origin_server_ts": 1_000_000, "type": "m.room.message", "room_id": "!r:domain",
                "sender": "@u:domain", "signatures": {}, "unsigned": {"age_ts": 1_000_000},
            }),
            "onLKD1bGljeBWQhWZ1kaP9SorVmRQNdN5aM2JYU2n/g",
            "Wm+VzmOUOz08Ds+0NTWb1d4CZrVsJSikkeRxh6aCcUwu6pNC78FunoD7KNWzqFn241eYHYMGCA5McEiVPdhzBA",
        ),
    ] {
        let mut object = Object::parse(&event.to_string(), Numbers::Canonical).unwrap();
        hash_and_sign(&mut object, &rules(1), &key).unwrap();
        let signed: Value = serde_json::from_str(&object.text().unwrap()).unwrap();
        assert_eq!(signed["hashes"]["sha256"], hash);
        assert_eq!(signed["signatures"]["domain"]["ed25519:1"], signature);
        assert_eq!(signed["unsigned"], event["unsigned"]);
    }
}

#[test]
fn the_reference_hash_follows_each_versions_redaction_and_alphabet() {
    // Worked out with a few lines of Python from the specification's text, for an event with every field that
    // some version keeps and another does not.
    let event = json!({
        "type": "m.room.member", "room_id": "!r:a.example", "sender": ALICE, "state_key": ALICE,
        "content": {
            "membership": "join", "displayname": "Älice", "join_authorised_via_users_server": "@bob:b.example",
            "third_party_invite": {"display_name": "A", "signed": {"mxid": "@a:a.example", "token": "T"}},
        },
        "origin": "a.example", "origin_server_ts": 1_000_000, "depth": 7, "prev_events": ["$p"],
        "auth_events": ["$q"], "membership": "join", "prev_state": [], "org.example.extra": 1,
        "hashes": {"sha256": "O9NqJjg1LkPhr/Ahc0p/GcpGywnRWQUVQq0VzBBQm2I"},
        "signatures": {"a.example": {"ed25519:1": "x"}}, "unsigned": {"age": 5},
    });
    let object = Object::parse(&event.to_string(), Numbers::Canonical).unwrap();
    assert_eq!(Base64::<Standard>::new(object.content_hash().unwrap()).encode(), event["hashes"]["sha256"]);
    for number in 1..=12 {
        let expected = match number {
            1..=3 => "VkWjKLp4jToZzWOMWq5omRmcAXOxt+8LTTa1ShAPJ8U",
            4..=8 => "VkWjKLp4jToZzWOMWq5omRmcAXOxt-8LTTa1ShAPJ8U",
            9..=10 => "eEhNcP8lyDdXzgruLdFzzPkehOm-oVCwljvasYlsMBU",
            _ => "r9zpdMtB5Djm2DebtQIuVUd3acd7VtKjEXrAQhPQsac",
        };
        assert_eq!(object.reference_hash(&rules(number)).unwrap(), expected, "{number}");
    }
}

#[test]
fn an_invite_field_that_is_no_object_is_redacted_away() {
    let event = |content: Value| {
        let event = json!({"type": "m.room.member", "content": content});
        Object::parse(&event.to_string(), Numbers::Canonical).unwrap().reference_hash(&rules(11)).unwrap()
    };
    let plain = event(json!({"membership": "join"}));
    for odd in [json!("S"), json!(["S"]), json!(null)] {
        assert_eq!(event(json!({"membership": "join", "third_party_invite": odd})), plain);
    }
    assert_ne!(event(json!({"membership": "join", "third_party_invite": {}})), plain);
}

#[test]
fn what_is_built_passes_the_check_of_other_servers() {
    for number in 1..=12 {
        let pdu = built(number, draft(number, r#"{"b":[1,{}],"a":"ä\u0000"}"#)).unwrap();
        let checked = incoming::check(pdu.json(), &rules(number), &key_of("a.example").public_key_map());
        let Checked::Whole(checked) = checked else { panic!("{number}: {checked:?}") };
        assert_eq!(checked.event_id(), pdu.event_id());
        assert_eq!(checked.json(), pdu.json());
        assert_eq!(checked.depth(), 7);
        assert_eq!(checked.prev_events(), ["$p"]);
        assert_eq!(checked.auth_events(), ["$q"]);
    }
}

#[test]
fn an_event_has_the_fields_of_its_room_version_and_no_others() {
    for number in 1..=12 {
        let pdu = built(number, draft(number, "{}")).unwrap();
        let json: Value = serde_json::from_str(pdu.json()).unwrap();
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
            "type",
        ];
        if number <= 2 {
            expected.insert(3, "event_id");
            assert_eq!(json["prev_events"], json!([["$p", {"sha256": "P"}]]));
        } else {
            assert_eq!(json["prev_events"], json!(["$p"]));
        }
        assert_eq!(json.as_object().unwrap().keys().collect::<Vec<_>>(), expected, "{number}");
    }
}

#[test]
fn event_ids_have_the_format_of_their_version() {
    let id = |number| built(number, draft(number, "{}")).unwrap().event_id().as_str().to_owned();
    assert_eq!(id(1), "$own:a.example");
    assert_eq!(id(2), "$own:a.example");
    for number in 3..=12 {
        assert_eq!(id(number).len(), 44, "{number}");
    }
    let url_safe = |number| {
        (0..40).all(|depth| {
            let pdu = built(number, PduDraft { depth, ..draft(number, "{}") }).unwrap();
            !pdu.event_id().as_str().contains(['+', '/'])
        })
    };
    assert!(!url_safe(3));
    assert!((4..=12).all(url_safe));
}

#[test]
fn a_redaction_names_its_target_where_the_version_has_it() {
    for number in 1..=12 {
        let draft = PduDraft {
            kind: TimelineEventType::RoomRedaction,
            redacts: Some(owned_event_id!("$target")),
            ..draft(number, "{}")
        };
        let pdu = built(number, draft).unwrap();
        let json: Value = serde_json::from_str(pdu.json()).unwrap();
        let (top, content) = (json.get("redacts").is_some(), json["content"].get("redacts").is_some());
        assert_eq!((top, content), (number < 11, number >= 11), "{number}");
        assert_eq!(pdu.redacts().unwrap(), "$target");
    }
}

#[test]
fn content_that_is_not_canonical_json_is_bad_in_every_version() {
    for number in 1..=12 {
        for content in ["1", "[]", "null", "\"x\"", r#"{"a":1.5}"#, r#"{"a":9007199254740992}"#, r#"{"a":-0}"#] {
            let result = built(number, draft(number, content));
            assert!(matches!(result, Err(BuildError::BadJson(_))), "{number} {content}");
        }
    }
}

#[test]
fn an_event_of_65536_bytes_is_not_too_large_and_of_one_more_is() {
    for number in [1, 11, 12] {
        let with = |length: usize| built(number, draft(number, &json!({"body": "x".repeat(length)}).to_string()));
        let empty = with(0).unwrap().json().len();
        assert_eq!(with(PDU_BYTES_MAX - empty).unwrap().json().len(), PDU_BYTES_MAX);
        let error = with(PDU_BYTES_MAX - empty + 1).unwrap_err();
        assert!(matches!(error, BuildError::TooLarge(65_537)), "{error}");
    }
}

#[test]
fn fields_have_at_most_255_bytes() {
    let long = "ä".repeat(128);
    let state_key = PduDraft { state_key: Some(long.clone()), ..draft(11, "{}") };
    assert!(matches!(built(11, state_key), Err(BuildError::FieldTooLarge("state_key"))));
    let kind = PduDraft { kind: TimelineEventType::from(long.as_str()), ..draft(11, "{}") };
    assert!(matches!(built(11, kind), Err(BuildError::FieldTooLarge("type"))));
    let longest = PduDraft { state_key: Some("k".repeat(255)), ..draft(11, "{}") };
    assert!(built(11, longest).is_ok());
}

#[test]
fn references_are_bounded() {
    let many = |n: usize| (0..n).map(|i| OwnedEventId::try_from(format!("$e{i}")).unwrap()).collect();
    assert!(built(11, PduDraft { prev_events: many(20), auth_events: many(10), ..draft(11, "{}") }).is_ok());
    let prev = built(11, PduDraft { prev_events: many(21), ..draft(11, "{}") });
    assert!(matches!(prev, Err(BuildError::TooManyReferences("prev_events"))));
    let auth = built(11, PduDraft { auth_events: many(11), ..draft(11, "{}") });
    assert!(matches!(auth, Err(BuildError::TooManyReferences("auth_events"))));
}

#[test]
fn ids_are_given_where_they_do_not_follow_from_the_event() {
    assert!(matches!(built(1, PduDraft { event_id: None, ..draft(1, "{}") }), Err(BuildError::EventId)));
    let given = PduDraft { event_id: Some(owned_event_id!("$x:a.example")), ..draft(3, "{}") };
    assert!(matches!(built(3, given), Err(BuildError::EventId)));
    let unhashed = PduDraft { reference_hashes: BTreeMap::new(), ..draft(2, "{}") };
    assert!(matches!(built(2, unhashed), Err(BuildError::ReferenceHash(id)) if id == "$p"));
    assert!(matches!(built(12, PduDraft { room_id: None, ..draft(12, "{}") }), Err(BuildError::RoomId)));
    let create = PduDraft { kind: TimelineEventType::RoomCreate, ..draft(12, "{}") };
    assert!(matches!(built(12, create), Err(BuildError::RoomId)));
}

#[test]
fn the_room_id_of_version_12_is_the_creations_hash() {
    let room = Room::new(12);
    let room_id = room.room_id.clone().unwrap();
    let create = crate::pdu::create_event_id(&room_id, &room.rules).unwrap();
    assert_eq!(room.get(&create).unwrap().kind(), &TimelineEventType::RoomCreate);
    assert_eq!(room_id.as_str()[1..], create.as_str()[1..]);
    assert_eq!(crate::pdu::create_event_id(&room_id, &rules(11)), None);
}

#[test]
fn a_depth_beyond_canonical_json_stays_at_the_limit() {
    let pdu = built(11, PduDraft { depth: u64::MAX, ..draft(11, "{}") }).unwrap();
    assert_eq!(pdu.depth(), INTEGER_MAX);
}
