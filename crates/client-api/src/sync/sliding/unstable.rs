//! `POST /_matrix/client/unstable/org.matrix.simplified_msc3575/sync`: MSC4186 before it was accepted, as clients
//! in service speak it.

use super::body::{Extensions, Filter, presence};
use super::{Asked, answer, to_device};
use crate::session::Session;
use crate::wire::Body;
use crate::{ApiError, State};
use ::sync::SlidingForm;
use axum::extract;
use axum::response::Response;
use http::Uri;
use ruma::{OwnedRoomId, UserId};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use sync_core::sliding::{ListRule, RequiredState, RoomRule, Rules};

/// The parameters of the query.
#[derive(Deserialize)]
struct Parameters {
    pos: Option<String>,
    timeout: Option<u64>,
    set_presence: Option<String>,
}

/// The body.
#[derive(Deserialize)]
pub(crate) struct Request {
    conn_id: Option<String>,
    txn_id: Option<String>,
    /// Where the accepted form has it; some clients put it there already.
    pos: Option<String>,
    #[serde(default)]
    lists: BTreeMap<String, List>,
    #[serde(default)]
    room_subscriptions: BTreeMap<OwnedRoomId, Room>,
    #[serde(default)]
    extensions: Extensions,
}

#[derive(Deserialize)]
struct List {
    ranges: Option<Vec<(u64, u64)>>,
    filters: Option<Filter>,
    #[serde(flatten)]
    room: Room,
}

#[derive(Deserialize)]
struct Room {
    timeline_limit: u64,
    #[serde(default)]
    required_state: Vec<(String, String)>,
}

/// What is new on a connection.
pub(crate) async fn unstable(
    extract::State(state): extract::State<Arc<State>>,
    session: Session,
    uri: Uri,
    Body(request): Body<Request>,
) -> Result<Response, ApiError> {
    let parameters = extract::Query::<Parameters>::try_from_uri(&uri);
    let extract::Query(parameters) = parameters.map_err(|error| ApiError::invalid_param(error.body_text()))?;
    let me = &session.user_id;
    let to_device = to_device(&request.extensions);
    let count = |place: u64| usize::try_from(place).unwrap_or(usize::MAX);
    let lists = request.lists.into_iter().map(|(name, list)| {
        let ranges = list.ranges.map(|ranges| ranges.into_iter().map(|(first, last)| (count(first), count(last))));
        let rule = ListRule {
            room: rule(&list.room, me),
            ranges: ranges.map(Iterator::collect),
            filter: list.filters.unwrap_or_default().into(),
        };
        (name, rule)
    });
    let subscriptions = request.room_subscriptions.iter().map(|(room_id, room)| (room_id.clone(), rule(room, me)));
    let rules = Rules {
        lists: lists.collect(),
        subscriptions: subscriptions.collect(),
        extensions: (&request.extensions).into(),
    };
    let asked = Asked {
        form: SlidingForm::Unstable,
        connection: request.conn_id,
        position: parameters.pos.or(request.pos),
        timeout: parameters.timeout,
        txn_id: request.txn_id,
        rules,
        to_device,
        presence: presence(parameters.set_presence.as_deref())?,
    };
    answer(&state, session, asked).await
}

fn rule(room: &Room, me: &UserId) -> RoomRule {
    let pairs = room.required_state.iter().map(|(kind, key)| (kind.as_str(), key.as_str()));
    RoomRule {
        timeline_limit: usize::try_from(room.timeline_limit).unwrap_or(usize::MAX),
        required_state: RequiredState::of_pairs(pairs, me),
    }
}
