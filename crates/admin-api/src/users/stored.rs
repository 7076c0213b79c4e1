//! What there is of a user: the rooms that they are in, their account data and their pushers.

use crate::State;
use crate::access::Admin;
use axum::extract;
use axum::routing::get;
use axum::{Json, Router};
use face::ApiError;
use face::wire::Args;
use records::{Membership, PusherKind};
use ruma::{OwnedRoomId, OwnedUserId, UserId};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) fn routes() -> Router<Arc<State>> {
    Router::new()
        .route("/_synapse/admin/v1/users/{user_id}/joined_rooms", get(joined_rooms))
        .route("/_synapse/admin/v1/users/{user_id}/memberships", get(memberships))
        .route("/_synapse/admin/v1/users/{user_id}/accountdata", get(account_data))
        .route("/_synapse/admin/v1/users/{user_id}/pushers", get(pushers))
}

/// What a user is to rooms.
fn rooms_of(state: &State, user: &UserId) -> Result<Vec<(OwnedRoomId, Membership)>, ApiError> {
    let view = state.records.view();
    let mut rooms = Vec::new();
    for (num, _, record) in view.memberships(user)? {
        rooms.extend(view.room_head(num)?.map(|head| (head.room_id, record.membership)));
    }
    Ok(rooms)
}

/// `GET /_synapse/admin/v1/users/{userId}/joined_rooms`, also of users of other servers.
async fn joined_rooms(
    extract::State(state): extract::State<Arc<State>>,
    _: Admin,
    Args((user,)): Args<(OwnedUserId,)>,
) -> Result<Json<Value>, ApiError> {
    let rooms = rooms_of(&state, &user)?.into_iter().filter(|(_, membership)| *membership == Membership::Join);
    let rooms: Vec<OwnedRoomId> = rooms.map(|(room_id, _)| room_id).collect();
    Ok(Json(json!({ "total": rooms.len(), "joined_rooms": rooms })))
}

/// `GET /_synapse/admin/v1/users/{userId}/memberships`
async fn memberships(
    extract::State(state): extract::State<Arc<State>>,
    _: Admin,
    Args((user,)): Args<(OwnedUserId,)>,
) -> Result<Json<Value>, ApiError> {
    let name = |membership| match membership {
        Membership::Join => "join",
        Membership::Invite => "invite",
        Membership::Knock => "knock",
        Membership::Leave => "leave",
        Membership::Ban => "ban",
    };
    let rooms = rooms_of(&state, &user)?;
    let rooms: BTreeMap<_, _> = rooms.into_iter().map(|(room_id, membership)| (room_id, name(membership))).collect();
    Ok(Json(json!({ "memberships": rooms })))
}

/// `GET /_synapse/admin/v1/users/{userId}/accountdata`
async fn account_data(
    extract::State(state): extract::State<Arc<State>>,
    _: Admin,
    Args((user,)): Args<(OwnedUserId,)>,
) -> Result<Json<Value>, ApiError> {
    state.local_user(&user)?;
    let mut global: BTreeMap<String, Box<RawValue>> = BTreeMap::new();
    let mut rooms: BTreeMap<OwnedRoomId, BTreeMap<String, Box<RawValue>>> = BTreeMap::new();
    for datum in state.records.view().account_data_all(&user)? {
        let content = RawValue::from_string(datum.content).map_err(|error| ApiError::internal(&error))?;
        match datum.room_id {
            Some(room_id) => rooms.entry(room_id).or_default().insert(datum.kind, content),
            None => global.insert(datum.kind, content),
        };
    }
    Ok(Json(json!({ "account_data": { "global": global, "rooms": rooms } })))
}

/// `GET /_synapse/admin/v1/users/{userId}/pushers`
async fn pushers(
    extract::State(state): extract::State<Arc<State>>,
    _: Admin,
    Args((user,)): Args<(OwnedUserId,)>,
) -> Result<Json<Value>, ApiError> {
    state.local_user(&user)?;
    let pushers = state.accounts.pushers(&user)?.into_iter().map(|pusher| {
        json!({
            "app_display_name": pusher.record.app_display_name,
            "app_id": pusher.app_id,
            "data": serde_json::from_str::<Value>(&pusher.record.data).unwrap_or_default(),
            "device_display_name": pusher.record.device_display_name,
            "kind": match pusher.record.kind {
                PusherKind::Http => "http",
                PusherKind::Email => "email",
            },
            "lang": pusher.record.lang,
            "profile_tag": pusher.record.profile_tag.unwrap_or_default(),
            "pushkey": pusher.pushkey,
        })
    });
    let pushers: Vec<Value> = pushers.collect();
    Ok(Json(json!({ "total": pushers.len(), "pushers": pushers })))
}

#[cfg(test)]
mod tests {
    use crate::testing::Server;
    use serde_json::json;

    #[tokio::test]
    async fn the_rooms_and_the_account_data_of_a_user_are_shown() {
        let server = Server::new().await;
        let (admin, alice) = (server.admin("root").await, server.user("alice").await);
        let (one, other) = (server.room(&alice).await, server.room(&alice).await);
        server.leave(&alice, &other).await;
        let path = |what: &str| format!("/_synapse/admin/v1/users/{}/{what}", alice.id);
        let joined = server.get(&path("joined_rooms"), Some(&admin)).await.ok();
        assert_eq!(joined, json!({ "joined_rooms": [one], "total": 1 }));
        let all = server.get(&path("memberships"), Some(&admin)).await.ok();
        assert_eq!(all["memberships"][other.as_str()], "leave");
        let accounts = &server.state.accounts;
        accounts.set_account_data(&alice.id, None, "m.direct", "{\"a\":1}").await.unwrap();
        accounts.set_account_data(&alice.id, Some(&one), "m.tag", "{\"tags\":{}}").await.unwrap();
        let data = server.get(&path("accountdata"), Some(&admin)).await.ok();
        assert_eq!(data["account_data"]["global"], json!({ "m.direct": { "a": 1 } }));
        let pushers = server.get(&path("pushers"), Some(&admin)).await.ok();
        assert_eq!(pushers, json!({ "pushers": [], "total": 0 }));
        assert_eq!(data["account_data"]["rooms"][one.as_str()], json!({ "m.tag": { "tags": {} } }));
    }
}
