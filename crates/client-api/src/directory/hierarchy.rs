//! `GET /rooms/{roomId}/hierarchy`: the rooms of a space, and of the spaces in it.
//!
//! The tree is walked from its root with every page, and what the pages before had is passed over: tokens need no
//! memory here and outlive a restart. A walk looks at a bounded number of rooms.

use crate::limits::Class;
use crate::session::Session;
use crate::wire::Args;
use crate::{ApiError, State};
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State as Within};
use face::shown::Summary;
use records::Membership;
use rooms::{RoomReader, StoredEvent};
use ruma::{OwnedRoomId, OwnedServerName, RoomId, UserId};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// How many rooms a page has if the client doesn't say.
const PAGE: usize = 50;
/// The most rooms that a page has.
const PAGE_MAX: usize = 200;
/// How far it goes down if the client doesn't say, and at most.
const DEPTH_MAX: u32 = 50;
/// How many rooms a walk looks at, known to the user or not. The tree ends there.
const LOOKED_AT_MAX: usize = 5_000;
/// How many children of one space are looked at.
const CHILDREN_MAX: usize = 1_000;
/// For how many rooms other servers are asked by one request.
const ASKED_MAX: usize = 20;
/// How many servers are named for one child.
const VIA_MAX: usize = 10;
/// The longest `order` of a child, in bytes.
const ORDER_BYTES_MAX: usize = 50;

/// The query.
#[derive(Deserialize)]
pub(super) struct Params {
    suggested_only: Option<bool>,
    limit: Option<i64>,
    max_depth: Option<i64>,
    from: Option<String>,
}

/// What is walked, and how much of it the pages before had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    suggested_only: bool,
    max_depth: u32,
    had: usize,
}

/// What a page has.
#[derive(Serialize)]
pub(super) struct Answer {
    rooms: Vec<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_batch: Option<String>,
}

/// A part of the tree, depth first.
pub(super) async fn hierarchy(
    Within(state): Within<Arc<State>>,
    session: Session,
    Args((room_id,)): Args<(OwnedRoomId,)>,
    params: Result<Query<Params>, QueryRejection>,
) -> Result<Json<Answer>, ApiError> {
    state.limit(Class::Other, &session)?;
    let Query(params) = params.map_err(|error| ApiError::invalid_param(error.body_text()))?;
    let (place, limit) = read(&params)?;
    let mut walk = Walk { state: &state, user: &session.user_id, place, told: HashMap::new(), asked: 0 };
    let root = walk.step(&room_id, &[]).await?;
    let root = root.ok_or_else(|| ApiError::forbidden("you are not allowed to view this room"))?;
    walk.go(room_id, root, limit).await.map(Json)
}

fn read(params: &Params) -> Result<(Place, usize), ApiError> {
    let limit = match params.limit {
        None => PAGE,
        Some(limit) => match usize::try_from(limit) {
            Ok(limit) if limit > 0 => limit.min(PAGE_MAX),
            _ => return Err(ApiError::invalid_param("`limit` must be greater than zero")),
        },
    };
    let max_depth = match params.max_depth {
        None => None,
        Some(depth) => {
            let depth =
                u64::try_from(depth).map_err(|_| ApiError::invalid_param("`max_depth` must not be negative"))?;
            Some(u32::try_from(depth).unwrap_or(DEPTH_MAX).min(DEPTH_MAX))
        }
    };
    let Some(from) = &params.from else {
        let suggested_only = params.suggested_only.unwrap_or(false);
        return Ok((Place { suggested_only, max_depth: max_depth.unwrap_or(DEPTH_MAX), had: 0 }, limit));
    };
    let place = read_token(from).ok_or_else(|| ApiError::invalid_param("`from` is not a token of this server"))?;
    if max_depth.is_some_and(|depth| depth != place.max_depth)
        || params.suggested_only.is_some_and(|suggested_only| suggested_only != place.suggested_only)
    {
        return Err(ApiError::invalid_param("`suggested_only` and `max_depth` cannot change from page to page"));
    }
    Ok((place, limit))
}

fn token(place: Place) -> String {
    format!("{}-{}-{}", u8::from(place.suggested_only), place.max_depth, place.had)
}

fn read_token(token: &str) -> Option<Place> {
    let mut parts = token.split('-');
    let suggested_only = match parts.next()? {
        "0" => false,
        "1" => true,
        _ => return None,
    };
    let max_depth = parts.next()?.parse().ok().filter(|depth| *depth <= DEPTH_MAX)?;
    let had = parts.next()?.parse().ok().filter(|had| *had <= LOOKED_AT_MAX)?;
    parts.next().is_none().then_some(Place { suggested_only, max_depth, had })
}

