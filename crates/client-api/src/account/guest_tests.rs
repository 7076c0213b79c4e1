//! Guests: what they may do, where they may enter, and how they become users.

use crate::testing::{PASSWORD, Server, User};
use http::Method;
use serde_json::{Value, json};

async fn with_guests() -> Server {
    Server::with(|_, accounts| accounts.registration.guests = true).await
}

async fn guest(server: &Server) -> User {
    let body = json!({"username": "ignored", "device_id": "IGNORED", "initial_device_display_name": "Phone"});
    User::of(&server.post("/_matrix/client/v3/register?kind=guest", None, &body).await.ok())
}

async fn room(server: &Server, creator: &User, guest_access: &str) -> String {
    let state = [
        json!({"type": "m.room.guest_access", "content": {"guest_access": guest_access}}),
        json!({"type": "m.room.history_visibility", "content": {"history_visibility": "world_readable"}}),
    ];
    let body = json!({"preset": "public_chat", "initial_state": state});
    let answer = server.post("/_matrix/client/v3/createRoom", Some(&creator.token), &body).await.ok();
    answer["room_id"].as_str().unwrap().to_owned()
}

async fn membership(server: &Server, viewer: &User, room: &str, user: &User) -> Value {
    let path = format!("/_matrix/client/v3/rooms/{room}/state/m.room.member/{}", user.id);
    server.get(&path, Some(&viewer.token)).await.body["membership"].clone()
}

#[tokio::test]
async fn there_are_no_guests_unless_the_settings_say_so() {
    let refused = Server::new().await.post("/_matrix/client/v3/register?kind=guest", None, &json!({})).await;
    refused.refused(403, "M_GUEST_ACCESS_FORBIDDEN");
}

#[tokio::test]
async fn a_guest_may_do_what_is_listed_and_nothing_else() {
    let server = with_guests().await;
    let (alice, guest) = (server.user("alice").await, guest(&server).await);
    assert!(guest.id.localpart() != "ignored" && guest.device != "IGNORED");
    let room = room(&server, &alice, "can_join").await;
    let token = Some(guest.token.as_str());
    let who = server.get("/_matrix/client/v3/account/whoami", token).await.ok();
    assert_eq!((&who["is_guest"], &who["user_id"]), (&json!(true), &json!(guest.id)));
    assert_eq!(server.get("/_matrix/client/v3/devices", token).await.ok()["devices"][0]["display_name"], "Phone");
    server.get(&format!("/_matrix/client/v3/rooms/{room}/messages?dir=b"), token).await.ok();
    server.post(&format!("/_matrix/client/v3/rooms/{room}/join"), token, &json!({})).await.ok();
    let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/1");
    server.put(&path, token, &json!({"body": "hello"})).await.ok();
    let name = format!("/_matrix/client/v3/profile/{}/displayname", guest.id);
    server.put(&name, token, &json!({"displayname": "G"})).await.ok();
    assert!(server.get("/_matrix/client/v3/sync", token).await.ok()["rooms"]["join"][&room].is_object());

    for (method, path) in [
        (Method::POST, "/_matrix/client/v3/createRoom".to_owned()),
        (Method::PUT, format!("/_matrix/client/v3/profile/{}/avatar_url", guest.id)),
        (Method::POST, format!("/_matrix/client/v3/rooms/{room}/invite")),
        (Method::POST, "/_matrix/client/v3/account/password".to_owned()),
        (Method::PUT, format!("/_matrix/client/v3/user/{}/account_data/x", guest.id)),
    ] {
        server.send(method, &path, token, "{}").await.refused(403, "M_GUEST_ACCESS_FORBIDDEN");
    }
}

