//! What takes another server, and so is refused while there is none to ask.

use crate::{ApiError, State};
use ruma::UserId;

/// Refuses to invite a user of another server: it would have to agree first (server-server API, "Inviting to a
/// room").
pub(super) fn refuse_remote(state: &State, user: &UserId) -> Result<(), ApiError> {
    if user.server_name() == state.server_name {
        return Ok(());
    }
    Err(ApiError::forbidden(format!("{user} cannot be invited: their server cannot be reached")))
}

/// The answer for rooms and aliases that only another server could know.
pub(super) fn unreachable_room(what: &str) -> ApiError {
    ApiError::not_found(format!("{what} is not known here, and no server that knows it can be reached"))
}
