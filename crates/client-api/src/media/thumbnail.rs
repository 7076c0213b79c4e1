//! `GET /thumbnail/{serverName}/{mediaId}`, authenticated and as it once was.

use super::answer::{self, Audience};
use super::download::{mxc, param, wanted, wanted_by};
use crate::limits::Class;
use crate::session::{ClientAddress, Session};
use crate::wire::{Args, query_param};
use crate::{ApiError, State};
use ::media::{Method, Wanted, WantedThumbnail};
use axum::extract::State as Within;
use axum::response::Response;
use http::{HeaderMap, Uri};
use std::sync::Arc;

/// An image in small.
pub(super) async fn thumbnail(
    Within(state): Within<Arc<State>>,
    session: Session,
    Args((server_name, media_id)): Args<(String, String)>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    state.limit(Class::Other, &session)?;
    let wanted = wanted_thumbnail(&uri, wanted_by(&state, &session, &uri)?)?;
    match state.media.thumbnail(&mxc(&server_name, &media_id)?, wanted).await? {
        Ok(thumbnail) => Ok(answer::thumbnail(thumbnail, &headers, Audience::Asker)),
        Err(file) => answer::file(&state.media, &file, &headers, Audience::Asker).await,
    }
}

/// An image in small, for whoever asks, as far as the settings let them.
pub(super) async fn legacy(
    Within(state): Within<Arc<State>>,
    address: ClientAddress,
    Args((server_name, media_id)): Args<(String, String)>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    state.limits.address(Class::Other, address)?;
    let wanted = wanted_thumbnail(&uri, Wanted { legacy: true, ..wanted(&uri)? })?;
    match state.media.thumbnail(&mxc(&server_name, &media_id)?, wanted).await? {
        Ok(thumbnail) => Ok(answer::thumbnail(thumbnail, &headers, Audience::Everybody)),
        Err(file) => answer::file(&state.media, &file, &headers, Audience::Everybody).await,
    }
}

fn wanted_thumbnail(uri: &Uri, media: Wanted) -> Result<WantedThumbnail, ApiError> {
    let side = |name: &str| param(uri, name)?.ok_or_else(|| ApiError::missing_param(format!("`{name}` is missing")));
    let method = match uri.query().and_then(|query| query_param(query, "method")).as_deref() {
        None | Some("scale") => Method::Scale,
        Some("crop") => Method::Crop,
        Some(_) => return Err(ApiError::invalid_param("`method` is \"crop\" or \"scale\"")),
    };
    let animated = param(uri, "animated")?.unwrap_or(false);
    Ok(WantedThumbnail { media, width: side("width")?, height: side("height")?, method, animated })
}
