//! A room that the user has left, or was put out of.

use super::account_data::AccountData;
use super::state::Scope;
use super::timeline::{Seen, Sight};
use super::{Candidate, Context};
use crate::SyncError;
use crate::json::push_events;
use base::Order;
use records::Membership;
use rooms::{RoomReader, StoredEvent};
use ruma::events::room::member::MembershipState;
use std::sync::Arc;
use sync_core::Window;

impl Context<'_> {
    /// Whether a room that the user is not in is told because the client wants those that were left long ago: all
    /// of it, as it was when they left.
    pub(super) fn is_archived(&self, candidate: &Candidate) -> bool {
        let is_asked = match self.since_stamp() {
            None => true,
            Some(since) => self.request.full_state && candidate.at <= since,
        };
        let is_gone = matches!(candidate.record.membership, Membership::Leave | Membership::Ban);
        is_asked && is_gone && self.filter.include_leave && !candidate.record.forgotten
    }

    /// What is told of a room that the user is not in any more; none if the client need not know.
    pub(super) fn left(
        &self,
        reader: &RoomReader,
        candidate: &Candidate,
        account_data: &AccountData,
    ) -> Result<Option<String>, SyncError> {
        let is_archived = self.is_archived(candidate);
        let since = match self.since_stamp() {
            since if is_archived => since,
            // A client that showed the room, or an invitation to it, is told that it is gone, even if the user
            // has forgotten the room in the meantime.
            Some(since) => self.was_joined(reader, candidate, since)?.then_some(since),
            None => return Ok(None),
        };
        let Some(last) = reader.event(candidate.record.event)? else { return Ok(None) };
        let is_forgotten = candidate.record.forgotten;
        if is_forgotten && self.since_stamp().is_some_and(|since| last.order <= since.into()) {
            // All that is new is that they have forgotten it.
            return Ok(None);
        }
        let mut out = String::from("{");
        let known_gone =
            |departure: &Order| !is_archived && self.since_stamp().is_some_and(|since| *departure <= since.into());
        let (window, state) = match self.departure(reader)?.filter(|departure| !known_gone(departure)) {
            Some(departure) => {
                let sight = Sight::VisibleAnd(last.num);
                let end = if is_forgotten { last.order } else { candidate.at.into() };
                let window = self.window(reader, since, end, sight)?;
                let window = self.without_contradictions(reader, window, departure)?;
                let known = since.filter(|_| !self.request.full_state);
                let state = self.state(reader, &window, &Scope { known, end: departure, heroes: &[] })?;
                (window, state)
            }
            // Not a member since the client last looked: what they get to know is that an invitation or a knock
            // has come to nothing, or that they were banned.
            None => (only(last), Vec::new()),
        };
        self.push_timeline(&mut out, reader, &window)?;
        let state = self.state_events(reader, &state)?;
        push_events(&mut out, self.request.state.name(), state.iter().map(String::as_str));
        let account_data = self.room_account_data(account_data, reader.room_id(), since.is_none())?;
        push_events(&mut out, "account_data", account_data.iter().map(String::as_str));
        out.push('}');
        Ok(Some(out))
    }

    /// Where the user stopped being a member: what came later in the room is not for them. None if they never were
    /// one.
    fn departure(&self, reader: &RoomReader) -> Result<Option<Order>, SyncError> {
        Ok(reader.departure(self.user())?.map(|departure| departure.at))
    }
}

fn only(last: Arc<StoredEvent>) -> Window<Seen> {
    let start = Order(last.order.0.saturating_sub(1));
    let events = vec![Seen { event: last, membership: MembershipState::Leave }];
    Window { events, start, limited: false, skipped: false }
}
