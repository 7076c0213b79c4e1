//! Push rules as a whole.

use super::*;
use crate::{Pdu, room_rules};
use ruma::{RoomVersionId, owned_event_id, user_id};

fn me() -> &'static UserId {
    user_id!("@me:a.example")
}

fn pdu(event: &Value) -> Pdu {
    let mut json = json!({
        "type": "m.room.message", "sender": "@other:a.example", "room_id": "!r:a.example", "content": {},
        "depth": 1, "origin_server_ts": 1,
    });
    let (Value::Object(fields), Value::Object(given)) = (&mut json, event.clone()) else { unreachable!() };
    fields.extend(given);
    let rules = room_rules(&RoomVersionId::V11).unwrap();
    Pdu::parse_stored(owned_event_id!("$e"), json.to_string(), &rules, false).unwrap()
}

/// What rules make of an event in a room of three in which the user is called Ada, and only the admin may notify
/// the room.
fn judged(rules: &Ruleset, event: &Value) -> (bool, bool) {
    judged_among(rules, event, 3)
}

fn judged_among(rules: &Ruleset, event: &Value, member_count: u64) -> (bool, bool) {
    let pdu = pdu(event);
    let around = Surroundings {
        user: me(),
        member_count,
        display_name: &|| Some("Ada".to_owned()),
        may_notify: &|sender, name| sender == "@admin:a.example" && name == "room",
        thread_subscribed: &|| {
            let relation = &event["content"]["m.relates_to"];
            (relation["rel_type"] == "m.thread").then(|| relation["event_id"] == "$subscribed")
        },
    };
    let compiled = rules.compile(me());
    let subject = Subject::new(&pdu);
    let outcome = compiled.judge(&subject, &around).cloned().unwrap_or_default();
    let found = (outcome.notify, outcome.notify && outcome.highlight);
    if let Some(notifies) = compiled.by_digest(Digest::of(&pdu)).filter(|_| pdu.sender() != me()) {
        assert_eq!(found, (notifies, false), "the digest of {event}");
    }
    found
}

fn message(content: &Value) -> Value {
    json!({"content": content})
}

fn predefined() -> Ruleset {
    Ruleset::predefined(me(), Predefined::default())
}

fn ids(rules: &Ruleset, kind: Kind) -> Vec<&str> {
    rules.list(kind).iter().map(|rule| rule.rule_id.as_str()).filter(|id| !id.starts_with('.')).collect()
}

fn rule(actions: Value) -> NewRule {
    NewRule { actions: serde_json::from_value(actions).unwrap(), ..NewRule::default() }
}

fn conditional(conditions: Value) -> NewRule {
    let actions = vec![json!("notify"), json!({"set_tweak": "highlight"})];
    NewRule { actions, conditions: Some(serde_json::from_value(conditions).unwrap()), pattern: None }
}

fn nowhere() -> Place {
    Place::default()
}

#[test]
fn the_predefined_rules_notify_of_what_the_specification_says() {
    let state = |kind: &str, key: &str, content: Value| json!({"type": kind, "state_key": key, "content": content});
    for (event, expected) in [
        (message(&json!({"body": "hi", "msgtype": "m.text"})), (true, false)),
        (message(&json!({"body": "hi", "msgtype": "m.text", "m.mentions": {}})), (true, false)),
        (message(&json!({"body": "hi", "msgtype": "m.notice"})), (false, false)),
        (message(&json!({"body": "hi", "m.mentions": {"user_ids": ["@me:a.example"]}})), (true, true)),
        (message(&json!({"body": "hi", "m.mentions": {"user_ids": ["@you:a.example"]}})), (true, false)),
        (message(&json!({"body": "@me:a.example me Ada @room"})), (true, false)),
        (message(&json!({"m.mentions": {"room": true}})), (true, false)),
        (json!({"sender": "@admin:a.example", "content": {"m.mentions": {"room": true}}}), (true, true)),
        (message(&json!({"m.relates_to": {"rel_type": "m.replace", "event_id": "$x"}})), (false, false)),
        (message(&json!({"m.relates_to": {"rel_type": "m.thread", "event_id": "$x"}})), (true, false)),
        (json!({"type": "m.room.encrypted"}), (true, false)),
        (json!({"type": "m.reaction"}), (false, false)),
        (json!({"type": "m.call.invite"}), (true, false)),
        (json!({"type": "org.matrix.msc3381.poll.start"}), (true, false)),
        (json!({"type": "org.matrix.msc3381.poll.response"}), (false, false)),
        (json!({"type": "com.example.custom"}), (false, false)),
        (json!({"sender": "@me:a.example", "content": {"body": "hi"}}), (false, false)),
        (state("m.room.topic", "", json!({"topic": "x"})), (false, false)),
        (state("m.room.tombstone", "", json!({})), (true, true)),
        (state("m.room.tombstone", "x", json!({})), (false, false)),
        (state("m.room.server_acl", "", json!({})), (false, false)),
        (state("m.room.member", "@me:a.example", json!({"membership": "invite"})), (true, false)),
        (state("m.room.member", "@you:a.example", json!({"membership": "invite"})), (false, false)),
    ] {
        assert_eq!(judged(&predefined(), &event), expected, "{event}");
    }
}

