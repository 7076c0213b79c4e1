//! What one user was to a room over time: their membership events, followed back from the newest.

use crate::reader::membership_of;
use crate::{RoomError, RoomReader, StoredEvent};
use base::Order;
use ruma::UserId;
use ruma::events::room::member::MembershipState;
use std::sync::Arc;

/// How many membership events of a user are followed back. Only members can make many: who was invited and has
/// declined, or was kicked and banned, more often than that loses sight of what they could see before.
const STEPS_MAX: usize = 32;

/// A user's membership events in a room, the newest first, as far back as they were followed.
pub struct Trail {
    events: Vec<(Arc<StoredEvent>, MembershipState)>,
    /// There was none before the last of them.
    is_whole: bool,
}

impl Trail {
    fn follow(reader: &RoomReader, user: &UserId, ends: impl Fn(&MembershipState) -> bool) -> Result<Self, RoomError> {
        let mut next = reader.membership(user)?.map(|(_, record)| record.event);
        let mut events = Vec::new();
        while let Some(num) = next {
            let Some(event) = reader.event(num)? else { break };
            next = event.record.replaces;
            let membership = membership_of(&event.pdu);
            let is_end = ends(&membership);
            events.push((event, membership));
            if is_end || events.len() >= STEPS_MAX {
                break;
            }
        }
        Ok(Self { events, is_whole: next.is_none() })
    }

    /// What the user was to the room once it had come to this place in the timeline. `None` if that was before
    /// what is known of them, or the place is none.
    #[must_use]
    pub fn at(&self, order: Order) -> Option<&MembershipState> {
        if order == Order(0) {
            return None;
        }
        match self.events.iter().find(|(event, _)| event.order <= order) {
            Some((_, membership)) => Some(membership),
            None => self.is_whole.then_some(&MembershipState::Leave),
        }
    }

    /// The newest event that says that they are joined.
    #[must_use]
    pub fn last_join(&self) -> Option<&Arc<StoredEvent>> {
        self.events.iter().find(|(_, membership)| *membership == MembershipState::Join).map(|(event, _)| event)
    }

    /// The event with which they stopped being a member. `None` if they are one, or never were.
    #[must_use]
    pub fn departure(&self) -> Option<&Arc<StoredEvent>> {
        let join = self.events.iter().position(|(_, membership)| *membership == MembershipState::Join)?;
        self.events.get(join.checked_sub(1)?).map(|(event, _)| event)
    }

    /// The first event after a place that says that they are joined.
    #[must_use]
    pub fn join_after(&self, order: Order) -> Option<&Arc<StoredEvent>> {
        let after = self.events.iter().take_while(|(event, _)| event.order > order);
        after.filter(|(_, membership)| *membership == MembershipState::Join).last().map(|(event, _)| event)
    }
}

impl RoomReader {
    /// What a user was to the room over time.
    pub fn trail(&self, user: &UserId) -> Result<Trail, RoomError> {
        Trail::follow(self, user, |_| false)
    }

    /// What a user was to the room since their last join, and that join.
    pub fn trail_to_join(&self, user: &UserId) -> Result<Trail, RoomError> {
        Trail::follow(self, user, |membership| *membership == MembershipState::Join)
    }
}
