//! Who may invite whom.

use super::{Answer, Server, User};
use serde_json::{Value, json};

const STABLE: &str = "m.invite_permission_config";
const LISTS: &str = "org.matrix.msc4155.invite_permission_config";

impl Server {
    async fn permit(&self, user: &User, kind: &str, content: Value) {
        self.put(user, format!("/user/{}/account_data/{kind}", user.id), content).await.ok();
    }

    /// The rooms that a user is told they are invited to, by sync, by sliding sync, and by the old way to begin.
    async fn invitations(&self, user: &User) -> [usize; 3] {
        let synced = self.get(user, "/sync").await.ok();
        let list = json!({"timeline_limit": 1, "range": [0, 9], "required_state": {}, "filters": {"is_invited": true}});
        let body = json!({"lists": {"invited": list}});
        let slid = self.0.post("/_matrix/client/v4/sync", Some(&user.token), &body).await.ok();
        let begun = self.get(user, "/initialSync").await.ok();
        let of_sync = synced["rooms"]["invite"].as_object().map_or(0, serde_json::Map::len);
        let of_sliding = slid["lists"]["invited"]["count"].as_u64().unwrap();
        [of_sync, usize::try_from(of_sliding).unwrap(), begun["rooms"].as_array().unwrap().len()]
    }
}

#[tokio::test]
async fn who_blocks_invitations_can_not_be_invited_in_any_way() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = server.room(&alice, json!({})).await;
    let ways = async || -> Vec<Answer> {
        let member = json!({"membership": "invite"});
        let state = json!({"type": "m.room.member", "state_key": bob.id, "content": member});
        vec![
            server.invite(&alice, &room, &bob).await,
            server.set_state(&alice, &room, "m.room.member", bob.id.as_str(), member).await,
            server.post(&alice, "/createRoom", json!({"invite": [bob.id]})).await,
            server.post(&alice, "/createRoom", json!({"initial_state": [state]})).await,
        ]
    };
    server.permit(&bob, STABLE, json!({"default_action": "block"})).await;
    for refused in ways().await {
        refused.refused(403, "M_INVITE_BLOCKED");
    }
    assert_eq!(server.invitations(&bob).await, [0; 3]);
    server.permit(&bob, STABLE, json!({})).await;
    for allowed in ways().await {
        allowed.ok();
    }
    // One by state is the one that was there already.
    assert_eq!(server.invitations(&bob).await, [3; 3]);
    server.permit(&bob, STABLE, json!({"default_action": "block"})).await;
    assert_eq!(server.invitations(&bob).await, [0; 3]);
    // It is still there, and can be accepted.
    server.join(&bob, &room).await.ok();
}

#[tokio::test]
async fn invitations_of_ignored_users_are_made_and_not_told() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = server.room(&alice, json!({})).await;
    server.permit(&bob, LISTS, json!({"ignored_users": ["@al*"], "blocked_servers": ["*"]})).await;
    server.invite(&alice, &room, &bob).await.ok();
    assert_eq!(server.membership(&alice, &room, &bob).await, "invite");
    assert_eq!(server.invitations(&bob).await, [0; 3]);
    server.permit(&bob, LISTS, json!({"allowed_users": [alice.id], "blocked_servers": ["*"]})).await;
    assert_eq!(server.invitations(&bob).await, [1; 3]);
    let carol = server.user("carol").await;
    let other = server.room(&carol, json!({})).await;
    server.invite(&carol, &other, &bob).await.refused(403, "M_INVITE_BLOCKED");
}
