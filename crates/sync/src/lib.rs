//! The waiting side of sync: who waits for what, and what they are answered.
//!
//! A sync looks at one view of the store, finds the rooms in which something happened after the client's token,
//! and puts together what the client is told of them. If that is nothing, it lets go of the view and waits until
//! something concerns its user. One task reads the log and knows, for each user who has synced lately, which
//! rooms they are in; nothing is written or computed for anybody else.
//!
//! What is here neither knows HTTP nor decides anything about rooms: windows, tokens and filters are in
//! `sync_core`, visibility in `rules`.

mod active;
mod assemble;
mod changed;
mod counts;
mod device_lists;
mod error;
mod events;
mod follow;
mod json;
mod notifications;
mod presence;
mod push_rules;
mod receipts;
mod same;
mod sliding;
#[cfg(test)]
mod tests;
mod thread_subscriptions;
mod to_device;
mod typing;
mod volatile;
mod wait;

pub use counts::{Counts, Judge, RoomCounts};
pub use device_lists::DeviceLists;
pub use error::SyncError;
pub use events::EventsRequest;
pub use notifications::{Missed, NOTIFICATIONS_MAX, Notification, Notifications, Wanted};
pub use presence::{Presence, PresenceState, Present};
pub use receipts::Marks;
pub use sliding::{SlidingForm, SlidingRequest, ToDeviceRequest};
pub use sync_core::{PageToken, SyncToken, TokenError};
pub use thread_subscriptions::{SubscribeError, SubscriptionsPage, THREAD_SUBSCRIPTIONS_MAX};

use active::ActiveUsers;
use base::config::ByteSize;
use base::{Clock, Stamp};
use changed::LOG_READ_MAX;
use counts::Counted;
use presence::Presences;
use quick_cache::sync::Cache;
use records::Records;
use rooms::Rooms;
use rules::push::Predefined;
use ruma::{OwnedDeviceId, OwnedUserId};
use same::SameSyncs;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use sync_core::SentMembers;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, broadcast, watch};
use typing::Typing;
use volatile::Volatile;

base::config! {
    /// Sync: how long clients may wait, and how much is done at once.
    pub struct Config {
        /// The longest time that a sync waits for something to happen. Clients mostly ask for 30 seconds.
        pub timeout_max: Duration = Duration::from_mins(5),
        /// How many syncs that look at all rooms of their user are put together at the same time: initial ones,
        /// and those of clients that were away for long. More wait for their turn.
        pub initial_syncs_max: usize = 8,
        /// How much memory is kept for what users have not read of their rooms, so that it need not be counted
        /// anew with each sync.
        pub counts_memory: ByteSize = ByteSize::mib(64),
        /// Whether messages mention users whose names are in their text, as it was before version 1.17 of the
        /// specification. Off, only those are mentioned whom the client of the sender says it to be.
        pub text_mentions: bool = false,
        /// Whether what is said in threads notifies those who have subscribed to them, and only those (MSC4306). Off,
        /// threads notify as the rest of a room does. Users of clients that don't know subscriptions would hear
        /// nothing of threads any more unless they are mentioned.
        pub thread_subscriptions: bool = false,
        /// Whether users see who is there. Off, everybody is offline, whatever they say.
        pub presence: bool = true,
        /// The largest room, by its joined members, whose members see each other's presence because of it.
        /// With more, each change of one would be told to too many.
        pub presence_members_max: usize = 500,
        /// Of how many lazy-loading devices it is remembered which members they were sent, 4 KiB each at most.
        pub lazy_devices_max: usize = 20_000,
        /// How many connections of sliding sync are kept in memory, with the order of the user's rooms in their
        /// lists: 100 bytes a room and list. Those beyond are read again when their clients come back.
        pub sliding_connections_max: usize = 20_000,
    }
}

impl Config {
    /// Which push rules users have who have changed none.
    #[must_use]
    pub fn predefined_push_rules(&self) -> Predefined {
        Predefined { text_mentions: self.text_mentions, threads: self.thread_subscriptions }
    }
}

/// How many changes of presence wait for those who tell of them elsewhere.
const PRESENCE_CHANGES_MAX: usize = 1_024;

/// What a client asks of a sync.
#[derive(Clone, Debug)]
pub struct SyncRequest {
    /// The user.
    pub user_id: OwnedUserId,
    /// The device that syncs.
    pub device_id: OwnedDeviceId,
    /// What the client has seen. A token that is ahead of this server (because its data was restored from a
    /// backup) counts as none: the client is told everything again.
    pub since: Option<SyncToken>,
    /// What the client wants to see.
    pub filter: Option<FilterChoice>,
    /// Whether to tell all of the state of all rooms.
    pub full_state: bool,
    /// Which state to tell.
    pub state: StateChoice,
    /// How long to wait for something to tell; bounded by [`Config::timeout_max`].
    pub timeout: Duration,
}

/// Which state comes with a timeline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum StateChoice {
    /// That before the timeline, which the events of the timeline change.
    #[default]
    Before,
    /// That after the timeline (`use_state_after`).
    After,
    /// That after the timeline, with its name from before it was in the specification (MSC4222).
    AfterUnstable,
}

impl StateChoice {
    /// What the section is called.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Before => "state",
            Self::After => "state_after",
            Self::AfterUnstable => "org.matrix.msc4222.state_after",
        }
    }

    pub(crate) fn is_after(self) -> bool {
        self != Self::Before
    }
}

/// A filter as the client names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum FilterChoice {
    /// One that the user has stored.
    Stored(Box<str>),
    /// Its JSON.
    Inline(Box<str>),
}

