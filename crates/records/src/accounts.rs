//! Users, their devices, and the tokens of their sessions.

use crate::codec::RecordsError;
use crate::tables::{ACCESS_TOKEN, DEVICE, DEVICE_TOKEN, LAST_SEEN, REFRESH_TOKEN, USER};
use crate::{Changes, DELETED, View};
use base::UnixMillis;
use ruma::{DeviceId, OwnedDeviceId, OwnedUserId, UserId};
use serde::{Deserialize, Serialize};
use store::Direction;
use store::key::{KeyBuilder, KeyReader};

/// The SHA-256 of a token. Tokens themselves are not stored.
pub type TokenHash = [u8; 32];

/// A user of this agency.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRecord {
    /// The password as a PHC string; `None` for users who cannot log in with one.
    pub password: Option<String>,
    /// When the account was made.
    pub created_at: UnixMillis,
    /// When the account was deactivated.
    pub deactivated_at: Option<UnixMillis>,
    /// The user asked that what they wrote be erased.
    pub erased: bool,
    /// The user administers the agency.
    pub admin: bool,
    /// The policies that the user has accepted.
    pub terms: Vec<AcceptedTerms>,
    /// How many sessions have begun: so that whoever ends all sessions learns of one that begins meanwhile.
    pub sessions_begun: u64,
    /// A guest: somebody without a password, who may do little until they register.
    pub guest: bool,
    /// What administrators have laid upon the user.
    pub sanctions: Sanctions,
    /// What administrators call the kind of the user, such as `bot` or `support`.
    pub user_type: Option<String>,
}

/// What administrators have laid upon a user; nothing to begin with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sanctions {
    /// The user may read, and not join, invite or say anything.
    pub suspended: bool,
    /// The user may do nothing but log out.
    pub locked: bool,
    /// The user does not learn that what they say reaches nobody.
    pub shadow_banned: bool,
    /// How many events the user may send, in place of what the settings allow.
    pub rate: Option<RateOverride>,
}

/// How many events a user may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateOverride {
    /// How many a second in the long run; 0 for no limit.
    pub per_second: u32,
    /// How many at once; 0 for no limit.
    pub burst: u32,
}

/// A policy that a user has accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcceptedTerms {
    /// The policy.
    pub policy: String,
    /// Its version.
    pub version: String,
    /// When it was accepted.
    pub at: UnixMillis,
}

/// A device of a user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRecord {
    /// What the user calls it.
    pub display_name: Option<String>,
    /// When it first logged in.
    pub created_at: UnixMillis,
    /// Counts the changes of its tokens, so that of two writers one is told of the conflict.
    pub generation: u64,
}

/// Where a device was when it last asked for something; written now and then, not at each request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastSeen {
    /// When.
    pub at: UnixMillis,
    /// Its address.
    pub address: String,
}

/// What an access token stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessTokenRecord {
    /// The user.
    pub user_id: OwnedUserId,
    /// The device.
    pub device_id: OwnedDeviceId,
    /// When it expires.
    pub expires_at: Option<UnixMillis>,
    /// The refresh token that is retired by the first use of this token.
    pub retires: Option<TokenHash>,
}

/// What a refresh token stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefreshTokenRecord {
    /// The user.
    pub user_id: OwnedUserId,
    /// The device.
    pub device_id: OwnedDeviceId,
    /// When it expires.
    pub expires_at: Option<UnixMillis>,
    /// The access token that came with it.
    pub access_token: TokenHash,
    /// The refresh token that is retired by the first use of this token.
    pub retires: Option<TokenHash>,
    /// The access token and the refresh token that it was exchanged for, as long as neither was used.
    pub successor: Option<(TokenHash, TokenHash)>,
}

/// What comes before the id of a device in the types of the account data that is about it.
const LOCAL_NOTIFICATION_SETTINGS: [&str; 2] =
    ["m.local_notification_settings", "org.matrix.msc3890.local_notification_settings"];

const ACCESS: u8 = 1;
const REFRESH: u8 = 2;

fn user_key(user: &UserId) -> Vec<u8> {
    USER.key().text(user.as_str()).build()
}

fn device_key(user: &UserId, device: &DeviceId) -> Vec<u8> {
    DEVICE.key().text(user.as_str()).text(device.as_str()).build()
}

fn last_seen_key(user: &UserId, device: &DeviceId) -> Vec<u8> {
    LAST_SEEN.key().text(user.as_str()).text(device.as_str()).build()
}

fn access_key(hash: &TokenHash) -> Vec<u8> {
    ACCESS_TOKEN.key().fixed(hash).build()
}

fn refresh_key(hash: &TokenHash) -> Vec<u8> {
    REFRESH_TOKEN.key().fixed(hash).build()
}

fn device_tokens(user: &UserId, device: &DeviceId) -> KeyBuilder {
    DEVICE_TOKEN.key().text(user.as_str()).text(device.as_str())
}

impl View {
    /// A user.
    pub fn user(&self, user: &UserId) -> Result<Option<UserRecord>, RecordsError> {
        self.get(USER, &user_key(user))
    }

