//! What a page of the room directory, a search in it, and a search for people take among 100,000 rooms and 100,000
//! users, on RocksDB.
//!
//! `cargo bench --bench directories [-- COUNT]`

#![expect(clippy::expect_used, reason = "a benchmark that cannot go on says why and ends")]

use accounts::Accounts;
use base::{EventNum, RoomNum, Secret, SystemClock, SystemRandom};
use records::{Changes, FoundUser, Membership, MembershipRecord, Records, RoomSummary};
use rooms::{ListFilter, Rooms};
use rules::SigningKey;
use ruma::{OwnedRoomId, OwnedUserId, RoomVersionId, owned_server_name};
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::Direction;
use store_rocksdb::{RocksEngine, SharedMemory};

const COUNT: u64 = 100_000;
/// How many rows are written at once.
const AT_ONCE: u64 = 1_000;
/// How often each request is made.
const ROUNDS: usize = 50;
/// How many rooms every user is in.
const ROOMS_EACH: u64 = 5;
const FIRST: [&str; 20] = [
    "иван",
    "пётр",
    "анна",
    "ольга",
    "олег",
    "мария",
    "игорь",
    "елена",
    "антон",
    "юлия",
    "павел",
    "вера",
    "семён",
    "дарья",
    "роман",
    "нина",
    "артём",
    "лидия",
    "денис",
    "софья",
];

#[tokio::main]
async fn main() {
    let count = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(COUNT);
    let folder = tempfile::tempdir().expect("a folder");
    let memory = SharedMemory::new(128 << 20);
    let engine = RocksEngine::open(folder.path(), &memory, &store_rocksdb::Config::default()).expect("a store");
    let records = Records::open(Arc::new(engine)).await.expect("records");
    let name = owned_server_name!("bench.example");
    let key = SigningKey::generate(name.clone(), "1", Secret::new([1; 32])).expect("a key");
    let (clock, random) = (Arc::new(SystemClock), Arc::new(SystemRandom));
    let rooms = Rooms::new(records.clone(), Arc::new(key), clock.clone(), random.clone(), rooms::Config::default());
    let accounts = Accounts::open(records.clone(), name, clock, random, accounts::Config::default()).expect("accounts");
    for start in (0..count).step_by(usize::try_from(AT_ONCE).expect("a step")) {
        let mut changes = records.changes(&records.view());
        for number in start..(start + AT_ONCE).min(count) {
            list(&mut changes, number);
            settle(&mut changes, number, count);
        }
        records.commit(changes).await.expect("a commit");
    }

    println!("| request | p50 | p99 |");
    println!("|---|---|---|");
    let filter = |term: &str| Some(ListFilter { term: term.to_owned(), room_types: None });
    for (what, filter) in [
        ("a page of 100 rooms", None),
        ("a search for rooms that many fit", filter("отдел")),
        ("a search for rooms that few fit", filter("отдел 4242 ")),
        ("a search for rooms that none fits", filter("бухгалтерия")),
    ] {
        let mut took = Vec::new();
        for _ in 0..ROUNDS {
            let began = Instant::now();
            rooms.listed(None, Direction::Forward, 100, filter.clone()).await.expect("a page");
            took.push(began.elapsed());
        }
        print(what, took);
    }
    let asker = user(count);
    for (what, term, everybody) in [
        ("a search of all users, one letter", "и", true),
        ("a search of all users, two names", "ива фамилия77", true),
        ("a search of users by a stranger, one letter", "и", false),
        ("a search of users by a stranger, two names", "ива фамилия77", false),
    ] {
        let mut took = Vec::new();
        for _ in 0..ROUNDS {
            let began = Instant::now();
            let view = records.view();
            let mut known = rooms.acquaintance(&view, &asker).expect("an asker");
            let may_find = |user: &_| Ok::<_, accounts::Error>(everybody || known.knows(user).expect("memberships"));
            accounts.find_users(&accounts::UserTerm::of(term), 10, may_find).expect("users");
            took.push(began.elapsed());
        }
        print(what, took);
    }
}

fn print(what: &str, mut took: Vec<Duration>) {
    took.sort_unstable();
    let at = |part: usize| took.get(took.len() * part / 100).copied().unwrap_or_default();
    println!("| {what} | {:.1?} | {:.1?} |", at(50), at(99));
}

fn user(number: u64) -> OwnedUserId {
    OwnedUserId::try_from(format!("@user{number}:bench.example")).expect("a user")
}

/// A room in the room directory.
fn list(changes: &mut Changes, number: u64) {
    let room_id = OwnedRoomId::try_from(format!("!room{number}:bench.example")).expect("a room");
    let summary = RoomSummary {
        room_id: room_id.clone(),
        version: RoomVersionId::V12,
        joined: 1 + number % 977,
        name: Some(format!("Отдел {number} по делам")),
        topic: Some("Здесь обсуждают всё, что касается отдела и его посетителей".to_owned()),
        canonical_alias: Some(format!("#room{number}:bench.example")),
        avatar_url: None,
        join_rule: Some("public".to_owned()),
        allowed_room_ids: Vec::new(),
        world_readable: false,
        guest_can_join: false,
        room_type: None,
        encryption: None,
    };
    let text = format!("отдел {number} по делам\n#room{number}\nздесь обсуждают всё, что касается отдела");
    changes.publish(RoomNum(number), &room_id, Some((&summary, &text))).expect("a row");
}

/// A user in the user directory, and in some rooms.
fn settle(changes: &mut Changes, number: u64, count: u64) {
    let user = user(number);
    let first = FIRST.get(usize::try_from(number).unwrap_or(0) % FIRST.len()).copied().unwrap_or_default();
    let words = [first.replace('ё', "е"), format!("фамилия{}", number % 10_007), format!("user{number}")];
    let found = FoundUser { display_name: Some(words.join(" ")), avatar_url: None, words: words.into() };
    changes.put_found_user(&user, Some(&found)).expect("a row");
    for nth in 0..ROOMS_EACH {
        let record = MembershipRecord {
            membership: Membership::Join,
            event: EventNum(1),
            sender: user.clone(),
            stripped_state: None,
            forgotten: false,
            previous: None,
            entered: None,
        };
        let stamp = changes.stamp();
        let room = RoomNum(count + (number * ROOMS_EACH + nth) % 10_000);
        changes.put_membership(stamp, &user, room, &record).expect("a row");
    }
}
