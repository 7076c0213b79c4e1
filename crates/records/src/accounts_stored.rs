//! What users store: profiles, account data, filters.

use crate::codec::{self, RecordsError};
use crate::tables::{ACCOUNT_DATA, ACCOUNT_DATA_BY_STAMP, ACCOUNT_DATA_USAGE, FILTER, PROFILE, Table};
use crate::{Changes, LogEntry, View};
use base::Stamp;
use ruma::{OwnedRoomId, RoomId, UserId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use store::key::{KeyBuilder, KeyReader};
use store::{Hole, Row, Stamped};

/// A profile: its fields by name, each value as JSON.
pub type Profile = BTreeMap<String, String>;

/// One piece of a user's account data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountDatum {
    /// The room that it belongs to; `None` if it belongs to the account as a whole.
    pub room_id: Option<OwnedRoomId>,
    /// Its type.
    pub kind: String,
    /// Its content, a JSON object.
    pub content: String,
    /// When it was written.
    pub stamp: Stamp,
}

impl AccountDatum {
    /// Whether it was deleted: what is left of it tells the user's devices so (MSC3391).
    #[must_use]
    pub fn is_deleted(&self) -> bool {
        self.content == DELETED
    }
}

/// The content of account data that was deleted.
pub const DELETED: &str = "{}";

/// How much account data a user has, over all rooms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountDataUsage {
    /// How many pieces.
    pub entries: u64,
    /// Their bytes, keys included.
    pub bytes: u64,
}

impl AccountDataUsage {
    fn add(&mut self, key: &[u8], value: &[u8]) {
        self.entries = self.entries.saturating_add(1);
        self.bytes = self.bytes.saturating_add(row_bytes(key, value));
    }

    fn remove(&mut self, key: &[u8], value: &[u8]) {
        self.entries = self.entries.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(row_bytes(key, value));
    }
}

fn row_bytes(key: &[u8], value: &[u8]) -> u64 {
    u64::try_from(key.len().saturating_add(value.len())).unwrap_or(u64::MAX)
}

fn profile_key(user: &UserId) -> Vec<u8> {
    PROFILE.key().text(user.as_str()).build()
}

/// What belongs to the account as a whole has an empty room, and comes first.
fn account_data_prefix(user: &UserId, room: Option<&RoomId>) -> KeyBuilder {
    ACCOUNT_DATA.key().text(user.as_str()).text(room.map_or("", RoomId::as_str))
}

fn account_data_key(user: &UserId, room: Option<&RoomId>, kind: &str) -> Vec<u8> {
    account_data_prefix(user, room).text(kind).build()
}

fn usage_key(user: &UserId) -> Vec<u8> {
    ACCOUNT_DATA_USAGE.key().text(user.as_str()).build()
}

fn by_stamp_key(user: &UserId) -> KeyBuilder {
    ACCOUNT_DATA_BY_STAMP.key().text(user.as_str())
}

fn filter_key(user: &UserId, id: &str) -> Vec<u8> {
    FILTER.key().text(user.as_str()).text(id).build()
}

fn read_room(table: Table, room: &str) -> Result<Option<OwnedRoomId>, RecordsError> {
    if room.is_empty() {
        return Ok(None);
    }
    OwnedRoomId::try_from(room).map(Some).map_err(|_| table.corrupt())
}

fn read_datum((key, value): &Row) -> Result<AccountDatum, RecordsError> {
    let mut reader = KeyReader::new(key);
    let (Some(_), Some(room), Some(kind)) = (reader.text(), reader.text(), reader.text()) else {
        return Err(ACCOUNT_DATA.corrupt());
    };
    let (stamp, content) = ACCOUNT_DATA.decode_stamped(value)?;
    Ok(AccountDatum { room_id: read_room(ACCOUNT_DATA, room)?, kind: kind.to_owned(), content, stamp })
}

impl View {
    /// A user's profile, empty if there is none.
    pub fn profile(&self, user: &UserId) -> Result<Profile, RecordsError> {
        Ok(self.get(PROFILE, &profile_key(user))?.unwrap_or_default())
    }

