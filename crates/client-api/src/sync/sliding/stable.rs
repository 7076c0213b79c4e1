//! `POST /_matrix/client/v4/sync` (MSC4186)

use super::body::{Extensions, Filter, presence};
use super::{Asked, answer, to_device};
use crate::session::Session;
use crate::wire::Body;
use crate::{ApiError, State};
use ::sync::SlidingForm;
use axum::extract;
use axum::response::Response;
use ruma::OwnedRoomId;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use sync_core::sliding::{Element, ListRule, RequiredState, RoomRule, Rules};

/// The body: everything is in it, so that a browser need not ask before each request (MSC4186, "Changelog").
#[derive(Deserialize)]
pub(crate) struct Request {
    conn_id: Option<String>,
    pos: Option<String>,
    timeout: Option<u64>,
    set_presence: Option<String>,
    #[serde(default)]
    lists: BTreeMap<String, List>,
    #[serde(default)]
    room_subscriptions: BTreeMap<OwnedRoomId, Subscription>,
    #[serde(default)]
    extensions: Extensions,
}

/// `SyncListConfig`
#[derive(Deserialize)]
struct List {
    timeline_limit: u64,
    required_state: Required,
    range: Option<(u64, u64)>,
    filters: Option<Filter>,
}

/// `RoomSubscription`
#[derive(Deserialize)]
struct Subscription {
    timeline_limit: u64,
    required_state: Required,
}

/// `RequiredStateRequest`
#[derive(Deserialize)]
struct Required {
    #[serde(default)]
    include: Vec<Pattern>,
    #[serde(default)]
    exclude: Vec<Pattern>,
    #[serde(default)]
    lazy_members: bool,
}

/// `RequiredStateElement`
#[derive(Deserialize)]
struct Pattern {
    r#type: Option<String>,
    state_key: Option<String>,
}

/// What is new on a connection.
pub(crate) async fn stable(
    extract::State(state): extract::State<Arc<State>>,
    session: Session,
    Body(request): Body<Request>,
) -> Result<Response, ApiError> {
    let to_device = to_device(&request.extensions);
    let lists = request.lists.into_iter().map(|(name, list)| {
        let count = |place: u64| usize::try_from(place).unwrap_or(usize::MAX);
        let rule = ListRule {
            room: rule(list.timeline_limit, list.required_state),
            ranges: list.range.map(|(first, last)| vec![(count(first), count(last))]),
            filter: list.filters.unwrap_or_default().into(),
        };
        (name, rule)
    });
    let subscriptions = request
        .room_subscriptions
        .into_iter()
        .map(|(room, subscription)| (room, rule(subscription.timeline_limit, subscription.required_state)));
    let rules = Rules {
        lists: lists.collect(),
        subscriptions: subscriptions.collect(),
        extensions: (&request.extensions).into(),
    };
    let asked = Asked {
        form: SlidingForm::Stable,
        connection: request.conn_id,
        position: request.pos,
        timeout: request.timeout,
        txn_id: None,
        rules,
        to_device,
        presence: presence(request.set_presence.as_deref())?,
    };
    answer(&state, session, asked).await
}

fn rule(timeline_limit: u64, required: Required) -> RoomRule {
    let elements = |patterns: Vec<Pattern>| -> Vec<Element> {
        let element = |pattern: Pattern| Element { kind: pattern.r#type, state_key: pattern.state_key };
        patterns.into_iter().map(element).collect()
    };
    RoomRule {
        timeline_limit: usize::try_from(timeline_limit).unwrap_or(usize::MAX),
        required_state: RequiredState {
            include: elements(required.include),
            exclude: elements(required.exclude),
            lazy: required.lazy_members,
        },
    }
}
