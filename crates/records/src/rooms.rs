//! Rooms: their heads, events, timelines, members, aliases, and the transaction ids of what was sent.

use crate::codec::{self, RecordsError};
use crate::state_map::{NewNodes, Nodes, StateRoot};
use crate::tables::{
    ALIAS, EVENT, EVENT_BY_ID, MEMBERSHIP, ROOM_ALIAS, ROOM_BY_ID, ROOM_HEAD, ROOM_LAST, ROOM_MEMBER, STATE_NODE,
    TIMELINE, TXN, TXN_BY_TIME,
};
use crate::{Changes, View};
use base::{EventNum, NodeNum, Order, RoomNum, Stamp, UnixMillis};
use ruma::{
    EventId, OwnedEventId, OwnedRoomAliasId, OwnedRoomId, OwnedUserId, RoomAliasId, RoomId, RoomVersionId, UserId,
};
use serde::{Deserialize, Serialize};
use store::key::{KeyBuilder, KeyReader};
use store::{Direction, Hole, Stamped};

/// A room as its last accepted event left it. Every change of a room expects the head that it was
/// decided on, so that of two writers one is told of the conflict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomHead {
    /// The room.
    pub room_id: OwnedRoomId,
    /// Its version.
    pub version: RoomVersionId,
    /// The forward extremities: events that no other event follows yet.
    pub extremities: Vec<EventNum>,
    /// The greatest depth of the extremities.
    pub depth: u64,
    /// The current state.
    pub state: StateRoot,
    /// How many members have joined.
    pub joined: u64,
    /// How many members are invited.
    pub invited: u64,
    /// The last order given to a backfilled event; they count down.
    pub backfilled_to: Order,
    /// Counts the changes of the room, so that no two heads are alike.
    pub generation: u64,
    /// Counts the changes of what relates to what: 0 as long as nothing does. What was found not to be related to
    /// stays so as long as this number does.
    pub relations: u64,
}

/// What the room made of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventStatus {
    /// It is in the timeline.
    Accepted,
    /// It is allowed where it was sent, but not by the current state: kept, not shown.
    SoftFailed,
    /// It is not allowed. Kept, so that what refers to it is not allowed either.
    Rejected,
    /// It is known only because others refer to it.
    Outlier,
}

/// Which device sent an event, and under which transaction id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentBy {
    /// The device, as the session that sent it is known.
    pub device_id: String,
    /// The transaction id of `PUT …/send/…`.
    pub txn_id: String,
}

/// An event and what the room knows of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventRecord {
    /// The room that it is in.
    pub room: RoomNum,
    /// The event's own id.
    pub event_id: OwnedEventId,
    /// What the room made of it.
    pub status: EventStatus,
    /// The state before the event; empty if it is not known (outliers).
    pub state_before: StateRoot,
    /// The state after the event.
    pub state_after: StateRoot,
    /// The current state of the room once the event was in it, where history has parted: where the event did not
    /// follow all that the room had, so that the current state is another than the one after the event, or was
    /// another than the one before it.
    pub resolved: Option<StateRoot>,
    /// The state event that it replaced, if it is a state event that took effect.
    pub replaces: Option<EventNum>,
    /// The redaction that took effect on it.
    pub redacted_by: Option<EventNum>,
    /// Who sent it, for the sender's own devices.
    pub sent_by: Option<SentBy>,
    /// The event in the format of its room version, without `unsigned`; redacted if it was.
    pub json: String,
}

impl EventRecord {
    /// The current state of the room once the event was in it.
    #[must_use]
    pub fn current(&self) -> StateRoot {
        self.resolved.unwrap_or(self.state_after)
    }
}

/// An event's place in a timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimelineEntry {
    /// The place.
    pub order: Order,
    /// The event.
    pub event: EventNum,
    /// What its place alone tells of it.
    pub glance: Glance,
}

/// What is told of an event by its place in the timeline, so that much can be counted without reading it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Glance {
    /// What it means to those who read it, as a number that `rooms` gives.
    pub digest: u8,
    /// A hash of its sender.
    pub sender: u32,
}

