//! The state machine.

use crate::{Backoff, Jitter};
use base::{Stamp, UnixMillis};
use std::collections::VecDeque;
use std::time::Duration;

/// How much is sent at once, and how much is held in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most items of a batch.
    pub batch_items_max: usize,
    /// The most weight of a batch; an item that weighs more is sent alone.
    pub batch_weight_max: usize,
    /// The most items that wait in memory.
    pub queue_items_max: usize,
}

/// What became of an item that was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offered {
    /// It waits for its turn.
    Queued,
    /// There is no place for it, or not everything before it is in memory: it will be asked for with
    /// [`Next::CatchUp`].
    Later,
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// A batch begins: send [`Delivery::batch`], and say with [`Delivery::finish`] what became of it.
    Send,
    /// A batch is being sent.
    Sending,
    /// Nothing until then: the peer failed.
    Wait(UnixMillis),
    /// What comes after this stamp is not in memory: read it, and give it with [`Delivery::caught_up`].
    CatchUp(Stamp),
    /// There is nothing to do.
    Idle,
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The peer has it.
    Accepted,
    /// The peer never will have it: it goes on with what comes after.
    Refused,
    /// It has to be sent again.
    Failed {
        /// How long the peer asks to be left alone.
        retry_after: Option<Duration>,
        /// Where in the range of possible times the retry falls.
        jitter: Jitter,
    },
}

#[derive(Clone, Debug)]
struct Queued<T> {
    stamp: Stamp,
    weight: usize,
    item: T,
}

/// The delivery to one peer.
///
/// Items are offered in the order of their stamps; several may share one. Each is sent until the peer has it, and
/// none before those that were offered earlier. [`Delivery::done`] is what to write down: whoever begins there again
/// misses nothing, and may send some items twice.
#[derive(Clone, Debug)]
pub struct Delivery<T> {
    limits: Limits,
    backoff: Backoff,
    queue: VecDeque<Queued<T>>,
    /// How many items at the head of the queue are being sent.
    sending: usize,
    /// Everything up to here was sent or is in the queue; what follows is not in memory. `None`: all that was
    /// offered is.
    behind: Option<Stamp>,
    /// All up to here was offered.
    passed: Stamp,
    failures: u32,
    failing_since: Option<UnixMillis>,
    retry_at: Option<UnixMillis>,
}

impl<T> Delivery<T> {
    /// A delivery that has done everything up to a stamp, and to which everything after it will be offered.
    #[must_use]
    pub fn new(limits: Limits, backoff: Backoff, done: Stamp) -> Self {
        Self {
            limits,
            backoff,
            queue: VecDeque::new(),
            sending: 0,
            behind: None,
            passed: done,
            failures: 0,
            failing_since: None,
            retry_at: None,
        }
    }

    /// A delivery that has done everything up to a stamp, and begins by asking for what came after it.
    #[must_use]
    pub fn resume(limits: Limits, backoff: Backoff, done: Stamp) -> Self {
        Self { behind: Some(done), ..Self::new(limits, backoff, done) }
    }

    /// Offers an item. Its stamp is not before that of any item offered earlier.
    pub fn offer(&mut self, stamp: Stamp, weight: usize, item: T) -> Offered {
        let before = self.passed;
        self.passed = self.passed.max(stamp);
        if self.behind.is_some() {
            return Offered::Later;
        }
        if self.queue.len() >= self.limits.queue_items_max.max(1) {
            // Of a stamp of which a part is in the queue, all has to be read again.
            let part = self.queue.back().is_some_and(|last| last.stamp == stamp);
            self.behind = Some(if part { self.unqueue(stamp) } else { before.min(previous(stamp)) });
            return Offered::Later;
        }
        self.queue.push_back(Queued { stamp, weight, item });
        Offered::Queued
    }

    /// Takes the items of a stamp out of the queue again, but those that are being sent. Where the queue ends then.
    fn unqueue(&mut self, stamp: Stamp) -> Stamp {
        while self.queue.len() > self.sending && self.queue.back().is_some_and(|last| last.stamp == stamp) {
            self.queue.pop_back();
        }
        previous(stamp)
    }

