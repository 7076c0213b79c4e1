//! `GET` and `POST /publicRooms`: the published room directory, page by page in the order in which it is listed.

use crate::State;
use axum::Json;
use axum::extract::State as Within;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use face::ApiError;
use face::shown::PublicRoom;
use face::wire::{Body, query_param};
use http::Uri;
use records::ListedPlace;
use rooms::ListFilter;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use store::Direction;

/// How many rooms a page has if the asker doesn't say, and at most.
const PAGE: usize = 100;
const PAGE_MAX: usize = 500;
/// The longest text to search for, in bytes.
const TERM_BYTES_MAX: usize = 1024;
/// The most room types to search for.
const ROOM_TYPES_MAX: usize = 100;

/// The body of `POST /publicRooms`.
#[derive(Deserialize)]
pub(crate) struct Search {
    limit: Option<u64>,
    since: Option<String>,
    filter: Option<Filter>,
}

#[derive(Deserialize)]
struct Filter {
    generic_search_term: Option<String>,
    room_types: Option<Vec<Option<String>>>,
}

/// `GET /publicRooms`
pub(crate) async fn list(Within(state): Within<Arc<State>>, uri: Uri) -> Result<Json<Value>, ApiError> {
    let param = |name| query_param(uri.query().unwrap_or_default(), name);
    let limit = param("limit").map(|limit| limit.parse()).transpose();
    let limit = limit.map_err(|_| ApiError::invalid_param("`limit` must be a number"))?;
    page(&state, limit, param("since").as_deref(), None).await
}

/// `POST /publicRooms`
pub(crate) async fn search(
    Within(state): Within<Arc<State>>,
    Body(search): Body<Search>,
) -> Result<Json<Value>, ApiError> {
    let filter = search.filter.and_then(|filter| {
        let term = filter.generic_search_term.unwrap_or_default().trim().to_lowercase();
        let is_any = term.is_empty() && filter.room_types.is_none();
        (!is_any).then_some(ListFilter { term, room_types: filter.room_types })
    });
    if let Some(filter) = &filter {
        let types = filter.room_types.as_ref().map_or(0, Vec::len);
        if filter.term.len() > TERM_BYTES_MAX || types > ROOM_TYPES_MAX {
            return Err(ApiError::invalid_param("there is too much to search for"));
        }
    }
    page(&state, search.limit, search.since.as_deref(), filter).await
}

async fn page(
    state: &State,
    limit: Option<u64>,
    since: Option<&str>,
    filter: Option<ListFilter>,
) -> Result<Json<Value>, ApiError> {
    let limit = match limit {
        None | Some(0) => PAGE,
        Some(limit) => usize::try_from(limit).unwrap_or(PAGE_MAX).min(PAGE_MAX),
    };
    let wrong = || ApiError::invalid_param("`since` is not a token of this server");
    let since = since.filter(|since| !since.is_empty());
    let place = since.map(|since| read_token(since).ok_or_else(wrong)).transpose()?;
    let listed = state.rooms.listed(place, Direction::Forward, limit, filter).await?;
    let chunk: Vec<PublicRoom<'_>> = listed.rooms.iter().map(PublicRoom::from).collect();
    let mut answer = json!({ "chunk": chunk, "total_room_count_estimate": state.records.view().listed_count()? });
    if let (Some(last), Some(answer)) = (listed.last.as_ref().filter(|_| listed.more), answer.as_object_mut()) {
        answer.insert("next_batch".to_owned(), Value::String(token(last)));
    }
    Ok(Json(answer))
}

fn token(place: &ListedPlace) -> String {
    URL_SAFE_NO_PAD.encode(format!("{} {}", place.joined, place.room_id))
}

fn read_token(token: &str) -> Option<ListedPlace> {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
    let (joined, room_id) = text.split_once(' ')?;
    Some(ListedPlace { joined: joined.parse().ok()?, room_id: room_id.try_into().ok()? })
}
