//! Shadow-bans: what some users say reaches nobody, and they are not told. Their requests are answered as those of
//! others are; the events that the answers name are nowhere. They come and go as they like, and read what others say.

use crate::State;
use crate::session::Session;
use base::random_string;
use ruma::OwnedEventId;

/// The letters of an event id of the newer room versions.
const EVENT_ID_LETTERS: usize = 43;

impl State {
    /// An event id that belongs to no event, if what this user says is to reach nobody.
    pub(crate) fn event_for_nobody(&self, session: &Session) -> Option<OwnedEventId> {
        if !session.sanctions.shadow_banned {
            return None;
        }
        format!("${}", random_string(&*self.random, EVENT_ID_LETTERS)).try_into().ok()
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::Server;
    use serde_json::json;

    const V3: &str = "/_matrix/client/v3";

    #[tokio::test]
    async fn what_a_shadow_banned_user_says_reaches_nobody_and_they_are_not_told() {
        let server = Server::new().await;
        let (alice, bob) = (server.user("alice").await, server.user("bob").await);
        let (theirs, others) = (Some(alice.token.as_str()), Some(bob.token.as_str()));
        let room = server.post(&format!("{V3}/createRoom"), others, &json!({ "preset": "public_chat" })).await.ok();
        let room = room["room_id"].as_str().unwrap().to_owned();
        server.post(&format!("{V3}/rooms/{room}/join"), theirs, &json!({})).await.ok();
        server.state.accounts.set_shadow_banned(&alice.id, true).await.unwrap();
        let body = json!({ "msgtype": "m.text", "body": "spam" });
        let said = server.put(&format!("{V3}/rooms/{room}/send/m.room.message/1"), theirs, &body).await.ok();
        let said = said["event_id"].as_str().unwrap().to_owned();
        assert_eq!(said.len(), 44);
        server.get(&format!("{V3}/rooms/{room}/event/{said}"), others).await.refused(404, "M_NOT_FOUND");
        let own = server.post(&format!("{V3}/createRoom"), theirs, &json!({ "invite": [bob.id] })).await.ok();
        let own = own["room_id"].as_str().unwrap().to_owned();
        let invite = format!("{V3}/rooms/{own}/invite");
        server.post(&invite, theirs, &json!({ "user_id": bob.id })).await.ok();
        let state = format!("{V3}/rooms/{own}/state/m.room.member/{}", bob.id);
        server.put(&state, theirs, &json!({ "membership": "invite" })).await.ok();
        server.put(&format!("{V3}/rooms/{own}/state/m.room.topic/"), theirs, &json!({ "topic": "spam" })).await.ok();
        server.get(&format!("{V3}/rooms/{own}/state/m.room.topic/"), theirs).await.refused(404, "M_NOT_FOUND");
        let sync = server.get(&format!("{V3}/sync"), others).await.ok();
        assert_eq!(sync["rooms"].get("invite").and_then(|invites| invites.get(&own)), None);
        assert!(!sync.to_string().contains("spam"));
        server.post(&format!("{V3}/rooms/{room}/leave"), theirs, &json!({})).await.ok();
    }
}
