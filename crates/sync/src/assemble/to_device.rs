//! Messages to the device that syncs.

use super::Context;

impl Context<'_> {
    /// The `to_device` section; none if there is nothing to tell.
    pub(super) fn to_device(&self) -> Option<String> {
        let events = &self.to_device.events;
        (!events.is_empty()).then(|| format!("{{\"events\":[{}]}}", events.join(",")))
    }
}
