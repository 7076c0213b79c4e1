//! Pages of a timeline: what a user may see and a filter lets through, from a place on.

use super::access::{Access, Seen};
use crate::ApiError;
use base::Order;
use records::state_map::StateRoot;
use rooms::StoredEvent;
use rules::filter::Matcher;
use ruma::OwnedUserId;
use ruma::api::client::filter::{LazyLoadOptions, RoomEventFilter};
use std::collections::BTreeSet;
use std::sync::Arc;
use store::Direction;

/// How many events one request looks at, whatever of them it can show. The client goes on from there.
const LOOKED_AT_MAX: usize = 4000;
/// How many events are read at once when the first page did not yield enough.
const READ_AHEAD: usize = 100;

/// A piece of a timeline: the events after `after` and up to `up_to`, seen from the end that `direction` starts
/// with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range {
    pub after: Order,
    pub up_to: Order,
    pub direction: Direction,
}

impl Range {
    /// What is left of the range beyond an event.
    fn beyond(self, event: Order) -> Self {
        match self.direction {
            Direction::Forward => Self { after: event, ..self },
            Direction::Backward => Self { up_to: Order(event.0.saturating_sub(1)), ..self },
        }
    }

    /// The place where the range starts.
    pub fn start(self) -> Order {
        match self.direction {
            Direction::Forward => self.after,
            Direction::Backward => self.up_to,
        }
    }
}

/// What a page shows.
pub(super) struct Page {
    /// The events, in the direction of the range.
    pub seen: Vec<Seen>,
    /// What is left of the range; nothing if there are no more events in it.
    pub rest: Option<Range>,
}

/// Reads a page of at most `events_max` events.
pub(super) fn page(
    access: &Access<'_>,
    matcher: &Matcher,
    mut range: Range,
    events_max: usize,
) -> Result<Page, ApiError> {
    let mut seen = Vec::new();
    let mut looked_at = 0;
    if matcher.matches_nothing() {
        return Ok(Page { seen, rest: None });
    }
    while seen.len() < events_max && looked_at < LOOKED_AT_MAX {
        let wanted = if looked_at == 0 { events_max } else { READ_AHEAD };
        let events = read(access, range, wanted.min(LOOKED_AT_MAX))?;
        if events.is_empty() {
            return Ok(Page { seen, rest: None });
        }
        looked_at += events.len();
        let matching: Vec<_> = events.iter().filter(|event| matcher.matches_pdu(&event.pdu)).cloned().collect();
        let mut found = access.visible(&matching)?;
        let missing = events_max - seen.len();
        if found.len() > missing {
            found.truncate(missing);
            range = found.last().map_or(range, |last| range.beyond(last.event.order));
        } else {
            range = events.last().map_or(range, |last| range.beyond(last.order));
        }
        seen.extend(found);
    }
    let is_more = !read(access, range, 1)?.is_empty();
    Ok(Page { seen, rest: is_more.then_some(range) })
}

fn read(access: &Access<'_>, range: Range, events_max: usize) -> Result<Vec<Arc<StoredEvent>>, ApiError> {
    if range.after >= range.up_to {
        return Ok(Vec::new());
    }
    Ok(access.reader.timeline(range.after, range.up_to, range.direction, events_max)?)
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
