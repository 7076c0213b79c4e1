//! History that other servers know and this one learns later.

use crate::actor::{Command, Received};
use crate::{RoomError, Rooms, num_of};
use base::RoomNum;
use rules::CheckedPdu;
use ruma::{OwnedEventId, RoomId};
use std::collections::HashMap;

/// How many events are backfilled at once.
pub const BACKFILL_EVENTS_MAX: usize = 500;
/// How many bytes of JSON they have together: half of what one batch takes.
pub const BACKFILL_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A piece of a room's history from before what this server knows of it.
#[derive(Debug, Default)]
pub struct Backfill {
    /// The events, each after those that it follows.
    pub events: Vec<CheckedPdu>,
    /// Events that those and the states below refer to, each after those that it names as allowing it. They get no
    /// place in the history. Any number.
    pub outliers: Vec<CheckedPdu>,
    /// The state before each event that follows others which are not known: the ids of its events.
    pub states: HashMap<OwnedEventId, Vec<OwnedEventId>>,
}

impl Rooms {
    /// Takes in history from before the first event of a room's timeline, and answers what became of each event.
    /// The events are judged by what they name and by the state before them, and change nothing that is current:
    /// neither the state nor who is a member. What is known already keeps its place, so that a piece can come
    /// twice.
    ///
    /// An event whose ancestors are not known and whose state is not given is [`RoomError::Missing`], as is one
    /// whose state has events that are not known.
    ///
    /// # Errors
    ///
    /// [`RoomError::TooLarge`]: more than [`BACKFILL_EVENTS_MAX`] events or [`BACKFILL_BYTES_MAX`] bytes of them;
    /// [`RoomError::NotFound`]: no such room; [`RoomError::Missing`]: an outlier names events that are not known.
    pub async fn backfill(&self, room_id: &RoomId, piece: Backfill) -> Result<Received, RoomError> {
        let Backfill { events, outliers, states } = piece;
        let bytes: usize = events.iter().map(|event| event.json().len()).sum();
        if events.len() > BACKFILL_EVENTS_MAX || bytes > BACKFILL_BYTES_MAX {
            return Err(RoomError::TooLarge("the history is too much for one piece".to_owned()));
        }
        let num = num_of(&self.records().view(), room_id)?;
        for outcome in self.put_outliers(num, outliers).await? {
            outcome?;
        }
        self.tell(num, |reply| Command::Backfill { events, states, reply }).await
    }

    /// Takes in events that others refer to, each after those that it names as allowing it, and answers what became
    /// of each: one that names what is not known is [`RoomError::Missing`]. They get no place in the history.
    ///
    /// # Errors
    ///
    /// [`RoomError::NotFound`]: no such room.
    pub async fn outliers(&self, room_id: &RoomId, outliers: Vec<CheckedPdu>) -> Result<Received, RoomError> {
        let num = num_of(&self.records().view(), room_id)?;
        self.put_outliers(num, outliers).await
    }

    pub(crate) async fn put_outliers(&self, num: RoomNum, outliers: Vec<CheckedPdu>) -> Result<Received, RoomError> {
        let mut outcomes = Vec::with_capacity(outliers.len());
        let mut outliers = outliers.into_iter().peekable();
        while outliers.peek().is_some() {
            let (mut some, mut bytes) = (Vec::new(), 0);
            while some.len() < BACKFILL_EVENTS_MAX
                && bytes < BACKFILL_BYTES_MAX
                && let Some(outlier) = outliers.next()
            {
                bytes += outlier.json().len();
                some.push(outlier);
            }
            outcomes.extend(self.tell(num, |reply| Command::Outliers { events: some, reply }).await?);
        }
        Ok(outcomes)
    }
}
