//! Profiles.

use super::to_the_end;
use crate::limits::Class;
use crate::routes::Routes as _;
use crate::session::{ClientAddress, Session};
use crate::wire::{Args, Body};
use crate::{ApiError, State};
use accounts::PROFILE_KEY_BYTES_MAX;
use axum::extract;
use axum::routing::get;
use axum::{Json, Router};
use federation::{FederationError, PeerError};
use ruma::{MxcUri, OwnedUserId, UserId};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The longest display name, in bytes: it is in every membership event of the user.
const DISPLAYNAME_BYTES_MAX: usize = 1000;
/// The longest URL of an avatar, in bytes, for the same reason.
const AVATAR_URL_BYTES_MAX: usize = 1000;
/// The fields that are shown in rooms too.
const SHOWN_IN_ROOMS: [&str; 2] = ["displayname", "avatar_url"];

pub(super) fn routes() -> Router<Arc<State>> {
    Router::new().v3_once("unstable/uk.tcpip.msc4133", "/profile/{user_id}", get(whole)).v3_once(
        "unstable/uk.tcpip.msc4133",
        "/profile/{user_id}/{key_name}",
        get(show).put(set).delete(remove),
    )
}

type Fields = BTreeMap<String, Box<RawValue>>;

/// `GET /profile/{userId}`
async fn whole(
    extract::State(state): extract::State<Arc<State>>,
    address: ClientAddress,
    Args((user,)): Args<(OwnedUserId,)>,
) -> Result<Json<Fields>, ApiError> {
    state.limits.address(Class::Other, address)?;
    if state.federation.is_remote(user.server_name()) {
        return remote(&state, &user, None).await.map(Json);
    }
    let profile = state.accounts.profile(&user)?.ok_or_else(|| ApiError::not_found("there is no such user"))?;
    let fields = profile.into_iter().map(|(key, value)| Ok((key, raw(value)?)));
    Ok(Json(fields.collect::<Result<_, ApiError>>()?))
}

/// The profile of a user of another server, or one field of it, as that server tells it.
async fn remote(state: &State, user: &UserId, key: Option<&str>) -> Result<Fields, ApiError> {
    let profile = match state.federation.profile(user, key).await {
        Ok(Some(profile)) => profile,
        Ok(None) => return Err(ApiError::not_found("there is no such user")),
        Err(FederationError::Peer(PeerError::Unreachable(_))) => {
            return Err(ApiError::not_found("the user is not known here, and their server cannot be reached"));
        }
        Err(error) => return Err(error.into()),
    };
    let fields = profile.into_iter().filter(|(_, value)| !value.is_null());
    fields.map(|(key, value)| Ok((key, raw(value.to_string())?))).collect()
}

/// `GET /profile/{userId}/{keyName}`
async fn show(
    extract::State(state): extract::State<Arc<State>>,
    address: ClientAddress,
    Args((user, key)): Args<(OwnedUserId, String)>,
) -> Result<Json<Fields>, ApiError> {
    state.limits.address(Class::Other, address)?;
    check_key(&key)?;
    if state.federation.is_remote(user.server_name()) {
        let mut fields = remote(&state, &user, Some(&key)).await?;
        let value = fields.remove(&key).ok_or_else(|| ApiError::not_found("the profile does not have this field"))?;
        return Ok(Json(Fields::from([(key, value)])));
    }
    let profile = state.accounts.profile(&user)?.ok_or_else(|| ApiError::not_found("there is no such user"))?;
    let value = profile.get(&key).ok_or_else(|| ApiError::not_found("the profile does not have this field"))?;
    let value = raw(value.clone())?;
    Ok(Json(Fields::from([(key, value)])))
}

