//! Registration tokens that administrators have made.

use crate::codec::RecordsError;
use crate::tables::REGISTRATION_TOKEN;
use crate::{Changes, View};
use base::UnixMillis;
use serde::{Deserialize, Serialize};
use store::Direction;

/// A token that lets people register. It is found by the hash of it, so that how long a search takes tells nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistrationTokenRecord {
    /// The token.
    pub token: String,
    /// How many may register with it; `None` for any number.
    pub uses_allowed: Option<u64>,
    /// How many have registered with it.
    pub completed: u64,
    /// When it expires.
    pub expires_at: Option<UnixMillis>,
}

impl RegistrationTokenRecord {
    /// Whether somebody may register with it at this time.
    #[must_use]
    pub fn is_valid(&self, now: UnixMillis) -> bool {
        self.uses_allowed.is_none_or(|uses| self.completed < uses) && self.expires_at.is_none_or(|at| now < at)
    }
}

fn token_key(hash: &[u8; 32]) -> Vec<u8> {
    REGISTRATION_TOKEN.key().fixed(hash).build()
}

impl View {
    /// A registration token, by the SHA-256 of it.
    pub fn registration_token(&self, hash: &[u8; 32]) -> Result<Option<RegistrationTokenRecord>, RecordsError> {
        self.get(REGISTRATION_TOKEN, &token_key(hash))
    }

    /// The registration tokens in no order that means anything, at most `rows_max`.
    pub fn registration_tokens(&self, rows_max: usize) -> Result<Vec<RegistrationTokenRecord>, RecordsError> {
        let range = REGISTRATION_TOKEN.key().prefix_range();
        let rows = self.scan(REGISTRATION_TOKEN, range, Direction::Forward, rows_max)?;
        rows.iter().map(|(_, value)| REGISTRATION_TOKEN.decode(value)).collect()
    }
}

impl Changes {
    /// Writes a registration token, on condition that it is still as the view shows it.
    pub fn put_registration_token(
        &mut self,
        hash: &[u8; 32],
        record: &RegistrationTokenRecord,
    ) -> Result<(), RecordsError> {
        let key = token_key(hash);
        self.expect_unchanged(REGISTRATION_TOKEN, key.clone())?;
        self.put(REGISTRATION_TOKEN, key, record);
        Ok(())
    }

    /// Removes a registration token.
    pub fn clear_registration_token(&mut self, hash: &[u8; 32]) {
        self.clear(REGISTRATION_TOKEN, token_key(hash));
    }
}
