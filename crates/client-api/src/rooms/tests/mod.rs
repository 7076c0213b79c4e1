//! The endpoints of rooms through the real router, on the memory engine, with a clock that is turned by hand.

mod aliases;
mod creating;
mod finding;
mod history;
mod inviting;
mod joining;
mod peeking;
mod people;
mod reading;
mod related;
mod relating;
mod reporting;
mod searching;
mod sending;
mod spaces;
mod upgrading;
mod visibility;

pub(super) use crate::testing::{Answer, User};

use crate::Limits;
use http::Method;
use ruma::OwnedUserId;
use serde_json::{Value, json};
use std::time::Duration;

/// A server, and requests about rooms to it. Time passes a little with each.
pub(super) struct Server(pub crate::testing::Server);

impl Server {
    pub async fn start() -> Self {
        Self(crate::testing::Server::new().await)
    }

    pub async fn with_limits(limits: Limits) -> Self {
        Self(crate::testing::Server::with(|config, _| config.limits = limits).await)
    }

    /// A new user.
    pub async fn user(&self, name: &str) -> User {
        self.0.user(name).await
    }

    /// A new session of a user.
    pub async fn session(&self, id: &OwnedUserId) -> User {
        self.0.log_in(id.localpart()).await
    }

    pub async fn request(&self, user: Option<&User>, method: Method, path: impl AsRef<str>, body: String) -> Answer {
        self.0.clock.advance(Duration::from_millis(1));
        let path = format!("/_matrix/client/v3{}", path.as_ref());
        self.0.send(method, &path, user.map(|user| user.token.as_str()), body).await
    }

    pub async fn get(&self, user: &User, path: impl AsRef<str>) -> Answer {
        self.request(Some(user), Method::GET, path, String::new()).await
    }

    /// Asks for a path that begins after `/_matrix/client`.
    pub async fn get_at(&self, user: Option<&User>, path: impl AsRef<str>) -> Answer {
        self.0.clock.advance(Duration::from_millis(1));
        let path = format!("/_matrix/client{}", path.as_ref());
        self.0.send(Method::GET, &path, user.map(|user| user.token.as_str()), String::new()).await
    }

    pub async fn post(&self, user: &User, path: impl AsRef<str>, body: Value) -> Answer {
        self.request(Some(user), Method::POST, path, body.to_string()).await
    }

    pub async fn put(&self, user: &User, path: impl AsRef<str>, body: Value) -> Answer {
        self.request(Some(user), Method::PUT, path, body.to_string()).await
    }

    /// A new room, as the body describes it.
    pub async fn room(&self, creator: &User, body: Value) -> String {
        let answer = self.post(creator, "/createRoom", body).await.ok();
        answer["room_id"].as_str().unwrap().to_owned()
    }

    /// A message; answers its event id.
    pub async fn say(&self, user: &User, room: &str, text: &str) -> String {
        let path = format!("/rooms/{room}/send/m.room.message/{}", enc(text));
        let answer = self.put(user, &path, json!({"msgtype": "m.text", "body": text})).await.ok();
        answer["event_id"].as_str().unwrap().to_owned()
    }

    pub async fn join(&self, user: &User, room: &str) -> Answer {
        self.post(user, &format!("/rooms/{room}/join"), json!({})).await
    }

    pub async fn invite(&self, user: &User, room: &str, invited: &User) -> Answer {
        self.post(user, &format!("/rooms/{room}/invite"), json!({"user_id": invited.id})).await
    }

    pub async fn leave(&self, user: &User, room: &str) -> Answer {
        self.post(user, &format!("/rooms/{room}/leave"), json!({})).await
    }

    /// Kicks, bans or unbans.
    pub async fn act(&self, user: &User, room: &str, action: &str, target: &User) -> Answer {
        self.post(user, &format!("/rooms/{room}/{action}"), json!({"user_id": target.id})).await
    }

    pub async fn set_state(&self, user: &User, room: &str, kind: &str, key: &str, content: Value) -> Answer {
        self.put(user, &format!("/rooms/{room}/state/{kind}/{}", enc(key)), content).await
    }

    pub async fn state(&self, user: &User, room: &str, kind: &str, key: &str) -> Answer {
        self.get(user, &format!("/rooms/{room}/state/{kind}/{}", enc(key))).await
    }

    /// What a user is to a room, as one who is in it sees it.
    pub async fn membership(&self, viewer: &User, room: &str, user: &User) -> Value {
        self.state(viewer, room, "m.room.member", user.id.as_str()).await.ok()["membership"].clone()
    }
}

/// Percent-encodes a part of a path.
pub(super) fn enc(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!:@".contains(&byte);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// The bodies of the messages in a list of events.
pub(super) fn bodies(events: &Value) -> Vec<&str> {
    events.as_array().unwrap().iter().filter_map(|event| event["content"]["body"].as_str()).collect()
}

/// The types of a list of events.
pub(super) fn types(events: &Value) -> Vec<&str> {
    events.as_array().unwrap().iter().filter_map(|event| event["type"].as_str()).collect()
}
