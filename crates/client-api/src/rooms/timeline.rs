//! Pages of a timeline: what a user may see and a filter lets through, from a place on.

use super::access::{Access, Seen};
use crate::ApiError;
use axum::extract::Query;
use http::Uri;
use records::state_map::StateRoot;
use rooms::{Found, Piece, StoredEvent};
use rules::filter::{Matcher, RelationFilter};
use ruma::OwnedUserId;
use ruma::api::client::filter::{LazyLoadOptions, RoomEventFilter};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::sync::Arc;

/// How many events one request looks at, whatever of them it can show. The client goes on from there.
const LOOKED_AT_MAX: usize = 4000;
/// How many events are read at once when the first page did not yield enough.
const READ_AHEAD: usize = 100;

/// What a page shows.
pub(super) struct Page {
    /// The events, in the direction of the range.
    pub seen: Vec<Seen>,
    /// What is left of the piece; nothing if there are no more events in it.
    pub rest: Option<Piece>,
}

/// Reads a page of at most `events_max` events of the timeline.
pub(super) fn page(access: &Access<'_>, matcher: &Matcher, piece: Piece, events_max: usize) -> Result<Page, ApiError> {
    if matcher.matches_nothing() {
        return Ok(Page { seen: Vec::new(), rest: None });
    }
    let read = |piece: Piece, events_max: usize| {
        if piece.after >= piece.up_to {
            return Ok(Found::default());
        }
        let events = access.reader.timeline(piece.after, piece.up_to, piece.direction, events_max)?;
        let last = events.last().filter(|_| events.len() == events_max);
        Ok(Found { rest: last.map(|last| piece.beyond(last.order)), events })
    };
    let keep = |mut events: Vec<Arc<StoredEvent>>| {
        events.retain(|event| matcher.matches_pdu(&event.pdu));
        if let Some(filter) = matcher.related_by().filter(|_| !events.is_empty()) {
            let mut related = access.reader.are_related_by(&events, filter)?.into_iter();
            events.retain(|_| related.next().unwrap_or_default());
        }
        Ok(events)
    };
    page_of(access, piece, events_max, read, keep)
}

/// Reads a page of at most `events_max` events that `read` finds, `keep` lets through, and the user may see.
pub(super) fn page_of(
    access: &Access<'_>,
    piece: Piece,
    events_max: usize,
    read: impl Fn(Piece, usize) -> Result<Found, ApiError>,
    keep: impl Fn(Vec<Arc<StoredEvent>>) -> Result<Vec<Arc<StoredEvent>>, ApiError>,
) -> Result<Page, ApiError> {
    let (mut seen, mut looked_at, mut rest) = (Vec::new(), 0, Some(piece));
    while let Some(piece) = rest {
        if seen.len() >= events_max || looked_at >= LOOKED_AT_MAX {
            let more = read(piece, 1)?;
            let is_more = !more.events.is_empty() || more.rest.is_some();
            return Ok(Page { seen, rest: is_more.then_some(piece) });
        }
        let wanted = if looked_at == 0 { events_max } else { READ_AHEAD };
        let found = read(piece, wanted.min(LOOKED_AT_MAX))?;
        looked_at += wanted;
        rest = found.rest;
        let mut visible = access.visible(&keep(found.events)?)?;
        let missing = events_max - seen.len();
        if visible.len() > missing {
            visible.truncate(missing);
            rest = visible.last().map(|last| piece.beyond(last.event.order)).or(rest);
        }
        seen.extend(visible);
    }
    Ok(Page { seen, rest: None })
}

/// What the filter of a request asks of relations: ruma's types don't have that.
///
/// # Errors
///
/// 400 `M_INVALID_PARAM` if it is not of the right shape.
pub(super) fn relation_filter(uri: &Uri) -> Result<RelationFilter, ApiError> {
    #[derive(Deserialize)]
    struct Parameters {
        filter: Option<String>,
    }

    let parameters = Query::<Parameters>::try_from_uri(uri);
    let Query(Parameters { filter }) = parameters.map_err(|error| ApiError::invalid_param(error.body_text()))?;
    let filter = filter.as_deref().map(serde_json::from_str).transpose();
    Ok(filter.map_err(|error| ApiError::invalid_param(format!("`filter`: {error}")))?.unwrap_or_default())
}

/// Whether a filter asks for the members only who sent something.
pub(super) fn is_lazy(filter: &RoomEventFilter) -> bool {
    matches!(filter.lazy_load_options, LazyLoadOptions::Enabled { .. })
}

/// The membership events of those who sent these events, as a state has them. Which of them the client knows
/// is not remembered: all are sent (client-server API, "Lazy-loading room members").
pub(super) fn senders<'a>(
    access: &Access<'_>,
    state: StateRoot,
    events: impl IntoIterator<Item = &'a Seen>,
) -> Result<Vec<Arc<StoredEvent>>, ApiError> {
    let senders: BTreeSet<OwnedUserId> = events.into_iter().map(|seen| seen.event.pdu.sender().to_owned()).collect();
    let keys: Vec<_> = senders.iter().map(|sender| ("m.room.member", sender.as_str())).collect();
    let nums = state.get_many(access.reader.view(), &keys).map_err(ApiError::from)?;
    let nums: Vec<_> = nums.into_iter().flatten().collect();
    Ok(access.reader.events(&nums)?)
}

/// A state without its members.
pub(super) fn state_without_members(access: &Access<'_>, state: StateRoot) -> Result<Vec<Arc<StoredEvent>>, ApiError> {
    const MEMBER: &str = "m.room.member";
    let view = access.reader.view();
    let mut nums = Vec::new();
    for entry in state.entries(view) {
        let entry = entry.map_err(ApiError::from)?;
        if *entry.kind >= *MEMBER {
            break;
        }
        nums.push(entry.event);
    }
    // Entries are in the order of their types, so the members, who may be many, can be passed over at once.
    let mut last = (MEMBER.to_owned(), char::MAX.to_string());
    loop {
        let page = state.page(view, Some((&last.0, &last.1)), usize::MAX).map_err(ApiError::from)?;
        nums.extend(page.entries.iter().filter(|entry| entry.kind != MEMBER).map(|entry| entry.event));
        match page.entries.into_iter().last() {
            Some(entry) if page.more => last = (entry.kind, entry.state_key),
            _ => break,
        }
    }
    Ok(access.reader.events(&nums)?)
}
