//! One-time keys and fallback keys (client-server API, "One-time and fallback keys").
//!
//! The keys of a device and algorithm are numbered in the order in which they were uploaded, and given out in
//! that order: those from `first` on and before `next` are there. A key that was given out stays known by its id
//! for a while, without what it was: a device that uploads it again, because it never got the answer, must not
//! bring it back.

use crate::codec::RecordsError;
use crate::tables::{ONE_TIME_KEY, ONE_TIME_STATE};
use crate::{Changes, View};
use ruma::{DeviceId, UserId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use store::key::KeyBuilder;

/// What a device has of one-time and fallback keys. Everything that changes any of them expects this record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OneTimeState {
    /// Counts how often all keys of the device were dropped.
    pub generation: u64,
    /// The one-time keys, by algorithm.
    pub queues: BTreeMap<String, OneTimeQueue>,
    /// The fallback keys, by algorithm.
    pub fallback: BTreeMap<String, FallbackKey>,
}

/// The numbers of the one-time keys of an algorithm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OneTimeQueue {
    /// The next key to be given out.
    pub first: u64,
    /// The number that the next upload begins with.
    pub next: u64,
}

impl OneTimeQueue {
    /// How many keys there are.
    #[must_use]
    pub fn count(self) -> u64 {
        self.next.saturating_sub(self.first)
    }
}

/// A fallback key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FallbackKey {
    /// Its id, without the algorithm.
    pub key_id: String,
    /// The key as JSON.
    pub key: String,
    /// Whether it was given out.
    pub used: bool,
}

/// What tells two keys of the same id apart.
pub type KeyDigest = [u8; 16];

/// A one-time key; without the key itself once it was given out.
#[derive(Serialize, Deserialize)]
struct OneTimeKey {
    key_id: String,
    key: Option<String>,
}

/// Keys by their number.
const BY_NUMBER: u8 = 1;
/// Keys by their id.
const BY_ID: u8 = 2;

fn state_key(user: &UserId, device: &DeviceId) -> Vec<u8> {
    ONE_TIME_STATE.key().text(user.as_str()).text(device.as_str()).build()
}

fn keys(user: &UserId, device: &DeviceId) -> KeyBuilder {
    ONE_TIME_KEY.key().text(user.as_str()).text(device.as_str())
}

/// The keys of one algorithm of one device.
#[derive(Clone, Copy, Debug)]
struct Place<'a> {
    user: &'a UserId,
    device: &'a DeviceId,
    generation: u64,
    algorithm: &'a str,
}

impl Place<'_> {
    fn by_number(self, number: u64) -> Vec<u8> {
        keys(self.user, self.device).number(self.generation).byte(BY_NUMBER).text(self.algorithm).number(number).build()
    }

    fn by_id(self, key_id: &str) -> Vec<u8> {
        keys(self.user, self.device).number(self.generation).byte(BY_ID).text(self.algorithm).text(key_id).build()
    }
}

impl View {
    /// What a device has of one-time and fallback keys; none if it never had any.
    pub fn one_time_state(&self, user: &UserId, device: &DeviceId) -> Result<Option<OneTimeState>, RecordsError> {
        self.get(ONE_TIME_STATE, &state_key(user, device))
    }
}

impl Changes {
    /// What a device has of one-time and fallback keys, after these changes; empty if it never had any.
    pub fn one_time_state(&self, user: &UserId, device: &DeviceId) -> Result<OneTimeState, RecordsError> {
        Ok(self.get(ONE_TIME_STATE, &state_key(user, device))?.unwrap_or_default())
    }

    /// Writes what a device has of one-time and fallback keys, on condition that it is still as the view shows it.
    pub fn put_one_time_state(
        &mut self,
        user: &UserId,
        device: &DeviceId,
        state: &OneTimeState,
    ) -> Result<(), RecordsError> {
        let key = state_key(user, device);
        if !self.is_written(ONE_TIME_STATE, &key) {
            self.expect_unchanged(ONE_TIME_STATE, key.clone())?;
        }
        self.put(ONE_TIME_STATE, key, state);
        Ok(())
    }