/// A membership, as [`MembershipRecord`] and the member index tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Membership {
    /// In the room.
    Join,
    /// Invited to it.
    Invite,
    /// Knocked on it.
    Knock,
    /// Left, or was kicked, or rejected an invitation.
    Leave,
    /// Banned.
    Ban,
}

impl Membership {
    fn byte(self) -> u8 {
        match self {
            Self::Join => 1,
            Self::Invite => 2,
            Self::Knock => 3,
            Self::Leave => 4,
            Self::Ban => 5,
        }
    }
}

/// What a user is to a room, by the room's current state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MembershipRecord {
    /// The membership.
    pub membership: Membership,
    /// The membership event. If the user is out of the room because its state was resolved and has none of theirs
    /// any more, the last that it had.
    pub event: EventNum,
    /// Who sent it: another user than the member for invitations, kicks and bans.
    pub sender: OwnedUserId,
    /// The state that the room shows to an invited or knocking user, as JSON of stripped events.
    pub stripped_state: Option<String>,
    /// The user forgot the room, after leaving it.
    pub forgotten: bool,
    /// The membership before, if the user had one.
    pub previous: Option<Membership>,
    /// While they are in the room: the event of the timeline with which they came to be.
    pub entered: Option<EventNum>,
}

/// An alias of a room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AliasRecord {
    /// The room that it names.
    pub room_id: OwnedRoomId,
    /// Who made it.
    pub creator: OwnedUserId,
}

/// What a transaction id is unique in: one device of one user, one kind of request.
#[derive(Clone, Copy, Debug)]
pub struct TxnScope<'a> {
    /// The user.
    pub user: &'a UserId,
    /// The session; appservices have one of their own.
    pub device_id: &'a str,
    /// The endpoint and its path parameters, such as `send/!room/m.room.message`.
    pub endpoint: &'a str,
}

pub(crate) fn txn_key(scope: TxnScope<'_>, txn_id: &str) -> Vec<u8> {
    TXN.key().text(scope.user.as_str()).text(scope.device_id).text(scope.endpoint).text(txn_id).build()
}

pub(crate) fn event_key(event: EventNum) -> Vec<u8> {
    EVENT.key().number(event.0).build()
}

pub(crate) fn head_key(room: RoomNum) -> Vec<u8> {
    ROOM_HEAD.key().number(room.0).build()
}

/// What comes before the order in the key of a backfilled event and of a live one. It lets the commit write
/// the stamp of a live event as it is, and still sorts all orders.
const BACKFILLED: u8 = 0;
const LIVE: u8 = 1;

pub(crate) fn timeline_key(room: RoomNum, order: Order) -> Vec<u8> {
    order_part(TIMELINE.key().number(room.0), order).build()
}

/// Adds an order to a key, so that keys sort by it.
pub(crate) fn order_part(key: KeyBuilder, order: Order) -> KeyBuilder {
    if order.0 < 0 { key.byte(BACKFILLED).signed(order.0) } else { key.byte(LIVE).number(order.0.cast_unsigned()) }
}

/// Reads what [`order_part`] has added.
pub(crate) fn read_order(reader: &mut KeyReader<'_>) -> Option<Order> {
    match reader.byte()? {
        BACKFILLED => reader.signed().map(Order),
        LIVE => reader.number().map(|order| Order(order.cast_signed())),
        _ => None,
    }
}

pub(crate) fn room_by_id_key(room_id: &RoomId) -> Vec<u8> {
    ROOM_BY_ID.key().text(room_id.as_str()).build()
}

pub(crate) fn event_by_id_key(event_id: &EventId) -> Vec<u8> {
    EVENT_BY_ID.key().text(event_id.as_str()).build()
}

pub(crate) fn membership_key(user: &UserId, room: RoomNum) -> Vec<u8> {
    MEMBERSHIP.key().text(user.as_str()).number(room.0).build()
}

pub(crate) fn member_prefix(room: RoomNum, membership: Membership) -> KeyBuilder {
    ROOM_MEMBER.key().number(room.0).byte(membership.byte())
}

impl View {
    /// The number of a room.
    pub fn room_num(&self, room_id: &RoomId) -> Result<Option<RoomNum>, RecordsError> {
        self.get(ROOM_BY_ID, &room_by_id_key(room_id))
    }

