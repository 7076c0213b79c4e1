//! Sync, and what is told through it without being an event of a room: typing, receipts, read markers.

mod events;
mod notifications;
mod presence;
mod read_markers;
mod receipt;
mod sliding;
mod sync_events;
#[cfg(test)]
mod tests;
mod typing;

use crate::State;
use crate::routes::Routes as _;
use axum::Router;
use axum::routing::{get, post, put};
use std::sync::Arc;

/// The endpoints of sync.
pub(crate) fn routes() -> Router<Arc<State>> {
    Router::new()
        .v3("/sync", get(sync_events::sync_events))
        .v3("/events", get(events::events))
        .v3("/notifications", get(notifications::notifications))
        .v3("/presence/{user_id}/status", get(presence::show).put(presence::set))
        .route("/_matrix/client/v4/sync", post(sliding::stable))
        .route("/_matrix/client/unstable/org.matrix.simplified_msc3575/sync", post(sliding::unstable))
        .v3("/rooms/{room_id}/typing/{user_id}", put(typing::typing))
        .v3("/rooms/{room_id}/receipt/{receipt_type}/{event_id}", post(receipt::receipt))
        .v3("/rooms/{room_id}/read_markers", post(read_markers::read_markers))
}