    /// The digest of a one-time key by its id, be it there or given out; none if it is not known.
    pub fn one_time_digest(
        &self,
        user: &UserId,
        device: &DeviceId,
        state: &OneTimeState,
        algorithm: &str,
        key_id: &str,
    ) -> Result<Option<KeyDigest>, RecordsError> {
        let place = Place { user, device, generation: state.generation, algorithm };
        self.get(ONE_TIME_KEY, &place.by_id(key_id))
    }

    /// Adds a one-time key to the end of its queue in `state`, which the caller writes.
    pub fn add_one_time_key(
        &mut self,
        user: &UserId,
        device: &DeviceId,
        state: &mut OneTimeState,
        (algorithm, key_id): (&str, &str),
        (key, digest): (&str, KeyDigest),
    ) {
        let place = Place { user, device, generation: state.generation, algorithm };
        let queue = state.queues.entry(algorithm.to_owned()).or_default();
        let record = OneTimeKey { key_id: key_id.to_owned(), key: Some(key.to_owned()) };
        self.put(ONE_TIME_KEY, place.by_number(queue.next), &record);
        self.put(ONE_TIME_KEY, place.by_id(key_id), &digest);
        queue.next = queue.next.saturating_add(1);
    }

    /// Takes the first one-time key of an algorithm out of its queue in `state`, which the caller writes: its id
    /// and the key. None if there is none. It stays known by its id until `remembered` more were taken.
    pub fn take_one_time_key(
        &mut self,
        user: &UserId,
        device: &DeviceId,
        state: &mut OneTimeState,
        algorithm: &str,
        remembered: u64,
    ) -> Result<Option<(String, String)>, RecordsError> {
        let place = Place { user, device, generation: state.generation, algorithm };
        let Some(queue) = state.queues.get_mut(algorithm).filter(|queue| queue.count() > 0) else { return Ok(None) };
        let number = queue.first;
        queue.first = number.saturating_add(1);
        let at = place.by_number(number);
        let taken: OneTimeKey = self.get(ONE_TIME_KEY, &at)?.ok_or_else(|| ONE_TIME_KEY.corrupt())?;
        let key = taken.key.ok_or_else(|| ONE_TIME_KEY.corrupt())?;
        self.put(ONE_TIME_KEY, at, &OneTimeKey { key_id: taken.key_id.clone(), key: None });
        if let Some(old) = number.checked_sub(remembered) {
            let at = place.by_number(old);
            if let Some(forgotten) = self.get::<OneTimeKey>(ONE_TIME_KEY, &at)? {
                self.clear(ONE_TIME_KEY, place.by_id(&forgotten.key_id));
                self.clear(ONE_TIME_KEY, at);
            }
        }
        Ok(Some((taken.key_id, key)))
    }

    /// Drops all one-time and fallback keys of a device that has got another identity: the empty state that the
    /// caller writes.
    pub fn drop_one_time_keys(&mut self, user: &UserId, device: &DeviceId, state: &OneTimeState) -> OneTimeState {
        self.clear_range(ONE_TIME_KEY, keys(user, device).number(state.generation).prefix_range());
        OneTimeState { generation: state.generation.saturating_add(1), ..OneTimeState::default() }
    }

    /// Removes all one-time and fallback keys of a device that is gone.
    pub(crate) fn clear_one_time_keys(&mut self, user: &UserId, device: &DeviceId) -> Result<(), RecordsError> {
        let key = state_key(user, device);
        if self.get_bytes(ONE_TIME_STATE, &key)?.is_some() {
            self.clear(ONE_TIME_STATE, key);
            self.clear_range(ONE_TIME_KEY, keys(user, device).prefix_range());
        }
        Ok(())
    }
}
