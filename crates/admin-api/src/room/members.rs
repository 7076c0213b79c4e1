//! Who is in a room, its state, and what its next event follows.

use crate::State;
use crate::access::Admin;
use axum::extract;
use axum::routing::get;
use axum::{Json, Router};
use base::Stamp;
use face::ApiError;
use face::wire::Args;
use records::Membership;
use rooms::Recipient;
use rules::client_event::Format;
use ruma::{OwnedRoomId, OwnedUserId};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::sync::Arc;

/// How many members are read at once.
const MEMBERS_AT_ONCE: usize = 1000;

pub(super) fn routes() -> Router<Arc<State>> {
    Router::new()
        .route("/_synapse/admin/v1/rooms/{room_id}/members", get(members))
        .route("/_synapse/admin/v1/rooms/{room_id}/state", get(room_state))
        .route("/_synapse/admin/v1/rooms/{room_id}/forward_extremities", get(extremities))
}

/// `GET /_synapse/admin/v1/rooms/{roomId}/members`: all who have joined.
async fn members(
    extract::State(state): extract::State<Arc<State>>,
    _: Admin,
    Args((room_id,)): Args<(OwnedRoomId,)>,
) -> Result<Json<Value>, ApiError> {
    let reader = state.room(&room_id)?;
    let mut members: Vec<OwnedUserId> = Vec::new();
    loop {
        let after = members.last().map(AsRef::as_ref);
        let page = reader.view().room_members(reader.num(), Membership::Join, after, MEMBERS_AT_ONCE)?;
        if page.is_empty() {
            return Ok(Json(json!({ "total": members.len(), "members": members })));
        }
        members.extend(page.into_iter().map(|(user, _)| user));
    }
}

/// `GET /_synapse/admin/v1/rooms/{roomId}/state`: all of it.
async fn room_state(
    extract::State(state): extract::State<Arc<State>>,
    admin: Admin,
    Args((room_id,)): Args<(OwnedRoomId,)>,
) -> Result<Json<Value>, ApiError> {
    let reader = state.room(&room_id)?;
    let recipient = Recipient { user_id: &admin.user_id, device_id: None, now: state.clock.now() };
    let events = reader.state_events(reader.state())?;
    let worded = events.iter().map(|event| reader.client_event_alone(event, recipient, None, Format::WithRoomId));
    let events: Vec<Box<RawValue>> = worded.collect::<Result<_, _>>()?;
    Ok(Json(json!({ "state": events })))
}

/// `GET /_synapse/admin/v1/rooms/{roomId}/forward_extremities`
async fn extremities(
    extract::State(state): extract::State<Arc<State>>,
    _: Admin,
    Args((room_id,)): Args<(OwnedRoomId,)>,
) -> Result<Json<Value>, ApiError> {
    let reader = state.room(&room_id)?;
    let events = reader.events(&reader.head().extremities)?.into_iter().map(|event| {
        json!({
            "event_id": event.pdu.event_id(),
            "depth": event.pdu.depth(),
            "received_ts": event.pdu.origin_server_ts(),
            "state_group": event.record.state_after.0.map_or(Stamp(0).0, |node| node.0),
        })
    });
    let events: Vec<Value> = events.collect();
    Ok(Json(json!({ "count": events.len(), "results": events })))
}

#[cfg(test)]
mod tests {
    use crate::testing::Server;
    use serde_json::json;

    #[tokio::test]
    async fn members_and_state_and_extremities_are_shown() {
        let server = Server::new().await;
        let (admin, alice, bob) = (server.admin("root").await, server.user("alice").await, server.user("bob").await);
        let room = server.room(&alice).await;
        server.enter(&bob, &room).await;
        let last = server.say(&bob, &room, "hello").await;
        let get =
            async |what: &str| server.get(&format!("/_synapse/admin/v1/rooms/{room}/{what}"), Some(&admin)).await.ok();
        assert_eq!(get("members").await, json!({ "members": [alice.id, bob.id], "total": 2 }));
        let state = get("state").await;
        let state = state["state"].as_array().unwrap();
        assert!(state.iter().any(|event| event["type"] == "m.room.create" && event["room_id"] == room.as_str()));
        let extremities = get("forward_extremities").await;
        assert_eq!((&extremities["count"], &extremities["results"][0]["event_id"]), (&json!(1), &json!(last)));
        server.get("/_synapse/admin/v1/rooms/!no:x/members", Some(&admin)).await.refused(404, "M_NOT_FOUND");
    }
}