#[test]
fn a_room_of_two_sounds_and_others_do_not() {
    let actions = |member_count| {
        let pdu = pdu(&message(&json!({"body": "hi"})));
        let around = Surroundings {
            user: me(),
            member_count,
            display_name: &|| None,
            may_notify: &|_, _| false,
            thread_subscribed: &|| None,
        };
        let rules = predefined().compile(me());
        rules.judge(&Subject::new(&pdu), &around).unwrap().actions.clone()
    };
    assert_eq!(actions(2), [json!("notify"), json!({"set_tweak": "sound", "value": "default"})]);
    assert_eq!(actions(3), [json!("notify")]);
}

#[test]
fn the_predefined_rules_serve_all_users_alike() {
    let (mine, others) = (predefined(), Ruleset::predefined(user_id!("@x:b.example"), Predefined::default()));
    assert_eq!(format!("{:?}", mine.compile(me())), format!("{:?}", others.compile(user_id!("@x:b.example"))));
}

#[test]
fn rules_about_names_in_texts_leave_those_alone_that_mention() {
    let rules = Ruleset::predefined(me(), Predefined { text_mentions: true, ..Predefined::default() });
    for (body, expected) in [("Me!", true), ("ada, come", true), ("adage", false), ("@room", false), ("hi", false)] {
        assert_eq!(judged(&rules, &message(&json!({"body": body}))), (true, expected), "{body}");
        assert_eq!(judged(&rules, &message(&json!({"body": body, "m.mentions": {}}))), (true, false), "{body}");
    }
    let room = json!({"sender": "@admin:a.example", "content": {"body": "hello @room"}});
    assert_eq!(judged(&rules, &room), (true, true));
}

#[test]
fn threads_notify_those_who_have_subscribed_to_them() {
    let rules = Ruleset::predefined(me(), Predefined { threads: true, ..Predefined::default() });
    let said = |root: &str, mentions: Value| {
        let relation = json!({"rel_type": "m.thread", "event_id": root});
        message(&json!({"body": "x", "m.relates_to": relation, "m.mentions": mentions}))
    };
    let mention = json!({"user_ids": [me()]});
    for (root, mentions, expected) in [
        ("$subscribed", json!({}), (true, false)),
        ("$other", json!({}), (false, false)),
        ("$other", mention, (true, true)),
    ] {
        assert_eq!(judged(&rules, &said(root, mentions.clone())), expected, "{root}");
        assert!(judged(&predefined(), &said(root, mentions)).0, "{root}");
    }
    assert_eq!(judged(&rules, &message(&json!({"body": "x"}))), (true, false));
    let relation = json!({"rel_type": "m.thread", "event_id": "$subscribed"});
    assert_eq!(judged(&rules, &json!({"type": "m.sticker", "content": {"m.relates_to": relation}})), (true, false));

    let mut muted = rules.clone();
    let everything = NewRule { conditions: Some(vec![]), ..NewRule::default() };
    let refused = muted.put(Kind::PostContent, "mine", everything, &Place::default());
    assert!(matches!(refused, Err(EditError::BadId(_))));
    let mute = NewRule::default();
    muted.put(Kind::Room, "!r:a.example", mute, &Place::default()).unwrap();
    assert!(judged(&muted, &said("$subscribed", json!({}))).0);
    muted.set_enabled(Kind::PostContent, ".io.element.msc4306.rule.subscribed_thread", false).unwrap();
    assert!(!judged(&muted, &said("$subscribed", json!({}))).0);
    assert!(muted.content().contains("\"postcontent\"") && !predefined().content().contains("\"postcontent\""));
}

