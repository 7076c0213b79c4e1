//! Presence as it was last told: what is left of it after a restart.

use crate::codec::RecordsError;
use crate::tables::PRESENCE;
use crate::{Changes, View};
use base::UnixMillis;
use ruma::UserId;
use serde::{Deserialize, Serialize};

/// What a user said of themselves last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PresenceRecord {
    /// Their status message.
    pub status: Option<String>,
    /// When they last did something; 0 if that is not known.
    pub active_at: UnixMillis,
}

fn presence_key(user: &UserId) -> Vec<u8> {
    PRESENCE.key().text(user.as_str()).build()
}

impl View {
    /// What a user said of themselves last.
    pub fn presence(&self, user: &UserId) -> Result<Option<PresenceRecord>, RecordsError> {
        self.get(PRESENCE, &presence_key(user))
    }
}

impl Changes {
    /// Keeps what a user said of themselves last.
    pub fn put_presence(&mut self, user: &UserId, record: &PresenceRecord) {
        self.put(PRESENCE, presence_key(user), record);
    }

    /// Forgets what a user said of themselves.
    pub(crate) fn clear_presence(&mut self, user: &UserId) {
        self.clear(PRESENCE, presence_key(user));
    }
}
