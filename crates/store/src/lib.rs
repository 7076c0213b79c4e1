//! The store's interface: ordered keys, snapshots, and batches that are committed whole, in one total order.
//!
//! Everything above this floor sees only [`Engine`] and [`Snapshot`], so that an engine can be replaced:
//! [`MemoryEngine`] for tests, RocksDB on one machine, a replicated log over several. What the keys and
//! values mean is not known here. `conformance!` (behind the feature of that name) is the suite that every engine passes.

mod batch;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod engine;
pub mod key;
mod memory;

pub use batch::{Batch, Durability, Expect, Hole, Stamped, Write, counter_plus};
pub use engine::{CommitError, StoreError};
pub use engine::{Direction, Engine, Family, Row, Scan, Snapshot, Stamps};
pub use memory::MemoryEngine;
