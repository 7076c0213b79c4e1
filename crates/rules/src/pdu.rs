//! An event as the room's servers exchange it (a PDU), parsed once and immutable.
//!
//! Parsing is what every read of an event costs, so it borrows the content from the JSON and never encodes
//! anything again. It does not check the event: what comes from another server goes through
//! [`crate::incoming`] first, what a user writes through [`crate::draft`].

use ruma::events::TimelineEventType;
use ruma::room_version_rules::{EventIdFormatVersion, RoomIdFormatVersion, RoomVersionRules};
use ruma::{EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UInt, UserId};
use self_cell::self_cell;
use serde::Deserialize;
use serde::de::{self, IgnoredAny, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// Why JSON is not an event.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PduError {
    /// It is not JSON, or a field that every event has is missing or of another type.
    #[error("not an event: {0}")]
    Json(#[from] serde_json::Error),
    /// It names no room, and it is not the creation of a room whose id follows from the event's.
    #[error("an event without a room id")]
    NoRoomId,
    /// The room id that follows from the event id is not one.
    #[error("the event id {0} makes no room id")]
    BadRoomId(OwnedEventId),
}

self_cell!(
    /// The JSON and what is borrowed from it.
    struct Text {
        owner: Box<str>,
        #[covariant]
        dependent: Borrowed,
    }
);

/// What an event keeps a reference to instead of a copy.
struct Borrowed<'a> {
    kind: Cow<'a, str>,
    content: &'a RawValue,
}

/// An event of a room. Share it as `Arc<Pdu>`.
pub struct Pdu {
    event_id: OwnedEventId,
    room_id: OwnedRoomId,
    /// Whether the room id is the create event's own, not written in the JSON (room version 12).
    room_id_implied: bool,
    sender: OwnedUserId,
    origin_server_ts: MilliSecondsSinceUnixEpoch,
    kind: TimelineEventType,
    state_key: Option<Box<str>>,
    prev_events: Box<[OwnedEventId]>,
    auth_events: Box<[OwnedEventId]>,
    depth: u64,
    redacts: Option<OwnedEventId>,
    /// The content as the authorization rules read it, where that is not the content itself.
    judged_content: Option<Box<RawValue>>,
    rejected: bool,
    text: Text,
}

/// The fields of an event's JSON that this server reads.
#[derive(Deserialize)]
struct Wire<'a> {
    room_id: Option<OwnedRoomId>,
    sender: OwnedUserId,
    origin_server_ts: UInt,
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    state_key: Option<Box<str>>,
    #[serde(borrow)]
    content: &'a RawValue,
    #[serde(default)]
    prev_events: Vec<EventRef>,
    #[serde(default)]
    auth_events: Vec<EventRef>,
    depth: u64,
    /// Any JSON is accepted: only redactions of room versions 1 to 10 give it a meaning.
    #[serde(borrow)]
    redacts: Option<&'a RawValue>,
}

/// A reference to another event: its id, or in room versions 1 and 2 a pair of its id and its hashes.
struct EventRef(OwnedEventId);

impl<'de> Deserialize<'de> for EventRef {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EventRefVisitor;

        impl<'de> Visitor<'de> for EventRefVisitor {
            type Value = EventRef;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an event id, or a pair of an event id and its hashes")
            }

            fn visit_str<E: de::Error>(self, id: &str) -> Result<EventRef, E> {
                OwnedEventId::try_from(id).map(EventRef).map_err(E::custom)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut pair: A) -> Result<EventRef, A::Error> {
                let id = pair.next_element()?.ok_or_else(|| de::Error::invalid_length(0, &self))?;
                while pair.next_element::<IgnoredAny>()?.is_some() {}
                Ok(EventRef(id))
            }
        }

        deserializer.deserialize_any(EventRefVisitor)
    }
}

impl Pdu {
    /// Parses an event that was checked when it was stored.
    ///
    /// # Errors
    ///
    /// [`PduError`] if `json` is not an event of a room with `rules`: the store is damaged.
    pub fn parse_stored(
        event_id: OwnedEventId,
        json: impl Into<Box<str>>,
        rules: &RoomVersionRules,
        rejected: bool,
    ) -> Result<Self, PduError> {
        let mut wire = None;
        let text = Text::try_new(json.into(), |json| {
            let parsed: Wire<'_> = serde_json::from_str(json)?;
            let (fields, borrowed) = split(parsed, rules);
            wire = Some(fields);
            Ok::<_, PduError>(borrowed)
        })?;
        // `try_new` either failed above or has run the closure to its end.
        let fields = wire.ok_or(PduError::NoRoomId)?;
        let create_without_room_id =
            rules.room_id_format == RoomIdFormatVersion::V2 && fields.kind == TimelineEventType::RoomCreate;
        let (room_id, room_id_implied) = match fields.room_id {
            Some(room_id) => (room_id, false),
            None if create_without_room_id => (room_id_of_create(&event_id)?, true),
            None => return Err(PduError::NoRoomId),
        };
        Ok(Self {
            event_id,
            room_id,
            room_id_implied,
            sender: fields.sender,
            origin_server_ts: fields.origin_server_ts,
            kind: fields.kind,
            state_key: fields.state_key,
            prev_events: fields.prev_events,
            auth_events: fields.auth_events,
            depth: fields.depth,
            redacts: fields.redacts,
            judged_content: fields.judged_content,
            rejected,
            text,
        })
    }

