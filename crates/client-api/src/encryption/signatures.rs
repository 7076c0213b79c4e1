//! `POST /keys/signatures/upload`

use super::upload::{Keys, texts};
use crate::limits::Class;
use crate::session::Session;
use crate::wire::Body;
use crate::{ApiError, State};
use axum::{Json, extract};
use devices::{SignatureFailure, SignedKeys};
use ruma::OwnedUserId;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Stores signatures of the user's. What is not taken is told key by key.
pub(super) async fn upload(
    extract::State(state): extract::State<Arc<State>>,
    session: Session,
    Body(keys): Body<BTreeMap<OwnedUserId, Keys>>,
) -> Result<Json<Value>, ApiError> {
    state.limit(Class::Other, &session)?;
    let keys: SignedKeys = keys.into_iter().map(|(user, keys)| (user, texts(Some(keys)))).collect();
    let failures = state.devices.upload_signatures(&session.user_id, &keys).await?;
    let failures: Map<String, Value> = failures
        .into_iter()
        .map(|(user, failures)| {
            let failures = failures.into_iter().map(|(id, failure)| (id, shown(failure)));
            (user.to_string(), Value::Object(failures.collect()))
        })
        .collect();
    Ok(Json(json!({ "failures": failures })))
}

fn shown(failure: SignatureFailure) -> Value {
    let (code, message) = match failure {
        SignatureFailure::NoSuchKey => ("M_NOT_FOUND", "there is no such key"),
        SignatureFailure::Invalid(message) => ("M_INVALID_SIGNATURE", message),
        SignatureFailure::NotTheirs => ("M_FORBIDDEN", "only their user signs devices"),
        SignatureFailure::TooLarge => ("M_TOO_LARGE", "the key is too large, or has too many signatures"),
    };
    json!({ "errcode": code, "error": message })
}
