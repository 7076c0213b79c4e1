//! `GET /keys/changes`

use crate::limits::Class;
use crate::session::Session;
use crate::{ApiError, State};
use ::sync::SyncToken;
use axum::{Json, extract};
use http::Uri;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// From which sync to which.
#[derive(Deserialize)]
struct Parameters {
    from: Option<String>,
    to: Option<String>,
}

/// Whose devices have changed since a sync, of those whom the user shares rooms with. How far it looks is not for
/// `to` to say, which is a hint: what came later is told as well.
pub(super) async fn changes(
    extract::State(state): extract::State<Arc<State>>,
    session: Session,
    uri: Uri,
) -> Result<Json<Value>, ApiError> {
    state.limit(Class::Other, &session)?;
    let parameters = extract::Query::<Parameters>::try_from_uri(&uri);
    let extract::Query(parameters) = parameters.map_err(|error| ApiError::invalid_param(error.body_text()))?;
    let token = |name: &str, text: Option<String>| -> Result<SyncToken, ApiError> {
        let text = text.ok_or_else(|| ApiError::missing_param(format!("{name} is missing")))?;
        text.parse().map_err(|error| ApiError::invalid_param(format!("{name}: {error}")))
    };
    let from = token("from", parameters.from)?;
    token("to", parameters.to)?;
    let lists = state.syncs.device_lists(&session.user_id, from).await?;
    Ok(Json(json!({ "changed": lists.changed, "left": lists.left })))
}
