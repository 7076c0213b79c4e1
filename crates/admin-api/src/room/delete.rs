//! Deleting rooms: `DELETE /_synapse/admin/v2/rooms/{roomId}` and how that stands.

use crate::State;
use crate::access::Admin;
use axum::extract;
use axum::routing::{delete, get};
use axum::{Json, Router};
use face::ApiError;
use face::wire::{Args, Body};
use records::{Job, JobRecord, JobStatus, RoomDeletion};
use ruma::{OwnedRoomId, OwnedUserId};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// What the new room is called and what is said in it, unless the administrator says.
const NAME_DEFAULT: &str = "Комната закрыта / Room closed";
const MESSAGE_DEFAULT: &str =
    "Администраторы закрыли комнату, в которой вы были. / The administrators have closed the room that you were in.";
/// The longest of either, in bytes.
const TEXT_BYTES_MAX: usize = 4096;

pub(super) fn routes() -> Router<Arc<State>> {
    Router::new()
        .route("/_synapse/admin/v2/rooms/{room_id}", delete(remove))
        .route("/_synapse/admin/v2/rooms/{room_id}/delete_status", get(of_room))
        .route("/_synapse/admin/v2/rooms/delete_status/{delete_id}", get(of_deletion))
}

/// `DELETE /_synapse/admin/v1/rooms/{roomId}` is answered when all is done, which may take longer than a request does.
pub(super) async fn refuse_first_version(_: Admin) -> ApiError {
    ApiError::unknown("use DELETE /_synapse/admin/v2/rooms/{room_id}, which goes on in the background")
}

#[derive(Debug, Deserialize)]
struct Request {
    new_room_user_id: Option<OwnedUserId>,
    room_name: Option<String>,
    message: Option<String>,
    #[serde(default)]
    block: bool,
    purge: Option<bool>,
    #[serde(default)]
    force_purge: bool,
}

async fn remove(
    extract::State(state): extract::State<Arc<State>>,
    admin: Admin,
    Args((room_id,)): Args<(OwnedRoomId,)>,
    Body(request): Body<Request>,
) -> Result<Json<Value>, ApiError> {
    let room = state.records.view().room_num(&room_id)?;
    // A room that is not known here can be blocked before anybody enters it.
    if room.is_none() && !request.block {
        return Err(ApiError::not_found("Room not found"));
    }
    for text in [&request.room_name, &request.message].into_iter().flatten() {
        if text.is_empty() || text.len() > TEXT_BYTES_MAX {
            return Err(ApiError::invalid_param(format!("the name and the message have 1 to {TEXT_BYTES_MAX} bytes")));
        }
    }
    let new_room = match request.new_room_user_id {
        Some(user) => {
            if state.local_user(&user)?.deactivated_at.is_some() {
                return Err(ApiError::invalid_param("who creates the new room is deactivated"));
            }
            let name = request.room_name.unwrap_or_else(|| NAME_DEFAULT.to_owned());
            Some((user, name, request.message.unwrap_or_else(|| MESSAGE_DEFAULT.to_owned())))
        }
        None => None,
    };
    let is_open = |(_, record): &(String, JobRecord)| record.status == JobStatus::Open && is_of(record, &room_id);
    if state.records.view().jobs()?.iter().any(is_open) {
        return Err(ApiError::unknown("the room is being deleted already"));
    }
    if request.block {
        state.rooms.set_blocked(&room_id, &admin.user_id, true).await?;
    }
    tracing::warn!(admin = %admin.user_id, %room_id, "a room is deleted");
    let deletion = RoomDeletion {
        room_id,
        room,
        purge: request.purge.unwrap_or(true),
        force: request.force_purge,
        new_room,
        new_room_id: None,
        kicked: Vec::new(),
        failed_to_kick: Vec::new(),
        aliases: Vec::new(),
        is_empty: false,
    };
    let id = state.begin_job(&admin.user_id, Job::DeleteRoom(deletion)).await?;
    Ok(Json(json!({ "delete_id": id })))
}

fn is_of(record: &JobRecord, room_id: &ruma::RoomId) -> bool {
    matches!(&record.job, Job::DeleteRoom(deletion) if deletion.room_id == room_id)
}

fn shown(id: Option<&str>, record: &JobRecord) -> Option<Value> {
    let Job::DeleteRoom(deletion) = &record.job else { return None };
    let (status, error) = match &record.status {
        JobStatus::Open if deletion.is_empty => ("purging", None),
        JobStatus::Open => ("shutting_down", None),
        JobStatus::Complete { .. } => ("complete", None),
        JobStatus::Failed { why, .. } => ("failed", Some(why)),
    };
    let mut shown = json!({
        "status": status,
        "shutdown_room": {
            "kicked_users": deletion.kicked,
            "failed_to_kick_users": deletion.failed_to_kick,
            "local_aliases": deletion.aliases,
            "new_room_id": deletion.new_room_id,
        },
    });
    if let Some(fields) = shown.as_object_mut() {
        fields.extend(id.map(|id| ("delete_id".to_owned(), json!(id))));
        fields.extend(error.map(|error| ("error".to_owned(), json!(error))));
    }
    Some(shown)
}

