//! Files (client-server API, "Content repository"): uploads, downloads, thumbnails, previews of pages.
//!
//! Bodies stream both ways. The binary lets those of uploads through as they come, without its own limits of size and
//! time: `media` has others.

mod answer;
mod config;
mod create;
mod download;
mod preview;
mod range;
#[cfg(test)]
mod tests;
mod thumbnail;
mod upload;

use crate::State;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post, put};
use std::sync::Arc;

/// The prefixes of the endpoints that are not under `/_matrix/client`; clients in service use all of them.
const PREFIXES: [&str; 3] = ["/_matrix/media/v3", "/_matrix/media/r0", "/_matrix/media/v1"];

/// The prefixes of the endpoints that need a token: of the specification, and from before it had them (MSC3916).
const AUTHENTICATED: [&str; 2] = ["/_matrix/client/v1/media", "/_matrix/client/unstable/org.matrix.msc3916/media"];

/// The endpoints of files.
pub(crate) fn routes() -> Router<Arc<State>> {
    let mut router = Router::new().route("/_matrix/media/v1/create", post(create::create));
    for new in AUTHENTICATED {
        router = router
            .route(&format!("{new}/config"), get(config::config))
            .route(&format!("{new}/preview_url"), get(preview::preview))
            .route(&format!("{new}/download/{{server_name}}/{{media_id}}"), get(download::download))
            .route(&format!("{new}/download/{{server_name}}/{{media_id}}/{{file_name}}"), get(download::download_named))
            .route(&format!("{new}/thumbnail/{{server_name}}/{{media_id}}"), get(thumbnail::thumbnail));
    }
    for old in PREFIXES {
        router = router
            .route(&format!("{old}/upload"), post(upload::upload))
            .route(&format!("{old}/upload/{{server_name}}/{{media_id}}"), put(upload::upload_to))
            .route(&format!("{old}/config"), get(config::config))
            .route(&format!("{old}/preview_url"), get(preview::preview))
            .route(&format!("{old}/download/{{server_name}}/{{media_id}}"), get(download::legacy))
            .route(&format!("{old}/download/{{server_name}}/{{media_id}}/{{file_name}}"), get(download::legacy_named))
            .route(&format!("{old}/thumbnail/{{server_name}}/{{media_id}}"), get(thumbnail::legacy));
    }
    router.layer(DefaultBodyLimit::disable())
}
