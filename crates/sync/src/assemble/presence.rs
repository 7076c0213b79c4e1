//! The presence of those whom the user shares rooms with.

use super::Context;
use crate::SyncError;

impl Context<'_> {
    /// The `presence` section; none if there is nothing to tell.
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "presence is not kept here")]
    pub(super) fn presence(&self) -> Result<Option<String>, SyncError> {
        Ok(None)
    }
}
