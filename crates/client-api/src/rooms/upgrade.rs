//! `POST /rooms/{roomId}/upgrade`

use super::error::as_outsider;
use super::follow::follow;
use crate::account::to_the_end;
use crate::limits::Class;
use crate::session::Session;
use crate::wire::{Reply, Wire};
use crate::{ApiError, State};
use axum::extract::State as Within;
use rooms::Upgrade;
use ruma::api::client::room::upgrade_room::v3::{Request, Response};
use std::sync::Arc;

/// The most additional creators, so that the creation fits into an event.
const ADDITIONAL_CREATORS_MAX: usize = 200;

/// Replaces a room by a new one of another version.
pub(super) async fn upgrade(
    Within(state): Within<Arc<State>>,
    session: Session,
    Wire(request): Wire<Request>,
) -> Result<Reply<Response>, ApiError> {
    state.limit(Class::Other, &session)?;
    if request.additional_creators.len() > ADDITIONAL_CREATORS_MAX {
        return Err(ApiError::invalid_param(format!("at most {ADDITIONAL_CREATORS_MAX} additional creators")));
    }
    let upgrade = Upgrade {
        sender: session.user_id.clone(),
        version: request.new_version,
        additional_creators: request.additional_creators,
    };
    to_the_end(async move {
        let room_id = state.rooms.upgrade(&request.room_id, upgrade).await.map_err(as_outsider)?;
        follow(&state, &session.user_id, &room_id).await;
        Ok(Reply(Response::new(room_id)))
    })
    .await
}
