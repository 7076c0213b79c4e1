//! End-to-end encryption, as far as a server has a part in it: messages to devices, the public keys of devices and
//! users, one-time keys, backups of room keys, dehydrated devices (client-server API, "End-to-End Encryption").
//!
//! Here is decided what may be stored and who gets which key. Who is told of a change, and when, is `sync`'s.
//! Nothing here can read a message.

mod backup;
mod cross_signing;
mod dehydrated;
mod device_keys;
mod error;
mod json;
mod keys;
mod one_time_keys;
mod pending;
mod signatures;
#[cfg(test)]
mod tests;
mod to_device;

pub use backup::{
    AUTH_DATA_BYTES_MAX, BACKED_UP_KEYS_MAX, BACKED_UP_KEYS_PAGE, BACKUPS_MAX, Backup, BackupStanding, KeyPage,
    RoomKeys, SESSION_DATA_BYTES_MAX, Which,
};
pub use cross_signing::{CheckedCrossSigning, CrossSigningUpload, Identity};
pub use dehydrated::{DEVICE_DATA_BYTES_MAX, DehydratedPage, NewDehydrated};
pub use device_keys::{IDENTITY_KEYS_BYTES_MAX, KeyUpload, ONE_TIME_KEY_BYTES_MAX};
pub use error::Error;
pub use keys::{QUERIED_USERS_MAX, QueriedKeys};
pub use one_time_keys::{ALGORITHMS_MAX, CLAIMS_MAX, Claim, ClaimedKey, KeyCounts, ONE_TIME_KEYS_MAX, key_counts};
pub use pending::PENDING_MAX;
pub use signatures::{SIGNED_KEYS_MAX, SignatureFailure, SignatureFailures, SignedKeys};
pub use to_device::{
    Addressee, MESSAGE_BYTES_MAX, MESSAGES_MAX, OutgoingMessages, TO_DEVICE_BYTES_MAX, ToDeviceTxn, WILDCARD,
};

use one_time_keys::{Input, QUEUE_MAX};

use base::{Clock, UnixMillis};
use records::{Changes, Records, View};
use ruma::{OwnedServerName, ServerName, UserId};
use std::sync::Arc;
use store::CommitError;
use tokio::sync::mpsc;

/// How often a change is decided again after another writer was first.
const ATTEMPTS_MAX: usize = 10;

/// The devices and keys of one agency. Cheap to clone.
#[derive(Clone)]
pub struct Devices(Arc<Shared>);

struct Shared {
    records: Records,
    server_name: OwnedServerName,
    clock: Arc<dyn Clock>,
    /// The queue of the task that gives out one-time keys.
    one_time: mpsc::Sender<Input>,
}

impl Devices {
    /// The devices and keys that these records hold. Starts the task that gives out one-time keys, which ends with
    /// the last clone of this handle, and one that bounds what waits for devices; so it must be called within a
    /// runtime.
    #[must_use]
    pub fn new(records: Records, server_name: OwnedServerName, clock: Arc<dyn Clock>) -> Self {
        let (one_time, inputs) = mpsc::channel(QUEUE_MAX);
        tokio::spawn(one_time_keys::run(records.clone(), inputs));
        let shared = Arc::new(Shared { records, server_name, clock, one_time });
        tokio::spawn(pending::bound(Arc::downgrade(&shared)));
        Self(shared)
    }

    /// The agency's name.
    #[must_use]
    pub fn server_name(&self) -> &ServerName {
        &self.0.server_name
    }

    /// Whether a user is of this agency.
    #[must_use]
    pub fn is_local(&self, user: &UserId) -> bool {
        user.server_name() == self.0.server_name
    }

    fn view(&self) -> View {
        self.0.records.view()
    }

    fn now(&self) -> UnixMillis {
        self.0.clock.now()
    }

    /// Decides changes on the newest view and commits them, again if another writer was first.
    async fn change<T>(&self, decide: impl Fn(&mut Changes) -> Result<T, Error> + Send) -> Result<T, Error> {
        for _ in 0..ATTEMPTS_MAX {
            let mut changes = self.0.records.changes(&self.view());
            let decided = decide(&mut changes)?;
            if changes.is_empty() {
                return Ok(decided);
            }
            match self.0.records.commit(changes).await {
                Ok(_) => return Ok(decided),
                Err(CommitError::Conflict) => {}
                Err(CommitError::TooLarge) => return Err(Error::TooLarge("the change")),
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::Contended)
    }
}
