//! The administration API, under `/_synapse/admin`: in the shape that Synapse gave it, which the tools of
//! administrators know. What this server does otherwise is said at the endpoints.
//!
//! Whoever asks must be an administrator: 401 without a token, 403 `M_FORBIDDEN` for everybody else. All that they
//! change is logged with their name.

mod access;
mod jobs;
mod media_files;
mod notices;
mod params;
mod registration_tokens;
mod reports;
mod room;
mod server;
#[cfg(test)]
mod testing;
mod users;

pub use jobs::Jobs;
pub use notices::Config as NoticesConfig;
pub use room::Index;

use accounts::Accounts;
use axum::Router;
use base::{Clock, Random};
use face::{ApiError, route_name, wire};
use media::Media;
use records::Records;
use rooms::Rooms;
use ruma::OwnedServerName;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tracing::Instrument as _;

/// The largest body of a request.
const BODY_BYTES_MAX: usize = 256 * 1024;
/// How many look at all users, rooms or reports at once.
const SEARCHES_AT_ONCE: usize = 2;

/// What the endpoints of one agency work on.
pub struct State {
    /// The agency's name.
    pub server_name: OwnedServerName,
    /// What is stored.
    pub records: Records,
    /// Users, sessions, and what users store.
    pub accounts: Accounts,
    /// The rooms.
    pub rooms: Rooms,
    /// Files.
    pub media: Media,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
    /// Server notices.
    pub notices: NoticesConfig,
    /// Held by those who look at all users, rooms or reports; begins as [`Searches::default`].
    pub searches: Searches,
    /// What takes long; begins as [`Jobs::default`].
    pub jobs: Jobs,
    /// What lists show of rooms; begins empty, as [`Index::default`].
    pub index: Index,
}

/// Who looks at all there is: few at once, so that others have processors left.
pub struct Searches(Arc<Semaphore>);

impl Default for Searches {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(SEARCHES_AT_ONCE)))
    }
}

impl State {
    /// Does what looks at all users, rooms or reports, on a thread of its own and few at once.
    async fn search<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let permit = self.searches.0.clone().acquire_owned().await.map_err(|error| ApiError::internal(&error))?;
        let span = tracing::Span::current();
        let work = move || {
            let _permit = permit;
            span.in_scope(work)
        };
        tokio::task::spawn_blocking(work).await.map_err(|error| ApiError::internal(&error))?
    }
}

impl wire::BodyLimit for State {
    fn body_bytes_max(&self) -> usize {
        BODY_BYTES_MAX
    }
}

/// All endpoints of one agency. What does not exist is for the router to answer that this is merged with. The address
/// of the client is expected as a request extension of the type [`std::net::IpAddr`]. Starts what works on the jobs of
/// administrators, so it must be called within a runtime.
pub fn router(state: Arc<State>) -> Router {
    state.start_jobs();
    Router::new()
        .merge(media_files::routes())
        .merge(notices::routes())
        .merge(registration_tokens::routes())
        .merge(reports::routes())
        .merge(room::routes())
        .merge(server::routes())
        .merge(users::routes())
        .route_layer(axum::middleware::from_fn(route_name::name_route))
        .method_not_allowed_fallback(async || ApiError::wrong_method())
        .with_state(state)
}

/// Does work to its end though the client hangs up meanwhile: a commit and what has to follow it.
async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, ApiError>> + Send + 'static,
) -> Result<T, ApiError> {
    tokio::spawn(work.in_current_span()).await.map_err(|error| ApiError::internal(&error))?
}
