//! What an incremental sync costs: as much as what changed, however many rooms its user is in.

use super::*;
use std::sync::atomic::{AtomicU64, Ordering};
use store::{Batch, CommitError, Engine, Family, Row, Scan, Snapshot, Stamps, StoreError};

/// An engine that counts what is read from it.
struct Counting {
    engine: MemoryEngine,
    reads: Arc<AtomicU64>,
}

struct CountingSnapshot {
    snapshot: Arc<dyn Snapshot>,
    reads: Arc<AtomicU64>,
}

impl Snapshot for CountingSnapshot {
    fn stamp(&self) -> base::Stamp {
        self.snapshot.stamp()
    }

    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.snapshot.get(family, key)
    }

    fn get_many(&self, family: Family, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        self.reads.fetch_add(keys.len() as u64, Ordering::Relaxed);
        self.snapshot.get_many(family, keys)
    }

    fn scan(&self, scan: &Scan) -> Result<Vec<Row>, StoreError> {
        let rows = self.snapshot.scan(scan)?;
        self.reads.fetch_add(1 + rows.len() as u64, Ordering::Relaxed);
        Ok(rows)
    }
}

impl Engine for Counting {
    fn snapshot(&self) -> Arc<dyn Snapshot> {
        Arc::new(CountingSnapshot { snapshot: self.engine.snapshot(), reads: self.reads.clone() })
    }

    fn commit(&self, batch: Batch) -> std::pin::Pin<Box<dyn Future<Output = Result<Stamps, CommitError>> + Send>> {
        self.engine.commit(batch)
    }

    fn newest(&self) -> tokio::sync::watch::Receiver<base::Stamp> {
        self.engine.newest()
    }
}

/// How much is read by an incremental sync that tells of one message, of a user in so many rooms: as the server
/// goes on, and just after it was started anew.
async fn reads(rooms: usize) -> [u64; 2] {
    let reads = Arc::new(AtomicU64::new(0));
    let world = World::over(Arc::new(Counting { engine: MemoryEngine::new(), reads: reads.clone() })).await;
    let mut last = None;
    for _ in 0..rooms {
        // No two rooms can be made alike in one moment.
        world.clock.advance(Duration::from_millis(1));
        last = Some(world.room_with_bob().await);
    }
    let room = last.unwrap();
    let before = world.sync(&bob(), None).await;
    let mut costs = [0; 2];
    for (cost, anew) in costs.iter_mut().zip([false, true]) {
        world.say(&room, &alice(), "1").await;
        let syncs = match anew {
            false => world.syncs.clone(),
            true => {
                let (records, rooms) = (world.records.clone(), world.rooms.clone());
                let syncs = Syncs::new(records, rooms, world.clock.clone(), Config::default());
                // Whose rooms these are is read once.
                syncs.sync(request(&bob(), Some(&world.syncs.token().to_string()))).await.unwrap();
                syncs
            }
        };
        world.syncs.0.catch_up().unwrap();
        let start = reads.load(Ordering::Relaxed);
        let response = syncs.sync(request(&bob(), Some(token(&before)))).await.unwrap();
        *cost = reads.load(Ordering::Relaxed) - start;
        let response: Value = serde_json::from_slice(&response).unwrap();
        assert_eq!(response["rooms"]["join"].as_object().unwrap().len(), 1);
    }
    costs
}

#[tokio::test]
async fn an_incremental_sync_costs_the_same_in_five_rooms_and_in_five_hundred() {
    let (few, many) = (reads(5).await, reads(500).await);
    for (few, many) in few.into_iter().zip(many) {
        assert!(few > 0 && many * 10 <= few * 12, "{few} reads in five rooms, {many} in five hundred");
    }
}
