//! `GET` and `PUT /presence/{userId}/status`

use crate::limits::Class;
use crate::session::Session;
use crate::wire::{Args, Body};
use crate::{ApiError, State};
use ::sync::PresenceState;
use axum::{Json, extract};
use ruma::OwnedUserId;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::sync::Arc;

/// What a user is, and what they say of it.
#[derive(Deserialize)]
pub(super) struct Request {
    presence: Name,
    status_msg: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Name {
    Online,
    Unavailable,
    Offline,
}

/// The presence of a user, for themselves and those who share a room with them. In an agency without presence
/// everybody is offline.
pub(super) async fn show(
    extract::State(state): extract::State<Arc<State>>,
    session: Session,
    Args((user,)): Args<(OwnedUserId,)>,
) -> Result<Json<Box<RawValue>>, ApiError> {
    let presence = state.syncs.presence(&session.user_id, &user)?;
    Ok(Json(RawValue::from_string(presence.to_json()).map_err(|error| ApiError::internal(&error))?))
}

/// Sets what the user is. The status message is replaced, or without one removed.
pub(super) async fn set(
    extract::State(state): extract::State<Arc<State>>,
    session: Session,
    Args((user,)): Args<(OwnedUserId,)>,
    Body(request): Body<Request>,
) -> Result<Json<Value>, ApiError> {
    if session.user_id != user {
        return Err(ApiError::forbidden("one sets one's own presence"));
    }
    state.limit(Class::Other, &session)?;
    let presence = match request.presence {
        Name::Online => PresenceState::Online,
        Name::Unavailable => PresenceState::Unavailable,
        Name::Offline => PresenceState::Offline,
    };
    state.syncs.set_presence(&user, &session.device_id, presence, request.status_msg)?;
    Ok(Json(json!({})))
}

#[cfg(test)]
mod tests {
    use crate::testing::{Server, User};
    use serde_json::{Value, json};
    use std::time::Duration;

    struct World {
        server: Server,
        alice: User,
        bob: User,
    }

    impl World {
        /// Alice and bob share a room.
        async fn new() -> Self {
            Self::with(true).await
        }

        async fn with(presence: bool) -> Self {
            let server = Server::with_sync(|config| config.presence = presence).await;
            let (alice, bob) = (server.user("alice").await, server.user("bob").await);
            let world = Self { server, alice, bob };
            let create = json!({"preset": "public_chat"});
            let token = Some(world.alice.token.as_str());
            let room = world.server.post("/_matrix/client/v3/createRoom", token, &create).await.ok();
            let path = format!("/_matrix/client/v3/rooms/{}/join", room["room_id"].as_str().unwrap());
            world.server.post(&path, Some(&world.bob.token), &json!({})).await.ok();
            world
        }

        fn path(user: &User) -> String {
            format!("/_matrix/client/v3/presence/{}/status", user.id)
        }

        async fn set(&self, user: &User, body: Value) {
            self.server.put(&Self::path(user), Some(&user.token), &body).await.ok();
        }

        async fn sync(&self, user: &User, since: Option<&Value>, rest: &str) -> Value {
            let since = since.map(|since| format!("since={}", since["next_batch"].as_str().unwrap()));
            let path = format!("/_matrix/client/v3/sync?{}&{rest}", since.unwrap_or_default());
            self.server.get(&path, Some(&user.token)).await.ok()
        }
    }

    /// What a response says of users: their states and status messages.
    fn told(response: &Value) -> Vec<(String, String, Option<String>)> {
        let events = response["presence"]["events"].as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().map(ToOwned::to_owned);
        let of = |event: Value| {
            assert_eq!(event["type"], "m.presence");
            let content = &event["content"];
            (text(&event["sender"]).unwrap(), text(&content["presence"]).unwrap(), text(&content["status_msg"]))
        };
        events.into_iter().map(of).collect()
    }

    #[tokio::test]
    async fn what_a_user_says_is_shown_to_those_who_share_a_room() {
        let world = World::new().await;
        let shown = world.server.get(&World::path(&world.alice), Some(&world.alice.token)).await.ok();
        assert_eq!(shown, json!({"presence": "offline"}));
        world.set(&world.alice, json!({"presence": "online", "status_msg": "here"})).await;
        world.server.clock.advance(Duration::from_secs(5));
        let shown = world.server.get(&World::path(&world.alice), Some(&world.bob.token)).await.ok();
        let expected = json!({
            "presence": "online", "status_msg": "here", "last_active_ago": 5000, "currently_active": true,
        });
        assert_eq!(shown, expected);
        world.set(&world.alice, json!({"presence": "unavailable"})).await;
        let shown = world.server.get(&World::path(&world.alice), Some(&world.alice.token)).await.ok();
        assert_eq!(shown, json!({"presence": "unavailable", "last_active_ago": 5000}));

        let carol = world.server.user("carol").await;
        world.server.get(&World::path(&world.alice), Some(&carol.token)).await.refused(403, "M_FORBIDDEN");
        world.server.get(&World::path(&world.alice), None).await.refused(401, "M_MISSING_TOKEN");
    }

