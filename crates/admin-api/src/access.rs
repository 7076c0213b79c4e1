//! Who asks: administrators only.

use crate::State;
use accounts::SessionInfo;
use axum::extract::FromRequestParts;
use face::ApiError;
use http::header::AUTHORIZATION;
use http::request::Parts;
use std::net::{IpAddr, Ipv6Addr};
use std::ops::Deref;
use std::sync::Arc;

/// The session of the administrator who asks. It comes first among the extractors of an endpoint, so that nobody else
/// learns what the endpoint makes of a request.
#[derive(Clone, Debug)]
pub(crate) struct Admin(Arc<SessionInfo>);

impl Deref for Admin {
    type Target = SessionInfo;

    fn deref(&self) -> &SessionInfo {
        &self.0
    }
}

impl FromRequestParts<Arc<State>> for Admin {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<State>) -> Result<Self, ApiError> {
        let token = token(parts).ok_or_else(ApiError::missing_token)?;
        let address = parts.extensions.get().copied().unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
        let session = state.accounts.authenticate(&token, address).await?;
        if session.sanctions.locked {
            return Err(ApiError::user_locked());
        }
        if !session.is_admin || session.sanctions.suspended {
            return Err(ApiError::forbidden("only administrators may do this"));
        }
        Ok(Self(session))
    }
}

fn token(parts: &Parts) -> Option<String> {
    let (scheme, token) = parts.headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
}
