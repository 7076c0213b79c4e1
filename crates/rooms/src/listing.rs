//! A room's row in the published room directory, which its own writer keeps in line with the room.

use crate::RoomError;
use crate::summary::{SUMMARY_TYPES, summary};
use crate::work::Work;
use records::{RoomHead, RoomSummary};
use rules::StateKey;
use ruma::events::StateEventType;

/// The most bytes of a topic that the directory shows and searches.
const TOPIC_BYTES_MAX: usize = 2048;
/// The same for names.
const NAME_BYTES_MAX: usize = 512;

/// What a run has done that the directory may have to show.
#[derive(Debug)]
pub(crate) struct Listing {
    /// How many members the room had before the run.
    joined: u64,
    /// Whether something else that is shown may have changed.
    touched: bool,
    /// Whether the room shall be listed, if the run was told.
    publish: Option<bool>,
}

impl Listing {
    pub fn of(head: &RoomHead) -> Self {
        Self { joined: head.joined, touched: false, publish: None }
    }

    /// Notes that an entry of the state changed.
    pub fn note(&mut self, key: &StateKey) {
        self.touched |= key.1.is_empty() && SUMMARY_TYPES.contains(&key.0.to_string().as_str());
    }

    /// Notes that anything may have changed.
    pub fn note_all(&mut self) {
        self.touched = true;
    }
}

impl Work {
    /// Lists the room in the published room directory, or takes it out, when the run is finished.
    pub fn publish(&mut self, published: bool) {
        self.listing.publish = Some(published);
    }

    /// Whether the room is listed when the run is finished.
    pub fn is_published(&self) -> Result<bool, RoomError> {
        match self.listing.publish {
            Some(published) => Ok(published),
            None => Ok(self.changes.is_published(self.num)?),
        }
    }

    /// Brings the room's row of the directory in line with the room.
    pub(crate) fn list(&mut self) -> Result<(), RoomError> {
        let Listing { joined, touched, publish } = self.listing;
        if !touched && publish.is_none() && joined == self.loaded.head.joined {
            return Ok(());
        }
        let before = self.changes.is_published(self.num)?;
        let published = publish.unwrap_or(before);
        if !published && !before {
            return Ok(());
        }
        let shown = if published { Some(self.shown()?) } else { None };
        let shown = shown.as_ref().map(|(summary, text)| (summary, text.as_str()));
        let room_id = self.loaded.head.room_id.clone();
        Ok(self.changes.publish(self.num, &room_id, shown)?)
    }

    /// What the directory shows of the room, and the text by which it is found.
    fn shown(&mut self) -> Result<(RoomSummary, String), RoomError> {
        let mut events = [const { None }; SUMMARY_TYPES.len()];
        for (event, kind) in events.iter_mut().zip(SUMMARY_TYPES) {
            *event = self.current(&(StateEventType::from(kind), String::new()))?.map(|(_, pdu)| pdu);
        }
        let mut shown = summary(&self.loaded.head, &self.loaded.room.rules, &events);
        // Lists don't show who else is let in.
        shown.allowed_room_ids = Vec::new();
        for (text, bytes_max) in [(&mut shown.name, NAME_BYTES_MAX), (&mut shown.topic, TOPIC_BYTES_MAX)] {
            if let Some(text) = text {
                text.truncate(text.floor_char_boundary(bytes_max));
            }
        }
        let texts = [&shown.name, &shown.canonical_alias, &shown.topic];
        let texts: Vec<String> = texts.into_iter().flatten().map(|text| text.to_lowercase()).collect();
        Ok((shown, texts.join("\n")))
    }
}
