//! Finding rooms without being in them, and people: the published room directory, summaries of rooms, what a space
//! holds, and the user directory.

mod hierarchy;
mod public_rooms;
mod summary;
mod users;

use crate::limits::Class;
use crate::routes::Routes as _;
use crate::session::{ClientAddress, Session};
use crate::{ApiError, State};
use axum::Router;
use axum::routing::{get, post};
use std::sync::Arc;

/// The endpoints of finding rooms. Clients in service still use the names from before some were stable: those of
/// MSC2946 and MSC3266.
pub(crate) fn routes() -> Router<Arc<State>> {
    let unstable = "/_matrix/client/unstable";
    let old_summary = get(summary::unstable);
    Router::new()
        .v3("/publicRooms", get(public_rooms::list).post(public_rooms::search))
        .v3("/user_directory/search", post(users::search))
        .v1("/room_summary/{room_id_or_alias}", get(summary::summary))
        .v1("/rooms/{room_id}/hierarchy", get(hierarchy::hierarchy))
        .route(&format!("{unstable}/org.matrix.msc2946/rooms/{{room_id}}/hierarchy"), get(hierarchy::hierarchy))
        .route(&format!("{unstable}/im.nheko.summary/summary/{{room_id_or_alias}}"), old_summary.clone())
        .route(&format!("{unstable}/im.nheko.summary/rooms/{{room_id_or_alias}}/summary"), old_summary)
}

/// Counts a request of somebody who may not be logged in, if that is let in at all.
fn admit(state: &State, session: Option<&Session>, address: ClientAddress) -> Result<(), ApiError> {
    match session {
        Some(session) => state.limit(Class::Other, session),
        None if state.config.directory_needs_login => Err(ApiError::missing_token()),
        None => state.limits.address(Class::Other, address),
    }
}
