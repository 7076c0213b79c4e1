//! `GET /notifications`

use crate::limits::Class;
use crate::session::Session;
use crate::{ApiError, State};
use ::sync::{Notification, PageToken, Wanted};
use axum::{Json, extract};
use http::Uri;
use ruma::OwnedRoomId;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use std::sync::Arc;

/// How many notifications clients get that don't say how many.
const LIMIT_DEFAULT: usize = 20;

#[derive(Deserialize)]
struct Parameters {
    from: Option<String>,
    limit: Option<usize>,
    only: Option<String>,
}

/// A page of notifications.
#[derive(Serialize)]
pub(super) struct Response {
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
    notifications: Vec<Item>,
}

/// A notification.
#[derive(Serialize)]
struct Item {
    actions: Vec<Value>,
    event: Box<RawValue>,
    read: bool,
    room_id: OwnedRoomId,
    ts: u64,
}

/// What the user has been, or would have been, notified of, newest first.
pub(super) async fn notifications(
    extract::State(state): extract::State<Arc<State>>,
    session: Session,
    uri: Uri,
) -> Result<Json<Response>, ApiError> {
    state.limit(Class::Other, &session)?;
    let parameters = extract::Query::<Parameters>::try_from_uri(&uri);
    let extract::Query(parameters) = parameters.map_err(|error| ApiError::invalid_param(error.body_text()))?;
    let from = parameters.from.as_deref().map(PageToken::parse).transpose();
    let from = from.map_err(|error| ApiError::invalid_param(format!("from: {error}")))?;
    let wanted = if parameters.only.as_deref() == Some("highlight") { Wanted::Highlights } else { Wanted::All };
    let limit = parameters.limit.unwrap_or(LIMIT_DEFAULT);
    // Many rooms may have to be looked at, which is no work for a thread that serves others.
    let found = tokio::task::spawn_blocking(move || {
        state.syncs.notifications(&session.user_id, &session.device_id, from, limit, wanted)
    });
    let found = found.await.map_err(|error| ApiError::internal(&error))??;
    let item = |found: Notification| Item {
        actions: found.actions,
        event: found.event,
        read: found.read,
        room_id: found.room_id,
        ts: found.at.0,
    };
    let notifications = found.notifications.into_iter().map(item).collect();
    Ok(Json(Response { next_token: found.next.map(|next| next.to_string()), notifications }))
}

#[cfg(test)]
mod tests {
    use crate::testing::{Server, User};
    use serde_json::{Value, json};

    async fn room(server: &Server, owner: &User, member: &User) -> String {
        let body = json!({"preset": "public_chat"});
        let created = server.post("/_matrix/client/v3/createRoom", Some(&owner.token), &body).await.ok();
        let room = created["room_id"].as_str().unwrap().to_owned();
        let path = format!("/_matrix/client/v3/rooms/{room}/join");
        server.post(&path, Some(&member.token), &json!({})).await.ok();
        room
    }

    async fn say(server: &Server, user: &User, room: &str, txn: &str, content: Value) -> String {
        let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/{txn}");
        server.put(&path, Some(&user.token), &content).await.ok()["event_id"].as_str().unwrap().to_owned()
    }

    async fn get(server: &Server, user: &User, query: &str) -> Value {
        server.get(&format!("/_matrix/client/v3/notifications?{query}"), Some(&user.token)).await.ok()
    }

    fn bodies(page: &Value) -> Vec<&str> {
        let list = page["notifications"].as_array().unwrap();
        list.iter().map(|item| item["event"]["content"]["body"].as_str().unwrap()).collect()
    }

    #[tokio::test]
    async fn notifications_of_all_rooms_come_newest_first_page_by_page() {
        let server = Server::new().await;
        let (alice, bob) = (server.user("alice").await, server.user("bob").await);
        assert_eq!(get(&server, &bob, "").await, json!({"notifications": []}));
        let (first, second) = (room(&server, &alice, &bob).await, room(&server, &alice, &bob).await);
        let mentions = json!({"user_ids": [bob.id]});
        let mut ids = Vec::new();
        for n in 0..30 {
            let room = if n % 3 == 0 { &second } else { &first };
            let mut content = json!({"body": n.to_string(), "msgtype": "m.text"});
            if n == 4 {
                content["m.mentions"] = mentions.clone();
            }
            ids.push(say(&server, &alice, room, &n.to_string(), content).await);
        }
        say(&server, &bob, &first, "own", json!({"body": "own"})).await;
        let receipt = format!("/_matrix/client/v3/rooms/{second}/receipt/m.read/{}", ids[24]);
        server.post(&receipt, Some(&bob.token), &json!({})).await.ok();

        let page = get(&server, &bob, "limit=7").await;
        assert_eq!(bodies(&page), ["29", "28", "27", "26", "25", "24", "23"]);
        let newest = &page["notifications"][0];
        assert_eq!((&newest["room_id"], &newest["read"]), (&json!(first), &json!(false)));
        assert_eq!((&newest["event"]["event_id"], &newest["actions"][0]), (&json!(ids[29]), &json!("notify")));
        assert!(newest["ts"].is_u64() && newest["event"].get("room_id").is_none());
        assert_eq!(page["notifications"][5]["read"], true);
        let mut all: Vec<String> = bodies(&page).iter().map(ToString::to_string).collect();
        let mut next = page["next_token"].clone();
        while let Some(from) = next.as_str() {
            let page = get(&server, &bob, &format!("limit=7&from={from}")).await;
            all.extend(bodies(&page).iter().map(ToString::to_string));
            next = page["next_token"].clone();
        }
        let expected: Vec<String> = (0..30).rev().map(|n: u32| n.to_string()).collect();
        assert_eq!(all, expected);
        assert_eq!(bodies(&get(&server, &bob, "only=highlight").await), ["4"]);
        assert_eq!(bodies(&get(&server, &alice, "").await), ["own"]);
    }

    #[tokio::test]
    async fn wrong_parameters_are_refused() {
        let server = Server::new().await;
        let alice = server.user("alice").await;
        for query in ["from=x", "limit=-1", "limit=x"] {
            let path = format!("/_matrix/client/v3/notifications?{query}");
            server.get(&path, Some(&alice.token)).await.refused(400, "M_INVALID_PARAM");
        }
        server.get("/_matrix/client/v3/notifications", None).await.refused(401, "M_MISSING_TOKEN");
    }
}
