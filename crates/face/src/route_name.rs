//! Which endpoint answered, for the metrics of the binary.

use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::Response;
use base::Route;

/// Puts the template of the path that matched into the extensions of the response.
pub async fn name_route(path: MatchedPath, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    response.extensions_mut().insert(Route(path.as_str().into()));
    response
}
