//! What becomes of a room whose history parts: the state that several make, and who its members are by it.

use super::Work;
use crate::RoomError;
use crate::reader::{kind_text, membership_of, recorded};
use base::EventNum;
use records::state_map::StateRoot;
use records::{Membership, MembershipRecord};
use rules::{Pdu, StateMap};
use ruma::events::StateEventType;
use ruma::{EventId, OwnedUserId, UserId};
use std::collections::VecDeque;

/// How many resolutions a room remembers. A fork makes one with each state that it goes through.
const RESOLVED_MAX: usize = 8;

/// What states made of each other lately: the events of a fork mostly leave the states of its tips as they are,
/// and to resolve them takes reading them whole.
#[derive(Clone, Debug, Default)]
pub(super) struct Resolved(VecDeque<(Vec<StateRoot>, StateRoot)>);

impl Resolved {
    fn get(&self, states: &[StateRoot]) -> Option<StateRoot> {
        self.0.iter().find(|(of, _)| of == states).map(|(_, resolved)| *resolved)
    }

    fn put(&mut self, states: Vec<StateRoot>, resolved: StateRoot) {
        self.0.truncate(RESOLVED_MAX - 1);
        self.0.push_front((states, resolved));
    }
}

impl Work {
    /// The state that results from several, which is one of them if they don't contradict each other.
    pub(super) fn resolve(&mut self, mut states: Vec<StateRoot>) -> Result<StateRoot, RoomError> {
        states.sort_unstable();
        states.dedup();
        let [base, _, ..] = *states else { return Ok(states.first().copied().unwrap_or_default()) };
        if let Some(resolved) = self.loaded.resolved.get(&states) {
            return Ok(resolved);
        }
        let mut maps = Vec::with_capacity(states.len());
        for state in &states {
            let mut map = StateMap::new();
            for entry in state.entries(&self.changes) {
                let entry = entry?;
                if let Some(record) = self.changes.event(entry.event)? {
                    map.insert((StateEventType::from(entry.kind), entry.state_key), record.event_id);
                }
            }
            maps.push(map);
        }
        let fetch = |id: &EventId| {
            let num = self.changes.event_num(id).ok().flatten()?;
            self.pdu(num).ok().flatten()
        };
        let resolved = rules::resolve(&self.loaded.room.rules, &maps, fetch).map_err(RoomError::internal)?;
        let first = maps.swap_remove(0);
        let mut edits = Vec::new();
        for (key, event_id) in resolved.iter().filter(|(key, event_id)| first.get(*key) != Some(*event_id)) {
            edits.push((kind_text(&key.0), key.1.clone(), self.changes.event_num(event_id)?));
        }
        let gone = first.keys().filter(|key| !resolved.contains_key(*key));
        edits.extend(gone.map(|key| (kind_text(&key.0), key.1.clone(), None)));
        let edits = edits.iter().map(|(kind, key, num)| (kind.as_str(), key.as_str(), *num));
        let resolved = base.change(&mut self.changes, edits)?;
        self.loaded.resolved.put(states, resolved);
        Ok(resolved)
    }

    /// Brings the member tables in line with a membership event that took effect with the event `by` of the
    /// timeline.
    pub(super) fn member_changed(
        &mut self,
        nth: u16,
        (num, pdu): (EventNum, &Pdu),
        by: EventNum,
    ) -> Result<Option<OwnedUserId>, RoomError> {
        let Some(user) = pdu.state_key().and_then(|key| OwnedUserId::try_from(key).ok()) else { return Ok(None) };
        let Some(membership) = recorded(&membership_of(pdu)) else { return Ok(None) };
        let record = self.changes.membership(&user, self.num)?;
        // Only who joins again gets back what they had forgotten.
        let forgotten = membership != Membership::Join && record.as_ref().is_some_and(|record| record.forgotten);
        let stripped_state = match membership {
            // Users of other servers are shown it by their own.
            Membership::Invite | Membership::Knock if user.server_name() == self.shared.key.server_name() => {
                Some(self.stripped_state(pdu)?)
            }
            _ => None,
        };
        let entered = match &record {
            Some(record) if record.membership == Membership::Join => record.entered,
            _ => Some(by),
        };
        let new = MembershipRecord {
            membership,
            event: num,
            sender: pdu.sender().to_owned(),
            stripped_state,
            forgotten,
            previous: record.as_ref().map(|record| record.membership),
            entered: entered.filter(|_| membership == Membership::Join),
        };
        self.put_member(nth, &user, record.as_ref(), &new, by)?;
        Ok(Some(user))
    }

    /// Brings the member tables in line with a state that has no membership of a user any more, since the event
    /// `by` of the timeline: they are out of the room.
    pub(crate) fn member_gone(&mut self, nth: u16, user: &UserId, by: EventNum) -> Result<(), RoomError> {
        let Some(record) = self.changes.membership(user, self.num)? else { return Ok(()) };
        let new = MembershipRecord {
            membership: Membership::Leave,
            stripped_state: None,
            previous: Some(record.membership),
            entered: None,
            ..record.clone()
        };
        self.put_member(nth, user, Some(&record), &new, by)
    }

    pub(super) fn put_member(
        &mut self,
        nth: u16,
        user: &UserId,
        old: Option<&MembershipRecord>,
        new: &MembershipRecord,
        by: EventNum,
    ) -> Result<(), RoomError> {
        if let Some(old) = old.filter(|old| old.membership == Membership::Join && new.membership != Membership::Join) {
            self.changes.put_stay(nth, self.num, user, old.entered.unwrap_or(old.event), by);
        }
        let joined = |record: &MembershipRecord| record.membership == Membership::Join;
        if old.is_some_and(joined) != joined(new) {
            self.changes.count_server(self.num, user.server_name(), joined(new))?;
        }
        self.changes.put_membership(nth, user, self.num, new)?;
        self.count(new.previous, Some(new.membership));
        Ok(())
    }

    /// Keeps the room's counts of members.
    fn count(&mut self, previous: Option<Membership>, now: Option<Membership>) {
        let head = &mut self.loaded.head;
        for (count, counted) in [(&mut head.joined, Membership::Join), (&mut head.invited, Membership::Invite)] {
            *count = count.saturating_sub(u64::from(previous == Some(counted)));
            *count += u64::from(now == Some(counted));
        }
    }
}
