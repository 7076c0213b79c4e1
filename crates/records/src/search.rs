//! What full-text search keeps in the store: to which index it belongs. The index itself is in a folder of its own.

use crate::codec::RecordsError;
use crate::tables::{ROOM_HEAD, SEARCH_INDEX};
use crate::{Changes, View};
use base::RoomNum;
use base::limits::SCAN_ROWS_MAX;
use store::Direction;
use store::key::KeyReader;

impl View {
    /// The id of the search index that was made for this store.
    pub fn search_index(&self) -> Result<Option<String>, RecordsError> {
        self.get(SEARCH_INDEX, &SEARCH_INDEX.key().build())
    }

    /// All rooms that this server knows, by their numbers, from this one on.
    pub fn room_nums(&self, from: RoomNum, rows_max: usize) -> Result<Vec<RoomNum>, RecordsError> {
        let range = (ROOM_HEAD.key().number(from.0).build(), ROOM_HEAD.key().prefix_range().1);
        let rows = self.scan(ROOM_HEAD, range, Direction::Forward, rows_max)?;
        rows.iter()
            .map(|(key, _)| KeyReader::new(key).number().map(RoomNum).ok_or_else(|| ROOM_HEAD.corrupt()))
            .collect()
    }

    /// How many rooms this server knows. Reads the heads of all.
    pub fn room_count(&self) -> Result<u64, RecordsError> {
        let (mut from, mut count) = (RoomNum(0), 0_u64);
        loop {
            let page = self.room_nums(from, SCAN_ROWS_MAX)?;
            count = count.saturating_add(u64::try_from(page.len()).unwrap_or(u64::MAX));
            match page.last() {
                Some(last) if page.len() == SCAN_ROWS_MAX => from = RoomNum(last.0.saturating_add(1)),
                _ => return Ok(count),
            }
        }
    }
}

impl Changes {
    /// From now on this store's search index is the one of this id.
    pub fn put_search_index(&mut self, id: &str) {
        self.put(SEARCH_INDEX, SEARCH_INDEX.key().build(), &id);
    }
}
