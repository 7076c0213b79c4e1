//! `GET /hierarchy/{roomId}`: a space and its children, as far as the asking server may know of them.

use crate::{Origin, State};
use axum::Json;
use axum::extract::State as Within;
use face::ApiError;
use face::shown::Summary;
use face::wire::{Args, query_param};
use http::Uri;
use records::{Membership, View};
use rooms::{RoomReader, StoredEvent};
use ruma::{OwnedRoomId, RoomId, ServerName, UserId};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::sync::Arc;

/// How many children of a space are told.
const CHILDREN_MAX: usize = 1_000;
/// The longest `order` of a child, in bytes.
const ORDER_BYTES_MAX: usize = 50;
/// How many invited users of a room are looked at.
const INVITED_MAX: usize = 1_000;

/// The space, those of its children that are known here, and those that the asker may not know of.
pub(crate) async fn hierarchy(
    Within(state): Within<Arc<State>>,
    origin: Origin,
    Args((room_id,)): Args<(OwnedRoomId,)>,
    uri: Uri,
) -> Result<Json<Value>, ApiError> {
    let suggested_only = query_param(uri.query().unwrap_or_default(), "suggested_only");
    let suggested_only = suggested_only.is_some_and(|value| value == "true");
    let view = state.records.view();
    let root = known(&state, &view, &room_id)?.filter(|root| may_know(&state, root, &origin).unwrap_or_default());
    let root = root.ok_or_else(|| ApiError::not_found("the room is not known here, or not for the server"))?;
    let listed = children(&root, suggested_only)?;
    let (mut shown, mut inaccessible, mut had) = (Vec::new(), Vec::new(), HashSet::new());
    for child in &listed {
        if !had.insert(&child.room_id) {
            continue;
        }
        let Some(reader) = known(&state, &view, &child.room_id)? else { continue };
        if may_know(&state, &reader, &origin)? {
            // Children of children are asked for in turn.
            shown.push(show(&reader, &children(&reader, suggested_only)?)?);
        } else {
            inaccessible.push(child.room_id.clone());
        }
    }
    Ok(Json(json!({ "room": show(&root, &listed)?, "children": shown, "inaccessible_children": inaccessible })))
}

/// A room that this server is in.
fn known(state: &State, view: &View, room_id: &RoomId) -> Result<Option<RoomReader>, ApiError> {
    if !state.rooms.takes_part(view, room_id)? {
        return Ok(None);
    }
    Ok(state.rooms.reader_by_id(view, room_id)?)
}

/// Whether a server may know of a room: one of its users is in it, is invited, could join or knock, or everybody may
/// read the room.
fn may_know(state: &State, reader: &RoomReader, server: &ServerName) -> Result<bool, ApiError> {
    if !crate::access::is_admitted(reader, server)? {
        return Ok(false);
    }
    let view = reader.view();
    if reader.may_preview(None)? || view.joined_of_server(reader.num(), server)? > 0 {
        return Ok(true);
    }
    let join_rules = reader.state_event(reader.state(), "m.room.join_rules", "")?;
    let admitting = join_rules.and_then(|event| rules::auth::rooms_that_admit(reader.rules(), &event.pdu));
    for room_id in admitting.into_iter().flatten() {
        let Some(num) = view.room_num(&room_id)? else { continue };
        if state.rooms.takes_part(view, &room_id)? && view.joined_of_server(num, server)? > 0 {
            return Ok(true);
        }
    }
    let invited = view.room_members(reader.num(), Membership::Invite, None, INVITED_MAX)?;
    Ok(invited.iter().any(|(user, _)| user.server_name() == server))
}

/// A room in a space.
struct Child {
    room_id: OwnedRoomId,
    order: Option<String>,
    event: Arc<StoredEvent>,
}

/// The children of a space in their order; none of a room that is no space.
fn children(reader: &RoomReader, suggested_only: bool) -> Result<Vec<Child>, ApiError> {
    if reader.summary()?.room_type.as_deref() != Some("m.space") {
        return Ok(Vec::new());
    }
    let page = reader.state().page_of(reader.view(), "m.space.child", None, CHILDREN_MAX)?;
    let nums: Vec<_> = page.entries.iter().map(|entry| entry.event).collect();
    let mut children: Vec<Child> =
        reader.events(&nums)?.into_iter().filter_map(|event| child(event, suggested_only)).collect();
    children.sort_by(|a, b| key(a).cmp(&key(b)));
    Ok(children)
}

/// Those with an order come first, by it; then the others, and those of equal order, by when they were added.
fn key(child: &Child) -> (bool, Option<&str>, u64, &RoomId) {
    let at = child.event.pdu.origin_server_ts().0.into();
    (child.order.is_none(), child.order.as_deref(), at, &child.room_id)
}

fn child(event: Arc<StoredEvent>, suggested_only: bool) -> Option<Child> {
    #[derive(Deserialize)]
    struct Content {
        via: Vec<String>,
        order: Option<Value>,
        suggested: Option<Value>,
    }

    let content: Content = serde_json::from_str(event.pdu.content().get()).ok()?;
    let is_suggested = content.suggested == Some(Value::Bool(true));
    if content.via.is_empty() || (suggested_only && !is_suggested) {
        return None;
    }
    let is_order = |order: &&str| {
        (1..=ORDER_BYTES_MAX).contains(&order.len()) && order.bytes().all(|b| (0x20..=0x7e).contains(&b))
    };
    let order = content.order.as_ref().and_then(Value::as_str).filter(is_order).map(ToOwned::to_owned);
    Some(Child { room_id: event.pdu.state_key()?.try_into().ok()?, order, event })
}

fn show(reader: &RoomReader, children: &[Child]) -> Result<Box<RawValue>, ApiError> {
    #[derive(Serialize)]
    struct Room<'a> {
        #[serde(flatten)]
        summary: Summary<'a>,
        children_state: Vec<Link<'a>>,
    }
    #[derive(Serialize)]
    struct Link<'a> {
        #[serde(rename = "type")]
        kind: &'a str,
        state_key: &'a str,
        content: &'a RawValue,
        sender: &'a UserId,
        origin_server_ts: u64,
    }

    let summary = reader.summary()?;
    let children_state = children.iter().map(|child| Link {
        kind: child.event.pdu.kind_str(),
        state_key: child.room_id.as_str(),
        content: child.event.pdu.content(),
        sender: child.event.pdu.sender(),
        origin_server_ts: child.event.pdu.origin_server_ts().0.into(),
    });
    let room = Room { summary: (&summary).into(), children_state: children_state.collect() };
    to_raw_value(&room).map_err(|error| ApiError::internal(&error))
}
