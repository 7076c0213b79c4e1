//! `GET /download/{serverName}/{mediaId}` and `…/{fileName}`, authenticated and as it once was.

use super::answer::{self, Audience};
use crate::limits::Class;
use crate::session::{ClientAddress, Session};
use crate::wire::{Args, query_param};
use crate::{ApiError, State};
use ::media::{Mxc, Wanted};
use axum::extract::State as Within;
use axum::response::Response;
use http::{HeaderMap, Uri};
use ruma::ServerName;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// A file.
pub(super) async fn download(
    Within(state): Within<Arc<State>>,
    session: Session,
    Args((server_name, media_id)): Args<(String, String)>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    authenticated(&state, &session, &mxc(&server_name, &media_id)?, None, &uri, &headers).await
}

/// A file under another name.
pub(super) async fn download_named(
    Within(state): Within<Arc<State>>,
    session: Session,
    Args((server_name, media_id, file_name)): Args<(String, String, String)>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    authenticated(&state, &session, &mxc(&server_name, &media_id)?, Some(file_name), &uri, &headers).await
}

/// A file, for whoever asks, as far as the settings let them.
pub(super) async fn legacy(
    Within(state): Within<Arc<State>>,
    address: ClientAddress,
    Args((server_name, media_id)): Args<(String, String)>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    unauthenticated(&state, address, &mxc(&server_name, &media_id)?, None, &uri, &headers).await
}

/// A file under another name, for whoever asks, as far as the settings let them.
pub(super) async fn legacy_named(
    Within(state): Within<Arc<State>>,
    address: ClientAddress,
    Args((server_name, media_id, file_name)): Args<(String, String, String)>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    unauthenticated(&state, address, &mxc(&server_name, &media_id)?, Some(file_name), &uri, &headers).await
}

async fn authenticated(
    state: &State,
    session: &Session,
    mxc: &Mxc,
    name: Option<String>,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    state.limit(Class::Other, session)?;
    let wanted = wanted_by(state, session, uri)?;
    let mut file = state.media.find(mxc, wanted).await?;
    file.filename = name.or(file.filename);
    answer::file(&state.media, &file, headers, Audience::Asker).await
}

async fn unauthenticated(
    state: &State,
    address: ClientAddress,
    mxc: &Mxc,
    name: Option<String>,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    state.limits.address(Class::Other, address)?;
    let wanted = Wanted { legacy: true, ..wanted(uri)? };
    let mut file = state.media.find(mxc, wanted).await?;
    file.filename = name.or(file.filename);
    answer::file(&state.media, &file, headers, Audience::Everybody).await
}

/// The name of a medium. What can be none is not there.
pub(super) fn mxc(server_name: &str, media_id: &str) -> Result<Mxc, ApiError> {
    let mxc = <&ServerName>::try_from(server_name).ok().and_then(|server_name| Mxc::new(server_name, media_id));
    mxc.ok_or_else(|| ApiError::not_found("there is no such file"))
}

/// How a medium is wanted, by the query.
pub(super) fn wanted(uri: &Uri) -> Result<Wanted, ApiError> {
    let default = Wanted::default();
    let timeout = param(uri, "timeout_ms")?.map_or(default.timeout, Duration::from_millis);
    let allow_remote = param(uri, "allow_remote")?.unwrap_or(default.allow_remote);
    Ok(Wanted { timeout, allow_remote, ..default })
}

/// As [`wanted`], for somebody who may be an administrator: those see what is quarantined, if they ask for it.
pub(super) fn wanted_by(state: &State, session: &Session, uri: &Uri) -> Result<Wanted, ApiError> {
    let mut wanted = wanted(uri)?;
    if param(uri, "admin_unsafely_bypass_quarantine")?.unwrap_or(false) {
        let user = state.records.view().user(&session.user_id)?;
        wanted.even_blocked = user.is_some_and(|user| user.admin);
    }
    Ok(wanted)
}

/// A parameter of the query.
pub(super) fn param<T: FromStr>(uri: &Uri, name: &str) -> Result<Option<T>, ApiError> {
    let Some(text) = uri.query().and_then(|query| query_param(query, name)) else { return Ok(None) };
    text.parse().map(Some).map_err(|_| ApiError::invalid_param(format!("`{name}` has a wrong value")))
}