    /// A room's head.
    pub fn room_head(&self, room: RoomNum) -> Result<Option<RoomHead>, RecordsError> {
        self.get(ROOM_HEAD, &head_key(room))
    }

    /// The number of an event.
    pub fn event_num(&self, event_id: &EventId) -> Result<Option<EventNum>, RecordsError> {
        self.get(EVENT_BY_ID, &event_by_id_key(event_id))
    }

    /// The numbers of many events, in their order.
    pub fn event_nums(&self, event_ids: &[OwnedEventId]) -> Result<Vec<Option<EventNum>>, RecordsError> {
        let keys: Vec<_> = event_ids.iter().map(|id| event_by_id_key(id)).collect();
        let values = self.get_many(EVENT_BY_ID, &keys)?;
        values.iter().map(|value| value.as_deref().map(|bytes| EVENT_BY_ID.decode(bytes)).transpose()).collect()
    }

    /// An event, and its order: 0 for events that are in no timeline.
    pub fn event(&self, event: EventNum) -> Result<Option<(Order, EventRecord)>, RecordsError> {
        self.get_bytes(EVENT, &event_key(event))?.map(|bytes| decode_event(&bytes)).transpose()
    }

    /// Many events, in their order.
    pub fn events(&self, events: &[EventNum]) -> Result<Vec<Option<(Order, EventRecord)>>, RecordsError> {
        let keys: Vec<_> = events.iter().map(|event| event_key(*event)).collect();
        let values = self.get_many(EVENT, &keys)?;
        values.iter().map(|value| value.as_deref().map(decode_event).transpose()).collect()
    }

    /// A piece of a room's timeline: the events after `after` and up to `up_to`, from the end that
    /// `direction` starts with, at most `rows_max`.
    pub fn timeline(
        &self,
        room: RoomNum,
        after: Order,
        up_to: Order,
        direction: Direction,
        rows_max: usize,
    ) -> Result<Vec<TimelineEntry>, RecordsError> {
        // The range is from the first order that is wanted to the first that is not; the greatest order
        // of all has no successor, and its range ends with the room's.
        let from = match after.0.checked_add(1) {
            Some(first) => timeline_key(room, Order(first)),
            None => return Ok(Vec::new()),
        };
        let to = match up_to.0.checked_add(1) {
            Some(end) => timeline_key(room, Order(end)),
            None => TIMELINE.key().number(room.0).prefix_range().1,
        };
        let rows = self.scan(TIMELINE, (from, to), direction, rows_max)?;
        rows.iter()
            .map(|(key, value)| {
                let mut reader = KeyReader::new(key);
                let order = reader.number().and_then(|_| read_order(&mut reader)).ok_or_else(|| TIMELINE.corrupt())?;
                let (event, glance) = TIMELINE.decode(value)?;
                Ok(TimelineEntry { order, event, glance })
            })
            .collect()
    }

    /// The last event of a room's timeline up to an order.
    pub fn timeline_last(&self, room: RoomNum, up_to: Order) -> Result<Option<TimelineEntry>, RecordsError> {
        Ok(self.timeline(room, Order(i64::MIN), up_to, Direction::Backward, 1)?.pop())
    }

    /// When the last event of each of these rooms came live: its stamp; 0 if none ever did. One look at each room,
    /// whatever is in it.
    pub fn last_activity(&self, rooms: &[RoomNum]) -> Result<Vec<Stamp>, RecordsError> {
        let keys: Vec<_> = rooms.iter().map(|room| ROOM_LAST.key().number(room.0).build()).collect();
        let values = self.get_many(ROOM_LAST, &keys)?;
        let stamp = |value: &Vec<u8>| codec::decode_stamp(ROOM_LAST.name, value);
        values.iter().map(|value| value.as_ref().map_or(Ok(Stamp(0)), stamp)).collect()
    }

    /// What a user is to a room now, and since which stamp.
    pub fn membership(&self, user: &UserId, room: RoomNum) -> Result<Option<(Stamp, MembershipRecord)>, RecordsError> {
        self.get_stamped(MEMBERSHIP, &membership_key(user, room))
    }

