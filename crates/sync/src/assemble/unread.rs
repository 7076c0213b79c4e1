//! What a user has not read of a room.

use super::{Candidate, Context, Field};
use crate::SyncError;
use base::Stamp;
use rooms::RoomReader;

impl Context<'_> {
    /// The counts of a joined room; none if they have not changed since `known`. Having some is reason enough to
    /// tell of the room.
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "what is unread is not counted here")]
    pub(super) fn unread(
        &self,
        _reader: &RoomReader,
        _candidate: &Candidate,
        _known: Option<Stamp>,
    ) -> Result<Vec<Field>, SyncError> {
        Ok(Vec::new())
    }
}
