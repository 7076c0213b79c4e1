//! Files: where their bytes are, who may get them, what they look like in small (client-server API, "Content
//! repository").
//!
//! A *medium* is a name, `mxc://server/id`, and what its uploader says of it; a *blob* is bytes, known by their SHA-256.
//! Bytes are hashed while they come and kept once, however many media have them. A blob is on the disk before the row
//! that names it is, and its row is gone before it is: what a crash leaves is bytes without a row, which are collected.
//!
//! Every way to bytes goes through the [gate](Media::find): what is quarantined, or what a scanner found infected,
//! nobody gets. Nothing here knows of HTTP; other servers are asked through [`RemoteMedia`], which is federation's.

mod admin;
mod blobs;
mod config;
mod download;
mod error;
mod flights;
mod gate;
mod preview;
mod remote_media;
mod retention;
mod scan;
#[cfg(test)]
mod tests;
mod thumbnail;
mod upload;

pub use admin::{MediaInfo, UserMedia};
pub use blobs::{Blobs, ByteStream};
pub use config::{Config, Legacy, Previews, Retention, S3, ScanPolicy, Scanning, Thumbnails};
pub use download::{File, Thumbnail};
pub use download::{Wanted, WantedThumbnail};
pub use error::Error;
pub use records::{BlobHash, BlockedRecord, MediaUsage, Mxc, ThumbnailKey, VerdictRecord, VerdictState};
pub use remote_media::{RemoteError, RemoteFile, RemoteMedia};
pub use scan::{ScanError, Scanned, Scanner};
pub use thumbnail::Method;
pub use upload::{NewFile, Pending};

use base::{Clock, Random, UnixMillis};
use flights::Flights;
use quick_cache::sync::Cache;
use records::{Changes, Records, View};
use remote::Outgoing;
use ruma::{OwnedServerName, OwnedUserId, ServerName, UserId};
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};
use std::sync::{Arc, Mutex, OnceLock};
use store::CommitError;
use tokio::sync::{MutexGuard, Semaphore, watch};

/// How often a change is decided again after another writer was first.
const ATTEMPTS_MAX: usize = 20;
/// Among how many locks hashes and users are shared out.
const TURNS: usize = 64;
/// Of how many media it is remembered when they were last asked for.
const ACCESSES_MAX: usize = 10_000;
/// How many requests may wait at once for something that is not uploaded or scanned yet.
const WAITING_MAX: usize = 2_000;

/// The media of one agency. Cheap to clone.
#[derive(Clone)]
pub struct Media(Arc<Shared>);

struct Shared {
    records: Records,
    blobs: Blobs,
    server_name: OwnedServerName,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    config: Config,
    remote: OnceLock<Arc<dyn RemoteMedia>>,
    scanner: OnceLock<Arc<dyn Scanner>>,
    outgoing: OnceLock<Outgoing>,
    /// Whose turn it is to change which blobs have files: a blob that comes must not meet the same blob as it goes.
    turns: Vec<tokio::sync::Mutex<()>>,
    hasher: std::hash::RandomState,
    /// How many uploads of each user are under way.
    uploading: Mutex<HashMap<OwnedUserId, usize>>,
    /// How many uploads may be under way.
    uploads: Arc<Semaphore>,
    /// How many thumbnails may be made at once.
    thumbnailing: Arc<Semaphore>,
    /// How many files may be scanned at once.
    scans: Arc<Semaphore>,
    /// How many pages may be fetched at once.
    previews: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    /// Counts what came to be: uploads and verdicts. Whoever waits for one looks again.
    arrivals: watch::Sender<u64>,
    fetching: Flights<Mxc, Result<(), Error>>,
    scanning: Flights<BlobHash, ()>,
    previewing: Flights<BlobHash, Result<String, Error>>,
    making: Flights<(BlobHash, thumbnail::Wish), Result<Thumbnail, Error>>,
    accesses: Cache<Mxc, UnixMillis>,
}

impl Media {
    /// The media that these records name and whose bytes are in `blobs`. Starts the task that removes what has expired
    /// or is left over, which ends with the last clone of this handle; so it must be called within a runtime.
    #[must_use]
    pub fn new(
        records: Records,
        blobs: Blobs,
        server_name: OwnedServerName,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        config: Config,
    ) -> Self {
        let uploads = Arc::new(Semaphore::new(config.uploads_at_once_max.max(1)));
        let thumbnailing = Arc::new(Semaphore::new(config.thumbnails.at_once()));
        let previews = Arc::new(Semaphore::new(config.previews.at_once_max.max(1)));
        let scans = Arc::new(Semaphore::new(config.scan.at_once_max.max(1)));
        let media = Self(Arc::new(Shared {
            records,
            blobs,
            server_name,
            clock,
            random,
            config,
            remote: OnceLock::new(),
            scanner: OnceLock::new(),
            outgoing: OnceLock::new(),
            turns: (0..TURNS).map(|_| tokio::sync::Mutex::new(())).collect(),
            hasher: std::hash::RandomState::new(),
            uploading: Mutex::default(),
            uploads,
            thumbnailing,
            scans,
            previews,
            waiting: Arc::new(Semaphore::new(WAITING_MAX)),
            arrivals: watch::Sender::new(0),
            fetching: Flights::default(),
            scanning: Flights::default(),
            previewing: Flights::default(),
            making: Flights::default(),
            accesses: Cache::new(ACCESSES_MAX),
        }));
        tokio::spawn(retention::run(Arc::downgrade(&media.0)));
        media
    }

    /// Says who asks other servers for their media. Without, there are none. Only the first one counts.
    pub fn set_remote(&self, remote: Arc<dyn RemoteMedia>) {
        let _ = self.0.remote.set(remote);
    }

    /// Says who looks into files for what is bad. Without, nothing is looked into. Only the first one counts.
    pub fn set_scanner(&self, scanner: Arc<dyn Scanner>) {
        let _ = self.0.scanner.set(scanner);
    }

    /// Says how pages are asked for previews of them. Without, there are none. Only the first one counts.
    pub fn set_outgoing(&self, outgoing: Outgoing) {
        let _ = self.0.outgoing.set(outgoing);
    }

    /// The settings.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// The agency's name.
    #[must_use]
    pub fn server_name(&self) -> &ServerName {
        &self.0.server_name
    }

    fn is_local(&self, mxc: &Mxc) -> bool {
        mxc.origin() == self.0.server_name
    }

    fn view(&self) -> View {
        self.0.records.view()
    }

    fn now(&self) -> UnixMillis {
        self.0.clock.now()
    }

    /// Waits until nobody else changes what belongs to this hash or user.
    async fn turn<T: Hash>(&self, whose: &T) -> Option<MutexGuard<'_, ()>> {
        let turns = &self.0.turns;
        let nth = usize::try_from(self.0.hasher.hash_one(whose)).unwrap_or_default() % TURNS;
        match turns.get(nth) {
            Some(turn) => Some(turn.lock().await),
            None => None,
        }
    }

    /// Tells those who wait that something came to be.
    fn arrived(&self) {
        self.0.arrivals.send_modify(|count| *count = count.wrapping_add(1));
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
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::Contended)
    }

    /// What a user has uploaded.
    ///
    /// # Errors
    ///
    /// [`Error::Records`].
    pub fn usage(&self, user: &UserId) -> Result<MediaUsage, Error> {
        Ok(self.view().media_usage(user)?)
    }
}
