//! What is counted.

use std::sync::atomic::{AtomicU64, Ordering};

/// What became of pushes. Only what a gateway has accepted counts as delivered.
#[derive(Debug, Default)]
pub struct Figures {
    /// Requests that a gateway has accepted.
    pub delivered: AtomicU64,
    /// Requests that failed, and are tried again.
    pub failed: AtomicU64,
    /// Pushers that were removed because their gateway knows nothing of them.
    pub rejected: AtomicU64,
    /// Events that nobody was told of any more, because they were read, redacted or too old when their turn came.
    pub dropped: AtomicU64,
    /// Pushers that have something to send now, failing ones among them.
    pub busy: AtomicU64,
    /// Pushers whose gateways fail now, as of the last look.
    pub failing: AtomicU64,
}

impl Figures {
    pub(super) fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}
