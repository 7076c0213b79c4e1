//! Members: `GET /rooms/{roomId}/members` and `GET /rooms/{roomId}/joined_members`.

use super::access::{Access, Standing};
use super::error::not_in_room;
use super::messages::place;
use crate::session::Session;
use crate::wire::Wire;
use crate::{ApiError, State};
use axum::Json;
use axum::extract::State as Within;
use base::{EventNum, Order};
use records::Membership;
use records::state_map::StateRoot;
use rooms::StoredEvent;
use ruma::OwnedUserId;
use ruma::api::client::membership::get_member_events::v3::Request;
use ruma::api::client::membership::joined_members;
use ruma::events::room::member::MembershipState;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use store::Direction;

/// How many members are read at once, so that a large room does not fill the memory with its events.
const READ_AT_ONCE: usize = 1000;

/// Membership events.
#[derive(Serialize)]
pub(super) struct Response {
    chunk: Vec<Box<RawValue>>,
}

/// The members of a room: now, when the user left, or at a token.
pub(super) async fn members(
    Within(state): Within<Arc<State>>,
    session: Session,
    Wire(request): Wire<Request>,
) -> Result<Json<Response>, ApiError> {
    let access = Access::of(&state, &session, &request.room_id)?;
    let root = match &request.at {
        Some(token) => state_at(&access, place("at", token)?)?,
        None => access.room_state(),
    };
    // Either filter lets a member through.
    let wanted = |event: &StoredEvent| {
        let membership = membership(event);
        match (&request.membership, &request.not_membership) {
            (None, None) => true,
            (is, is_not) => is.as_ref() == Some(&membership) || is_not.as_ref().is_some_and(|not| *not != membership),
        }
    };
    let trail = access.trail()?;
    let mut chunk = Vec::new();
    let mut push = |nums: &[EventNum]| -> Result<(), ApiError> {
        let mut events = access.reader.events(nums)?;
        events.retain(|event| wanted(event));
        chunk.extend(access.client_state_along(&trail, &events)?);
        Ok(())
    };
    let mut after: Option<String> = None;
    loop {
        let page = root.page_of(access.reader.view(), "m.room.member", after.as_deref(), READ_AT_ONCE);
        let page = page.map_err(ApiError::from)?;
        push(&page.entries.iter().map(|entry| entry.event).collect::<Vec<_>>())?;
        match page.entries.into_iter().last() {
            Some(last) if page.more => after = Some(last.state_key),
            _ => break,
        }
    }
    Ok(Json(Response { chunk }))
}

/// The state at a token. A client may ask for a moment that it may not see, such as the one before its user
/// joined; what it gets then is the first after it that it may know: what their next join found.
fn state_at(access: &Access<'_>, at: Order) -> Result<StateRoot, ApiError> {
    let at = at.min(access.up_to());
    let last = access.reader.timeline(Order(i64::MIN), at, Direction::Backward, 1)?;
    if let Some(seen) = access.may_see(&last)?.pop() {
        return Ok(seen.event.record.current());
    }
    let trail = access.trail()?;
    let join = trail.join_after(at).filter(|join| join.order <= access.up_to());
    Ok(join.map_or_else(|| access.room_state(), |join| join.record.state_after))
}

fn membership(event: &StoredEvent) -> MembershipState {
    #[derive(Deserialize)]
    struct Content {
        membership: MembershipState,
    }
    let content: Result<Content, _> = serde_json::from_str(event.pdu.content().get());
    content.map_or(MembershipState::Leave, |content| content.membership)
}

/// How a member appears. Clients count on both fields: what isn't set is null.
#[derive(Default, Serialize)]
struct Appearance {
    display_name: Option<String>,
    avatar_url: Option<String>,
}

/// The joined members of a room and how they appear, for those who are in it.
pub(super) async fn joined(
    Within(state): Within<Arc<State>>,
    session: Session,
    Wire(request): Wire<joined_members::v3::Request>,
) -> Result<Json<Value>, ApiError> {
    #[derive(Deserialize)]
    struct Content {
        displayname: Option<String>,
        avatar_url: Option<String>,
    }

    let access = Access::of(&state, &session, &request.room_id)?;
    if access.standing != Standing::Joined {
        return Err(not_in_room());
    }
    let (view, num) = (access.reader.view(), access.reader.num());
    let mut joined: BTreeMap<OwnedUserId, Appearance> = BTreeMap::new();
    let mut after = None;
    loop {
        let page = view.room_members(num, Membership::Join, after.as_deref(), READ_AT_ONCE)?;
        let nums: Vec<_> = page.iter().map(|(_, num)| *num).collect();
        for event in access.reader.events(&nums)? {
            let Some(user) = event.pdu.state_key().and_then(|key| key.try_into().ok()) else { continue };
            let content: Option<Content> = serde_json::from_str(event.pdu.content().get()).ok();
            let shown = |Content { displayname, avatar_url }| Appearance { display_name: displayname, avatar_url };
            joined.insert(user, content.map(shown).unwrap_or_default());
        }
        let is_last = page.len() < READ_AT_ONCE;
        after = page.into_iter().last().map(|(user, _)| user);
        if is_last || after.is_none() {
            break;
        }
    }
    Ok(Json(json!({ "joined": joined })))
}
