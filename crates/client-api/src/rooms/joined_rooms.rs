//! `GET /joined_rooms`

use crate::session::Session;
use crate::wire::Reply;
use crate::{ApiError, State};
use axum::extract::State as Within;
use records::Membership;
use ruma::api::client::membership::joined_rooms::v3::Response;
use std::sync::Arc;

/// The rooms that the user is in.
pub(super) async fn joined_rooms(
    Within(state): Within<Arc<State>>,
    session: Session,
) -> Result<Reply<Response>, ApiError> {
    let view = state.records.view();
    let mut joined_rooms = Vec::new();
    for (num, _, record) in view.memberships(&session.user_id)? {
        if record.membership == Membership::Join {
            joined_rooms.extend(view.room_head(num)?.map(|head| head.room_id));
        }
    }
    Ok(Reply(Response::new(joined_rooms)))
}
