use super::*;
use crate::testing::{ALICE, BOB, Room, key_of, keys, rules};
use crate::{client_event, redaction};
use proptest::prelude::*;
use serde_json::{Value, json};

fn message(number: u8) -> (RoomVersionRules, Value) {
    let mut room = Room::new(number);
    let pdu = room.draft(ALICE, "m.room.message", None, json!({"body": "B"}));
    (rules(number), serde_json::from_str(pdu.json()).unwrap())
}

fn check_value(json: &Value, rules: &RoomVersionRules) -> Checked {
    check(&json.to_string(), rules, &keys())
}

/// Hashes and signs what a test has changed, as its sender's server would.
fn signed_again(json: &Value, rules: &RoomVersionRules) -> String {
    let mut object = Object::parse(&json.to_string(), Numbers::Any).unwrap();
    let hash = Base64::<Standard>::new(object.content_hash().unwrap()).encode();
    object.map.insert("hashes".to_owned(), serde_json::from_value(json!({"sha256": hash})).unwrap());
    let text = object.signed_text(&rules.redaction).unwrap();
    let signatures = json!({"a.example": {"ed25519:1": key_of("a.example").sign(text.as_bytes()).base64()}});
    object.map.insert("signatures".to_owned(), serde_json::from_value(signatures).unwrap());
    object.text().unwrap()
}

