//! Lists: their order, windows and filters.

use super::*;
use ruma::OwnedRoomId;

async fn say(world: &World, room: &RoomId) {
    world.say(room, &alice(), "x").await;
}

#[tokio::test]
async fn a_window_has_the_most_active_rooms_and_grows_without_telling_them_again() {
    let world = World::new().await;
    let mut rooms = Vec::new();
    for _ in 0..5 {
        rooms.push(world.room_with_bob().await);
    }
    say(&world, &rooms[0]).await;
    let rules = |range| list(range, rule(1, &[]));
    let expect = |response: &Value, which: &[usize]| {
        let mut expected: Vec<&str> = which.iter().map(|index| rooms[*index].as_str()).collect();
        expected.sort_unstable();
        assert_eq!((told(response), &response["lists"]["all"]["count"]), (expected, &json!(5)));
    };
    let first = world.slide(None, &rules((0, 1))).await;
    expect(&first, &[0, 4]);
    let second = world.slide(Some(&first), &rules((0, 3))).await;
    expect(&second, &[3, 2]);
    say(&world, &rooms[1]).await;
    let third = world.slide(Some(&second), &rules((0, 3))).await;
    expect(&third, &[1]);
    assert_eq!(of(&third, &rooms[1])["num_live"], 1, "one event of those told is new");
    let fourth = world.slide(Some(&third), &rules((4, 4))).await;
    expect(&fourth, &[]);
    say(&world, &rooms[2]).await;
    let fifth = world.slide(Some(&fourth), &rules((1, 2))).await;
    expect(&fifth, &[]);
    let sixth = world.slide(Some(&fifth), &rules((0, 9))).await;
    expect(&sixth, &[2]);
}

#[tokio::test]
async fn a_room_that_moves_up_because_another_left_is_told() {
    let world = World::new().await;
    let rooms = [world.room_with_bob().await, world.room_with_bob().await, world.room_with_bob().await];
    let direct = |rooms: &[&OwnedRoomId]| json!({"@alice:here.example": rooms});
    world.store(&bob(), None, "m.direct", &direct(&[&rooms[0], &rooms[1], &rooms[2]])).await;
    let mut rules = list((0, 1), rule(1, &[]));
    for list in rules.lists.values_mut() {
        list.filter.is_dm = Some(true);
    }
    let first = world.slide(None, &rules).await;
    assert_eq!(told(&first).len(), 2);
    world.store(&bob(), None, "m.direct", &direct(&[&rooms[0], &rooms[1]])).await;
    let second = world.slide(Some(&first), &rules).await;
    assert_eq!((told(&second), &second["lists"]["all"]["count"]), (vec![rooms[0].as_str()], &json!(2)));
}

#[tokio::test]
async fn a_window_below_the_top_is_told_whom_others_push_into_it() {
    let world = World::new().await;
    let rooms = [world.room_with_bob().await, world.room_with_bob().await, world.room_with_bob().await];
    let rules = list((1, 1), rule(1, &[]));
    let first = world.slide(None, &rules).await;
    assert_eq!(told(&first), [rooms[1].as_str()]);
    say(&world, &rooms[0]).await;
    let second = world.slide(Some(&first), &rules).await;
    assert_eq!(told(&second), [rooms[2].as_str()]);
}