    /// All rooms that a user has, or had, something to do with.
    pub fn memberships(&self, user: &UserId) -> Result<Vec<(RoomNum, Stamp, MembershipRecord)>, RecordsError> {
        let rows = self.scan_all(MEMBERSHIP, MEMBERSHIP.key().text(user.as_str()).prefix_range())?;
        rows.iter()
            .map(|(key, value)| {
                let mut reader = KeyReader::new(key);
                let room = reader.text().and_then(|_| reader.number()).ok_or_else(|| MEMBERSHIP.corrupt())?;
                let (stamp, record) = MEMBERSHIP.decode_stamped(value)?;
                Ok((RoomNum(room), stamp, record))
            })
            .collect()
    }

    /// Whether a user has, or had, something to do with any room.
    pub fn has_memberships(&self, user: &UserId) -> Result<bool, RecordsError> {
        let range = MEMBERSHIP.key().text(user.as_str()).prefix_range();
        Ok(!self.scan(MEMBERSHIP, range, Direction::Forward, 1)?.is_empty())
    }

    /// The users with this membership in a room, in the order of their ids, from the one after `after`.
    pub fn room_members(
        &self,
        room: RoomNum,
        membership: Membership,
        after: Option<&UserId>,
        rows_max: usize,
    ) -> Result<Vec<(OwnedUserId, EventNum)>, RecordsError> {
        let (mut from, to) = member_prefix(room, membership).prefix_range();
        if let Some(after) = after {
            from = member_prefix(room, membership).text(after.as_str()).prefix_range().1;
        }
        let rows = self.scan(ROOM_MEMBER, (from, to), Direction::Forward, rows_max)?;
        rows.iter()
            .map(|(key, value)| {
                let mut reader = KeyReader::new(key);
                let user = reader.number().and_then(|_| reader.byte()).and_then(|_| reader.text());
                let user = user.and_then(|user| OwnedUserId::try_from(user).ok());
                Ok((user.ok_or_else(|| ROOM_MEMBER.corrupt())?, ROOM_MEMBER.decode(value)?))
            })
            .collect()
    }

    /// A local alias.
    pub fn alias(&self, alias: &RoomAliasId) -> Result<Option<AliasRecord>, RecordsError> {
        self.get(ALIAS, &ALIAS.key().text(alias.as_str()).build())
    }

    /// The local aliases of a room.
    pub fn room_aliases(&self, room: RoomNum) -> Result<Vec<OwnedRoomAliasId>, RecordsError> {
        let rows = self.scan_all(ROOM_ALIAS, ROOM_ALIAS.key().number(room.0).prefix_range())?;
        rows.iter()
            .map(|(key, _)| {
                let mut reader = KeyReader::new(key);
                let alias = reader.number().and_then(|_| reader.text());
                let alias = alias.and_then(|alias| OwnedRoomAliasId::try_from(alias).ok());
                alias.ok_or_else(|| ROOM_ALIAS.corrupt())
            })
            .collect()
    }

    /// The event that a transaction id has made, and when.
    pub fn txn(&self, scope: TxnScope<'_>, txn_id: &str) -> Result<Option<(UnixMillis, OwnedEventId)>, RecordsError> {
        self.get(TXN, &txn_key(scope, txn_id))
    }
}

/// An event's bytes: as any stamped value, with its order in place of the stamp.
fn decode_event(bytes: &[u8]) -> Result<(Order, EventRecord), RecordsError> {
    let (stamp, record) = EVENT.decode_stamped(bytes)?;
    Ok((Order(stamp.0.cast_signed()), record))
}

impl Changes {
    /// Names a new room.
    pub fn put_room(&mut self, room_id: &RoomId, room: RoomNum) -> Result<(), RecordsError> {
        let key = room_by_id_key(room_id);
        self.expect_unchanged(ROOM_BY_ID, key.clone())?;
        self.put(ROOM_BY_ID, key, &room);
        Ok(())
    }

    /// The number of a room, a new one of these changes included.
    pub fn room_num(&self, room_id: &RoomId) -> Result<Option<RoomNum>, RecordsError> {
        self.get(ROOM_BY_ID, &room_by_id_key(room_id))
    }