/// A walk through a tree of rooms.
struct Walk<'a> {
    state: &'a State,
    user: &'a UserId,
    place: Place,
    /// What other servers have told of rooms beside the one that they were asked for.
    told: HashMap<OwnedRoomId, Box<RawValue>>,
    /// How many rooms other servers were asked for.
    asked: usize,
}

/// A room of the tree.
struct Step {
    shown: Box<RawValue>,
    children: Vec<(OwnedRoomId, Vec<OwnedServerName>)>,
}

/// What this server alone can say of a room.
enum Local {
    /// It may be shown.
    Known(Step),
    /// The user may not know of it.
    Hidden,
    /// Others may know more.
    Unknown,
}

impl Walk<'_> {
    async fn go(&mut self, root: OwnedRoomId, first: Step, limit: usize) -> Result<Answer, ApiError> {
        let mut rooms = Vec::new();
        let mut looked_at = HashSet::new();
        let mut had = 0;
        let mut first = Some(first);
        let mut to_visit = vec![(root, Vec::new(), 0)];
        while let Some((room_id, via, depth)) = to_visit.pop() {
            if looked_at.contains(&room_id) || looked_at.len() >= LOOKED_AT_MAX {
                continue;
            }
            let step = match first.take() {
                Some(step) => Some(step),
                None => self.step(&room_id, &via).await?,
            };
            looked_at.insert(room_id);
            let Some(step) = step else { continue };
            if rooms.len() == limit {
                let next_batch = Some(token(Place { had, ..self.place }));
                return Ok(Answer { rooms, next_batch });
            }
            had += 1;
            if had > self.place.had {
                rooms.push(step.shown);
            }
            if depth < self.place.max_depth {
                to_visit.extend(step.children.into_iter().rev().map(|(child, via)| (child, via, depth + 1)));
            }
        }
        Ok(Answer { rooms, next_batch: None })
    }

    /// A room as the user may know it, from this server if it is in it, else from others.
    async fn step(&mut self, room_id: &RoomId, via: &[OwnedServerName]) -> Result<Option<Step>, ApiError> {
        match self.local(room_id)? {
            Local::Known(step) => return Ok(Some(step)),
            Local::Hidden => return Ok(None),
            Local::Unknown => {}
        }
        let told = match self.told.remove(room_id) {
            Some(told) => Some(told),
            None => self.ask(room_id, via).await?,
        };
        told.map(|told| self.remote(room_id, told)).transpose().map(Option::flatten)
    }

    fn local(&self, room_id: &RoomId) -> Result<Local, ApiError> {
        let view = self.state.records.view();
        let Some(reader) = self.state.rooms.reader_by_id(&view, room_id)? else { return Ok(Local::Unknown) };
        if reader.may_preview(Some(self.user))? {
            let children = children(&reader, self.place.suggested_only)?;
            let shown = show(&reader, &children)?;
            let children = children.into_iter().map(|child| (child.room_id, child.via)).collect();
            return Ok(Local::Known(Step { shown, children }));
        }
        Ok(if self.state.rooms.takes_part(&view, room_id)? { Local::Hidden } else { Local::Unknown })
    }

    async fn ask(&mut self, room_id: &RoomId, via: &[OwnedServerName]) -> Result<Option<Box<RawValue>>, ApiError> {
        #[derive(Deserialize)]
        struct Told {
            room: Box<RawValue>,
            #[serde(default)]
            children: Vec<Box<RawValue>>,
        }
        #[derive(Deserialize)]
        struct Named {
            room_id: OwnedRoomId,
        }
        if self.asked >= ASKED_MAX {
            return Ok(None);
        }
        self.asked += 1;
        let answer = match self.state.federation.hierarchy(room_id, via, self.place.suggested_only).await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::debug!(%room_id, %error, "nobody tells of a room of a space");
                None
            }
        };
        let Some(Ok(told)) = answer.map(|answer| serde_json::from_slice::<Told>(&answer)) else { return Ok(None) };
        for child in told.children.into_iter().take(CHILDREN_MAX) {
            if let Ok(Named { room_id }) = serde_json::from_str(child.get()) {
                self.told.entry(room_id).or_insert(child);
            }
        }
        Ok(serde_json::from_str::<Named>(told.room.get())
            .is_ok_and(|named| named.room_id == room_id)
            .then_some(told.room))
    }

    /// What another server has told of a room, if the user may know of it.
    fn remote(&self, room_id: &RoomId, told: Box<RawValue>) -> Result<Option<Step>, ApiError> {
        #[derive(Deserialize)]
        struct Room {
            join_rule: Option<String>,
            #[serde(default)]
            world_readable: bool,
            #[serde(default)]
            allowed_room_ids: Vec<OwnedRoomId>,
            #[serde(default)]
            children_state: Vec<Link>,
        }
        #[derive(Deserialize)]
        struct Link {
            state_key: OwnedRoomId,
            content: Via,
        }
        #[derive(Deserialize)]
        struct Via {
            #[serde(default)]
            via: Vec<OwnedServerName>,
        }
        let Ok(room) = serde_json::from_str::<Room>(told.get()) else { return Ok(None) };
        let view = self.state.records.view();
        let open = matches!(room.join_rule.as_deref(), None | Some("public" | "knock" | "knock_restricted"));
        let membership = |room_id: &RoomId| -> Result<Option<Membership>, ApiError> {
            let Some(num) = view.room_num(room_id)? else { return Ok(None) };
            Ok(view.membership(self.user, num)?.map(|(_, record)| record.membership))
        };
        let mut may_know = open || room.world_readable || membership(room_id)? == Some(Membership::Invite);
        for allowed in room.allowed_room_ids.iter().take(CHILDREN_MAX) {
            may_know = may_know || membership(allowed)? == Some(Membership::Join);
        }
        let children = room.children_state.into_iter().take(CHILDREN_MAX);
        let children = children.map(|link| (link.state_key, link.content.via)).collect();
        Ok(may_know.then_some(Step { shown: told, children }))
    }
}

