//! Devices.

use crate::user::end_all;
use crate::{Accounts, Error};
use records::{DeviceRecord, LastSeen};
use ruma::{DeviceId, OwnedDeviceId, UserId};

/// How many devices a user can have: so many that all of them, with the longest names, are removed by one commit.
/// Logins in the same moment can go beyond it by their number.
pub const DEVICES_MAX: usize = 1000;
/// The longest name of a device, in bytes.
const DISPLAY_NAME_BYTES_MAX: usize = 1000;

/// A device as its user sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its id.
    pub device_id: OwnedDeviceId,
    /// What the user calls it.
    pub display_name: Option<String>,
    /// Where and when it was last seen, to within [`crate::Sessions::last_seen_every`].
    pub last_seen: Option<LastSeen>,
}

impl Accounts {
    /// All devices of a user.
    pub fn devices(&self, user: &UserId) -> Result<Vec<Device>, Error> {
        let view = self.view();
        let devices = view.devices(user)?.into_iter();
        devices
            .map(|(device_id, record)| {
                let last_seen = view.last_seen(user, &device_id)?;
                Ok(Device { device_id, display_name: record.display_name, last_seen })
            })
            .collect()
    }

    /// One device of a user.
    pub fn device(&self, user: &UserId, device: &DeviceId) -> Result<Option<Device>, Error> {
        let view = self.view();
        let Some(record) = view.device(user, device)? else { return Ok(None) };
        let last_seen = view.last_seen(user, device)?;
        Ok(Some(Device { device_id: device.to_owned(), display_name: record.display_name, last_seen }))
    }

    /// Renames a device.
    pub async fn rename_device(&self, user: &UserId, device: &DeviceId, name: &str) -> Result<(), Error> {
        check_display_name(name)?;
        self.change(|changes| {
            let record = changes.view().device(user, device)?.ok_or(Error::NoSuchDevice)?;
            if record.display_name.as_deref() != Some(name) {
                changes.rename_device_with_keys(user, device)?;
            }
            changes.put_device(user, device, &DeviceRecord { display_name: Some(name.to_owned()), ..record })?;
            Ok(())
        })
        .await
    }

    /// Removes devices and ends their sessions. Those that don't exist are passed over.
    pub async fn remove_devices(&self, user: &UserId, devices: &[OwnedDeviceId]) -> Result<(), Error> {
        let (user, devices) = (user.to_owned(), devices.to_vec());
        self.revoke(move |changes| {
            let mut gone = Vec::new();
            for device in &devices {
                if changes.view().device(&user, device)?.is_some() {
                    gone.extend(changes.clear_device(&user, device)?);
                }
            }
            Ok(((), gone))
        })
        .await
    }

    /// Removes all devices of a user and ends all sessions.
    pub async fn remove_all_devices(&self, user: &UserId) -> Result<(), Error> {
        let user = user.to_owned();
        self.revoke(move |changes| Ok(((), end_all(changes, &user, None)?))).await
    }
}

pub(crate) fn check_display_name(name: &str) -> Result<(), Error> {
    if name.len() > DISPLAY_NAME_BYTES_MAX { Err(Error::TooLarge("the name of the device")) } else { Ok(()) }
}
