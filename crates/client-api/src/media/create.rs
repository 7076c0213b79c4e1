//! `POST /create`

use crate::limits::Class;
use crate::session::Session;
use crate::{ApiError, State};
use axum::Json;
use axum::extract::State as Within;
use serde_json::{Value, json};
use std::sync::Arc;

/// Makes a name to which the asker uploads later. The body has nothing that is looked at.
pub(super) async fn create(Within(state): Within<Arc<State>>, session: Session) -> Result<Json<Value>, ApiError> {
    state.limit(Class::Other, &session)?;
    let pending = state.media.create(&session.user_id).await?;
    Ok(Json(json!({ "content_uri": pending.mxc.to_string(), "unused_expires_at": pending.expires_at })))
}
