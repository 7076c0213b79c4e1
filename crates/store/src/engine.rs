//! The two interfaces of an engine.

use crate::Batch;
use base::Stamp;
use futures::future::BoxFuture;
use std::sync::Arc;
use tokio::sync::watch;

/// Groups of keys by how they are read. An engine tunes each for its pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// Small values found by their whole key.
    Points,
    /// Small values scanned by a prefix of nine bytes or more (a table's byte and a number).
    Ranges,
    /// Events: larger values, keys that mostly grow, read by key.
    Events,
    /// Nodes of room state maps: values of a few KiB that are written once, read by key.
    Nodes,
    /// The log: written in order of its keys, read in order, trimmed from the start.
    Log,
}

impl Family {
    /// All families.
    pub const ALL: [Self; 5] = [Self::Points, Self::Ranges, Self::Events, Self::Nodes, Self::Log];
}

/// Which way a scan goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the smallest key up.
    Forward,
    /// From the largest key down.
    Backward,
}

/// What to scan: keys from `from` on and before `to`.
#[derive(Clone, Debug)]
pub struct Scan {
    /// Where the keys are.
    pub family: Family,
    /// The smallest key that is returned.
    pub from: Vec<u8>,
    /// The first key that is too large.
    pub to: Vec<u8>,
    /// The order of the rows.
    pub direction: Direction,
    /// The most rows that are returned; engines take no more than [`base::limits::SCAN_ROWS_MAX`].
    pub rows_max: usize,
}

/// A key and its value.
pub type Row = (Vec<u8>, Vec<u8>);

/// The consecutive stamps of one commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamps {
    /// The first.
    pub first: Stamp,
    /// The last.
    pub last: Stamp,
}

impl Stamps {
    /// The stamp that a hole with this `nth` received.
    #[must_use]
    pub fn nth(self, nth: u16) -> Stamp {
        Stamp(self.first.0 + u64::from(nth))
    }
}

/// Why a read failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The engine or its disk failed.
    #[error("the storage engine failed: {0}")]
    Engine(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Why a batch was not committed.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// An expectation did not hold. Nothing was written: read again and decide again.
    #[error("another writer was first")]
    Conflict,
    /// The batch is beyond the limits of the interface. Nothing was written.
    #[error("the batch is too large")]
    TooLarge,
    /// The engine can't tell whether the batch was written.
    #[error("the outcome of the commit is unknown")]
    Unknown,
    /// The engine or its disk failed. Nothing was written.
    #[error("the storage engine failed: {0}")]
    Engine(#[source] Arc<dyn std::error::Error + Send + Sync>),
}

/// A view of everything that was committed up to a stamp, and of nothing after it.
///
/// Reads answer from memory where they can; one that has to wait for a disk gives up the worker thread
/// of the async runtime first, so they may be called from tasks. Dropping it early lets the engine
/// forget old versions: none is held while waiting for something to happen.
pub trait Snapshot: Send + Sync {
    /// Up to where the view goes.
    fn stamp(&self) -> Stamp;

    /// The value of a key.
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// The values of many keys, in their order.
    fn get_many(&self, family: Family, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>, StoreError>;

    /// The rows of a range, in the order of the scan.
    fn scan(&self, scan: &Scan) -> Result<Vec<Row>, StoreError>;
}

/// A store.
pub trait Engine: Send + Sync + 'static {
    /// The newest committed state.
    fn snapshot(&self) -> Arc<dyn Snapshot>;

    /// Commits a batch. Commits are totally ordered; each takes the next stamps. Once it has answered
    /// `Ok`, every later snapshot shows the batch, and with [`crate::Durability::Synced`] it survives
    /// the loss of the process and of power.
    fn commit(&self, batch: Batch) -> BoxFuture<'static, Result<Stamps, CommitError>>;

    /// The last stamp that snapshots show. All waiting hangs off this one watch.
    fn newest(&self) -> watch::Receiver<Stamp>;
}
