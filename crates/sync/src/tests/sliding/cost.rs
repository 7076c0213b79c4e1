//! What a sliding sync costs: as much as there is to tell, however many rooms the user has.

use super::*;
use ruma::OwnedRoomId;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use store::{Batch, CommitError, Engine, Family, Row, Scan, Snapshot, Stamps, StoreError};
use tokio::sync::watch;

/// A store that counts what is read: keys that are looked up, scans, and the rows that they give.
struct Counting {
    engine: MemoryEngine,
    reads: Arc<AtomicUsize>,
}

struct CountingSnapshot {
    snapshot: Arc<dyn Snapshot>,
    reads: Arc<AtomicUsize>,
}

impl CountingSnapshot {
    fn count(&self, reads: usize) {
        self.reads.fetch_add(reads, Ordering::Relaxed);
    }
}

impl Snapshot for CountingSnapshot {
    fn stamp(&self) -> base::Stamp {
        self.snapshot.stamp()
    }

    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.count(1);
        self.snapshot.get(family, key)
    }

    fn get_many(&self, family: Family, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        self.count(keys.len());
        self.snapshot.get_many(family, keys)
    }

    fn scan(&self, scan: &Scan) -> Result<Vec<Row>, StoreError> {
        let rows = self.snapshot.scan(scan)?;
        self.count(rows.len() + 1);
        Ok(rows)
    }
}

impl Engine for Counting {
    fn snapshot(&self) -> Arc<dyn Snapshot> {
        Arc::new(CountingSnapshot { snapshot: self.engine.snapshot(), reads: self.reads.clone() })
    }

    fn commit(&self, batch: Batch) -> Pin<Box<dyn Future<Output = Result<Stamps, CommitError>> + Send>> {
        self.engine.commit(batch)
    }

    fn newest(&self) -> watch::Receiver<base::Stamp> {
        self.engine.newest()
    }
}

struct Costs {
    world: World,
    reads: Arc<AtomicUsize>,
    rooms: Vec<OwnedRoomId>,
}

impl Costs {
    async fn of_rooms(count: usize) -> Self {
        let reads = Arc::new(AtomicUsize::new(0));
        let engine = Counting { engine: MemoryEngine::new(), reads: reads.clone() };
        let world = World::over(Arc::new(engine)).await;
        let mut rooms = Vec::with_capacity(count);
        for _ in 0..count {
            // Rooms that are made alike at the same time would have the same id.
            world.clock.advance(Duration::from_millis(1));
            rooms.push(world.room_with_bob().await);
        }
        Self { world, reads, rooms }
    }

    /// How much is read for a request, and its response.
    async fn slide(&self, position: Option<&Value>, rules: &Rules) -> (usize, Value) {
        // What the follower of the log reads is for all users together.
        self.world.syncs.0.catch_up().unwrap();
        let before = self.reads.load(Ordering::Relaxed);
        let response = self.world.slide(position, rules).await;
        (self.reads.load(Ordering::Relaxed) - before, response)
    }

    /// How much is read to tell of one message in the room where nothing happened for longest, by a connection
    /// with this window.
    async fn of_one_message(&self, range: (usize, usize)) -> usize {
        let rules = list(range, rule(20, &[("m.room.name", ""), ("m.room.member", "$LAZY")]));
        let (_, first) = self.slide(None, &rules).await;
        // The first message brings the room into the window; the second finds it there.
        self.world.say(&self.rooms[0], &alice(), "1").await;
        let (_, second) = self.slide(Some(&first), &rules).await;
        self.world.say(&self.rooms[0], &alice(), "2").await;
        let (reads, third) = self.slide(Some(&second), &rules).await;
        assert_eq!(brief(&of(&third, &self.rooms[0])["timeline"]), ["2"]);
        reads
    }
}

#[tokio::test]
async fn a_message_costs_the_same_in_a_few_rooms_and_in_many() {
    let (few, many) = (Costs::of_rooms(30).await, Costs::of_rooms(400).await);
    for range in [(0, 19), (0, 9_999)] {
        let (few, many) = (few.of_one_message(range).await, many.of_one_message(range).await);
        assert!(many <= few + few / 5, "{range:?}: {few} reads with few rooms, {many} with many");
        assert!(many < 60, "{many}");
    }
}

#[tokio::test]
async fn a_first_window_reads_what_it_tells_and_a_little_of_each_room() {
    let costs = Costs::of_rooms(200).await;
    let rules = list((0, 19), rule(1, &[("m.room.name", ""), ("m.room.member", "$ME")]));
    let (reads, first) = costs.slide(None, &rules).await;
    assert_eq!(told(&first).len(), 20);
    // Of each room its membership and its last event, of those told all else.
    assert!(reads < 200 * 6 + 20 * 40, "{reads}");
    let (reads, _) = costs.slide(Some(&first), &rules).await;
    assert!(reads < 10, "{reads} reads for nothing");
}