/// `GET /_synapse/admin/v2/rooms/{roomId}/delete_status`
async fn of_room(
    extract::State(state): extract::State<Arc<State>>,
    _: Admin,
    Args((room_id,)): Args<(OwnedRoomId,)>,
) -> Result<Json<Value>, ApiError> {
    let jobs = state.records.view().jobs()?;
    let of_room = jobs.iter().filter(|(_, record)| is_of(record, &room_id));
    let results: Vec<Value> = of_room.filter_map(|(id, record)| shown(Some(id), record)).collect();
    if results.is_empty() {
        return Err(ApiError::not_found("no deletion of this room is known"));
    }
    Ok(Json(json!({ "results": results })))
}

/// `GET /_synapse/admin/v2/rooms/delete_status/{deleteId}`
async fn of_deletion(
    extract::State(state): extract::State<Arc<State>>,
    _: Admin,
    Args((id,)): Args<(String,)>,
) -> Result<Json<Value>, ApiError> {
    let record = state.records.view().job(&id)?;
    let shown = record.and_then(|record| shown(None, &record));
    shown.map(Json).ok_or_else(|| ApiError::not_found("there is no such deletion"))
}

#[cfg(test)]
mod tests {
    use crate::testing::Server;
    use records::Membership;
    use ruma::OwnedRoomId;
    use serde_json::json;

    #[tokio::test(start_paused = true)]
    async fn a_deleted_room_is_left_by_all_and_gone_and_stays_blocked() {
        let server = Server::new().await;
        let (admin, alice, bob) = (server.admin("root").await, server.user("alice").await, server.user("bob").await);
        let room = server.room(&alice).await;
        server.enter(&bob, &room).await;
        server.state.rooms.put_alias(ruma::room_alias_id!("#a:example.org"), &room, &alice.id).await.unwrap();
        let path = format!("/_synapse/admin/v2/rooms/{room}");
        server.delete(&path, Some(&alice), &json!({})).await.refused(403, "M_FORBIDDEN");
        server.get(&format!("{path}/delete_status"), Some(&admin)).await.refused(404, "M_NOT_FOUND");
        let body = json!({ "new_room_user_id": admin.id, "room_name": "New", "message": "Gone.", "block": true });
        let begun = server.delete(&path, Some(&admin), &body).await.ok();
        server.delete(&path, Some(&admin), &body).await.refused(400, "M_UNKNOWN");
        let status = format!("/_synapse/admin/v2/rooms/delete_status/{}", begun["delete_id"].as_str().unwrap());
        let done = server.until(&status, &admin, |status| status["status"] == "complete").await;
        let shutdown = &done["shutdown_room"];
        assert_eq!(shutdown["kicked_users"], json!([alice.id, bob.id]));
        assert_eq!(shutdown["local_aliases"], json!(["#a:example.org"]));
        let new_room: OwnedRoomId = shutdown["new_room_id"].as_str().unwrap().try_into().unwrap();
        let by_room = server.get(&format!("{path}/delete_status"), Some(&admin)).await.ok();
        assert_eq!(by_room["results"][0]["delete_id"], begun["delete_id"]);

        let view = server.state.records.view();
        assert!(view.room_num(&room).unwrap().is_none());
        let num = view.room_num(&new_room).unwrap().unwrap();
        let (_, record) = view.membership(&bob.id, num).unwrap().unwrap();
        assert_eq!(record.membership, Membership::Join);
        assert_eq!(view.alias(ruma::room_alias_id!("#a:example.org")).unwrap().unwrap().room_id, new_room);
        let block = server.get(&format!("/_synapse/admin/v1/rooms/{room}/block"), Some(&admin)).await.ok();
        assert_eq!(block["block"], true);
        server.delete(&path, Some(&admin), &json!({})).await.refused(404, "M_NOT_FOUND");
    }

    #[tokio::test(start_paused = true)]
    async fn a_room_that_is_only_left_keeps_its_data() {
        let server = Server::new().await;
        let (admin, alice) = (server.admin("root").await, server.user("alice").await);
        let room = server.room(&alice).await;
        let path = format!("/_synapse/admin/v2/rooms/{room}");
        let begun = server.delete(&path, Some(&admin), &json!({ "purge": false })).await.ok();
        let status = format!("/_synapse/admin/v2/rooms/delete_status/{}", begun["delete_id"].as_str().unwrap());
        server.until(&status, &admin, |status| status["status"] == "complete").await;
        let view = server.state.records.view();
        let reader = server.state.rooms.reader_by_id(&view, &room).unwrap().unwrap();
        assert_eq!(reader.head().joined, 0);
    }
}
