//! Who may read a room, and up to where: members all of it, those who have left what there was when they left,
//! and strangers a room that is readable by the world (client-server API, "Room history visibility").
//!
//! Which single events a reader may see is [`RoomReader::visible`]'s to say.

use super::error::not_in_room;
use crate::session::Session;
use crate::{ApiError, State};
use base::Order;
use records::Membership;
use records::state_map::StateRoot;
use rooms::{Departure, Recipient, RoomError, RoomReader, StoredEvent, Trail};
use rules::IgnoredUsers;
use rules::client_event::Format;
use rules::ignored::IGNORED_USER_LIST;
use ruma::events::room::member::MembershipState;
use ruma::{DeviceId, RoomId, UserId};
use serde_json::value::RawValue;
use std::sync::Arc;

/// A room that a user may read.
pub(super) struct Access<'a> {
    pub reader: RoomReader,
    pub standing: Standing,
    state: &'a State,
    user: &'a UserId,
    /// The device that asks, if it is one.
    device: Option<&'a DeviceId>,
    /// Whom the user ignores: what they say is kept from the user wherever it would be read.
    ignored: IgnoredUsers,
}

/// What a user is to a room that they may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// They are in it.
    Joined,
    /// They were in it.
    Departed {
        /// The event with which they left is the last that they may see.
        at: Order,
        /// The state of the room then.
        state: StateRoot,
    },
    /// They are not in it, but everybody may read it.
    Peeking,
}

impl<'a> Access<'a> {
    /// The room, if the user may read it: 403 `M_FORBIDDEN` if not, whether it exists or not.
    pub fn of(state: &'a State, session: &'a Session, room_id: &RoomId) -> Result<Self, ApiError> {
        Self::of_user(state, &session.user_id, Some(&session.device_id), room_id)
    }

    /// The room, if this user may read it.
    pub fn of_user(
        state: &'a State,
        user: &'a UserId,
        device: Option<&'a DeviceId>,
        room_id: &RoomId,
    ) -> Result<Self, ApiError> {
        let view = state.records.view();
        let reader = state.rooms.reader_by_id(&view, room_id)?.ok_or_else(not_in_room)?;
        let standing = standing(&reader, user)?.ok_or_else(not_in_room)?;
        let ignored = view.account_data(user, None, IGNORED_USER_LIST)?;
        let ignored = IgnoredUsers::of_content(ignored.as_deref());
        Ok(Self { reader, standing, state, user, device, ignored })
    }

    /// The room, for a look at single events, which may be for those who have never been in it: they were invited and
    /// saw what came, or everybody did then (client-server API, "Room history visibility", "Server behaviour").
    pub fn to_event(state: &'a State, session: &'a Session, room_id: &RoomId) -> Result<Self, ApiError> {
        let view = state.records.view();
        let reader = state.rooms.reader_by_id(&view, room_id)?.ok_or_else(not_in_room)?;
        let user = &*session.user_id;
        let standing = match standing(&reader, user)? {
            Some(standing) => standing,
            None if reader.membership(user)?.is_some_and(|(_, record)| record.forgotten) => return Err(not_in_room()),
            None => Standing::Peeking,
        };
        let ignored = view.account_data(user, None, IGNORED_USER_LIST)?;
        let ignored = IgnoredUsers::of_content(ignored.as_deref());
        Ok(Self { reader, standing, state, user, device: Some(&session.device_id), ignored })
    }

    /// The state of the room as the user may know it.
    pub fn room_state(&self) -> StateRoot {
        match self.standing {
            Standing::Departed { state, .. } => state,
            Standing::Joined | Standing::Peeking => self.reader.state(),
        }
    }

    /// The last place in the timeline that the user may see.
    pub fn up_to(&self) -> Order {
        match self.standing {
            Standing::Departed { at, .. } => at,
            Standing::Joined | Standing::Peeking => Order::from(self.reader.view().stamp()),
        }
    }

