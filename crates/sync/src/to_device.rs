//! Messages to devices (client-server API, "Send-to-Device messaging"): told in pages, in their order, and removed
//! once the client has confirmed them by the token of its next request. For sync and sliding sync alike.

use crate::json::{push_name, push_text};
use crate::{Inner, SyncError};
use base::Stamp;
use records::{ToDeviceRecord, View};
use ruma::{DeviceId, UserId};
use store::CommitError;

/// How many messages one response tells, as the specification recommends.
pub const TO_DEVICE_PAGE_MAX: usize = 100;
/// How many bytes of messages one response tells, unless its first message alone has more.
const PAGE_BYTES_MAX: usize = 1024 * 1024;
/// How many messages are removed by one batch.
const CLEARED_MAX: usize = 1_000;

/// The messages of one response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToDevicePage {
    /// The messages, each as the JSON of an event.
    pub events: Vec<String>,
    /// Up to where they go: the next page begins after it, and to confirm it is to confirm all of them.
    pub next: Stamp,
}

impl ToDevicePage {
    /// No message up to here.
    pub fn none(up_to: Stamp) -> Self {
        Self { events: Vec::new(), next: up_to }
    }
}

/// The messages to a device that came after one stamp and up to another, as many as one response tells,
/// and no more than `events_max`.
pub fn to_device_page(
    view: &View,
    user: &UserId,
    device: &DeviceId,
    after: Stamp,
    up_to: Stamp,
    events_max: usize,
) -> Result<ToDevicePage, SyncError> {
    let events_max = events_max.clamp(1, TO_DEVICE_PAGE_MAX);
    let rows = view.to_device(user, device, after, up_to, events_max)?;
    let mut page = ToDevicePage::none(up_to);
    let is_full = rows.len() >= events_max;
    let (mut bytes, mut last) = (0, after);
    for (stamp, record) in rows {
        bytes += record.content.len();
        if bytes > PAGE_BYTES_MAX && !page.events.is_empty() {
            return Ok(ToDevicePage { next: last, ..page });
        }
        page.events.push(event(&record));
        last = stamp;
    }
    if is_full {
        page.next = last;
    }
    Ok(page)
}

fn event(record: &ToDeviceRecord) -> String {
    let mut out = String::with_capacity(record.content.len() + record.kind.len() + 64);
    out.push('{');
    push_name(&mut out, "type");
    push_text(&mut out, &record.kind);
    push_name(&mut out, "sender");
    push_text(&mut out, record.sender.as_str());
    push_name(&mut out, "content");
    out.push_str(&record.content);
    out.push('}');
    out
}

impl Inner {
    /// Removes the messages that a device has confirmed. Nobody waits for the disk: what was confirmed lies behind
    /// every token that the device uses from now on, so that a removal that is lost is only made up for later.
    pub async fn confirm_to_device(&self, user: &UserId, device: &DeviceId, up_to: Stamp) -> Result<(), SyncError> {
        loop {
            let mut changes = self.records.changes(&self.records.view());
            let cleared = changes.clear_to_device(user, device, up_to, CLEARED_MAX)?;
            if cleared == 0 {
                return Ok(());
            }
            changes.derived();
            match self.records.commit(changes).await {
                Ok(_) if cleared >= CLEARED_MAX => {}
                Ok(_) | Err(CommitError::Conflict) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}