impl FilterChoice {
    /// The filter that the `filter` parameter of an endpoint means: JSON if it starts with a brace.
    #[must_use]
    pub fn of_parameter(filter: &str) -> Self {
        if filter.starts_with('{') { Self::Inline(filter.into()) } else { Self::Stored(filter.into()) }
    }
}

/// Sync for the users of one agency. Cheap to clone.
#[derive(Clone)]
pub struct Syncs(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub records: Records,
    pub rooms: Rooms,
    pub clock: Arc<dyn Clock>,
    pub config: Config,
    pub active: ActiveUsers,
    /// Counts what is only in memory: typing and presence.
    pub volatile: Arc<Volatile>,
    pub typing: Typing,
    /// The connections of sliding sync that are in use.
    pub sliding: sliding::Connections,
    pub presence: Presences,
    /// Tells others of users whose presence has changed.
    pub presence_changed: broadcast::Sender<OwnedUserId>,
    /// Tells the task that follows the log that somebody types, or that their presence changed.
    pub typed: Arc<Notify>,
    pub sent: Cache<(OwnedUserId, OwnedDeviceId), Arc<Mutex<SentMembers>>>,
    pub counted: Counted,
    /// Held by those who look at all rooms of a user.
    pub long: Arc<Semaphore>,
    pub waiting: AtomicUsize,
    /// The syncs that run, those that ask the same together.
    pub same: SameSyncs,
    /// How many responses were put together.
    pub assembled: AtomicUsize,
    pub ending: watch::Sender<bool>,
    /// How much of the log is read to find what happened. Beyond, all rooms of the user are looked at.
    pub log_read_max: usize,
    /// Up to which stamp the log is known to be trimmed.
    pub log_trimmed: AtomicU64,
}

impl Syncs {
    /// Sync over these records and rooms. Starts the task that follows the log, which ends with the last clone
    /// of this handle or with [`Syncs::shutdown`]; so it must be called within a runtime.
    #[must_use]
    pub fn new(records: Records, rooms: Rooms, clock: Arc<dyn Clock>, config: Config) -> Self {
        Self::with_log_read_max(records, rooms, clock, config, LOG_READ_MAX)
    }

    pub(crate) fn with_log_read_max(
        records: Records,
        rooms: Rooms,
        clock: Arc<dyn Clock>,
        config: Config,
        log_read_max: usize,
    ) -> Self {
        let newest = records.newest();
        let (ending, ended) = watch::channel(false);
        let typed = Arc::new(Notify::new());
        // Counting on from the time keeps tokens from before a restart behind those from after it.
        let volatile = Volatile::new(clock.now().0);
        let inner = Arc::new(Inner {
            active: ActiveUsers::new(records.view().stamp(), volatile.clone()),
            typing: Typing::new(volatile.clone()),
            volatile,
            presence: Presences::default(),
            presence_changed: broadcast::channel(PRESENCE_CHANGES_MAX).0,
            typed: typed.clone(),
            sliding: sliding::Connections::new(config.sliding_connections_max),
            sent: Cache::new(config.lazy_devices_max.max(1)),
            counted: Counted::new(config.counts_memory.bytes(), config.predefined_push_rules()),
            long: Arc::new(Semaphore::new(config.initial_syncs_max.max(1))),
            waiting: AtomicUsize::new(0),
            same: SameSyncs::default(),
            assembled: AtomicUsize::new(0),
            records,
            rooms,
            clock,
            config,
            ending,
            log_read_max,
            log_trimmed: AtomicU64::new(0),
        });
        tokio::spawn(follow::follow(Arc::downgrade(&inner), newest, ended, typed));
        Self(inner)
    }

    /// The settings.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// The users whose presence changes, for those who tell of it elsewhere. Who listens too slowly misses some.
    #[must_use]
    pub fn presence_changes(&self) -> broadcast::Receiver<OwnedUserId> {
        self.0.presence_changed.subscribe()
    }

    /// Makes all waiting syncs answer at once, and those to come not wait.
    pub fn shutdown(&self) {
        self.0.ending.send_replace(true);
    }

    /// How many syncs are waiting now.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.0.waiting.load(Ordering::Relaxed)
    }

    /// How many responses were put together so far, empty ones included. What answers several requests that ask
    /// the same at the same time counts once.
    #[must_use]
    pub fn assembled(&self) -> usize {
        self.0.assembled.load(Ordering::Relaxed)
    }

    /// How many users have synced lately, so that what happens in their rooms is followed for them.
    #[must_use]
    pub fn active_users(&self) -> usize {
        self.0.active.len()
    }

    /// Waits for a turn to look at all rooms of a user, which few do at the same time. It is over when what is
    /// answered is dropped.
    ///
    /// # Errors
    ///
    /// [`SyncError::Internal`].
    pub async fn turn(&self) -> Result<OwnedSemaphorePermit, SyncError> {
        self.0.long.clone().acquire_owned().await.map_err(SyncError::internal)
    }

    /// The token that stands for now.
    #[must_use]
    pub fn token(&self) -> SyncToken {
        SyncToken::new(self.0.records.view().stamp(), self.0.volatile_count())
    }
}

impl Inner {
    /// The count that stands for all that is volatile, as it is now.
    pub fn volatile_count(&self) -> u64 {
        // While presence is told, some of those whom it concerns know of it and others don't yet.
        let _telling = self.presence.users();
        self.volatile.count()
    }

    /// A token as this server can use it: none if it is ahead of what is stored here, and nothing volatile seen
    /// if it is ahead of what is in memory.
    pub fn usable(&self, since: Option<SyncToken>, newest: Stamp) -> Option<SyncToken> {
        let since = since.filter(|since| since.stamp <= newest)?;
        let volatile = if since.volatile > self.volatile.count() { 0 } else { since.volatile };
        Some(SyncToken { volatile, ..since })
    }
}
