//! `GET /preview_url`

use super::download::param;
use crate::limits::Class;
use crate::session::Session;
use crate::wire::query_param;
use crate::{ApiError, State};
use axum::extract::State as Within;
use axum::response::{IntoResponse, Response};
use http::Uri;
use http::header::CONTENT_TYPE;
use std::sync::Arc;

/// What a page says of itself. `ts` is looked at only for its shape: the newest version is told.
pub(super) async fn preview(
    Within(state): Within<Arc<State>>,
    session: Session,
    uri: Uri,
) -> Result<Response, ApiError> {
    state.limit(Class::Other, &session)?;
    param::<i64>(&uri, "ts")?;
    let url = uri.query().and_then(|query| query_param(query, "url"));
    let url = url.ok_or_else(|| ApiError::missing_param("`url` is missing"))?;
    let json = state.media.preview(&url).await?;
    Ok(([(CONTENT_TYPE, "application/json")], json).into_response())
}
