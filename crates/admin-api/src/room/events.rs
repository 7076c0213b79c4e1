//! What was said in a room, as only an administrator sees it: all of it. `…/rooms/{roomId}/messages`, `…/context/{eventId}`
//! and `/_synapse/admin/v1/fetch_event/{eventId}`.

use crate::State;
use crate::access::Admin;
use crate::params::{Dir, Params};
use axum::extract;
use axum::routing::get;
use axum::{Json, Router};
use base::Order;
use face::ApiError;
use face::wire::Args;
use rooms::{Recipient, RoomReader, StoredEvent};
use rules::client_event::Format;
use rules::filter::Matcher;
use ruma::api::client::filter::RoomEventFilter;
use ruma::{OwnedEventId, OwnedRoomId};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::sync::Arc;
use store::Direction;
use sync_core::PageToken;

/// How many events are shown that are not told how many.
const EVENTS_DEFAULT: usize = 10;
/// The most events of one page.
const EVENTS_MAX: usize = 1000;
/// The most events that are looked at for one page.
const LOOKED_AT_MAX: usize = 10_000;

pub(super) fn routes() -> Router<Arc<State>> {
    Router::new()
        .route("/_synapse/admin/v1/rooms/{room_id}/messages", get(messages))
        .route("/_synapse/admin/v1/rooms/{room_id}/context/{event_id}", get(context))
        .route("/_synapse/admin/v1/fetch_event/{event_id}", get(fetch))
}

#[derive(Debug, Deserialize)]
struct Query {
    from: Option<String>,
    to: Option<String>,
    limit: Option<usize>,
    #[serde(default)]
    dir: Dir,
    filter: Option<String>,
}

fn place(parameter: &str, token: Option<&str>) -> Result<Option<Order>, ApiError> {
    let place = token.map(PageToken::parse).transpose();
    place
        .map(|place| place.map(|place| place.0))
        .map_err(|error| ApiError::invalid_param(format!("`{parameter}`: {error}")))
}

fn worded(
    state: &State,
    admin: &Admin,
    reader: &RoomReader,
    events: &[Arc<StoredEvent>],
) -> Result<Vec<Box<RawValue>>, ApiError> {
    let recipient = Recipient { user_id: &admin.user_id, device_id: None, now: state.clock.now() };
    let worded = events.iter().map(|event| reader.client_event_alone(event, recipient, None, Format::WithRoomId));
    Ok(worded.collect::<Result<_, _>>()?)
}

/// `GET /_synapse/admin/v1/rooms/{roomId}/messages`, as clients ask for the rooms that they are in.
async fn messages(
    extract::State(state): extract::State<Arc<State>>,
    admin: Admin,
    Args((room_id,)): Args<(OwnedRoomId,)>,
    Params(query): Params<Query>,
) -> Result<Json<Value>, ApiError> {
    let (from, to) = (place("from", query.from.as_deref())?, place("to", query.to.as_deref())?);
    let limit = query.limit.unwrap_or(EVENTS_DEFAULT).clamp(1, EVENTS_MAX);
    let filter = query.filter.as_deref().map(serde_json::from_str::<RoomEventFilter>).transpose();
    let filter = filter.map_err(|error| ApiError::invalid_param(format!("`filter`: {error}")))?;
    let matcher = filter.as_ref().map(Matcher::of_room_events);
    let reader = state.room(&room_id)?;
    let (first, last) = (Order(i64::MIN), Order(i64::MAX));
    let (mut after, mut up_to, direction) = match query.dir {
        Dir::Forwards => (from.unwrap_or(first), to.unwrap_or(last), Direction::Forward),
        Dir::Backwards => (to.unwrap_or(first), from.unwrap_or(last), Direction::Backward),
    };
    let start = match direction {
        Direction::Forward => after,
        Direction::Backward => up_to,
    };
    let (mut shown, mut looked_at, mut end) = (Vec::new(), 0, None);
    'pages: while looked_at < LOOKED_AT_MAX {
        let events = reader.timeline(after, up_to, direction, limit)?;
        let is_last = events.len() < limit;
        looked_at += events.len();
        for event in events {
            match direction {
                Direction::Forward => after = event.order,
                Direction::Backward => up_to = Order(event.order.0.saturating_sub(1)),
            }
            if matcher.as_ref().is_none_or(|matcher| matcher.matches_pdu(&event.pdu)) {
                shown.push(event);
            }
            end = Some(if direction == Direction::Forward { after } else { up_to });
            if shown.len() >= limit {
                break 'pages;
            }
        }
        if is_last {
            end = None;
            break;
        }
    }
    let mut answer = json!({
        "start": query.from.unwrap_or_else(|| PageToken(start).to_string()),
        "chunk": worded(&state, &admin, &reader, &shown)?,
        "state": [],
    });
    if let (Some(end), Some(answer)) = (end, answer.as_object_mut()) {
        answer.insert("end".to_owned(), json!(PageToken(end).to_string()));
    }
    Ok(Json(answer))
}

