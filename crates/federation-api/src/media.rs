//! `GET /media/download/{mediaId}`, `GET /media/thumbnail/{mediaId}`: files of this server, in two parts of which the
//! first says something about the second (server-server API, "Content Repository").

use crate::State;
use ::media::{File, Method, Mxc, Wanted, WantedThumbnail};
use axum::body::Body;
use axum::extract::State as Within;
use axum::response::Response;
use bytes::Bytes;
use face::ApiError;
use face::wire::{Args, query_param};
use futures::{Stream, StreamExt};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Uri};
use std::io;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// What parts the parts. It is in no file by chance.
const BOUNDARY: &str = "chancery-5f0c1d7be2a94c6e8d3b";

/// A file.
pub(crate) async fn download(
    Within(state): Within<Arc<State>>,
    Args((media_id,)): Args<(String,)>,
    uri: Uri,
) -> Result<Response, ApiError> {
    let file = state.media.find(&mxc(&state, &media_id)?, wanted(&uri)?).await?;
    whole(&state, &file).await
}

/// An image in small.
pub(crate) async fn thumbnail(
    Within(state): Within<Arc<State>>,
    Args((media_id,)): Args<(String,)>,
    uri: Uri,
) -> Result<Response, ApiError> {
    let side = |name: &str| param(&uri, name)?.ok_or_else(|| ApiError::missing_param(format!("`{name}` is missing")));
    let method = match query_param(uri.query().unwrap_or_default(), "method").as_deref() {
        None | Some("scale") => Method::Scale,
        Some("crop") => Method::Crop,
        Some(_) => return Err(ApiError::invalid_param("`method` is \"crop\" or \"scale\"")),
    };
    let animated = param(&uri, "animated")?.unwrap_or(false);
    let (width, height) = (side("width")?, side("height")?);
    let wanted = WantedThumbnail { media: wanted(&uri)?, width, height, method, animated };
    match state.media.thumbnail(&mxc(&state, &media_id)?, wanted).await? {
        Ok(thumbnail) => {
            let body = futures::stream::once(std::future::ready(Ok(thumbnail.body)));
            Ok(in_parts(&thumbnail.content_type, "inline", body))
        }
        Err(file) => whole(&state, &file).await,
    }
}

fn mxc(state: &State, media_id: &str) -> Result<Mxc, ApiError> {
    Mxc::new(&state.server_name, media_id).ok_or_else(|| ApiError::not_found("there is no such file"))
}

fn wanted(uri: &Uri) -> Result<Wanted, ApiError> {
    let timeout = param(uri, "timeout_ms")?.map(Duration::from_millis);
    let default = Wanted::default();
    Ok(Wanted { timeout: timeout.unwrap_or(default.timeout), allow_remote: false, ..default })
}

fn param<T: FromStr>(uri: &Uri, name: &str) -> Result<Option<T>, ApiError> {
    let value = query_param(uri.query().unwrap_or_default(), name);
    let value = value.map(|value| value.parse()).transpose();
    value.map_err(|_| ApiError::invalid_param(format!("`{name}` has a wrong value")))
}

async fn whole(state: &State, file: &File) -> Result<Response, ApiError> {
    let body = state.media.read(file, 0..file.bytes).await?;
    let disposition = match &file.filename {
        Some(name) => format!("attachment; filename*=utf-8''{}", remote::segment(name)),
        None => "attachment".to_owned(),
    };
    Ok(in_parts(&file.content_type, &disposition, body))
}

fn in_parts(
    content_type: &str,
    disposition: &str,
    body: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
) -> Response {
    // What would end a header is no type.
    let is_header = !content_type.bytes().any(|byte| byte.is_ascii_control());
    let content_type = if is_header { content_type } else { "application/octet-stream" };
    let before = format!(
        "--{BOUNDARY}\r\nContent-Type: application/json\r\n\r\n{{}}\r\n--{BOUNDARY}\r\nContent-Type: {content_type}\r\n\
         Content-Disposition: {disposition}\r\n\r\n"
    );
    let part = |text: String| futures::stream::once(std::future::ready(Ok::<_, io::Error>(Bytes::from(text))));
    let body = part(before).chain(body).chain(part(format!("\r\n--{BOUNDARY}--\r\n")));
    let mut response = Response::new(Body::from_stream(body));
    if let Ok(header) = HeaderValue::from_str(&format!("multipart/mixed; boundary={BOUNDARY}")) {
        response.headers_mut().insert(CONTENT_TYPE, header);
    }
    response
}
