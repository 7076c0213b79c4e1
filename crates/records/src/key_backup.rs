//! Backups of room keys (client-server API, "Server-side key backups").

use crate::codec::RecordsError;
use crate::tables::{BACKUP, BACKUP_KEY, BACKUP_NEXT};
use crate::{Changes, View};
use ruma::UserId;
use serde::{Deserialize, Serialize};
use store::Direction;
use store::key::{KeyBuilder, KeyReader};

/// A version of a user's backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupRecord {
    /// How its keys are encrypted.
    pub algorithm: String,
    /// What the algorithm needs: a JSON object.
    pub auth_data: String,
    /// Counts the changes of its keys.
    pub etag: u64,
    /// How many keys it has.
    pub count: u64,
}

/// A key in a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackedUpKey {
    /// The first message of the session that it can decrypt.
    pub first_message_index: u64,
    /// How often it was forwarded between devices.
    pub forwarded_count: u64,
    /// Whether the device that backed it up has verified the device that it is from.
    pub is_verified: bool,
    /// The encrypted key: a JSON object.
    pub session_data: String,
}

fn next_key(user: &UserId) -> Vec<u8> {
    BACKUP_NEXT.key().text(user.as_str()).build()
}

fn version_key(user: &UserId, version: u64) -> Vec<u8> {
    BACKUP.key().text(user.as_str()).number(version).build()
}

fn keys(user: &UserId, version: u64, room: Option<&str>) -> KeyBuilder {
    let key = BACKUP_KEY.key().text(user.as_str()).number(version);
    match room {
        Some(room) => key.text(room),
        None => key,
    }
}

fn key_key(user: &UserId, version: u64, room: &str, session: &str) -> Vec<u8> {
    keys(user, version, Some(room)).text(session).build()
}

impl View {
    /// The number that a user's next version of a backup gets; all below were in use once.
    pub fn backup_next(&self, user: &UserId) -> Result<u64, RecordsError> {
        Ok(self.get(BACKUP_NEXT, &next_key(user))?.unwrap_or(1))
    }

    /// A version of a user's backup.
    pub fn backup(&self, user: &UserId, version: u64) -> Result<Option<BackupRecord>, RecordsError> {
        self.get(BACKUP, &version_key(user, version))
    }

    /// The newest version of a user's backup.
    pub fn backup_newest(&self, user: &UserId) -> Result<Option<(u64, BackupRecord)>, RecordsError> {
        let range = BACKUP.key().text(user.as_str()).prefix_range();
        let rows = self.scan(BACKUP, range, Direction::Backward, 1)?;
        let Some((key, value)) = rows.first() else { return Ok(None) };
        let mut reader = KeyReader::new(key);
        let version = reader.text().and_then(|_| reader.number()).ok_or_else(|| BACKUP.corrupt())?;
        Ok(Some((version, BACKUP.decode(value)?)))
    }

    /// How many versions of a backup a user has, counted up to `count_max`.
    pub fn backup_count(&self, user: &UserId, count_max: usize) -> Result<usize, RecordsError> {
        let range = BACKUP.key().text(user.as_str()).prefix_range();
        Ok(self.scan(BACKUP, range, Direction::Forward, count_max)?.len())
    }

    /// A key in a version of a backup.
    pub fn backed_up_key(
        &self,
        user: &UserId,
        version: u64,
        room: &str,
        session: &str,
    ) -> Result<Option<BackedUpKey>, RecordsError> {
        self.get(BACKUP_KEY, &key_key(user, version, room, session))
    }

    /// The keys in a version of a backup, of one room or of all, by room and session, from the one after `after`,
    /// at most `rows_max`.
    pub fn backed_up_keys(
        &self,
        user: &UserId,
        version: u64,
        room: Option<&str>,
        after: Option<(&str, &str)>,
        rows_max: usize,
    ) -> Result<Vec<(String, String, BackedUpKey)>, RecordsError> {
        let (mut from, to) = keys(user, version, room).prefix_range();
        if let Some((room, session)) = after {
            from = key_key(user, version, room, session);
            from.push(0);
        }
        let rows = self.scan(BACKUP_KEY, (from, to), Direction::Forward, rows_max)?;
        rows.iter()
            .map(|(key, value)| {
                let mut reader = KeyReader::new(key);
                let place = reader.text().and_then(|_| reader.number());
                let (Some(_), Some(room), Some(session)) = (place, reader.text(), reader.text()) else {
                    return Err(BACKUP_KEY.corrupt());
                };
                Ok((room.to_owned(), session.to_owned(), BACKUP_KEY.decode(value)?))
            })
            .collect()
    }
}

impl Changes {
    /// Begins a new version of a user's backup, on condition that no other has begun meanwhile. Its number.
    pub fn add_backup(&mut self, user: &UserId, record: &BackupRecord) -> Result<u64, RecordsError> {
        let version = self.view().backup_next(user)?;
        let key = next_key(user);
        self.expect_unchanged(BACKUP_NEXT, key.clone())?;
        self.put(BACKUP_NEXT, key, &version.saturating_add(1));
        self.put(BACKUP, version_key(user, version), record);
        Ok(version)
    }

    /// Writes a version of a user's backup, on condition that it is still as the view shows it. Everything that
    /// changes its keys does this too.
    pub fn put_backup(&mut self, user: &UserId, version: u64, record: &BackupRecord) -> Result<(), RecordsError> {
        let key = version_key(user, version);
        self.expect_unchanged(BACKUP, key.clone())?;
        self.put(BACKUP, key, record);
        Ok(())
    }

    /// Commits only if no version of a user's backup has begun meanwhile.
    pub fn expect_backup_newest(&mut self, user: &UserId) -> Result<(), RecordsError> {
        self.expect_unchanged(BACKUP_NEXT, next_key(user))
    }

    /// Removes a version of a user's backup and its keys, on condition that it is still as the view shows it.
    pub fn clear_backup(&mut self, user: &UserId, version: u64) -> Result<(), RecordsError> {
        let key = version_key(user, version);
        self.expect_unchanged(BACKUP, key.clone())?;
        self.clear(BACKUP, key);
        self.clear_backed_up_keys(user, version, None);
        Ok(())
    }

    /// Removes all versions of a user's backup. Their numbers stay taken.
    pub(crate) fn clear_backups(&mut self, user: &UserId) {
        self.clear_range(BACKUP, BACKUP.key().text(user.as_str()).prefix_range());
        self.clear_range(BACKUP_KEY, BACKUP_KEY.key().text(user.as_str()).prefix_range());
    }

    /// A key in a version of a backup, after these changes.
    pub fn backed_up_key(
        &self,
        user: &UserId,
        version: u64,
        room: &str,
        session: &str,
    ) -> Result<Option<BackedUpKey>, RecordsError> {
        self.get(BACKUP_KEY, &key_key(user, version, room, session))
    }

    /// Writes a key into a version of a backup.
    pub fn put_backed_up_key(&mut self, user: &UserId, version: u64, room: &str, session: &str, key: &BackedUpKey) {
        self.put(BACKUP_KEY, key_key(user, version, room, session), key);
    }

    /// Removes a key from a version of a backup.
    pub fn clear_backed_up_key(&mut self, user: &UserId, version: u64, room: &str, session: &str) {
        self.clear(BACKUP_KEY, key_key(user, version, room, session));
    }

    /// Removes the keys of one room, or of all, from a version of a backup.
    pub fn clear_backed_up_keys(&mut self, user: &UserId, version: u64, room: Option<&str>) {
        self.clear_range(BACKUP_KEY, keys(user, version, room).prefix_range());
    }
}
