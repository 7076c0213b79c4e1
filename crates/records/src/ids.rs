//! Numbers for what is new, unique over the life of the store and over all processes that write to it.

use crate::codec::RecordsError;
use crate::tables::IDS;
use base::{EventNum, NodeNum, RoomNum};
use std::sync::atomic::{AtomicU64, Ordering};
use store::{Batch, CommitError, Engine, Expect, StoreError, Write};

/// How many numbers one reservation takes. What a crash leaves unused is lost, which 2^64 can bear.
const RESERVATION: u64 = 1 << 20;

/// Hands out numbers from ranges that are reserved durably before their first number is used.
#[derive(Debug)]
pub struct Ids {
    next: AtomicU64,
    end: AtomicU64,
}

impl Ids {
    pub(crate) async fn open(engine: &dyn Engine) -> Result<Self, CommitError> {
        let ids = Self { next: AtomicU64::new(0), end: AtomicU64::new(0) };
        let start = ids.reserve(engine).await?;
        ids.next.store(start.max(1), Ordering::SeqCst);
        Ok(ids)
    }

    /// A number for a room.
    pub fn room(&self) -> Result<RoomNum, RecordsError> {
        self.take().map(RoomNum)
    }

    /// A number for an event.
    pub fn event(&self) -> Result<EventNum, RecordsError> {
        self.take().map(EventNum)
    }

    /// A number for a node of a state map.
    pub fn node(&self) -> Result<NodeNum, RecordsError> {
        self.take().map(NodeNum)
    }

    fn take(&self) -> Result<u64, RecordsError> {
        let end = self.end.load(Ordering::SeqCst);
        self.next
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |next| (next < end).then_some(next + 1))
            .map_err(|_| RecordsError::IdsExhausted)
    }

    /// Whether it is time to reserve more.
    pub(crate) fn is_low(&self) -> bool {
        let left = self.end.load(Ordering::SeqCst).saturating_sub(self.next.load(Ordering::SeqCst));
        left < RESERVATION / 2
    }

    /// Reserves a range and returns its start. Another process may have reserved what lies between: then
    /// the rest of the old range is given up.
    pub(crate) async fn reserve(&self, engine: &dyn Engine) -> Result<u64, CommitError> {
        let key = IDS.key().build();
        loop {
            let old = engine.snapshot().get(IDS.family, &key).map_err(store_failed)?;
            let start = old.as_deref().and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes);
            let end = start + RESERVATION;
            let batch = Batch {
                expects: vec![Expect { family: IDS.family, key: key.clone(), value: old }],
                writes: vec![Write::Put {
                    family: IDS.family,
                    key: key.clone().into(),
                    value: end.to_be_bytes().to_vec().into(),
                }],
                ..Batch::default()
            };
            match engine.commit(batch).await {
                Ok(_) => {
                    if self.end.swap(end, Ordering::SeqCst) != start {
                        self.next.fetch_max(start, Ordering::SeqCst);
                    }
                    return Ok(start);
                }
                // Someone else reserved: their range is theirs, try the next.
                Err(CommitError::Conflict) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

fn store_failed(error: StoreError) -> CommitError {
    CommitError::Engine(std::sync::Arc::new(error))
}