    /// The content of a user's account data of a type, for a room or for the account as a whole; none if it was
    /// deleted.
    pub fn account_data(
        &self,
        user: &UserId,
        room: Option<&RoomId>,
        kind: &str,
    ) -> Result<Option<String>, RecordsError> {
        let found = self.get_stamped(ACCOUNT_DATA, &account_data_key(user, room, kind))?;
        Ok(found.map(|(_, content): (Stamp, String)| content).filter(|content| content != DELETED))
    }

    /// When a user's account data of a type was last written.
    pub fn account_data_written(
        &self,
        user: &UserId,
        room: Option<&RoomId>,
        kind: &str,
    ) -> Result<Option<Stamp>, RecordsError> {
        let bytes = self.get_bytes(ACCOUNT_DATA, &account_data_key(user, room, kind))?;
        bytes.map(|bytes| codec::decode_stamp(ACCOUNT_DATA.name, &bytes)).transpose()
    }

    /// All account data of a user, deleted or not: of the account first, then room by room.
    pub fn account_data_all(&self, user: &UserId) -> Result<Vec<AccountDatum>, RecordsError> {
        let range = ACCOUNT_DATA.key().text(user.as_str()).prefix_range();
        self.scan_all(ACCOUNT_DATA, range)?.iter().map(read_datum).collect()
    }

    /// All account data of a user for one room, or for the account as a whole, deleted or not.
    pub fn account_data_of(&self, user: &UserId, room: Option<&RoomId>) -> Result<Vec<AccountDatum>, RecordsError> {
        let range = account_data_prefix(user, room).prefix_range();
        self.scan_all(ACCOUNT_DATA, range)?.iter().map(read_datum).collect()
    }

    /// The account data of a user that was last written after one stamp and up to another, oldest first. What
    /// was written again later than `up_to` is not among it.
    pub fn account_data_since(
        &self,
        user: &UserId,
        after: Stamp,
        up_to: Stamp,
    ) -> Result<Vec<AccountDatum>, RecordsError> {
        let range =
            (by_stamp_key(user).number(after.next().0).build(), by_stamp_key(user).number(up_to.next().0).build());
        let mut data = Vec::new();
        for (key, value) in self.scan_all(ACCOUNT_DATA_BY_STAMP, range)? {
            let mut reader = KeyReader::new(&key);
            let stamp = reader.text().and_then(|_| reader.number()).ok_or_else(|| ACCOUNT_DATA_BY_STAMP.corrupt())?;
            let (room, kind): (String, String) = ACCOUNT_DATA_BY_STAMP.decode(&value)?;
            let room_id = read_room(ACCOUNT_DATA_BY_STAMP, &room)?;
            let current = self.get_stamped(ACCOUNT_DATA, &account_data_key(user, room_id.as_deref(), &kind))?;
            // A row of an older value, left by a batch that wrote the same key twice, has another stamp.
            if let Some((written, content)) = current.filter(|(written, _)| written.0 == stamp) {
                data.push(AccountDatum { room_id, kind, content, stamp: written });
            }
        }
        Ok(data)
    }

    /// How much account data a user has. It is counted where it is written; only for users who have written
    /// none since there is a count, it is counted here.
    pub fn account_data_usage(&self, user: &UserId) -> Result<AccountDataUsage, RecordsError> {
        if let Some(usage) = self.get(ACCOUNT_DATA_USAGE, &usage_key(user))? {
            return Ok(usage);
        }
        let mut usage = AccountDataUsage::default();
        for (key, value) in self.scan_all(ACCOUNT_DATA, ACCOUNT_DATA.key().text(user.as_str()).prefix_range())? {
            usage.add(&key, &value);
        }
        Ok(usage)
    }

    /// A filter that a user has stored.
    pub fn filter(&self, user: &UserId, id: &str) -> Result<Option<String>, RecordsError> {
        self.get(FILTER, &filter_key(user, id))
    }

    /// How many filters a user has stored.
    pub fn filter_count(&self, user: &UserId) -> Result<usize, RecordsError> {
        Ok(self.scan_all(FILTER, FILTER.key().text(user.as_str()).prefix_range())?.len())
    }
}

impl Changes {
    /// Writes a user's profile, on condition that it is still as the view shows it.
    pub fn put_profile(&mut self, user: &UserId, profile: &Profile) -> Result<(), RecordsError> {
        let key = profile_key(user);
        self.expect_unchanged(PROFILE, key.clone())?;
        self.put(PROFILE, key, profile);
        Ok(())
    }

