//! Pushers: where users want to be told of what happens, outside of their clients.

use crate::codec::RecordsError;
use crate::tables::{PUSH_LAG, PUSHER, PUSHER_BY_KEY};
use crate::{Changes, DeviceRecord, LogEntry, View};
use base::{Stamp, UnixMillis};
use ruma::{DeviceId, OwnedDeviceId, OwnedUserId, UserId};
use serde::{Deserialize, Serialize};
use store::key::{KeyBuilder, KeyReader};
use store::{Direction, Row};

/// What a pusher does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PusherKind {
    /// It tells a push gateway.
    Http,
    /// It sends mails.
    Email,
}

/// What is stored of a pusher beside what it is found by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PusherRecord {
    /// What it does.
    pub kind: PusherKind,
    /// What its app is called.
    pub app_display_name: String,
    /// What its device is called.
    pub device_display_name: String,
    /// Which rules of its device it was once to follow; only given back.
    pub profile_tag: Option<String>,
    /// The language of its user.
    pub lang: String,
    /// What its user gave it beside that: a JSON object.
    pub data: String,
    /// When it was set last.
    pub set_at: UnixMillis,
    /// What happened up to here is none of its business.
    pub since: Stamp,
}

/// A pusher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pusher {
    /// The device that it goes with; empty if it belongs to the account as a whole.
    pub device_id: OwnedDeviceId,
    /// The app.
    pub app_id: String,
    /// What its gateway finds the device by.
    pub pushkey: String,
    /// What else is known of it.
    pub record: PusherRecord,
}

/// How far a pusher has come that is behind for a while, because its gateway fails or is slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushLag {
    /// Up to here its gateway has everything.
    pub done: Stamp,
    /// Since when it is behind.
    pub since: UnixMillis,
}

fn of_user(user: &UserId) -> KeyBuilder {
    PUSHER.key().text(user.as_str())
}

fn of_device(user: &UserId, device: &DeviceId) -> KeyBuilder {
    of_user(user).text(device.as_str())
}

fn by_key(app_id: &str, pushkey: &str) -> KeyBuilder {
    PUSHER_BY_KEY.key().text(app_id).text(pushkey)
}

fn lag_key(user: &UserId, app_id: &str, pushkey: &str) -> Vec<u8> {
    PUSH_LAG.key().text(user.as_str()).text(app_id).text(pushkey).build()
}

fn read((key, value): &Row) -> Result<Pusher, RecordsError> {
    let mut reader = KeyReader::new(key);
    let parts = (reader.text(), reader.text(), reader.text(), reader.text());
    let (Some(_), Some(device), Some(app_id), Some(pushkey)) = parts else { return Err(PUSHER.corrupt()) };
    Ok(Pusher {
        device_id: device.into(),
        app_id: app_id.to_owned(),
        pushkey: pushkey.to_owned(),
        record: PUSHER.decode(value)?,
    })
}

impl View {
    /// All pushers of a user, device by device. Whoever adds one keeps them few.
    pub fn pushers(&self, user: &UserId) -> Result<Vec<Pusher>, RecordsError> {
        self.scan_all(PUSHER, of_user(user).prefix_range())?.iter().map(read).collect()
    }

    /// The users who have a pusher for an app with this key, at most `rows_max`.
    pub fn pusher_holders(
        &self,
        app_id: &str,
        pushkey: &str,
        rows_max: usize,
    ) -> Result<Vec<OwnedUserId>, RecordsError> {
        let rows = self.scan(PUSHER_BY_KEY, by_key(app_id, pushkey).prefix_range(), Direction::Forward, rows_max)?;
        rows.iter()
            .map(|(key, _)| {
                let mut reader = KeyReader::new(key);
                let user = reader.text().and_then(|_| reader.text()).and_then(|_| reader.text());
                user.and_then(|user| OwnedUserId::try_from(user).ok()).ok_or_else(|| PUSHER_BY_KEY.corrupt())
            })
            .collect()
    }

    /// Users who have pushers, in the order of their ids, from the one after `after`; of `rows_max` pushers at most.
    /// Empty only if there are no more.
    pub fn users_with_pushers(
        &self,
        after: Option<&UserId>,
        rows_max: usize,
    ) -> Result<Vec<OwnedUserId>, RecordsError> {
        let (mut from, to) = PUSHER.key().prefix_range();
        if let Some(after) = after {
            from = of_user(after).prefix_range().1;
        }
        let rows = self.scan(PUSHER, (from, to), Direction::Forward, rows_max)?;
        let mut users: Vec<OwnedUserId> = Vec::new();
        for (key, _) in &rows {
            let user = KeyReader::new(key).text().ok_or_else(|| PUSHER.corrupt())?;
            if users.last().is_none_or(|last| last.as_str() != user) {
                users.push(OwnedUserId::try_from(user).map_err(|_| PUSHER.corrupt())?);
            }
        }
        Ok(users)
    }

