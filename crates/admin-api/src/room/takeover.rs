//! Entering rooms and running them: `POST /_synapse/admin/v1/join/{roomIdOrAlias}` and
//! `POST /_synapse/admin/v1/rooms/{roomIdOrAlias}/make_room_admin`.

use crate::State;
use crate::access::Admin;
use axum::extract;
use axum::routing::post;
use axum::{Json, Router};
use face::ApiError;
use face::wire::{Args, Body};
use records::Membership;
use rooms::{Draft, MembershipChange, RoomError, RoomReader};
use ruma::events::StateEventType;
use ruma::events::room::power_levels::UserPowerLevel;
use ruma::{OwnedRoomId, OwnedUserId, RoomAliasId, UserId};
use serde::Deserialize;
use serde_json::value::to_raw_value;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// The level of those who run a room, where nobody has a higher one.
const ADMIN_LEVEL: i64 = 100;

pub(super) fn routes() -> Router<Arc<State>> {
    Router::new()
        .route("/_synapse/admin/v1/join/{room_id_or_alias}", post(join))
        .route("/_synapse/admin/v1/rooms/{room_id}/make_room_admin", post(make_admin))
}

/// A room by its id or an alias of this server.
fn resolve(state: &State, name: &str) -> Result<OwnedRoomId, ApiError> {
    if let Ok(room_id) = OwnedRoomId::try_from(name) {
        return Ok(room_id);
    }
    let alias = <&RoomAliasId>::try_from(name);
    let alias = alias.map_err(|_| ApiError::invalid_param("it is neither the id of a room nor an alias"))?;
    let record = state.rooms.resolve_alias(&state.records.view(), alias)?;
    record.map(|record| record.room_id).ok_or_else(|| ApiError::not_found("Room not found"))
}

#[derive(Debug, Deserialize)]
struct Who {
    user_id: OwnedUserId,
}

/// `POST /_synapse/admin/v1/join/{roomIdOrAlias}`: lets a user of this server enter a room, invited by the administrator
/// if the room does not let them in without.
async fn join(
    extract::State(state): extract::State<Arc<State>>,
    admin: Admin,
    Args((room,)): Args<(String,)>,
    Body(Who { user_id }): Body<Who>,
) -> Result<Json<Value>, ApiError> {
    state.local_user(&user_id)?;
    let room_id = resolve(&state, &room)?;
    state.room(&room_id)?;
    let joins = async || state.rooms.change_membership(&room_id, &user_id, MembershipChange::Join, None, None).await;
    match joins().await {
        Ok(_) => {}
        Err(RoomError::Forbidden(_)) if state.room(&room_id)?.is_joined(&admin.user_id)? => {
            let invites = MembershipChange::Invite { user: user_id.clone() };
            state.rooms.change_membership(&room_id, &admin.user_id, invites, None, None).await?;
            joins().await?;
        }
        Err(error) => return Err(error.into()),
    }
    tracing::info!(admin = %admin.user_id, %user_id, %room_id, "a user was let into a room");
    Ok(Json(json!({ "room_id": room_id })))
}

#[derive(Debug, Deserialize)]
struct NewAdmin {
    user_id: Option<OwnedUserId>,
}

/// `POST /_synapse/admin/v1/rooms/{roomIdOrAlias}/make_room_admin`: gives a user the level of the user of this server
/// who has the highest, in whose name, and invites them.
async fn make_admin(
    extract::State(state): extract::State<Arc<State>>,
    admin: Admin,
    Args((room,)): Args<(String,)>,
    Body(NewAdmin { user_id }): Body<NewAdmin>,
) -> Result<Json<Value>, ApiError> {
    let user = user_id.unwrap_or_else(|| admin.user_id.clone());
    let room_id = resolve(&state, &room)?;
    let (by, content, membership) = {
        let reader = state.room(&room_id)?;
        let (by, level) = highest(&state, &reader)?
            .ok_or_else(|| ApiError::unknown("no user of this server in the room may set its levels"))?;
        let membership = reader.membership(&user)?.map(|(_, record)| record.membership);
        (by, levels(&reader, &user, level)?, membership)
    };
    tracing::warn!(admin = %admin.user_id, %user, %room_id, %by, "a user is made to run a room");
    if let Some(content) = content {
        let content = to_raw_value(&content).map_err(|error| ApiError::internal(&error))?;
        state.rooms.send(&room_id, Draft::state(by.clone(), "m.room.power_levels", "", content), None).await?;
    }
    if !matches!(membership, Some(Membership::Join | Membership::Invite)) {
        let invites = MembershipChange::Invite { user };
        state.rooms.change_membership(&room_id, &by, invites, None, None).await?;
    }
    Ok(Json(json!({})))
}

