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

/// The first event of a time or later that the user may see, or the last of the time or earlier. Other servers are
/// asked where they may know more.
pub(super) async fn timestamp_to_event(
    Within(state): Within<Arc<State>>,
    session: Session,
    Wire(request): Wire<Request>,
) -> Result<Reply<Response>, ApiError> {
    state.limit(Class::Other, &session)?;
    let at = UnixMillis(request.ts.0.into());
    let local = nearest(&state, &session, &request, at)?;
    // Of a room whose beginning is not known here, others may know what is nearer.
    let asked = local.as_ref().is_none_or(|local| local.origin_server_ts != request.ts);
    if asked && let Some(found) = nearer_elsewhere(&state, &session, &request, at, local.as_ref()).await? {
        return Ok(Reply(found));
    }
    let way = if request.dir == Dir::Forward { "later" } else { "earlier" };
    local
        .map(Reply)
        .ok_or_else(|| ApiError::not_found(format!("there is no event at {} or {way} that you may see", at.0)))
}

/// What other servers know that is nearer to the time than what is known here, if there is a part of the room's history
/// that is not known here.
async fn nearer_elsewhere(
    state: &State,
    session: &Session,
    request: &Request,
    at: UnixMillis,
    local: Option<&Response>,
) -> Result<Option<Response>, ApiError> {
    if !state.federation.has_unknown_past(&request.room_id)? {
        return Ok(None);
    }
    let forward = request.dir == Dir::Forward;
    let Some(found) = state.federation.event_at(&request.room_id, at.0, forward).await? else { return Ok(None) };
    let is_nearer = local.is_none_or(|local| {
        let known = u64::from(local.origin_server_ts.0);
        known.abs_diff(at.0) > found.origin_server_ts.abs_diff(at.0)
    });
    if !is_nearer || !state.federation.fetch_past(&request.room_id, &found.event_id).await? {
        return Ok(None);
    }
    let access = Access::of(state, session, &request.room_id)?;
    let Ok(seen) = access.event(&found.event_id) else { return Ok(None) };
    let pdu = &seen.event.pdu;
    Ok(Some(Response::new(pdu.event_id().clone(), pdu.origin_server_ts())))
}

/// The nearest event that is known here.
fn nearest(state: &State, session: &Session, request: &Request, at: UnixMillis) -> Result<Option<Response>, ApiError> {
    let access = Access::of(state, session, &request.room_id)?;
    let direction = match request.dir {
        Dir::Forward => Direction::Forward,
        Dir::Backward => Direction::Backward,
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
            return Ok(Some(Response::new(pdu.event_id().clone(), pdu.origin_server_ts())));
        }
        beyond = Some(last);
    }
    Ok(None)
}