    /// How much account data a user has after these changes.
    pub fn account_data_usage(&self, user: &UserId) -> Result<AccountDataUsage, RecordsError> {
        match self.get(ACCOUNT_DATA_USAGE, &usage_key(user))? {
            Some(usage) => Ok(usage),
            None => self.view().account_data_usage(user),
        }
    }

    /// Writes account data, on condition that it and the count of the user's account data are still as the view
    /// shows them, and logs it. Takes a stamp. How much a user may have is for the caller to limit.
    pub fn put_account_data(
        &mut self,
        user: &UserId,
        room: Option<&RoomId>,
        kind: &str,
        content: &str,
    ) -> Result<(), RecordsError> {
        let key = account_data_key(user, room, kind);
        self.expect_unchanged(ACCOUNT_DATA, key.clone())?;
        if let Some((stamp, _)) = self.view().get_stamped::<String>(ACCOUNT_DATA, &key)? {
            self.clear(ACCOUNT_DATA_BY_STAMP, by_stamp_key(user).number(stamp.0).build());
        }
        let mut usage = self.account_data_usage(user)?;
        if let Some(before) = self.get_bytes(ACCOUNT_DATA, &key)? {
            usage.remove(&key, &before);
        }
        let nth = self.stamp();
        let value = codec::encode_stamped(nth, &content);
        usage.add(&key, &value.bytes);
        self.put_raw(ACCOUNT_DATA, key.into(), value);
        self.expect_unchanged(ACCOUNT_DATA_USAGE, usage_key(user))?;
        self.put(ACCOUNT_DATA_USAGE, usage_key(user), &usage);
        let by_stamp = by_stamp_key(user);
        let at = u32::try_from(by_stamp.len()).unwrap_or(u32::MAX);
        let by_stamp = Stamped { bytes: by_stamp.number(0).build(), holes: vec![Hole { at, nth }] };
        let value = codec::encode(&(room.map_or("", RoomId::as_str), kind));
        self.put_raw(ACCOUNT_DATA_BY_STAMP, by_stamp, value.into());
        self.log(nth, &LogEntry::AccountData { user: user.to_owned() });
        Ok(())
    }

    /// Stores a filter.
    pub fn put_filter(&mut self, user: &UserId, id: &str, filter: &str) {
        self.put(FILTER, filter_key(user, id), &filter);
    }

