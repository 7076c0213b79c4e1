//! Dehydrated devices (MSC3814): devices without a session that receive room keys while their user has no other.

use crate::device_keys::KeyUpload;
use crate::one_time_keys::take_upload;
use crate::{Devices, Error};
use base::Stamp;
use base::limits::ID_BYTES_MAX;
use records::{DehydratedRecord, DeviceRecord, ToDeviceRecord};
use ruma::{DeviceId, OwnedDeviceId, UserId};

/// The largest `device_data`, in bytes of JSON: thousands of one-time keys fit.
pub const DEVICE_DATA_BYTES_MAX: usize = 256 * 1024;
/// The longest name, in bytes.
const DISPLAY_NAME_BYTES_MAX: usize = 1_000;
/// How many messages a page has.
const PAGE_MAX: usize = 100;

/// A device to be dehydrated.
#[derive(Clone, Debug)]
pub struct NewDehydrated {
    /// Its id.
    pub device_id: OwnedDeviceId,
    /// What a client needs to bring it back: a JSON object.
    pub data: String,
    /// What it is called.
    pub display_name: Option<String>,
    /// Its keys, with those that identify it.
    pub keys: KeyUpload,
}

/// A page of the messages to a dehydrated device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DehydratedPage {
    /// The messages.
    pub messages: Vec<ToDeviceRecord>,
    /// Where the next page begins.
    pub next: Stamp,
    /// Whether there is one.
    pub has_more: bool,
}

impl Devices {
    /// A user's dehydrated device and its data.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`].
    pub fn dehydrated(&self, user: &UserId) -> Result<DehydratedRecord, Error> {
        self.view().dehydrated(user)?.ok_or(NO_DEVICE)
    }

    /// Stores a user's dehydrated device, which takes the place of the one before.
    ///
    /// # Errors
    ///
    /// As [`Devices::upload`]; [`Error::InvalidParam`] if a device or a cross-signing key has its id already;
    /// [`Error::TooLarge`].
    pub async fn dehydrate(&self, user: &UserId, device: NewDehydrated) -> Result<(), Error> {
        let device_id = &device.device_id;
        if device_id.as_str().is_empty() || device_id.as_str().len() > ID_BYTES_MAX {
            return Err(Error::InvalidParam("the device id is empty or too long".to_owned()));
        }
        if device.data.len() > DEVICE_DATA_BYTES_MAX {
            return Err(Error::TooLarge("device_data"));
        }
        if device.display_name.as_ref().is_some_and(|name| name.len() > DISPLAY_NAME_BYTES_MAX) {
            return Err(Error::TooLarge("the name of the device"));
        }
        if device.keys.device_keys.is_none() {
            return Err(Error::BadJson("device_keys are missing".to_owned()));
        }
        let upload = device.keys.check(user, device_id)?;
        let record = DehydratedRecord { device_id: device_id.clone(), data: device.data };
        let created_at = self.now();
        // First the old one goes, and then the new one comes, each by a batch: a device that is replaced by one of
        // the same id begins without keys and messages.
        self.delete_dehydrated_if_any(user).await?;
        let (record, display_name) = (&record, &device.display_name);
        self.change(|changes| {
            if changes.view().device(user, &record.device_id)?.is_some() {
                return Err(Error::InvalidParam("there is a device of this id".to_owned()));
            }
            if changes.view().cross_signing(user)?.has_public_key(record.device_id.as_str()) {
                return Err(Error::InvalidParam("a cross-signing key has this id".to_owned()));
            }
            let new = DeviceRecord { display_name: display_name.clone(), created_at, generation: 0 };
            changes.put_device(user, &record.device_id, &new)?;
            changes.put_dehydrated(user, record)?;
            take_upload(changes, &upload)?;
            Ok(())
        })
        .await
    }

    /// Removes a user's dehydrated device and answers which it was.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`].
    pub async fn delete_dehydrated(&self, user: &UserId) -> Result<OwnedDeviceId, Error> {
        self.delete_dehydrated_if_any(user).await?.ok_or(NO_DEVICE)
    }

    async fn delete_dehydrated_if_any(&self, user: &UserId) -> Result<Option<OwnedDeviceId>, Error> {
        self.change(|changes| {
            let Some(record) = changes.view().dehydrated(user)? else { return Ok(None) };
            // It has no session, so there is none to be forgotten.
            changes.clear_device(user, &record.device_id)?;
            Ok(Some(record.device_id))
        })
        .await
    }

    /// The messages to a user's dehydrated device that came after `after`, oldest first. They stay: whoever brings
    /// the device back may fail, and another must be able to begin anew.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`] if it is not the user's dehydrated device.
    pub fn dehydrated_messages(&self, user: &UserId, device: &DeviceId, after: Stamp) -> Result<DehydratedPage, Error> {
        let view = self.view();
        if view.dehydrated(user)?.is_none_or(|record| record.device_id != device) {
            return Err(Error::Forbidden("this is not the dehydrated device"));
        }
        let mut rows = view.to_device(user, device, after, view.stamp(), PAGE_MAX + 1)?;
        let has_more = rows.len() > PAGE_MAX;
        rows.truncate(PAGE_MAX);
        let next = rows.last().map_or(after, |(stamp, _)| *stamp);
        Ok(DehydratedPage { messages: rows.into_iter().map(|(_, message)| message).collect(), next, has_more })
    }
}

const NO_DEVICE: Error = Error::NotFound("dehydrated device");
