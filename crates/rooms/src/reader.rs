//! A room as its readers see it: at one view of the store, without entering the room's queue.

mod stays;

pub use stays::Departure;

use crate::bundle::Bundle;
use crate::delayed::DELAYED;
use crate::erasures::Erasures;
use crate::event::Events;
use crate::{Ignored, Retention, RoomError, StoredEvent};
use base::{EventNum, Order, RoomNum, Stamp, UnixMillis};
use records::state_map::StateRoot;
use records::{EventStatus, Membership, MembershipRecord, RoomHead, View};
use rules::client_event::{Format, client_event, with_unsigned};
use rules::visibility::{HistoryVisibility, Later, Moment, may_see, may_see_change};
use rules::{Pdu, PowerLevels};
use ruma::events::StateEventType;
use ruma::events::room::member::MembershipState;
use ruma::room_version_rules::RoomVersionRules;
use ruma::{DeviceId, EventId, OwnedUserId, RoomId, UserId};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use store::Direction;

/// The state that those outside of a room get to see with an invitation or a knock (client-server API,
/// "Stripped state").
pub(crate) const STRIPPED_TYPES: [&str; 8] = [
    "m.room.create",
    "m.room.name",
    "m.room.avatar",
    "m.room.topic",
    "m.room.join_rules",
    "m.room.canonical_alias",
    "m.room.encryption",
    "m.room.history_visibility",
];

/// For whom an event is put into words.
#[derive(Clone, Copy, Debug)]
pub struct Recipient<'a> {
    /// The user.
    pub user_id: &'a UserId,
    /// Their device: it alone sees the transaction id of what it sent.
    pub device_id: Option<&'a DeviceId>,
    /// The time, for `age`.
    pub now: UnixMillis,
}

/// A room at a view.
pub struct RoomReader {
    pub(crate) events: Arc<Events>,
    pub(crate) erasures: Arc<Erasures>,
    /// The erased accounts, once an event asks for them.
    pub(crate) erased: OnceLock<Arc<records::Erasures>>,
    pub(crate) view: View,
    pub(crate) num: RoomNum,
    pub(crate) head: RoomHead,
    pub(crate) rules: RoomVersionRules,
    /// Whom a user ignores, and that user.
    pub(crate) ignored: OnceLock<(OwnedUserId, Arc<Ignored>)>,
    /// How long what is said is kept, if it is not for ever, and the time.
    pub(crate) retention: Option<(Retention, UnixMillis)>,
    /// Before when what was said is not kept any more, once an event asks for it.
    pub(crate) expired_before: OnceLock<Option<UnixMillis>>,
}

impl RoomReader {
    /// The room's number.
    #[must_use]
    pub fn num(&self) -> RoomNum {
        self.num
    }

    /// The room's head.
    #[must_use]
    pub fn head(&self) -> &RoomHead {
        &self.head
    }

    /// The room's id.
    #[must_use]
    pub fn room_id(&self) -> &RoomId {
        &self.head.room_id
    }

    /// What the room's version demands.
    #[must_use]
    pub fn rules(&self) -> &RoomVersionRules {
        &self.rules
    }

