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
    pub(crate) place: OwnedSemaphorePermit,
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
            waiting.requests.push_back(Request { batch, bytes, queued: Instant::now(), answer, place });
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

#[cfg(test)]
mod tests {
    use super::*;
    use futures::executor::block_on;
    use futures::future::BoxFuture;
    use store::{Family, Write};

    fn batch(bytes: usize) -> Batch {
        let write = Write::Put { family: Family::Points, key: vec![0; bytes].into(), value: vec![].into() };
        Batch { writes: vec![write], ..Batch::default() }
    }

    /// Lets batches of these sizes wait.
    fn waiting(queue: &Arc<Queue>, sizes: &[usize]) -> Vec<BoxFuture<'static, Result<Stamps, CommitError>>> {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let commits = sizes.iter().map(|bytes| {
            let (queue, batch) = (queue.clone(), batch(*bytes));
            let mut commit: BoxFuture<'static, _> = Box::pin(async move { queue.commit(batch).await });
            assert!(commit.as_mut().poll(&mut context).is_pending());
            commit
        });
        commits.collect()
    }

    fn sizes(group: Option<Vec<Request>>) -> Vec<usize> {
        group.into_iter().flatten().map(|request| request.bytes).collect()
    }

    #[test]
    fn a_group_is_all_that_waits_up_to_its_limits() {
        let queue = Arc::new(Queue::new());
        let full = GROUP_BYTES_MAX;
        let _waiting = waiting(&queue, &[1, 2, full - 3, 1, full + 1, 7]);
        assert_eq!(sizes(queue.take_group()), [1, 2, full - 3]);
        assert_eq!(sizes(queue.take_group()), [1]);
        assert_eq!(sizes(queue.take_group()), [full + 1]);
        assert_eq!(sizes(queue.take_group()), [7]);
        let _waiting = waiting(&queue, &[1; GROUP_BATCHES_MAX + 1]);
        assert_eq!(sizes(queue.take_group()).len(), GROUP_BATCHES_MAX);
        queue.close();
        assert_eq!(sizes(queue.take_group()).len(), 1);
        assert!(queue.take_group().is_none());
    }

    #[test]
    fn a_full_queue_makes_writers_wait_for_a_place() {
        let queue = Arc::new(Queue::new());
        let mut commits = waiting(&queue, &vec![1; QUEUE_UNITS_MAX + 10]);
        assert_eq!(queue.lock().requests.len(), QUEUE_UNITS_MAX);
        drop(queue.take_group());
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        for commit in commits.iter_mut().skip(QUEUE_UNITS_MAX) {
            assert!(commit.as_mut().poll(&mut context).is_pending());
        }
        assert_eq!(queue.lock().requests.len(), QUEUE_UNITS_MAX - GROUP_BATCHES_MAX + 10);
    }

    #[test]
    fn nobody_waits_for_a_queue_that_was_abandoned() {
        let queue = Arc::new(Queue::new());
        let waiting = waiting(&queue, &[1, 1]);
        queue.abandon();
        for commit in waiting {
            assert!(matches!(block_on(commit), Err(CommitError::Unknown)));
        }
        assert!(matches!(block_on(queue.commit(batch(1))), Err(CommitError::Engine(_))));
        assert!(queue.take_group().is_none());
    }
}