#[derive(Debug, Deserialize)]
struct Around {
    limit: Option<usize>,
}

/// `GET /_synapse/admin/v1/rooms/{roomId}/context/{eventId}`
async fn context(
    extract::State(state): extract::State<Arc<State>>,
    admin: Admin,
    Args((room_id, event_id)): Args<(OwnedRoomId, OwnedEventId)>,
    Params(Around { limit }): Params<Around>,
) -> Result<Json<Value>, ApiError> {
    let limit = limit.unwrap_or(EVENTS_DEFAULT).min(EVENTS_MAX);
    let reader = state.room(&room_id)?;
    let event = reader.event_by_id(&event_id)?.ok_or_else(|| ApiError::not_found("Event not found"))?;
    let order = event.order;
    let before = Order(order.0.saturating_sub(1));
    let before = reader.timeline(Order(i64::MIN), before, Direction::Backward, limit / 2)?;
    let after = reader.timeline(order, Order(i64::MAX), Direction::Forward, limit - limit / 2)?;
    let first = before.last().unwrap_or(&event).order;
    let last = after.last().unwrap_or(&event).clone();
    let all = reader.state_events(last.record.state_after)?;
    let shown = worded(&state, &admin, &reader, &[event])?.pop();
    Ok(Json(json!({
        "start": PageToken(Order(first.0.saturating_sub(1))).to_string(),
        "end": PageToken(last.order).to_string(),
        "events_before": worded(&state, &admin, &reader, &before)?,
        "event": shown,
        "events_after": worded(&state, &admin, &reader, &after)?,
        "state": worded(&state, &admin, &reader, &all)?,
    })))
}

/// `GET /_synapse/admin/v1/fetch_event/{eventId}`
async fn fetch(
    extract::State(state): extract::State<Arc<State>>,
    admin: Admin,
    Args((event_id,)): Args<(OwnedEventId,)>,
) -> Result<Json<Value>, ApiError> {
    let not_found = || ApiError::not_found("Event not found");
    let view = state.records.view();
    let num = view.event_num(&event_id)?.ok_or_else(not_found)?;
    let (_, record) = view.event(num)?.ok_or_else(not_found)?;
    let reader = state.rooms.reader(&view, record.room)?.ok_or_else(not_found)?;
    let event = reader.event(num)?.ok_or_else(not_found)?;
    Ok(Json(json!({ "event": worded(&state, &admin, &reader, &[event])?.pop() })))
}

#[cfg(test)]
mod tests {
    use crate::testing::Server;
    use serde_json::{Value, json};

    fn bodies(events: &Value) -> Vec<&str> {
        events.as_array().unwrap().iter().filter_map(|event| event["content"]["body"].as_str()).collect()
    }

    #[tokio::test]
    async fn an_administrator_reads_rooms_that_they_are_not_in() {
        let server = Server::new().await;
        let (admin, alice) = (server.admin("root").await, server.user("alice").await);
        let room = server.room(&alice).await;
        let mut said = Vec::new();
        for text in ["one", "two", "three"] {
            said.push(server.say(&alice, &room, text).await);
        }
        let get =
            async |what: &str| server.get(&format!("/_synapse/admin/v1/rooms/{room}/{what}"), Some(&admin)).await.ok();
        let page = get("messages?dir=b&limit=2").await;
        assert_eq!(bodies(&page["chunk"]), ["three", "two"]);
        let rest = get(&format!("messages?dir=b&limit=100&from={}", page["end"].as_str().unwrap())).await;
        assert_eq!((bodies(&rest["chunk"]), rest.get("end")), (vec!["one"], None));
        let filter = "messages?limit=2&filter=%7B%22types%22%3A%5B%22m.room.message%22%5D%7D";
        assert_eq!(bodies(&get(filter).await["chunk"]), ["one", "two"]);
        let path = format!("/_synapse/admin/v1/rooms/{room}/messages?from=x");
        server.get(&path, Some(&admin)).await.refused(400, "M_INVALID_PARAM");
        let around = get(&format!("context/{}?limit=2", said[1])).await;
        assert_eq!((bodies(&around["events_before"]), bodies(&around["events_after"])), (vec!["one"], vec!["three"]));
        assert_eq!(around["event"]["content"]["body"], "two");
        let event = server.get(&format!("/_synapse/admin/v1/fetch_event/{}", said[0]), Some(&admin)).await.ok();
        assert_eq!((&event["event"]["content"]["body"], &event["event"]["room_id"]), (&json!("one"), &json!(room)));
        server.get("/_synapse/admin/v1/fetch_event/$none", Some(&admin)).await.refused(404, "M_NOT_FOUND");
    }
}
