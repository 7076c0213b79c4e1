//! Bounding what waits for devices that never come to fetch it.
//!
//! A device that was given up, but never logged out, is sent room keys for as long as its user is in rooms. How much
//! waits is looked at from time to time, not with every message: the count of each device would be one more write
//! that meets others.

use crate::{Error, Shared};
use base::Stamp;
use ruma::{OwnedDeviceId, OwnedUserId};
use std::sync::Weak;
use std::time::Duration;

/// How many messages wait for a device. Of more, the oldest go: what they are about is the oldest too.
pub const PENDING_MAX: usize = 100_000;
/// How often it is looked.
const EVERY: Duration = Duration::from_hours(6);
/// How many messages are looked at, or removed by one batch, at once.
const PAGE: usize = 1_000;

/// Looks from time to time, as long as anybody uses the devices.
pub(crate) async fn bound(shared: Weak<Shared>) {
    loop {
        tokio::time::sleep(EVERY).await;
        let Some(shared) = shared.upgrade() else { return };
        if let Err(error) = shared.bound_pending(PENDING_MAX).await {
            tracing::warn!(%error, "messages to devices that are too many stay for now");
        }
    }
}

impl Shared {
    /// Removes the oldest messages of each device that has more than `pending_max`.
    pub async fn bound_pending(&self, pending_max: usize) -> Result<(), Error> {
        let mut last: Option<(OwnedUserId, OwnedDeviceId)> = None;
        loop {
            let view = self.records.view();
            let after = last.as_ref().map(|(user, device)| (&**user, &**device));
            let Some((user, device)) = view.next_device_with_messages(after)? else { return Ok(()) };
            // The first of those that stay: as many as may wait are behind it.
            let mut kept = Stamp(u64::MAX);
            let mut counted = 0;
            while counted <= pending_max {
                let page = view.to_device_stamps_before(&user, &device, kept, PAGE.min(pending_max + 1 - counted))?;
                let Some(first) = page.last() else { break };
                counted += page.len();
                kept = *first;
            }
            drop(view);
            if counted > pending_max {
                // The last one that was counted is one too many.
                loop {
                    let mut changes = self.records.changes(&self.records.view());
                    let cleared = changes.clear_to_device(&user, &device, kept, PAGE)?;
                    changes.derived();
                    if cleared > 0 {
                        self.records.commit(changes).await?;
                    }
                    if cleared < PAGE {
                        break;
                    }
                }
            }
            last = Some((user, device));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::tests::{alice, devices_over, records_with};
    use crate::{Devices, OutgoingMessages};
    use base::Stamp;
    use ruma::{OwnedDeviceId, owned_device_id};
    use std::collections::BTreeMap;

    async fn send(devices: &Devices, device: &OwnedDeviceId, count: usize) {
        for n in 0..count {
            let contents = BTreeMap::from([(device.clone(), format!("{{\"n\":{n}}}"))]);
            let messages =
                OutgoingMessages { kind: "m.test".to_owned(), contents: BTreeMap::from([(alice(), contents)]) };
            devices.send(&alice(), &messages, None).await.unwrap();
        }
    }

    #[tokio::test]
    async fn of_too_many_messages_the_newest_stay() {
        let all = [owned_device_id!("A"), owned_device_id!("B"), owned_device_id!("C")];
        let records = records_with(&all).await;
        let devices = devices_over(&records);
        for (device, count) in all.iter().zip([3, 2_500, 4]) {
            send(&devices, device, count).await;
        }
        let left = |device: &OwnedDeviceId| -> Vec<String> {
            let view = records.view();
            let messages = view.to_device(&alice(), device, Stamp(0), view.stamp(), 10_000).unwrap();
            messages.into_iter().map(|(_, message)| message.content).collect()
        };
        let expected = |from: usize, to: usize| (from..to).map(|n| format!("{{\"n\":{n}}}")).collect::<Vec<_>>();
        devices.0.bound_pending(2_500).await.unwrap();
        assert_eq!(left(&all[1]), expected(0, 2_500));
        devices.0.bound_pending(3).await.unwrap();
        assert_eq!(left(&all[0]), expected(0, 3));
        assert_eq!(left(&all[1]), expected(2_497, 2_500));
        assert_eq!(left(&all[2]), expected(1, 4));
    }
}
