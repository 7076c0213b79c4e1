//! What of the log, or of a room's history, belongs into the index.

use crate::SearchError;
use crate::index::{Entry, sender_hash};
use crate::text::{Text, edited_text, text_of};
use base::{EventNum, Order, RoomNum, Stamp, UnixMillis};
use records::{LogEntry, View};
use rooms::{RoomReader, Rooms, StoredEvent};
use rules::relation::{REPLACE, Relation};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use store::Direction;

/// The type of the state event that makes a room encrypted.
const ENCRYPTION: &str = "m.room.encryption";
/// How many entries of the log are read at once.
const LOG_PAGE: usize = 500;
/// How many events of a timeline are read at once.
const TIMELINE_PAGE: usize = 500;
/// What is gathered before it is written, in bytes of text.
const TEXT_BYTES_MAX: usize = 4 << 20;
/// What is looked at before what was found is written.
const LOOKED_AT_MAX: usize = 10_000;

/// What is to be done to the index, in this order: what was there of these events and rooms goes, and then what is to
/// be there comes.
#[derive(Default)]
pub(crate) struct Work {
    pub gone_rooms: HashSet<RoomNum>,
    pub gone: HashSet<EventNum>,
    pub entries: HashMap<EventNum, Entry>,
    /// Events that were redacted: whatever an edit of theirs was the text of is to be looked at anew.
    pub redacted: HashSet<EventNum>,
    text_bytes: usize,
    looked_at: usize,
}

impl Work {
    /// Whether the index stays as it is.
    pub fn is_empty(&self) -> bool {
        self.gone_rooms.is_empty() && self.gone.is_empty() && self.entries.is_empty() && self.redacted.is_empty()
    }

    fn is_full(&self) -> bool {
        self.text_bytes >= TEXT_BYTES_MAX || self.looked_at >= LOOKED_AT_MAX
    }

    fn add(&mut self, entry: Entry) {
        self.text_bytes += entry.text.text.len();
        self.entries.insert(entry.event, entry);
    }
}

/// Reads what happened, at one view.
pub(crate) struct Gatherer<'a> {
    rooms: &'a Rooms,
    view: View,
    /// The time, which no message is later than.
    now: UnixMillis,
    /// The rooms that were read of late; none for those that are not searched.
    readers: HashMap<RoomNum, Option<Arc<RoomReader>>>,
}

/// How many rooms a gatherer keeps at hand.
const READERS_MAX: usize = 1_000;

impl<'a> Gatherer<'a> {
    pub fn new(rooms: &'a Rooms, view: View, now: UnixMillis) -> Self {
        Self { rooms, view, now, readers: HashMap::new() }
    }

    /// What the log says after a stamp. Answers up to where that goes, at most up to the view's.
    pub fn follow(&mut self, after: Stamp) -> Result<(Work, Stamp), SearchError> {
        let (mut work, mut done) = (Work::default(), after);
        loop {
            let entries = self.view.log(done, self.view.stamp(), LOG_PAGE)?;
            let is_last = entries.len() < LOG_PAGE;
            for (stamp, entry) in entries {
                self.note(&entry, &mut work)?;
                done = stamp;
                if work.is_full() {
                    return Ok((work, done));
                }
            }
            if is_last {
                return Ok((work, self.view.stamp()));
            }
        }
    }

