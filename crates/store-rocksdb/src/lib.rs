//! RocksDB behind the store interface.
//!
//! One thread commits ([`RocksEngine`]): it takes all batches that wait, evaluates them in turn, and writes
//! them as one write with one fsync. Readers never meet it: they read a RocksDB snapshot that is published
//! after each write. What keys and values mean is not known here, and nothing here waits for a network.

mod committer;
mod config;
mod counters;
mod database;
mod engine;
mod families;
mod group;
mod queue;
mod snapshot;

pub use config::{Config, MEMORY_BUDGET_BYTES_MIN, SharedMemory};
pub use counters::{Counters, Histogram};
pub use engine::{DiskUse, OpenError, RocksEngine};
