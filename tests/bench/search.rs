//! What the search index of a million messages takes: how long it is made from the rooms, how large it is, and how long
//! searches take, on RocksDB.
//!
//! `cargo bench --bench search [-- COUNT]`

#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a benchmark that cannot go on says why and ends")]

use base::{RoomNum, Secret, SystemClock, SystemRandom};
use records::state_map::StateRoot;
use records::{EventRecord, EventStatus, Glance, Records};
use rooms::{CreateRoom, Rooms};
use rules::SigningKey;
use ruma::{EventId, OwnedUserId, owned_server_name};
use search::{Config, Key, Ordering, Request, Scope, Search, Terms, Wanted, Writers};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use store_rocksdb::{RocksEngine, SharedMemory};

const COUNT: u64 = 1_000_000;
const ROOMS: u64 = 100;
/// How many messages are written at once.
const AT_ONCE: u64 = 2_000;
/// How often each search is made.
const ROUNDS: usize = 50;
/// How many different words there are. The nth is n times as seldom as the first.
const WORDS: u64 = 50_000;
const WORDS_EACH: u64 = 12;

#[tokio::main]
async fn main() {
    let count: u64 = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(COUNT);
    let folder = tempfile::tempdir().expect("a folder");
    let memory = SharedMemory::new(128 << 20);
    let engine = RocksEngine::open(folder.path().join("store"), &memory, &store_rocksdb::Config::default());
    let records = Records::open(Arc::new(engine.expect("a store"))).await.expect("records");
    let key = SigningKey::generate(owned_server_name!("bench.example"), "1", Secret::new([1; 32])).expect("a key");
    let (clock, random) = (Arc::new(SystemClock), Arc::new(SystemRandom));
    let rooms = Rooms::new(records.clone(), Arc::new(key), clock.clone(), random, rooms::Config::default());
    let user = OwnedUserId::try_from("@user:bench.example").expect("a user");
    let mut nums = Vec::new();
    for number in 0..ROOMS {
        let request = CreateRoom { name: Some(format!("room {number}")), ..CreateRoom::default() };
        let room_id = rooms.create(&user, request).await.expect("a room");
        let view = records.view();
        let num = view.room_num(&room_id).expect("a store").expect("a room");
        nums.push((num, room_id, view.room_head(num).expect("a store").expect("a head").state));
    }
    for start in (0..count).step_by(usize::try_from(AT_ONCE).expect("a step")) {
        let mut changes = records.changes(&records.view());
        for number in start..(start + AT_ONCE).min(count) {
            let (num, room_id, state) = &nums[usize::try_from(number % ROOMS).expect("a room")];
            let event = changes.ids().event().expect("a number");
            let record = message(*num, room_id, &user, *state, number);
            let nth = changes.stamp();
            changes.append_event(nth, event, &record, Glance::default());
        }
        changes.derived();
        records.commit(changes).await.expect("a commit");
    }

    let index = folder.path().join("search");
    let began = Instant::now();
    let search = Search::new(records.clone(), rooms, clock, Some(index.clone()), Writers::default(), Config::default());
    search.made().await;
    println!("{count} messages: made in {:.1?}, {} bytes each", began.elapsed(), bytes(&index) / count);

    println!("| search | found | p50 | p99 |");
    println!("|---|---|---|---|");
    for (what, term, ordering) in [
        ("a word of every message's, by rank", word(0), Ordering::Rank),
        ("the same, the last first", word(0), Ordering::Recent),
        ("a word of some, by rank", word(100), Ordering::Rank),
        ("a seldom word", word(20_000), Ordering::Rank),
        ("two common words", format!("{} {}", word(1), word(3)), Ordering::Rank),
        ("a phrase", format!("\"{} {}\"", word(0), word(1)), Ordering::Rank),
    ] {
        let request = Request {
            terms: Arc::new(Terms::of(&term)),
            scope: Arc::new(Scope::of(&records.view(), &user).expect("rooms")),
            wanted: Arc::new(Wanted::new(Key::ALL.to_vec())),
            ordering,
            beyond: None,
            group: None,
            hits_max: 42,
            doubtful_max: 500,
        };
        let (mut took, mut found) = (Vec::new(), 0);
        for _ in 0..ROUNDS {
            let began = Instant::now();
            found = search.hits(request.clone()).await.expect("hits").certain;
            took.push(began.elapsed());
        }
        took.sort_unstable();
        let at = |part: usize| took.get(took.len() * part / 100).copied().unwrap_or(Duration::ZERO);
        println!("| {what} | {found} | {:.1?} | {:.1?} |", at(50), at(99));
    }
}

/// A Russian-looking word.
fn word(number: u64) -> String {
    const SYLLABLES: [&str; 16] =
        ["ка", "ро", "ми", "ле", "пу", "са", "то", "ны", "ве", "ди", "зо", "ба", "гу", "ше", "жи", "ча"];
    let syllable = |at: u32| SYLLABLES[usize::try_from((number >> (4 * at)) & 15).unwrap_or(0)];
    format!("{}{}{}{}т", syllable(0), syllable(1), syllable(2), syllable(3))
}

/// A message whose words are as seldom as words are.
fn message(room: RoomNum, room_id: &ruma::RoomId, sender: &OwnedUserId, state: StateRoot, number: u64) -> EventRecord {
    let mut seed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut words = Vec::new();
    for _ in 0..WORDS_EACH {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        // Of numbers below one, that many are below a half, a third, a fourth...
        words.push(word((WORDS * 1_000 / (seed % (WORDS * 1_000) + 1)).min(WORDS)));
    }
    let (event_id, at) = (format!("$seeded{number}"), 1_700_000_000_000 + number * 1_000);
    let body = words.join(" ");
    let json = format!(
        r#"{{"auth_events":[],"content":{{"body":"{body}","msgtype":"m.text"}},"depth":9,"hashes":{{"sha256":"x"}},"origin_server_ts":{at},"prev_events":[],"room_id":"{room_id}","sender":"{sender}","signatures":{{}},"type":"m.room.message"}}"#,
    );
    EventRecord {
        room,
        event_id: <&EventId>::try_from(event_id.as_str()).expect("an id").to_owned(),
        status: EventStatus::Accepted,
        state_before: state,
        state_after: state,
        resolved: None,
        replaces: None,
        redacted_by: None,
        sent_by: None,
        json,
    }
}

fn bytes(folder: &Path) -> u64 {
    let files = std::fs::read_dir(folder).expect("a folder");
    files.map(|file| file.and_then(|file| file.metadata()).map_or(0, |file| file.len())).sum()
}