#[tokio::test]
async fn guests_enter_rooms_that_let_them_in_and_leave_those_that_do_so_no_more() {
    let server = with_guests().await;
    let (alice, bob, guest) = (server.user("alice").await, server.user("bob").await, guest(&server).await);
    let (open, closed) = (room(&server, &alice, "can_join").await, room(&server, &alice, "forbidden").await);
    let join = |room: &str, user: &User| {
        let (server, path, token) = (&server, format!("/_matrix/client/v3/rooms/{room}/join"), user.token.clone());
        async move { server.post(&path, Some(&token), &json!({})).await }
    };
    join(&closed, &guest).await.refused(403, "M_GUEST_ACCESS_FORBIDDEN");
    let invite = json!({"user_id": guest.id});
    let path = format!("/_matrix/client/v3/rooms/{closed}/invite");
    server.post(&path, Some(&alice.token), &invite).await.ok();
    join(&closed, &guest).await.refused(403, "M_GUEST_ACCESS_FORBIDDEN");
    let path = format!("/_matrix/client/v3/rooms/{closed}/state/m.room.member/{}", guest.id);
    let content = json!({"membership": "join"});
    server.put(&path, Some(&guest.token), &content).await.refused(403, "M_GUEST_ACCESS_FORBIDDEN");

    for user in [&guest, &bob] {
        join(&open, user).await.ok();
    }
    let path = format!("/_matrix/client/v3/rooms/{open}/state/m.room.guest_access");
    server.put(&path, Some(&alice.token), &json!({"guest_access": "forbidden"})).await.ok();
    while membership(&server, &alice, &open, &guest).await != "leave" {
        tokio::task::yield_now().await;
    }
    assert_eq!(membership(&server, &alice, &open, &bob).await, "join");
    join(&open, &guest).await.refused(403, "M_GUEST_ACCESS_FORBIDDEN");
}

#[tokio::test]
async fn a_guest_has_to_leave_when_what_let_them_in_is_redacted() {
    let server = with_guests().await;
    let (alice, guest) = (server.user("alice").await, guest(&server).await);
    let room = room(&server, &alice, "can_join").await;
    let joined = server.post(&format!("/_matrix/client/v3/join/{room}"), Some(&guest.token), &json!({})).await.ok();
    assert_eq!(joined["room_id"], room);
    let path = format!("/_matrix/client/v3/rooms/{room}/state/m.room.guest_access?format=event");
    let event = server.get(&path, Some(&alice.token)).await.ok()["event_id"].as_str().unwrap().to_owned();
    let path = format!("/_matrix/client/v3/rooms/{room}/redact/{event}/1");
    server.put(&path, Some(&alice.token), &json!({})).await.ok();
    while membership(&server, &alice, &room, &guest).await != "leave" {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_guest_becomes_a_user_by_registering() {
    let server = with_guests().await;
    let (alice, guest, other) = (server.user("alice").await, guest(&server).await, guest(&server).await);
    let room = room(&server, &alice, "can_join").await;
    server.post(&format!("/_matrix/client/v3/rooms/{room}/join"), Some(&guest.token), &json!({})).await.ok();
    let register = async |username: Option<&str>, token: &str| {
        let mut body = json!({"password": PASSWORD, "guest_access_token": token, "auth": {"type": "m.login.dummy"}});
        if let Some(username) = username {
            body["username"] = json!(username);
        }
        server.post("/_matrix/client/v3/register", None, &body).await
    };
    let name = guest.id.localpart();
    register(None, &guest.token).await.refused(400, "M_MISSING_PARAM");
    register(Some("somebody"), &guest.token).await.refused(403, "M_FORBIDDEN");
    register(Some(name), &other.token).await.refused(403, "M_FORBIDDEN");
    register(Some("alice"), &alice.token).await.refused(403, "M_FORBIDDEN");
    register(Some(name), "nothing").await.refused(403, "M_FORBIDDEN");
    let user = User::of(&register(Some(name), &guest.token).await.ok());
    assert_eq!(user.id, guest.id);
    server.get("/_matrix/client/v3/account/whoami", Some(&guest.token)).await.refused(401, "M_UNKNOWN_TOKEN");
    let who = server.get("/_matrix/client/v3/account/whoami", Some(&user.token)).await.ok();
    assert_eq!(who["is_guest"], json!(false));
    server.log_in(name).await;
    server.post("/_matrix/client/v3/createRoom", Some(&user.token), &json!({})).await.ok();
    assert_eq!(membership(&server, &alice, &room, &user).await, "join");
}
