//! Blocked rooms: `/_synapse/admin/v1/rooms/{roomId}/block`.

use crate::State;
use crate::access::Admin;
use axum::extract;
use axum::routing::get;
use axum::{Json, Router};
use face::ApiError;
use face::wire::{Args, Body};
use ruma::OwnedRoomId;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) fn routes() -> Router<Arc<State>> {
    Router::new().route("/_synapse/admin/v1/rooms/{room_id}/block", get(show).put(set))
}

async fn show(
    extract::State(state): extract::State<Arc<State>>,
    _: Admin,
    Args((room_id,)): Args<(OwnedRoomId,)>,
) -> Result<Json<Value>, ApiError> {
    Ok(Json(match state.records.view().blocked_room(&room_id)? {
        Some(blocked) => json!({ "block": true, "user_id": blocked.by }),
        None => json!({ "block": false }),
    }))
}

#[derive(Debug, Deserialize)]
struct Block {
    block: bool,
}

/// Also of rooms that are not known here.
async fn set(
    extract::State(state): extract::State<Arc<State>>,
    admin: Admin,
    Args((room_id,)): Args<(OwnedRoomId,)>,
    Body(Block { block }): Body<Block>,
) -> Result<Json<Value>, ApiError> {
    state.rooms.set_blocked(&room_id, &admin.user_id, block).await?;
    tracing::info!(admin = %admin.user_id, %room_id, block, "a room was blocked, or is not any more");
    Ok(Json(json!({ "block": block })))
}

#[cfg(test)]
mod tests {
    use crate::testing::Server;
    use serde_json::json;

    #[tokio::test]
    async fn rooms_are_blocked_whether_they_are_known_or_not() {
        let server = Server::new().await;
        let admin = server.admin("root").await;
        for room in [server.room(&admin).await.to_string(), "!unknown:elsewhere.org".to_owned()] {
            let path = format!("/_synapse/admin/v1/rooms/{room}/block");
            assert_eq!(server.get(&path, Some(&admin)).await.ok(), json!({ "block": false }));
            server.put(&path, Some(&admin), &json!({ "block": true })).await.ok();
            let shown = server.get(&path, Some(&admin)).await.ok();
            assert_eq!(shown, json!({ "block": true, "user_id": admin.id }));
            assert_eq!(server.put(&path, Some(&admin), &json!({ "block": false })).await.ok()["block"], false);
            assert_eq!(server.get(&path, Some(&admin)).await.ok(), json!({ "block": false }));
        }
    }
}