#[test]
fn conditions_hold_as_the_specification_says() {
    let event = json!({"content": {
        "body": "Sea cake", "n": 7, "yes": true, "none": null, "m.federate": true, "a.b\\c": "x",
        "list": ["#x:a.example", 3, null, {"y": 1}], "half": 0.5,
    }});
    for (condition, expected) in [
        (json!({"kind": "event_match", "key": "content.body", "pattern": "CAKE"}), true),
        (json!({"kind": "event_match", "key": "content.n", "pattern": "*"}), false),
        (json!({"kind": "event_match", "key": "content.absent", "pattern": "*"}), false),
        (json!({"kind": "event_match", "key": "room_id", "pattern": "!R:*"}), true),
        (json!({"kind": "event_match", "key": "state_key", "pattern": "*"}), false),
        (json!({"kind": "event_match", "key": "content.body"}), false),
        (json!({"kind": "event_property_is", "key": "content.n", "value": 7}), true),
        (json!({"kind": "event_property_is", "key": "content.n", "value": "7"}), false),
        (json!({"kind": "event_property_is", "key": "content.none", "value": null}), true),
        (json!({"kind": "event_property_is", "key": "content.absent", "value": null}), false),
        (json!({"kind": "event_property_is", "key": "content.m\\.federate", "value": true}), true),
        (json!({"kind": "event_property_is", "key": "content.m.federate", "value": true}), false),
        (json!({"kind": "event_property_is", "key": "content.a\\.b\\\\c", "value": "x"}), true),
        (json!({"kind": "event_property_is", "key": "content.half", "value": 0.5}), false),
        (json!({"kind": "event_property_contains", "key": "content.list", "value": "#x:a.example"}), true),
        (json!({"kind": "event_property_contains", "key": "content.list", "value": 3}), true),
        (json!({"kind": "event_property_contains", "key": "content.list", "value": {"y": 1}}), false),
        (json!({"kind": "event_property_contains", "key": "content.body", "value": "cake"}), false),
        (json!({"kind": "room_member_count", "is": "3"}), true),
        (json!({"kind": "room_member_count", "is": "==3"}), true),
        (json!({"kind": "room_member_count", "is": "<3"}), false),
        (json!({"kind": "room_member_count", "is": "<=3"}), true),
        (json!({"kind": "room_member_count", "is": ">2"}), true),
        (json!({"kind": "room_member_count", "is": ">=4"}), false),
        (json!({"kind": "room_member_count", "is": "+3"}), false),
        (json!({"kind": "sender_notification_permission", "key": "room"}), false),
        (json!({"kind": "contains_display_name"}), false),
        (json!({"kind": "com.example.unknown"}), false),
        (json!({}), false),
    ] {
        let mut rules = predefined();
        if condition.get("kind").is_none() {
            let refused = rules.put(Kind::Override, "x", conditional(json!([condition])), &nowhere());
            assert!(matches!(refused, Err(EditError::BadRule(_))));
            continue;
        }
        rules.put(Kind::Override, "x", conditional(json!([condition])), &nowhere()).unwrap();
        assert_eq!(judged(&rules, &event), (true, expected), "{condition}");
    }
}