    /// The id of the event.
    #[must_use]
    pub fn event_id(&self) -> &OwnedEventId {
        &self.event_id
    }

    /// The room of the event. For the creation of a room of version 12 it follows from the event id.
    #[must_use]
    pub fn room_id(&self) -> &RoomId {
        &self.room_id
    }

    /// Who sent it.
    #[must_use]
    pub fn sender(&self) -> &UserId {
        &self.sender
    }

    /// When the sender's server says that it was sent.
    #[must_use]
    pub fn origin_server_ts(&self) -> MilliSecondsSinceUnixEpoch {
        self.origin_server_ts
    }

    /// Its type.
    #[must_use]
    pub fn kind(&self) -> &TimelineEventType {
        &self.kind
    }

    /// Its type, as it is written.
    #[must_use]
    pub fn kind_str(&self) -> &str {
        &self.text.borrow_dependent().kind
    }

    /// Its state key, if it is a state event.
    #[must_use]
    pub fn state_key(&self) -> Option<&str> {
        self.state_key.as_deref()
    }

    /// Its content, as stored.
    #[must_use]
    pub fn content(&self) -> &RawValue {
        self.text.borrow_dependent().content
    }

    /// Its content as the authorization rules read it: as [`Pdu::content`], but for power levels of old rooms
    /// without fractions.
    #[must_use]
    pub(crate) fn judged_content(&self) -> &RawValue {
        self.judged_content.as_deref().unwrap_or_else(|| self.content())
    }

    /// The events it follows.
    #[must_use]
    pub fn prev_events(&self) -> &[OwnedEventId] {
        &self.prev_events
    }

    /// The events that its sender says allow it.
    #[must_use]
    pub fn auth_events(&self) -> &[OwnedEventId] {
        &self.auth_events
    }

    /// Its depth. Room versions before 6 allow up to 2^63 - 1.
    #[must_use]
    pub fn depth(&self) -> u64 {
        self.depth
    }

    /// The event that it redacts, if it is a redaction: its top-level `redacts` before room version 11, its
    /// content's from there on.
    #[must_use]
    pub fn redacts(&self) -> Option<&EventId> {
        self.redacts.as_deref()
    }

    /// Its JSON, canonical, as it is stored and as other servers get it.
    #[must_use]
    pub fn json(&self) -> &str {
        self.text.borrow_owner()
    }

    /// Whether the authorization rules refused it: it stays known, but has no effect.
    #[must_use]
    pub fn rejected(&self) -> bool {
        self.rejected
    }

    /// The same event, marked as rejected or not.
    #[must_use]
    pub fn with_rejected(mut self, rejected: bool) -> Self {
        self.rejected = rejected;
        self
    }
}

/// What is parsed and owned.
struct Fields {
    room_id: Option<OwnedRoomId>,
    sender: OwnedUserId,
    origin_server_ts: MilliSecondsSinceUnixEpoch,
    kind: TimelineEventType,
    state_key: Option<Box<str>>,
    prev_events: Box<[OwnedEventId]>,
    auth_events: Box<[OwnedEventId]>,
    depth: u64,
    redacts: Option<OwnedEventId>,
    judged_content: Option<Box<RawValue>>,
}

/// Parts what is owned from what is borrowed.
fn split<'a>(wire: Wire<'a>, rules: &RoomVersionRules) -> (Fields, Borrowed<'a>) {
    let ids = |refs: Vec<EventRef>| refs.into_iter().map(|EventRef(id)| id).collect();
    let kind = TimelineEventType::from(&*wire.kind);
    let fields = Fields {
        redacts: redacted_event(&kind, &wire, rules),
        judged_content: whole_power_levels(&kind, wire.content, rules),
        room_id: wire.room_id,
        sender: wire.sender,
        origin_server_ts: MilliSecondsSinceUnixEpoch(wire.origin_server_ts),
        kind,
        state_key: wire.state_key,
        prev_events: ids(wire.prev_events),
        auth_events: ids(wire.auth_events),
        depth: wire.depth,
    };
    (fields, Borrowed { kind: wire.kind, content: wire.content })
}

