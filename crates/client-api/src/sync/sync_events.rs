//! `GET /sync`

use crate::session::Session;
use crate::{ApiError, State};
use ::sync::{FilterChoice, PresenceState, StateChoice, SyncRequest};
use axum::extract;
use axum::response::{IntoResponse, Response};
use http::Uri;
use http::header::CONTENT_TYPE;
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;

/// The parameters, the filter as text: a filter that is read weighs more than all else that a waiting request
/// keeps.
#[derive(Deserialize)]
struct Parameters {
    filter: Option<String>,
    since: Option<String>,
    #[serde(default)]
    full_state: bool,
    #[serde(default)]
    set_presence: Presence,
    #[serde(default)]
    timeout: u64,
    #[serde(default)]
    use_state_after: bool,
    #[serde(default, rename = "org.matrix.msc4222.use_state_after")]
    use_state_after_unstable: bool,
}

/// What the client wants to be seen as.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Presence {
    #[default]
    Online,
    Unavailable,
    Offline,
}

/// What happened since the client's token. Waits for it, if the client wants and there is nothing yet.
pub(super) async fn sync_events(
    extract::State(state): extract::State<Arc<State>>,
    session: Session,
    uri: Uri,
) -> Result<Response, ApiError> {
    let (request, wanted) = request(&session, &uri)?;
    let (user_id, device_id) = (session.user_id.clone(), session.device_id.clone());
    // Neither is needed while the request waits.
    drop((session, uri));
    let present = state.syncs.present(&user_id, &device_id, wanted)?;
    let body = state.syncs.sync(request).await?;
    drop(present);
    // Who was logged out while they waited gets nothing any more.
    if state.records.view().device(&user_id, &device_id)?.is_none() {
        return Err(ApiError::from(accounts::Error::UnknownToken { soft_logout: false }));
    }
    Ok(([(CONTENT_TYPE, "application/json")], body).into_response())
}

fn request(session: &Session, uri: &Uri) -> Result<(SyncRequest, PresenceState), ApiError> {
    let parameters = extract::Query::<Parameters>::try_from_uri(uri);
    let extract::Query(parameters) = parameters.map_err(|error| ApiError::invalid_param(error.body_text()))?;
    let wanted = match parameters.set_presence {
        Presence::Online => PresenceState::Online,
        Presence::Unavailable => PresenceState::Unavailable,
        Presence::Offline => PresenceState::Offline,
    };
    let since = parameters.since.as_deref().map(str::parse).transpose();
    let request = SyncRequest {
        user_id: session.user_id.clone(),
        device_id: session.device_id.clone(),
        since: since.map_err(|error| ApiError::invalid_param(format!("since: {error}")))?,
        filter: parameters.filter.as_deref().map(FilterChoice::of_parameter),
        full_state: parameters.full_state,
        state: match (parameters.use_state_after, parameters.use_state_after_unstable) {
            (true, _) => StateChoice::After,
            (false, true) => StateChoice::AfterUnstable,
            (false, false) => StateChoice::Before,
        },
        timeout: Duration::from_millis(parameters.timeout),
    };
    Ok((request, wanted))
}
