//! `PUT /sendToDevice/{eventType}/{txnId}`

use crate::limits::Class;
use crate::session::Session;
use crate::wire::{Args, Body};
use crate::{ApiError, State};
use axum::{Json, extract};
use base::limits::ID_BYTES_MAX;
use devices::{Addressee, OutgoingMessages, ToDeviceTxn};
use ruma::OwnedUserId;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The messages, by user and device.
#[derive(Deserialize)]
pub(super) struct Request {
    messages: BTreeMap<OwnedUserId, BTreeMap<Addressee, Box<RawValue>>>,
}

/// Sends messages to devices. A transaction id that the device has used for this type sends nothing more.
pub(super) async fn send(
    extract::State(state): extract::State<Arc<State>>,
    session: Session,
    Args((kind, txn_id)): Args<(String, String)>,
    Body(request): Body<Request>,
) -> Result<Json<Value>, ApiError> {
    state.limit(Class::Other, &session)?;
    if txn_id.len() > ID_BYTES_MAX {
        return Err(ApiError::invalid_param(format!("a transaction id has at most {ID_BYTES_MAX} bytes")));
    }
    let mut contents: BTreeMap<OwnedUserId, BTreeMap<Addressee, String>> = BTreeMap::new();
    for (user, by_device) in request.messages {
        let contents = contents.entry(user).or_default();
        for (device, content) in by_device {
            let content = String::from(Box::<str>::from(content));
            if !content.starts_with('{') {
                return Err(ApiError::bad_json("the content of a message is not an object"));
            }
            contents.insert(device, content);
        }
    }
    let endpoint = format!("sendToDevice/{kind}");
    let txn = ToDeviceTxn { device_id: &session.device_id, endpoint: &endpoint, txn_id: &txn_id };
    let messages = OutgoingMessages { kind, contents };
    state.devices.send(&session.user_id, &messages, Some(txn)).await?;
    Ok(Json(json!({})))
}