    /// How far a pusher has come that is behind.
    pub fn push_lag(&self, user: &UserId, app_id: &str, pushkey: &str) -> Result<Option<PushLag>, RecordsError> {
        self.get(PUSH_LAG, &lag_key(user, app_id, pushkey))
    }

    /// The users of pushers that are behind, each once, from the one after `after`; of `rows_max` pushers at
    /// most. Empty only if there are no more.
    pub fn users_with_push_lags(
        &self,
        after: Option<&UserId>,
        rows_max: usize,
    ) -> Result<Vec<OwnedUserId>, RecordsError> {
        let (mut from, to) = PUSH_LAG.key().prefix_range();
        if let Some(after) = after {
            from = PUSH_LAG.key().text(after.as_str()).prefix_range().1;
        }
        let rows = self.scan(PUSH_LAG, (from, to), Direction::Forward, rows_max)?;
        let mut users: Vec<OwnedUserId> = Vec::new();
        for (key, _) in &rows {
            let user = KeyReader::new(key).text().ok_or_else(|| PUSH_LAG.corrupt())?;
            if users.last().is_none_or(|last| last.as_str() != user) {
                users.push(OwnedUserId::try_from(user).map_err(|_| PUSH_LAG.corrupt())?);
            }
        }
        Ok(users)
    }
}

impl Changes {
    /// Writes a pusher, and logs that the user's pushers changed. On condition that the device is still as the view
    /// shows it, where it goes with one. Takes a stamp. One of the same app and key that goes with another device is
    /// the caller's to remove.
    pub fn put_pusher(&mut self, user: &UserId, pusher: &Pusher) -> Result<(), RecordsError> {
        if let Some(device) = self.view().device(user, &pusher.device_id)? {
            // Whoever removes the device meanwhile is told of the conflict, as they don't know of the pusher.
            let generation = device.generation.wrapping_add(1);
            self.put_device(user, &pusher.device_id, &DeviceRecord { generation, ..device })?;
        }
        let key = of_device(user, &pusher.device_id).text(&pusher.app_id).text(&pusher.pushkey).build();
        self.expect_unchanged(PUSHER, key.clone())?;
        self.put(PUSHER, key, &pusher.record);
        self.put(PUSHER_BY_KEY, by_key(&pusher.app_id, &pusher.pushkey).text(user.as_str()).build(), &());
        let nth = self.stamp();
        self.log(nth, &LogEntry::Pushers { user: user.to_owned() });
        Ok(())
    }

    /// Removes a pusher, on condition that it is still as the view shows it, and logs that. Takes a stamp.
    pub fn clear_pusher(&mut self, user: &UserId, pusher: &Pusher) -> Result<(), RecordsError> {
        let key = of_device(user, &pusher.device_id).text(&pusher.app_id).text(&pusher.pushkey).build();
        self.expect_unchanged(PUSHER, key.clone())?;
        self.clear(PUSHER, key);
        self.clear(PUSHER_BY_KEY, by_key(&pusher.app_id, &pusher.pushkey).text(user.as_str()).build());
        self.clear(PUSH_LAG, lag_key(user, &pusher.app_id, &pusher.pushkey));
        let nth = self.stamp();
        self.log(nth, &LogEntry::Pushers { user: user.to_owned() });
        Ok(())
    }

    /// Removes the pushers that go with a device.
    pub(crate) fn clear_pushers_of_device(&mut self, user: &UserId, device: &DeviceId) -> Result<(), RecordsError> {
        let rows = self.view().scan_all(PUSHER, of_device(user, device).prefix_range())?;
        rows.iter().try_for_each(|row| self.clear_pusher(user, &read(row)?))
    }

    /// Removes the pushers that belong to a user's account as a whole.
    pub fn clear_pushers_of_account(&mut self, user: &UserId) -> Result<(), RecordsError> {
        self.clear_pushers_of_device(user, <&DeviceId>::from(""))
    }

    /// Notes how far a pusher has come that is behind.
    pub fn put_push_lag(&mut self, user: &UserId, app_id: &str, pushkey: &str, lag: PushLag) {
        self.put(PUSH_LAG, lag_key(user, app_id, pushkey), &lag);
    }

