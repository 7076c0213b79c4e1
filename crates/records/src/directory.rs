//! The published room directory: which rooms are in it, and what it says of them, in the order in which it lists
//! them.
//!
//! A row has all that a list shows of its room, so that no room is looked at to show a page. The room's own
//! writer keeps its row: it changes with the room, in the same batch.

use crate::codec::{self, RecordsError};
use crate::tables::{LISTED, LISTED_COUNT, PUBLISHED};
use crate::{Changes, View};
use base::RoomNum;
use base::limits::SCAN_ROWS_MAX;
use ruma::{OwnedRoomId, RoomId, RoomVersionId};
use serde::{Deserialize, Serialize};
use store::Direction;
use store::key::KeyReader;

/// How many rows of the directory are read at once, while it is searched.
const ROWS_AT_ONCE: usize = if SCAN_ROWS_MAX < 1000 { SCAN_ROWS_MAX } else { 1000 };

/// What those outside of a room are shown of it (client-server API, "RoomSummary").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomSummary {
    /// The room.
    pub room_id: OwnedRoomId,
    /// Its version.
    pub version: RoomVersionId,
    /// How many members have joined.
    pub joined: u64,
    /// Its name.
    pub name: Option<String>,
    /// Its topic as plain text.
    pub topic: Option<String>,
    /// Its main alias.
    pub canonical_alias: Option<String>,
    /// Its picture's `mxc:` URI.
    pub avatar_url: Option<String>,
    /// Its join rule; none if it has no readable one.
    pub join_rule: Option<String>,
    /// The rooms whose members its join rules let in.
    pub allowed_room_ids: Vec<OwnedRoomId>,
    /// Whether everybody may read it.
    pub world_readable: bool,
    /// Whether guests may join it.
    pub guest_can_join: bool,
    /// Its type, such as `m.space`.
    pub room_type: Option<String>,
    /// The algorithm that its messages are encrypted by.
    pub encryption: Option<String>,
}

/// A place in the directory: that of a room with so many members. It need not be there any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedPlace {
    /// How many members have joined.
    pub joined: u64,
    /// The room.
    pub room_id: OwnedRoomId,
}

/// A piece of the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The rooms that were wanted, in the direction in which they were looked for.
    pub rooms: Vec<RoomSummary>,
    /// The last place that was looked at, wanted or not.
    pub last: Option<ListedPlace>,
    /// Whether there may be more beyond it.
    pub more: bool,
}

/// Rooms with many members come first, and equally large ones in the order of their ids.
fn listed_key(joined: u64, room_id: &RoomId) -> Vec<u8> {
    LISTED.key().number(u64::MAX - joined).text(room_id.as_str()).build()
}

fn read_place(key: &[u8]) -> Option<ListedPlace> {
    let mut reader = KeyReader::new(key);
    let joined = u64::MAX - reader.number()?;
    Some(ListedPlace { joined, room_id: reader.text()?.try_into().ok()? })
}

fn published_key(room: RoomNum) -> Vec<u8> {
    PUBLISHED.key().number(room.0).build()
}

impl View {
    /// Whether a room is in the published room directory.
    pub fn is_published(&self, room: RoomNum) -> Result<bool, RecordsError> {
        Ok(self.get_bytes(PUBLISHED, &published_key(room))?.is_some())
    }

