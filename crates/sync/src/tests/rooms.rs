//! The sections of rooms.

use super::*;

#[tokio::test]
async fn an_initial_sync_tells_the_whole_state_of_each_room() {
    let world = World::new().await;
    let room = world.room_with_bob().await;
    world.say(&room, &alice(), "hello").await;
    let response = world.sync(&bob(), None).await;
    let told = joined(&response, &room);
    assert_eq!(short(&told["timeline"]).last().unwrap(), "hello");
    let mut all = short(&told["state"]);
    all.extend(short(&told["timeline"]));
    all.retain(|event| event != "hello");
    let reader = world.rooms.reader_by_id(&world.records.view(), &room).unwrap().unwrap();
    assert_eq!(all.len(), reader.state_events(reader.state()).unwrap().len());
    assert_eq!(told["summary"]["m.heroes"], json!([alice()]));
    assert_eq!(told["summary"]["m.joined_member_count"], 2);
    let own = &told["timeline"]["events"].as_array().unwrap().last().unwrap()["unsigned"];
    assert_eq!((&own["age"], &own["membership"]), (&json!(0), &json!("join")));
    assert!(told["timeline"]["events"][0].get("room_id").is_none());
}

#[tokio::test]
async fn an_incremental_sync_tells_what_is_new_and_nothing_else() {
    let world = World::new().await;
    let (room, quiet) = (world.room_with_bob().await, world.room_with_bob().await);
    let before = world.sync(&bob(), None).await;
    world.say(&room, &alice(), "1").await;
    world.say(&room, &bob(), "2").await;
    let response = world.sync(&bob(), Some(&before)).await;
    let told = joined(&response, &room);
    assert_eq!(short(&told["timeline"]), ["1", "2"]);
    assert_eq!(told["timeline"]["limited"], json!(false));
    assert_eq!(short(&told["state"]), [""; 0]);
    assert!(told.get("summary").is_none());
    assert!(joined(&response, &quiet).is_null());
    let nothing = world.sync(&bob(), Some(&response)).await;
    let expected = json!({
        "next_batch": token(&response),
        "device_one_time_keys_count": {"signed_curve25519": 0},
        "device_unused_fallback_key_types": [],
    });
    assert_eq!(nothing, expected);
}

#[tokio::test]
async fn a_gap_is_said_and_its_state_told() {
    let world = World::new().await;
    let room = world.room_with_bob().await;
    let before = world.sync(&bob(), None).await;
    world.set(&room, &alice(), "m.room.topic", json!({"topic": "a"})).await;
    world.set(&room, &alice(), "m.room.name", json!({"name": "N"})).await;
    for n in 0..5 {
        world.say(&room, &alice(), &n.to_string()).await;
    }
    world.set(&room, &alice(), "m.room.topic", json!({"topic": "b"})).await;
    let filter = json!({"room": {"timeline": {"limit": 3}}});
    let response = world.ask(filtered(&bob(), Some(token(&before)), &filter)).await;
    let told = joined(&response, &room);
    assert_eq!(short(&told["timeline"]), ["3", "4", "m.room.topic"]);
    assert_eq!(told["timeline"]["limited"], json!(true));
    assert_eq!(short(&told["state"]), ["m.room.name", "m.room.topic"]);
    assert_eq!(told["state"]["events"][1]["content"]["topic"], "a");

    let request = filtered(&bob(), Some(token(&before)), &filter);
    let response = world.ask(SyncRequest { state: StateChoice::After, ..request }).await;
    let told = joined(&response, &room);
    assert!(told.get("state").is_none());
    assert_eq!(short(&told["state_after"]), ["m.room.name", "m.room.topic"]);
    assert_eq!(told["state_after"]["events"][1]["content"]["topic"], "b");
}

#[tokio::test]
async fn full_state_tells_all_of_it_and_the_timeline_since() {
    let world = World::new().await;
    let room = world.room_with_bob().await;
    let before = world.sync(&bob(), None).await;
    world.say(&room, &alice(), "1").await;
    let timeout = Duration::from_hours(1);
    let request = SyncRequest { full_state: true, timeout, ..request(&bob(), Some(token(&before))) };
    let response = world.ask(request).await;
    let told = joined(&response, &room);
    assert_eq!(short(&told["timeline"]), ["1"]);
    assert!(short(&told["state"]).contains(&"m.room.create".to_owned()));
}

