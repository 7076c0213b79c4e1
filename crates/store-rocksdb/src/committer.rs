//! The thread that commits.

use crate::counters::Counters;
use crate::database::{Database, Sync};
use crate::group::Group;
use crate::queue::{Queue, Request};
use crate::snapshot::RocksSnapshot;
use arc_swap::ArcSwap;
use base::Stamp;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};
use std::time::Instant;
use store::{CommitError, Durability};
use tokio::sync::watch;

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
        let mut group = Group::new(&self.database, newest, requests.iter().map(|request| &request.batch));
        let mut sync = Sync::Later;
        let mut outcomes = Vec::with_capacity(requests.len());
        let (mut committed, mut bytes) = (0, 0);
        for Request { batch, bytes: batch_bytes, queued, answer, _place } in requests {
            let durability = batch.durability;
            let outcome = group.add(batch);
            match &outcome {
                Ok(_) => {
                    committed += 1;
                    bytes += u64::try_from(batch_bytes).unwrap_or(u64::MAX);
                    if durability == Durability::Synced {
                        sync = Sync::Fsync;
                    }
                }
                Err(CommitError::Conflict) => {
                    self.counters.conflicts.fetch_add(1, Relaxed);
                }
                Err(error) => tracing::error!(%error, "a batch could not be evaluated"),
            }
            outcomes.push((outcome, queued, answer, _place));
        }
        let (writes, end) = group.into_writes();
        let mut written = Ok(());
        if committed > 0 {
            written = self.database.write(writes, end, sync);
        }
        match written {
            Ok(()) if committed > 0 => {
                self.counters.groups.fetch_add(1, Relaxed);
                self.counters.batches.fetch_add(committed, Relaxed);
                self.counters.batch_bytes.fetch_add(bytes, Relaxed);
                self.counters.syncs.fetch_add(u64::from(sync == Sync::Fsync), Relaxed);
                self.counters.group_writes.observe(started.elapsed());
                // First what is to be seen, then that it is there, then the answers: whoever learns of a
                // stamp finds it, and one that conflicted finds what it conflicted with.
                let snapshot = RocksSnapshot::new(self.database.clone(), end, self.counters.clone());
                self.current.store(Arc::new(snapshot));
                self.newest.send_replace(end);
            }
            Ok(()) => {}
            Err(error) => {
                // The log may or may not hold the group, so nobody is told that it wasn't written; and a
                // later write could make it whole, so there is none.
                tracing::error!(%error, "a write failed: the store takes no more writes until it is opened anew");
                outcomes.iter_mut().filter(|(outcome, ..)| outcome.is_ok()).for_each(|(outcome, ..)| {
                    *outcome = Err(CommitError::Unknown);
                });
                // It was empty: this thread alone sets it, and did not come here if it had.
                let _ = self.poisoned.set(Arc::new(Poisoned(error)));
            }
        }
        let failed = self.poisoned.get().is_some();
        for (outcome, queued, waiting, _place) in outcomes {
            self.counters.commits.observe(queued.elapsed());
            answer(waiting, outcome);
        }
        if failed { newest } else { end }
    }
}

fn answer<T>(waiting: tokio::sync::oneshot::Sender<T>, outcome: T) {
    // A caller that stopped waiting needs no answer.
    let _ = waiting.send(outcome);
}

/// Leaves nobody waiting for a thread that is no more.
struct AbandonOnPanic<'q>(&'q Queue);

impl Drop for AbandonOnPanic<'_> {
    fn drop(&mut self) {
        self.0.abandon();
    }
}