    /// Replaces a room's head, on condition that it is still the one that the view shows.
    pub fn put_room_head(&mut self, room: RoomNum, head: &RoomHead) -> Result<(), RecordsError> {
        let key = head_key(room);
        self.expect_unchanged(ROOM_HEAD, key.clone())?;
        self.put(ROOM_HEAD, key, head);
        Ok(())
    }

    /// The number of an event, a new one of these changes included.
    pub fn event_num(&self, event_id: &EventId) -> Result<Option<EventNum>, RecordsError> {
        self.get(EVENT_BY_ID, &event_by_id_key(event_id))
    }

    /// An event, a new one of these changes included.
    pub fn event(&self, event: EventNum) -> Result<Option<EventRecord>, RecordsError> {
        let bytes = self.get_bytes(EVENT, &event_key(event))?;
        Ok(bytes.map(|bytes| decode_event(&bytes)).transpose()?.map(|(_, record)| record))
    }

    /// Stores an event that is in no timeline.
    pub fn put_event_outside(&mut self, event: EventNum, record: &EventRecord) {
        self.put(EVENT_BY_ID, event_by_id_key(&record.event_id), &event);
        self.put_raw(EVENT, event_key(event).into(), codec::encode_at(Stamp(0), record).into());
    }

    /// Adds an event to the live end of its room's timeline, at a stamp of these changes.
    pub fn append_event(&mut self, nth: u16, event: EventNum, record: &EventRecord, glance: Glance) {
        self.put(EVENT_BY_ID, event_by_id_key(&record.event_id), &event);
        self.put_stamped(EVENT, event_key(event), nth, record);
        let key = TIMELINE.key().number(record.room.0).byte(LIVE);
        let at = u32::try_from(key.len()).unwrap_or(u32::MAX);
        let key = Stamped { bytes: key.number(0).build(), holes: vec![Hole { at, nth }] };
        self.put_raw(TIMELINE, key, codec::encode(&(event, glance)).into());
        self.put_stamped(ROOM_LAST, ROOM_LAST.key().number(record.room.0).build(), nth, &());
    }

    /// Adds an event before all others of its room's timeline. [`Changes::put_time_before`] lets it be found by
    /// its time.
    pub fn prepend_event(&mut self, order: Order, event: EventNum, record: &EventRecord, glance: Glance) {
        self.put(EVENT_BY_ID, event_by_id_key(&record.event_id), &event);
        let stamp = Stamp(order.0.cast_unsigned());
        self.put_raw(EVENT, event_key(event).into(), codec::encode_at(stamp, record).into());
        self.put(TIMELINE, timeline_key(record.room, order), &(event, glance));
    }

    /// Rewrites an event in its place, for a redaction.
    pub fn rewrite_event(&mut self, order: Order, event: EventNum, record: &EventRecord, glance: Glance) {
        let stamp = Stamp(order.0.cast_unsigned());
        self.put_raw(EVENT, event_key(event).into(), codec::encode_at(stamp, record).into());
        // Those without a place have order 0.
        if order != Order(0) {
            self.put(TIMELINE, timeline_key(record.room, order), &(event, glance));
        }
    }

    /// Sets what a user is to a room, from a stamp of these changes on.
    pub fn put_membership(
        &mut self,
        nth: u16,
        user: &UserId,
        room: RoomNum,
        record: &MembershipRecord,
    ) -> Result<(), RecordsError> {
        if let Some(previous) = record.previous {
            self.clear(ROOM_MEMBER, member_prefix(room, previous).text(user.as_str()).build());
        }
        self.put(ROOM_MEMBER, member_prefix(room, record.membership).text(user.as_str()).build(), &record.event);
        self.put_stamped(MEMBERSHIP, membership_key(user, room), nth, record);
        Ok(())
    }

    /// What a user is to a room, after these changes.
    pub fn membership(&self, user: &UserId, room: RoomNum) -> Result<Option<MembershipRecord>, RecordsError> {
        let bytes = self.get_bytes(MEMBERSHIP, &membership_key(user, room))?;
        Ok(bytes.map(|bytes| MEMBERSHIP.decode_stamped(&bytes)).transpose()?.map(|(_, record)| record))
    }

