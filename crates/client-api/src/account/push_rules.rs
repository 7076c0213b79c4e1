//! Push rules, as the specification predefines them. They cannot be changed yet: the endpoints for that don't
//! exist. Clients read the rules when they start, and will not go on without.

use crate::State;
use crate::routes::Routes as _;
use crate::session::Session;
use accounts::default_push_rules;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) fn routes() -> Router<Arc<State>> {
    Router::new()
        .v3("/pushrules", get(all))
        .v3("/pushrules/", get(all))
        .v3("/pushrules/global", get(global))
        .v3("/pushrules/global/", get(global))
}

/// `GET /pushrules/`
async fn all(session: Session) -> Json<Value> {
    Json(json!({ "global": default_push_rules(&session.user_id) }))
}

/// `GET /pushrules/global/`
async fn global(session: Session) -> Json<Value> {
    Json(json!(default_push_rules(&session.user_id)))
}
