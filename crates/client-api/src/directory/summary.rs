//! `GET /room_summary/{roomIdOrAlias}`, and as it was called in MSC3266.

use super::admit;
use crate::session::{ClientAddress, Session};
use crate::wire::Args;
use crate::{ApiError, State};
use axum::Json;
use axum::extract::State as Within;
use face::shown::Summary;
use records::{Membership, RoomSummary};
use ruma::{OwnedRoomOrAliasId, RoomAliasId, RoomId, RoomOrAliasId};
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

/// What somebody outside of a room may know of it. The servers in `via` are of use only where one can be reached.
pub(super) async fn summary(
    Within(state): Within<Arc<State>>,
    session: Option<Session>,
    address: ClientAddress,
    Args((name,)): Args<(OwnedRoomOrAliasId,)>,
) -> Result<Json<Value>, ApiError> {
    admit(&state, session.as_ref(), address)?;
    let (summary, membership) = look_up(&state, session.as_ref(), &name)?;
    Ok(Json(json!(Answer { summary: (&summary).into(), membership })))
}

/// The same with the fields as they were called then.
pub(super) async fn unstable(
    within: Within<Arc<State>>,
    session: Option<Session>,
    address: ClientAddress,
    name: Args<(OwnedRoomOrAliasId,)>,
) -> Result<Json<Value>, ApiError> {
    let Json(mut answer) = summary(within, session, address, name).await?;
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
