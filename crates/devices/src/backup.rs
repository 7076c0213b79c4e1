//! Backups of room keys (client-server API, "Server-side key backups").

use crate::{Devices, Error};
use base::limits::ID_BYTES_MAX;
use records::{BackedUpKey, BackupRecord, Changes};
use ruma::UserId;
use std::collections::BTreeMap;

/// The largest `auth_data` of a version, in bytes of JSON.
pub const AUTH_DATA_BYTES_MAX: usize = 64 * 1024;
/// The longest name of an algorithm, in bytes.
const ALGORITHM_BYTES_MAX: usize = ID_BYTES_MAX;
/// The largest encrypted key, in bytes of JSON.
pub const SESSION_DATA_BYTES_MAX: usize = 64 * 1024;
/// How many versions of a backup a user can have at once. Clients remove those that they replace.
pub const BACKUPS_MAX: usize = 20;
/// How many keys a version can have.
pub const BACKED_UP_KEYS_MAX: u64 = 1_000_000;
/// How many keys are read at once.
pub const BACKED_UP_KEYS_PAGE: usize = 500;

/// A version of a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// Its number, as text.
    pub version: String,
    /// How its keys are encrypted.
    pub algorithm: String,
    /// What the algorithm needs: a JSON object.
    pub auth_data: String,
    /// Where it stands.
    pub standing: BackupStanding,
}

/// What a version of a backup holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupStanding {
    /// Another text after each change of its keys.
    pub etag: String,
    /// How many keys it has.
    pub count: u64,
}

/// Keys to be backed up, by room and session.
pub type RoomKeys = BTreeMap<String, BTreeMap<String, BackedUpKey>>;

/// Which keys of a version are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which<'a> {
    /// All.
    All,
    /// Those of a room.
    Room(&'a str),
    /// That of a session in a room.
    Session(&'a str, &'a str),
}

/// A page of the keys of a version: room, session, key.
pub type KeyPage = Vec<(String, String, BackedUpKey)>;

impl Devices {
    /// Begins a new version of a user's backup and answers its number. No number is given twice.
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`] beyond [`AUTH_DATA_BYTES_MAX`] and [`BACKUPS_MAX`].
    pub async fn create_backup(&self, user: &UserId, algorithm: &str, auth_data: &str) -> Result<String, Error> {
        if algorithm.len() > ALGORITHM_BYTES_MAX {
            return Err(Error::TooLarge("the name of the algorithm"));
        }
        check_auth_data(auth_data)?;
        let (algorithm, auth_data) = (algorithm.to_owned(), auth_data.to_owned());
        let record = BackupRecord { algorithm, auth_data, etag: 0, count: 0 };
        self.change(|changes| {
            if changes.view().backup_count(user, BACKUPS_MAX)? >= BACKUPS_MAX {
                return Err(Error::TooLarge("the number of versions of the backup"));
            }
            Ok(changes.add_backup(user, &record)?.to_string())
        })
        .await
    }

    /// A version of a user's backup, or the current one: the newest that was not removed.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`].
    pub fn backup(&self, user: &UserId, version: Option<&str>) -> Result<Backup, Error> {
        let view = self.view();
        let found = match version {
            None => view.backup_newest(user)?,
            Some(version) => match number(version) {
                Some(number) => view.backup(user, number)?.map(|record| (number, record)),
                None => None,
            },
        };
        let (version, record) = found.ok_or(NO_BACKUP)?;
        let standing = standing(&record);
        let BackupRecord { algorithm, auth_data, .. } = record;
        Ok(Backup { version: version.to_string(), algorithm, auth_data, standing })
    }

    /// Replaces the `auth_data` of a version of a user's backup.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`], [`Error::InvalidParam`] for another algorithm than the version has,
    /// [`Error::TooLarge`].
    pub async fn update_backup(
        &self,
        user: &UserId,
        version: &str,
        algorithm: &str,
        auth_data: &str,
    ) -> Result<(), Error> {
        check_auth_data(auth_data)?;
        let number = number(version).ok_or(NO_BACKUP)?;
        self.change(|changes| {
            let record = changes.view().backup(user, number)?.ok_or(NO_BACKUP)?;
            if record.algorithm != algorithm {
                return Err(Error::InvalidParam("the algorithm is not that of the backup".to_owned()));
            }
            Ok(changes.put_backup(user, number, &BackupRecord { auth_data: auth_data.to_owned(), ..record })?)
        })
        .await
    }

    /// Removes a version of a user's backup with its keys. One that was removed before is removed.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] for a version that never was.
    pub async fn delete_backup(&self, user: &UserId, version: &str) -> Result<(), Error> {
        let number = number(version).ok_or(NO_BACKUP)?;
        self.change(|changes| {
            if changes.view().backup(user, number)?.is_some() {
                Ok(changes.clear_backup(user, number)?)
            } else if number < changes.view().backup_next(user)? {
                Ok(())
            } else {
                Err(NO_BACKUP)
            }
        })
        .await
    }

    /// Backs keys up in the current version of a user's backup. Of two keys of one session the better one stays:
    /// the verified one, else the one that decrypts from an earlier message on, else the one that was forwarded
    /// less often.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if there is no such version, [`Error::WrongBackupVersion`] if it is not the current
    /// one, [`Error::TooLarge`].
    pub async fn put_room_keys(&self, user: &UserId, version: &str, keys: &RoomKeys) -> Result<BackupStanding, Error> {
        for (room, sessions) in keys {
            if room.len() > ID_BYTES_MAX {
                return Err(Error::TooLarge("the id of a room"));
            }
            for (session, key) in sessions {
                if session.len() > ID_BYTES_MAX {
                    return Err(Error::TooLarge("the id of a session"));
                }
                if key.session_data.len() > SESSION_DATA_BYTES_MAX {
                    return Err(Error::TooLarge("the session_data of a key"));
                }
            }
        }
        self.change(|changes| {
            let (current, record) = changes.view().backup_newest(user)?.ok_or(NO_BACKUP)?;
            if number(version) != Some(current) {
                return Err(Error::WrongBackupVersion { current });
            }
            let mut after = record.clone();
            let mut is_changed = false;
            for (room, sessions) in keys {
                for (session, key) in sessions {
                    let before = changes.backed_up_key(user, current, room, session)?;
                    if before.as_ref().is_none_or(|before| is_better(key, before)) {
                        changes.put_backed_up_key(user, current, room, session, key);
                        after.count += u64::from(before.is_none());
                        is_changed = true;
                    }
                }
            }
            if !is_changed {
                return Ok(standing(&record));
            }
            if after.count > BACKED_UP_KEYS_MAX {
                return Err(Error::TooLarge("the number of keys in the backup"));
            }
            after.etag += 1;
            changes.expect_backup_newest(user)?;
            changes.put_backup(user, current, &after)?;
            Ok(standing(&after))
        })
        .await
    }

    /// A page of the keys in a version of a user's backup, of a room or of all, in order, from the one after
    /// `after`. A page that is not full is the last.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if there is no such version.
    pub fn room_keys(
        &self,
        user: &UserId,
        version: &str,
        room: Option<&str>,
        after: Option<(&str, &str)>,
    ) -> Result<KeyPage, Error> {
        let view = self.view();
        let number = number(version).ok_or(NO_BACKUP)?;
        view.backup(user, number)?.ok_or(NO_BACKUP)?;
        Ok(view.backed_up_keys(user, number, room, after, BACKED_UP_KEYS_PAGE)?)
    }

    /// A key in a version of a user's backup.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if there is no such version or key.
    pub fn room_key(&self, user: &UserId, version: &str, room: &str, session: &str) -> Result<BackedUpKey, Error> {
        let view = self.view();
        let number = number(version).ok_or(NO_BACKUP)?;
        view.backup(user, number)?.ok_or(NO_BACKUP)?;
        view.backed_up_key(user, number, room, session)?.ok_or(Error::NotFound("key"))
    }

    /// Removes keys from a version of a user's backup.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if there is no such version.
    pub async fn delete_room_keys(
        &self,
        user: &UserId,
        version: &str,
        which: Which<'_>,
    ) -> Result<BackupStanding, Error> {
        let number = number(version).ok_or(NO_BACKUP)?;
        self.change(|changes| {
            let mut record = changes.view().backup(user, number)?.ok_or(NO_BACKUP)?;
            let removed = remove(changes, user, number, which, record.count)?;
            if removed > 0 {
                record.count = record.count.saturating_sub(removed);
                record.etag += 1;
                changes.put_backup(user, number, &record)?;
            }
            Ok(standing(&record))
        })
        .await
    }
}