#[tokio::test]
async fn an_invitation_is_told_until_it_is_accepted() {
    let world = World::new().await;
    let room = world.rooms.create(&alice(), CreateRoom { name: Some("N".into()), ..CreateRoom::default() }).await;
    let room = room.unwrap();
    let before = world.sync(&bob(), None).await;
    world.change(&room, &alice(), MembershipChange::Invite { user: bob() }).await;
    let invited = world.sync(&bob(), Some(&before)).await;
    let state = short(&invited["rooms"]["invite"][room.as_str()]["invite_state"]);
    for expected in ["m.room.create", "m.room.name", "m.room.member @bob:here.example"] {
        assert!(state.iter().any(|event| event == expected), "{expected} of {state:?}");
    }
    assert!(world.sync(&bob(), Some(&invited)).await.get("rooms").is_none());
    assert!(world.sync(&bob(), None).await["rooms"]["invite"][room.as_str()].is_object());

    world.say(&room, &alice(), "before").await;
    world.change(&room, &bob(), MembershipChange::Join).await;
    let response = world.sync(&bob(), Some(&invited)).await;
    let told = joined(&response, &room);
    let timeline = short(&told["timeline"]);
    assert_eq!(timeline.last().unwrap(), "m.room.member @bob:here.example");
    assert!(timeline.contains(&"before".to_owned()), "shared history is seen by those who join");
    assert!(response["rooms"].get("invite").is_none());
}

#[tokio::test]
async fn a_rejected_invitation_is_told_as_left() {
    let world = World::new().await;
    let room = world.room().await;
    world.change(&room, &alice(), MembershipChange::Invite { user: bob() }).await;
    let invited = world.sync(&bob(), None).await;
    world.set(&room, &alice(), "m.room.topic", json!({"topic": "secret"})).await;
    world.change(&room, &bob(), MembershipChange::Leave).await;
    let response = world.sync(&bob(), Some(&invited)).await;
    let left = &response["rooms"]["leave"][room.as_str()];
    assert_eq!(short(&left["timeline"]), ["m.room.member @bob:here.example"]);
    assert_eq!(short(&left["state"]), [""; 0]);
}

#[tokio::test]
async fn a_knock_is_told_as_one() {
    let world = World::new().await;
    let room = world.room().await;
    world.set(&room, &alice(), "m.room.join_rules", json!({"join_rule": "knock"})).await;
    let before = world.sync(&bob(), None).await;
    world.change(&room, &bob(), MembershipChange::Knock).await;
    let response = world.sync(&bob(), Some(&before)).await;
    let state = short(&response["rooms"]["knock"][room.as_str()]["knock_state"]);
    assert!(state.contains(&"m.room.create".to_owned()), "{state:?}");
}

#[tokio::test]
async fn those_who_leave_see_what_was_up_to_then() {
    let world = World::new().await;
    let room = world.room_with_bob().await;
    let before = world.sync(&bob(), None).await;
    world.say(&room, &alice(), "in").await;
    world.change(&room, &alice(), MembershipChange::Kick { user: bob() }).await;
    world.say(&room, &alice(), "out").await;
    world.set(&room, &alice(), "m.room.topic", json!({"topic": "secret"})).await;
    let response = world.sync(&bob(), Some(&before)).await;
    let left = &response["rooms"]["leave"][room.as_str()];
    assert_eq!(short(&left["timeline"]), ["in", "m.room.member @bob:here.example"]);
    assert!(!short(&left["state"]).contains(&"m.room.topic".to_owned()));
    assert!(response["rooms"].get("join").is_none());
    assert!(world.sync(&bob(), Some(&response)).await.get("rooms").is_none());

    // Who was banned later learns that, and not what happened in between.
    world.change(&room, &alice(), MembershipChange::Ban { user: bob() }).await;
    let banned = world.sync(&bob(), Some(&response)).await;
    let left = &banned["rooms"]["leave"][room.as_str()];
    assert_eq!(short(&left["timeline"]), ["m.room.member @bob:here.example"]);
    assert_eq!(short(&left["state"]), [""; 0]);
}

