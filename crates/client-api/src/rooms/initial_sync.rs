//! A room as it is, with what was said last: `GET /rooms/{roomId}/initialSync`, for those who look at it without
//! being in it, and `GET /initialSync`, of all rooms of a user (deprecated).

use super::access::{Access, Standing};
use super::timeline::page;
use crate::limits::Class;
use crate::session::Session;
use crate::wire::Args;
use crate::{ApiError, State};
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State as Within};
use base::Order;
use records::{Membership, MembershipRecord};
use rooms::{Piece, Recipient, RoomReader, invite_verdict};
use rules::InviteVerdict;
use rules::client_event::Format;
use rules::filter::Matcher;
use ruma::{OwnedRoomId, RoomId};
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;
use std::sync::Arc;
use store::Direction;
use sync_core::{PageToken, SyncToken};

/// How many events of a room are told if the client does not say.
const EVENTS_DEFAULT: u64 = 10;
/// The most events of a room that are told.
const EVENTS_MAX: u64 = 100;

#[derive(Deserialize)]
pub(super) struct Parameters {
    limit: Option<u64>,
    #[serde(default)]
    archived: bool,
}

impl Parameters {
    fn of(parameters: Result<Query<Self>, QueryRejection>) -> Result<Self, ApiError> {
        let Query(parameters) = parameters.map_err(|error| ApiError::invalid_param(error.body_text()))?;
        Ok(parameters)
    }

    fn events_max(&self) -> usize {
        usize::try_from(self.limit.unwrap_or(EVENTS_DEFAULT).min(EVENTS_MAX)).unwrap_or(usize::MAX)
    }
}

/// A room as its members, or those who look at it, see it.
#[derive(Default, Serialize)]
pub(super) struct RoomInfo {
    room_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    membership: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    invite: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    messages: Option<Messages>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<Vec<Box<RawValue>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    visibility: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    account_data: Option<Vec<Box<RawValue>>>,
}

/// The last events of a room, the oldest first.
#[derive(Serialize)]
struct Messages {
    #[serde(skip_serializing_if = "Option::is_none")]
    start: Option<String>,
    end: String,
    chunk: Vec<Box<RawValue>>,
}

/// All rooms of a user.
#[derive(Serialize)]
pub(super) struct Response {
    end: String,
    presence: Vec<Box<RawValue>>,
    rooms: Vec<RoomInfo>,
    account_data: Vec<Box<RawValue>>,
}

/// `GET /rooms/{roomId}/initialSync`
pub(super) async fn of_room(
    Within(state): Within<Arc<State>>,
    session: Session,
    Args((room_id,)): Args<(OwnedRoomId,)>,
    parameters: Result<Query<Parameters>, QueryRejection>,
) -> Result<Json<RoomInfo>, ApiError> {
    let events_max = Parameters::of(parameters)?.events_max();
    state.limit(Class::Other, &session)?;
    let work = move || room(&state, &session, &room_id, events_max);
    tokio::task::spawn_blocking(work).await.map_err(|error| ApiError::internal(&error))?.map(Json)
}

/// `GET /initialSync`
pub(super) async fn of_user(
    Within(state): Within<Arc<State>>,
    session: Session,
    parameters: Result<Query<Parameters>, QueryRejection>,
) -> Result<Json<Response>, ApiError> {
    let parameters = Parameters::of(parameters)?;
    state.limit(Class::Other, &session)?;
    let turn = state.syncs.turn().await?;
    let work = move || {
        let response = user(&state, &session, &parameters);
        drop(turn);
        response
    };
    tokio::task::spawn_blocking(work).await.map_err(|error| ApiError::internal(&error))?.map(Json)
}

