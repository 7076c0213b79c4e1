//! `POST /upload`, `PUT /upload/{serverName}/{mediaId}`

use super::download::mxc;
use crate::limits::Class;
use crate::session::Session;
use crate::wire::{Args, query_param};
use crate::{ApiError, State};
use ::media::NewFile;
use axum::Json;
use axum::extract::{Request, State as Within};
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::request::Parts;
use serde_json::{Value, json};
use std::sync::Arc;

/// Uploads a file: the body. Answered once it is on the disk.
pub(super) async fn upload(
    Within(state): Within<Arc<State>>,
    session: Session,
    request: Request,
) -> Result<Json<Value>, ApiError> {
    state.limit(Class::Other, &session)?;
    let (parts, body) = request.into_parts();
    let mxc = state.media.upload(&session.user_id, new_file(&parts)?, body.into_data_stream()).await?;
    Ok(Json(json!({ "content_uri": mxc.to_string() })))
}

/// Uploads to a name that the asker has made.
pub(super) async fn upload_to(
    Within(state): Within<Arc<State>>,
    session: Session,
    Args((server_name, media_id)): Args<(String, String)>,
    request: Request,
) -> Result<Json<Value>, ApiError> {
    state.limit(Class::Other, &session)?;
    let mxc = mxc(&server_name, &media_id)?;
    let (parts, body) = request.into_parts();
    state.media.upload_to(&session.user_id, &mxc, new_file(&parts)?, body.into_data_stream()).await?;
    Ok(Json(json!({})))
}

/// What the request says of its body.
fn new_file(parts: &Parts) -> Result<NewFile, ApiError> {
    let header = |headers: &HeaderMap, name| headers.get(name).and_then(|value| value.to_str().ok().map(str::to_owned));
    let length = match header(&parts.headers, CONTENT_LENGTH) {
        Some(length) => {
            let length = length.parse().map_err(|_| ApiError::invalid_param("Content-Length is not a number"))?;
            Some(length)
        }
        None => None,
    };
    let filename = parts.uri.query().and_then(|query| query_param(query, "filename"));
    Ok(NewFile { content_type: header(&parts.headers, CONTENT_TYPE), filename, length })
}
