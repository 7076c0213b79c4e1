//! A store that says when it is closed.

use base::Stamp;
use futures::future::BoxFuture;
use std::sync::Arc;
use store::{Batch, CommitError, Engine, Snapshot, Stamps};
use store_rocksdb::RocksEngine;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

/// An engine; once it is dropped and its folder is free, a token is cancelled.
#[derive(Debug)]
pub(crate) struct HeldStore {
    // Fields are dropped in this order.
    engine: RocksEngine,
    _closed: DropGuard,
}

impl HeldStore {
    /// Holds an engine, and the token that is cancelled when it is closed.
    pub(crate) fn new(engine: RocksEngine) -> (Arc<Self>, CancellationToken) {
        let closed = CancellationToken::new();
        (Arc::new(Self { engine, _closed: closed.clone().drop_guard() }), closed)
    }

    pub(crate) fn engine(&self) -> &RocksEngine {
        &self.engine
    }
}

impl Engine for HeldStore {
    fn snapshot(&self) -> Arc<dyn Snapshot> {
        self.engine.snapshot()
    }

    fn commit(&self, batch: Batch) -> BoxFuture<'static, Result<Stamps, CommitError>> {
        self.engine.commit(batch)
    }

    fn newest(&self) -> watch::Receiver<Stamp> {
        self.engine.newest()
    }
}
