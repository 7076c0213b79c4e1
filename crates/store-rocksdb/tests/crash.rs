//! kill -9 at a random moment, under load, again and again.
//!
//! The test runs itself as a child that writes with several concurrent writers and says which batches were
//! acknowledged. It kills the child, opens the store, and looks at everything: each acknowledged batch must
//! be whole, each other one whole or absent, and the stamps without a gap. `CHANCERY_CRASH_KILLS` is how
//! often, 100 if it isn't set. What a loss of power does to unsynced blocks is not tested here.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that fails panics")]

use base::Stamp;
use futures::future::select_all;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::key::{KeyBuilder, KeyReader};
use store::{
    Batch, CommitError, Direction, Durability, Engine, Expect, Family, Hole, Scan, Snapshot, Stamped, Stamps, Write,
};
use store_rocksdb::{Config, RocksEngine, SharedMemory};

const CHILD: &str = "CHANCERY_CRASH_CHILD";
const KILLS: &str = "CHANCERY_CRASH_KILLS";
const KILLS_DEFAULT: usize = 100;
/// After so many kills a new store is begun, so that its creation is killed too.
const KILLS_A_STORE: usize = 10;
/// How long a child lives at most, from its start.
const LIFE_US_MAX: u64 = 400_000;

const WRITERS: u64 = 8;
/// The last writers' batches are derived: not synced, yet whole or absent all the same.
const DERIVED_FROM: u64 = 6;
/// Each batch of a writer clears its rows in the ranges family that are older than this.
const KEPT_ROWS: u64 = 16;

fn main() {
    if let Some(path) = std::env::var_os(CHILD) {
        write_until_killed(Path::new(&path));
        return;
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        println!("crash: test");
        return;
    }
    // As with any other test, a name on the command line selects.
    if arguments.iter().any(|argument| !argument.starts_with('-') && !"crash".contains(argument.as_str())) {
        return;
    }
    let kills = std::env::var(KILLS).map_or(KILLS_DEFAULT, |kills| kills.parse().expect("a number of kills"));
    survive(kills);
}

/// The tables of the test.
const HEADS: u8 = 1;
const ROWS: u8 = 2;
const COUNTS: u8 = 3;
const LOG: u8 = 4;

fn head_key(writer: u64) -> Vec<u8> {
    KeyBuilder::table(HEADS).number(writer).build()
}

fn count_key(writer: u64) -> Vec<u8> {
    KeyBuilder::table(COUNTS).number(writer).build()
}

fn row_key(writer: u64, n: u64) -> Vec<u8> {
    KeyBuilder::table(ROWS).number(writer).number(n).build()
}

/// What a row holds besides the stamp: bytes that tell the batch and the family, of a length of its own.
fn row_filling(family: Family, writer: u64, n: u64) -> Vec<u8> {
    let length = usize::try_from((writer * 31 + n * 17) % 700).unwrap();
    format!("{family:?} {writer} {n} ").into_bytes().into_iter().cycle().take(length + 8).collect()
}

fn stamps_of(writer: u64, n: u64) -> u16 {
    u16::try_from((writer + n) % 3).unwrap()
}

/// The nth batch of a writer. It touches every family, expects what the one before it left, counts, clears
/// what is old, and has its stamps in its keys and values.
fn batch(writer: u64, n: u64) -> Batch {
    let value = n.to_be_bytes().to_vec();
    let head = (n > 1).then(|| (n - 1).to_be_bytes().to_vec());
    let mut writes = vec![Write::Put { family: Family::Points, key: head_key(writer).into(), value: value.into() }];
    for family in Family::ALL {
        let bytes = [&[0; 8][..], &row_filling(family, writer, n)].concat();
        let value = Stamped { bytes, holes: vec![Hole { at: 0, nth: 0 }] };
        let key = if family == Family::Log {
            let bytes = KeyBuilder::table(LOG).number(0).number(writer).number(n).build();
            Stamped { bytes, holes: vec![Hole { at: 1, nth: 0 }] }
        } else {
            row_key(writer, n).into()
        };
        writes.push(Write::Put { family, key, value });
    }
    let (from, to) = (row_key(writer, 0), row_key(writer, n.saturating_sub(KEPT_ROWS)));
    writes.push(Write::ClearRange { family: Family::Ranges, from, to });
    writes.push(Write::Add { family: Family::Points, key: count_key(writer), delta: 1 });
    Batch {
        stamps: stamps_of(writer, n),
        expects: vec![Expect { family: Family::Points, key: head_key(writer), value: head }],
        writes,
        durability: if writer < DERIVED_FROM { Durability::Synced } else { Durability::Derived },
    }
}

fn open(path: &Path) -> RocksEngine {
    // Small memtables and logs, so that flushes and compactions are killed as well.
    let config = Config { memtable_bytes: 256 * 1024, wal_bytes_max: 1024 * 1024, ..Config::default() };
    RocksEngine::open(path, &SharedMemory::new(0), &config).expect("the store opens")
}

fn number(snapshot: &dyn Snapshot, key: &[u8]) -> u64 {
    let value = snapshot.get(Family::Points, key).unwrap();
    value.map_or(0, |value| u64::from_be_bytes(value.try_into().unwrap()))
}

fn write_until_killed(path: &Path) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let engine = Arc::new(open(path));
    runtime.block_on(async move {
        let writers = (0..WRITERS).map(|writer| tokio::spawn(write_on(engine.clone(), writer)));
        let (ended, ..) = select_all(writers).await;
        panic!("a writer ended: {ended:?}");
    });
}

