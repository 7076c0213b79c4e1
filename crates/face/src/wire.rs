//! Requests and responses between HTTP and ruma's types.

use crate::ApiError;
use axum::body::Body as HttpBody;
use axum::extract::{FromRequest, FromRequestParts, RawPathParams, Request};
use axum::response::{IntoResponse, Response};
use base::limits::JSON_DEPTH_MAX;
use bytes::Bytes;
use http::request::Parts;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use ruma::api::error::{DeserializationError, FromHttpRequestError};
use ruma::api::{IncomingRequest, IncomingRequestExt, OutgoingResponse, OutgoingResponseExt};
use ruma::serde::JsonObject;
use serde::de::DeserializeOwned;
use serde::de::value::{Error as ValueError, SeqDeserializer};
use serde_json::error::Category;
use std::sync::Arc;

/// How large the bodies of requests may be: what each face's state says.
pub trait BodyLimit: Send + Sync + 'static {
    /// The largest body of a request, in bytes.
    fn body_bytes_max(&self) -> usize;
}

/// A request as ruma types it: path, query and body.
///
/// - A body that is not JSON: 400 `M_NOT_JSON`. JSON of another shape, or nested deeper than
///   [`JSON_DEPTH_MAX`]: 400 `M_BAD_JSON`. A body that is too large: 413 `M_TOO_LARGE`. No body at all counts
///   as `{}`, but for `PUT`, which would put nothing in the place of what is there.
/// - A parameter of the path or the query that is wrong: 400 `M_INVALID_PARAM`; one that is missing: 400
///   `M_MISSING_PARAM`.
///
/// The parameters of the path must come in the order of ruma's fields.
#[derive(Debug)]
pub struct Wire<T>(pub T);

impl<T: IncomingRequest, S: BodyLimit> FromRequest<Arc<S>> for Wire<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &Arc<S>) -> Result<Self, ApiError> {
        let (mut parts, body) = request.into_parts();
        let args = path_args(&mut parts, state).await?;
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let body = read(body, state.body_bytes_max()).await?;
        if body.is_empty() && parts.method == http::Method::PUT {
            return Err(ApiError::not_json("what is to be put there is missing: the body is empty"));
        }
        // Clients leave out a body that has no required field.
        let body = if body.is_empty() { &b"{}"[..] } else { &body[..] };
        let request = http::Request::from_parts(parts, body);
        T::try_from_http_request(request, &args).map(Self).map_err(|error| {
            // Types that try several shapes, or parse a part on its own, don't tell whether the whole is JSON.
            match (serde_json::from_slice::<serde::de::IgnoredAny>(body), error) {
                (Err(error), _) => refuse_json(&error),
                (Ok(_), FromHttpRequestError::Deserialization(DeserializationError::Json(error))) => {
                    ApiError::bad_json(error.to_string())
                }
                (Ok(_), error) => refuse(error),
            }
        })
    }
}

/// A request as ruma types it, and its whole body, for endpoints that pass on what they don't know.
#[derive(Debug)]
pub struct WireAndBody<T>(pub T, pub JsonObject);

impl<T: IncomingRequest, S: BodyLimit> FromRequest<Arc<S>> for WireAndBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &Arc<S>) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let body = read(body, state.body_bytes_max()).await?;
        let request = Request::from_parts(parts, HttpBody::from(body.clone()));
        let Wire(request) = Wire::<T>::from_request(request, state).await?;
        let whole = if body.is_empty() {
            JsonObject::new()
        } else {
            serde_json::from_slice(&body).map_err(|error| refuse_json(&error))?
        };
        Ok(Self(request, whole))
    }
}

/// A body as our own type, for where ruma's loses something. Refused as [`Wire`] does.
#[derive(Debug)]
pub struct Body<T>(pub T);

impl<T: DeserializeOwned, S: BodyLimit> FromRequest<Arc<S>> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &Arc<S>) -> Result<Self, ApiError> {
        let is_put = request.method() == http::Method::PUT;
        let body = read(request.into_body(), state.body_bytes_max()).await?;
        if body.is_empty() && is_put {
            return Err(ApiError::not_json("what is to be put there is missing: the body is empty"));
        }
        let body = if body.is_empty() { &b"{}"[..] } else { &body[..] };
        // Raw JSON is passed on as it came: others must be able to read all of it, halves of surrogate pairs and
        // numbers beyond measure are no good to them.
        serde_json::from_slice::<serde_json::Value>(body).map_err(|error| refuse_json(&error))?;
        serde_json::from_slice(body).map(Self).map_err(|error| ApiError::bad_json(error.to_string()))
    }
}

