//! What one user was to a room over time: their membership events, followed back from the newest.

use crate::reader::membership_of;
use crate::{RoomError, RoomReader, StoredEvent};
use base::Order;
use ruma::UserId;
use ruma::events::room::member::MembershipState;
use std::sync::Arc;

/// How many membership events of a user are followed back. Of what was before, it is not told what they were; what
/// they may see does not depend on it.
const STEPS_MAX: usize = 32;

/// A user's membership events in a room, the newest first, as far back as they were followed.
pub struct Trail {
    events: Vec<(Arc<StoredEvent>, MembershipState)>,
    /// There was none before the last of them.
    is_whole: bool,
}

impl Trail {
    fn follow(reader: &RoomReader, user: &UserId) -> Result<Self, RoomError> {
        let mut next = reader.membership(user)?.map(|(_, record)| record.event);
        let mut events = Vec::new();
        while let Some(num) = next {
            let Some(event) = reader.event(num)? else { break };
            next = event.record.replaces;
            let membership = membership_of(&event.pdu);
            events.push((event, membership));
            if events.len() >= STEPS_MAX {
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
        Trail::follow(self, user)
    }
}