#[tokio::test]
async fn rooms_that_were_left_long_ago_are_told_to_those_who_ask() {
    let world = World::new().await;
    let (kept, forgotten) = (world.room_with_bob().await, world.room_with_bob().await);
    for room in [&kept, &forgotten] {
        world.change(room, &bob(), MembershipChange::Leave).await;
    }
    world.set(&kept, &alice(), "m.room.topic", json!({"topic": "secret"})).await;
    world.rooms.forget(&forgotten, &bob()).await.unwrap();
    assert!(world.sync(&bob(), None).await.get("rooms").is_none());
    let response = world.ask(filtered(&bob(), None, &json!({"room": {"include_leave": true}}))).await;
    let left = &response["rooms"]["leave"];
    assert!(left.get(forgotten.as_str()).is_none());
    let mut all = short(&left[kept.as_str()]["state"]);
    all.extend(short(&left[kept.as_str()]["timeline"]));
    assert!(all.contains(&"m.room.create".to_owned()) && !all.contains(&"m.room.topic".to_owned()), "{all:?}");
}

#[tokio::test]
async fn lazy_loading_sends_the_members_who_speak_and_each_of_them_once() {
    let world = World::new().await;
    let room = world.room_with_bob().await;
    world.change(&room, &carol(), MembershipChange::Join).await;
    world.say(&room, &alice(), "1").await;
    let filter = json!({"room": {"state": {"lazy_load_members": true}, "timeline": {"limit": 1}}});
    let members = |response: &Value| -> Vec<String> {
        let events = short(&joined(response, &room)["state"]);
        events.into_iter().filter_map(|event| event.strip_prefix("m.room.member ").map(ToOwned::to_owned)).collect()
    };
    let mut initial = members(&world.ask(filtered(&bob(), None, &filter)).await);
    initial.sort();
    // Carol is among the heroes of a room without a name.
    assert_eq!(initial, [alice(), bob(), carol()]);
    world.set(&room, &alice(), "m.room.name", json!({"name": "N"})).await;
    let first = world.ask(filtered(&bob(), None, &filter)).await;
    let mut initial = members(&first);
    initial.sort();
    assert_eq!(initial, [alice(), bob()]);

    world.say(&room, &alice(), "2").await;
    let second = world.ask(filtered(&bob(), Some(token(&first)), &filter)).await;
    assert_eq!(members(&second), [""; 0], "alice was sent with the first");
    world.say(&room, &carol(), "3").await;
    let third = world.ask(filtered(&bob(), Some(token(&second)), &filter)).await;
    assert_eq!(members(&third), [carol()]);
    let again = world.ask(filtered(&bob(), Some(token(&second)), &filter)).await;
    assert_eq!(members(&again), [carol()], "the response may have been lost");
    world.say(&room, &carol(), "4").await;
    let fourth = world.ask(filtered(&bob(), Some(token(&third)), &filter)).await;
    assert_eq!(members(&fourth), [""; 0]);
    let filter = json!({"room": {"state": {"lazy_load_members": true, "include_redundant_members": true}}});
    let redundant = world.ask(filtered(&bob(), Some(token(&third)), &filter)).await;
    assert_eq!(members(&redundant), [carol()]);
}

#[tokio::test]
async fn membership_in_a_gap_is_told_to_lazy_clients() {
    let world = World::new().await;
    let room = world.room_with_bob().await;
    let filter = json!({"room": {"state": {"lazy_load_members": true}, "timeline": {"limit": 1}}});
    let before = world.ask(filtered(&bob(), None, &filter)).await;
    world.change(&room, &carol(), MembershipChange::Join).await;
    world.say(&room, &alice(), "1").await;
    let response = world.ask(filtered(&bob(), Some(token(&before)), &filter)).await;
    let state = short(&joined(&response, &room)["state"]);
    assert!(state.contains(&"m.room.member @carol:here.example".to_owned()), "{state:?}");
}

