//! What a message costs in rooms of 10, 1,000 and 50,000 members: CPU time of the whole process, on RocksDB
//! with an fsync for every run. It should not depend on the size of the room.
//!
//! `cargo bench --bench room_size [-- MEMBERS…]`

#![expect(clippy::expect_used, reason = "a benchmark that cannot go on says why and ends")]

mod seed;

use base::{Secret, SystemClock, SystemRandom};
use records::Records;
use rooms::{Config, CreateRoom, Draft, Preset, Rooms};
use rules::SigningKey;
use ruma::{OwnedRoomId, owned_server_name};
use seed::user;
use serde_json::value::RawValue;
use std::sync::Arc;
use std::time::Instant;
use store_rocksdb::{RocksEngine, SharedMemory};

const MESSAGES: usize = 10_000;
const SENDERS: usize = 8;

#[tokio::main]
async fn main() {
    let sizes: Vec<usize> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let sizes = if sizes.is_empty() { vec![10, 1_000, 50_000] } else { sizes };
    let folder = tempfile::tempdir().expect("a folder");
    let memory = SharedMemory::new(128 << 20);
    let engine = RocksEngine::open(folder.path(), &memory, &store_rocksdb::Config::default()).expect("a store");
    let records = Records::open(Arc::new(engine)).await.expect("records");
    let key = SigningKey::generate(owned_server_name!("bench.example"), "1", Secret::new([1; 32])).expect("a key");
    let rooms = Rooms::new(records, Arc::new(key), Arc::new(SystemClock), Arc::new(SystemRandom), Config::default());

    println!("| members | messages a second | CPU µs a message |");
    println!("|---|---|---|");
    let mut made = Vec::new();
    for size in sizes {
        made.push((size, found(&rooms, size).await));
    }
    // Twice, so that what one room leaves in the caches helps none of them more than the others.
    for round in 0..2 {
        for (size, room) in &made {
            let sends = measured(MESSAGES, || send(&rooms, room)).await;
            if round == 1 {
                println!("| {size} | {:.0} | {:.0} |", sends.0, sends.1);
            }
        }
    }
}

/// A public room with this many members.
async fn found(rooms: &Rooms, size: usize) -> OwnedRoomId {
    let request = CreateRoom { preset: Some(Preset::PublicChat), ..CreateRoom::default() };
    let room = rooms.create(&user(0), request).await.expect("a room");
    seed::seed(rooms.records(), &room, 1..size.max(SENDERS)).await;
    room
}

async fn send(rooms: &Rooms, room: &OwnedRoomId) {
    let mut senders = tokio::task::JoinSet::new();
    for sender in 0..SENDERS {
        let (rooms, room) = (rooms.clone(), room.clone());
        senders.spawn(async move {
            for number in 0..MESSAGES / SENDERS {
                let content = format!(r#"{{"msgtype":"m.text","body":"message {number} of {sender}"}}"#);
                let content = RawValue::from_string(content).expect("JSON");
                let draft = Draft::message(user(sender), "m.room.message", content);
                rooms.send(&room, draft, None).await.expect("an event");
            }
        });
    }
    senders.join_all().await;
}

/// Does something `times` times; answers how often a second, and the CPU time of one in microseconds.
async fn measured<F: Future<Output = ()>>(times: usize, work: impl FnOnce() -> F) -> (f64, f64) {
    let (cpu, begin) = (cpu_seconds(), Instant::now());
    work().await;
    #[expect(clippy::cast_precision_loss, reason = "counts are small")]
    let times = times as f64;
    (times / begin.elapsed().as_secs_f64(), (cpu_seconds() - cpu) * 1e6 / times)
}

/// User and system time of this process, in ticks of a hundredth of a second.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}
