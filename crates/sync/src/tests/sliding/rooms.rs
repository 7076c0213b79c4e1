//! What is told of a room.

use super::*;

#[tokio::test]
async fn a_room_is_told_as_it_is_asked_for() {
    let world = World::new().await;
    let room = world.room_with_bob().await;
    world.set(&room, &alice(), "m.room.name", json!({"name": "N"})).await;
    world.set(&room, &alice(), "m.room.avatar", json!({"url": "mxc://x/a"})).await;
    let said = world.say(&room, &alice(), "1").await;
    world.set(&room, &alice(), "m.room.topic", json!({"topic": "T"})).await;
    let rules = list((0, 0), rule(2, &[("m.room.topic", ""), ("m.room.member", "$ME"), ("m.nothing", "")]));
    let response = world.slide(None, &rules).await;
    let told = of(&response, &room);
    assert_eq!(brief(&told["timeline"]), ["1", "m.room.topic"]);
    assert_eq!(told["timeline"][0]["event_id"], said.as_str());
    let mut state = brief(&told["required_state"]);
    state.sort_unstable();
    assert_eq!(state, ["m.room.member @bob:here.example", "m.room.topic"]);
    let order = world.rooms.reader_by_id(&world.records.view(), &room).unwrap().unwrap();
    let order = order.event_by_id(&said).unwrap().unwrap().order.0;
    for (field, value) in [
        ("name", json!("N")),
        ("avatar", json!("mxc://x/a")),
        ("limited", json!(true)),
        ("joined_count", json!(2)),
        ("invited_count", json!(0)),
        ("bump_stamp", json!(order)),
        ("membership", json!("join")),
        ("lists", json!(["all"])),
        ("num_live", json!(0)),
    ] {
        assert_eq!(told[field], value, "{field}");
    }
    assert!(told.get("heroes").is_none() && told.get("is_dm").is_none());
    assert!(told["prev_batch"].as_str().unwrap().parse::<crate::PageToken>().is_ok());
}

#[tokio::test]
async fn the_forms_differ_in_names_only() {
    let world = World::new().await;
    let room = world.room_with_bob().await;
    let rules = list((0, 9), rule(1, &[]));
    let unstable = |position| SlidingRequest { form: SlidingForm::Unstable, ..sliding(position, &rules) };
    let first = world.slide_with(unstable(None)).await;
    assert!(of(&first, &room).get("membership").is_none() && of(&first, &room).get("lists").is_none());
    let invited = world.room().await;
    world.change(&invited, &alice(), MembershipChange::Invite { user: bob() }).await;
    let second = world.slide_with(unstable(Some(&first))).await;
    assert!(of(&second, &invited)["invite_state"].as_array().unwrap().len() > 1);
    let wider = list((0, 9), rule(5, &[]));
    let third = world.slide_with(SlidingRequest { rules: wider, ..unstable(Some(&second)) }).await;
    assert_eq!(of(&third, &room)["unstable_expanded_timeline"], true);
}

