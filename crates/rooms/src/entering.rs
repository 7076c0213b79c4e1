//! Rooms that this server comes to know through another one: by an invitation, or because its first user joins.

use crate::actor::Command;
use crate::reader::STRIPPED_TYPES;
use crate::{RoomError, RoomReader, Rooms, num_of};
use base::{EventNum, Order, RoomNum};
use records::state_map::StateRoot;
use records::{EventStatus, Membership, RecordsError, RoomHead, View};
use rules::CheckedPdu;
use rules::client_event::stripped_state;
use ruma::{OwnedEventId, RoomId, RoomVersionId, UserId};
use std::collections::HashMap;
use store::CommitError;

/// How many entries of the state are set by one batch.
const STATE_EDITS_MAX: usize = 1_000;
/// How often a room is named again after somebody else was first.
const NAMED_MAX: usize = 8;
/// How many events are looked up at once.
const LOOKED_UP_MAX: usize = 2_000;

/// An entry of a state, and its event.
pub(crate) type StateEdit = ((String, String), Option<EventNum>);

/// What another server gives to whoever enters a room through it.
#[derive(Debug)]
pub struct Entry {
    /// The version that the room is said to have.
    pub version: RoomVersionId,
    /// The events of the state and those that allow them, each after those that it names as allowing it.
    pub events: Vec<CheckedPdu>,
    /// The state before the membership, by the ids of its events. What is not known or was rejected is left out.
    pub state: Vec<OwnedEventId>,
    /// The membership with which a user of this server enters.
    pub join: CheckedPdu,
}

impl Rooms {
    /// Whether this server takes part in a room: whether one of its users has joined it. What it knows of other rooms
    /// may be old, or is nothing but an invitation.
    ///
    /// # Errors
    ///
    /// If the records can't be read.
    pub fn takes_part(&self, view: &View, room_id: &RoomId) -> Result<bool, RoomError> {
        match view.room_num(room_id)? {
            Some(num) => Ok(view.joined_of_server(num, self.server_name())? > 0),
            None => Ok(false),
        }
    }

    /// Enters a room that this server takes no part in, with the state that another server has given. It is written
    /// in many batches, and the room is entered with the last of them; until then nobody sees anything of it, and all
    /// can be done again.
    ///
    /// # Errors
    ///
    /// [`RoomError::Forbidden`] if the state does not allow the membership, [`RoomError::Missing`] if what it names
    /// as allowing it is not there, [`RoomError::UnsupportedVersion`].
    pub async fn enter(&self, room_id: &RoomId, entry: Entry) -> Result<OwnedEventId, RoomError> {
        let Entry { version, events, state, join } = entry;
        let num = self.name_room(room_id, &version).await?;
        for outcome in self.put_outliers(num, events).await? {
            if let Err(error) = outcome {
                tracing::debug!(%room_id, %error, "an event of a state that was given is left out");
            }
        }
        let edits = self.edits_towards(num, &state)?;
        let mut edits = edits.into_iter().peekable();
        while edits.peek().is_some() {
            let edits = edits.by_ref().take(STATE_EDITS_MAX).collect();
            self.tell(num, |reply| Command::SetState { edits, reply }).await?;
        }
        let join = Some(Box::new(join));
        self.tell(num, |reply| Command::Enter { event: join, reply }).await
    }

