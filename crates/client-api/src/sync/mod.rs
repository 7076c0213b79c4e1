//! Sync, and what is told through it without being an event of a room: typing, receipts, read markers.

use crate::State;
use axum::Router;
use std::sync::Arc;

/// The endpoints of sync.
pub(crate) fn routes() -> Router<Arc<State>> {
    Router::new()
}
