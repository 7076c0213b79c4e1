//! Whom a user ignores (client-server API, "Ignoring Users").

use super::*;

impl World {
    async fn ignore(&self, user: &UserId, ignored: &[OwnedUserId]) {
        let ignored: serde_json::Map<String, Value> =
            ignored.iter().map(|user| (user.to_string(), json!({}))).collect();
        self.store(user, None, "m.ignored_user_list", &json!({"ignored_users": ignored})).await;
    }
}

#[tokio::test]
async fn what_an_ignored_user_says_is_not_told_and_the_state_they_set_is() {
    let world = World::new().await;
    let room = world.room_with_bob().await;
    world.ignore(&bob(), &[alice(), bob()]).await;
    let before = world.sync(&bob(), None).await;
    world.say(&room, &alice(), "hidden").await;
    assert!(world.sync(&bob(), Some(&before)).await.get("rooms").is_none());
    world.set(&room, &alice(), "m.room.topic", json!({"topic": "T"})).await;
    world.say(&room, &bob(), "own").await;
    let response = world.sync(&bob(), Some(&before)).await;
    let told = joined(&response, &room);
    assert_eq!(short(&told["timeline"]), ["m.room.topic", "own"]);
    assert_eq!((short(&told["state"]).len(), &told["timeline"]["limited"]), (0, &json!(false)));
    assert_eq!(short(&joined(&world.sync(&alice(), None).await, &room)["timeline"]).last().unwrap(), "own");

    // Who is not ignored any more is heard from then on; what was missed comes with a fresh sync.
    world.ignore(&bob(), &[]).await;
    world.say(&room, &alice(), "heard").await;
    let next = world.sync(&bob(), Some(&response)).await;
    assert_eq!(short(&joined(&next, &room)["timeline"]), ["heard"]);
    let fresh = world.sync(&bob(), None).await;
    assert!(short(&joined(&fresh, &room)["timeline"]).contains(&"hidden".to_owned()));
}

#[tokio::test]
async fn an_invitation_by_an_ignored_user_is_not_told() {
    let world = World::new().await;
    let (ignored, other) = (world.room().await, world.room().await);
    world.change(&other, &carol(), MembershipChange::Join).await;
    world.set(&other, &alice(), "m.room.power_levels", json!({"invite": 0})).await;
    world.ignore(&bob(), &[alice()]).await;
    let before = world.sync(&bob(), None).await;
    world.change(&ignored, &alice(), MembershipChange::Invite { user: bob() }).await;
    world.change(&other, &carol(), MembershipChange::Invite { user: bob() }).await;
    for since in [None, Some(&before)] {
        let response = world.sync(&bob(), since).await;
        let invites: Vec<_> = response["rooms"]["invite"].as_object().unwrap().keys().collect();
        assert_eq!(invites, [other.as_str()]);
    }
}