/// A room in a space.
struct Child {
    room_id: OwnedRoomId,
    via: Vec<OwnedServerName>,
    order: Option<String>,
    event: Arc<StoredEvent>,
}

/// The children of a space in their order; none of a room that is no space.
fn children(reader: &RoomReader, suggested_only: bool) -> Result<Vec<Child>, ApiError> {
    #[derive(Deserialize)]
    struct Creation {
        #[serde(rename = "type")]
        room_type: Option<String>,
    }

    let create = reader.state_event(reader.state(), "m.room.create", "")?;
    let creation: Option<Creation> = create.and_then(|event| serde_json::from_str(event.pdu.content().get()).ok());
    if creation.and_then(|creation| creation.room_type).as_deref() != Some("m.space") {
        return Ok(Vec::new());
    }
    let page = reader.state().page_of(reader.view(), "m.space.child", None, CHILDREN_MAX).map_err(ApiError::from)?;
    let nums: Vec<_> = page.entries.iter().map(|entry| entry.event).collect();
    let events = reader.events(&nums)?;
    let mut children: Vec<Child> = events.into_iter().filter_map(|event| child(event, suggested_only)).collect();
    children.sort_by(|a, b| key(a).cmp(&key(b)));
    Ok(children)
}

/// Those with an order come first, by it; then the others, and those of equal order, by when they were added.
fn key(child: &Child) -> (bool, Option<&str>, u64, &RoomId) {
    let at = child.event.pdu.origin_server_ts().0.into();
    (child.order.is_none(), child.order.as_deref(), at, &child.room_id)
}

/// The child that an event adds, if it does.
fn child(event: Arc<StoredEvent>, suggested_only: bool) -> Option<Child> {
    #[derive(Deserialize)]
    struct Content {
        via: Vec<String>,
        order: Option<serde_json::Value>,
        suggested: Option<serde_json::Value>,
    }

    let content: Content = serde_json::from_str(event.pdu.content().get()).ok()?;
    let is_suggested = content.suggested == Some(serde_json::Value::Bool(true));
    if content.via.is_empty() || (suggested_only && !is_suggested) {
        return None;
    }
    let is_valid =
        |order: &str| (1..=ORDER_BYTES_MAX).contains(&order.len()) && order.bytes().all(|b| (0x20..=0x7e).contains(&b));
    let order = content.order.as_ref().and_then(serde_json::Value::as_str).filter(|order| is_valid(order));
    let order = order.map(ToOwned::to_owned);
    let room_id = event.pdu.state_key()?.try_into().ok()?;
    let via = content.via.iter().filter_map(|server| OwnedServerName::try_from(server.as_str()).ok()).take(VIA_MAX);
    Some(Child { room_id, via: via.collect(), order, event })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_read_back_and_others_refused() {
        let place = Place { suggested_only: true, max_depth: 3, had: 40 };
        assert_eq!(read_token(&token(place)), Some(place));
        for wrong in ["", "1-3", "2-3-4", "1-3-4-5", "1-51-4", "1-3-5001", "1-x-4", "1--4"] {
            assert_eq!(read_token(wrong), None, "{wrong}");
        }
    }
}