    /// What the user may see of these events, with what they were to the room at each. What they don't want to
    /// see, because its sender is one whom they ignore, is not among it.
    pub fn visible(&self, events: &[Arc<StoredEvent>]) -> Result<Vec<Seen>, ApiError> {
        let mut seen = self.may_see(events)?;
        seen.retain(|seen| !self.ignored.hide(&seen.event.pdu, self.user));
        Ok(seen)
    }

    /// What the user may see of these events, whether they want to or not.
    pub fn may_see(&self, events: &[Arc<StoredEvent>]) -> Result<Vec<Seen>, ApiError> {
        let up_to = self.up_to();
        let memberships = self.reader.visible(self.user, events)?;
        let seen = events.iter().zip(memberships).filter(|(event, _)| event.order <= up_to);
        Ok(seen
            .filter_map(|(event, membership)| Some(Seen { event: event.clone(), membership: membership? }))
            .collect())
    }

    /// What the user was to the room over time.
    pub fn trail(&self) -> Result<Trail, ApiError> {
        Ok(self.reader.trail(self.user)?)
    }

    /// An event that the user may see; 404 if there is none.
    pub fn event(&self, event_id: &ruma::EventId) -> Result<Seen, ApiError> {
        let event = self.reader.event_by_id(event_id)?;
        let seen = event.map(|event| self.visible(&[event])).transpose()?;
        seen.and_then(|mut seen| seen.pop()).ok_or_else(|| ApiError::not_found("the event is not known here"))
    }

    /// An event in words for the user.
    pub fn client_event(&self, seen: &Seen) -> Result<Box<RawValue>, ApiError> {
        let membership = Some(&seen.membership);
        Ok(self.reader.client_event(&seen.event, self.recipient(), membership, Format::WithRoomId)?)
    }

    /// Events in words for the user.
    pub fn client_events(&self, seen: &[Seen]) -> Result<Vec<Box<RawValue>>, ApiError> {
        seen.iter().map(|seen| self.client_event(seen)).collect()
    }

    /// State events in words for the user, each with what they were to the room at it (MSC4115).
    pub fn client_state(&self, events: &[Arc<StoredEvent>]) -> Result<Vec<Box<RawValue>>, ApiError> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        self.client_state_along(&self.trail()?, events)
    }

    /// State events in words for the user, of whom the trail is.
    pub fn client_state_along(
        &self,
        trail: &Trail,
        events: &[Arc<StoredEvent>],
    ) -> Result<Vec<Box<RawValue>>, ApiError> {
        let event = |event: &Arc<StoredEvent>| {
            let membership = trail.at(event.order);
            self.reader.client_event(event, self.recipient(), membership, Format::WithRoomId).map_err(ApiError::from)
        };
        events.iter().map(event).collect()
    }

    /// The content of a state event as the user gets it.
    pub fn content(&self, event: &StoredEvent) -> Result<Box<RawValue>, ApiError> {
        Ok(self.reader.copy_for(self.user, event, None)?.content().to_owned())
    }

    fn recipient(&self) -> Recipient<'_> {
        Recipient { user_id: self.user, device_id: self.device, now: self.state.clock.now() }
    }
}

/// An event, and what the user who sees it was to the room then.
#[derive(Clone)]
pub(super) struct Seen {
    pub event: Arc<StoredEvent>,
    pub membership: MembershipState,
}

fn standing(reader: &RoomReader, user: &UserId) -> Result<Option<Standing>, RoomError> {
    let Some((_, record)) = reader.membership(user)? else { return peeking(reader) };
    if record.membership == Membership::Join {
        return Ok(Some(Standing::Joined));
    }
    // What everybody may read, those who were there may too.
    let peeking = peeking(reader)?;
    if peeking.is_none() && !record.forgotten {
        let departure = reader.departure(user)?;
        return Ok(departure.map(|Departure { at, state }| Standing::Departed { at, state }));
    }
    Ok(peeking)
}

fn peeking(reader: &RoomReader) -> Result<Option<Standing>, RoomError> {
    Ok(reader.is_world_readable()?.then_some(Standing::Peeking))
}