    /// What has to be changed in the current state to make it the one of these events.
    fn edits_towards(&self, num: RoomNum, state: &[OwnedEventId]) -> Result<Vec<StateEdit>, RoomError> {
        let view = self.records().view();
        let head = view.room_head(num)?.ok_or(RoomError::NotFound("the room"))?;
        let rules =
            rules::room_rules(&head.version).ok_or_else(|| RoomError::UnsupportedVersion(head.version.to_string()))?;
        let mut wanted: HashMap<(String, String), EventNum> = HashMap::new();
        for ids in state.chunks(LOOKED_UP_MAX) {
            let nums: Vec<EventNum> = view.event_nums(ids)?.into_iter().flatten().collect();
            for (event_num, found) in nums.iter().zip(view.events(&nums)?) {
                let Some((_, record)) = found else { continue };
                if record.room != num || record.status == EventStatus::Rejected {
                    continue;
                }
                let pdu = rules::Pdu::parse_stored(record.event_id, record.json, &rules, false)
                    .map_err(RoomError::internal)?;
                if let Some(key) = pdu.state_key() {
                    wanted.insert((pdu.kind_str().to_owned(), key.to_owned()), *event_num);
                }
            }
        }
        let mut edits = Vec::new();
        for entry in head.state.entries(&view) {
            let entry = entry?;
            let key = (entry.kind, entry.state_key);
            match wanted.remove(&key) {
                Some(event) if event == entry.event => {}
                other => edits.push((key, other)),
            }
        }
        edits.extend(wanted.into_iter().map(|(key, event)| (key, Some(event))));
        // Whoever is looked up while the rest comes finds the creation and the power levels.
        edits.sort_by(|a, b| (a.0.0 == "m.room.member", &a.0).cmp(&(b.0.0 == "m.room.member", &b.0)));
        Ok(edits)
    }

    /// Changes what a user of this server is to a room in which it takes no part: an invitation has come, was taken
    /// back or rejected, or they have knocked. `stripped_state` is what the room shows to them, a JSON array.
    ///
    /// # Errors
    ///
    /// [`RoomError::Outdated`] if this server takes part in the room: then events reach it by the room itself.
    pub async fn out_of_band(
        &self,
        room_id: &RoomId,
        version: &RoomVersionId,
        event: CheckedPdu,
        stripped_state: Option<String>,
    ) -> Result<OwnedEventId, RoomError> {
        let num = self.name_room(room_id, version).await?;
        let event = Some(Box::new(event));
        self.tell(num, |reply| Command::OutOfBand { event, stripped_state, reply }).await
    }