#[test]
fn kinds_are_looked_at_in_their_order_and_own_rules_before_predefined_ones() {
    let mut rules = predefined();
    let event = message(&json!({"body": "tea"}));
    rules.put(Kind::Sender, "@other:a.example", rule(json!([])), &nowhere()).unwrap();
    assert_eq!(judged(&rules, &event), (false, false));
    rules.put(Kind::Room, "!r:a.example", rule(json!(["notify"])), &nowhere()).unwrap();
    assert_eq!(judged(&rules, &event), (true, false));
    let tea = NewRule { pattern: Some("tea".to_owned()), ..conditional(json!([])) };
    rules.put(Kind::Content, "tea", tea, &nowhere()).unwrap();
    assert_eq!(judged(&rules, &event), (true, true));
    rules.put(Kind::Override, "none", rule(json!(["dont_notify"])), &nowhere()).unwrap();
    assert_eq!(judged(&rules, &event), (false, false));
    rules.set_enabled(Kind::Override, "none", false).unwrap();
    assert_eq!(judged(&rules, &event), (true, true));
    rules.set_enabled(Kind::Override, ".m.rule.master", true).unwrap();
    assert_eq!(judged(&rules, &event), (false, false));
}

#[test]
fn a_highlight_can_be_taken_back() {
    let mut rules = predefined();
    for (value, expected) in [(json!(true), true), (json!(false), false), (json!("x"), false)] {
        let actions = vec![json!("notify"), json!({"set_tweak": "highlight", "value": value})];
        rules.set_actions(Kind::Underride, ".m.rule.message", actions).unwrap();
        assert_eq!(judged(&rules, &message(&json!({"body": "x"}))), (true, expected), "{value}");
    }
}

#[test]
fn rules_stand_where_they_were_put() {
    let mut rules = predefined();
    let put = |rules: &mut Ruleset, id: &str, before: Option<&str>, after: Option<&str>| {
        let place = Place { before: before.map(Into::into), after: after.map(Into::into) };
        rules.put(Kind::Override, id, conditional(json!([])), &place)
    };
    put(&mut rules, "a", None, None).unwrap();
    put(&mut rules, "b", None, None).unwrap();
    assert_eq!(ids(&rules, Kind::Override), ["b", "a"]);
    assert_eq!(rules.list(Kind::Override)[0].rule_id, ".m.rule.master");
    put(&mut rules, "c", Some("a"), None).unwrap();
    put(&mut rules, "d", None, Some("b")).unwrap();
    assert_eq!(ids(&rules, Kind::Override), ["b", "d", "c", "a"]);
    put(&mut rules, "a", Some("b"), Some("d")).unwrap();
    assert_eq!(ids(&rules, Kind::Override), ["a", "b", "d", "c"]);
    put(&mut rules, "a", None, None).unwrap();
    put(&mut rules, "c", None, Some("c")).unwrap();
    assert_eq!(ids(&rules, Kind::Override), ["a", "b", "d", "c"]);
    for neighbour in ["x", ".m.rule.member_event"] {
        let refused = put(&mut rules, "e", Some(neighbour), None);
        assert_eq!(refused, Err(EditError::NoSuchNeighbour(neighbour.to_owned())));
    }
}

#[test]
fn what_is_no_rule_is_refused() {
    let mut rules = predefined();
    let mut put = |kind, id: &str, rule| rules.put(kind, id, rule, &nowhere());
    let plain = || rule(json!(["notify"]));
    let long = "x".repeat(300);
    for id in ["", ".x", "a/b", "a\\b", &long] {
        assert!(matches!(put(Kind::Override, id, plain()), Err(EditError::BadId(_))), "{id}");
    }
    assert!(matches!(put(Kind::Room, "x", plain()), Err(EditError::BadId(_))));
    assert!(matches!(put(Kind::Sender, "x", plain()), Err(EditError::BadId(_))));
    assert!(matches!(put(Kind::Content, "x", plain()), Err(EditError::BadRule(_))));
    assert!(matches!(put(Kind::Override, "x", rule(json!([7]))), Err(EditError::BadRule(_))));
    assert!(matches!(put(Kind::Override, "x", rule(json!([{"set_tweak": 7}]))), Err(EditError::BadRule(_))));
    let many = rule(json!(vec!["notify"; ACTIONS_MAX + 1]));
    assert!(matches!(put(Kind::Override, "x", many), Err(EditError::TooLarge(_))));
    let many = conditional(json!(vec![json!({"kind": "x"}); CONDITIONS_MAX + 1]));
    assert!(matches!(put(Kind::Override, "x", many), Err(EditError::TooLarge(_))));
    let long = NewRule { pattern: Some("x".repeat(PATTERN_BYTES_MAX + 1)), ..plain() };
    assert!(matches!(put(Kind::Content, "x", long), Err(EditError::TooLarge(_))));
}

