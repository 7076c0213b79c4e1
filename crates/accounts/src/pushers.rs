//! Pushers (client-server API, "Push Notifications").

use crate::{Accounts, Error};
use records::{Pusher, PusherKind, PusherRecord};
use ruma::{DeviceId, OwnedDeviceId, UserId};

/// How many pushers a user can have.
pub const PUSHERS_OF_USER_MAX: usize = 100;
/// How many pushers one device can have.
const PUSHERS_OF_DEVICE_MAX: usize = 20;
/// How many users can have a pusher with the same app and pushkey: those who share a device.
const HOLDERS_MAX: usize = 20;

/// A pusher to be set. What its fields may hold is the caller's to check.
#[derive(Clone, Debug)]
pub struct NewPusher {
    /// The app.
    pub app_id: String,
    /// What its gateway finds the device by.
    pub pushkey: String,
    /// What it does.
    pub kind: PusherKind,
    /// What its app is called.
    pub app_display_name: String,
    /// What its device is called.
    pub device_display_name: String,
    /// Only given back.
    pub profile_tag: Option<String>,
    /// The language of its user.
    pub lang: String,
    /// What its user gives it beside that: a JSON object.
    pub data: String,
    /// Whether other users keep a pusher with the same app and pushkey.
    pub append: bool,
}

impl Accounts {
    /// All pushers of a user.
    pub fn pushers(&self, user: &UserId) -> Result<Vec<Pusher>, Error> {
        Ok(self.view().pushers(user)?)
    }

    /// Sets a pusher: a new one, or in the place of the user's that has the same app and pushkey. It goes with the
    /// device that sets it, unless it sends mails: those are for people who are at none of their devices.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchDevice`] if the device is gone; [`Error::TooManyPushers`].
    pub async fn set_pusher(&self, user: &UserId, device: &DeviceId, new: NewPusher) -> Result<(), Error> {
        let device_id: OwnedDeviceId = match new.kind {
            PusherKind::Http => device.to_owned(),
            PusherKind::Email => "".into(),
        };
        let set_at = self.now();
        self.change(|changes| {
            if changes.view().device(user, device)?.is_none() {
                return Err(Error::NoSuchDevice);
            }
            let pushers = changes.view().pushers(user)?;
            let is_same = |pusher: &&Pusher| pusher.app_id == new.app_id && pusher.pushkey == new.pushkey;
            let before = pushers.iter().find(is_same);
            let of_device = pushers.iter().filter(|pusher| pusher.device_id == device_id && !is_same(pusher)).count();
            let too_many = before.is_none() && pushers.len() >= PUSHERS_OF_USER_MAX;
            if too_many || of_device >= PUSHERS_OF_DEVICE_MAX {
                return Err(Error::TooManyPushers);
            }
            let holders = changes.view().pusher_holders(&new.app_id, &new.pushkey, HOLDERS_MAX)?;
            if new.append && before.is_none() && holders.len() >= HOLDERS_MAX {
                return Err(Error::TooManyPushers);
            }
            for holder in holders.iter().filter(|holder| *holder != user && !new.append) {
                for pusher in changes.view().pushers(holder)?.iter().filter(is_same) {
                    changes.clear_pusher(holder, pusher)?;
                }
            }
            if let Some(before) = before.filter(|before| before.device_id != device_id) {
                changes.clear_pusher(user, before)?;
            }
            let record = PusherRecord {
                kind: new.kind,
                app_display_name: new.app_display_name.clone(),
                device_display_name: new.device_display_name.clone(),
                profile_tag: new.profile_tag.clone(),
                lang: new.lang.clone(),
                data: new.data.clone(),
                set_at,
                since: before.map_or(changes.view().stamp(), |before| before.record.since),
            };
            let (app_id, pushkey) = (new.app_id.clone(), new.pushkey.clone());
            Ok(changes.put_pusher(user, &Pusher { device_id: device_id.clone(), app_id, pushkey, record })?)
        })
        .await
    }

    /// Removes a user's pusher, if there is one for this app with this key.
    pub async fn remove_pusher(&self, user: &UserId, app_id: &str, pushkey: &str) -> Result<(), Error> {
        self.change(|changes| {
            for pusher in changes.view().pushers(user)? {
                if pusher.app_id == app_id && pusher.pushkey == pushkey {
                    changes.clear_pusher(user, &pusher)?;
                }
            }
            Ok(())
        })
        .await
    }

    /// Removes a pusher that its gateway has rejected, unless it was set again since. Answers whether it did.
    pub async fn reject_pusher(&self, user: &UserId, rejected: &Pusher) -> Result<bool, Error> {
        self.change(|changes| {
            let current = changes.view().pushers(user)?;
            let is_current = current.contains(rejected);
            if is_current {
                changes.clear_pusher(user, rejected)?;
            }
            Ok(is_current)
        })
        .await
    }
}
