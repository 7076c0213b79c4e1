//! A room that the user has left, or was put out of.

use super::account_data::AccountData;
use super::event::says_join;
use super::state::Scope;
use super::timeline::{Seen, Sight};
use super::{Candidate, Context};
use crate::SyncError;
use crate::json::push_events;
use base::Order;
use rooms::{RoomReader, StoredEvent};
use ruma::events::room::member::MembershipState;
use std::sync::Arc;
use sync_core::Window;

/// How many membership events of the user are followed back to find where they were a member. Between leaving
/// and being banned for good there are few.
const STEPS_MAX: usize = 16;

impl Context<'_> {
    /// What is told of a room that the user is not in any more; none if the client need not know.
    pub(super) fn left(
        &self,
        reader: &RoomReader,
        candidate: &Candidate,
        account_data: &AccountData,
    ) -> Result<Option<String>, SyncError> {
        let since = match self.since_stamp() {
            // A client that showed the room, or an invitation to it, is told that it is gone, even if the user
            // has forgotten the room in the meantime.
            Some(since) => self.was_joined(reader, candidate, since)?.then_some(since),
            None if !self.filter.include_leave || candidate.record.forgotten => return Ok(None),
            None => None,
        };
        let Some(last) = reader.event(candidate.record.event)? else { return Ok(None) };
        let mut out = String::from("{");
        let known_gone = |departure: &Order| self.since_stamp().is_some_and(|since| *departure <= since.into());
        let (window, state) = match departure(reader, &last)?.filter(|departure| !known_gone(departure)) {
            Some(departure) => {
                let sight = Sight::VisibleAnd(last.num);
                let window = self.window(reader, since, candidate.at.into(), sight)?;
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
        let state = state.iter().map(|event| self.event(reader, event, None)).collect::<Result<Vec<_>, _>>()?;
        let name = if self.request.use_state_after { "state_after" } else { "state" };
        push_events(&mut out, name, state.iter().map(String::as_str));
        let account_data = self.room_account_data(account_data, reader.room_id(), since.is_none())?;
        push_events(&mut out, "account_data", account_data.iter().map(String::as_str));
        out.push('}');
        Ok(Some(out))
    }
}

fn only(last: Arc<StoredEvent>) -> Window<Seen> {
    let start = Order(last.order.0.saturating_sub(1));
    let events = vec![Seen { event: last, membership: MembershipState::Leave }];
    Window { events, start, limited: false, skipped: false }
}

/// Where the user stopped being a member: what came later in the room is not for them. None if they never were
/// one.
fn departure(reader: &RoomReader, last: &Arc<StoredEvent>) -> Result<Option<Order>, SyncError> {
    let mut event = last.clone();
    for _ in 0..STEPS_MAX {
        let Some(before) = event.record.replaces.map(|num| reader.event(num)).transpose()?.flatten() else { break };
        if says_join(&before.pdu) {
            return Ok(Some(event.order));
        }
        event = before;
    }
    Ok(None)
}