    /// The number of a room, which is made known if it is not. A room of which nothing is known yet takes the version
    /// that is said last.
    async fn name_room(&self, room_id: &RoomId, version: &RoomVersionId) -> Result<RoomNum, RoomError> {
        if rules::room_rules(version).is_none() {
            return Err(RoomError::UnsupportedVersion(version.to_string()));
        }
        for _ in 0..NAMED_MAX {
            let view = self.records().view();
            let mut changes = self.records().changes(&view);
            let num = match view.room_num(room_id)? {
                Some(num) => {
                    let head = view.room_head(num)?.ok_or(RoomError::NotFound("the room"))?;
                    if head.version == *version || !head.extremities.is_empty() {
                        return Ok(num);
                    }
                    let head = RoomHead { version: version.clone(), generation: head.generation + 1, ..head };
                    changes.put_room_head(num, &head)?;
                    num
                }
                None => {
                    let num = changes.ids().room()?;
                    changes.put_room(room_id, num)?;
                    changes.put_room_head(num, &unknown_room(room_id, version))?;
                    num
                }
            };
            match self.records().commit(changes).await {
                Ok(_) => return Ok(num),
                Err(CommitError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(RoomError::Overloaded)
    }

    /// The number of a room.
    ///
    /// # Errors
    ///
    /// [`RoomError::NotFound`] if it is not known.
    pub fn num(&self, view: &View, room_id: &RoomId) -> Result<RoomNum, RoomError> {
        num_of(view, room_id)
    }

    /// The events that an event refers to and that are not known as they have to be to decide about it: those that
    /// it follows with their state, those that allow it at all.
    ///
    /// # Errors
    ///
    /// If the records can't be read.
    pub fn unknown_references(&self, view: &View, room: RoomNum, pdu: &rules::Pdu) -> Result<References, RoomError> {
        let known = |ids: &[OwnedEventId], with_state: bool| -> Result<Vec<OwnedEventId>, RecordsError> {
            let mut unknown = Vec::new();
            for (id, num) in ids.iter().zip(view.event_nums(ids)?) {
                let record = num.map(|num| view.event(num)).transpose()?.flatten();
                let fits = record.is_some_and(|(_, record)| {
                    record.room == room && !(with_state && record.status == EventStatus::Outlier)
                });
                if !fits {
                    unknown.push(id.clone());
                }
            }
            Ok(unknown)
        };
        Ok(References { prev: known(pdu.prev_events(), true)?, auth: known(pdu.auth_events(), false)? })
    }
}

/// What an event refers to and is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct References {
    /// Of the events that it follows.
    pub prev: Vec<OwnedEventId>,
    /// Of those that it names as allowing it.
    pub auth: Vec<OwnedEventId>,
}

/// A room of which nothing is known but that it exists.
fn unknown_room(room_id: &RoomId, version: &RoomVersionId) -> RoomHead {
    RoomHead {
        room_id: room_id.to_owned(),
        version: version.clone(),
        extremities: Vec::new(),
        depth: 0,
        state: StateRoot::EMPTY,
        joined: 0,
        invited: 0,
        backfilled_to: Order(0),
        generation: 0,
        relations: 0,
    }
}

impl RoomReader {
    /// The state that the room shows to those outside of it, as stripped events (client-server API, "Stripped state"),
    /// with the membership of `sender`.
    ///
    /// # Errors
    ///
    /// If the room can't be read.
    pub fn stripped_state(&self, sender: Option<&UserId>) -> Result<Vec<String>, RoomError> {
        let mut stripped = Vec::new();
        for event in self.outside_state(sender)? {
            stripped.extend(stripped_state(&event.pdu));
        }
        Ok(stripped)
    }

    /// The events of [`RoomReader::stripped_state`], whole.
    ///
    /// # Errors
    ///
    /// If the room can't be read.
    pub fn outside_state(&self, sender: Option<&UserId>) -> Result<Vec<std::sync::Arc<crate::StoredEvent>>, RoomError> {
        let mut events = Vec::new();
        for kind in STRIPPED_TYPES {
            events.extend(self.state_event(self.state(), kind, "")?);
        }
        if let Some(sender) = sender {
            events.extend(self.state_event(self.state(), "m.room.member", sender.as_str())?);
        }
        Ok(events)
    }

    /// Whether a user is invited to the room.
    ///
    /// # Errors
    ///
    /// If the room can't be read.
    pub fn is_invited(&self, user: &UserId) -> Result<bool, RoomError> {
        Ok(self.membership(user)?.is_some_and(|(_, record)| record.membership == Membership::Invite))
    }
}

/// Stripped events as another server sent them, as the JSON array that is stored: objects with the fields of a stripped
/// event and no others, as many and as large as is sensible. Whole events are taken too, as some servers send them.
#[must_use]
pub fn stripped_texts<'a>(events: impl IntoIterator<Item = &'a str>) -> String {
    /// How many events are shown, and the most bytes of one.
    const EVENTS_MAX: usize = 20;
    const BYTES_MAX: usize = 8 * 1024;

    let mut parts = Vec::new();
    for text in events.into_iter().filter(|text| text.len() <= BYTES_MAX).take(EVENTS_MAX) {
        let Ok(serde_json::Value::Object(mut event)) = serde_json::from_str(text) else { continue };
        let fields = ["type", "state_key", "sender", "content"];
        event.retain(|field, _| fields.contains(&field.as_str()));
        let text = |field: &str| event.get(field).is_some_and(serde_json::Value::is_string);
        if text("type")
            && text("state_key")
            && text("sender")
            && event.get("content").is_some_and(serde_json::Value::is_object)
        {
            parts.push(serde_json::Value::Object(event).to_string());
        }
    }
    format!("[{}]", parts.join(","))
}