#[test]
fn only_rules_that_exist_are_changed_and_predefined_ones_stay() {
    let mut rules = predefined();
    assert_eq!(rules.remove(Kind::Override, ".m.rule.master"), Err(EditError::NotFound));
    assert_eq!(rules.remove(Kind::Override, "x"), Err(EditError::NotFound));
    assert_eq!(rules.set_enabled(Kind::Content, ".m.rule.master", true), Err(EditError::NotFound));
    assert_eq!(rules.set_actions(Kind::Override, "x", Vec::new()), Err(EditError::NotFound));
    rules.put(Kind::Override, "x", rule(json!([])), &nowhere()).unwrap();
    rules.remove(Kind::Override, "x").unwrap();
    assert_eq!(rules, predefined());
}

#[test]
fn the_number_of_own_rules_is_bounded() {
    let mut rules = predefined();
    for n in 0..USER_RULES_MAX {
        rules.put(Kind::Underride, &n.to_string(), rule(json!([])), &nowhere()).unwrap();
    }
    let refused = rules.put(Kind::Content, "x", NewRule { pattern: Some("x".into()), ..rule(json!([])) }, &nowhere());
    assert!(matches!(refused, Err(EditError::TooLarge(_))));
    rules.put(Kind::Underride, "7", rule(json!(["notify"])), &nowhere()).unwrap();
}

#[test]
fn what_is_stored_is_read_back_with_the_predefined_rules_of_today() {
    let mut rules = predefined();
    rules.put(Kind::Override, "a", conditional(json!([{"kind": "x"}])), &nowhere()).unwrap();
    rules.put(Kind::Content, "b", NewRule { pattern: Some("x*".into()), ..rule(json!([])) }, &nowhere()).unwrap();
    rules.put(Kind::Room, "!x:a.example", rule(json!(["notify"])), &nowhere()).unwrap();
    rules.set_enabled(Kind::Override, ".m.rule.reaction", false).unwrap();
    rules.set_actions(Kind::Underride, ".m.rule.message", Vec::new()).unwrap();
    assert_eq!(Ruleset::read(me(), Predefined::default(), Some(&rules.content())), rules);

    let mut old: Value = serde_json::from_str(&rules.content()).unwrap();
    let overrides = old["global"]["override"].as_array_mut().unwrap();
    overrides.retain(|rule| rule["rule_id"] != ".m.rule.tombstone");
    overrides.push(json!({"rule_id": ".m.rule.gone", "enabled": true, "actions": [], "conditions": []}));
    overrides.push(json!("no rule"));
    assert_eq!(Ruleset::read(me(), Predefined::default(), Some(&old.to_string())), rules);
    for nothing in [None, Some(""), Some("[]"), Some("{\"global\":7}")] {
        assert_eq!(Ruleset::read(me(), Predefined::default(), nothing), predefined());
    }
}

#[test]
fn a_digest_reads_what_is_escaped() {
    let digest = |content: &str| {
        let json = format!(
            "{{\"type\":\"m.room.message\",\"sender\":\"@o:a.example\",\"room_id\":\"!r:a.example\",\
             \"content\":{content},\"depth\":1,\"origin_server_ts\":1}}"
        );
        let rules = room_rules(&RoomVersionId::V11).unwrap();
        Digest::of(&Pdu::parse_stored(owned_event_id!("$e"), json, &rules, false).unwrap())
    };
    assert_eq!(digest(r#"{"\u006d.mentions":{"room":true}}"#), Digest::Special);
    assert_eq!(digest(r#"{"msgtype":"\u006d.notice"}"#), Digest::Special);
    assert_eq!(digest(r#"{"body":"\u0041"}"#), Digest::Plain);
    assert_eq!(digest(r#"{"m.mentions":{"user_ids":7}}"#), Digest::Special);
}
