//! `GET /rooms/{roomId}/timestamp_to_event`: the event that is closest to a time.

use super::access::Access;
use crate::limits::Class;
use crate::session::Session;
use crate::wire::{Reply, Wire};
use crate::{ApiError, State};
use axum::extract::State as Within;
use base::UnixMillis;
use ruma::api::Direction as Dir;
use ruma::api::client::room::get_event_by_timestamp::v1::{Request, Response};
use std::sync::Arc;
use store::Direction;

/// How many events are read at once.
const READ_AT_ONCE: usize = 50;
/// How many events are looked at to find one that the user may see.
const LOOKED_AT_MAX: usize = 1_000;

/// The first event of a time or later that the user may see, or the last of the time or earlier. What other
/// servers may have, they are not asked for.
pub(super) async fn timestamp_to_event(
    Within(state): Within<Arc<State>>,
    session: Session,
    Wire(request): Wire<Request>,
) -> Result<Reply<Response>, ApiError> {
    state.limit(Class::Other, &session)?;
    let access = Access::of(&state, &session, &request.room_id)?;
    let at = UnixMillis(request.ts.0.into());
    let (direction, way) = match request.dir {
        Dir::Forward => (Direction::Forward, "later"),
        Dir::Backward => (Direction::Backward, "earlier"),
    };
    let (view, room) = (access.reader.view(), access.reader.num());
    let mut beyond = None;
    for _ in 0..LOOKED_AT_MAX / READ_AT_ONCE {
        let found = view.events_from_time(room, at, beyond, direction, READ_AT_ONCE)?;
        let Some(last) = found.last().copied() else { break };
        let nums: Vec<_> = found.iter().map(|timed| timed.event).collect();
        let events = access.reader.events(&nums)?;
        if let Some(seen) = access.visible(&events)?.into_iter().next() {
            let pdu = &seen.event.pdu;
            return Ok(Reply(Response::new(pdu.event_id().clone(), pdu.origin_server_ts())));
        }
        beyond = Some(last);
    }
    Err(ApiError::not_found(format!("there is no event at {} or {way} that you may see", at.0)))
}
