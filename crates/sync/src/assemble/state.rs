//! The state that comes with a timeline.

use super::Context;
use super::timeline::Seen;
use crate::SyncError;
use base::{EventNum, Order, Stamp};
use records::state_map::StateRoot;
use rooms::{RoomReader, StoredEvent};
use ruma::events::TimelineEventType;
use ruma::{OwnedUserId, UserId};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, PoisonError};
use sync_core::{LazyMembers, Window};

const MEMBER: &str = "m.room.member";
/// Sorts after all members and before everything that comes after them, but for what nobody calls an event.
const AFTER_MEMBERS: &str = "m.room.member\u{0}";
/// How many entries of a state are read at once.
const STATE_PAGE: usize = 10_000;

/// Which state comes with a window.
pub struct Scope<'a> {
    /// Up to where the client knows the state; none if it is told everything.
    pub known: Option<Stamp>,
    /// Where the state that it gets to know ends: the end of the timeline, or where the user left.
    pub end: Order,
    /// The members that name the room.
    pub heroes: &'a [OwnedUserId],
}

impl Context<'_> {
    /// The events of `state` or `state_after`.
    pub(super) fn state(
        &self,
        reader: &RoomReader,
        window: &Window<Seen>,
        scope: &Scope<'_>,
    ) -> Result<Vec<Arc<StoredEvent>>, SyncError> {
        let filter = &self.filter.state;
        if filter.matches_nothing() || !filter.matches_room(reader.room_id()) {
            return Ok(Vec::new());
        }
        let lazy = self.filter.lazy != LazyMembers::Off;
        // A timeline that goes on where the client's ended changes the state by its own events only, unless
        // history has parted: then what it resolves to is the room's.
        let is_whole = !window.skipped && !parts(window);
        let goes_on = scope.known.is_some() && !window.limited && is_whole;
        let changes = |seen: &Seen| seen.event.record.state_before != seen.event.record.state_after;
        let is_known = goes_on && !(self.request.state.is_after() && window.events.iter().any(changes));
        if is_known && !lazy {
            return Ok(Vec::new());
        }
        let end = self.state_before(reader, scope.end)?;
        let start = match window.events.first() {
            Some(first) if goes_on => first.event.record.state_before,
            _ if window.start >= scope.end => end,
            _ => self.state_before(reader, window.start)?,
        };
        let at = if self.request.state.is_after() { end } else { start };
        let shown: HashSet<EventNum> = window.events.iter().map(|seen| seen.event.num).collect();

        let mut events = match scope.known {
            Some(_) if is_known => Vec::new(),
            Some(known) => reader.state_diff(reader.state_at(known.into())?, at)?,
            None if lazy => all_but_members(reader, at)?,
            None => reader.state_events(at)?,
        };
        if !is_whole && !self.request.state.is_after() {
            // What changed within the timeline, but is not shown there.
            let hidden = reader.state_diff(start, end)?.into_iter().filter(|event| !shown.contains(&event.num));
            let hidden: Vec<_> = hidden.collect();
            let replaced: HashSet<_> = hidden.iter().filter_map(|event| event.record.replaces).collect();
            events.retain(|event| !replaced.contains(&event.num));
            events.extend(hidden);
        }
        if lazy {
            self.add_members(reader, at, window, scope, &mut events)?;
        }
        events.retain(|event| filter.matches_pdu(&event.pdu));
        if lazy {
            self.remember_members(&events, window);
        }
        Ok(events)
    }

    /// State events in words, each with what the user was to the room at it (MSC4115).
    pub(super) fn state_events(
        &self,
        reader: &RoomReader,
        events: &[Arc<StoredEvent>],
    ) -> Result<Vec<String>, SyncError> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        let trail = reader.trail(self.user())?;
        events.iter().map(|event| self.event(reader, event, trail.at(event.order))).collect()
    }

    /// The window without the events that would mislead the client about the state: those that set something
    /// which is set otherwise at the end, by an event that the client does not see or because the event lost to
    /// another one where history parted. The client applies what is told as state first and the timeline on top.
    /// What is cut off is left to pagination.
    pub(super) fn without_contradictions(
        &self,
        reader: &RoomReader,
        mut window: Window<Seen>,
        end: Order,
    ) -> Result<Window<Seen>, SyncError> {
        if self.request.state.is_after() || window.start >= end || (!window.skipped && !parts(&window)) {
            return Ok(window);
        }
        let mut shown: HashMap<(&str, &str), (EventNum, Order)> = HashMap::new();
        for event in window.events.iter().map(|seen| &seen.event) {
            if let Some(state_key) = event.pdu.state_key() {
                shown.insert((event.pdu.kind_str(), state_key), (event.num, event.order));
            }
        }
        let places: Vec<_> = shown.keys().copied().collect();
        let after = self.state_before(reader, end)?;
        let truth = after.get_many(reader.view(), &places).map_err(SyncError::internal)?;
        let misleading = places.iter().zip(truth).filter_map(|(place, truth)| {
            shown.get(place).filter(|(last, _)| truth != Some(*last)).map(|(_, order)| *order)
        });
        if let Some(order) = misleading.max() {
            window.events.retain(|seen| seen.event.order > order);
            window.start = order.max(window.start);
            window.limited = true;
        }
        Ok(window)
    }

    /// What the current state was when the last event up to an order had come.
    fn state_before(&self, reader: &RoomReader, order: Order) -> Result<StateRoot, SyncError> {
        if order >= self.end() { Ok(reader.state()) } else { Ok(reader.state_at(order)?) }
    }

    /// Adds the members whom a lazy-loading client needs: the senders of the timeline, the heroes, and with all
    /// of the state the user's own membership. Those that it knows are left out.
    fn add_members(
        &self,
        reader: &RoomReader,
        at: StateRoot,
        window: &Window<Seen>,
        scope: &Scope<'_>,
        events: &mut Vec<Arc<StoredEvent>>,
    ) -> Result<(), SyncError> {
        let mut needed: BTreeSet<&UserId> = window.events.iter().map(|seen| seen.event.pdu.sender()).collect();
        needed.extend(scope.heroes.iter().map(|hero| -> &UserId { hero }));
        if scope.known.is_none() {
            needed.insert(self.user());
        }
        // Whose membership is told anyway is not told as it was before: the client would take the older for the newer.
        for event in events.iter().filter(|event| *event.pdu.kind() == TimelineEventType::RoomMember) {
            needed.retain(|user| event.pdu.state_key() != Some(user.as_str()));
        }
        let keys: Vec<_> = needed.iter().map(|user| (MEMBER, user.as_str())).collect();
        let found = at.get_many(reader.view(), &keys).map_err(SyncError::internal)?;
        let mut nums: Vec<EventNum> = found.into_iter().flatten().collect();
        if let Some(sent) = &self.sent
            && scope.known.is_some()
        {
            let sent = sent.lock().unwrap_or_else(PoisonError::into_inner);
            nums.retain(|num| !sent.knows(*num, self.confirmed));
        }
        events.extend(reader.events(&nums)?);
        Ok(())
    }

    /// Remembers the members that the client is sent, in the state or in the timeline.
    fn remember_members(&self, events: &[Arc<StoredEvent>], window: &Window<Seen>) {
        let Some(sent) = &self.sent else { return };
        let mut sent = sent.lock().unwrap_or_else(PoisonError::into_inner);
        for event in events.iter().chain(window.events.iter().map(|seen| &seen.event)) {
            if *event.pdu.kind() == TimelineEventType::RoomMember {
                sent.sent(event.num, self.token.stamp);
            }
        }
    }
}

