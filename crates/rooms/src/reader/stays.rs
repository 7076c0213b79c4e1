//! When users were in a room, and what that leaves them to see: where they left, and the events of those whose
//! accounts were erased.

use super::RoomReader;
use crate::{RoomError, StoredEvent};
use base::{Order, Stamp};
use records::Membership;
use records::state_map::StateRoot;
use rules::visibility::saw;
use rules::{Pdu, redaction};
use ruma::UserId;
use ruma::events::TimelineEventType;
use ruma::events::room::member::MembershipState;
use std::sync::Arc;

/// Where somebody who was in a room stopped being a member of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Departure {
    /// The place: what came after it in the timeline is not for them.
    pub at: Order,
    /// The state of the room then.
    pub state: StateRoot,
}

impl RoomReader {
    /// Where a user left the room last, whatever invitations and bans have followed; none if they never were in it.
    /// Of somebody who is in it, it is the departure before they came back.
    pub fn departure(&self, user: &UserId) -> Result<Option<Departure>, RoomError> {
        let Some(stay) = self.view.last_stay(self.num, user)? else { return Ok(None) };
        let event = self.event(stay.ended)?;
        Ok(event.map(|event| Departure { at: stay.until, state: event.record.current() }))
    }

    /// Up to which place of the timeline a user was a member, with interruptions or without; none if they never
    /// were.
    pub(super) fn member_until(&self, user: &UserId) -> Result<Option<Order>, RoomError> {
        match self.membership(user)? {
            None => Ok(None),
            Some((_, record)) if record.membership == Membership::Join => Ok(Some(Order(i64::MAX))),
            Some(_) => Ok(self.view.last_stay(self.num, user)?.map(|stay| stay.until)),
        }
    }

    /// Whether a user was a member at some time after a place of the timeline and up to a stamp.
    fn was_member(&self, user: &UserId, after: Order, up_to: Stamp) -> Result<bool, RoomError> {
        let began = match self.view.first_stay_after(self.num, user, after)? {
            Some(stay) => Some(stay.began),
            None => {
                let current = self.membership(user)?.map(|(_, record)| record);
                current.filter(|record| record.membership == Membership::Join).and_then(|record| record.entered)
            }
        };
        let began = began.map(|num| self.event(num)).transpose()?.flatten();
        Ok(began.is_some_and(|began| began.order <= Order::from(up_to)))
    }

    /// When the account of a user was erased.
    fn erased_at(&self, user: &UserId) -> Result<Option<Stamp>, RoomError> {
        let erased = match self.erased.get() {
            Some(erased) => erased,
            None => {
                let erased = self.erasures.at(&self.view)?;
                self.erased.get_or_init(|| erased)
            }
        };
        Ok(erased.get(user).copied())
    }

    /// An event as a user gets it: as it is, or redacted if its sender's account was erased and the user could not
    /// see the event before that as a member of the room (client-server API, `POST /account/deactivate`, `erase`).
    /// `membership` is what the user was to the room at the event, where that is known.
    ///
    /// State other than memberships is served as it is: it says what the room is, and without the content of an
    /// `m.room.encryption` clients would take an encrypted room for one that isn't.
    pub fn copy_for(
        &self,
        user: &UserId,
        event: &StoredEvent,
        membership: Option<&MembershipState>,
    ) -> Result<Arc<Pdu>, RoomError> {
        let sender = event.pdu.sender();
        let is_of_room = event.pdu.state_key().is_some() && *event.pdu.kind() != TimelineEventType::RoomMember;
        if is_of_room || sender == user || membership == Some(&MembershipState::Join) {
            return Ok(event.pdu.clone());
        }
        let Some(erased_at) = self.erased_at(sender)? else { return Ok(event.pdu.clone()) };
        let moment = self.moment(user, event.record.state_after)?;
        if saw(&moment, self.was_member(user, event.order, erased_at)?) {
            return Ok(event.pdu.clone());
        }
        Ok(Arc::new(redaction::redact(&event.pdu, &self.rules).map_err(RoomError::internal)?))
    }
}
