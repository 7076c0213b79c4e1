//! `GET /query/directory` and `GET /query/profile`.

use crate::State;
use axum::Json;
use axum::extract::State as Within;
use face::ApiError;
use face::wire::query_param;
use http::Uri;
use ruma::{OwnedRoomAliasId, OwnedUserId};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How many servers are named that are in a room.
const SERVERS_MAX: usize = 200;
/// The fields of a profile that can be asked for alone have names of at most so many bytes.
const FIELD_BYTES_MAX: usize = 255;

/// Where an alias of this server leads.
pub(crate) async fn directory(Within(state): Within<Arc<State>>, uri: Uri) -> Result<Json<Value>, ApiError> {
    let alias = query_param(uri.query().unwrap_or_default(), "room_alias");
    let alias = alias.ok_or_else(|| ApiError::missing_param("`room_alias` is needed"))?;
    let alias = OwnedRoomAliasId::try_from(alias).map_err(|_| ApiError::invalid_param("`room_alias` is not one"))?;
    if alias.server_name() != state.server_name {
        return Err(ApiError::invalid_param("the alias is of another server"));
    }
    let view = state.records.view();
    let record = state.rooms.resolve_alias(&view, &alias)?;
    let record = record.ok_or_else(|| ApiError::not_found("there is no such alias"))?;
    let mut servers = vec![state.server_name.clone()];
    if let Some(num) = view.room_num(&record.room_id)? {
        let others = view.room_servers(num, None, SERVERS_MAX)?.into_iter().map(|(server, _)| server);
        servers.extend(others.filter(|server| *server != state.server_name));
    }
    Ok(Json(json!({ "room_id": record.room_id, "servers": servers })))
}

/// The profile of a user of this server, or one field of it.
pub(crate) async fn profile(
    Within(state): Within<Arc<State>>,
    uri: Uri,
) -> Result<Json<BTreeMap<String, Box<RawValue>>>, ApiError> {
    let param = |name| query_param(uri.query().unwrap_or_default(), name);
    let user = param("user_id").ok_or_else(|| ApiError::missing_param("`user_id` is needed"))?;
    let user = OwnedUserId::try_from(user).map_err(|_| ApiError::invalid_param("`user_id` is not one"))?;
    if user.server_name() != state.server_name {
        return Err(ApiError::invalid_param("the user is of another server"));
    }
    let field = param("field");
    if field.as_ref().is_some_and(|field| field.is_empty() || field.len() > FIELD_BYTES_MAX) {
        return Err(ApiError::invalid_param("there is no such field"));
    }
    let profile = state.accounts.profile(&user)?.ok_or_else(|| ApiError::not_found("there is no such user"))?;
    let wanted = profile.into_iter().filter(|(name, _)| field.as_ref().is_none_or(|field| field == name));
    let fields = wanted.map(|(name, json)| Ok((name, RawValue::from_string(json)?)));
    fields.collect::<Result<_, serde_json::Error>>().map(Json).map_err(|error| ApiError::internal(&error))
}
