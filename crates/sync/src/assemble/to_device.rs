//! Messages to the device that syncs.

use super::Context;
use crate::SyncError;

impl Context<'_> {
    /// The `to_device` section; none if there is nothing to tell.
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "nothing is sent to devices here")]
    pub(super) fn to_device(&self) -> Result<Option<String>, SyncError> {
        Ok(None)
    }
}
