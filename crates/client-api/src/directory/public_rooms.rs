//! The published room directory: `GET` and `POST /publicRooms`.
//!
//! Rooms with many members come first. A token is a place in that order and a direction, so that pages neither
//! need memory here nor move when rooms come and go elsewhere in the list.

use super::admit;
use crate::session::{ClientAddress, Session};
use crate::wire::Body;
use crate::{ApiError, State};
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State as Within};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use face::shown::PublicRoom;
use federation::{FederationError, PeerError};
use records::{Listed, ListedPlace, RoomSummary};
use rooms::ListFilter;
use ruma::{OwnedServerName, ServerName};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::Arc;
use store::Direction;

/// How many rooms a page has if the client doesn't say.
const PAGE: usize = 100;
/// The most rooms that a page has.
const PAGE_MAX: usize = 500;
/// The longest text to search for, in bytes.
const TERM_BYTES_MAX: usize = 1024;
/// The most room types to search for.
const ROOM_TYPES_MAX: usize = 100;

/// The query of `GET /publicRooms`.
#[derive(Deserialize)]
pub(super) struct ListQuery {
    limit: Option<i64>,
    since: Option<String>,
    server: Option<String>,
}

/// The query of `POST /publicRooms`.
#[derive(Deserialize)]
pub(super) struct SearchQuery {
    server: Option<String>,
}

/// The body of `POST /publicRooms`.
#[derive(Deserialize, Serialize)]
pub(super) struct Search {
    limit: Option<i64>,
    since: Option<String>,
    filter: Option<Filter>,
    include_all_networks: Option<bool>,
    third_party_instance_id: Option<String>,
}

#[derive(Default, Deserialize, Serialize)]
struct Filter {
    generic_search_term: Option<String>,
    room_types: Option<Vec<Option<String>>>,
}