    /// The view.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.view
    }

    /// The current state.
    #[must_use]
    pub fn state(&self) -> StateRoot {
        self.head.state
    }

    /// An event by number.
    pub fn event(&self, num: EventNum) -> Result<Option<Arc<StoredEvent>>, RoomError> {
        self.events.get_one(&self.view, &self.rules, num)
    }

    /// Events by number, in their order; those that don't exist are left out.
    pub fn events(&self, nums: &[EventNum]) -> Result<Vec<Arc<StoredEvent>>, RoomError> {
        self.events.get(&self.view, &self.rules, nums)
    }

    /// An event of this room that clients may know of: neither rejected nor soft-failed nor an outlier.
    pub fn event_by_id(&self, event_id: &EventId) -> Result<Option<Arc<StoredEvent>>, RoomError> {
        let Some(num) = self.view.event_num(event_id)? else { return Ok(None) };
        // The room is looked at before the event is parsed: another room's version may not fit.
        let Some((_, record)) = self.view.event(num)? else { return Ok(None) };
        if record.room != self.num || record.status != EventStatus::Accepted {
            return Ok(None);
        }
        self.event(num)
    }

    /// The event at an entry of a state of this room.
    pub fn state_event(
        &self,
        state: StateRoot,
        kind: &str,
        state_key: &str,
    ) -> Result<Option<Arc<StoredEvent>>, RoomError> {
        match state.get(&self.view, kind, state_key)? {
            Some(num) => self.event(num),
            None => Ok(None),
        }
    }

    /// All of a state.
    pub fn state_events(&self, state: StateRoot) -> Result<Vec<Arc<StoredEvent>>, RoomError> {
        let nums: Vec<_> =
            state.entries(&self.view).map(|entry| entry.map(|entry| entry.event)).collect::<Result<_, _>>()?;
        self.events(&nums)
    }

    /// The events of one type in a state, in the order of their state keys.
    pub fn state_events_of(&self, state: StateRoot, kind: &str) -> Result<Vec<Arc<StoredEvent>>, RoomError> {
        let nums: Vec<_> = state
            .entries_of(&self.view, kind, None)
            .map(|entry| entry.map(|entry| entry.event))
            .collect::<Result<_, _>>()?;
        self.events(&nums)
    }

    /// What a state has that another one has not, or has otherwise.
    pub fn state_diff(&self, from: StateRoot, to: StateRoot) -> Result<Vec<Arc<StoredEvent>>, RoomError> {
        let mut nums = Vec::new();
        for difference in from.diff(&self.view, to) {
            nums.extend(difference?.after);
        }
        self.events(&nums)
    }

    /// The events after `after` and up to `up_to`, from the end that `direction` starts with, at most
    /// `events_max`.
    pub fn timeline(
        &self,
        after: Order,
        up_to: Order,
        direction: Direction,
        events_max: usize,
    ) -> Result<Vec<Arc<StoredEvent>>, RoomError> {
        let entries = self.view.timeline(self.num, after, up_to, direction, events_max)?;
        let nums: Vec<_> = entries.iter().map(|entry| entry.event).collect();
        self.events(&nums)
    }

    /// What the current state was when the last event up to `order` had come; empty before the first.
    pub fn state_at(&self, order: Order) -> Result<StateRoot, RoomError> {
        let Some(entry) = self.view.timeline_last(self.num, order)? else { return Ok(StateRoot::EMPTY) };
        Ok(self.event(entry.event)?.map_or(StateRoot::EMPTY, |event| event.record.current()))
    }

    /// What a user is to the room, and since when.
    pub fn membership(&self, user: &UserId) -> Result<Option<(Stamp, MembershipRecord)>, RoomError> {
        Ok(self.view.membership(user, self.num)?)
    }

    /// Whether a user is joined.
    pub fn is_joined(&self, user: &UserId) -> Result<bool, RoomError> {
        Ok(self.membership(user)?.is_some_and(|(_, record)| record.membership == Membership::Join))
    }

    /// The power levels by the current state.
    pub fn power_levels(&self) -> Result<PowerLevels, RoomError> {
        let [create, levels] =
            PowerLevels::state_needed().map(|(kind, key)| self.state_event(self.head.state, &kind.to_string(), &key));
        let (create, levels) = (create?, levels?);
        Ok(PowerLevels::new(
            &self.rules,
            create.as_ref().map(|event| &*event.pdu),
            levels.as_ref().map(|event| &*event.pdu),
        ))
    }

    /// The members and the visibility of history as a state has them.
    fn moment(&self, user: &UserId, state: StateRoot) -> Result<Moment, RoomError> {
        let keys = [("m.room.history_visibility", ""), ("m.room.member", user.as_str())];
        let found = state.get_many(&self.view, &keys)?;
        let read = |num: Option<Option<EventNum>>| num.flatten().map(|num| self.event(num)).transpose();
        let mut found = found.into_iter();
        let (visibility, member) = (read(found.next())?.flatten(), read(found.next())?.flatten());
        Ok(Moment {
            visibility: HistoryVisibility::of_content(visibility.as_ref().map(|event| event.pdu.content())),
            membership: member.map_or(MembershipState::Leave, |event| membership_of(&event.pdu)),
        })
    }

    /// Which of these events a user may see (client-server API, "Room history visibility"), and what the
    /// user was to the room at each. `None`: the event is not for them, or is older than the room keeps what is said.
    pub fn visible(
        &self,
        user: &UserId,
        events: &[Arc<StoredEvent>],
    ) -> Result<Vec<Option<MembershipState>>, RoomError> {
        let mut visible = self.visible_to(user, events)?;
        if let Some(before) = self.expired_before()? {
            for (sees, _) in visible.iter_mut().zip(events).filter(|(_, event)| event.is_expired(before)) {
                *sees = None;
            }
        }
        Ok(visible)
    }

    fn visible_to(
        &self,
        user: &UserId,
        events: &[Arc<StoredEvent>],
    ) -> Result<Vec<Option<MembershipState>>, RoomError> {
        let current = self.membership(user)?;
        if let Some((since, record)) = &current
            && record.membership == Membership::Join
            && events.iter().all(|event| event.order >= Order::from(*since))
        {
            // A member since before the first of them sees them all, whatever the visibility.
            return Ok(vec![Some(MembershipState::Join); events.len()]);
        }
        let member_until = self.member_until(user)?;
        let mut moments: HashMap<StateRoot, Moment> = HashMap::new();
        let mut moment = |state: StateRoot| -> Result<Moment, RoomError> {
            if let Some(moment) = moments.get(&state) {
                return Ok(moment.clone());
            }
            let moment = self.moment(user, state)?;
            moments.insert(state, moment.clone());
            Ok(moment)
        };
        let mut visible = Vec::with_capacity(events.len());
        for event in events {
            let later = match member_until {
                Some(until) if until > event.order => Later::Joined,
                _ => Later::NeverJoined,
            };
            let after = moment(event.record.state_after)?;
            let changes = matches!(event.pdu.kind().to_string().as_str(), "m.room.history_visibility")
                || event.pdu.state_key() == Some(user.as_str());
            let sees = if changes && event.record.state_before != event.record.state_after {
                may_see_change(&moment(event.record.state_before)?, &after, later)
            } else {
                may_see(&after, later)
            };
            visible.push(sees.then_some(after.membership));
        }
        Ok(visible)
    }

    /// Whether somebody who is not a member may see the room as it is now.
    pub fn is_world_readable(&self) -> Result<bool, RoomError> {
        let event = self.state_event(self.head.state, "m.room.history_visibility", "")?;
        let visibility = HistoryVisibility::of_content(event.as_ref().map(|event| event.pdu.content()));
        Ok(visibility == HistoryVisibility::WorldReadable)
    }

    /// An event in the client's format, with the `unsigned` that this recipient gets: what relates to the event
    /// is bundled with it (client-server API, "Aggregations of child events"). `membership` is what they were to
    /// the room at the event, as [`RoomReader::visible`] says.
    pub fn client_event(
        &self,
        event: &StoredEvent,
        recipient: Recipient<'_>,
        membership: Option<&MembershipState>,
        format: Format,
    ) -> Result<Box<RawValue>, RoomError> {
        self.worded(event, recipient, membership, format, Bundle::All)
    }

    /// As [`RoomReader::client_event`], but nothing is bundled: for those who have seen all that came after the
    /// event, or get it together with the event.
    pub fn client_event_alone(
        &self,
        event: &StoredEvent,
        recipient: Recipient<'_>,
        membership: Option<&MembershipState>,
        format: Format,
    ) -> Result<Box<RawValue>, RoomError> {
        self.worded(event, recipient, membership, format, Bundle::Nothing)
    }

    pub(crate) fn worded(
        &self,
        event: &StoredEvent,
        recipient: Recipient<'_>,
        membership: Option<&MembershipState>,
        format: Format,
        bundle: Bundle,
    ) -> Result<Box<RawValue>, RoomError> {
        let relations = self.bundled(event, recipient, format, bundle)?;
        let unsigned = self.unsigned(event, recipient, membership, relations.as_deref())?;
        let pdu = self.copy_for(recipient.user_id, event, membership)?;
        let text = with_unsigned(client_event(&pdu, format), &unsigned);
        RawValue::from_string(text).map_err(RoomError::internal)
    }

    fn unsigned(
        &self,
        event: &StoredEvent,
        recipient: Recipient<'_>,
        membership: Option<&MembershipState>,
        relations: Option<&RawValue>,
    ) -> Result<String, RoomError> {
        #[derive(serde::Serialize)]
        struct Unsigned<'a> {
            age: u64,
            #[serde(skip_serializing_if = "Option::is_none")]
            membership: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            prev_content: Option<&'a RawValue>,
            #[serde(skip_serializing_if = "Option::is_none")]
            prev_sender: Option<&'a UserId>,
            #[serde(skip_serializing_if = "Option::is_none")]
            replaces_state: Option<&'a EventId>,
            #[serde(skip_serializing_if = "Option::is_none")]
            redacted_because: Option<&'a RawValue>,
            #[serde(skip_serializing_if = "Option::is_none")]
            transaction_id: Option<&'a str>,
            #[serde(rename = "org.matrix.msc4140.delay_id", skip_serializing_if = "Option::is_none")]
            delay_id: Option<&'a str>,
            #[serde(rename = "m.relations", skip_serializing_if = "Option::is_none")]
            relations: Option<&'a RawValue>,
        }

        let replaced = event.record.replaces.map(|num| self.event(num)).transpose()?.flatten();
        let copy = |replaced: Arc<StoredEvent>| self.copy_for(recipient.user_id, &replaced, None);
        let replaced = replaced.map(copy).transpose()?;
        let redaction = event.record.redacted_by.map(|num| self.event(num)).transpose()?.flatten();
        // A redaction is not redacted within what it redacts: that could go on without end.
        let because = redaction.map(|redaction| client_event(&redaction.pdu, Format::WithRoomId));
        let because = because.map(RawValue::from_string).transpose().map_err(RoomError::internal)?;
        let sent_by = event.record.sent_by.as_ref().filter(|_| event.pdu.sender() == recipient.user_id);
        let delayed = sent_by.filter(|sent_by| sent_by.device_id == DELAYED);
        let sent_by = sent_by.filter(|sent_by| {
            sent_by.device_id != DELAYED
                && recipient.device_id.is_some_and(|device| device.as_str() == sent_by.device_id)
        });
        let unsigned = Unsigned {
            age: recipient.now.0.saturating_sub(event.pdu.origin_server_ts().0.into()),
            membership: membership.map(MembershipState::as_str),
            prev_content: replaced.as_ref().map(|replaced| replaced.content()),
            prev_sender: replaced.as_ref().map(|replaced| replaced.sender()),
            replaces_state: replaced.as_ref().map(|replaced| (**replaced.event_id()).as_ref()),
            redacted_because: because.as_deref(),
            transaction_id: sent_by.map(|sent_by| sent_by.txn_id.as_str()),
            delay_id: delayed.map(|sent_by| sent_by.txn_id.as_str()),
            relations,
        };
        serde_json::to_string(&unsigned).map_err(RoomError::internal)
    }
}

/// What a membership event says; leaving is what remains if it says nothing that is known.
pub(crate) fn membership_of(pdu: &Pdu) -> MembershipState {
    membership_in(pdu.content())
}

/// What the content of a membership event says.
pub(crate) fn membership_in(content: &RawValue) -> MembershipState {
    #[derive(Deserialize)]
    struct Content {
        membership: MembershipState,
    }
    serde_json::from_str::<Content>(content.get()).map_or(MembershipState::Leave, |content| content.membership)
}

/// The membership that records know, if the event says one that there is.
pub(crate) fn recorded(state: &MembershipState) -> Option<Membership> {
    match state {
        MembershipState::Join => Some(Membership::Join),
        MembershipState::Invite => Some(Membership::Invite),
        MembershipState::Knock => Some(Membership::Knock),
        MembershipState::Leave => Some(Membership::Leave),
        MembershipState::Ban => Some(Membership::Ban),
        _ => None,
    }
}

/// The string of an event type of a state.
pub(crate) fn kind_text(kind: &StateEventType) -> String {
    kind.to_string()
}
