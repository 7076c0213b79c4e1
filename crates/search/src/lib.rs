//! Full-text search in the messages, names and topics of rooms.
//!
//! The index is a follower of the log: it is derived from the rooms, kept in a folder of its own, and made anew when
//! it is lost. It never decides who may see what: it answers which events have certain words, and whoever asks looks
//! at each of them in its room before showing it. Rooms that are encrypted are not in it.

mod error;
mod follow;
mod gather;
mod index;
mod query;
mod scope;
mod terms;
#[cfg(test)]
mod tests;
mod text;
mod words;

pub use error::SearchError;
pub use query::{Group, Hit, Hits, Ordering, Place, Request, Wanted};
pub use scope::Scope;
pub use terms::Terms;
pub use text::{Key, Text, edited_text, text_of};

use arc_swap::ArcSwapOption;
use base::config::ByteSize;
use base::{Clock, Stamp};
use index::Opened;
use records::Records;
use rooms::Rooms;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// What the follower is called.
const NAME: &str = "search";
/// How many search at the same time in one agency; more wait for their turn.
const SEARCHES_AT_ONCE: usize = 2;
/// How long a search waits for its turn.
const TURN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a search waits for what has just been said to be in the index. Then it finds what there is.
const FRESH_TIMEOUT: Duration = Duration::from_secs(3);
/// The least memory of a writer.
const WRITER_MEMORY_MIN: ByteSize = ByteSize::mib(16);

base::config! {
    /// Full-text search in messages, and the index for it in the folder `search` of the data folder, which can be
    /// deleted while the server is stopped: it is made anew.
    #[check = Config::check]
    pub struct Config {
        /// Whether there is search. Off, no index is kept.
        pub enabled: bool = true,
        /// How long what happens is gathered before it is written into the index. A search doesn't wait for that.
        pub commit_interval: Duration = Duration::from_secs(5),
        /// What the index gathers in memory while something is written into it. At most two agencies of a process
        /// write at the same time.
        pub writer_memory: ByteSize = ByteSize::mib(16),
    }
}

impl Config {
    fn check(&self, wrong: &mut base::config::Checks<'_, '_>) {
        if self.writer_memory < WRITER_MEMORY_MIN || self.writer_memory > ByteSize::mib(1024) {
            wrong.key("writer_memory", "must be at least \"16 MiB\" and at most \"1 GiB\"");
        }
    }
}

/// The right to write into an index, which the agencies of a process share: each writer takes memory.
#[derive(Clone, Debug)]
pub struct Writers(Arc<Semaphore>);

impl Writers {
    /// So many write at the same time.
    #[must_use]
    pub fn new(at_once: usize) -> Self {
        Self(Arc::new(Semaphore::new(at_once)))
    }
}

impl Default for Writers {
    fn default() -> Self {
        Self::new(2)
    }
}

/// How far the index is.
#[derive(Clone, Copy, Debug, Default)]
struct Standing {
    /// Everything up to here is in it, unless it is being made.
    up_to: Stamp,
    is_building: bool,
    /// Whether there is one that can be asked.
    is_open: bool,
}

/// Search in the rooms of one agency. Cheap to clone.
#[derive(Clone)]
pub struct Search(Arc<Inner>);

struct Inner {
    records: Records,
    rooms: Rooms,
    clock: Arc<dyn Clock>,
    config: Config,
    place: index::Place,
    writers: Writers,
    opened: ArcSwapOption<Opened>,
    standing: watch::Sender<Standing>,
    asked: Arc<Notify>,
    turns: Semaphore,
    /// A search has failed in the index: it may be damaged.
    suspect: AtomicBool,
    ending: watch::Sender<bool>,
    follower: Mutex<Option<JoinHandle<()>>>,
}

impl Search {
    /// Search over these rooms, with an index in this folder; in memory without one, for tests. Starts the task that
    /// follows the log, which ends with the last clone of this handle or with [`Search::shutdown`]; so it must be
    /// called within a runtime.
    #[must_use]
    pub fn new(
        records: Records,
        rooms: Rooms,
        clock: Arc<dyn Clock>,
        folder: Option<PathBuf>,
        writers: Writers,
        config: Config,
    ) -> Self {
        let place = folder.map_or(index::Place::Memory, index::Place::Folder);
        let (newest, asked) = (records.newest(), Arc::new(Notify::new()));
        let (ending, ended) = watch::channel(false);
        let inner = Arc::new(Inner {
            records,
            rooms,
            clock,
            place,
            writers: writers.clone(),
            opened: ArcSwapOption::empty(),
            standing: watch::Sender::new(Standing { up_to: Stamp(0), is_building: true, is_open: false }),
            asked: asked.clone(),
            turns: Semaphore::new(SEARCHES_AT_ONCE),
            suspect: AtomicBool::new(false),
            ending,
            follower: Mutex::new(None),
            config,
        });
        let weak = Arc::downgrade(&inner);
        let follower = if inner.config.enabled {
            tokio::spawn(follow::follow(weak, newest, ended, asked, writers))
        } else {
            tokio::spawn(follow::forget(weak))
        };
        *inner.follower.lock().unwrap_or_else(PoisonError::into_inner) = Some(follower);
        Self(inner)
    }

    /// Whether there is search.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.0.config.enabled
    }

    /// Ends the task that follows the log.
    pub fn shutdown(&self) {
        self.0.ending.send_replace(true);
    }

    /// Ends the task that follows the log, and waits until it has let go of the index.
    pub async fn close(self) {
        self.shutdown();
        let follower = self.0.follower.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(follower) = follower {
            let _ended = follower.await;
        }
    }

    /// Waits until what has happened up to now is in the index; not for long, and not while it is being made.
    pub async fn catch_up(&self) {
        let wanted = self.0.records.view().stamp();
        let is_fresh = |standing: &Standing| standing.is_open && (standing.is_building || standing.up_to >= wanted);
        let mut standing = self.0.standing.subscribe();
        if is_fresh(&standing.borrow_and_update()) {
            return;
        }
        self.0.asked.notify_one();
        let _late = timeout(FRESH_TIMEOUT, standing.wait_for(is_fresh)).await;
    }

    /// Waits until the index is made, for tests and benchmarks.
    pub async fn made(&self) {
        self.0.asked.notify_one();
        let mut standing = self.0.standing.subscribe();
        let _ended = standing.wait_for(|standing| !standing.is_building).await;
    }

    /// Asks the index, on a thread of its own.
    pub async fn hits(&self, request: Request) -> Result<Hits, SearchError> {
        if !self.is_on() {
            return Err(SearchError::Off);
        }
        let turn = timeout(TURN_TIMEOUT, self.0.turns.acquire()).await;
        let Ok(Ok(_turn)) = turn else { return Err(SearchError::Overloaded) };
        let opened = self.0.opened.load_full().ok_or(SearchError::NotReady)?;
        let asked = tokio::task::spawn_blocking(move || query::ask(&opened, &request).map(|hits| (hits, request)));
        let answered = asked.await.map_err(SearchError::from).and_then(|answer| Ok(answer?));
        if answered.is_err() {
            self.0.suspect.store(true, std::sync::atomic::Ordering::Relaxed);
        }
        let (hits, request) = answered?;
        request.scope.check()?;
        Ok(hits)
    }
}