/// Whether history has parted at an event of a window, so that the state changed by more, or by less, than the
/// events say.
pub fn parts(window: &Window<Seen>) -> bool {
    window.events.iter().any(|seen| seen.event.record.resolved.is_some())
}

/// A state without its members, of whom there may be many.
fn all_but_members(reader: &RoomReader, at: StateRoot) -> Result<Vec<Arc<StoredEvent>>, SyncError> {
    let mut nums = Vec::new();
    for entry in at.entries(reader.view()) {
        let entry = entry.map_err(SyncError::internal)?;
        if entry.kind.as_str() >= MEMBER {
            if entry.kind != MEMBER {
                nums.push(entry.event);
            }
            break;
        }
        nums.push(entry.event);
    }
    let mut after = (AFTER_MEMBERS.to_owned(), String::new());
    loop {
        let page = at.page(reader.view(), Some((&after.0, &after.1)), STATE_PAGE).map_err(SyncError::internal)?;
        // The first entry after the place of the members was found above, if there are no members.
        nums.extend(page.entries.iter().map(|entry| entry.event));
        match page.entries.into_iter().next_back() {
            Some(last) if page.more => after = (last.kind, last.state_key),
            _ => break,
        }
    }
    let mut known = HashSet::new();
    nums.retain(|num| known.insert(*num));
    Ok(reader.events(&nums)?)
}