/// Power levels of room versions 1 to 5 may be fractions, which count without their fractional part (room
/// version 1, "`m.room.power_levels` events accept values as floats"). The library's rules read integers and
/// strings only, so they get a content in which that is done.
fn whole_power_levels(kind: &TimelineEventType, content: &RawValue, rules: &RoomVersionRules) -> Option<Box<RawValue>> {
    fn truncate(value: &mut Value, depth: u8) -> bool {
        match value {
            Value::Object(entries) if depth > 0 => {
                // All of them, not only up to the first that changes.
                entries.values_mut().filter_map(|value| truncate(value, depth - 1).then_some(())).count() > 0
            }
            Value::Number(number) if number.is_f64() => {
                let whole = number.as_f64().map(f64::trunc).filter(|whole| whole.abs() <= 9_007_199_254_740_991.0);
                #[expect(clippy::cast_possible_truncation, reason = "a whole number below 2^53 is exact")]
                let whole = whole.map(|whole| Value::from(whole as i64));
                whole.map(|whole| *value = whole).is_some()
            }
            _ => false,
        }
    }

    if *kind != TimelineEventType::RoomPowerLevels || rules.authorization.strict_canonical_json {
        return None;
    }
    let mut value: Value = serde_json::from_str(content.get()).ok()?;
    // The levels are in the content and in the objects in it.
    truncate(&mut value, 2).then(|| serde_json::value::to_raw_value(&value).ok()).flatten()
}

/// The event that a redaction names; nothing if it is not a redaction, or names none.
fn redacted_event(kind: &TimelineEventType, wire: &Wire<'_>, rules: &RoomVersionRules) -> Option<OwnedEventId> {
    #[derive(Deserialize)]
    struct Content<'a> {
        #[serde(borrow)]
        redacts: Option<&'a RawValue>,
    }

    if *kind != TimelineEventType::RoomRedaction {
        return None;
    }
    let redacts = if rules.redaction.content_field_redacts {
        serde_json::from_str::<Content<'_>>(wire.content.get()).ok()?.redacts
    } else {
        wire.redacts
    };
    serde_json::from_str(redacts?.get()).ok()
}

/// The id of the room that `create` creates (room version 12): the event's, with the room's sigil.
pub(crate) fn room_id_of_create(create: &EventId) -> Result<OwnedRoomId, PduError> {
    let hash = create.as_str().trim_start_matches('$');
    OwnedRoomId::try_from(format!("!{hash}")).map_err(|_| PduError::BadRoomId(create.to_owned()))
}

/// The id of the event that created `room_id`, in room versions whose room ids follow from it (12).
#[must_use]
pub fn create_event_id(room_id: &RoomId, rules: &RoomVersionRules) -> Option<OwnedEventId> {
    if rules.room_id_format == RoomIdFormatVersion::V1 {
        return None;
    }
    OwnedEventId::try_from(format!("${}", room_id.strip_sigil())).ok()
}

/// Whether event ids are written in the events (room versions 1 and 2) instead of being their hash.
#[must_use]
pub fn has_written_event_id(rules: &RoomVersionRules) -> bool {
    rules.event_id_format == EventIdFormatVersion::V1
}

impl fmt::Debug for Pdu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pdu")
            .field("event_id", &self.event_id)
            .field("kind", &self.kind)
            .field("state_key", &self.state_key)
            .field("rejected", &self.rejected)
            .finish_non_exhaustive()
    }
}

impl ruma::state_res::Event for Pdu {
    type Id = OwnedEventId;

    fn event_id(&self) -> &OwnedEventId {
        &self.event_id
    }

    // The rules ask for what is written: room version 12 refuses a creation with a room id.
    fn room_id(&self) -> Option<&RoomId> {
        (!self.room_id_implied).then_some(&self.room_id)
    }

    fn sender(&self) -> &UserId {
        &self.sender
    }

    fn origin_server_ts(&self) -> MilliSecondsSinceUnixEpoch {
        self.origin_server_ts
    }

    fn event_type(&self) -> &TimelineEventType {
        &self.kind
    }

    fn content(&self) -> &RawValue {
        self.judged_content()
    }

    fn state_key(&self) -> Option<&str> {
        self.state_key.as_deref()
    }

    fn prev_events(&self) -> Box<dyn DoubleEndedIterator<Item = &OwnedEventId> + '_> {
        Box::new(self.prev_events.iter())
    }

    fn auth_events(&self) -> Box<dyn DoubleEndedIterator<Item = &OwnedEventId> + '_> {
        Box::new(self.auth_events.iter())
    }

    fn redacts(&self) -> Option<&OwnedEventId> {
        self.redacts.as_ref()
    }

    fn rejected(&self) -> bool {
        self.rejected
    }
}