/// `GET /publicRooms`
pub(super) async fn list(
    Within(state): Within<Arc<State>>,
    session: Option<Session>,
    address: ClientAddress,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<Value>, ApiError> {
    admit(&state, session.as_ref(), address)?;
    let Query(query) = query.map_err(|error| ApiError::invalid_param(error.body_text()))?;
    if let Some(server) = other_server(&state, query.server)? {
        let body = json!({ "limit": query.limit, "since": query.since });
        return elsewhere(&state, &server, body).await;
    }
    page(&state, query.limit, query.since.as_deref(), None).await
}

/// `POST /publicRooms`
pub(super) async fn search(
    Within(state): Within<Arc<State>>,
    session: Session,
    address: ClientAddress,
    query: Result<Query<SearchQuery>, QueryRejection>,
    Body(search): Body<Search>,
) -> Result<Json<Value>, ApiError> {
    admit(&state, Some(&session), address)?;
    let Query(query) = query.map_err(|error| ApiError::invalid_param(error.body_text()))?;
    if let Some(server) = other_server(&state, query.server)? {
        return elsewhere(&state, &server, json!(search)).await;
    }
    check_network(&search)?;
    let filter = filter(search.filter.unwrap_or_default())?;
    page(&state, search.limit, search.since.as_deref(), filter).await
}

/// The server whose list is asked for, if it is not this one.
fn other_server(state: &State, server: Option<String>) -> Result<Option<OwnedServerName>, ApiError> {
    let Some(server) = server.filter(|server| !server.is_empty()) else { return Ok(None) };
    let server = OwnedServerName::try_from(server)
        .map_err(|_| ApiError::invalid_param("`server` must be the name of a server"))?;
    Ok(Some(server).filter(|server| state.federation.is_remote(server)))
}

/// A page of another server's list.
async fn elsewhere(state: &State, server: &ServerName, mut body: Value) -> Result<Json<Value>, ApiError> {
    if let Some(body) = body.as_object_mut() {
        body.retain(|_, value| !value.is_null());
    }
    match state.federation.public_rooms(server, &body).await {
        Ok(page) => Ok(Json(page)),
        Err(FederationError::Peer(PeerError::Unreachable(_))) => {
            Err(ApiError::not_found(format!("the server {server} cannot be reached")))
        }
        Err(error) => Err(error.into()),
    }
}

/// There are no third-party networks here. All of them together are the rooms that there are.
fn check_network(search: &Search) -> Result<(), ApiError> {
    match &search.third_party_instance_id {
        None => Ok(()),
        Some(_) if search.include_all_networks == Some(true) => {
            Err(ApiError::invalid_param("`third_party_instance_id` cannot be used with `include_all_networks`"))
        }
        Some(network) => Err(ApiError::invalid_param(format!("there is no third-party network `{network}`"))),
    }
}

fn filter(filter: Filter) -> Result<Option<ListFilter>, ApiError> {
    let term = filter.generic_search_term.unwrap_or_default().trim().to_lowercase();
    if term.len() > TERM_BYTES_MAX {
        return Err(ApiError::invalid_param(format!("a search term has at most {TERM_BYTES_MAX} bytes")));
    }
    if filter.room_types.as_ref().is_some_and(|types| types.len() > ROOM_TYPES_MAX) {
        return Err(ApiError::invalid_param(format!("at most {ROOM_TYPES_MAX} room types can be searched for")));
    }
    if term.is_empty() && filter.room_types.is_none() {
        return Ok(None);
    }
    Ok(Some(ListFilter { term, room_types: filter.room_types }))
}

async fn page(
    state: &State,
    limit: Option<i64>,
    since: Option<&str>,
    filter: Option<ListFilter>,
) -> Result<Json<Value>, ApiError> {
    let limit = match limit {
        // Clients of some age mean no limit of theirs by 0.
        None | Some(0) => PAGE,
        Some(limit) => {
            usize::try_from(limit).map_err(|_| ApiError::invalid_param("`limit` must not be negative"))?.min(PAGE_MAX)
        }
    };
    let since = since.filter(|since| !since.is_empty()).map(read_token).transpose()?;
    let (direction, beyond) = since.map_or((Direction::Forward, None), |(direction, place)| (direction, Some(place)));
    let mut listed = state.rooms.listed(beyond.clone(), direction, limit, filter).await?;
    if direction == Direction::Backward {
        listed.rooms.reverse();
    }
    let (next, prev) = neighbours(&listed, direction, beyond.is_some());
    let chunk: Vec<PublicRoom<'_>> = listed.rooms.iter().map(PublicRoom::from).collect();
    let mut answer = json!({
        "chunk": chunk,
        "total_room_count_estimate": state.records.view().listed_count()?,
    });
    for (field, token) in [("next_batch", next), ("prev_batch", prev)] {
        if let (Some(token), Value::Object(answer)) = (token, &mut answer) {
            answer.insert(field.to_owned(), Value::String(token));
        }
    }
    Ok(Json(answer))
}

/// The tokens of the pages after and before one: of one that was come to from elsewhere there is a way back.
fn neighbours(listed: &Listed, direction: Direction, came: bool) -> (Option<String>, Option<String>) {
    let further = listed.last.as_ref().filter(|_| listed.more).map(|place| token(direction, place));
    let (first, last) = (listed.rooms.first().map(place), listed.rooms.last().map(place));
    match direction {
        Direction::Forward => (further, first.filter(|_| came).map(|place| token(Direction::Backward, &place))),
        Direction::Backward => (last.filter(|_| came).map(|place| token(Direction::Forward, &place)), further),
    }
}

fn place(room: &RoomSummary) -> ListedPlace {
    ListedPlace { joined: room.joined, room_id: room.room_id.clone() }
}

fn token(direction: Direction, place: &ListedPlace) -> String {
    let direction = match direction {
        Direction::Forward => 'n',
        Direction::Backward => 'p',
    };
    URL_SAFE_NO_PAD.encode(format!("{direction}{} {}", place.joined, place.room_id))
}

fn read_token(token: &str) -> Result<(Direction, ListedPlace), ApiError> {
    let read = || {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
        let (direction, text) = match text.split_at_checked(1)? {
            ("n", text) => (Direction::Forward, text),
            ("p", text) => (Direction::Backward, text),
            _ => return None,
        };
        let (joined, room_id) = text.split_once(' ')?;
        Some((direction, ListedPlace { joined: joined.parse().ok()?, room_id: room_id.try_into().ok()? }))
    };
    read().ok_or_else(|| ApiError::invalid_param("`since` is not a token of this server"))
}
