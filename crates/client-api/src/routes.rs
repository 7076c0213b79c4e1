//! How paths are mounted.

use crate::State;
use axum::Router;
use axum::routing::MethodRouter;
use std::sync::Arc;

/// Mounts an endpoint under the versions of the API that have it. A path begins with a slash and names its
/// parameters in braces: `/rooms/{room_id}/leave`. Names are free, but where two paths have a parameter at
/// the same place they must call it alike.
pub(crate) trait Routes {
    /// An endpoint that has been there since r0: under `/_matrix/client/v3` and, for old clients, `/r0`.
    #[must_use]
    fn v3(self, path: &str, methods: MethodRouter<Arc<State>>) -> Self;

    /// An endpoint of [`Self::v3`] that clients in service know by the name, too, that it had before it was in the
    /// specification: under `/_matrix/client/` and this.
    #[must_use]
    fn v3_once(self, old: &str, path: &str, methods: MethodRouter<Arc<State>>) -> Self;

    /// An endpoint under `/_matrix/client/v1`.
    #[must_use]
    fn v1(self, path: &str, methods: MethodRouter<Arc<State>>) -> Self;
}

impl Routes for Router<Arc<State>> {
    fn v3(self, path: &str, methods: MethodRouter<Arc<State>>) -> Self {
        self.route(&format!("/_matrix/client/v3{path}"), methods.clone())
            .route(&format!("/_matrix/client/r0{path}"), methods)
    }

    fn v3_once(self, old: &str, path: &str, methods: MethodRouter<Arc<State>>) -> Self {
        self.v3(path, methods.clone()).route(&format!("/_matrix/client/{old}{path}"), methods)
    }

    fn v1(self, path: &str, methods: MethodRouter<Arc<State>>) -> Self {
        self.route(&format!("/_matrix/client/v1{path}"), methods)
    }
}
