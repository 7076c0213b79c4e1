//! The thread that commits.

use crate::counters::Counters;
use crate::database::{Database, Sync};
use crate::group::Group;
use crate::queue::{Queue, Request};
use crate::snapshot::RocksSnapshot;
use arc_swap::ArcSwap;
use base::Stamp;
use rocksdb::WriteBatch;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};
use std::time::Instant;
use store::{CommitError, Durability, Stamps};
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};

/// A write failed before, so what is on the disk is unknown until the store is opened anew.
#[derive(Debug, thiserror::Error)]
#[error("the store takes no more writes until it is opened anew, because one failed: {0}")]
pub(crate) struct Poisoned(#[source] rocksdb::Error);

/// What the commit thread and the engine share.
pub(crate) struct Shared {
    pub(crate) database: Arc<Database>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) current: ArcSwap<RocksSnapshot>,
    pub(crate) newest: watch::Sender<Stamp>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) poisoned: OnceLock<Arc<Poisoned>>,
}

impl Shared {
    /// Commits groups until the queue is closed and empty.
    pub(crate) fn run(&self) {
        let _abandon = AbandonOnPanic(&self.queue);
        let mut newest = *self.newest.borrow();
        while let Some(requests) = self.queue.take_group() {
            newest = self.commit(newest, requests);
        }
        // What was derived, and hence not synced, needs no second derivation after an orderly end.
        if let Err(error) = self.database.db.flush_wal(true) {
            tracing::error!(%error, "the last derived writes may not be on the disk");
        }
    }

    /// Commits what can be committed of a group, and answers everyone; the newest stamp after it.
    fn commit(&self, newest: Stamp, requests: Vec<Request>) -> Stamp {
        if let Some(poisoned) = self.poisoned.get() {
            for request in requests {
                answer(request.answer, Err(CommitError::Engine(poisoned.clone())));
            }
            return newest;
        }
        let started = Instant::now();
        let (evaluated, mut outcomes) = self.evaluate(newest, requests);
        let written = match evaluated.batches {
            0 => Ok(newest),
            _ => self.database.write(evaluated.writes, evaluated.newest, evaluated.sync).map(|()| evaluated.newest),
        };
        let newest = match written {
            Ok(end) if end > newest => {
                self.counters.groups.fetch_add(1, Relaxed);
                self.counters.batches.fetch_add(evaluated.batches, Relaxed);
                self.counters.batch_bytes.fetch_add(evaluated.bytes, Relaxed);
                self.counters.syncs.fetch_add(u64::from(evaluated.sync == Sync::Fsync), Relaxed);
                self.counters.group_writes.observe(started.elapsed());
                // First what is to be seen, then that it is there, then the answers: whoever learns of a
                // stamp finds it, and one that conflicted finds what it conflicted with.
                let snapshot = RocksSnapshot::new(self.database.clone(), end, self.counters.clone());
                self.current.store(Arc::new(snapshot));
                self.newest.send_replace(end);
                end
            }
            Ok(_) => newest,
            Err(error) => {
                // The log may or may not hold the group, so nobody is told that it wasn't written; and a
                // later write could make it whole, so there is none.
                tracing::error!(%error, "a write failed: the store takes no more writes until it is opened anew");
                for outcome in outcomes.iter_mut().filter(|outcome| outcome.result.is_ok()) {
                    outcome.result = Err(CommitError::Unknown);
                }
                // It was empty: this thread alone sets it, and did not come here if it had.
                let _ = self.poisoned.set(Arc::new(Poisoned(error)));
                newest
            }
        };
        for Outcome { result, queued, waiting, place } in outcomes {
            self.counters.commits.observe(queued.elapsed());
            answer(waiting, result);
            drop(place);
        }
        newest
    }

    /// Evaluates the batches of a group in turn, and writes nothing.
    fn evaluate(&self, newest: Stamp, requests: Vec<Request>) -> (Evaluated, Vec<Outcome>) {
        let mut group = Group::new(&self.database, newest, requests.iter().map(|request| &request.batch));
        let mut outcomes = Vec::with_capacity(requests.len());
        let (mut batches, mut bytes, mut sync) = (0, 0, Sync::Later);
        for request in requests {
            let durability = request.batch.durability;
            let result = group.add(request.batch);
            match &result {
                Ok(_) => {
                    batches += 1;
                    bytes += u64::try_from(request.bytes).unwrap_or(u64::MAX);
                    if durability == Durability::Synced {
                        sync = Sync::Fsync;
                    }
                }
                Err(CommitError::Conflict) => {
                    self.counters.conflicts.fetch_add(1, Relaxed);
                }
                Err(error) => tracing::error!(%error, "a batch could not be evaluated"),
            }
            outcomes.push(Outcome { result, queued: request.queued, waiting: request.answer, place: request.place });
        }
        let (writes, newest) = group.into_writes();
        (Evaluated { writes, newest, batches, bytes, sync }, outcomes)
    }
}

/// What a group comes to.
struct Evaluated {
    writes: WriteBatch,
    newest: Stamp,
    batches: u64,
    bytes: u64,
    sync: Sync,
}

/// What comes of one batch, and whom to tell.
struct Outcome {
    result: Result<Stamps, CommitError>,
    queued: Instant,
    waiting: oneshot::Sender<Result<Stamps, CommitError>>,
    place: OwnedSemaphorePermit,
}

fn answer(waiting: oneshot::Sender<Result<Stamps, CommitError>>, result: Result<Stamps, CommitError>) {
    // A caller that stopped waiting needs no answer.
    let _ = waiting.send(result);
}

/// Leaves nobody waiting for a thread that is no more.
struct AbandonOnPanic<'q>(&'q Queue);

impl Drop for AbandonOnPanic<'_> {
    fn drop(&mut self) {
        self.0.abandon();
    }
}