#[tokio::test]
async fn a_room_without_a_name_is_told_by_its_heroes() {
    let world = World::new().await;
    let room = world.room_with_bob().await;
    let rules = list((0, 9), rule(1, &[]));
    let first = world.slide(None, &rules).await;
    assert_eq!(of(&first, &room)["heroes"][0]["user_id"], alice().as_str());
    world.set(&room, &alice(), "m.room.name", json!({"name": "N"})).await;
    let second = world.slide(Some(&first), &rules).await;
    assert_eq!((&of(&second, &room)["name"], of(&second, &room).get("heroes")), (&json!("N"), None));
    world.set(&room, &alice(), "m.room.name", json!({})).await;
    let third = world.slide(Some(&second), &rules).await;
    assert_eq!(of(&third, &room).get("name"), Some(&Value::Null));
    assert_eq!(of(&third, &room)["heroes"][0]["user_id"], alice().as_str());
    world.change(&room, &carol(), MembershipChange::Join).await;
    let fourth = world.slide(Some(&third), &rules).await;
    assert_eq!(of(&fourth, &room)["joined_count"], 3);
    assert_eq!(of(&fourth, &room)["heroes"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_larger_timeline_is_told_at_once_and_only_once() {
    let world = World::new().await;
    let room = world.room_with_bob().await;
    for n in 0..4 {
        world.say(&room, &alice(), &n.to_string()).await;
    }
    let rules = |limit| list((0, 9), rule(limit, &[]));
    let first = world.slide(None, &rules(1)).await;
    assert_eq!(brief(&of(&first, &room)["timeline"]), ["3"]);
    let second = world.slide(Some(&first), &rules(3)).await;
    let told = of(&second, &room);
    assert_eq!((brief(&told["timeline"]), &told["limited"]), (vec!["1".into(), "2".into(), "3".into()], &json!(true)));
    assert_eq!((&told["expanded_timeline"], &told["num_live"], told.get("initial")), (&json!(true), &json!(0), None));
    let smaller = world.slide(Some(&second), &rules(1)).await;
    let third = world.slide(Some(&smaller), &rules(3)).await;
    assert_eq!((&smaller["rooms"], &third["rooms"]), (&json!({}), &json!({})), "the client has these");
    let all = world.slide(Some(&third), &rules(100)).await;
    assert_eq!(of(&all, &room)["limited"], false);
    let more = world.slide(Some(&all), &rules(200)).await;
    assert_eq!(more["rooms"], json!({}), "there is no more");
}

#[tokio::test]
async fn more_state_is_told_at_once_and_of_it_what_is_new() {
    let world = World::new().await;
    let room = world.room_with_bob().await;
    world.set(&room, &alice(), "m.room.topic", json!({"topic": "T"})).await;
    let rules = |pairs: &[(&str, &str)]| list((0, 9), rule(0, pairs));
    let first = world.slide(None, &rules(&[("m.room.create", "")])).await;
    assert_eq!(brief(&of(&first, &room)["required_state"]), ["m.room.create"]);
    let both = rules(&[("m.room.create", ""), ("m.room.topic", "*")]);
    let second = world.slide(Some(&first), &both).await;
    assert_eq!(brief(&of(&second, &room)["required_state"]), ["m.room.topic"]);
    let less = world.slide(Some(&second), &rules(&[("m.room.create", "")])).await;
    assert_eq!(less["rooms"], json!({}));
    world.set(&room, &alice(), "m.room.topic", json!({"topic": "U"})).await;
    let unseen = world.slide(Some(&less), &rules(&[("m.room.create", "")])).await;
    assert!(of(&unseen, &room).get("required_state").is_none());
    let again = world.slide(Some(&unseen), &both).await;
    assert_eq!(of(&again, &room)["required_state"][0]["content"]["topic"], "U");
    let subscribed =
        Rules { subscriptions: [(room.clone(), rule(0, &[("m.room.history_visibility", "")]))].into(), ..both };
    let union = world.slide(Some(&again), &subscribed).await;
    assert_eq!(brief(&of(&union, &room)["required_state"]), ["m.room.history_visibility"]);
}

#[tokio::test]
async fn changes_of_what_is_required_are_told_and_others_are_not() {
    let world = World::new().await;
    let room = world.room_with_bob().await;
    let all_but_topic = RequiredState {
        include: vec![element(None, None)],
        exclude: vec![element(Some("m.room.topic"), Some(""))],
        lazy: true,
    };
    let rules = list((0, 9), RoomRule { timeline_limit: 9, required_state: all_but_topic });
    let first = world.slide(None, &rules).await;
    let state = brief(&of(&first, &room)["required_state"]);
    assert!(state.contains(&"m.room.power_levels".to_owned()) && state.contains(&"m.room.create".to_owned()));
    world.set(&room, &alice(), "m.room.topic", json!({"topic": "T"})).await;
    world.set(&room, &alice(), "m.room.join_rules", json!({"join_rule": "invite"})).await;
    let second = world.slide(Some(&first), &rules).await;
    assert_eq!(brief(&of(&second, &room)["required_state"]), ["m.room.join_rules"]);
    assert_eq!(brief(&of(&second, &room)["timeline"]), ["m.room.topic", "m.room.join_rules"]);
}

#[tokio::test]
async fn lazy_members_come_with_what_they_say() {
    let world = World::new().await;
    let room = world.room_with_bob().await;
    world.change(&room, &carol(), MembershipChange::Join).await;
    for _ in 0..3 {
        world.say(&room, &bob(), "b").await;
    }
    world.say(&room, &alice(), "a").await;
    let rules = list((0, 9), rule(1, &[("m.room.member", "$LAZY")]));
    let members = |response: &Value| brief(&of(response, &room)["required_state"]);
    let none: Vec<String> = Vec::new();
    let first = world.slide(None, &rules).await;
    assert_eq!(members(&first), ["m.room.member @alice:here.example"]);
    world.say(&room, &alice(), "a").await;
    let second = world.slide(Some(&first), &rules).await;
    assert!(of(&second, &room).get("required_state").is_none(), "she is known");
    world.say(&room, &carol(), "c").await;
    let third = world.slide(Some(&second), &rules).await;
    assert_eq!(members(&third), ["m.room.member @carol:here.example"]);
    world.change(&room, &alice(), MembershipChange::Kick { user: carol() }).await;
    let fourth = world.slide(Some(&third), &rules).await;
    assert_eq!(members(&fourth), ["m.room.member @carol:here.example"], "members who change are told");
    for _ in 0..2 {
        world.say(&room, &alice(), "a").await;
    }
    let gap = world.slide(Some(&fourth), &rules).await;
    assert_eq!(
        (&of(&gap, &room)["limited"], members(&gap)),
        (&json!(true), vec!["m.room.member @alice:here.example".to_owned()])
    );
    let nothing = world.slide(Some(&gap), &rules).await;
    assert_eq!(nothing["rooms"].get(room.as_str()).map_or(none.clone(), |_| members(&nothing)), none);
}

#[tokio::test]
async fn an_invitation_is_told_by_its_stripped_state_and_becomes_a_room() {
    let world = World::new().await;
    let rules = list((0, 9), rule(10, &[("m.room.create", "")]));
    let first = world.slide(None, &rules).await;
    let room = world.room().await;
    world.say(&room, &alice(), "before").await;
    world.change(&room, &alice(), MembershipChange::Invite { user: bob() }).await;
    let second = world.slide(Some(&first), &rules).await;
    let invitation = of(&second, &room);
    assert_eq!((&invitation["membership"], &invitation["initial"]), (&json!("invite"), &json!(true)));
    assert!(brief(&invitation["stripped_state"]).contains(&"m.room.member @bob:here.example".to_owned()));
    assert!(invitation.get("timeline").is_none() && invitation.get("required_state").is_none());
    world.say(&room, &alice(), "not for the invited").await;
    assert_eq!(world.slide(Some(&second), &rules).await["rooms"], json!({}));
    world.change(&room, &bob(), MembershipChange::Join).await;
    let third = world.slide(Some(&second), &rules).await;
    let joined = of(&third, &room);
    assert_eq!((&joined["initial"], &joined["membership"]), (&json!(true), &json!("join")));
    assert!(joined.get("stripped_state").is_none() && joined["required_state"][0]["type"] == "m.room.create");
}

#[tokio::test]
async fn an_invitation_that_is_declined_is_told_to_have_ended() {
    let world = World::new().await;
    let rules = list((0, 9), rule(10, &[]));
    let room = world.room().await;
    world.change(&room, &alice(), MembershipChange::Invite { user: bob() }).await;
    let first = world.slide(None, &rules).await;
    assert_eq!(of(&first, &room)["membership"], "invite");
    world.change(&room, &bob(), MembershipChange::Leave).await;
    let second = world.slide(Some(&first), &rules).await;
    let ended = of(&second, &room);
    assert_eq!((&ended["membership"], ended.get("timeline")), (&json!("leave"), None));
    assert_eq!(ended["stripped_state"][0]["content"]["membership"], "leave");
    let anew = world.slide(None, &rules).await;
    assert_eq!((told(&anew), &anew["lists"]["all"]["count"]), (vec![], &json!(0)));
}

#[tokio::test]
async fn who_leaves_is_told_up_to_there() {
    let world = World::new().await;
    let room = world.room_with_bob().await;
    let rules = list((0, 9), rule(10, &[("m.room.topic", "")]));
    let first = world.slide(None, &rules).await;
    world.set(&room, &alice(), "m.room.topic", json!({"topic": "T"})).await;
    world.change(&room, &bob(), MembershipChange::Leave).await;
    world.set(&room, &alice(), "m.room.topic", json!({"topic": "U"})).await;
    world.say(&room, &alice(), "after").await;
    let second = world.slide(Some(&first), &rules).await;
    let left = of(&second, &room);
    assert_eq!(brief(&left["timeline"]), ["m.room.topic", "m.room.member @bob:here.example"]);
    assert_eq!(left["required_state"][0]["content"]["topic"], "T");
    assert_eq!((&left["membership"], &second["lists"]["all"]["count"]), (&json!("leave"), &json!(1)));
    world.say(&room, &alice(), "later").await;
    assert_eq!(world.slide(Some(&second), &rules).await["rooms"], json!({}));
    world.change(&room, &bob(), MembershipChange::Join).await;
    let back = world.slide(Some(&second), &rules).await;
    assert_eq!(of(&back, &room)["initial"], true);
}

#[tokio::test]
async fn who_was_put_out_is_told_though_they_begin_anew() {
    let world = World::new().await;
    let (kicked, banned, never) = (world.room_with_bob().await, world.room_with_bob().await, world.room().await);
    world.change(&kicked, &alice(), MembershipChange::Kick { user: bob() }).await;
    world.change(&banned, &alice(), MembershipChange::Ban { user: bob() }).await;
    world.change(&never, &alice(), MembershipChange::Ban { user: bob() }).await;
    world.say(&kicked, &alice(), "after").await;
    let mut rules = list((0, 9), rule(1, &[]));
    rules.subscriptions.insert(never.clone(), rule(1, &[("m.room.create", "")]));
    let first = world.slide(None, &rules).await;
    assert_eq!(
        (of(&first, &kicked)["membership"].as_str(), of(&first, &banned)["membership"].as_str()),
        (Some("leave"), Some("ban"))
    );
    assert_eq!(brief(&of(&first, &kicked)["timeline"]), ["m.room.member @bob:here.example"]);
    assert!(of(&first, &never).is_null(), "the room was never theirs to see");
}

#[tokio::test]
async fn nobody_sees_a_room_by_subscribing_to_it() {
    let world = World::new().await;
    let secret = world.room().await;
    let missing = RoomId::parse("!nowhere:here.example").unwrap();
    let subscriptions = [(secret, rule(9, &[("*", "*")])), (missing, rule(9, &[]))].into();
    let response = world.slide(None, &Rules { subscriptions, ..Rules::default() }).await;
    assert_eq!(response["rooms"], json!({}));
}

#[tokio::test]
async fn a_direct_chat_is_told_to_be_one() {
    let world = World::new().await;
    let room = world.room_with_bob().await;
    let rules = list((0, 9), rule(0, &[]));
    let first = world.slide(None, &rules).await;
    world.store(&bob(), None, "m.direct", &json!({"@alice:here.example": [room]})).await;
    let second = world.slide(Some(&first), &rules).await;
    assert_eq!(of(&second, &room), &json!({"is_dm": true, "lists": ["all"]}));
    assert_eq!(of(&world.slide(None, &rules).await, &room)["is_dm"], true);
    let restarted = world.slide(None, &rules).await;
    world.store(&bob(), None, "m.direct", &json!({})).await;
    assert_eq!(of(&world.slide(Some(&restarted), &rules).await, &room)["is_dm"], false);
}

#[tokio::test]
async fn account_data_is_told_as_it_is_asked_for() {
    let world = World::new().await;
    let (room, other) = (world.room_with_bob().await, world.room_with_bob().await);
    world.store(&bob(), Some(&room), "m.tag", &json!({"tags": {"u.a": {}}})).await;
    world.store(&bob(), Some(&other), "m.tag", &json!({"tags": {}})).await;
    world.store(&bob(), None, "x.mine", &json!({"a": 1})).await;
    let plain = list((0, 0), rule(0, &[]));
    let with = extensions(Extensions { account_data: Some(everywhere()), ..Extensions::default() }, plain.clone());
    let data = |response: &Value| response["extensions"]["account_data"].clone();
    let first = world.slide(None, &with).await;
    let global: Vec<_> = data(&first)["global"].as_array().unwrap().iter().map(|event| event["type"].clone()).collect();
    assert_eq!(global, ["x.mine", "m.push_rules"]);
    assert_eq!(data(&first)["rooms"].as_object().unwrap().len(), 1, "of rooms in view only: {first}");
    world.store(&bob(), None, "x.mine", &json!({"a": 2})).await;
    world.store(&bob(), Some(&other), "x.b", &json!({"b": 1})).await;
    let second = world.slide(Some(&first), &with).await;
    let shown = other.as_str();
    assert_eq!(
        data(&second),
        json!({
            "global": [{"type": "x.mine", "content": {"a": 2}}],
            "rooms": {shown: [{"type": "x.b", "content": {"b": 1}}]},
        })
    );
    world.store(&bob(), Some(&room), "x.c", &json!({})).await;
    assert_eq!(world.slide(Some(&second), &with).await["extensions"], json!({}), "out of view");
    let off = world.slide(Some(&second), &plain).await;
    world.store(&bob(), None, "x.mine", &json!({"a": 3})).await;
    let off = world.slide(Some(&off), &plain).await;
    assert_eq!(off["extensions"], json!({}));
    let on = world.slide(Some(&off), &with).await;
    assert_eq!(data(&on)["global"].as_array().unwrap().len(), 2, "it begins anew");
    assert_eq!(data(&on)["rooms"][shown].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn receipts_and_typing_are_told_as_they_are_asked_for() {
    let world = World::new().await;
    let room = world.room_with_bob().await;
    let old = world.say(&room, &alice(), "old").await;
    let new = world.say(&room, &alice(), "new").await;
    let read = async |user: &UserId, event: &OwnedEventId| {
        let read = Some(event.clone());
        world.syncs.mark(user, &room, &crate::Marks { read, ..crate::Marks::default() }).await.unwrap();
    };
    read(&carol_in(&world, &room).await, &old).await;
    read(&alice(), &new).await;
    read(&bob(), &old).await;
    world.say(&room, &carol(), "newest").await;
    let scopes = Extensions { receipts: Some(everywhere()), typing: Some(everywhere()), ..Extensions::default() };
    let rules = extensions(scopes, list((0, 9), rule(3, &[])));
    let first = world.slide(None, &rules).await;
    let receipts = &first["extensions"]["receipts"]["rooms"][room.as_str()]["content"];
    assert!(receipts[new.as_str()]["m.read"][alice().as_str()].is_object());
    assert!(receipts[old.as_str()]["m.read"].get(bob().as_str()).is_some(), "one's own is told in any case");
    assert!(receipts[old.as_str()]["m.read"].get(carol().as_str()).is_none(), "its event is not");
    assert!(first["extensions"].get("typing").is_none());
    world.syncs.typing(&alice(), &room, Some(None)).unwrap();
    read(&alice(), &world.say(&room, &alice(), "last").await).await;
    let second = world.slide(Some(&first), &rules).await;
    assert_eq!(second["extensions"]["typing"]["rooms"][room.as_str()]["content"]["user_ids"], json!([alice()]));
    assert_eq!(second["extensions"]["receipts"]["rooms"][room.as_str()]["content"].as_object().unwrap().len(), 1);
    world.syncs.typing(&alice(), &room, None).unwrap();
    let third = world.slide(Some(&second), &rules).await;
    assert_eq!(third["rooms"], json!({}));
    assert_eq!(third["extensions"]["typing"]["rooms"][room.as_str()]["content"]["user_ids"], json!([]));
    let nowhere = Some(Scope { lists: Some(vec![]), rooms: Some(vec![]) });
    let none = Extensions { receipts: nowhere.clone(), typing: nowhere, ..Extensions::default() };
    let fourth = world.slide(None, &extensions(none, list((0, 9), rule(2, &[])))).await;
    assert_eq!(fourth["extensions"], json!({}));
}

async fn carol_in(world: &World, room: &RoomId) -> OwnedUserId {
    world.change(room, &carol(), MembershipChange::Join).await;
    carol()
}

#[tokio::test]
async fn messages_to_the_device_go_by_a_token_of_their_own() {
    let world = World::new().await;
    let send = async |n: u64| {
        let mut changes = world.records.changes(&world.records.view());
        let record = records::ToDeviceRecord { sender: alice(), kind: "x.y".into(), content: format!("{{\"n\":{n}}}") };
        let nth = changes.stamp();
        changes.put_to_device(nth, &bob(), "DEVICE".into(), &record);
        changes.log(nth, &records::LogEntry::ToDevice { users: vec![bob()] });
        world.records.commit(changes).await.unwrap();
    };
    let rules = extensions(Extensions { to_device: true, ..Extensions::default() }, Rules::default());
    let ask = async |position: Option<&Value>, since: Option<&Value>, limit: Option<usize>| {
        let since =
            since.map(|response| response["extensions"]["to_device"]["next_batch"].as_str().unwrap().to_owned());
        let request = SlidingRequest { to_device: ToDeviceRequest { since, limit }, ..sliding(position, &rules) };
        world.slide_with(request).await
    };
    let numbers = |response: &Value| -> Vec<u64> {
        let events = response["extensions"]["to_device"]["events"].as_array().cloned().unwrap_or_default();
        events.iter().map(|event| event["content"]["n"].as_u64().unwrap()).collect()
    };
    let first = ask(None, None, None).await;
    assert!(first["extensions"]["to_device"]["next_batch"].is_string());
    for n in 1..=3 {
        send(n).await;
    }
    let second = ask(Some(&first), Some(&first), Some(2)).await;
    assert_eq!(numbers(&second), [1, 2]);
    let again = ask(Some(&first), Some(&first), None).await;
    assert_eq!(numbers(&again), [1, 2, 3], "nothing was confirmed");
    let third = ask(Some(&again), Some(&second), None).await;
    assert_eq!(numbers(&third), [3]);
    let old = ask(Some(&third), Some(&first), None).await;
    assert_eq!(numbers(&old), [3], "what was confirmed is gone");
    assert_eq!(numbers(&ask(Some(&old), Some(&third), None).await), [0; 0]);
}

#[tokio::test]
async fn changes_of_devices_are_told_from_when_they_are_asked_for() {
    let world = World::new().await;
    let room = world.room_with_bob().await;
    let rules = extensions(Extensions { e2ee: true, ..Extensions::default() }, Rules::default());
    let first = world.slide(None, &rules).await;
    assert_eq!(
        first["extensions"]["e2ee"],
        json!({
            "device_one_time_keys_count": {"signed_curve25519": 0},
            "device_unused_fallback_key_types": [],
        })
    );
    let mut changes = world.records.changes(&world.records.view());
    changes.change_device_list(&alice()).unwrap();
    world.records.commit(changes).await.unwrap();
    let second = world.slide(Some(&first), &rules).await;
    assert_eq!(second["extensions"]["e2ee"]["device_lists"], json!({"changed": [alice()], "left": []}));
    world.change(&room, &carol(), MembershipChange::Join).await;
    let third = world.slide(Some(&second), &rules).await;
    assert_eq!(third["extensions"]["e2ee"]["device_lists"]["changed"], json!([carol()]));
    let fourth = world.slide(Some(&third), &rules).await;
    assert!(fourth["extensions"]["e2ee"].get("device_lists").is_none());
}

#[tokio::test]
async fn the_unstable_form_counts_what_is_unread() {
    let world = World::new().await;
    let room = world.room_with_bob().await;
    let rules = list((0, 9), rule(5, &[]));
    let unstable = |position| SlidingRequest { form: SlidingForm::Unstable, ..sliding(position, &rules) };
    let count = |response: &Value| of(response, &room)["notification_count"].clone();
    let first = world.slide_with(unstable(None)).await;
    assert_eq!(count(&first), 0);
    let said = world.say(&room, &alice(), "1").await;
    let second = world.slide_with(unstable(Some(&first))).await;
    assert_eq!((count(&second), &of(&second, &room)["highlight_count"]), (json!(1), &json!(0)));
    let marks = crate::Marks { read: Some(said), ..crate::Marks::default() };
    world.syncs.mark(&bob(), &room, &marks).await.unwrap();
    let third = world.slide_with(unstable(Some(&second))).await;
    assert_eq!(of(&third, &room), &json!({"notification_count": 0, "highlight_count": 0}));
    assert_eq!(world.slide_with(unstable(Some(&third))).await["rooms"], json!({}));
}

#[tokio::test]
async fn a_name_that_is_redacted_is_none_any_more() {
    let world = World::new().await;
    let room = world.room_with_bob().await;
    let named = world.set(&room, &alice(), "m.room.name", json!({"name": "N"})).await;
    let rules = list((0, 9), rule(5, &[("m.room.name", "")]));
    let first = world.slide(None, &rules).await;
    assert_eq!(of(&first, &room)["name"], "N");
    let content = serde_json::value::to_raw_value(&json!({"redacts": named})).unwrap();
    let draft = rooms::Draft { redacts: Some(named), ..rooms::Draft::message(alice(), "m.room.redaction", content) };
    world.rooms.send(&room, draft, None).await.unwrap();
    let second = world.slide(Some(&first), &rules).await;
    let told = of(&second, &room);
    assert_eq!(told["name"], Value::Null);
    assert!(told.as_object().unwrap().contains_key("name"));
    assert_eq!(brief(&told["required_state"]), ["m.room.name"]);
    assert_eq!(told["required_state"][0]["content"], json!({}));
    let third = world.slide(Some(&second), &rules).await;
    assert!(third["rooms"].as_object().unwrap().is_empty(), "{third}");
}

#[tokio::test]
async fn a_room_that_one_was_put_out_of_is_told_with_its_name() {
    let world = World::new().await;
    let room = world.room_with_bob().await;
    world.set(&room, &alice(), "m.room.name", json!({"name": "N"})).await;
    world.change(&room, &alice(), MembershipChange::Kick { user: bob() }).await;
    world.set(&room, &alice(), "m.room.name", json!({"name": "later"})).await;
    let told = world.slide(None, &list((0, 9), rule(5, &[]))).await;
    assert_eq!((&of(&told, &room)["name"], &of(&told, &room)["membership"]), (&json!("N"), &json!("leave")));
}
