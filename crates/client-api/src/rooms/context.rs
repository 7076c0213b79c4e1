//! `GET /rooms/{roomId}/context/{eventId}`

use super::access::Access;
use super::timeline::{is_lazy, page, relation_filter, senders, state_without_members};
use crate::session::Session;
use crate::wire::Wire;
use crate::{ApiError, State};
use axum::Json;
use axum::extract::State as Within;
use base::Order;
use http::Uri;
use rooms::Piece;
use rules::filter::Matcher;
use ruma::api::client::context::get_context::v3::Request;
use serde::Serialize;
use serde_json::value::RawValue;
use std::sync::Arc;
use store::Direction;
use sync_core::PageToken;

/// The most events around the one that is asked for.
const EVENTS_MAX: u64 = 100;

/// An event and what was around it.
#[derive(Serialize)]
pub(super) struct Response {
    start: String,
    end: String,
    events_before: Vec<Box<RawValue>>,
    event: Box<RawValue>,
    events_after: Vec<Box<RawValue>>,
    state: Vec<Box<RawValue>>,
}

/// An event, what came before and after it, and the state at the last of them.
pub(super) async fn context(
    Within(state): Within<Arc<State>>,
    session: Session,
    uri: Uri,
    Wire(request): Wire<Request>,
) -> Result<Json<Response>, ApiError> {
    let access = Access::of(&state, &session, &request.room_id)?;
    let event = access.event(&request.event_id)?;
    let order = event.event.order;
    let limit = u64::from(request.limit).min(request.filter.limit.map_or(EVENTS_MAX, u64::from)).min(EVENTS_MAX);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let matcher = Matcher::of_room_events(&request.filter).with_relations(relation_filter(&uri)?);

    let before =
        Piece { after: Order(i64::MIN), up_to: Order(order.0.saturating_sub(1)), direction: Direction::Backward };
    let after = Piece { after: order, up_to: access.up_to(), direction: Direction::Forward };
    let before = page(&access, &matcher, before, limit / 2)?.seen;
    let after = page(&access, &matcher, after, limit - limit / 2)?.seen;

    let first = before.last().unwrap_or(&event).event.order;
    let last = &after.last().unwrap_or(&event).event;
    let room_state = last.record.state_after;
    let mut shown = if is_lazy(&request.filter) {
        let mut shown = state_without_members(&access, room_state)?;
        shown.extend(senders(&access, room_state, before.iter().chain([&event]).chain(&after))?);
        shown
    } else {
        access.reader.state_events(room_state)?
    };
    shown.retain(|event| matcher.matches_pdu(&event.pdu));
    Ok(Json(Response {
        start: PageToken(Order(first.0.saturating_sub(1))).to_string(),
        end: PageToken(last.order).to_string(),
        events_before: access.client_events(&before)?,
        event: access.client_event(&event)?,
        events_after: access.client_events(&after)?,
        state: access.client_state(&shown)?,
    }))
}