fn dropped(checked: Checked) -> DropReason {
    match checked {
        Checked::Drop(reason) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_as_it_was_signed_is_whole_however_it_is_written() {
    for number in 1..=12 {
        let (rules, json) = message(number);
        let pretty = serde_json::to_string_pretty(&json).unwrap();
        let Checked::Whole(pdu) = check(&pretty, &rules, &keys()) else { panic!("{number}") };
        assert_eq!(serde_json::from_str::<Value>(pdu.json()).unwrap(), json);
        assert!(!pdu.json().contains('\n'));
    }
}

#[test]
fn what_others_wrote_into_unsigned_is_forgotten() {
    let (rules, mut json) = message(11);
    json["unsigned"] = json!({"age": 5, "redacted_because": {}});
    let Checked::Whole(pdu) = check_value(&json, &rules) else { panic!() };
    assert!(!pdu.json().contains("unsigned"));
}

#[test]
fn a_changed_content_leaves_what_a_redaction_leaves() {
    for number in 1..=12 {
        let (rules, mut json) = message(number);
        let Checked::Whole(whole) = check_value(&json, &rules) else { panic!() };
        json["content"]["body"] = json!("changed");
        let Checked::Redacted(pdu) = check_value(&json, &rules) else { panic!("{number}") };
        assert_eq!(pdu.content().get(), "{}");
        assert_eq!(pdu.event_id(), whole.event_id());
        assert_eq!(pdu.json(), redaction::redact(&whole, &rules).unwrap().json());
    }
}

#[test]
fn a_changed_protected_field_breaks_the_signature() {
    for number in 1..=12 {
        for (field, value) in [("depth", json!(8)), ("sender", json!("@eve:a.example")), ("type", json!("X"))] {
            let (rules, mut json) = message(number);
            json[field] = value;
            let reason = dropped(check_value(&json, &rules));
            assert_eq!(reason, DropReason::BadSignature("a.example".try_into().unwrap()), "{number} {field}");
        }
    }
}

#[test]
fn a_server_whose_key_is_unknown_is_named() {
    let (rules, json) = message(11);
    let server = OwnedServerName::try_from("a.example").unwrap();
    for keys in [PublicKeyMap::new(), key_of("b.example").public_key_map()] {
        assert_eq!(dropped(check(&json.to_string(), &rules, &keys)), DropReason::NoSignature(server.clone()));
    }
    let unverified = Unverified::read(&json.to_string(), &rules).unwrap();
    assert_eq!(unverified.required_signers().iter().collect::<Vec<_>>(), [&server]);
    assert_eq!(unverified.key_ids("a.example").collect::<Vec<_>>(), ["ed25519:1"]);
    assert_eq!(unverified.key_ids("b.example").count(), 0);
    assert_eq!(unverified.origin_server_ts().0, 1_003);
}

#[test]
fn signatures_of_other_algorithms_do_not_count() {
    let (rules, mut json) = message(11);
    let signature = json["signatures"]["a.example"]["ed25519:1"].take();
    json["signatures"]["a.example"] = json!({"rsa:1": signature});
    assert!(matches!(dropped(check_value(&json, &rules)), DropReason::NoSignature(_)));
}

#[expect(clippy::needless_pass_by_value, reason = "the tests read better with literals")]
fn signers(number: u8, change: Value) -> Result<Vec<String>, DropReason> {
    let (rules, mut json) = message(number);
    for (field, value) in change.as_object().unwrap() {
        json[field] = value.clone();
    }
    let unverified = Unverified::read(&json.to_string(), &rules)?;
    Ok(unverified.required_signers().iter().map(ToString::to_string).collect())
}

#[test]
fn the_server_of_a_written_event_id_signs() {
    let change = json!({"event_id": "$x:b.example"});
    assert_eq!(signers(2, change.clone()).unwrap(), ["a.example", "b.example"]);
    assert_eq!(signers(3, change).unwrap(), ["a.example"]);
    assert_eq!(signers(1, json!({"event_id": "$x"})).unwrap_err(), DropReason::Format("event_id"));
}

#[test]
fn the_server_that_authorised_a_join_signs() {
    let content = json!({"membership": "join", "join_authorised_via_users_server": BOB});
    let change = json!({"type": "m.room.member", "state_key": ALICE, "content": content});
    assert_eq!(signers(7, change.clone()).unwrap(), ["a.example"]);
    assert_eq!(signers(8, change).unwrap(), ["a.example", "b.example"]);
    // In an event of another type the field means nothing.
    assert_eq!(signers(8, json!({"content": {"join_authorised_via_users_server": BOB}})).unwrap(), ["a.example"]);
    let bad = json!({"membership": "join", "join_authorised_via_users_server": 7});
    assert!(signers(8, json!({"type": "m.room.member", "state_key": ALICE, "content": bad})).is_err());
}

#[test]
fn a_third_party_invitation_is_not_signed_by_its_sender() {
    let content = json!({"membership": "invite", "third_party_invite": {"signed": {}}});
    let change = json!({"type": "m.room.member", "state_key": BOB, "content": content});
    assert!(signers(11, change.clone()).unwrap().is_empty());
    assert_eq!(signers(1, change).unwrap(), ["a.example"], "for the event id");
    let content = json!({"membership": "join", "third_party_invite": {"signed": {}}});
    let change = json!({"type": "m.room.member", "state_key": BOB, "content": content});
    assert_eq!(signers(11, change).unwrap(), ["a.example"]);
}

#[test]
fn a_field_of_another_form_drops_the_event() {
    let long = "x".repeat(256);
    for (field, value) in [
        ("type", json!(7)),
        ("type", json!(long)),
        ("sender", json!("alice")),
        ("sender", json!(format!("@{long}:a.example"))),
        ("room_id", json!("room")),
        ("room_id", json!(null)),
        ("state_key", json!(null)),
        ("state_key", json!(7)),
        ("state_key", json!(long)),
        ("prev_events", json!({})),
        ("prev_events", json!(vec!["$p"; 21])),
        ("prev_events", json!([7])),
        ("auth_events", json!(vec!["$p"; 11])),
        ("auth_events", json!([["$p", {"sha256": "P"}]])),
        ("content", json!([])),
        ("content", json!("text")),
        ("hashes", json!(null)),
        ("signatures", json!([])),
    ] {
        let (rules, mut json) = message(11);
        json[field] = value.clone();
        assert_eq!(dropped(check_value(&json, &rules)), DropReason::Format(field), "{field} {value}");
        json.as_object_mut().unwrap().remove(field);
        assert_eq!(check_is_drop(&json, &rules), field != "state_key", "without {field}");
    }
    for (field, value) in [("depth", json!(-1)), ("depth", json!("1")), ("origin_server_ts", json!(-1))] {
        let (rules, mut json) = message(11);
        json[field] = value;
        assert!(matches!(dropped(check_value(&json, &rules)), DropReason::Json(_)), "{field}");
    }
    let (rules, mut json) = message(1);
    json["prev_events"] = json!(["$p:a.example"]);
    assert_eq!(dropped(check_value(&json, &rules)), DropReason::Format("prev_events"));
}

fn check_is_drop(json: &Value, rules: &RoomVersionRules) -> bool {
    matches!(check_value(json, rules), Checked::Drop(_))
}

#[test]
fn an_event_of_65536_bytes_passes_and_of_one_more_does_not() {
    let (rules, mut json) = message(11);
    json["content"] = json!({"body": ""});
    let room = PDU_BYTES_MAX - signed_again(&json, &rules).len();
    json["content"]["body"] = json!("x".repeat(room));
    let largest = signed_again(&json, &rules);
    assert_eq!(largest.len(), PDU_BYTES_MAX);
    assert!(matches!(check(&largest, &rules, &keys()), Checked::Whole(_)));
    json["content"]["body"] = json!("x".repeat(room + 1));
    assert_eq!(dropped(check(&signed_again(&json, &rules), &rules, &keys())), DropReason::TooLarge);
    assert_eq!(dropped(check(&" ".repeat(RAW_BYTES_MAX + 1), &rules, &keys())), DropReason::TooLarge);
}

#[test]
fn other_numbers_are_borne_in_rooms_before_version_6_only() {
    for number in 1..=12 {
        let (rules, mut json) = message(number);
        json["content"] = json!({"fraction": 50.57, "large": u64::MAX});
        let text = signed_again(&json, &rules);
        let checked = check(&text, &rules, &keys());
        if number < 6 {
            let Checked::Whole(pdu) = checked else { panic!("{number}: {checked:?}") };
            assert_eq!(pdu.content().get(), r#"{"fraction":50.57,"large":18446744073709551615}"#);
            assert_eq!(redaction::redact(&pdu, &rules).unwrap().content().get(), "{}");
            let changed = text.replace("50.57", "50.58");
            assert!(matches!(check(&changed, &rules, &keys()), Checked::Redacted(_)));
        } else {
            assert!(matches!(dropped(checked), DropReason::Json(_)), "{number}");
        }
    }
}

#[test]
fn old_rooms_may_be_very_deep() {
    let deepest = u64::try_from(i64::MAX).unwrap();
    let (rules, mut json) = message(5);
    json["depth"] = json!(deepest);
    let Checked::Whole(pdu) = check(&signed_again(&json, &rules), &rules, &keys()) else { panic!() };
    assert_eq!(pdu.depth(), deepest);
}

/// JSON of any shape, often with the fields of an event.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        prop_oneof![
            Just("m.room.member"),
            Just("m.room.power_levels"),
            Just("m.room.redaction"),
            Just("m.room.create"),
            Just("invite"),
            Just("join"),
            Just(ALICE),
            Just(BOB),
            Just("!r:a.example"),
            Just("$x:a.example"),
        ]
        .prop_map(Value::from),
    ];
    let names = prop_oneof![
        Just("type"),
        Just("sender"),
        Just("room_id"),
        Just("content"),
        Just("state_key"),
        Just("redacts"),
        Just("prev_events"),
        Just("auth_events"),
        Just("depth"),
        Just("origin_server_ts"),
        Just("hashes"),
        Just("signatures"),
        Just("membership"),
        Just("third_party_invite"),
        Just("signed"),
        Just("event_id"),
        Just("users"),
        Just("events"),
        Just("join_authorised_via_users_server"),
        Just("creator"),
        Just("sha256"),
    ];
    leaf.prop_recursive(4, 48, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(names.clone().prop_map(str::to_owned), inner, 0..12)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_json_makes_a_panic(json in any_json(), text in ".{0,100}", number in 1_u8..=12) {
        let rules = rules(number);
        for text in [text, json.to_string()] {
            let _verdict = check(&text, &rules, &keys());
            if let Ok(pdu) = Pdu::parse_stored("$x:a.example".try_into().unwrap(), text, &rules, false) {
                let _event = client_event::client_event(&pdu, client_event::Format::WithRoomId);
                let _stripped = client_event::stripped_state(&pdu);
                let _redacted = redaction::redact(&pdu, &rules);
                let _judged = crate::auth::authorize_with_auth_events(&rules, &pdu, |_| None);
            }
        }
    }

    #[test]
    fn an_event_with_any_field_replaced_makes_no_panic_and_is_never_whole(
        field in prop_oneof![
            Just("type"), Just("sender"), Just("room_id"), Just("content"), Just("state_key"), Just("prev_events"),
            Just("auth_events"), Just("depth"), Just("origin_server_ts"), Just("hashes"), Just("signatures"),
        ],
        value in any_json(),
        number in 1_u8..=12,
    ) {
        let (rules, mut json) = message(number);
        prop_assume!(json.get(field) != Some(&value));
        json[field] = value;
        let checked = check_value(&json, &rules);
        prop_assert!(!matches!(checked, Checked::Whole(_)), "{checked:?}");
        // The same with a right signature: whatever passes can be read by everything that follows. What can't be
        // read, such as an integer beyond 64 bits, can't be signed either; it was dropped above.
        let is_readable = Object::parse(&json.to_string(), Numbers::Any).is_ok();
        if is_readable && json["signatures"].is_object() && json["type"].is_string() && json["content"].is_object() {
            let json = signed_again(&json, &rules);
            if let Checked::Whole(pdu) | Checked::Redacted(pdu) = check(&json, &rules, &keys()) {
                let event = client_event::client_event(&pdu, client_event::Format::WithRoomId);
                prop_assert!(serde_json::from_str::<Value>(&event).is_ok());
                prop_assert!(redaction::redact(&pdu, &rules).is_ok());
                let _judged = crate::auth::authorize_with_auth_events(&rules, &pdu, |_| None);
            }
        }
    }
}
