//! What a message costs does not depend on how many members its room has.

#![expect(clippy::expect_used, reason = "the seed of rooms is a benchmark's too, and ends where it can't go on")]

#[path = "../bench/seed.rs"]
mod seed;

use base::{FakeClock, Secret, SeededRandom, Stamp, UnixMillis};
use futures::FutureExt;
use futures::future::BoxFuture;
use records::Records;
use rooms::{Config, CreateRoom, Draft, Preset, Rooms};
use ruma::{OwnedRoomId, owned_server_name};
use serde_json::value::RawValue;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use store::{Batch, CommitError, Engine, Family, MemoryEngine, Row, Scan, Snapshot, Stamps, StoreError, Write};
use tokio::sync::watch;

const MESSAGES: usize = 400;
const SENDERS: usize = 8;

/// What was asked of a store.
#[derive(Default)]
struct Counts {
    reads: AtomicUsize,
    read_bytes: AtomicUsize,
    writes: AtomicUsize,
    written_bytes: AtomicUsize,
}

impl Counts {
    fn read(&self, bytes: usize) {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.read_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn take(&self) -> [usize; 4] {
        [&self.reads, &self.read_bytes, &self.writes, &self.written_bytes].map(|count| count.swap(0, Ordering::Relaxed))
    }
}

/// A memory engine that counts.
struct Counted {
    engine: MemoryEngine,
    counts: Arc<Counts>,
}

struct CountedSnapshot {
    snapshot: Arc<dyn Snapshot>,
    counts: Arc<Counts>,
}

impl Engine for Counted {
    fn snapshot(&self) -> Arc<dyn Snapshot> {
        Arc::new(CountedSnapshot { snapshot: self.engine.snapshot(), counts: self.counts.clone() })
    }

    fn commit(&self, batch: Batch) -> BoxFuture<'static, Result<Stamps, CommitError>> {
        for write in &batch.writes {
            self.counts.writes.fetch_add(1, Ordering::Relaxed);
            if let Write::Put { key, value, .. } = write {
                self.counts.written_bytes.fetch_add(key.bytes.len() + value.bytes.len(), Ordering::Relaxed);
            }
        }
        self.engine.commit(batch).boxed()
    }

    fn newest(&self) -> watch::Receiver<Stamp> {
        self.engine.newest()
    }
}

impl Snapshot for CountedSnapshot {
    fn stamp(&self) -> Stamp {
        self.snapshot.stamp()
    }

    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let value = self.snapshot.get(family, key)?;
        self.counts.read(value.as_ref().map_or(0, Vec::len));
        Ok(value)
    }

    fn get_many(&self, family: Family, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        let values = self.snapshot.get_many(family, keys)?;
        for value in &values {
            self.counts.read(value.as_ref().map_or(0, Vec::len));
        }
        Ok(values)
    }

    fn scan(&self, scan: &Scan) -> Result<Vec<Row>, StoreError> {
        let rows = self.snapshot.scan(scan)?;
        for (key, value) in &rows {
            self.counts.read(key.len() + value.len());
        }
        Ok(rows)
    }
}

async fn room_of(rooms: &Rooms, members: usize) -> OwnedRoomId {
    let request = CreateRoom { preset: Some(Preset::PublicChat), ..CreateRoom::default() };
    let room = rooms.create(&seed::user(0), request).await.expect("a room");
    seed::seed(rooms.records(), &room, 1..members).await;
    let num = rooms.records().view().room_num(&room).expect("a store").expect("the room");
    let head = rooms.records().view().room_head(num).expect("a store").expect("its head");
    assert_eq!(head.joined, u64::try_from(members).expect("few"));
    room
}

/// What some messages cost in a room of this size that is awake, one after the other.
async fn cost_of_messages(members: usize) -> [usize; 4] {
    let counts = Arc::new(Counts::default());
    let engine = Counted { engine: MemoryEngine::new(), counts: counts.clone() };
    let records = Records::open(Arc::new(engine)).await.expect("records");
    let key =
        rules::SigningKey::generate(owned_server_name!("bench.example"), "1", Secret::new([1; 32])).expect("a key");
    let clock = Arc::new(FakeClock::new(UnixMillis(1_700_000_000_000)));
    let rooms = Rooms::new(records, Arc::new(key), clock, Arc::new(SeededRandom::new(1)), Config::default());
    let room = room_of(&rooms, members).await;
    for number in 0..SENDERS + MESSAGES {
        // What the room reads of its state when it wakes up, and of each sender, it keeps in memory: that is of the
        // order of the state map's height, and is no message's.
        if number == SENDERS {
            counts.take();
        }
        let content = format!(r#"{{"msgtype":"m.text","body":"message {number:04}"}}"#);
        let content = RawValue::from_string(content).expect("JSON");
        let draft = Draft::message(seed::user(number % SENDERS), "m.room.message", content);
        rooms.send(&room, draft, None).await.expect("an event");
    }
    counts.take()
}

#[tokio::test]
async fn a_message_into_a_room_of_50_000_members_costs_what_it_does_in_a_room_of_10() {
    let (small, large) = (cost_of_messages(10).await, cost_of_messages(50_000).await);
    for (what, (small, large)) in ["reads", "bytes read", "writes", "bytes written"].iter().zip(small.iter().zip(large))
    {
        assert!(*small > 0, "{what} are counted");
        assert!(large * 5 <= small * 6, "{what}: {large} in the large room, {small} in the small one");
    }
}