const NO_BACKUP: Error = Error::NotFound("version of the backup");

fn check_auth_data(auth_data: &str) -> Result<(), Error> {
    if auth_data.len() > AUTH_DATA_BYTES_MAX { Err(Error::TooLarge("the auth_data")) } else { Ok(()) }
}

/// The number of a version; none for a text that this server has given to no version.
fn number(version: &str) -> Option<u64> {
    version.parse().ok().filter(|number: &u64| number.to_string() == version)
}

fn standing(record: &BackupRecord) -> BackupStanding {
    BackupStanding { etag: record.etag.to_string(), count: record.count }
}

/// Whether a key takes the place of another one of its session.
fn is_better(new: &BackedUpKey, old: &BackedUpKey) -> bool {
    let rank = |key: &BackedUpKey| (!key.is_verified, key.first_message_index, key.forwarded_count);
    rank(new) < rank(old)
}

/// Removes keys and answers how many.
fn remove(changes: &mut Changes, user: &UserId, version: u64, which: Which<'_>, all: u64) -> Result<u64, Error> {
    match which {
        Which::All => {
            if all > 0 {
                changes.clear_backed_up_keys(user, version, None);
            }
            Ok(all)
        }
        Which::Room(room) => {
            let mut removed = 0;
            let mut last: Option<(String, String)> = None;
            loop {
                let after = last.as_ref().map(|(room, session)| (room.as_str(), session.as_str()));
                let page = changes.view().backed_up_keys(user, version, Some(room), after, BACKED_UP_KEYS_PAGE)?;
                removed += u64::try_from(page.len()).unwrap_or(u64::MAX);
                let is_last = page.len() < BACKED_UP_KEYS_PAGE;
                last = page.into_iter().last().map(|(room, session, _)| (room, session));
                if is_last {
                    break;
                }
            }
            if removed > 0 {
                changes.clear_backed_up_keys(user, version, Some(room));
            }
            Ok(removed)
        }
        Which::Session(room, session) => {
            if changes.view().backed_up_key(user, version, room, session)?.is_none() {
                return Ok(0);
            }
            changes.clear_backed_up_key(user, version, room, session);
            Ok(1)
        }
    }
}
