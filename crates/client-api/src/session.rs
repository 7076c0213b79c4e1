//! Who asks.

use crate::wire::query_param;
use crate::{ApiError, State, guests, suspension};
use accounts::SessionInfo;
use axum::extract::{FromRequestParts, OptionalFromRequestParts};
use http::header::AUTHORIZATION;
use http::request::Parts;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv6Addr};
use std::ops::Deref;
use std::sync::Arc;

/// The address of the client as the binary knows it, behind whatever proxy. Put into the extensions of each
/// request; requests without it share one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddress(pub IpAddr);

impl FromRequestParts<Arc<State>> for ClientAddress {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<State>) -> Result<Self, Infallible> {
        Ok(parts.extensions.get().copied().unwrap_or(Self(IpAddr::V6(Ipv6Addr::UNSPECIFIED))))
    }
}

/// The session of the user who asks. As an extractor it requires a valid access token: 401 `M_MISSING_TOKEN`
/// or `M_UNKNOWN_TOKEN` without, 401 `M_USER_LOCKED` for a locked account. Guests have none for what they may not do: 403
/// `M_GUEST_ACCESS_FORBIDDEN`; nor have suspended users: 403 `M_USER_SUSPENDED`. `Option<Session>` lets those without
/// a token through, and still refuses a wrong one.
#[derive(Clone, Debug)]
pub(crate) struct Session(pub Arc<SessionInfo>);

impl Deref for Session {
    type Target = SessionInfo;

    fn deref(&self) -> &SessionInfo {
        &self.0
    }
}

impl FromRequestParts<Arc<State>> for Session {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<State>) -> Result<Self, ApiError> {
        let session = authenticate(parts, state).await?.ok_or_else(ApiError::missing_token)?;
        if session.is_guest && !guests::may_ask(&parts.method, parts.uri.path()) {
            return Err(ApiError::guest_access_forbidden("guests may not do this: register first"));
        }
        if session.sanctions.suspended && !suspension::may_ask(&parts.method, parts.uri.path()) {
            return Err(suspension::refused());
        }
        Ok(session)
    }
}

impl OptionalFromRequestParts<Arc<State>> for Session {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<State>) -> Result<Option<Self>, ApiError> {
        authenticate(parts, state).await
    }
}

async fn authenticate(parts: &mut Parts, state: &Arc<State>) -> Result<Option<Session>, ApiError> {
    let Some(token) = token(parts, state.config.access_token_in_query) else { return Ok(None) };
    let Ok(address) = ClientAddress::from_request_parts(parts, state).await;
    let session = state.accounts.authenticate(&token, address.0).await?;
    if session.sanctions.locked && !ends_sessions(parts.uri.path()) {
        return Err(ApiError::user_locked());
    }
    Ok(Some(Session(session)))
}

/// Whether this is what the users of locked accounts may do all the same: log out (client-server API, "Account
/// locking").
fn ends_sessions(path: &str) -> bool {
    let path = path.strip_prefix("/_matrix/client/").and_then(|path| path.split_once('/'));
    matches!(path, Some(("v3" | "r0", "logout" | "logout/all")))
}

/// The access token: from the header or, where the settings allow it, from the query as it was once done
/// (client-server API, "Using access tokens": deprecated since 1.11).
fn token(parts: &Parts, in_query: bool) -> Option<String> {
    if let Some(header) = parts.headers.get(AUTHORIZATION) {
        let (scheme, token) = header.to_str().ok()?.split_once(' ')?;
        return scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned());
    }
    query_param(parts.uri.query().filter(|_| in_query)?, "access_token")
}
