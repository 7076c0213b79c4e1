//! Everything that the store holds: the layout of every key and every stored struct, one module a table.
//!
//! Only this crate knows key bytes. Above it, a [`View`] reads and [`Changes`] write in the terms of the
//! domain; what those terms mean is decided elsewhere.
//!
//! A value is a version byte and the struct as postcard writes it; where the commit stamps a value, eight
//! bytes for the stamp come between the two. [`SCHEMA_VERSION`] counts the layouts: a store written by a
//! newer one is refused by [`Records::open`].

mod accounts;
mod accounts_stored;
mod blocked_rooms;
mod changes;
mod codec;
mod delayed;
mod destinations;
mod device_keys;
mod directory;
mod endings;
mod followers;
mod ids;
mod jobs;
mod key_backup;
mod log;
mod media;
mod notices;
mod one_time_keys;
mod openid;
mod presence;
mod pushers;
mod read_state;
mod receipts;
mod redactions;
mod registration_tokens;
mod relations;
mod remote_devices;
mod removal;
mod reports;
mod rooms;
mod schema;
mod search;
mod server_keys;
mod servers;
mod sliding;
pub mod state_map;
mod stays;
mod tables;
#[cfg(test)]
mod tests;
mod thread_subscriptions;
mod threepids;
mod times;
mod to_device;
mod user_directory;
mod view;

pub use accounts::{
    AcceptedTerms, AccessTokenRecord, DeviceRecord, LastSeen, RateOverride, RefreshTokenRecord, Sanctions, TokenHash,
    UserRecord,
};
pub use accounts_stored::{AccountDataUsage, AccountDatum, DELETED, Profile};
pub use blocked_rooms::BlockedRoom;
pub use changes::Changes;
pub use codec::RecordsError;
pub use delayed::{DelayedPlace, DelayedRecord, Fate};
pub use destinations::DestinationRecord;
pub use device_keys::{CrossSigningRecord, DehydratedRecord, SignedKey, UserSignature};
pub use directory::{Listed, ListedPlace, RoomSummary};
pub use endings::Erasures;
pub use ids::Ids;
pub use jobs::{JOBS_MAX, Job, JobRecord, JobStatus, RoomDeletion, UserRedaction};
pub use key_backup::{BackedUpKey, BackupRecord};
pub use log::LogEntry;
pub use media::{
    BlobHash, BlobRecord, BlockedRecord, GoneBlob, MediaRecord, MediaUsage, Mxc, PreviewRecord, ThumbnailKey,
    ThumbnailRecord, VerdictRecord, VerdictState,
};
pub use one_time_keys::{FallbackKey, KeyDigest, OneTimeQueue, OneTimeState};
pub use openid::OpenIdRecord;
pub use presence::PresenceRecord;
pub use pushers::{PushLag, Pusher, PusherKind, PusherRecord};
pub use read_state::ReadState;
pub use receipts::{ReceiptKey, ReceiptKind, ReceiptRecord};
pub use redactions::PENDING_REDACTIONS_MAX;
pub use registration_tokens::RegistrationTokenRecord;
pub use relations::{EditKey, Place, RelatedRecord, RelationKind, RelationRecord};
pub use remote_devices::RemoteDevices;
pub use reports::{ReportRecord, Reported};
pub use rooms::{
    AliasRecord, EventRecord, EventStatus, Glance, Membership, MembershipRecord, RoomHead, SentBy, TimelineEntry,
    TxnScope,
};
pub use schema::{OpenError, SCHEMA_VERSION};
pub use server_keys::{PublishedKeysRecord, ServerKeyRecord};
pub use sliding::{
    SlidingConnection, SlidingElement, SlidingRequired, SlidingRoom, SlidingScope, SlidingSent, SlidingVersion,
};
pub use stays::Stay;
pub use thread_subscriptions::{SubscribedThread, ThreadSubscription};
pub use threepids::{Purpose, Threepid, ThreepidRecord, ValidationRecord};
pub use times::TimedEvent;
pub use to_device::ToDeviceRecord;
pub use user_directory::{FoundUser, UsersByWord, Words};
pub use view::View;

use base::Stamp;
use std::sync::Arc;
use store::{CommitError, Engine, Stamps};
use tokio::sync::watch;

/// The records of one agency.
#[derive(Clone)]
pub struct Records {
    engine: Arc<dyn Engine>,
    ids: Arc<Ids>,
}

impl Records {
    /// Opens the records in an engine, an empty one included.
    pub async fn open(engine: Arc<dyn Engine>) -> Result<Self, OpenError> {
        schema::check(&*engine).await?;
        let ids = Arc::new(Ids::open(&*engine).await?);
        Ok(Self { engine, ids })
    }

    /// The newest state.
    #[must_use]
    pub fn view(&self) -> View {
        View::new(self.engine.snapshot())
    }

    /// Begins changes that are decided on `view`.
    #[must_use]
    pub fn changes(&self, view: &View) -> Changes {
        Changes::new(view.clone(), self.ids.clone())
    }

    /// Commits changes: all or nothing, and durable unless they are marked as derived.
    pub async fn commit(&self, changes: Changes) -> Result<Stamps, CommitError> {
        if self.ids.is_low() {
            self.ids.reserve(&*self.engine).await?;
        }
        self.engine.commit(changes.into_batch()).await
    }

    /// The last stamp that views show.
    #[must_use]
    pub fn newest(&self) -> watch::Receiver<Stamp> {
        self.engine.newest()
    }

    /// Numbers for what is new.
    #[must_use]
    pub fn ids(&self) -> &Ids {
        &self.ids
    }
}
