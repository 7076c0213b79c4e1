//! Whose devices changed of those whom the user shares encrypted rooms with.

use super::{Candidate, Context};
use crate::SyncError;

impl Context<'_> {
    /// The `device_lists` section; none if there is nothing to tell. `candidates` are the rooms that something
    /// may have happened in.
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "devices have no keys here")]
    pub(super) fn device_lists(&self, _candidates: &[Candidate]) -> Result<Option<String>, SyncError> {
        Ok(None)
    }
}
