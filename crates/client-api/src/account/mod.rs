//! Accounts: registration, login, sessions and devices, profiles, and what users store.

use crate::State;
use axum::Router;
use std::sync::Arc;

/// The endpoints of accounts.
pub(crate) fn routes() -> Router<Arc<State>> {
    Router::new()
}
