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

use crate::routes::Routes as _;
use crate::{ApiError, State};
use ::sync::SyncError;
use axum::Router;
use axum::routing::{get, post, put};
use http::StatusCode;
use rules::push::EditError;
use std::sync::Arc;
use std::time::Duration;

/// When to try again, if more users sync than the server follows.
const OVERLOADED_RETRY_AFTER: Duration = Duration::from_secs(5);

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

impl From<SyncError> for ApiError {
    fn from(error: SyncError) -> Self {
        let message = error.to_string();
        match error {
            SyncError::BadFilter(_) => Self::bad_json(message),
            SyncError::NoSuchFilter | SyncError::InvalidParam(_) => Self::invalid_param(message),
            SyncError::UnknownPosition => Self::unknown_pos(message),
            SyncError::Forbidden(_) => Self::forbidden(message),
            SyncError::PushRule(error) => Self::from(error),
            SyncError::Overloaded => {
                Self::limit_exceeded(OVERLOADED_RETRY_AFTER).status(StatusCode::SERVICE_UNAVAILABLE)
            }
            SyncError::Internal(_) => Self::internal(&message),
        }
    }
}

impl From<EditError> for ApiError {
    fn from(error: EditError) -> Self {
        let message = error.to_string();
        match error {
            EditError::NotFound => Self::not_found(message),
            EditError::BadId(_) => Self::invalid_param(message),
            EditError::BadRule(_) => Self::bad_json(message),
            EditError::NoSuchNeighbour(_) => Self::new(StatusCode::BAD_REQUEST, "M_UNKNOWN", message),
            EditError::TooLarge(_) => Self::too_large(message),
        }
    }
}