/// `PUT /profile/{userId}/{keyName}`
async fn set(
    extract::State(state): extract::State<Arc<State>>,
    session: Session,
    Args((user, key)): Args<(OwnedUserId, String)>,
    Body(mut fields): Body<Fields>,
) -> Result<Json<Value>, ApiError> {
    check_own(&session, &user)?;
    check_key(&key)?;
    state.limit(Class::Other, &session)?;
    let value = fields.remove(&key).ok_or_else(|| ApiError::missing_param(format!("the body has no {key}")))?;
    let value = match key.as_str() {
        "displayname" => text(&value, DISPLAYNAME_BYTES_MAX, "the display name")?,
        "avatar_url" => {
            let url = text(&value, AVATAR_URL_BYTES_MAX, "the URL of the avatar")?;
            // It is to be an mxc: URI, and clients show nothing for a text that isn't. But one that leads
            // elsewhere would tell another server who looks at it.
            let leads_elsewhere = |url: &str| url.contains(':') && <&MxcUri>::from(url).validate().is_err();
            if url.as_deref().is_some_and(leads_elsewhere) {
                return Err(ApiError::invalid_param("the avatar is not an mxc: URI"));
            }
            url
        }
        "m.tz" => match text(&value, PROFILE_KEY_BYTES_MAX, "the time zone")? {
            Some(zone) => Some(zone),
            None => return Err(ApiError::bad_json("the time zone is empty")),
        },
        _ => return store(state, session, key, Some(value.get().to_owned())).await,
    };
    let value = value.map(|value| json!(value).to_string());
    store(state, session, key, value).await
}

/// `DELETE /profile/{userId}/{keyName}`
async fn remove(
    extract::State(state): extract::State<Arc<State>>,
    session: Session,
    Args((user, key)): Args<(OwnedUserId, String)>,
) -> Result<Json<Value>, ApiError> {
    check_own(&session, &user)?;
    check_key(&key)?;
    state.limit(Class::Other, &session)?;
    store(state, session, key, None).await
}

async fn store(
    state: Arc<State>,
    session: Session,
    key: String,
    value: Option<String>,
) -> Result<Json<Value>, ApiError> {
    to_the_end(async move {
        state.accounts.set_profile_field(&session.user_id, &key, value.as_deref()).await?;
        // Though it may be as it was: a server that stopped halfway has left some rooms behind, and those that
        // show it already stay as they are.
        if SHOWN_IN_ROOMS.contains(&key.as_str()) {
            state.rooms.update_profile(&session.user_id).await?;
        }
        Ok(Json(json!({})))
    })
    .await
}

/// Refuses a display name that is too long.
pub(super) fn check_displayname(name: &str) -> Result<(), ApiError> {
    if name.len() > DISPLAYNAME_BYTES_MAX {
        let message = format!("the display name has more than {DISPLAYNAME_BYTES_MAX} bytes");
        return Err(ApiError::invalid_param(message));
    }
    Ok(())
}

fn check_own(session: &Session, user: &OwnedUserId) -> Result<(), ApiError> {
    if session.user_id == *user { Ok(()) } else { Err(ApiError::forbidden("this is another user's profile")) }
}

/// A field has a name of the specification or a namespaced one (appendices, "Common Namespaced Identifier
/// Grammar").
fn check_key(key: &str) -> Result<(), ApiError> {
    if key.len() > PROFILE_KEY_BYTES_MAX {
        return Err(ApiError::key_too_large("the name of a field has at most 255 bytes"));
    }
    if SHOWN_IN_ROOMS.contains(&key) {
        return Ok(());
    }
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
    let namespaced = key.starts_with(|first: char| first.is_ascii_lowercase()) && key.contains('.');
    if namespaced && key.bytes().all(allowed) {
        Ok(())
    } else {
        Err(ApiError::invalid_param(
            "the field is neither one of the specification nor namespaced like com.example.field",
        ))
    }
}

/// A text. Clients remove what they have set by an empty text or null, as it was before there was `DELETE`.
fn text(value: &RawValue, bytes_max: usize, what: &str) -> Result<Option<String>, ApiError> {
    let text: Option<String> =
        serde_json::from_str(value.get()).map_err(|_| ApiError::bad_json(format!("{what} is not a text")))?;
    match text {
        Some(text) if text.len() > bytes_max => {
            Err(ApiError::invalid_param(format!("{what} has more than {bytes_max} bytes")))
        }
        text => Ok(text.filter(|text| !text.is_empty())),
    }
}

fn raw(json: String) -> Result<Box<RawValue>, ApiError> {
    RawValue::from_string(json).map_err(|error| ApiError::internal(&error))
}