    /// A local alias, after these changes.
    pub fn alias(&self, alias: &RoomAliasId) -> Result<Option<AliasRecord>, RecordsError> {
        self.get(ALIAS, &ALIAS.key().text(alias.as_str()).build())
    }

    /// Names a room, on condition that the name is still as the view shows it.
    pub fn put_alias(&mut self, alias: &RoomAliasId, room: RoomNum, record: &AliasRecord) -> Result<(), RecordsError> {
        let key = ALIAS.key().text(alias.as_str()).build();
        self.expect_unchanged(ALIAS, key.clone())?;
        self.put(ALIAS, key, record);
        self.put(ROOM_ALIAS, ROOM_ALIAS.key().number(room.0).text(alias.as_str()).build(), &());
        Ok(())
    }

    /// Removes a name, on condition that it is still as the view shows it.
    pub fn clear_alias(&mut self, alias: &RoomAliasId, room: RoomNum) -> Result<(), RecordsError> {
        let key = ALIAS.key().text(alias.as_str()).build();
        self.expect_unchanged(ALIAS, key.clone())?;
        self.clear(ALIAS, key);
        self.clear(ROOM_ALIAS, ROOM_ALIAS.key().number(room.0).text(alias.as_str()).build());
        Ok(())
    }

    /// Remembers what a transaction id has made, until [`Changes::clear_txns`].
    pub fn put_txn(&mut self, scope: TxnScope<'_>, txn_id: &str, at: UnixMillis, event_id: &EventId) {
        let key = txn_key(scope, txn_id);
        let by_time = TXN_BY_TIME.key().number(at.0).fixed(&key).build();
        if by_time.len() <= base::limits::KEY_BYTES_MAX {
            self.put_raw(TXN_BY_TIME, by_time.into(), Vec::new().into());
            self.put(TXN, key, &(at, event_id.to_owned()));
        }
    }

    /// Forgets the transaction ids that were used before a time, the oldest first, at most `txns_max`. Answers
    /// how many those were.
    pub fn clear_txns(&mut self, before: UnixMillis, txns_max: usize) -> Result<usize, RecordsError> {
        let range = (TXN_BY_TIME.key().number(0).build(), TXN_BY_TIME.key().number(before.0).build());
        let rows = self.view().clone().scan(TXN_BY_TIME, range.clone(), Direction::Forward, txns_max)?;
        for (key, _) in &rows {
            // The table's byte and the time come before the key of the transaction id.
            self.clear(TXN, key.get(9..).unwrap_or_default().to_vec());
        }
        if let Some((last, _)) = rows.last() {
            self.clear_range(TXN_BY_TIME, (range.0, [last.as_slice(), &[0]].concat()));
        }
        Ok(rows.len())
    }

    /// The event that a transaction id has made, by these changes included.
    pub fn txn(&self, scope: TxnScope<'_>, txn_id: &str) -> Result<Option<(UnixMillis, OwnedEventId)>, RecordsError> {
        self.get(TXN, &txn_key(scope, txn_id))
    }
}

fn node_key(node: NodeNum) -> Vec<u8> {
    STATE_NODE.key().number(node.0).build()
}

impl Nodes for View {
    type Bytes = Vec<u8>;
    type Error = RecordsError;

    fn node(&self, num: NodeNum) -> Result<Option<Vec<u8>>, RecordsError> {
        self.get_bytes(STATE_NODE, &node_key(num))
    }
}

impl Nodes for Changes {
    type Bytes = Vec<u8>;
    type Error = RecordsError;

    fn node(&self, num: NodeNum) -> Result<Option<Vec<u8>>, RecordsError> {
        self.get_bytes(STATE_NODE, &node_key(num))
    }
}

impl NewNodes for Changes {
    fn add(&mut self, bytes: Vec<u8>) -> Result<NodeNum, RecordsError> {
        let node = self.ids().node()?;
        self.put_raw(STATE_NODE, node_key(node).into(), bytes.into());
        Ok(node)
    }
}