    #[tokio::test]
    async fn one_sets_ones_own_presence_and_nothing_else() {
        let world = World::new().await;
        let (path, token) = (World::path(&world.alice), Some(world.alice.token.as_str()));
        let body = json!({"presence": "online"});
        world.server.put(&path, Some(&world.bob.token), &body).await.refused(403, "M_FORBIDDEN");
        world.server.put(&path, None, &body).await.refused(401, "M_MISSING_TOKEN");
        for bad in [json!({}), json!({"presence": "asleep"}), json!({"presence": "online", "status_msg": 7})] {
            world.server.put(&path, token, &bad).await.refused(400, "M_BAD_JSON");
        }
        let long = json!({"presence": "online", "status_msg": "x".repeat(2000)});
        world.server.put(&path, token, &long).await.refused(400, "M_INVALID_PARAM");
    }

    #[tokio::test]
    async fn changes_are_told_by_syncs() {
        let world = World::new().await;
        let mut b = world.sync(&world.bob, None, "").await;
        assert_eq!(told(&b), []);
        let alice = |state: &str, status: Option<&str>| {
            vec![(world.alice.id.to_string(), state.to_owned(), status.map(ToOwned::to_owned))]
        };
        let a = world.sync(&world.alice, None, "set_presence=unavailable").await;
        assert_eq!(told(&a), [(world.bob.id.to_string(), "online".to_owned(), None)], "who is there already");
        b = world.sync(&world.bob, Some(&b), "timeout=5000").await;
        assert_eq!(told(&b), alice("unavailable", None));
        world.set(&world.alice, json!({"presence": "online", "status_msg": "hi"})).await;
        b = world.sync(&world.bob, Some(&b), "timeout=5000").await;
        assert_eq!(told(&b), alice("online", Some("hi")));
        world.server.clock.advance(Duration::from_secs(31));
        b = world.sync(&world.bob, Some(&b), "timeout=5000").await;
        assert_eq!(told(&b), alice("offline", Some("hi")), "who does not sync is gone");
        b = world.sync(&world.bob, Some(&b), "").await;
        assert_eq!(told(&b), []);
        let filter = "filter=%7B%22presence%22:%7B%22types%22:%5B%5D%7D%7D";
        world.set(&world.alice, json!({"presence": "online"})).await;
        assert_eq!(told(&world.sync(&world.bob, None, filter).await), []);
    }

    #[tokio::test]
    async fn who_joins_sees_who_is_there_and_is_seen() {
        let world = World::new().await;
        let carol = world.server.user("carol").await;
        let room =
            world.sync(&world.alice, None, "").await["rooms"]["join"].as_object().unwrap().keys().next().cloned();
        let c = world.sync(&carol, None, "").await;
        let a = world.sync(&world.alice, None, "").await;
        let path = format!("/_matrix/client/v3/rooms/{}/join", room.unwrap());
        world.server.post(&path, Some(&carol.token), &json!({})).await.ok();
        let users = |response: &Value| told(response).into_iter().map(|(user, _, _)| user).collect::<Vec<_>>();
        let c = world.sync(&carol, Some(&c), "timeout=5000").await;
        assert_eq!(users(&c), [world.alice.id.as_str()]);
        let mut a = world.sync(&world.alice, Some(&a), "timeout=5000").await;
        if users(&a).is_empty() {
            // The join itself may come first.
            a = world.sync(&world.alice, Some(&a), "timeout=5000").await;
        }
        assert_eq!(users(&a), [carol.id.as_str()]);
    }

    #[tokio::test]
    async fn without_presence_everybody_is_offline() {
        let world = World::with(false).await;
        world.set(&world.alice, json!({"presence": "online", "status_msg": "x"})).await;
        world.sync(&world.alice, None, "").await;
        assert_eq!(told(&world.sync(&world.bob, None, "").await), []);
        let shown = world.server.get(&World::path(&world.alice), Some(&world.bob.token)).await.ok();
        assert_eq!(shown, json!({"presence": "offline"}));
    }

    #[tokio::test]
    async fn who_sends_is_there() {
        let world = World::new().await;
        let b = world.sync(&world.bob, None, "set_presence=offline").await;
        let room = b["rooms"]["join"].as_object().unwrap().keys().next().cloned().unwrap();
        let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/1");
        world.server.put(&path, Some(&world.alice.token), &json!({"body": "x"})).await.ok();
        let b = world.sync(&world.bob, Some(&b), "").await;
        let b = world.sync(&world.bob, Some(&b), "timeout=5000&set_presence=offline").await;
        assert_eq!(told(&b), [(world.alice.id.to_string(), "online".to_owned(), None)]);
    }
}
