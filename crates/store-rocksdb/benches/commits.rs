//! How many batches a second are committed, each fsynced before it is answered, with 1, 16, 64 and 256
//! concurrent writers.

#![expect(clippy::unwrap_used, reason = "a benchmark that fails panics")]

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use store::key::KeyBuilder;
use store::{Batch, Engine, Family, Hole, Stamped, Write};
use store_rocksdb::{Config, RocksEngine, SharedMemory};

const MEASURED: Duration = Duration::from_secs(3);

fn main() {
    // Tests of all targets start benchmarks too, without this.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    // In the build's own directory: a temporary one may be in memory.
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().build().unwrap();
    for writers in [1, 16, 64, 256] {
        let path = directory.path().join(writers.to_string());
        let engine = RocksEngine::open(path, &SharedMemory::new(256 << 20), &Config::default()).unwrap();
        runtime.block_on(measure(Arc::new(engine), writers));
    }
}

/// About what a message in a room writes: the event, the log, the room's timeline, the head.
fn message(writer: u64, n: u64) -> Batch {
    let number = KeyBuilder::table(1).number(writer).number(n).build();
    let put = |family, key: Stamped, bytes: usize| {
        let filling = u8::try_from(n % 251).unwrap();
        Write::Put { family, key, value: vec![filling; bytes].into() }
    };
    let stamped = |key: Vec<u8>, at| Stamped { bytes: key, holes: vec![Hole { at, nth: 0 }] };
    let writes = vec![
        put(Family::Events, number.clone().into(), 700),
        put(Family::Points, KeyBuilder::table(2).fixed(&number).build().into(), 8),
        put(Family::Log, stamped(KeyBuilder::table(3).number(0).build(), 1), 40),
        put(Family::Ranges, stamped(KeyBuilder::table(4).number(writer).number(0).build(), 9), 16),
        put(Family::Points, KeyBuilder::table(5).number(writer).build().into(), 120),
    ];
    Batch { writes, ..Batch::default() }
}

async fn measure(engine: Arc<RocksEngine>, writers: u64) {
    let started = Instant::now();
    let tasks: Vec<_> = (0..writers)
        .map(|writer| {
            let engine = engine.clone();
            tokio::spawn(async move {
                let mut n = 0;
                while started.elapsed() < MEASURED {
                    n += 1;
                    engine.commit(message(writer, n)).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let seconds = started.elapsed().as_secs_f64();
    let counters = engine.counters();
    let batches = counters.batches.load(Relaxed);
    let groups = counters.groups.load(Relaxed);
    #[expect(clippy::cast_precision_loss, reason = "for people to read")]
    let (a_second, a_group, write_us, commit_us) = (
        batches as f64 / seconds,
        batches as f64 / groups as f64,
        counters.group_writes.sum_us() as f64 / groups as f64,
        counters.commits.sum_us() as f64 / batches as f64,
    );
    println!(
        "{writers:>4} writers: {a_second:>8.0} commits/s, {a_group:>6.1} a fsync, {write_us:>6.0} us a group's write, \
         {commit_us:>6.0} us a commit"
    );
}
