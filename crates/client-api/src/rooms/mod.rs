//! Rooms: creating them, membership, what is said in them, and reading it back.

use crate::State;
use axum::Router;
use std::sync::Arc;

/// The endpoints of rooms.
pub(crate) fn routes() -> Router<Arc<State>> {
    Router::new()
}
