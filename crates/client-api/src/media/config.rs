//! `GET /media/config`

use crate::limits::Class;
use crate::session::Session;
use crate::{ApiError, State};
use axum::Json;
use axum::extract::State as Within;
use serde_json::{Value, json};
use std::sync::Arc;

/// How large files may be.
pub(super) async fn config(Within(state): Within<Arc<State>>, session: Session) -> Result<Json<Value>, ApiError> {
    state.limit(Class::Other, &session)?;
    Ok(Json(json!({ "m.upload.size": state.media.config().upload_bytes_max.0 })))
}
