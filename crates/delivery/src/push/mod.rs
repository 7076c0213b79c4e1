//! Push notifications (client-server API, "Push Notifications"; Push Gateway API).
//!
//! One task follows the log. For each event it knows who in the room has pushers ([`audience`]), asks their push
//! rules, and hands the event to each pusher's own delivery ([`recipient`]). Those wait for nobody: each is a task
//! as long as it has something to send, and gateways have turns of their own. Nothing is written for a push that
//! succeeds: that the follower has come so far says that all pushers have, but those whose gateways fail, which have
//! a row each that says how far they are. After a crash, what was sent in the last seconds may be sent once more;
//! gateways tell events apart by their ids.

mod audience;
mod badge;
mod config;
mod figures;
mod follow;
mod gateway;
mod notification;
mod recipient;
#[cfg(test)]
mod tests;

pub use config::Config;
pub use figures::Figures;
pub use gateway::{BadUrl, GatewayRules};

use accounts::Accounts;
use badge::Badges;
use base::{Clock, Random};
use gateway::Gateways;
use notification::Described;
use quick_cache::sync::Cache;
use recipient::Recipients;
use records::Records;
use remote::outgoing::Outgoing;
use rooms::Rooms;
use std::sync::Arc;
use sync::Syncs;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Of how many events it is remembered how they are shown.
const DESCRIBED_MAX: usize = 256;

/// What push notifications are made from.
#[derive(Clone)]
pub struct Sources {
    /// What is stored.
    pub records: Records,
    /// The rooms.
    pub rooms: Rooms,
    /// Push rules and counts.
    pub syncs: Syncs,
    /// The pushers.
    pub accounts: Accounts,
    /// The way out.
    pub outgoing: Outgoing,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
}

/// Push notifications of one agency. They end with [`Push::shutdown`], or when this is dropped.
pub struct Push {
    inner: Arc<Inner>,
    follower: JoinHandle<()>,
}

struct Inner {
    pub records: Records,
    pub rooms: Rooms,
    pub syncs: Syncs,
    pub accounts: Accounts,
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Random>,
    pub config: Config,
    pub gateways: Gateways,
    pub recipients: Recipients,
    pub badges: Badges,
    pub described: Cache<base::EventNum, Arc<Described>>,
    pub figures: Arc<Figures>,
    pub ending: watch::Sender<bool>,
}

impl Push {
    /// Begins to push, where the last time ended. Must be called within a runtime.
    #[must_use]
    pub fn start(sources: Sources, config: Config) -> Self {
        let newest = sources.records.newest();
        let (ending, ended) = watch::channel(false);
        let inner = Arc::new(Inner {
            gateways: Gateways::new(sources.outgoing, &config),
            recipients: Recipients::default(),
            badges: Badges::default(),
            described: Cache::new(DESCRIBED_MAX),
            figures: Arc::default(),
            ending,
            records: sources.records,
            rooms: sources.rooms,
            syncs: sources.syncs,
            accounts: sources.accounts,
            clock: sources.clock,
            random: sources.random,
            config,
        });
        let follower = tokio::spawn(follow::follow(Arc::downgrade(&inner), newest, ended));
        Self { inner, follower }
    }

    /// What is counted.
    #[must_use]
    pub fn figures(&self) -> Arc<Figures> {
        self.inner.figures.clone()
    }

    /// Makes all that is under way end, and writes down how far it has come.
    pub fn shutdown(&self) {
        self.inner.ending.send_replace(true);
    }

    /// Does [`Push::shutdown`] once something else has ended.
    pub fn shutdown_after(&self, other: impl Future<Output = ()> + Send + 'static) {
        let inner = Arc::downgrade(&self.inner);
        tokio::spawn(async move {
            other.await;
            if let Some(inner) = inner.upgrade() {
                inner.ending.send_replace(true);
            }
        });
    }

    /// Waits until the following of the log has ended, after [`Push::shutdown`].
    pub async fn ended(self) {
        // What it writes down at last needs the rest of this.
        let Self { inner, follower } = self;
        if let Err(error) = follower.await {
            tracing::error!(%error, "push notifications have not ended well");
        }
        drop(inner);
    }
}