#[tokio::test]
async fn filters_are_kept_up_with_what_happens() {
    let world = World::new().await;
    let (plain, secret, invited) = (world.room_with_bob().await, world.room_with_bob().await, world.room().await);
    world.set(&secret, &alice(), "m.room.encryption", json!({"algorithm": "m.megolm.v1.aes-sha2"})).await;
    world.change(&invited, &alice(), MembershipChange::Invite { user: bob() }).await;
    world.store(&bob(), Some(&plain), "m.tag", &json!({"tags": {"m.favourite": {}}})).await;
    let filter = |change: fn(&mut ListFilter)| {
        let mut filter = ListFilter::default();
        change(&mut filter);
        filtered_list(&filter)
    };
    let cases = [
        (filter(|filter| filter.is_encrypted = Some(true)), vec![&secret]),
        (filter(|filter| filter.is_encrypted = Some(false)), vec![&plain, &invited]),
        (filter(|filter| filter.is_invited = Some(true)), vec![&invited]),
        (filter(|filter| filter.is_invited = Some(false)), vec![&plain, &secret]),
        (filter(|filter| filter.is_dm = Some(true)), vec![]),
        (filter(|filter| filter.tags = Some(vec!["m.favourite".to_owned()])), vec![&plain]),
        (filter(|filter| filter.not_tags = vec!["m.favourite".to_owned()]), vec![&secret, &invited]),
        (filter(|filter| filter.room_types = Some(vec![None])), vec![&plain, &secret, &invited]),
        (filter(|filter| filter.not_room_types = vec![None]), vec![]),
    ];
    for (rules, expected) in &cases {
        let response = world.slide(None, rules).await;
        let mut expected: Vec<&str> = expected.iter().map(|room| room.as_str()).collect();
        expected.sort_unstable();
        assert_eq!(
            (told(&response), &response["lists"]["all"]["count"]),
            (expected.clone(), &json!(expected.len())),
            "{rules:?}"
        );
    }
    let encrypted = &cases[0].0;
    let first = world.slide(None, encrypted).await;
    world.set(&plain, &alice(), "m.room.encryption", json!({"algorithm": "m.megolm.v1.aes-sha2"})).await;
    let second = world.slide(Some(&first), encrypted).await;
    assert_eq!((told(&second), &second["lists"]["all"]["count"]), (vec![plain.as_str()], &json!(2)));
    let tagged = &cases[5].0;
    let first = world.slide(None, tagged).await;
    world.store(&bob(), Some(&secret), "m.tag", &json!({"tags": {"m.favourite": {}}})).await;
    world.store(&bob(), Some(&plain), "m.tag", &json!({"tags": {}})).await;
    let second = world.slide(Some(&first), tagged).await;
    assert_eq!((told(&second), &second["lists"]["all"]["count"]), (vec![secret.as_str()], &json!(1)));
}

#[tokio::test]
async fn a_list_of_a_space_has_the_rooms_that_it_names() {
    let world = World::new().await;
    let (space, inside, outside) =
        (world.room_with_bob().await, world.room_with_bob().await, world.room_with_bob().await);
    let child = async |room: &RoomId, content: Value| {
        let content = to_raw_value(&content).unwrap();
        let draft = Draft::state(alice(), "m.space.child", room.as_str(), content);
        world.rooms.send(&space, draft, None).await.unwrap();
    };
    child(&inside, json!({"via": ["here.example"]})).await;
    let rules = filtered_list(&ListFilter { spaces: Some(vec![space.clone()]), ..ListFilter::default() });
    let first = world.slide(None, &rules).await;
    assert_eq!(told(&first), [inside.as_str()]);
    child(&outside, json!({"via": ["here.example"]})).await;
    child(&inside, json!({})).await;
    let second = world.slide(Some(&first), &rules).await;
    assert_eq!((told(&second), &second["lists"]["all"]["count"]), (vec![outside.as_str()], &json!(1)));
    world.change(&space, &bob(), MembershipChange::Leave).await;
    let third = world.slide(Some(&second), &rules).await;
    assert_eq!(third["lists"]["all"]["count"], 0, "of spaces that one is not in nothing is read");
}

#[tokio::test]
async fn lists_and_subscriptions_are_combined() {
    let world = World::new().await;
    let (room, other) = (world.room_with_bob().await, world.room_with_bob().await);
    for room in [&room, &other] {
        world.say(room, &alice(), "1").await;
        world.say(room, &alice(), "2").await;
    }
    let mut rules = list((0, 9), rule(1, &[("m.room.create", "")]));
    let invitations = ListFilter { is_invited: Some(true), ..ListFilter::default() };
    rules.lists.insert("invites".to_owned(), ListRule { filter: invitations, ..ListRule::default() });
    rules.lists.insert("same".to_owned(), ListRule { room: rule(0, &[]), ..ListRule::default() });
    rules.subscriptions.insert(room.clone(), rule(2, &[("m.room.join_rules", "")]));
    let response = world.slide(None, &rules).await;
    assert_eq!(
        (brief(&of(&response, &room)["timeline"]), brief(&of(&response, &other)["timeline"])),
        (vec!["1".into(), "2".into()], vec!["2".to_owned()])
    );
    let mut state = brief(&of(&response, &room)["required_state"]);
    state.sort_unstable();
    assert_eq!(state, ["m.room.create", "m.room.join_rules"]);
    assert_eq!(of(&response, &room)["lists"], json!(["all", "same"]));
    assert_eq!(response["lists"], json!({"all": {"count": 2}, "invites": {"count": 0}, "same": {"count": 2}}));
}