async fn write_on(engine: Arc<RocksEngine>, writer: u64) -> Result<Infallible, CommitError> {
    let mut n = number(&*engine.snapshot(), &head_key(writer));
    loop {
        n += 1;
        let stamps = engine.commit(batch(writer, n)).await?;
        // One write to a pipe, short enough to be whole.
        let line = format!("ack {writer} {n} {} {}\n", stamps.first, stamps.last);
        std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
    }
}

/// What was acknowledged: the stamps of each writer's batches.
type Acknowledged = BTreeMap<(u64, u64), Stamps>;

fn survive(kills: usize) {
    let started = Instant::now();
    let (mut acknowledged_total, mut unacknowledged_total) = (0, 0);
    let mut killed = 0;
    while killed < kills {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store");
        let mut acknowledged = Acknowledged::new();
        let mut surviving = 0;
        for _ in 0..KILLS_A_STORE.min(kills - killed) {
            write_and_kill(&path, &mut acknowledged);
            killed += 1;
            surviving = look_at_everything(&path, &mut acknowledged);
        }
        acknowledged_total += acknowledged.len();
        unacknowledged_total += surviving - acknowledged.len();
    }
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "crash: {killed} kills, {acknowledged_total} acknowledged batches all whole, \
         {unacknowledged_total} more whole, none half, {seconds:.1} s"
    );
}

fn write_and_kill(path: &Path, acknowledged: &mut Acknowledged) {
    let mut random = [0; 8];
    base::Random::fill(&base::SystemRandom, &mut random);
    let life = Duration::from_micros(u64::from_be_bytes(random) % LIFE_US_MAX);
    let mut child =
        Command::new(std::env::current_exe().unwrap()).env(CHILD, path).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let reader = std::thread::spawn(move || lines.map(Result::unwrap).collect::<Vec<String>>());
    std::thread::sleep(life);
    assert!(child.try_wait().unwrap().is_none(), "the child ended by itself");
    child.kill().unwrap();
    child.wait().unwrap();
    for line in reader.join().unwrap() {
        let numbers: Vec<u64> = line.split(' ').skip(1).map(|word| word.parse().unwrap()).collect();
        let [writer, n, first, last] = numbers.try_into().unwrap();
        acknowledged.insert((writer, n), Stamps { first: Stamp(first), last: Stamp(last) });
    }
}

/// Compares all of the store with what was acknowledged; how many batches there are.
fn look_at_everything(path: &Path, acknowledged: &mut Acknowledged) -> usize {
    let engine = open(path);
    let snapshot = engine.snapshot();
    let heads: Vec<u64> = (0..WRITERS).map(|writer| number(&*snapshot, &head_key(writer))).collect();

    // The log has one row a batch, in the order of the stamps, which leave no gap.
    let mut batches = BTreeMap::new();
    let mut newest = Stamp(0);
    for (key, value) in all(&*snapshot, Family::Log, KeyBuilder::table(LOG)) {
        let mut key = KeyReader::new(&key);
        let (first, writer, n) = (key.number().unwrap(), key.number().unwrap(), key.number().unwrap());
        assert_eq!(first, newest.0 + 1, "a gap in the stamps before batch {n} of writer {writer}");
        newest = Stamp(newest.0 + u64::from(stamps_of(writer, n).max(1)));
        let stamps = Stamps { first: Stamp(first), last: newest };
        check_row(Family::Log, writer, n, stamps, &value);
        assert!(batches.insert((writer, n), stamps).is_none(), "batch {n} of writer {writer} is there twice");
    }
    assert_eq!(snapshot.stamp(), newest);
    for (batch, stamps) in &*acknowledged {
        assert_eq!(batches.get(batch), Some(stamps), "{batch:?} was acknowledged");
    }

    for (writer, head) in (0..).zip(heads) {
        assert_eq!(number(&*snapshot, &count_key(writer)), head);
        assert_eq!(batches.range((writer, 0)..(writer + 1, 0)).count(), usize::try_from(head).unwrap());
        for family in [Family::Points, Family::Ranges, Family::Events, Family::Nodes] {
            let kept = if family == Family::Ranges { head.saturating_sub(KEPT_ROWS).max(1) } else { 1 };
            let rows = all(&*snapshot, family, KeyBuilder::table(ROWS).number(writer));
            assert_eq!(rows.len(), usize::try_from((head + 1).saturating_sub(kept)).unwrap(), "{family:?} of {writer}");
            for ((key, value), n) in rows.into_iter().zip(kept..) {
                assert_eq!(key, row_key(writer, n));
                check_row(family, writer, n, *batches.get(&(writer, n)).unwrap(), &value);
            }
        }
    }
    batches.len()
}

fn check_row(family: Family, writer: u64, n: u64, stamps: Stamps, value: &[u8]) {
    let (stamp, filling) = value.split_first_chunk().unwrap();
    assert_eq!(u64::from_be_bytes(*stamp), stamps.first.0, "the stamp of batch {n} of writer {writer} in {family:?}");
    assert_eq!(filling, row_filling(family, writer, n), "the row of batch {n} of writer {writer} in {family:?}");
}

fn all(snapshot: &dyn Snapshot, family: Family, prefix: KeyBuilder) -> Vec<(Vec<u8>, Vec<u8>)> {
    const PAGE_ROWS: usize = 1000;
    let (mut from, to) = prefix.prefix_range();
    let mut rows = Vec::new();
    loop {
        let scan = Scan { family, from, to: to.clone(), direction: Direction::Forward, rows_max: PAGE_ROWS };
        let page = snapshot.scan(&scan).unwrap();
        let is_last = page.len() < PAGE_ROWS;
        rows.extend(page);
        let Some((last, _)) = rows.last().filter(|_| !is_last) else { return rows };
        from = [last.as_slice(), &[0]].concat();
    }
}
