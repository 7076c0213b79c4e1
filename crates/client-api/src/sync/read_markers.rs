//! `POST /rooms/{roomId}/read_markers`

use crate::limits::Class;
use crate::session::Session;
use crate::wire::{Args, Body};
use crate::{ApiError, State};
use ::sync::Marks;
use axum::{Json, extract};
use ruma::{OwnedEventId, OwnedRoomId};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// Where to put the marker and the receipts; what is not given stays where it is.
#[derive(Deserialize)]
pub(super) struct Request {
    #[serde(rename = "m.fully_read")]
    fully_read: Option<OwnedEventId>,
    #[serde(rename = "m.read")]
    read: Option<OwnedEventId>,
    #[serde(rename = "m.read.private")]
    read_private: Option<OwnedEventId>,
}

/// Moves the user's read marker, and their receipts with it.
pub(super) async fn read_markers(
    extract::State(state): extract::State<Arc<State>>,
    session: Session,
    Args((room_id,)): Args<(OwnedRoomId,)>,
    Body(request): Body<Request>,
) -> Result<Json<Value>, ApiError> {
    state.limit(Class::Other, &session)?;
    let Request { fully_read, read, read_private } = request;
    let marks = Marks { fully_read, read, read_private, thread: None };
    state.syncs.mark(&session.user_id, &room_id, &marks).await?;
    state.syncs.acts(&session.user_id, &session.device_id)?;
    Ok(Json(json!({})))
}
