//! What an incremental sync with one new message costs a user in 50 and in 5,000 rooms: CPU time of the whole
//! process, on RocksDB. It should not depend on how many rooms there are.
//!
//! `cargo bench --bench sync_rooms [-- ROOMS…]`

#![expect(clippy::expect_used, reason = "a benchmark that cannot go on says why and ends")]

use base::{Secret, SystemClock, SystemRandom};
use records::Records;
use rooms::{Config, CreateRoom, Draft, Rooms};
use rules::SigningKey;
use ruma::{OwnedRoomId, OwnedUserId, owned_server_name};
use serde_json::Value;
use serde_json::value::RawValue;
use std::sync::Arc;
use std::time::{Duration, Instant};
use store_rocksdb::{RocksEngine, SharedMemory};
use sync::{StateChoice, SyncRequest, Syncs};

const SYNCS: usize = 5_000;
const ROOMS_AT_ONCE: usize = 8;

#[tokio::main]
async fn main() {
    let sizes: Vec<usize> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let sizes = if sizes.is_empty() { vec![50, 5_000] } else { sizes };
    let folder = tempfile::tempdir().expect("a folder");
    let memory = SharedMemory::new(128 << 20);
    let engine = RocksEngine::open(folder.path(), &memory, &store_rocksdb::Config::default()).expect("a store");
    let records = Records::open(Arc::new(engine)).await.expect("records");
    let key = SigningKey::generate(owned_server_name!("bench.example"), "1", Secret::new([1; 32])).expect("a key");
    let random = Arc::new(SystemRandom);
    let rooms = Rooms::new(records.clone(), Arc::new(key), Arc::new(SystemClock), random, Config::default());
    let syncs = Syncs::new(records, rooms.clone(), Arc::new(SystemClock), sync::Config::default());

    let mut users = Vec::new();
    for size in sizes {
        let user = OwnedUserId::try_from(format!("@in{size}:bench.example")).expect("a user");
        let room = enter(&rooms, &user, size).await;
        users.push((size, user, room));
    }
    println!("| rooms | syncs a second | CPU µs a message and its sync |");
    println!("|---|---|---|");
    for round in 0..2 {
        for (size, user, room) in &users {
            let first = token(&syncs.sync(request(user, None)).await.expect("a sync"));
            let (cpu, begin) = (cpu_seconds(), Instant::now());
            let mut since = first;
            for number in 0..SYNCS {
                let content = format!(r#"{{"msgtype":"m.text","body":"message {number}"}}"#);
                let content = RawValue::from_string(content).expect("JSON");
                rooms.send(room, Draft::message(user.clone(), "m.room.message", content), None).await.expect("sent");
                since = token(&syncs.sync(request(user, Some(&since))).await.expect("a sync"));
            }
            #[expect(clippy::cast_precision_loss, reason = "counts are small")]
            let syncs_done = SYNCS as f64;
            let (rate, cost) = (syncs_done / begin.elapsed().as_secs_f64(), (cpu_seconds() - cpu) * 1e6 / syncs_done);
            if round == 1 {
                println!("| {size} | {rate:.0} | {cost:.0} |");
            }
        }
    }
}

/// Makes so many rooms of a user's; answers the last.
async fn enter(rooms: &Rooms, user: &OwnedUserId, size: usize) -> OwnedRoomId {
    let mut last = None;
    for done in (0..size).step_by(ROOMS_AT_ONCE) {
        let mut made = tokio::task::JoinSet::new();
        for number in done..size.min(done + ROOMS_AT_ONCE) {
            let (rooms, user) = (rooms.clone(), user.clone());
            let request = CreateRoom { name: Some(format!("Room {number}")), ..CreateRoom::default() };
            made.spawn(async move { rooms.create(&user, request).await.expect("a room") });
        }
        last = made.join_all().await.pop();
    }
    last.expect("at least one room")
}

fn request(user: &OwnedUserId, since: Option<&str>) -> SyncRequest {
    SyncRequest {
        user_id: user.clone(),
        device_id: "BENCH".into(),
        since: since.map(|since| since.parse().expect("a token")),
        filter: None,
        full_state: false,
        state: StateChoice::Before,
        timeout: Duration::ZERO,
    }
}

fn token(response: &[u8]) -> String {
    let response: Value = serde_json::from_slice(response).expect("JSON");
    response.get("next_batch").and_then(Value::as_str).expect("a token").to_owned()
}

/// User and system time of this process, in ticks of a hundredth of a second.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}
