//! Rooms: finding and looking at them, blocking and deleting them, removing their history, and taking them over.

mod block;
mod delete;
mod events;
mod list;
mod members;
mod purge;
mod takeover;

pub use list::Index;

use crate::State;
use axum::Router;
use face::ApiError;
use rooms::RoomReader;
use ruma::RoomId;
use std::sync::Arc;

pub(crate) fn routes() -> Router<Arc<State>> {
    Router::new()
        .merge(block::routes())
        .merge(delete::routes())
        .merge(events::routes())
        .merge(list::routes())
        .merge(members::routes())
        .merge(purge::routes())
        .merge(takeover::routes())
}

impl State {
    /// A room as it is now: 404 if it is not known here.
    pub(crate) fn room(&self, room_id: &RoomId) -> Result<RoomReader, ApiError> {
        let reader = self.rooms.reader_by_id(&self.records.view(), room_id)?;
        reader.ok_or_else(|| ApiError::not_found("Room not found"))
    }
}
