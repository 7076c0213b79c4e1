//! An engine in memory: for tests, and the model of what an engine does.
//!
//! A version is five persistent maps, so that a snapshot is a pointer and a commit copies only the paths
//! that it changes. Nothing is ever on a disk: both durabilities are the same here, and what is committed
//! lives as long as the last clone of the engine.

use crate::{Batch, CommitError, Direction, Engine, Family, Row, Scan, Snapshot, Stamps, StoreError, Write};
use base::{Stamp, limits};
use futures::future::BoxFuture;
use rpds::RedBlackTreeMapSync;
use std::ops::Bound;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;

/// A store in memory. Clones share their data.
#[derive(Clone, Debug)]
pub struct MemoryEngine {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    current: Mutex<Arc<Version>>,
    newest: watch::Sender<Stamp>,
}

/// Everything that was committed up to a stamp.
#[derive(Clone, Debug)]
struct Version {
    stamp: Stamp,
    points: Table,
    ranges: Table,
    events: Table,
    nodes: Table,
    log: Table,
}

type Table = RedBlackTreeMapSync<Vec<u8>, Vec<u8>>;

impl MemoryEngine {
    /// An empty store, at stamp 0.
    #[must_use]
    pub fn new() -> Self {
        let table = RedBlackTreeMapSync::new_sync;
        let version = Version {
            stamp: Stamp(0),
            points: table(),
            ranges: table(),
            events: table(),
            nodes: table(),
            log: table(),
        };
        let (newest, _) = watch::channel(version.stamp);
        Self { shared: Arc::new(Shared { current: Mutex::new(Arc::new(version)), newest }) }
    }
}

impl Default for MemoryEngine {
    fn default() -> Self {
        Self::new()
    }
}

impl Engine for MemoryEngine {
    fn snapshot(&self) -> Arc<dyn Snapshot> {
        self.shared.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn commit(&self, batch: Batch) -> BoxFuture<'static, Result<Stamps, CommitError>> {
        let shared = self.shared.clone();
        Box::pin(async move { shared.commit(batch) })
    }

    fn newest(&self) -> watch::Receiver<Stamp> {
        self.shared.newest.subscribe()
    }
}

impl Shared {
    fn commit(&self, batch: Batch) -> Result<Stamps, CommitError> {
        if !batch.within_limits() {
            return Err(CommitError::TooLarge);
        }
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if !batch.expects.iter().all(|expect| current.table(expect.family).get(&expect.key) == expect.value.as_ref()) {
            return Err(CommitError::Conflict);
        }
        let stamps = batch.stamps_after(current.stamp);
        let mut version = Version::clone(&current);
        version.stamp = stamps.last;
        for write in batch.writes {
            version.apply(write, stamps.first);
        }
        *current = Arc::new(version);
        // Within the lock, so that the watch never goes back.
        self.newest.send_replace(stamps.last);
        Ok(stamps)
    }
}

impl Version {
    fn table(&self, family: Family) -> &Table {
        match family {
            Family::Points => &self.points,
            Family::Ranges => &self.ranges,
            Family::Events => &self.events,
            Family::Nodes => &self.nodes,
            Family::Log => &self.log,
        }
    }

    fn table_mut(&mut self, family: Family) -> &mut Table {
        match family {
            Family::Points => &mut self.points,
            Family::Ranges => &mut self.ranges,
            Family::Events => &mut self.events,
            Family::Nodes => &mut self.nodes,
            Family::Log => &mut self.log,
        }
    }

    fn apply(&mut self, write: Write, first: Stamp) {
        match write {
            Write::Put { family, key, value } => {
                self.table_mut(family).insert_mut(key.into_filled(first), value.into_filled(first));
            }
            Write::Clear { family, key } => {
                self.table_mut(family).remove_mut(&key);
            }
            Write::ClearRange { family, from, to } => {
                let table = self.table_mut(family);
                let keys: Vec<Vec<u8>> = rows(table, &from, &to).map(|(key, _)| key.clone()).collect();
                for key in keys {
                    table.remove_mut(&key);
                }
            }
            Write::Add { family, key, delta } => {
                let table = self.table_mut(family);
                let sum = crate::batch::counter_plus(table.get(&key).map(Vec::as_slice), delta);
                table.insert_mut(key, sum);
            }
        }
    }
}

/// The rows of a table from `from` on and before `to`; none if the range is empty or turned round.
fn rows<'a>(
    table: &'a Table,
    from: &'a [u8],
    to: &'a [u8],
) -> impl DoubleEndedIterator<Item = (&'a Vec<u8>, &'a Vec<u8>)> {
    let to = to.max(from);
    table.range::<[u8], _>((Bound::Included(from), Bound::Excluded(to)))
}

impl Snapshot for Version {
    fn stamp(&self) -> Stamp {
        self.stamp
    }

    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.table(family).get(key).cloned())
    }

    fn get_many(&self, family: Family, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        let table = self.table(family);
        Ok(keys.iter().map(|key| table.get(key).cloned()).collect())
    }

    fn scan(&self, scan: &Scan) -> Result<Vec<Row>, StoreError> {
        let rows = rows(self.table(scan.family), &scan.from, &scan.to);
        let rows_max = scan.rows_max.min(limits::SCAN_ROWS_MAX);
        let owned = |(key, value): (&Vec<u8>, &Vec<u8>)| (key.clone(), value.clone());
        Ok(match scan.direction {
            Direction::Forward => rows.take(rows_max).map(owned).collect(),
            Direction::Backward => rows.rev().take(rows_max).map(owned).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    crate::conformance!(memory, || (MemoryEngine::new(), ()));
}
