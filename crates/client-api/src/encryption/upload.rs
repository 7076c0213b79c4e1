//! `POST /keys/upload`

use crate::limits::Class;
use crate::session::Session;
use crate::wire::Body;
use crate::{ApiError, State};
use axum::{Json, extract};
use devices::KeyUpload;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Keys by their name.
pub(super) type Keys = BTreeMap<String, Box<RawValue>>;

/// The keys of a device.
#[derive(Deserialize)]
pub(super) struct Request {
    #[serde(rename = "device_keys")]
    identity: Option<Box<RawValue>>,
    #[serde(rename = "one_time_keys")]
    one_time: Option<Keys>,
    #[serde(rename = "fallback_keys")]
    fallback: Option<Keys>,
}

/// Stores keys of the device that asks.
pub(super) async fn upload(
    extract::State(state): extract::State<Arc<State>>,
    session: Session,
    Body(request): Body<Request>,
) -> Result<Json<Value>, ApiError> {
    state.limit(Class::Other, &session)?;
    let upload = KeyUpload {
        device_keys: request.identity.map(text),
        one_time_keys: texts(request.one_time),
        fallback_keys: texts(request.fallback),
    };
    let counts = state.devices.upload(&session.user_id, &session.device_id, upload).await?;
    Ok(Json(json!({ "one_time_key_counts": counts })))
}

/// Raw JSON as text.
pub(super) fn text(json: Box<RawValue>) -> String {
    String::from(Box::<str>::from(json))
}

/// Keys as texts.
pub(super) fn texts(keys: Option<Keys>) -> BTreeMap<String, String> {
    keys.into_iter().flatten().map(|(name, key)| (name, text(key))).collect()
}