    /// Forgets how far a pusher has come: it has caught up.
    pub fn clear_push_lag(&mut self, user: &UserId, app_id: &str, pushkey: &str) {
        self.clear(PUSH_LAG, lag_key(user, app_id, pushkey));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Records;
    use ruma::{device_id, owned_user_id, user_id};
    use std::sync::Arc;
    use store::MemoryEngine;

    fn pusher(device: &str, app_id: &str, pushkey: &str) -> Pusher {
        let record = PusherRecord {
            kind: PusherKind::Http,
            app_display_name: "App".to_owned(),
            device_display_name: "Phone".to_owned(),
            profile_tag: None,
            lang: "ru".to_owned(),
            data: "{}".to_owned(),
            set_at: UnixMillis(7),
            since: Stamp(1),
        };
        Pusher { device_id: device.into(), app_id: app_id.to_owned(), pushkey: pushkey.to_owned(), record }
    }

    async fn records() -> Records {
        let records = Records::open(Arc::new(MemoryEngine::new())).await.unwrap();
        let mut changes = records.changes(&records.view());
        for user in [user_id!("@a:x"), user_id!("@ab:x")] {
            for device in ["D", "E"] {
                let record = DeviceRecord { display_name: None, created_at: UnixMillis(1), generation: 0 };
                changes.put_device(user, device.into(), &record).unwrap();
            }
        }
        records.commit(changes).await.unwrap();
        records
    }

    #[tokio::test]
    async fn pushers_go_with_their_device_and_are_found_by_key() {
        let records = records().await;
        let (a, ab) = (user_id!("@a:x"), user_id!("@ab:x"));
        let mut changes = records.changes(&records.view());
        for (user, device, key) in [(a, "D", "1"), (a, "E", "2"), (ab, "D", "1"), (ab, "", "3")] {
            changes.put_pusher(user, &pusher(device, "app", key)).unwrap();
            changes.put_push_lag(user, "app", key, PushLag { done: Stamp(3), since: UnixMillis(4) });
        }
        records.commit(changes).await.unwrap();
        let keys = |user| -> Vec<String> {
            records.view().pushers(user).unwrap().into_iter().map(|pusher| pusher.pushkey).collect()
        };
        assert_eq!(keys(a), ["1", "2"]);
        assert_eq!(keys(ab), ["1", "3"]);
        let holders = || records.view().pusher_holders("app", "1", 10).unwrap();
        assert_eq!(holders(), [owned_user_id!("@a:x"), owned_user_id!("@ab:x")]);
        assert_eq!(records.view().users_with_pushers(None, 10).unwrap().len(), 2);
        assert_eq!(records.view().users_with_pushers(None, 1).unwrap(), [owned_user_id!("@a:x")]);
        assert_eq!(records.view().users_with_pushers(Some(a), 1).unwrap(), [owned_user_id!("@ab:x")]);
        assert!(records.view().users_with_pushers(Some(ab), 1).unwrap().is_empty());

        let mut changes = records.changes(&records.view());
        changes.clear_device(a, device_id!("D")).unwrap();
        changes.clear_pushers_of_account(ab).unwrap();
        let last = records.commit(changes).await.unwrap().last;
        assert_eq!((keys(a), keys(ab)), (vec!["2".to_owned()], vec!["1".to_owned()]));
        assert_eq!(holders(), [owned_user_id!("@ab:x")]);
        let view = records.view();
        assert_eq!(view.push_lag(a, "app", "1").unwrap(), None);
        assert!(view.push_lag(a, "app", "2").unwrap().is_some());
        assert_eq!(view.users_with_push_lags(None, 10).unwrap().len(), 2);
        let log = view.log(Stamp(last.0 - 1), last, 10).unwrap();
        assert_eq!(log, [(last, LogEntry::Pushers { user: ab.to_owned() })]);
    }

    #[tokio::test]
    async fn a_pusher_is_not_set_for_a_device_that_goes_meanwhile() {
        let records = records().await;
        let user = user_id!("@a:x");
        let mut setting = records.changes(&records.view());
        setting.put_pusher(user, &pusher("D", "app", "1")).unwrap();
        let mut removing = records.changes(&records.view());
        removing.clear_device(user, device_id!("D")).unwrap();
        records.commit(removing).await.unwrap();
        assert!(records.commit(setting).await.is_err());
        assert!(records.view().pushers(user).unwrap().is_empty());
    }
}
