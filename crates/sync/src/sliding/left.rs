//! A room that the user has left, or was put out of.

use super::SlidingForm;
use super::answer::Look;
use super::required::differences;
use super::room::{Place, RoomResult, Scope, remember_timeline, text_of_state};
use crate::SyncError;
use crate::assemble::{Seen, Sight};
use base::{Order, Stamp};
use rooms::{RoomReader, StoredEvent};
use rules::client_event::stripped_state;
use ruma::UserId;
use ruma::events::room::member::MembershipState;
use std::sync::Arc;
use sync_core::Window;
use sync_core::sliding::Sent;

impl<'a> Look<'a> {
    /// What is told of a room that the user is not in any more; none if it is not for them.
    pub fn left(
        &self,
        reader: &RoomReader,
        place: &Place<'_, 'a>,
        sent: &mut Sent,
    ) -> Result<Option<RoomResult>, SyncError> {
        let Some(last) = reader.event(place.record.event)? else { return Ok(None) };
        if place.known.is_some_and(|known| last.order <= known.into()) {
            // What happens there is not for them.
            return Ok(Some(RoomResult::default()));
        }
        let is_new = |departure: &Order| place.known.is_none_or(|known| *departure > Order::from(known));
        let mut told = RoomResult {
            bump_stamp: Some(Stamp(u64::try_from(last.order.0).unwrap_or_default())),
            membership: Some(place.record.membership),
            is_initial: place.known.is_none(),
            ..RoomResult::default()
        };
        let departure = departure(reader, &self.request.user_id)?;
        let Some(departure) = departure.filter(is_new) else {
            // Not a member since the client last knew of it: an invitation or a knock has come to nothing, or they
            // were banned.
            if place.known.is_none() && departure.is_none() && place.record.membership == records::Membership::Ban {
                return Ok(None);
            }
            self.tell_ending(&mut told, last);
            return Ok(Some(told));
        };
        let known = match place.known {
            Some(known) if self.was_joined(reader, place, known)? => Some(known),
            _ => None,
        };
        told.is_initial = known.is_none();
        let window = self.context.window(reader, known, last.order, Sight::VisibleAnd(last.num))?;
        remember_timeline(sent, Some(&window), place.combined.limit, told.is_initial);
        let at = reader.state_at(departure)?;
        let changes = match known {
            Some(known) => differences(reader, reader.state_at(known.into())?, at)?,
            None => Vec::new(),
        };
        let scope = Scope { at, changes: &changes, window: Some(&window), is_initial: told.is_initial };
        (told.required, told.removed) = self.required(reader, place, &scope, sent)?;
        if told.is_initial {
            told.texts.push(("name", text_of_state(reader, at, "m.room.name", "name")?));
            told.texts.push(("avatar", text_of_state(reader, at, "m.room.avatar", "url")?));
        }
        told.window = Some(window);
        Ok(Some(told))
    }

    /// Tells only the event that ended something. The accepted form knows no timeline of rooms that the user was
    /// not in.
    fn tell_ending(&self, told: &mut RoomResult, last: Arc<StoredEvent>) {
        match self.request.form {
            SlidingForm::Stable => {
                let event = stripped_state(&last.pdu).unwrap_or_default();
                told.stripped = Some(format!("[{event}]"));
            }
            SlidingForm::Unstable => {
                told.required = vec![last.clone()];
                let start = Order(last.order.0.saturating_sub(1));
                let events = vec![Seen { event: last, membership: MembershipState::Leave }];
                told.window = Some(Window { events, start, limited: false, skipped: false });
            }
        }
    }
}

/// Where a user stopped being a member: what came later in the room is not for them. None if they never were one.
pub fn departure(reader: &RoomReader, user: &UserId) -> Result<Option<Order>, SyncError> {
    Ok(reader.departure(user)?.map(|departure| departure.at))
}
