//! The state of a room in which this server has no members yet, and the event with which it gets one.

use super::Work;
use crate::RoomError;
use crate::entering::StateEdit;
use crate::reader::{membership_of, recorded};
use records::state_map::StateRoot;
use records::{EventStatus, LogEntry, MembershipRecord};
use room_core::{Change, Input, Standing};
use rules::CheckedPdu;
use ruma::{OwnedEventId, OwnedUserId};
use std::sync::Arc;

impl Work {
    /// Sets entries of the current state, and brings the member tables in line with them.
    pub fn set_state(&mut self, edits: &[StateEdit]) -> Result<(), RoomError> {
        self.expect_no_members()?;
        self.whole(|work| {
            let entries = edits.iter().map(|((kind, key), num)| (kind.as_str(), key.as_str(), *num));
            work.loaded.head.state = work.loaded.head.state.change(&mut work.changes, entries)?;
            work.loaded.hot.clear();
            work.state_set = true;
            work.listing.note_all();
            // Readers of other rooms' members share one stamp: nobody is told of them.
            let quiet = work.changes.stamp();
            for ((_, key), num) in edits.iter().filter(|((kind, _), _)| kind == "m.room.member") {
                let Ok(user) = OwnedUserId::try_from(key.as_str()) else { continue };
                let is_local = user.server_name() == work.shared.key.server_name();
                let nth = if is_local { work.changes.stamp() } else { quiet };
                match num {
                    Some(num) => {
                        if let Some(pdu) = work.pdu(*num)? {
                            work.member_changed(nth, (*num, &pdu), *num)?;
                        }
                    }
                    None => {
                        if let Some(record) = work.changes.membership(&user, work.num)? {
                            work.member_gone(nth, &user, record.event)?;
                        }
                    }
                }
                if is_local {
                    work.changes.log(nth, &LogEntry::Membership { user, room: work.num });
                }
            }
            Ok(())
        })
    }

    /// Takes in the event with which this server enters the room. It follows nothing that is known: the state before
    /// it is the current one.
    pub fn enter(&mut self, event: CheckedPdu) -> Result<OwnedEventId, RoomError> {
        self.expect_no_members()?;
        let event_id = event.event_id().clone();
        let kept = (self.loaded.room.tips.clone(), self.loaded.tips.clone());
        self.loaded.room.tips.clear();
        self.loaded.tips.clear();
        let before = self.loaded.head.state;
        let entered = self.judge(Input::Given(event), &event_id, before);
        if self.added.is_empty() {
            (self.loaded.room.tips, self.loaded.tips) = kept;
        }
        let event_id = entered?;
        match self.changes.event_num(&event_id)?.map(|num| self.changes.event(num)).transpose()?.flatten() {
            Some(record) if record.status == EventStatus::Accepted => Ok(event_id),
            _ => Err(RoomError::Forbidden("the state of the room does not allow it".to_owned())),
        }
    }

    /// Records what a user of this server is to a room of which nothing is known: an invitation, a knock, or their
    /// end. There is no state to judge it by.
    pub fn out_of_band(
        &mut self,
        event: CheckedPdu,
        stripped_state: Option<String>,
    ) -> Result<OwnedEventId, RoomError> {
        self.expect_no_members()?;
        let pdu = Arc::new(event.into_pdu());
        let event_id = pdu.event_id().clone();
        if self.changes.event_num(&event_id)?.is_some() {
            return Ok(event_id);
        }
        let user = pdu.state_key().and_then(|key| OwnedUserId::try_from(key).ok());
        let Some((user, membership)) = user.zip(recorded(&membership_of(&pdu))) else {
            return Err(RoomError::BadJson("this is not a membership".to_owned()));
        };
        if user.server_name() != self.shared.key.server_name() {
            return Err(RoomError::Forbidden("the user is of another server".to_owned()));
        }
        self.whole(|work| {
            let change = Change {
                pdu: pdu.clone(),
                standing: Standing::Outlier,
                tips: work.loaded.room.tips.clone(),
                sets: None,
                redacts: None,
                awaits: None,
                redacted_by: None,
            };
            let (num, _, record) = work.new_record(&change, StateRoot::EMPTY)?;
            work.changes.put_event_outside(num, &record);
            let old = work.changes.membership(&user, work.num)?;
            let new = MembershipRecord {
                membership,
                event: num,
                sender: pdu.sender().to_owned(),
                stripped_state,
                forgotten: old.as_ref().is_some_and(|old| old.forgotten),
                previous: old.as_ref().map(|old| old.membership),
                entered: None,
            };
            let nth = work.changes.stamp();
            work.put_member(nth, &user, old.as_ref(), &new, num)?;
            work.state_set = true;
            work.changes.log(nth, &LogEntry::Membership { user: user.clone(), room: work.num });
            Ok(())
        })?;
        Ok(event_id)
    }

    fn expect_no_members(&self) -> Result<(), RoomError> {
        match self.changes.joined_of_server(self.num, self.shared.key.server_name())? {
            0 => Ok(()),
            _ => Err(RoomError::Outdated),
        }
    }
}
