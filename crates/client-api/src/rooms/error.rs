//! What those who are not in a room are told.

use crate::ApiError;
use rooms::RoomError;

/// The same error, but for rooms that do not exist: to those who are not in a room, none exists.
pub(super) fn as_outsider(error: RoomError) -> ApiError {
    match error {
        RoomError::NotFound(_) => not_in_room(),
        error => error.into(),
    }
}

/// The answer to everybody who is not in the room, whether it exists or not.
pub(super) fn not_in_room() -> ApiError {
    ApiError::forbidden("you are not in the room")
}
