//! What the server still has of the one-time keys of the device that syncs. Every response says it.

use super::Field;
use crate::{Inner, SyncError};
use devices::key_counts;
use records::View;
use ruma::{DeviceId, UserId};

impl Inner {
    /// The fields that every response has, beside its token.
    #[expect(clippy::unused_self, reason = "a section of the response, as the others")]
    pub(crate) fn device_keys(&self, view: &View, user: &UserId, device: &DeviceId) -> Result<Vec<Field>, SyncError> {
        let state = view.one_time_state(user, device)?.unwrap_or_default();
        let unused: Vec<&String> =
            state.fallback.iter().filter(|(_, key)| !key.used).map(|(algorithm, _)| algorithm).collect();
        let json = |value: Result<String, serde_json::Error>| value.map_err(SyncError::internal);
        Ok(vec![
            ("device_one_time_keys_count", json(serde_json::to_string(&key_counts(&state)))?),
            ("device_unused_fallback_key_types", json(serde_json::to_string(&unused))?),
        ])
    }
}