    /// Removes all that a user has stored: profile, account data, status message, subscriptions to threads, filters.
    pub fn clear_stored(&mut self, user: &UserId) {
        self.clear(PROFILE, profile_key(user));
        self.clear_range(ACCOUNT_DATA, ACCOUNT_DATA.key().text(user.as_str()).prefix_range());
        self.clear_range(ACCOUNT_DATA_BY_STAMP, by_stamp_key(user).prefix_range());
        self.clear(ACCOUNT_DATA_USAGE, usage_key(user));
        self.clear_presence(user);
        self.clear_thread_subscriptions(user);
        self.clear_range(FILTER, FILTER.key().text(user.as_str()).prefix_range());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Records;
    use ruma::{owned_room_id, owned_user_id};
    use std::sync::Arc;
    use store::MemoryEngine;

    #[tokio::test]
    async fn account_data_is_found_by_type_and_by_when_it_was_last_written() {
        let records = Records::open(Arc::new(MemoryEngine::new())).await.unwrap();
        let (user, room) = (owned_user_id!("@a:b"), owned_room_id!("!r:b"));
        let mut stamps = Vec::new();
        for (room, kind, content) in
            [(None, "x", "{}"), (Some(&room), "x", "{\"r\":1}"), (None, "y", "{}"), (None, "x", "{\"n\":2}")]
        {
            let mut changes = records.changes(&records.view());
            changes.put_account_data(&user, room.map(AsRef::as_ref), kind, content).unwrap();
            stamps.push(records.commit(changes).await.unwrap().last);
        }
        let view = records.view();
        let since = |after: Stamp| -> Vec<(Option<OwnedRoomId>, String, String)> {
            let data = view.account_data_since(&user, after, view.stamp()).unwrap();
            data.into_iter().map(|datum| (datum.room_id, datum.kind, datum.content)).collect()
        };
        let x = (None, "x".to_owned(), "{\"n\":2}".to_owned());
        let y = (None, "y".to_owned(), "{}".to_owned());
        let r = (Some(room.clone()), "x".to_owned(), "{\"r\":1}".to_owned());
        assert_eq!(since(Stamp(0)), [r, y.clone(), x.clone()]);
        assert_eq!(since(stamps[1]), [y, x.clone()]);
        assert_eq!(since(stamps[2]), [x]);
        assert_eq!(since(stamps[3]), []);
        assert_eq!(view.account_data(&user, None, "x").unwrap().as_deref(), Some("{\"n\":2}"));
        assert_eq!(view.account_data_of(&user, Some(&room)).unwrap().len(), 1);
        assert_eq!(view.account_data_all(&user).unwrap().len(), 3);
        assert_eq!(view.log(Stamp(0), view.stamp(), 10).unwrap().len(), 4);
        assert!(view.account_data_since(&owned_user_id!("@a2:b"), Stamp(0), view.stamp()).unwrap().is_empty());
    }

    #[tokio::test]
    async fn the_count_of_account_data_is_what_a_count_of_its_rows_gives() {
        let records = Records::open(Arc::new(MemoryEngine::new())).await.unwrap();
        let (user, room) = (owned_user_id!("@a:b"), owned_room_id!("!r:b"));
        let counted = || {
            let mut usage = AccountDataUsage::default();
            let range = ACCOUNT_DATA.key().text(user.as_str()).prefix_range();
            for (key, value) in records.view().scan_all(ACCOUNT_DATA, range).unwrap() {
                usage.add(&key, &value);
            }
            usage
        };
        let write = async |data: &[(Option<&RoomId>, &str, &str)]| {
            let mut changes = records.changes(&records.view());
            for (room, kind, content) in data {
                changes.put_account_data(&user, *room, kind, content).unwrap();
            }
            let usage = changes.account_data_usage(&user).unwrap();
            records.commit(changes).await.unwrap();
            assert_eq!(usage, counted());
            assert_eq!(usage, records.view().account_data_usage(&user).unwrap());
            usage.entries
        };
        assert_eq!(write(&[(None, "x", "{}")]).await, 1);
        assert_eq!(write(&[(None, "x", "{\"longer\":1}"), (Some(&room), "x", "{}")]).await, 2);
        assert_eq!(write(&[(None, "x", "{}")]).await, 2);
        assert_eq!(write(&[(None, "y", "{\"a\":1}"), (None, "y", "{}")]).await, 3);

        // Data from before there was a count is counted by the first write.
        let mut changes = records.changes(&records.view());
        changes.clear(ACCOUNT_DATA_USAGE, usage_key(&user));
        records.commit(changes).await.unwrap();
        assert_eq!(records.view().account_data_usage(&user).unwrap(), counted());
        assert_eq!(write(&[(None, "z", "{}")]).await, 4);
    }

    #[tokio::test]
    async fn erasing_clears_all_that_a_user_stored_and_nothing_of_others() {
        let records = Records::open(Arc::new(MemoryEngine::new())).await.unwrap();
        let users = [owned_user_id!("@a:b"), owned_user_id!("@ab:b")];
        for user in &users {
            let mut changes = records.changes(&records.view());
            changes.put_account_data(user, None, "x", "{\"n\":1}").unwrap();
            changes.put_filter(user, "f", "{}");
            changes.put_profile(user, &Profile::from([("displayname".to_owned(), "\"A\"".to_owned())])).unwrap();
            records.commit(changes).await.unwrap();
        }
        let mut changes = records.changes(&records.view());
        changes.clear_stored(&users[0]);
        records.commit(changes).await.unwrap();
        let view = records.view();
        let left = users.each_ref().map(|user| {
            (
                view.account_data_all(user).unwrap().len(),
                view.account_data_since(user, Stamp(0), view.stamp()).unwrap().len(),
                view.account_data_usage(user).unwrap().entries,
                view.filter_count(user).unwrap(),
                view.profile(user).unwrap().len(),
            )
        });
        assert_eq!(left, [(0, 0, 0, 0, 0), (1, 1, 1, 1, 1)]);
    }
}