fn user(state: &State, session: &Session, parameters: &Parameters) -> Result<Response, ApiError> {
    // What changes in between is told twice instead of never.
    let volatile = state.syncs.token().volatile;
    let view = state.records.view();
    let mut rooms = Vec::new();
    for (num, _, record) in view.memberships(&session.user_id)? {
        let is_gone = matches!(record.membership, Membership::Leave | Membership::Ban);
        if is_gone && (record.forgotten || !parameters.archived) {
            continue;
        }
        let Some(reader) = state.rooms.reader(&view, num)? else { continue };
        if matches!(record.membership, Membership::Invite | Membership::Knock) {
            rooms.extend(invited(state, session, &reader, &record)?);
            continue;
        }
        match room(state, session, reader.room_id(), parameters.events_max()) {
            Ok(info) => rooms.push(info),
            Err(error) if error.is_internal() => return Err(error),
            // One who was never a member has nothing to see of what they have left.
            Err(_) => {}
        }
    }
    let end = SyncToken::new(view.stamp(), volatile).to_string();
    let account_data = view.account_data_all(&session.user_id)?;
    let account_data = account_data.iter().filter(|datum| datum.room_id.is_none() && !datum.is_deleted());
    let account_data = account_data.map(|datum| datum_event(&datum.kind, &datum.content)).collect::<Result<_, _>>()?;
    let presence = state.syncs.present_events(&session.user_id)?.into_iter().map(RawValue::from_string);
    let presence = presence.collect::<Result<_, _>>().map_err(|error| ApiError::internal(&error))?;
    Ok(Response { end, presence, rooms, account_data })
}

/// What is told of a room that a user is invited to; nothing if they ignore who did that, or if they knock.
fn invited(
    state: &State,
    session: &Session,
    reader: &RoomReader,
    record: &MembershipRecord,
) -> Result<Option<RoomInfo>, ApiError> {
    let verdict = invite_verdict(reader.view(), &record.sender, &session.user_id)?;
    let Some(event) = reader.event(record.event)? else { return Ok(None) };
    if verdict != InviteVerdict::Allow || record.membership != Membership::Invite {
        return Ok(None);
    }
    let device_id = Some(&*session.device_id);
    let recipient = Recipient { user_id: &session.user_id, device_id, now: state.clock.now() };
    let invite = reader.client_event(&event, recipient, None, Format::WithRoomId)?;
    let room_id = reader.room_id().to_string();
    Ok(Some(RoomInfo { room_id, membership: Some("invite"), invite: Some(invite), ..RoomInfo::default() }))
}

fn room(state: &State, session: &Session, room_id: &RoomId, events_max: usize) -> Result<RoomInfo, ApiError> {
    let access = Access::of(state, session, room_id)?;
    let view = access.reader.view();
    let range = Piece { after: Order(i64::MIN), up_to: access.up_to(), direction: Direction::Backward };
    let page = page(&access, &Matcher::default(), range, events_max)?;
    let mut seen = page.seen;
    seen.reverse();
    let end = match access.standing {
        Standing::Departed { at, .. } => PageToken(at).to_string(),
        // Where the stream of events goes on.
        Standing::Joined | Standing::Peeking => SyncToken::new(view.stamp(), 0).to_string(),
    };
    let messages = Messages {
        start: page.rest.map(|rest| PageToken(rest.start()).to_string()),
        end,
        chunk: access.client_events(&seen)?,
    };
    let membership = access.reader.membership(&session.user_id)?.map(|(_, record)| record.membership);
    let account_data = view.account_data_of(&session.user_id, Some(room_id))?;
    let account_data = account_data.iter().filter(|datum| !datum.is_deleted());
    let account_data = account_data.map(|datum| datum_event(&datum.kind, &datum.content));
    Ok(RoomInfo {
        room_id: room_id.to_string(),
        membership: membership.and_then(|membership| match membership {
            Membership::Join => Some("join"),
            Membership::Invite => Some("invite"),
            Membership::Leave => Some("leave"),
            Membership::Ban => Some("ban"),
            Membership::Knock => None,
        }),
        invite: None,
        messages: Some(messages),
        state: Some(access.client_state(&access.reader.state_events(access.room_state())?)?),
        visibility: Some(if view.is_published(access.reader.num())? { "public" } else { "private" }),
        account_data: Some(account_data.collect::<Result<_, _>>()?),
    })
}

fn datum_event(kind: &str, content: &str) -> Result<Box<RawValue>, ApiError> {
    RawValue::from_string(format!("{{\"type\":{},\"content\":{content}}}", json!(kind)))
        .map_err(|error| ApiError::internal(&error))
}
