//! Whether a room is in the public room directory: `GET` and `PUT /directory/list/room/{roomId}`.

use super::alias::chooses_alias;
use crate::limits::Class;
use crate::session::{ClientAddress, Session};
use crate::wire::{Args, Body, Reply, Wire};
use crate::{ApiError, State};
use axum::extract::State as Within;
use ruma::OwnedRoomId;
use ruma::api::client::directory::{get_room_visibility, set_room_visibility};
use ruma::api::client::room::Visibility;
use serde::Deserialize;
use std::sync::Arc;

/// `GET /directory/list/room/{roomId}`
pub(super) async fn get(
    Within(state): Within<Arc<State>>,
    address: ClientAddress,
    Wire(request): Wire<get_room_visibility::v3::Request>,
) -> Result<Reply<get_room_visibility::v3::Response>, ApiError> {
    state.limits.address(Class::Other, address)?;
    let view = state.records.view();
    let num = view.room_num(&request.room_id)?.ok_or_else(not_found)?;
    let visibility = if view.is_published(num)? { Visibility::Public } else { Visibility::Private };
    Ok(Reply(get_room_visibility::v3::Response::new(visibility)))
}

/// What a room shall be: public if the client doesn't say.
#[derive(Deserialize)]
pub(super) struct Change {
    visibility: Option<Visibility>,
}

/// `PUT /directory/list/room/{roomId}`: for members who may choose the room's main alias.
pub(super) async fn put(
    Within(state): Within<Arc<State>>,
    session: Session,
    Args((room_id,)): Args<(OwnedRoomId,)>,
    Body(change): Body<Change>,
) -> Result<Reply<set_room_visibility::v3::Response>, ApiError> {
    state.limit(Class::Other, &session)?;
    let published = match change.visibility {
        None | Some(Visibility::Public) => true,
        Some(Visibility::Private) => false,
        Some(other) => return Err(ApiError::invalid_param(format!("there is no visibility `{other}`"))),
    };
    let view = state.records.view();
    let reader = state.rooms.reader_by_id(&view, &room_id)?.ok_or_else(not_found)?;
    if !chooses_alias(&reader, &session.user_id)? {
        return Err(ApiError::forbidden("you may not choose the room's alias, and so not its visibility"));
    }
    drop((reader, view));
    state.rooms.set_published(&room_id, published).await?;
    Ok(Reply(set_room_visibility::v3::Response::new()))
}

fn not_found() -> ApiError {
    ApiError::not_found("the room is not known here")
}