    /// Users in the order of their ids, from the one after `after`, at most `rows_max`.
    pub fn users(
        &self,
        after: Option<&UserId>,
        rows_max: usize,
    ) -> Result<Vec<(OwnedUserId, UserRecord)>, RecordsError> {
        let (mut from, to) = USER.key().prefix_range();
        if let Some(after) = after {
            from = USER.key().text(after.as_str()).prefix_range().1;
        }
        let rows = self.scan(USER, (from, to), Direction::Forward, rows_max)?;
        rows.iter()
            .map(|(key, value)| {
                let user = KeyReader::new(key).text().and_then(|user| OwnedUserId::try_from(user).ok());
                Ok((user.ok_or_else(|| USER.corrupt())?, USER.decode(value)?))
            })
            .collect()
    }

    /// A device.
    pub fn device(&self, user: &UserId, device: &DeviceId) -> Result<Option<DeviceRecord>, RecordsError> {
        self.get(DEVICE, &device_key(user, device))
    }

    /// Which of these devices exist.
    pub fn devices_known(&self, devices: &[(OwnedUserId, OwnedDeviceId)]) -> Result<Vec<bool>, RecordsError> {
        let keys: Vec<_> = devices.iter().map(|(user, device)| device_key(user, device)).collect();
        Ok(self.get_many(DEVICE, &keys)?.iter().map(Option::is_some).collect())
    }

    /// All devices of a user, in the order of their ids.
    pub fn devices(&self, user: &UserId) -> Result<Vec<(OwnedDeviceId, DeviceRecord)>, RecordsError> {
        let rows = self.scan_all(DEVICE, DEVICE.key().text(user.as_str()).prefix_range())?;
        rows.iter()
            .map(|(key, value)| {
                let mut reader = KeyReader::new(key);
                let device = reader.text().and_then(|_| reader.text()).ok_or_else(|| DEVICE.corrupt())?;
                Ok((device.into(), DEVICE.decode(value)?))
            })
            .collect()
    }

    /// How many devices a user has, counted up to `count_max`.
    pub fn device_count(&self, user: &UserId, count_max: usize) -> Result<usize, RecordsError> {
        let range = DEVICE.key().text(user.as_str()).prefix_range();
        Ok(self.scan(DEVICE, range, Direction::Forward, count_max)?.len())
    }

    /// Where a device was last seen.
    pub fn last_seen(&self, user: &UserId, device: &DeviceId) -> Result<Option<LastSeen>, RecordsError> {
        self.get(LAST_SEEN, &last_seen_key(user, device))
    }

    /// What an access token stands for.
    pub fn access_token(&self, hash: &TokenHash) -> Result<Option<AccessTokenRecord>, RecordsError> {
        self.get(ACCESS_TOKEN, &access_key(hash))
    }

    /// The hashes of the access tokens of a user.
    pub fn access_tokens_of(&self, user: &UserId) -> Result<Vec<TokenHash>, RecordsError> {
        let rows = self.scan_all(DEVICE_TOKEN, DEVICE_TOKEN.key().text(user.as_str()).prefix_range())?;
        let mut hashes = Vec::new();
        for (key, _) in rows {
            let mut reader = KeyReader::new(&key);
            let kind = reader.text().and_then(|_| reader.text()).and_then(|_| reader.byte());
            match (kind, reader.fixed()) {
                (Some(ACCESS), Some(hash)) => hashes.push(hash),
                (Some(REFRESH), Some(_)) => {}
                _ => return Err(DEVICE_TOKEN.corrupt()),
            }
        }
        Ok(hashes)
    }

    /// What a refresh token stands for.
    pub fn refresh_token(&self, hash: &TokenHash) -> Result<Option<RefreshTokenRecord>, RecordsError> {
        self.get(REFRESH_TOKEN, &refresh_key(hash))
    }
}

impl Changes {
    /// Writes a user, on condition that the record is still as the view shows it.
    pub fn put_user(&mut self, user: &UserId, record: &UserRecord) -> Result<(), RecordsError> {
        self.expect_user(user)?;
        self.put(USER, user_key(user), record);
        Ok(())
    }

    /// Commits only if the user's record is still as the view shows it.
    pub fn expect_user(&mut self, user: &UserId) -> Result<(), RecordsError> {
        self.expect_unchanged(USER, user_key(user))
    }

    /// Writes a device, on condition that its record is still as the view shows it.
    pub fn put_device(&mut self, user: &UserId, device: &DeviceId, record: &DeviceRecord) -> Result<(), RecordsError> {
        let key = device_key(user, device);
        self.expect_unchanged(DEVICE, key.clone())?;
        if self.view().get_bytes(DEVICE, &key)?.is_none() {
            // A message that met the end of an earlier device of this id is not for the new one.
            self.clear_all_to_device(user, device)?;
        }
        self.put(DEVICE, key, record);
        Ok(())
    }

    /// Commits only if a device's record is still as the view shows it.
    pub fn expect_device(&mut self, user: &UserId, device: &DeviceId) -> Result<(), RecordsError> {
        self.expect_unchanged(DEVICE, device_key(user, device))
    }

