//! `GET /room_summary/{roomIdOrAlias}`, and as it was called in MSC3266.

use super::admit;
use crate::session::{ClientAddress, Session};
use crate::wire::Args;
use crate::{ApiError, State};
use axum::Json;
use axum::extract::State as Within;
use face::shown::Summary;
use http::Uri;
use records::{Membership, RoomSummary};
use ruma::{OwnedRoomOrAliasId, OwnedServerName, RoomAliasId, RoomId, RoomOrAliasId};
use serde::Serialize;
use serde_json::{Value, json};
use std::sync::Arc;

#[derive(Serialize)]
struct Answer<'a> {
    #[serde(flatten)]
    summary: Summary<'a>,
    /// Not for those who are not logged in.
    #[serde(skip_serializing_if = "Option::is_none")]
    membership: Option<&'static str>,
}

/// How many servers are asked at most.
const VIA_MAX: usize = 10;

/// What somebody outside of a room may know of it.
pub(super) async fn summary(
    Within(state): Within<Arc<State>>,
    session: Option<Session>,
    address: ClientAddress,
    uri: Uri,
    Args((name,)): Args<(OwnedRoomOrAliasId,)>,
) -> Result<Json<Value>, ApiError> {
    admit(&state, session.as_ref(), address)?;
    match look_up(&state, session.as_ref(), &name) {
        Ok((summary, membership)) => Ok(Json(json!(Answer { summary: (&summary).into(), membership }))),
        Err(error) => match elsewhere(&state, session.as_ref(), &name, &via(&uri)).await? {
            Some(told) => Ok(Json(told)),
            None => Err(error),
        },
    }
}

/// The servers that are said to know the room.
fn via(uri: &Uri) -> Vec<OwnedServerName> {
    let pairs = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    let servers = pairs.filter(|(name, _)| name == "via" || name == "server_name");
    servers.filter_map(|(_, server)| OwnedServerName::try_from(&*server).ok()).take(VIA_MAX).collect()
}

/// What other servers tell of a room that this one is not in, to those who are logged in.
async fn elsewhere(
    state: &State,
    session: Option<&Session>,
    name: &RoomOrAliasId,
    via: &[OwnedServerName],
) -> Result<Option<Value>, ApiError> {
    let Some(session) = session else { return Ok(None) };
    let (room_id, mut servers) = if let Ok(room_id) = <&RoomId>::try_from(name) {
        (room_id.to_owned(), via.to_vec())
    } else {
        let Ok(alias) = <&RoomAliasId>::try_from(name) else { return Ok(None) };
        if !state.federation.is_remote(alias.server_name()) {
            return Ok(None);
        }
        match state.federation.resolve_alias(alias).await {
            Ok(Some(resolved)) => (resolved.room_id, resolved.servers),
            _ => return Ok(None),
        }
    };
    servers.extend_from_slice(via);
    let view = state.records.view();
    if servers.is_empty() || state.rooms.takes_part(&view, &room_id)? {
        return Ok(None);
    }
    drop(view);
    let Ok(Some(answer)) = state.federation.hierarchy(&room_id, &servers, false).await else { return Ok(None) };
    let Ok(Value::Object(mut told)) = serde_json::from_slice(&answer) else { return Ok(None) };
    let Some(Value::Object(mut room)) = told.remove("room") else { return Ok(None) };
    let open =
        matches!(room.get("join_rule").and_then(Value::as_str), None | Some("public" | "knock" | "knock_restricted"));
    let world_readable = room.get("world_readable").and_then(Value::as_bool) == Some(true);
    let view = state.records.view();
    let membership = match view.room_num(&room_id)? {
        Some(num) => view.membership(&session.user_id, num)?.map(|(_, record)| record.membership),
        None => None,
    };
    let is_invited = membership == Some(Membership::Invite);
    if !(open || world_readable || is_invited) || room.get("room_id").and_then(Value::as_str) != Some(room_id.as_str())
    {
        return Ok(None);
    }
    room.remove("children_state");
    room.insert("membership".to_owned(), if is_invited { "invite" } else { "leave" }.into());
    Ok(Some(Value::Object(room)))
}

/// The same with the fields as they were called then.
pub(super) async fn unstable(
    within: Within<Arc<State>>,
    session: Option<Session>,
    address: ClientAddress,
    uri: Uri,
    name: Args<(OwnedRoomOrAliasId,)>,
) -> Result<Json<Value>, ApiError> {
    let Json(mut answer) = summary(within, session, address, uri, name).await?;
    if let Value::Object(fields) = &mut answer {
        for (new, old) in [
            ("room_version", "im.nheko.summary.room_version"),
            ("room_version", "im.nheko.summary.version"),
            ("encryption", "im.nheko.summary.encryption"),
        ] {
            let value = fields.get(new).cloned();
            fields.extend(value.map(|value| (old.to_owned(), value)));
        }
    }
    Ok(Json(answer))
}

/// A room that the asker may not know of is as one that does not exist.
fn look_up(
    state: &State,
    session: Option<&Session>,
    name: &RoomOrAliasId,
) -> Result<(RoomSummary, Option<&'static str>), ApiError> {
    let not_found = || ApiError::not_found("the room is not known here");
    let view = state.records.view();
    let reader = if let Ok(room_id) = <&RoomId>::try_from(name) {
        state.rooms.reader_by_id(&view, room_id)?
    } else {
        let alias = <&RoomAliasId>::try_from(name).map_err(|_| ApiError::invalid_param("neither room nor alias"))?;
        let record = state.rooms.resolve_alias(&view, alias)?;
        record.map(|record| state.rooms.reader_by_id(&view, &record.room_id)).transpose()?.flatten()
    };
    let reader = reader.ok_or_else(not_found)?;
    let user = session.map(|session| &*session.user_id);
    if !reader.may_preview(user)? {
        return Err(not_found());
    }
    let record = user.map(|user| reader.membership(user)).transpose()?.map(Option::unzip);
    let membership = record.map(|(_, record)| match record.map(|record| record.membership) {
        Some(Membership::Join) => "join",
        Some(Membership::Invite) => "invite",
        Some(Membership::Knock) => "knock",
        Some(Membership::Ban) => "ban",
        Some(Membership::Leave) | None => "leave",
    });
    Ok((reader.summary()?, membership))
}
