//! What is to be told to one server.

use super::Item;
use crate::{Federation, PeerError};
use base::{Stamp, UnixMillis};
use delivery_core::{Backoff, Delivery, Jitter, Limits, Next, Outcome};
use records::DestinationRecord;
use ruma::OwnedServerName;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The most events of a transaction, and with [`BATCH_WEIGHT_MAX`] of everything else (server-server API,
/// "Transactions": at most 50 events and 100 others).
const BATCH_ITEMS_MAX: usize = 50;
/// The most that a transaction has of everything, as [`Item::weight`] weighs it.
pub(super) const BATCH_WEIGHT_MAX: usize = 60;
/// How many things wait in memory for one server; what is beyond is read again.
const QUEUE_MAX: usize = 200;
/// How long a server that fails is left alone, at first and at most.
const BACKOFF: Backoff = Backoff { first: Duration::from_secs(5), max: Duration::from_hours(1) };
/// How many things wait that are of use only now.
const VOLATILE_MAX: usize = 30;

const LIMITS: Limits =
    Limits { batch_items_max: BATCH_ITEMS_MAX, batch_weight_max: BATCH_WEIGHT_MAX, queue_items_max: QUEUE_MAX };

/// What is of use only now: the newest of each kind, room and user, as an EDU.
pub(super) type Volatile = BTreeMap<String, Box<RawValue>>;

pub(crate) struct Destination {
    pub server: OwnedServerName,
    queue: Mutex<Delivery<Item>>,
    volatile: Mutex<Volatile>,
    /// A task is at it.
    driven: AtomicBool,
    /// What its row says, if it has one.
    pub row: Mutex<Option<DestinationRecord>>,
}

impl Destination {
    /// A server that has everything up to a stamp.
    pub fn new(server: OwnedServerName, done: Stamp) -> Self {
        Self::with(server, Delivery::new(LIMITS, BACKOFF, done), None)
    }

    /// A server that has everything up to what its row says.
    pub fn resumed(server: OwnedServerName, row: DestinationRecord) -> Self {
        Self::with(server, Delivery::resume(LIMITS, BACKOFF, row.done), Some(row))
    }

    fn with(server: OwnedServerName, queue: Delivery<Item>, row: Option<DestinationRecord>) -> Self {
        Self {
            server,
            queue: Mutex::new(queue),
            volatile: Mutex::default(),
            driven: AtomicBool::new(false),
            row: Mutex::new(row),
        }
    }

    pub fn queue(&self) -> MutexGuard<'_, Delivery<Item>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what is of use only now, in place of what it outdates. Nothing for a server that does not answer.
    pub fn add_volatile(&self, key: String, edu: Box<RawValue>) {
        if self.is_failing() {
            return;
        }
        let mut volatile = self.volatile.lock().unwrap_or_else(PoisonError::into_inner);
        if volatile.len() < VOLATILE_MAX || volatile.contains_key(&key) {
            volatile.insert(key, edu);
        }
    }

    fn take_volatile(&self) -> Volatile {
        std::mem::take(&mut *self.volatile.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn is_failing(&self) -> bool {
        self.queue().failures() > 0
    }

    pub fn is_idle(&self) -> bool {
        let volatile = self.volatile.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
        volatile && self.queue().is_idle() && !self.driven.load(Ordering::SeqCst)
    }

    pub fn reset(&self) {
        self.queue().reset();
    }

    /// The row that it should have.
    pub fn record(&self) -> Option<DestinationRecord> {
        let queue = self.queue();
        (!queue.is_idle()).then(|| DestinationRecord {
            done: queue.done(),
            failing_since: queue.failing_since(),
            retry_at: queue.retry_at().unwrap_or(UnixMillis(0)),
        })
    }
}

impl Federation {
    /// Sends what waits for a server, unless a task is at it already.
    pub(crate) fn drive(&self, destination: &Arc<Destination>) {
        if destination.driven.swap(true, Ordering::SeqCst) {
            return;
        }
        let (federation, destination) = (self.clone(), destination.clone());
        tokio::spawn(async move {
            let again = federation.drive_until_done(&destination).await;
            destination.driven.store(false, Ordering::SeqCst);
            // Something may have come after the last look.
            let more = again && matches!(destination.queue().next_kind(federation.0.clock.now()), Kind::Work);
            if more || again && !destination.volatile.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
                federation.drive(&destination);
            }
        });
    }

    /// Answers whether it stopped because there was nothing more to do.
    async fn drive_until_done(&self, destination: &Destination) -> bool {
        loop {
            let next = destination.queue().next(self.0.clock.now());
            match next {
                Next::Send => {
                    let Ok(_permit) = self.0.outbox.permits.acquire().await else { return false };
                    let batch: Vec<(Stamp, Item)> =
                        destination.queue().batch().map(|(stamp, item)| (stamp, item.clone())).collect();
                    let outcome = self.transact(&destination.server, &batch, destination.take_volatile()).await;
                    let now = self.0.clock.now();
                    let outcome = match outcome {
                        Ok(()) => Outcome::Accepted,
                        Err(error) => self.outcome_of(destination, &error),
                    };
                    if outcome == Outcome::Accepted
                        && let Err(error) = self.clear_messages(&destination.server, &batch).await
                    {
                        tracing::warn!(server = %destination.server, %error, "messages that were sent are still there");
                    }
                    destination.queue().finish(outcome, now);
                }
                Next::CatchUp(after) => {
                    if let Err(error) = self.catch_up(destination, after) {
                        tracing::error!(server = %destination.server, %error, "what a server missed can't be read");
                        let until = self.0.clock.now().after(BACKOFF.first);
                        self.0.outbox.wait(&destination.server, until);
                        return false;
                    }
                }
                Next::Wait(until) => {
                    self.0.outbox.wait(&destination.server, until);
                    return false;
                }
                Next::Sending => return false,
                Next::Idle => {
                    let volatile = destination.take_volatile();
                    if volatile.is_empty() {
                        return true;
                    }
                    let Ok(_permit) = self.0.outbox.permits.acquire().await else { return false };
                    if let Err(error) = self.transact(&destination.server, &[], volatile).await {
                        tracing::debug!(server = %destination.server, %error, "a server is not told what is of now");
                    }
                }
            }
        }
    }

    fn outcome_of(&self, destination: &Destination, error: &PeerError) -> Outcome {
        let since = destination.queue().failing_since();
        match error {
            // The same transaction would be refused again and again: it is given up, for what comes after it.
            PeerError::Refused { status: 400 | 413 | 422, .. } => {
                tracing::warn!(server = %destination.server, %error, "a server does not take a transaction");
                Outcome::Refused
            }
            error => {
                if since.is_none() {
                    tracing::info!(server = %destination.server, %error, "a server can't be told anything at the moment");
                }
                let retry_after = match error {
                    PeerError::Refused { retry_after, .. } => *retry_after,
                    _ => None,
                };
                let mut bytes = [0; 2];
                self.0.random.fill(&mut bytes);
                Outcome::Failed { retry_after, jitter: Jitter(u16::from_le_bytes(bytes)) }
            }
        }
    }
}

/// Whether there is something to do now.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Work,
    Nothing,
}

/// A look at what is next that begins nothing.
trait Look {
    fn next_kind(&self, now: UnixMillis) -> Kind;
}

impl Look for Delivery<Item> {
    fn next_kind(&self, now: UnixMillis) -> Kind {
        let waits = self.retry_at().is_some_and(|at| at > now);
        if self.is_idle() || waits { Kind::Nothing } else { Kind::Work }
    }
}