    /// How many rooms the directory lists.
    pub fn listed_count(&self) -> Result<u64, RecordsError> {
        let bytes = self.get_bytes(LISTED_COUNT, &LISTED_COUNT.key().build())?;
        Ok(bytes.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes))
    }

    /// The rooms of the directory beyond a place that `wanted` picks by their text for searching, which is in
    /// lower case, and their type. At most `rooms_max` rooms, out of at most `looked_at_max`.
    pub fn listed(
        &self,
        beyond: Option<&ListedPlace>,
        direction: Direction,
        rooms_max: usize,
        looked_at_max: usize,
        wanted: impl Fn(&str, Option<&str>) -> bool,
    ) -> Result<Listed, RecordsError> {
        let (mut from, mut to) = LISTED.key().prefix_range();
        if let Some(place) = beyond {
            bound(&mut from, &mut to, direction, listed_key(place.joined, &place.room_id));
        }
        let mut listed = Listed { rooms: Vec::new(), last: None, more: true };
        let mut left = looked_at_max;
        while left > 0 && listed.rooms.len() < rooms_max {
            let rows_max = ROWS_AT_ONCE.min(left);
            let rows = self.scan(LISTED, (from.clone(), to.clone()), direction, rows_max)?;
            left -= rows.len();
            listed.more = rows.len() == rows_max;
            for (at, (key, value)) in rows.iter().enumerate() {
                let (text, room_type): (&str, Option<&str>) = codec::decode_start(LISTED.name, value)?;
                listed.last = Some(read_place(key).ok_or_else(|| LISTED.corrupt())?);
                if wanted(text, room_type) {
                    let (_, _, room): (&str, Option<&str>, RoomSummary) = codec::decode_start(LISTED.name, value)?;
                    listed.rooms.push(room);
                }
                if listed.rooms.len() == rooms_max {
                    listed.more |= at + 1 < rows.len();
                    break;
                }
            }
            match rows.into_iter().last() {
                Some((key, _)) if listed.more => bound(&mut from, &mut to, direction, key),
                _ => break,
            }
        }
        Ok(listed)
    }
}

/// Leaves of a range what is beyond a key.
fn bound(from: &mut Vec<u8>, to: &mut Vec<u8>, direction: Direction, mut key: Vec<u8>) {
    match direction {
        Direction::Forward => {
            key.push(0);
            *from = key;
        }
        Direction::Backward => *to = key,
    }
}

impl Changes {
    /// Whether a room is in the published room directory, after these changes.
    pub fn is_published(&self, room: RoomNum) -> Result<bool, RecordsError> {
        Ok(self.get_bytes(PUBLISHED, &published_key(room))?.is_some())
    }

