//! `POST /keys/device_signing/upload`

use super::upload::text;
use crate::account::Challenged;
use crate::limits::Class;
use crate::session::Session;
use crate::{ApiError, State};
use axum::{Json, extract};
use devices::{CrossSigningUpload, Identity};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::sync::Arc;

/// The cross-signing keys.
#[derive(Deserialize)]
pub(super) struct Request {
    #[serde(rename = "master_key")]
    master: Option<Box<RawValue>>,
    #[serde(rename = "self_signing_key")]
    self_signing: Option<Box<RawValue>>,
    #[serde(rename = "user_signing_key")]
    user_signing: Option<Box<RawValue>>,
}

/// Stores the user's cross-signing keys. Who replaces any must prove who they are (MSC3967).
pub(super) async fn upload(
    extract::State(state): extract::State<Arc<State>>,
    session: Session,
    mut request: Challenged<Request>,
) -> Result<Json<Value>, ApiError> {
    state.limit(Class::Other, &session)?;
    let upload = CrossSigningUpload {
        master: request.body.master.take().map(text),
        self_signing: request.body.self_signing.take().map(text),
        user_signing: request.body.user_signing.take().map(text),
    };
    let upload = upload.check(&session.user_id)?;
    let identity = if state.devices.needs_proof(&upload)? {
        request.password_of(&state, &session).await?;
        Identity::Proven
    } else {
        Identity::Assumed
    };
    state.devices.upload_cross_signing(&upload, identity).await?;
    Ok(Json(json!({})))
}