    fn note(&mut self, entry: &LogEntry, work: &mut Work) -> Result<(), SearchError> {
        work.looked_at += 1;
        match entry {
            LogEntry::Event { room, event, .. } => {
                let Some(reader) = self.reader(*room)? else { return self.unsearched(*room, *event, work) };
                if let Some(event) = reader.event(*event)? {
                    self.event(&reader, &event, work)?;
                }
            }
            LogEntry::Backfilled { room, from, to } => {
                let Some(reader) = self.reader(*room)? else { return Ok(()) };
                let before = Order(from.0.saturating_sub(1));
                let events = reader.timeline(before, *to, Direction::Forward, rooms::BACKFILL_EVENTS_MAX)?;
                work.looked_at += events.len();
                for event in events {
                    self.event(&reader, &event, work)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// What a piece of a room's history has, from after a place up to another. Answers the place up to which that
    /// goes; none if that is the end.
    pub fn history(
        &mut self,
        room: RoomNum,
        after: Order,
        up_to: Order,
        work: &mut Work,
    ) -> Result<Option<Order>, SearchError> {
        let mut after = after;
        let Some(reader) = self.reader(room)? else { return Ok(None) };
        loop {
            let events = reader.timeline(after, up_to, Direction::Forward, TIMELINE_PAGE)?;
            work.looked_at += events.len();
            for event in &events {
                if let Some(entry) = self.entry(&reader, event)? {
                    work.add(entry);
                }
                after = event.order;
            }
            if events.len() < TIMELINE_PAGE {
                return Ok(None);
            }
            if work.is_full() {
                return Ok(Some(after));
            }
        }
    }

    /// Whether so much was gathered that it should be written.
    pub fn is_full(work: &Work) -> bool {
        work.is_full()
    }

    /// A room, if it is one that is searched: of what is encrypted now, nothing is, not even what was said before
    /// (client-server API, "Server Side Search").
    fn reader(&mut self, room: RoomNum) -> Result<Option<Arc<RoomReader>>, SearchError> {
        if let Some(reader) = self.readers.get(&room) {
            return Ok(reader.clone());
        }
        if self.readers.len() >= READERS_MAX {
            self.readers.clear();
        }
        let reader = self.rooms.reader(&self.view, room)?.map(Arc::new);
        let reader = match reader {
            Some(reader) if reader.state_event(reader.state(), ENCRYPTION, "")?.is_some() => None,
            reader => reader,
        };
        self.readers.insert(room, reader.clone());
        Ok(reader)
    }

    /// An event of a room that is not searched: maybe the one since which it isn't.
    fn unsearched(&self, room: RoomNum, event: EventNum, work: &mut Work) -> Result<(), SearchError> {
        if let Some(reader) = self.rooms.reader(&self.view, room)?
            && reader.event(event)?.is_some_and(|event| event.pdu.kind_str() == ENCRYPTION)
        {
            work.gone_rooms.insert(room);
        }
        Ok(())
    }

    /// What an event that came means for the index.
    fn event(&self, reader: &RoomReader, event: &StoredEvent, work: &mut Work) -> Result<(), SearchError> {
        if let Some(target) = event.pdu.redacts() {
            if let Some(num) = self.view.event_num(target)?
                && self.view.event(num)?.is_some_and(|(_, record)| record.redacted_by.is_some())
            {
                work.gone.insert(num);
                work.redacted.insert(num);
                work.entries.remove(&num);
            }
            return Ok(());
        }
        match edit_of(event) {
            Some(target) => {
                if let Some(target) = reader.event_by_id(&target.target)? {
                    self.renew(reader, &target, work)?;
                }
            }
            None => {
                if let Some(entry) = self.entry(reader, event)? {
                    work.add(entry);
                }
            }
        }
        Ok(())
    }

    /// Looks anew at an event that may be in the index.
    pub fn renew_num(&mut self, num: EventNum, work: &mut Work) -> Result<(), SearchError> {
        work.gone.insert(num);
        let Some((_, record)) = self.view.event(num)? else { return Ok(()) };
        let Some(reader) = self.reader(record.room)? else { return Ok(()) };
        if let Some(event) = reader.event(num)? {
            self.renew(&reader, &event, work)?;
        }
        Ok(())
    }

    fn renew(&self, reader: &RoomReader, event: &StoredEvent, work: &mut Work) -> Result<(), SearchError> {
        work.gone.insert(event.num);
        work.entries.remove(&event.num);
        if let Some(entry) = self.entry(reader, event)? {
            work.add(entry);
        }
        Ok(())
    }

    /// What the index is to have of an event: its text, or that of its last edit.
    fn entry(&self, reader: &RoomReader, event: &StoredEvent) -> Result<Option<Entry>, SearchError> {
        let is_shown = event.record.redacted_by.is_none()
            && event.record.status == records::EventStatus::Accepted
            && event.order != Order(0);
        // An edit is found as what it edits.
        if !is_shown || crate::Key::of(&event.pdu).is_none() || edit_of(event).is_some() {
            return Ok(None);
        }
        let (text, edit) = match self.edit(reader, event)? {
            Some((text, edit)) => (Some(text), Some(edit)),
            None => (text_of(&event.pdu), None),
        };
        let sent = UnixMillis(event.pdu.origin_server_ts().0.into());
        Ok(text.map(|text| Entry {
            room: reader.num(),
            event: event.num,
            edit,
            sender: sender_hash(event.pdu.sender()),
            order: event.order,
            // A sender whose clock is ahead does not stand above everybody.
            at: sent.min(self.now),
            text,
        }))
    }

    fn edit(&self, reader: &RoomReader, event: &StoredEvent) -> Result<Option<(Text, EventNum)>, SearchError> {
        let (id, room) = (event.pdu.event_id(), reader.num());
        if event.pdu.state_key().is_some() || self.view.related(room, id)?.is_none_or(|(_, row)| row.replace == 0) {
            return Ok(None);
        }
        let edits = self.view.edits(room, id, event.pdu.sender(), event.pdu.kind_str(), 1)?;
        let Some(edit) = edits.first().map(|num| reader.event(*num)).transpose()?.flatten() else { return Ok(None) };
        Ok(edited_text(&event.pdu, &edit.pdu).map(|text| (text, edit.num)))
    }
}

fn edit_of(event: &StoredEvent) -> Option<Relation> {
    Relation::of(&event.pdu).filter(|relation| relation.rel_type == REPLACE && event.pdu.state_key().is_none())
}
