//! The batches that wait for the commit thread.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use store::{Batch, CommitError, Stamps};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// The most that waits and is being written, in units. Writers beyond it wait in turn.
const QUEUE_UNITS_MAX: usize = 4096;
/// The bytes of a batch that take a unit. With the number of units, 64 MiB or 4,096 batches may wait.
const UNIT_BYTES: usize = 16 * 1024;
/// The most batches that are written at once.
const GROUP_BATCHES_MAX: usize = 1024;
/// The bytes at which a group is full.
const GROUP_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A batch that waits, and whom to tell.
pub(crate) struct Request {
    pub(crate) batch: Batch,
    pub(crate) bytes: usize,
    pub(crate) queued: Instant,
    pub(crate) answer: oneshot::Sender<Result<Stamps, CommitError>>,
    /// Frees its place when the request has been answered.
    pub(crate) _place: OwnedSemaphorePermit,
}

/// The engine was closed.
#[derive(Debug, thiserror::Error)]
#[error("the store was closed")]
struct Closed;

#[derive(Default)]
struct Waiting {
    requests: VecDeque<Request>,
    closed: bool,
}

/// A bounded queue with many asynchronous writers and one reading thread.
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    filled: Condvar,
    places: Arc<Semaphore>,
}

impl Queue {
    pub(crate) fn new() -> Self {
        Self { waiting: Mutex::default(), filled: Condvar::new(), places: Arc::new(Semaphore::new(QUEUE_UNITS_MAX)) }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a place, then for the answer. Once it has its place, the batch is committed even if the
    /// caller stops waiting.
    pub(crate) async fn commit(&self, batch: Batch) -> Result<Stamps, CommitError> {
        let closed = || CommitError::Engine(Arc::new(Closed));
        let bytes = batch.bytes();
        let units = bytes.div_ceil(UNIT_BYTES).clamp(1, QUEUE_UNITS_MAX);
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        let place = self.places.clone().acquire_many_owned(units).await.map_err(|_| closed())?;
        let (answer, answered) = oneshot::channel();
        {
            let mut waiting = self.lock();
            if waiting.closed {
                return Err(closed());
            }
            waiting.requests.push_back(Request { batch, bytes, queued: Instant::now(), answer, _place: place });
        }
        self.filled.notify_one();
        // No answer: the thread ended in a panic, and may have written the batch before.
        answered.await.unwrap_or(Err(CommitError::Unknown))
    }

    /// The next batches to write, once there are any. `None`: the queue was closed and is empty.
    pub(crate) fn take_group(&self) -> Option<Vec<Request>> {
        let mut waiting = self.lock();
        loop {
            if !waiting.requests.is_empty() {
                let count = group_len(&waiting.requests);
                return Some(waiting.requests.drain(..count).collect());
            }
            if waiting.closed {
                return None;
            }
            waiting = self.filled.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes no more batches. Those that wait are still handed out.
    pub(crate) fn close(&self) {
        self.places.close();
        self.lock().closed = true;
        self.filled.notify_one();
    }

    /// Takes no more batches, and drops those that wait.
    pub(crate) fn abandon(&self) {
        self.close();
        let abandoned = std::mem::take(&mut self.lock().requests);
        drop(abandoned);
    }
}

/// How many of the first requests go together: as many as the limits allow, and at least one.
fn group_len(requests: &VecDeque<Request>) -> usize {
    let mut bytes = 0;
    let fits = |request: &&Request| {
        bytes += request.bytes;
        bytes <= GROUP_BYTES_MAX
    };
    requests.iter().take(GROUP_BATCHES_MAX).take_while(fits).count().max(1)
}
