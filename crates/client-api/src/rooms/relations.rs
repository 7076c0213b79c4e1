//! `GET /rooms/{roomId}/relations/{eventId}`, and the same with `/{relType}` and `/{relType}/{eventType}`

use super::access::Access;
use super::messages::place;
use super::timeline::page_of;
use crate::routes::Routes as _;
use crate::session::Session;
use crate::wire::Args;
use crate::{ApiError, State};
use axum::extract::{Query, State as Within};
use axum::routing::get;
use axum::{Json, Router};
use base::Order;
use http::Uri;
use rooms::{DEPTH_MAX, Depth, Piece, Wanted};
use ruma::api::Direction as Dir;
use ruma::{OwnedEventId, OwnedRoomId};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::sync::Arc;
use store::Direction;
use sync_core::PageToken;

/// The endpoints, which some clients still know by the names from before they were in the specification.
pub(super) fn routes() -> Router<Arc<State>> {
    const PATH: &str = "/rooms/{room_id}/relations/{event_id}";
    let (all, of_rel_type, of_event_type) = (get(all), get(of_rel_type), get(of_event_type));
    let old = |rest: &str| format!("/_matrix/client/unstable{PATH}{rest}");
    Router::new()
        .route(&old(""), all.clone())
        .route(&old("/{rel_type}"), of_rel_type.clone())
        .route(&old("/{rel_type}/{event_type}"), of_event_type.clone())
        .v1(PATH, all)
        .v1(&format!("{PATH}/{{rel_type}}"), of_rel_type)
        .v1(&format!("{PATH}/{{rel_type}}/{{event_type}}"), of_event_type)
}

/// How many events a page has if the client does not say.
const EVENTS_DEFAULT: u64 = 50;
/// The most events of one page.
const EVENTS_MAX: u64 = 500;

/// The parameters that all three forms have.
#[derive(Deserialize)]
struct Parameters {
    from: Option<String>,
    to: Option<String>,
    limit: Option<u64>,
    #[serde(default)]
    dir: Dir,
    /// Under its old name, of MSC3981, as well.
    #[serde(alias = "org.matrix.msc3981.recurse")]
    recurse: Option<bool>,
}

/// A page of the events that relate to one.
#[derive(Serialize)]
pub(super) struct Response {
    chunk: Vec<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_batch: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prev_batch: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recursion_depth: Option<usize>,
}

/// All events that relate to one.
pub(super) async fn all(
    Within(state): Within<Arc<State>>,
    session: Session,
    Args((room_id, event_id)): Args<(OwnedRoomId, OwnedEventId)>,
    uri: Uri,
) -> Result<Json<Response>, ApiError> {
    relations(&state, &session, &(room_id, event_id), &uri, Wanted::default())
}

/// Those that relate in a certain way.
pub(super) async fn of_rel_type(
    Within(state): Within<Arc<State>>,
    session: Session,
    Args((room_id, event_id, rel_type)): Args<(OwnedRoomId, OwnedEventId, String)>,
    uri: Uri,
) -> Result<Json<Response>, ApiError> {
    let wanted = Wanted { rel_type: Some(&rel_type), event_type: None };
    relations(&state, &session, &(room_id, event_id), &uri, wanted)
}

/// Those that relate in a certain way and are of a certain type.
pub(super) async fn of_event_type(
    Within(state): Within<Arc<State>>,
    session: Session,
    Args((room_id, event_id, rel_type, event_type)): Args<(OwnedRoomId, OwnedEventId, String, String)>,
    uri: Uri,
) -> Result<Json<Response>, ApiError> {
    let wanted = Wanted { rel_type: Some(&rel_type), event_type: Some(&event_type) };
    relations(&state, &session, &(room_id, event_id), &uri, wanted)
}

fn relations(
    state: &State,
    session: &Session,
    (room_id, event_id): &(OwnedRoomId, OwnedEventId),
    uri: &Uri,
    wanted: Wanted<'_>,
) -> Result<Json<Response>, ApiError> {
    let parameters = Query::<Parameters>::try_from_uri(uri);
    let Query(parameters) = parameters.map_err(|error| ApiError::invalid_param(error.body_text()))?;
    let from = parameters.from.as_deref().map(|token| place("from", token)).transpose()?;
    let to = parameters.to.as_deref().map(|token| place("to", token)).transpose()?;
    let events_max = parameters.limit.unwrap_or(EVENTS_DEFAULT).clamp(1, EVENTS_MAX);
    let events_max = usize::try_from(events_max).unwrap_or(usize::MAX);
    let is_recursive = parameters.recurse.unwrap_or_default();
    let depth = if is_recursive { Depth::Indirect } else { Depth::Direct };

    // To those outside of the room, its events don't exist either.
    let access = Access::of(state, session, room_id).map_err(|error| match error {
        error if error.is_internal() => error,
        _ => ApiError::not_found("the event is not known here"),
    })?;
    let target = access.event(event_id)?.event;
    let newest = access.up_to();
    let piece = match parameters.dir {
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
    let read = |piece: Piece, events_max: usize| {
        Ok(access.reader.children(target.pdu.event_id(), wanted, depth, piece, events_max)?)
    };
    let page = page_of(&access, piece, events_max, read, Ok)?;
    Ok(Json(Response {
        chunk: access.client_events(&page.seen)?,
        next_batch: page.rest.map(|rest| PageToken(rest.start()).to_string()),
        prev_batch: parameters.from.map(|_| PageToken(piece.start()).to_string()),
        recursion_depth: parameters.recurse.map(|recurse| if recurse { DEPTH_MAX } else { 1 }),
    }))
}