    /// Puts a room into the published room directory, with what is shown of it and, in lower case, the text by
    /// which it is found; or takes it out. A room without members is not listed.
    pub fn publish(
        &mut self,
        room: RoomNum,
        room_id: &RoomId,
        shown: Option<(&RoomSummary, &str)>,
    ) -> Result<(), RecordsError> {
        let key = published_key(room);
        let before: Option<Option<u64>> = self.get(PUBLISHED, &key)?;
        let listed_at = shown.map(|(summary, _)| (summary.joined > 0).then_some(summary.joined));
        if let Some(joined) = before.flatten() {
            self.clear(LISTED, listed_key(joined, room_id));
        }
        if let (Some((summary, text)), Some(Some(joined))) = (shown, listed_at) {
            self.put(LISTED, listed_key(joined, room_id), &(text, summary.room_type.as_deref(), summary));
        }
        match listed_at {
            Some(joined) => self.put(PUBLISHED, key, &joined),
            None => self.clear(PUBLISHED, key),
        }
        let count = |listed: Option<Option<u64>>| i64::from(listed.flatten().is_some());
        let delta = count(listed_at) - count(before);
        if delta != 0 {
            self.add(LISTED_COUNT, LISTED_COUNT.key().build(), delta);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Records;
    use std::sync::Arc;
    use store::MemoryEngine;

    fn summary(id: &str, joined: u64) -> RoomSummary {
        RoomSummary {
            room_id: id.try_into().unwrap(),
            version: RoomVersionId::V12,
            joined,
            name: Some(id.to_owned()),
            topic: None,
            canonical_alias: None,
            avatar_url: None,
            join_rule: Some("public".to_owned()),
            allowed_room_ids: Vec::new(),
            world_readable: false,
            guest_can_join: false,
            room_type: id.contains('s').then(|| "m.space".to_owned()),
            encryption: None,
        }
    }

    async fn publish(records: &Records, num: u64, id: &str, joined: Option<u64>) {
        let mut changes = records.changes(&records.view());
        let summary = joined.map(|joined| summary(id, joined));
        let shown = summary.as_ref().map(|summary| (summary, id));
        changes.publish(RoomNum(num), id.try_into().unwrap(), shown).unwrap();
        records.commit(changes).await.unwrap();
    }

    async fn five() -> Records {
        let records = Records::open(Arc::new(MemoryEngine::new())).await.unwrap();
        for (num, id, joined) in [(1, "!a:x", 1), (2, "!b:x", 300), (3, "!s:x", 3), (4, "!c:x", 3), (5, "!d:x", 2)] {
            publish(&records, num, id, Some(joined)).await;
        }
        records
    }

    fn ids(listed: &Listed) -> Vec<&str> {
        listed.rooms.iter().map(|room| room.room_id.as_str()).collect()
    }

    #[tokio::test]
    async fn the_largest_rooms_come_first_and_pages_go_both_ways() {
        let records = five().await;
        let view = records.view();
        let all = |_: &str, _: Option<&str>| true;
        let first = view.listed(None, Direction::Forward, 2, 100, all).unwrap();
        assert_eq!(ids(&first), ["!b:x", "!c:x"]);
        assert!(first.more);
        let second = view.listed(first.last.as_ref(), Direction::Forward, 10, 100, all).unwrap();
        assert_eq!(ids(&second), ["!s:x", "!d:x", "!a:x"]);
        assert!(!second.more);
        let back = view.listed(second.last.as_ref(), Direction::Backward, 3, 100, all).unwrap();
        assert_eq!(ids(&back), ["!d:x", "!s:x", "!c:x"]);
        assert!(back.more);
        assert_eq!(view.listed_count().unwrap(), 5);
    }

    #[tokio::test]
    async fn a_search_looks_at_no_more_rows_than_it_may_and_goes_on_from_there() {
        let records = five().await;
        let view = records.view();
        let spaces = |_: &str, room_type: Option<&str>| room_type == Some("m.space");
        let some = view.listed(None, Direction::Forward, 2, 2, spaces).unwrap();
        assert_eq!((ids(&some).len(), some.more), (0, true));
        let rest = view.listed(some.last.as_ref(), Direction::Forward, 2, 100, spaces).unwrap();
        assert_eq!((ids(&rest), rest.more), (vec!["!s:x"], false));
        let named = view.listed(None, Direction::Forward, 1, 100, |text, _| text.contains('d')).unwrap();
        assert_eq!((ids(&named), named.more), (vec!["!d:x"], true));
    }

    #[tokio::test]
    async fn a_room_moves_when_its_members_come_and_go() {
        let records = five().await;
        let ids = |count: usize| -> Vec<String> {
            let view = records.view();
            let listed = view.listed(None, Direction::Forward, count, 100, |_, _| true).unwrap();
            listed.rooms.iter().map(|room| room.room_id.to_string()).collect()
        };
        publish(&records, 1, "!a:x", Some(301)).await;
        assert_eq!(ids(2), ["!a:x", "!b:x"]);
        // Nobody is left: it is still published, but there is nothing to list.
        publish(&records, 1, "!a:x", Some(0)).await;
        assert_eq!(ids(2), ["!b:x", "!c:x"]);
        assert!(records.view().is_published(RoomNum(1)).unwrap());
        assert_eq!(records.view().listed_count().unwrap(), 4);
        publish(&records, 1, "!a:x", Some(1)).await;
        publish(&records, 2, "!b:x", None).await;
        publish(&records, 2, "!b:x", None).await;
        assert_eq!(ids(9), ["!c:x", "!s:x", "!d:x", "!a:x"]);
        assert!(!records.view().is_published(RoomNum(2)).unwrap());
        assert_eq!(records.view().listed_count().unwrap(), 4);
    }
}