#[tokio::test]
async fn filters_choose_rooms_types_fields_and_format() {
    let world = World::new().await;
    let (room, other) = (world.room_with_bob().await, world.room_with_bob().await);
    let before = world.sync(&bob(), None).await;
    world.say(&room, &alice(), "1").await;
    world.set(&room, &alice(), "m.room.topic", json!({"topic": "T"})).await;
    world.say(&other, &alice(), "2").await;
    let ask = async |filter: Value| world.ask(filtered(&bob(), Some(token(&before)), &filter)).await;

    let response = ask(json!({"room": {"not_rooms": [other]}})).await;
    assert!(joined(&response, &room).is_object() && joined(&response, &other).is_null());
    let response = ask(json!({"room": {"rooms": [other]}})).await;
    assert!(joined(&response, &room).is_null() && joined(&response, &other).is_object());

    // State that the timeline leaves out is told as state, so that the client's view of the room is right.
    let response = ask(json!({"room": {"timeline": {"not_types": ["m.room.topic"]}}})).await;
    assert_eq!(short(&joined(&response, &room)["timeline"]), ["1"]);
    assert_eq!(short(&joined(&response, &room)["state"]), ["m.room.topic"]);
    let nothing = json!({"room": {"timeline": {"types": []}, "state": {"types": []}}});
    assert!(ask(nothing).await.get("rooms").is_none());

    let response = ask(json!({"event_fields": ["type", "content.body"]})).await;
    let event = &joined(&response, &other)["timeline"]["events"][0];
    assert_eq!(event, &json!({"type": "m.room.message", "content": {"body": "2"}}));
    let response = ask(json!({"event_format": "federation"})).await;
    assert!(joined(&response, &other)["timeline"]["events"][0]["auth_events"].is_array());
}

#[tokio::test]
async fn a_stored_filter_is_used_by_its_id_and_a_wrong_one_refused() {
    let world = World::new().await;
    let room = world.room_with_bob().await;
    let mut changes = world.records.changes(&world.records.view());
    changes.put_filter(&bob(), "f", &json!({"room": {"not_rooms": [room]}}).to_string());
    world.records.commit(changes).await.unwrap();
    let with = |filter: &str| SyncRequest { filter: Some(FilterChoice::of_parameter(filter)), ..request(&bob(), None) };
    assert!(world.ask(with("f")).await.get("rooms").is_none());
    assert!(matches!(refused(&world, with("g")).await, SyncError::NoSuchFilter));
    assert!(matches!(refused(&world, with("{\"room\":1}")).await, SyncError::BadFilter(_)));
}

#[tokio::test]
async fn only_the_device_that_sent_an_event_sees_its_transaction_id() {
    let world = World::new().await;
    let room = world.room_with_bob().await;
    let before = world.sync(&bob(), None).await;
    world.say_as(&room, &bob(), "DEVICE", "txn1").await;
    let on = async |device: &str| {
        let request = SyncRequest { device_id: device.into(), ..request(&bob(), Some(token(&before))) };
        let response = world.ask(request).await;
        joined(&response, &room)["timeline"]["events"][0]["unsigned"]["transaction_id"].clone()
    };
    assert_eq!(on("DEVICE").await, "txn1");
    assert_eq!(on("OTHER").await, Value::Null);
}

#[tokio::test]
async fn history_from_before_the_join_is_hidden_where_the_room_says_so() {
    let world = World::new().await;
    let room = world.room().await;
    world.set(&room, &alice(), "m.room.history_visibility", json!({"history_visibility": "joined"})).await;
    world.say(&room, &alice(), "hidden").await;
    let before = world.sync(&bob(), None).await;
    world.change(&room, &bob(), MembershipChange::Join).await;
    world.say(&room, &alice(), "seen").await;
    let response = world.sync(&bob(), Some(&before)).await;
    let timeline = short(&joined(&response, &room)["timeline"]);
    assert!(timeline.ends_with(&["m.room.member @bob:here.example".to_owned(), "seen".to_owned()]), "{timeline:?}");
    assert!(timeline.contains(&"m.room.create".to_owned()), "from when the room showed its history");
    assert!(!timeline.contains(&"hidden".to_owned()));
}

#[tokio::test]
async fn a_token_of_the_future_counts_as_none() {
    let world = World::new().await;
    let room = world.room_with_bob().await;
    let response = world.ask(request(&bob(), Some("s99999999_0"))).await;
    assert!(short(&joined(&response, &room)["timeline"]).len() > 1);
    let next: crate::SyncToken = token(&response).parse().unwrap();
    assert_eq!(next.stamp, world.records.view().stamp());
}

