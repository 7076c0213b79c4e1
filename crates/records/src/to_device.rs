//! Messages to devices, until they are delivered, and the transaction ids of requests that make no event.

use crate::codec::{self, RecordsError};
use crate::rooms::txn_key;
use crate::tables::{TO_DEVICE, TXN};
use crate::{Changes, TxnScope, View};
use base::{Stamp, UnixMillis};
use ruma::{DeviceId, EventId, OwnedDeviceId, OwnedUserId, UserId, event_id};
use serde::{Deserialize, Serialize};
use store::key::{KeyBuilder, KeyReader};
use store::{Direction, Hole, Stamped};

/// A message to a device (client-server API, "Send-to-Device messaging").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToDeviceRecord {
    /// Who sent it.
    pub sender: OwnedUserId,
    /// Its type.
    pub kind: String,
    /// Its content, a JSON object.
    pub content: String,
}

/// What stands where transaction ids have the event that they made.
fn no_event() -> &'static EventId {
    event_id!("$none")
}

fn messages(user: &UserId, device: &DeviceId) -> KeyBuilder {
    TO_DEVICE.key().text(user.as_str()).text(device.as_str())
}

fn range(user: &UserId, device: &DeviceId, after: Stamp, up_to: Stamp) -> (Vec<u8>, Vec<u8>) {
    let key = messages(user, device);
    (key.clone().number(after.next().0).build(), key.number(up_to.0.saturating_add(1)).build())
}

impl View {
    /// The messages to a device that were sent after one stamp and up to another, oldest first, at most
    /// `rows_max`.
    pub fn to_device(
        &self,
        user: &UserId,
        device: &DeviceId,
        after: Stamp,
        up_to: Stamp,
        rows_max: usize,
    ) -> Result<Vec<(Stamp, ToDeviceRecord)>, RecordsError> {
        let rows = self.scan(TO_DEVICE, range(user, device, after, up_to), Direction::Forward, rows_max)?;
        rows.iter()
            .map(|(key, value)| {
                let mut reader = KeyReader::new(key);
                let stamp = reader.text().and_then(|_| reader.text()).and_then(|_| reader.number());
                Ok((Stamp(stamp.ok_or_else(|| TO_DEVICE.corrupt())?), TO_DEVICE.decode(value)?))
            })
            .collect()
    }

    /// The stamps of the messages to a device that were sent before one, newest first, at most `rows_max`.
    pub fn to_device_stamps_before(
        &self,
        user: &UserId,
        device: &DeviceId,
        before: Stamp,
        rows_max: usize,
    ) -> Result<Vec<Stamp>, RecordsError> {
        let (from, _) = messages(user, device).prefix_range();
        let to = messages(user, device).number(before.0).build();
        let rows = self.scan(TO_DEVICE, (from, to), Direction::Backward, rows_max)?;
        rows.iter()
            .map(|(key, _)| {
                let mut reader = KeyReader::new(key);
                let stamp = reader.text().and_then(|_| reader.text()).and_then(|_| reader.number());
                stamp.map(Stamp).ok_or_else(|| TO_DEVICE.corrupt())
            })
            .collect()
    }

    /// The next device for which messages wait, in the order of users and devices, after one.
    pub fn next_device_with_messages(
        &self,
        after: Option<(&UserId, &DeviceId)>,
    ) -> Result<Option<(OwnedUserId, OwnedDeviceId)>, RecordsError> {
        let (mut from, to) = TO_DEVICE.key().prefix_range();
        if let Some((user, device)) = after {
            from = messages(user, device).prefix_range().1;
        }
        let rows = self.scan(TO_DEVICE, (from, to), Direction::Forward, 1)?;
        let Some((key, _)) = rows.first() else { return Ok(None) };
        let mut reader = KeyReader::new(key);
        let user = reader.text().and_then(|user| OwnedUserId::try_from(user).ok());
        match (user, reader.text()) {
            (Some(user), Some(device)) => Ok(Some((user, device.into()))),
            _ => Err(TO_DEVICE.corrupt()),
        }
    }

    /// Whether a request that makes no event was done under this transaction id.
    pub fn is_done(&self, scope: TxnScope<'_>, txn_id: &str) -> Result<bool, RecordsError> {
        Ok(self.get_bytes(TXN, &txn_key(scope, txn_id))?.is_some())
    }
}

impl Changes {
    /// Sends a message to a device at a stamp of these changes: one message a device and stamp.
    pub fn put_to_device(&mut self, nth: u16, user: &UserId, device: &DeviceId, record: &ToDeviceRecord) {
        let key = messages(user, device);
        let at = u32::try_from(key.len()).unwrap_or(u32::MAX);
        let key = Stamped { bytes: key.number(0).build(), holes: vec![Hole { at, nth }] };
        self.put_raw(TO_DEVICE, key, codec::encode(record).into());
    }

    /// Removes the messages to a device up to a stamp, the oldest first, at most `rows_max`. Answers how many
    /// those are.
    pub fn clear_to_device(
        &mut self,
        user: &UserId,
        device: &DeviceId,
        up_to: Stamp,
        rows_max: usize,
    ) -> Result<usize, RecordsError> {
        let range = range(user, device, Stamp(0), up_to);
        let rows = self.view().scan(TO_DEVICE, range, Direction::Forward, rows_max)?;
        let cleared = rows.len();
        for (key, _) in rows {
            self.clear(TO_DEVICE, key);
        }
        Ok(cleared)
    }

    /// Removes all that waits for a device.
    pub(crate) fn clear_all_to_device(&mut self, user: &UserId, device: &DeviceId) -> Result<(), RecordsError> {
        let range = messages(user, device).prefix_range();
        if !self.view().scan(TO_DEVICE, range.clone(), Direction::Forward, 1)?.is_empty() {
            self.clear_range(TO_DEVICE, range);
        }
        Ok(())
    }

    /// Remembers that a request that makes no event was done, until [`Changes::clear_txns`]; on condition that
    /// this is still as the view shows it, so that of two alike only one is.
    pub fn put_done(&mut self, scope: TxnScope<'_>, txn_id: &str, at: UnixMillis) -> Result<(), RecordsError> {
        self.expect_unchanged(TXN, txn_key(scope, txn_id))?;
        self.put_txn(scope, txn_id, at, no_event());
        Ok(())
    }
}
