//! What the server still has of the one-time keys of the device that syncs. Every response says it.

use super::Field;
use crate::{Inner, SyncError, SyncRequest};
use records::View;

impl Inner {
    /// The fields that every response has, beside its token.
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "devices have no keys here")]
    pub(super) fn device_keys(&self, _view: &View, _request: &SyncRequest) -> Result<Vec<Field>, SyncError> {
        Ok(vec![("device_one_time_keys_count", "{}".to_owned())])
    }
}