    /// Removes a device with its tokens and keys and what waits for it, on condition that it is still as the view shows it. Returns the
    /// hashes of the access tokens that are gone.
    pub fn clear_device(&mut self, user: &UserId, device: &DeviceId) -> Result<Vec<TokenHash>, RecordsError> {
        let key = device_key(user, device);
        self.expect_unchanged(DEVICE, key.clone())?;
        self.clear(DEVICE, key);
        self.clear(LAST_SEEN, last_seen_key(user, device));
        self.clear_all_to_device(user, device)?;
        self.clear_keys_of_device(user, device)?;
        self.clear_sliding_connections(user, device);
        self.clear_pushers_of_device(user, device)?;
        self.clear_settings_of_device(user, device)?;
        self.clear_device_tokens(user, device)
    }

    /// Deletes the account data in which the user has set how a device notifies them (MSC3890), unless all of it goes
    /// with the account.
    fn clear_settings_of_device(&mut self, user: &UserId, device: &DeviceId) -> Result<(), RecordsError> {
        for prefix in LOCAL_NOTIFICATION_SETTINGS {
            let kind = format!("{prefix}.{device}");
            if !self.ends(user) && self.view().account_data(user, None, &kind)?.is_some() {
                self.put_account_data(user, None, &kind, DELETED)?;
            }
        }
        Ok(())
    }

    /// Removes the tokens that the view shows of a device. Returns the hashes of the access tokens among them.
    pub fn clear_device_tokens(&mut self, user: &UserId, device: &DeviceId) -> Result<Vec<TokenHash>, RecordsError> {
        let rows = self.view().scan_all(DEVICE_TOKEN, device_tokens(user, device).prefix_range())?;
        let mut gone = Vec::new();
        for (key, _) in rows {
            let mut reader = KeyReader::new(&key);
            let kind = reader.text().and_then(|_| reader.text()).and_then(|_| reader.byte());
            match (kind, reader.fixed()) {
                (Some(ACCESS), Some(hash)) => {
                    self.clear(ACCESS_TOKEN, access_key(&hash));
                    gone.push(hash);
                }
                (Some(REFRESH), Some(hash)) => self.clear(REFRESH_TOKEN, refresh_key(&hash)),
                _ => return Err(DEVICE_TOKEN.corrupt()),
            }
            self.clear(DEVICE_TOKEN, key);
        }
        Ok(gone)
    }

    /// Notes where a device is, on condition that the device is still as the view shows it.
    pub fn put_last_seen(&mut self, user: &UserId, device: &DeviceId, seen: &LastSeen) -> Result<(), RecordsError> {
        self.expect_unchanged(DEVICE, device_key(user, device))?;
        self.put(LAST_SEEN, last_seen_key(user, device), seen);
        Ok(())
    }

    /// An access token, after these changes.
    pub fn access_token(&self, hash: &TokenHash) -> Result<Option<AccessTokenRecord>, RecordsError> {
        self.get(ACCESS_TOKEN, &access_key(hash))
    }

    /// A refresh token, after these changes.
    pub fn refresh_token(&self, hash: &TokenHash) -> Result<Option<RefreshTokenRecord>, RecordsError> {
        self.get(REFRESH_TOKEN, &refresh_key(hash))
    }

    /// Writes an access token, on condition that it is still as the view shows it.
    pub fn put_access_token(&mut self, hash: &TokenHash, record: &AccessTokenRecord) -> Result<(), RecordsError> {
        let key = access_key(hash);
        self.expect_unchanged(ACCESS_TOKEN, key.clone())?;
        self.put(DEVICE_TOKEN, device_tokens(&record.user_id, &record.device_id).byte(ACCESS).fixed(hash).build(), &());
        self.put(ACCESS_TOKEN, key, record);
        Ok(())
    }

    /// Writes a refresh token, on condition that it is still as the view shows it.
    pub fn put_refresh_token(&mut self, hash: &TokenHash, record: &RefreshTokenRecord) -> Result<(), RecordsError> {
        let key = refresh_key(hash);
        self.expect_unchanged(REFRESH_TOKEN, key.clone())?;
        self.put(
            DEVICE_TOKEN,
            device_tokens(&record.user_id, &record.device_id).byte(REFRESH).fixed(hash).build(),
            &(),
        );
        self.put(REFRESH_TOKEN, key, record);
        Ok(())
    }

    /// Removes an access token.
    pub fn clear_access_token(&mut self, hash: &TokenHash, user: &UserId, device: &DeviceId) {
        self.clear(DEVICE_TOKEN, device_tokens(user, device).byte(ACCESS).fixed(hash).build());
        self.clear(ACCESS_TOKEN, access_key(hash));
    }

    /// Removes a refresh token.
    pub fn clear_refresh_token(&mut self, hash: &TokenHash, user: &UserId, device: &DeviceId) {
        self.clear(DEVICE_TOKEN, device_tokens(user, device).byte(REFRESH).fixed(hash).build());
        self.clear(REFRESH_TOKEN, refresh_key(hash));
    }
}