/// The member of this server with the highest level, if they may set levels, and that level.
fn highest(state: &State, reader: &RoomReader) -> Result<Option<(OwnedUserId, UserPowerLevel)>, ApiError> {
    let power = reader.power_levels()?;
    let create = reader.state_event(reader.state(), "m.room.create", "")?;
    let mut candidates: Vec<OwnedUserId> = power.users().map(ToOwned::to_owned).collect();
    if let Some(create) = create {
        candidates.push(create.pdu.sender().to_owned());
        let content: Map<String, Value> = serde_json::from_str(create.pdu.content().get()).unwrap_or_default();
        let others = content.get("additional_creators").and_then(Value::as_array).into_iter().flatten();
        candidates.extend(others.filter_map(|user| OwnedUserId::try_from(user.as_str()?).ok()));
    }
    let mut best: Option<(OwnedUserId, UserPowerLevel)> = None;
    for user in candidates.into_iter().filter(|user| state.accounts.is_local(user)) {
        let level = power.user(&user);
        let is_better = best.as_ref().is_none_or(|(_, best)| level > *best);
        if is_better && power.can_send_state(&user, &StateEventType::RoomPowerLevels) && reader.is_joined(&user)? {
            best = Some((user, level));
        }
    }
    Ok(best)
}

/// The power levels with this level for a user; none if they have it already.
fn levels(reader: &RoomReader, user: &UserId, level: UserPowerLevel) -> Result<Option<Map<String, Value>>, ApiError> {
    let power = reader.power_levels()?;
    if power.user(user) >= level {
        return Ok(None);
    }
    let event = reader.state_event(reader.state(), "m.room.power_levels", "")?;
    let content = event.and_then(|event| serde_json::from_str(event.pdu.content().get()).ok());
    let mut content: Map<String, Value> = content.unwrap_or_default();
    let mut users = match content.remove("users") {
        Some(Value::Object(users)) => users,
        _ => Map::new(),
    };
    // Creators who are above all levels can't give theirs away: the highest that there is, then.
    let level = match level {
        UserPowerLevel::Int(level) => i64::from(level),
        _ => users.values().filter_map(Value::as_i64).fold(ADMIN_LEVEL, i64::max),
    };
    users.insert(user.to_string(), json!(level));
    content.insert("users".to_owned(), Value::Object(users));
    Ok(Some(content))
}

#[cfg(test)]
mod tests {
    use crate::testing::Server;
    use records::Membership;
    use rooms::{CreateRoom, Preset};
    use ruma::events::StateEventType;
    use serde_json::json;

    #[tokio::test]
    async fn users_are_let_into_rooms() {
        let server = Server::new().await;
        let (admin, alice, bob) = (server.admin("root").await, server.user("alice").await, server.user("bob").await);
        let open = server.room(&alice).await;
        let path = |room: &ruma::RoomId| format!("/_synapse/admin/v1/join/{room}");
        let body = json!({ "user_id": bob.id });
        assert_eq!(server.post(&path(&open), Some(&admin), &body).await.ok()["room_id"], open.as_str());
        let request = CreateRoom { preset: Some(Preset::PrivateChat), ..CreateRoom::default() };
        let closed = server.state.rooms.create(&alice.id, request.clone()).await.unwrap();
        server.post(&path(&closed), Some(&admin), &body).await.refused(403, "M_FORBIDDEN");
        let own = server.state.rooms.create(&admin.id, request).await.unwrap();
        server.post(&path(&own), Some(&admin), &body).await.ok();
        assert!(server.state.room(&own).unwrap().is_joined(&bob.id).unwrap());
        let body = json!({ "user_id": "@x:elsewhere.org" });
        server.post(&path(&open), Some(&admin), &body).await.refused(400, "M_INVALID_PARAM");
        server
            .post("/_synapse/admin/v1/join/x", Some(&admin), &json!({ "user_id": bob.id }))
            .await
            .refused(400, "M_INVALID_PARAM");
    }

    #[tokio::test]
    async fn a_user_is_made_to_run_a_room_in_the_name_of_who_runs_it() {
        let server = Server::new().await;
        let (admin, alice) = (server.admin("root").await, server.user("alice").await);
        for version in ["11", "12"] {
            let request = CreateRoom {
                preset: Some(Preset::PrivateChat),
                version: Some(version.try_into().unwrap()),
                ..CreateRoom::default()
            };
            let room = server.state.rooms.create(&alice.id, request).await.unwrap();
            let path = format!("/_synapse/admin/v1/rooms/{room}/make_room_admin");
            server.post(&path, Some(&admin), &json!({})).await.ok();
            let reader = server.state.room(&room).unwrap();
            let power = reader.power_levels().unwrap();
            assert!(power.can_send_state(&admin.id, &StateEventType::RoomPowerLevels), "{version}");
            assert_eq!(reader.membership(&admin.id).unwrap().unwrap().1.membership, Membership::Invite);
            server.post(&path, Some(&admin), &json!({})).await.ok();
            server.leave(&alice, &room).await;
            let body = json!({ "user_id": "@other:example.org" });
            server.post(&path, Some(&admin), &body).await.refused(400, "M_UNKNOWN");
        }
    }
}