#[tokio::test]
async fn left_rooms_come_with_the_full_state_if_they_are_asked_for() {
    let world = World::new().await;
    let room = world.room_with_bob().await;
    world.change(&room, &bob(), MembershipChange::Leave).await;
    let before = world.sync(&bob(), None).await;
    world.set(&room, &alice(), "m.room.topic", json!({"topic": "secret"})).await;
    let filter = json!({"room": {"include_leave": true}});
    let full = SyncRequest { full_state: true, ..filtered(&bob(), Some(token(&before)), &filter) };
    let response = world.ask(full.clone()).await;
    let left = &response["rooms"]["leave"][room.as_str()];
    assert_eq!(short(&left["timeline"]), [""; 0], "nothing since");
    let state = short(&left["state"]);
    assert!(state.contains(&"m.room.create".to_owned()) && !state.contains(&"m.room.topic".to_owned()), "{state:?}");
    let own = left["state"]["events"].as_array().unwrap().iter().find(|event| event["state_key"] == bob().as_str());
    assert_eq!(own.unwrap()["content"]["membership"], "leave");
    assert!(world.ask(filtered(&bob(), Some(token(&before)), &filter)).await.get("rooms").is_none());
    world.rooms.forget(&room, &bob()).await.unwrap();
    assert!(world.ask(full).await.get("rooms").is_none());
}

#[tokio::test]
async fn forgetting_a_room_tells_nothing_that_leaving_did_not() {
    let world = World::new().await;
    let room = world.room_with_bob().await;
    world.set(&room, &alice(), "m.room.history_visibility", json!({"history_visibility": "world_readable"})).await;
    let joined = world.sync(&bob(), None).await;
    world.change(&room, &bob(), MembershipChange::Leave).await;
    let left = world.sync(&bob(), Some(&joined)).await;
    world.say(&room, &alice(), "later").await;
    world.rooms.forget(&room, &bob()).await.unwrap();
    for log_read_max in [crate::changed::LOG_READ_MAX, 0] {
        let (records, rooms) = (world.records.clone(), world.rooms.clone());
        let syncs = Syncs::with_log_read_max(records, rooms, world.clock.clone(), Config::default(), log_read_max);
        let ask = async |since: &Value| -> Value {
            serde_json::from_slice(&syncs.sync(request(&bob(), Some(token(since)))).await.unwrap()).unwrap()
        };
        assert!(ask(&left).await.get("rooms").is_none());
        let told = &ask(&joined).await["rooms"]["leave"][room.as_str()];
        assert_eq!(short(&told["timeline"]), ["m.room.member @bob:here.example"], "who knew the room as joined");
    }
}

#[tokio::test]
async fn state_events_say_what_the_user_was_to_the_room() {
    let world = World::new().await;
    let room = world.room().await;
    world.change(&room, &alice(), MembershipChange::Invite { user: bob() }).await;
    world.set(&room, &alice(), "m.room.topic", json!({"topic": "T"})).await;
    world.change(&room, &bob(), MembershipChange::Join).await;
    world.set(&room, &alice(), "m.room.name", json!({"name": "N"})).await;
    let filter = json!({"room": {"timeline": {"limit": 0}}});
    let response = world.ask(filtered(&bob(), None, &filter)).await;
    let membership = |kind: &str, key: &str| {
        let events = joined(&response, &room)["state"]["events"].as_array().unwrap();
        let event = events.iter().find(|event| event["type"] == kind && event["state_key"] == key).unwrap();
        event["unsigned"]["membership"].clone()
    };
    assert_eq!(membership("m.room.create", ""), "leave");
    assert_eq!(membership("m.room.topic", ""), "invite");
    assert_eq!(membership("m.room.member", bob().as_str()), "join");
    assert_eq!(membership("m.room.name", ""), "join");
}

#[tokio::test]
async fn the_state_after_the_timeline_has_its_name_from_before_it_was_specified() {
    let world = World::new().await;
    let room = world.room_with_bob().await;
    let before = world.sync(&bob(), None).await;
    let name = "org.matrix.msc4222.state_after";
    let ask = async |since: Option<&Value>| {
        world.ask(SyncRequest { state: StateChoice::AfterUnstable, ..request(&bob(), since.map(token)) }).await
    };
    let told = &ask(None).await["rooms"]["join"][room.as_str()];
    assert!(short(&told[name]).contains(&"m.room.create".to_owned()));
    assert!(told.get("state").is_none() && told.get("state_after").is_none());
    world.say(&room, &alice(), "1").await;
    assert_eq!(ask(Some(&before)).await["rooms"]["join"][room.as_str()][name], json!({"events": []}));
}
