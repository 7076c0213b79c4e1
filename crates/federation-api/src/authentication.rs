//! Who asks: the server that has signed the request (server-server API, "Request Authentication").

use crate::{BODY_BYTES_MAX, State};
use axum::body::Body;
use axum::extract::{FromRequestParts, Request, State as Within};
use axum::middleware::Next;
use axum::response::Response;
use face::{ApiError, wire};
use http::header::AUTHORIZATION;
use http::request::Parts;
use remote::{RequestError, SignedRequest};
use ruma::{OwnedServerName, ServerName};
use std::ops::Deref;
use std::sync::Arc;

/// The server that asks.
#[derive(Clone, Debug)]
pub struct Origin(pub OwnedServerName);

impl Deref for Origin {
    type Target = ServerName;

    fn deref(&self) -> &ServerName {
        &self.0
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Origin {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        parts.extensions.get().cloned().ok_or_else(|| ApiError::unauthorized("the request is not signed"))
    }
}

/// Lets those requests through that a server has signed, and says which one.
pub(crate) async fn authenticate(
    Within(state): Within<Arc<State>>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let (mut parts, body) = request.into_parts();
    let is_transaction = parts.uri.path().starts_with("/_matrix/federation/v1/send/");
    let bytes_max = if is_transaction { state.transaction_bytes_max } else { BODY_BYTES_MAX };
    let body = wire::read(body, bytes_max).await?;
    let text = std::str::from_utf8(&body).map_err(|_| ApiError::not_json("the body is not UTF-8"))?;
    let headers = parts.headers.get_all(AUTHORIZATION).iter().filter_map(|header| header.to_str().ok());
    let uri = parts.uri.path_and_query().map_or("/", |uri| uri.as_str());
    let signed = SignedRequest { method: parts.method.as_str(), uri, body: text };
    let origin = state.keys.verify_request(headers, signed).await.map_err(refuse)?;
    parts.extensions.insert(Origin(origin));
    Ok(next.run(Request::from_parts(parts, Body::from(body))).await)
}

fn refuse(error: RequestError) -> ApiError {
    match error {
        RequestError::Keys(error) => ApiError::internal(&error),
        error => {
            tracing::debug!(%error, "a request of another server is refused");
            ApiError::unauthorized(error.to_string())
        }
    }
}