    /// Nothing but what was offered is for the peer up to this stamp.
    pub fn pass(&mut self, up_to: Stamp) {
        self.passed = self.passed.max(up_to);
    }

    /// What is to be done now. After [`Next::Send`] the batch counts as being sent.
    pub fn next(&mut self, now: UnixMillis) -> Next {
        if self.sending > 0 {
            return Next::Sending;
        }
        if let Some(retry_at) = self.retry_at.filter(|retry_at| *retry_at > now)
            && !self.is_idle()
        {
            return Next::Wait(retry_at);
        }
        if self.queue.is_empty() {
            return self.behind.map_or(Next::Idle, Next::CatchUp);
        }
        let mut weight = 0_usize;
        for queued in self.queue.iter().take(self.limits.batch_items_max.max(1)) {
            weight = weight.saturating_add(queued.weight);
            if self.sending > 0 && weight > self.limits.batch_weight_max {
                break;
            }
            self.sending += 1;
        }
        Next::Send
    }

    /// The batch that is being sent, in order.
    pub fn batch(&self) -> impl Iterator<Item = (Stamp, &T)> {
        self.queue.iter().take(self.sending).map(|queued| (queued.stamp, &queued.item))
    }

    /// Says what became of the batch. Answers whether the peer was failing until now.
    pub fn finish(&mut self, outcome: Outcome, now: UnixMillis) -> bool {
        let failing = self.failures > 0;
        match outcome {
            Outcome::Accepted | Outcome::Refused => {
                self.queue.drain(..self.sending);
                self.reset();
            }
            Outcome::Failed { retry_after, jitter } => {
                self.failures = self.failures.saturating_add(1);
                self.failing_since = self.failing_since.or(Some(now));
                let asked = retry_after.unwrap_or_default().min(self.backoff.max);
                self.retry_at = Some(now.after(self.backoff.delay(self.failures, jitter).max(asked)));
            }
        }
        self.sending = 0;
        failing
    }

    /// The peer was heard from: there is nothing to wait for any more.
    pub fn reset(&mut self) {
        self.failures = 0;
        self.failing_since = None;
        self.retry_at = None;
    }

    /// Gives what [`Next::CatchUp`] asked for: what comes after its stamp up to another one, in order; with as many
    /// items as there is place for, whatever [`Limits::queue_items_max`] says.
    pub fn caught_up(&mut self, items: impl IntoIterator<Item = (Stamp, usize, T)>, up_to: Stamp) {
        self.queue.extend(items.into_iter().map(|(stamp, weight, item)| Queued { stamp, weight, item }));
        self.behind = (up_to < self.passed).then_some(up_to);
        self.passed = self.passed.max(up_to);
    }

    /// Forgets what waits, but what is being sent; it will be asked for again.
    pub fn forget(&mut self) {
        if let Some(first) = self.queue.get(self.sending) {
            self.behind = Some(previous(first.stamp));
            self.queue.truncate(self.sending);
        }
    }

    /// Takes those of the waiting items out that need not be sent any more; what is being sent stays.
    pub fn retain(&mut self, mut keep: impl FnMut(Stamp, &T) -> bool) {
        let sending = self.sending;
        let mut at = 0;
        self.queue.retain(|queued| {
            at += 1;
            at <= sending || keep(queued.stamp, &queued.item)
        });
    }

    /// Up to where the peer has everything that is for it.
    #[must_use]
    pub fn done(&self) -> Stamp {
        let behind = self.behind.unwrap_or(self.passed);
        self.queue.front().map_or(behind, |first| previous(first.stamp).min(behind))
    }

    /// Whether the peer has everything that was offered.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.behind.is_none()
    }

    /// How many items wait in memory, those that are being sent among them.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Since when the peer fails; `None` if its last answer was good.
    #[must_use]
    pub fn failing_since(&self) -> Option<UnixMillis> {
        self.failing_since
    }

    /// How often in a row the peer failed.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// When the next try is due, if the peer failed.
    #[must_use]
    pub fn retry_at(&self) -> Option<UnixMillis> {
        self.retry_at
    }
}

fn previous(stamp: Stamp) -> Stamp {
    Stamp(stamp.0.saturating_sub(1))
}
