//! `GET /rooms/{roomId}/messages`

use super::access::Access;
use super::timeline::{is_lazy, page, relation_filter, senders};
use crate::session::Session;
use crate::wire::{Args, Wire};
use crate::{ApiError, State};
use axum::Json;
use axum::extract::{self, FromRequest as _, State as Within};
use base::Order;
use http::Uri;
use rooms::Piece;
use rules::filter::Matcher;
use ruma::OwnedRoomId;
use ruma::api::Direction as Dir;
use ruma::api::client::message::get_message_events::v3::Request;
use serde::Serialize;
use serde_json::value::RawValue;
use std::sync::Arc;
use store::Direction;
use sync_core::PageToken;

/// The most events of one page.
const EVENTS_MAX: u64 = 1000;

/// A page of a room's history.
#[derive(Serialize)]
pub(super) struct Response {
    start: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<String>,
    chunk: Vec<Box<RawValue>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    state: Vec<Box<RawValue>>,
}

/// A page of a room's history. A token names the place after an event, so one token serves both directions.
pub(super) async fn messages(
    Within(state): Within<Arc<State>>,
    session: Session,
    uri: Uri,
    Args((room_id,)): Args<(OwnedRoomId,)>,
    request: extract::Request,
) -> Result<Json<Response>, ApiError> {
    let request = match Wire::<Request>::from_request(request, &state).await {
        Ok(Wire(request)) => request,
        Err(error) => {
            // Who may not read the room learns that first, however they ask.
            Access::of(&state, &session, &room_id)?;
            return Err(error);
        }
    };
    let from = request.from.as_deref().map(|token| place("from", token)).transpose()?;
    let to = request.to.as_deref().map(|token| place("to", token)).transpose()?;
    let limit = u64::from(request.limit).min(request.filter.limit.map_or(EVENTS_MAX, u64::from));
    let events_max = usize::try_from(limit.clamp(1, EVENTS_MAX)).unwrap_or(usize::MAX);

    let mut access = Access::of(&state, &session, &request.room_id)?;
    let newest = access.up_to();
    let range = match request.dir {
        Dir::Backward => Piece {
            after: to.unwrap_or(Order(i64::MIN)),
            up_to: from.unwrap_or(newest).min(newest),
            direction: Direction::Backward,
        },
        Dir::Forward => Piece {
            after: from.unwrap_or(Order(i64::MIN)),
            up_to: to.unwrap_or(newest).min(newest),
            direction: Direction::Forward,
        },
    };
    let matcher = Matcher::of_room_events(&request.filter).with_relations(relation_filter(&uri)?);
    let mut found = page(&access, &matcher, range, events_max)?;
    // What is known of the room ends here; others may know what came before.
    if request.dir == Dir::Backward && found.rest.is_none() && found.seen.len() < events_max && to.is_none() {
        drop(access);
        let fetched = state.federation.backfill(&room_id, events_max).await?;
        access = Access::of(&state, &session, &request.room_id)?;
        if fetched {
            found = page(&access, &matcher, range, events_max)?;
        }
    }
    let page = found;
    let members = if is_lazy(&request.filter) {
        // As the newest event left them: by then all senders had joined.
        let newest = page.seen.iter().max_by_key(|seen| seen.event.order);
        newest.map(|newest| senders(&access, newest.event.record.state_after, &page.seen)).transpose()?
    } else {
        None
    };
    Ok(Json(Response {
        start: request.from.unwrap_or_else(|| PageToken(range.start()).to_string()),
        end: page.rest.map(|rest| PageToken(rest.start()).to_string()),
        chunk: access.client_events(&page.seen)?,
        state: access.client_state(&members.unwrap_or_default())?,
    }))
}

/// The place that a token names.
pub(super) fn place(parameter: &str, token: &str) -> Result<Order, ApiError> {
    let place = PageToken::parse(token);
    place.map(|place| place.0).map_err(|error| ApiError::invalid_param(format!("`{parameter}`: {error}")))
}