/// The parameters of the path as our own type: a text, or a tuple of what parses from texts.
#[derive(Debug)]
pub struct Args<T>(pub T);

impl<T: DeserializeOwned, S: BodyLimit> FromRequestParts<Arc<S>> for Args<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<S>) -> Result<Self, ApiError> {
        let args = path_args(parts, state).await?;
        let args = SeqDeserializer::<_, ValueError>::new(args.into_iter());
        T::deserialize(args).map(Self).map_err(|error| ApiError::invalid_param(error.to_string()))
    }
}

/// A parameter of a query as it is meant, not as it is encoded; the first of its name.
#[must_use]
pub fn query_param(query: &str, name: &str) -> Option<String> {
    let mut params = form_urlencoded::parse(query.as_bytes());
    params.find_map(|(key, value)| (key == name).then(|| value.into_owned()))
}

/// A response as ruma types it.
#[derive(Debug)]
pub struct Reply<T>(pub T);

impl<T: OutgoingResponse> IntoResponse for Reply<T> {
    fn into_response(self) -> Response {
        match self.0.try_into_http_response::<Vec<u8>>() {
            Ok(response) => response.map(HttpBody::from),
            Err(error) => ApiError::internal(&error).into_response(),
        }
    }
}

async fn path_args<S: BodyLimit>(parts: &mut Parts, state: &Arc<S>) -> Result<Vec<String>, ApiError> {
    let params = RawPathParams::from_request_parts(parts, state).await;
    let params = params.map_err(|_| ApiError::invalid_param("the path is not percent-encoded UTF-8"))?;
    Ok(params.iter().map(|(_, value)| value.to_owned()).collect())
}

/// Reads a body within the limits of size and depth.
pub async fn read(body: HttpBody, bytes_max: usize) -> Result<Bytes, ApiError> {
    match Limited::new(body, bytes_max).collect().await {
        Ok(body) => {
            let body = body.to_bytes();
            if std::str::from_utf8(&body).is_err() {
                Err(ApiError::not_json("the body is not UTF-8"))
            } else if nests_deeper(&body, JSON_DEPTH_MAX) {
                Err(ApiError::bad_json("the JSON is nested too deeply"))
            } else {
                Ok(body)
            }
        }
        Err(error) if error.is::<LengthLimitError>() => Err(ApiError::too_large("the body is too large")),
        Err(_) => Err(ApiError::not_json("the body was cut off")),
    }
}

/// Whether JSON is nested deeper than this. What is not JSON may answer either way.
fn nests_deeper(json: &[u8], depth_max: usize) -> bool {
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'{' | b'[' if !in_text => depth += 1,
            b'}' | b']' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > depth_max {
            return true;
        }
    }
    false
}

fn refuse(error: FromHttpRequestError) -> ApiError {
    match error {
        FromHttpRequestError::MethodMismatch { .. } => ApiError::wrong_method(),
        FromHttpRequestError::Deserialization(DeserializationError::Json(error)) => refuse_json(&error),
        FromHttpRequestError::Deserialization(DeserializationError::Utf8(_)) => {
            ApiError::not_json("the body is not UTF-8")
        }
        FromHttpRequestError::Deserialization(DeserializationError::Query(error)) => {
            let message = error.to_string();
            if message.starts_with("missing field") {
                ApiError::missing_param(message)
            } else {
                ApiError::invalid_param(message)
            }
        }
        error => ApiError::invalid_param(error.to_string()),
    }
}

/// What to say of JSON that doesn't read.
#[must_use]
pub fn refuse_json(error: &serde_json::Error) -> ApiError {
    match error.classify() {
        Category::Data => ApiError::bad_json(error.to_string()),
        Category::Syntax | Category::Eof | Category::Io => ApiError::not_json(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_of_a_query_are_decoded() {
        assert_eq!(query_param("a=1&kind=%75ser&kind=x", "kind").as_deref(), Some("user"));
        assert_eq!(query_param("k%69nd=a+b%26", "kind").as_deref(), Some("a b&"));
        assert_eq!(query_param("kindly=1&mankind=2", "kind"), None);
        assert_eq!(query_param("kind", "kind").as_deref(), Some(""));
    }

    #[test]
    fn depth_counts_brackets_outside_of_texts() {
        assert!(!nests_deeper(br#"{"a":[1,{"b":"[[[["}]}"#, 3));
        assert!(nests_deeper(br#"{"a":[1,{"b":"[[[["}]}"#, 2));
        assert!(!nests_deeper(br#"{"a":"\"[[[[[["}"#, 1));
        assert!(!nests_deeper(br"[[],[],[]]", 2));
    }
}
