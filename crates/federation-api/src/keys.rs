//! The keys of this server and, as a notary, of others (server-server API, "Retrieving server keys").

use crate::State;
use axum::Json;
use axum::extract::State as Within;
use axum::response::{IntoResponse, Response};
use base::UnixMillis;
use face::ApiError;
use face::wire::{Args, Body, query_param};
use futures::StreamExt as _;
use http::Uri;
use http::header::CONTENT_TYPE;
use ruma::{CanonicalJsonObject, OwnedServerName};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How many servers are asked about in one request.
const SERVERS_MAX: usize = 100;
/// How many of them are asked at the same time.
const ASKED_AT_ONCE: usize = 10;

/// The body of `POST /query`.
#[derive(Deserialize)]
pub(crate) struct Query {
    server_keys: BTreeMap<OwnedServerName, BTreeMap<String, Criteria>>,
}

#[derive(Deserialize)]
struct Criteria {
    minimum_valid_until_ts: Option<u64>,
}

/// `GET /server`, also with the id of a key as older servers ask: all keys, signed.
pub(crate) async fn server(Within(state): Within<Arc<State>>) -> Response {
    ([(CONTENT_TYPE, "application/json")], state.keys.own()).into_response()
}

/// `POST /query`
pub(crate) async fn query(
    Within(state): Within<Arc<State>>,
    Body(query): Body<Query>,
) -> Result<Json<Value>, ApiError> {
    if query.server_keys.len() > SERVERS_MAX {
        return Err(ApiError::too_large(format!("at most {SERVERS_MAX} servers can be asked about at once")));
    }
    let wanted = query.server_keys.into_iter().map(|(server, keys)| {
        let until = keys.into_values().filter_map(|criteria| criteria.minimum_valid_until_ts).max();
        (server, until)
    });
    answer(&state, wanted.collect()).await
}

/// `GET /query/{serverName}`
pub(crate) async fn query_one(
    Within(state): Within<Arc<State>>,
    Args((server,)): Args<(OwnedServerName,)>,
    uri: Uri,
) -> Result<Json<Value>, ApiError> {
    let until = query_param(uri.query().unwrap_or_default(), "minimum_valid_until_ts");
    let until = until.map(|until| until.parse()).transpose();
    let until = until.map_err(|_| ApiError::invalid_param("`minimum_valid_until_ts` must be a number"))?;
    answer(&state, vec![(server, until)]).await
}

/// `GET /query/{serverName}/{keyId}`, as older servers ask.
pub(crate) async fn query_key(
    within: Within<Arc<State>>,
    Args((server, _)): Args<(OwnedServerName, String)>,
    uri: Uri,
) -> Result<Json<Value>, ApiError> {
    query_one(within, Args((server,)), uri).await
}

async fn answer(state: &State, wanted: Vec<(OwnedServerName, Option<u64>)>) -> Result<Json<Value>, ApiError> {
    let now = state.clock.now();
    let found = futures::stream::iter(wanted).map(|(server, until)| async move {
        // Who asks for keys of far ahead can't have them, and must not make this server ask each time.
        let until = until.map_or(now, |until| UnixMillis(until).min(now));
        state.keys.published(&server, until).await
    });
    let found: Vec<_> = found.buffered(ASKED_AT_ONCE).collect().await;
    let mut server_keys = Vec::new();
    for json in found {
        let Some(json) = json.map_err(|error| ApiError::internal(&error))? else { continue };
        server_keys.push(countersigned(state, &json)?);
    }
    Ok(Json(json!({ "server_keys": server_keys })))
}

/// What a server has signed, signed by this one too.
fn countersigned(state: &State, json: &str) -> Result<CanonicalJsonObject, ApiError> {
    let mut object: CanonicalJsonObject = serde_json::from_str(json).map_err(|error| ApiError::internal(&error))?;
    let key = state.keys.ring().current();
    key.sign_json(&mut object).map_err(|error| ApiError::internal(&error))?;
    Ok(object)
}
