//! What users store: account data and filters.

use crate::user::expect_active;
use crate::{Accounts, Error};
use base::limits::ID_BYTES_MAX;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use records::{Changes, DELETED};
use ruma::{RoomId, UserId};
use sha2::{Digest, Sha256};

/// The largest content of a piece of account data, in bytes.
pub const ACCOUNT_DATA_BYTES_MAX: usize = 256 * 1024;
/// How many pieces of account data a user can have, over all rooms. The server's own count too, such as the read
/// marker of each room.
pub const ACCOUNT_DATA_ENTRIES_MAX: u64 = 10_000;
/// How many bytes of account data a user can have, over all rooms.
pub const ACCOUNT_DATA_TOTAL_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// The largest filter, in bytes of JSON.
pub const FILTER_BYTES_MAX: usize = 64 * 1024;
/// How many filters a user can store.
pub const FILTERS_MAX: usize = 1000;
/// How many bytes of the hash of a filter make its id.
const FILTER_ID_BYTES: usize = 12;

/// The type of the push rules among account data.
pub(crate) const PUSH_RULES: &str = "m.push_rules";

impl Accounts {
    /// Account data of a type, for a room or for the account as a whole: a JSON object.
    pub fn account_data(&self, user: &UserId, room: Option<&RoomId>, kind: &str) -> Result<Option<String>, Error> {
        Ok(self.view().account_data(user, room, kind)?)
    }

    /// Stores account data: a JSON object, of which an empty one deletes what is stored (MSC3391). Logs it for the user's syncs, unless it is what is stored already.
    ///
    /// Who has as much as a user can have can still replace what is there by something smaller.
    pub async fn set_account_data(
        &self,
        user: &UserId,
        room: Option<&RoomId>,
        kind: &str,
        content: &str,
    ) -> Result<(), Error> {
        if kind.len() > ID_BYTES_MAX {
            return Err(Error::TooLarge("the type"));
        }
        self.change(|changes| {
            expect_active(changes, user)?;
            put_account_data(changes, user, room, kind, content)
        })
        .await
    }

    /// Stores a filter and returns its id, which its content decides: the same filter twice is stored once.
    pub async fn create_filter(&self, user: &UserId, filter: &str) -> Result<String, Error> {
        if filter.len() > FILTER_BYTES_MAX {
            return Err(Error::TooLarge("the filter"));
        }
        let hash = Sha256::digest(filter);
        let id = URL_SAFE_NO_PAD.encode(hash.get(..FILTER_ID_BYTES).unwrap_or_default());
        self.change(|changes| {
            expect_active(changes, user)?;
            if changes.view().filter(user, &id)?.is_none() {
                if changes.view().filter_count(user)? >= FILTERS_MAX {
                    return Err(Error::TooLarge("the number of filters"));
                }
                changes.put_filter(user, &id, filter);
            }
            Ok(())
        })
        .await?;
        Ok(id)
    }

    /// A filter that was stored.
    pub fn filter(&self, user: &UserId, id: &str) -> Result<Option<String>, Error> {
        Ok(self.view().filter(user, id)?)
    }
}

/// Writes account data within the limits, unless it is what is stored already.
pub(crate) fn put_account_data(
    changes: &mut Changes,
    user: &UserId,
    room: Option<&RoomId>,
    kind: &str,
    content: &str,
) -> Result<(), Error> {
    if content.len() > ACCOUNT_DATA_BYTES_MAX {
        return Err(Error::TooLarge("the content"));
    }
    // What is deleted twice, or was never there, is not told.
    let stored = Some(content).filter(|content| *content != DELETED);
    if changes.view().account_data(user, room, kind)?.as_deref() == stored {
        return Ok(());
    }
    let before = changes.view().account_data_usage(user)?;
    changes.put_account_data(user, room, kind, content)?;
    let after = changes.account_data_usage(user)?;
    if after.entries > before.entries.max(ACCOUNT_DATA_ENTRIES_MAX) {
        return Err(Error::TooLarge("the number of pieces of account data"));
    }
    if after.bytes > before.bytes.max(ACCOUNT_DATA_TOTAL_BYTES_MAX) {
        return Err(Error::TooLarge("all of the user's account data together"));
    }
    Ok(())
}
