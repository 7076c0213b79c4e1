//! `GET /backfill/{roomId}` and `POST /get_missing_events/{roomId}`: history, along the references of events.

use crate::access::{Sight, shared_room};
use crate::event::transaction;
use crate::{Origin, State};
use axum::Json;
use axum::extract::State as Within;
use face::ApiError;
use face::wire::{Args, Body};
use http::Uri;
use records::EventStatus;
use rooms::{RoomReader, StoredEvent};
use ruma::{OwnedEventId, OwnedRoomId};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;

/// How many events one answer of `/backfill` has.
const BACKFILLED_MAX: usize = 100;
/// How many events it may begin at.
const BEGINNINGS_MAX: usize = 50;
/// How many events one answer of `/get_missing_events` has, and how many if the asker doesn't say.
const MISSING_MAX: usize = 50;
const MISSING: usize = 10;

/// The body of `/get_missing_events`.
#[derive(Deserialize)]
pub(crate) struct Missing {
    limit: Option<u64>,
    #[serde(default)]
    min_depth: u64,
    earliest_events: Vec<OwnedEventId>,
    latest_events: Vec<OwnedEventId>,
}

/// These events and those before them, the latest first.
pub(crate) async fn backfill(
    Within(state): Within<Arc<State>>,
    origin: Origin,
    Args((room_id,)): Args<(OwnedRoomId,)>,
    uri: Uri,
) -> Result<Json<Value>, ApiError> {
    #[derive(Default)]
    struct Params {
        events: Vec<OwnedEventId>,
        limit: Option<usize>,
    }
    let mut params = Params::default();
    for (name, value) in form_urlencoded(uri.query().unwrap_or_default()) {
        match name.as_str() {
            "v" => {
                let id = OwnedEventId::try_from(value).map_err(|_| ApiError::invalid_param("`v` is no event id"))?;
                params.events.push(id);
            }
            "limit" => {
                let limit = value.parse().map_err(|_| ApiError::invalid_param("`limit` must be a number"))?;
                params.limit = Some(limit);
            }
            _ => {}
        }
    }
    if params.events.is_empty() {
        return Err(ApiError::missing_param("`v` is needed"));
    }
    let limit = params.limit.ok_or_else(|| ApiError::missing_param("`limit` is needed"))?.min(BACKFILLED_MAX);
    params.events.truncate(BEGINNINGS_MAX);
    let view = state.records.view();
    let reader = shared_room(&state, &view, &origin, &room_id)?;
    let mut sight = Sight::new(&reader, &origin);
    // The deepest event is next, and of those the one that came last here.
    let mut next = BTreeMap::new();
    let mut had = HashSet::new();
    let mut queue = |ids: &[OwnedEventId], next: &mut BTreeMap<_, Arc<StoredEvent>>| -> Result<(), ApiError> {
        let new: Vec<OwnedEventId> = ids.iter().filter(|id| had.insert((*id).clone())).cloned().collect();
        for event in placed(&reader, &new)? {
            next.insert((event.pdu.depth(), event.order, event.num), event);
        }
        Ok(())
    };
    queue(&params.events, &mut next)?;
    let mut events = Vec::new();
    while events.len() < limit
        && let Some((_, event)) = next.pop_last()
    {
        events.push(sight.json(&event)?);
        queue(event.pdu.prev_events(), &mut next)?;
    }
    transaction(&state, events).map(Json)
}

/// The parameters of a query, which may come more than once.
fn form_urlencoded(query: &str) -> Vec<(String, String)> {
    form_urlencoded::parse(query.as_bytes()).into_owned().collect()
}

/// The events between some and others, oldest first.
pub(crate) async fn missing_events(
    Within(state): Within<Arc<State>>,
    origin: Origin,
    Args((room_id,)): Args<(OwnedRoomId,)>,
    Body(missing): Body<Missing>,
) -> Result<Json<Value>, ApiError> {
    let limit = missing.limit.map_or(MISSING, |limit| usize::try_from(limit).unwrap_or(usize::MAX)).min(MISSING_MAX);
    let view = state.records.view();
    let reader = shared_room(&state, &view, &origin, &room_id)?;
    let mut had: HashSet<OwnedEventId> = missing.earliest_events.into_iter().take(BEGINNINGS_MAX).collect();
    let latest: Vec<OwnedEventId> = missing.latest_events.into_iter().take(BEGINNINGS_MAX).collect();
    had.extend(latest.iter().cloned());
    let mut next: VecDeque<OwnedEventId> = VecDeque::new();
    let mut before = |events: &[Arc<StoredEvent>], next: &mut VecDeque<OwnedEventId>| {
        for id in events.iter().flat_map(|event| event.pdu.prev_events()) {
            if had.insert(id.clone()) {
                next.push_back(id.clone());
            }
        }
    };
    before(&placed(&reader, &latest)?, &mut next);
    let mut found: Vec<Arc<StoredEvent>> = Vec::new();
    while found.len() < limit
        && let Some(id) = next.pop_front()
    {
        let events = placed(&reader, &[id])?;
        let events: Vec<_> = events.into_iter().filter(|event| event.pdu.depth() >= missing.min_depth).collect();
        before(&events, &mut next);
        found.extend(events);
    }
    found.sort_by_key(|event| (event.pdu.depth(), event.order));
    let mut sight = Sight::new(&reader, &origin);
    let mut events = Vec::with_capacity(found.len());
    for event in &found {
        events.push(RawValue::from_string(sight.json(event)?).map_err(|error| ApiError::internal(&error))?);
    }
    Ok(Json(json!({ "events": events })))
}

/// Those of these events that are in the history of the room. Those that the room has rejected are not told.
fn placed(reader: &RoomReader, ids: &[OwnedEventId]) -> Result<Vec<Arc<StoredEvent>>, ApiError> {
    let view = reader.view();
    let nums: Vec<_> = view.event_nums(ids)?.into_iter().flatten().collect();
    let mut fitting = Vec::with_capacity(nums.len());
    for (num, found) in nums.iter().zip(view.events(&nums)?) {
        let is_placed = found.is_some_and(|(_, record)| {
            let is_told = matches!(record.status, EventStatus::Accepted | EventStatus::SoftFailed);
            record.room == reader.num() && is_told
        });
        if is_placed {
            fitting.push(*num);
        }
    }
    Ok(reader.events(&fitting)?)
}
