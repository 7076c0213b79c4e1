//! OpenID tokens: what lets another service ask who a user is (client-server API, "OpenID").

use crate::codec::RecordsError;
use crate::tables::{OPENID_TOKEN, OPENID_TOKEN_BY_EXPIRY};
use crate::{Changes, TokenHash, View};
use base::UnixMillis;
use ruma::OwnedUserId;
use serde::{Deserialize, Serialize};
use store::Direction;

/// A token, found by its hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenIdRecord {
    /// Whom it stands for.
    pub user: OwnedUserId,
    /// Until when.
    pub expires_at: UnixMillis,
}

impl View {
    /// The token with this hash, one that has expired included.
    pub fn openid_token(&self, hash: &TokenHash) -> Result<Option<OpenIdRecord>, RecordsError> {
        self.get(OPENID_TOKEN, &OPENID_TOKEN.key().fixed(hash).build())
    }
}

impl Changes {
    /// Keeps a new token.
    pub fn put_openid_token(&mut self, hash: &TokenHash, record: &OpenIdRecord) {
        self.put(OPENID_TOKEN, OPENID_TOKEN.key().fixed(hash).build(), record);
        let by_expiry = OPENID_TOKEN_BY_EXPIRY.key().number(record.expires_at.0).fixed(hash).build();
        self.put(OPENID_TOKEN_BY_EXPIRY, by_expiry, &());
    }

    /// Forgets tokens that expired before a time, the oldest first, at most `tokens_max`.
    pub fn clear_openid_tokens(&mut self, before: UnixMillis, tokens_max: usize) -> Result<(), RecordsError> {
        let range = (OPENID_TOKEN_BY_EXPIRY.key().build(), OPENID_TOKEN_BY_EXPIRY.key().number(before.0).build());
        let rows = self.view().clone().scan(OPENID_TOKEN_BY_EXPIRY, range, Direction::Forward, tokens_max)?;
        for (key, _) in rows {
            // The table's byte and the time come before the hash.
            let hash = key.get(9..).unwrap_or_default();
            self.clear(OPENID_TOKEN, OPENID_TOKEN.key().fixed(hash).build());
            self.clear(OPENID_TOKEN_BY_EXPIRY, key);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Records;
    use ruma::owned_user_id;
    use std::sync::Arc;
    use store::MemoryEngine;

    #[tokio::test]
    async fn tokens_are_forgotten_once_they_have_expired() {
        let records = Records::open(Arc::new(MemoryEngine::new())).await.unwrap();
        let mut changes = records.changes(&records.view());
        for number in 1..=3_u8 {
            let record = OpenIdRecord { user: owned_user_id!("@a:b"), expires_at: UnixMillis(u64::from(number) * 10) };
            changes.put_openid_token(&[number; 32], &record);
        }
        records.commit(changes).await.unwrap();
        let mut changes = records.changes(&records.view());
        changes.clear_openid_tokens(UnixMillis(21), 10).unwrap();
        records.commit(changes).await.unwrap();
        let left = [1, 2, 3].map(|number| records.view().openid_token(&[number; 32]).unwrap().is_some());
        assert_eq!(left, [false, false, true]);
    }
}
