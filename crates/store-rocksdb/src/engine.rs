//! The engine: opening, and what is asked of it.

use crate::committer::Shared;
use crate::counters::Counters;
use crate::database::{Database, FORMAT, Own};
use crate::families;
use crate::queue::Queue;
use crate::snapshot::RocksSnapshot;
use crate::{Config, SharedMemory};
use arc_swap::ArcSwap;
use base::Stamp;
use futures::future::BoxFuture;
use rocksdb::checkpoint::Checkpoint;
use rocksdb::{DB, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use store::{Batch, CommitError, Engine, Family, Snapshot, Stamps, StoreError};
use tokio::sync::watch;

/// A store in a directory.
///
/// Commits are group commits: while one fsync is under way the batches that arrive wait, and go together
/// with the next. Dropping the engine commits what waits, and joins its thread; the directory is free once
/// the last snapshot is dropped too.
pub struct RocksEngine {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory could not be made.
    #[error("cannot create the directory {path}: {source}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// This or another process has the store open.
    #[error("the store in {path} is in use: is the server running already?")]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The store was written by a newer version.
    #[error("the store in {path} has layout {found}, and this version knows up to {known}: use a newer version")]
    Newer {
        /// The directory.
        path: PathBuf,
        /// The layout that was found.
        found: u32,
        /// The newest layout that this version knows.
        known: u32,
    },
    /// Something that is always there is missing.
    #[error("the store in {path} is damaged: {what}")]
    Damaged {
        /// The directory.
        path: PathBuf,
        /// What is missing.
        what: &'static str,
    },
    /// RocksDB could not open it.
    #[error("cannot open the store in {path}: {source}")]
    Engine {
        /// The directory.
        path: PathBuf,
        /// RocksDB's reason.
        source: rocksdb::Error,
    },
    /// The commit thread could not be started.
    #[error("cannot start the thread that commits: {0}")]
    Thread(#[source] std::io::Error),
}

/// What one engine takes on the disk and besides the shared memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskUse {
    /// The tables on the disk.
    pub tables_bytes: u64,
    /// What the readers of tables hold outside the block cache.
    pub readers_bytes: u64,
    /// The memtables, which are part of the shared memory.
    pub memtables_bytes: u64,
    /// What compactions still have to rewrite.
    pub compaction_pending_bytes: u64,
}

impl RocksEngine {
    /// Opens the store in a directory, which is made if it isn't there.
    ///
    /// What was acknowledged as synced is there, whatever ended the last process. It waits for the disk.
    pub fn open(path: impl AsRef<Path>, memory: &SharedMemory, config: &Config) -> Result<Self, OpenError> {
        let path = path.as_ref();
        let engine = |source| OpenError::Engine { path: path.to_owned(), source };
        make_directory(path).map_err(|source| OpenError::Directory { path: path.to_owned(), source })?;
        let options = families::database_options(memory, config);
        let db = DB::open_cf_descriptors(&options, path, families::descriptors(memory, config)).map_err(|source| {
            if is_lock_error(&source) { OpenError::InUse { path: path.to_owned() } } else { engine(source) }
        })?;
        let database = Arc::new(Database::new(db));
        let newest = match database.own().map_err(engine)? {
            Own::Nothing => {
                database.found().map_err(engine)?;
                Stamp(0)
            }
            Own::Found { format, .. } if format > FORMAT => {
                return Err(OpenError::Newer { path: path.to_owned(), found: format, known: FORMAT });
            }
            Own::Found { newest: Some(newest), .. } => newest,
            Own::Found { newest: None, .. } => {
                return Err(OpenError::Damaged { path: path.to_owned(), what: "its newest stamp is missing" });
            }
        };
        Self::start(database, newest).map_err(OpenError::Thread)
    }

    fn start(database: Arc<Database>, newest: Stamp) -> std::io::Result<Self> {
        let counters = Arc::new(Counters::default());
        let snapshot = RocksSnapshot::new(database.clone(), newest, counters.clone());
        let shared = Arc::new(Shared {
            database,
            queue: Arc::new(Queue::new()),
            current: ArcSwap::from_pointee(snapshot),
            newest: watch::channel(newest).0,
            counters,
            poisoned: OnceLock::new(),
        });
        let committer = shared.clone();
        let thread = std::thread::Builder::new().name("store-commit".to_owned()).spawn(move || committer.run())?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// What the engine has counted since it was opened.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// Why the engine takes no more writes, if it doesn't: a write failed. Reads go on.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.shared.poisoned.get().map(ToString::to_string)
    }

    /// What the engine takes at the moment.
    pub fn disk_use(&self) -> Result<DiskUse, StoreError> {
        let sum = |property: &str| {
            Family::ALL.iter().try_fold(0_u64, |sum, family| {
                let family = self.shared.database.family(*family)?;
                let value = self.shared.database.db.property_int_value_cf(family, property);
                let value = value.map_err(|error| StoreError::Engine(Box::new(error)))?;
                Ok::<_, StoreError>(sum.saturating_add(value.unwrap_or(0)))
            })
        };
        Ok(DiskUse {
            tables_bytes: sum("rocksdb.total-sst-files-size")?,
            readers_bytes: sum("rocksdb.estimate-table-readers-mem")?,
            memtables_bytes: sum("rocksdb.cur-size-all-mem-tables")?,
            compaction_pending_bytes: sum("rocksdb.estimate-pending-compaction-bytes")?,
        })
    }

    /// Makes a copy of the store in a directory that is not there yet. It can be opened as a store of its
    /// own. Tables are linked where the file system allows it, so a copy beside the store costs little. It
    /// waits for the disk.
    pub fn checkpoint(&self, path: impl AsRef<Path>) -> Result<(), StoreError> {
        let checkpoint = Checkpoint::new(&self.shared.database.db);
        checkpoint
            .and_then(|checkpoint| checkpoint.create_checkpoint(path))
            .map_err(|error| StoreError::Engine(Box::new(error)))
    }
}

impl std::fmt::Debug for RocksEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RocksEngine").field("path", &self.shared.database.db.path()).finish_non_exhaustive()
    }
}

impl Engine for RocksEngine {
    fn snapshot(&self) -> Arc<dyn Snapshot> {
        self.shared.current.load_full()
    }

    fn commit(&self, batch: Batch) -> BoxFuture<'static, Result<Stamps, CommitError>> {
        // The queue alone: a future that is never polled doesn't keep the directory in use.
        let queue = self.shared.queue.clone();
        Box::pin(async move {
            if !batch.within_limits() {
                return Err(CommitError::TooLarge);
            }
            queue.commit(batch).await
        })
    }

    fn newest(&self) -> watch::Receiver<Stamp> {
        self.shared.newest.subscribe()
    }
}

impl Drop for RocksEngine {
    fn drop(&mut self) {
        self.shared.queue.close();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been reported by then, and has answered everyone.
            let _ = thread.join();
        }
    }
}

/// Makes a directory, and sees to it that it is still there after a power loss.
fn make_directory(path: &Path) -> std::io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    std::fs::create_dir_all(path)?;
    match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => std::fs::File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

/// RocksDB locks a file in the directory; it has no kind of its own for finding that locked.
fn is_lock_error(error: &rocksdb::Error) -> bool {
    error.kind() == ErrorKind::IOError && error.as_ref().contains("/LOCK:")
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::executor::block_on;
    use futures::future::join_all;
    use std::sync::atomic::Ordering::Relaxed;
    use store::{Direction, Durability, Expect, Scan, Write};
    use tempfile::TempDir;

    fn open(path: &Path) -> Result<RocksEngine, OpenError> {
        RocksEngine::open(path, &SharedMemory::new(0), &Config::default())
    }

    fn fresh() -> (RocksEngine, TempDir) {
        let directory = tempfile::tempdir().unwrap();
        (open(&directory.path().join("store")).unwrap(), directory)
    }

    store::conformance!(in_memtables, fresh);
    store::conformance!(in_tables, || {
        let (engine, directory) = fresh();
        (Flushing(engine), directory)
    });

    /// An engine whose data is always in tables on the disk.
    struct Flushing(RocksEngine);

    fn flush(shared: &Shared) {
        let database = &shared.database;
        let families: Vec<_> = Family::ALL.map(|family| database.family(family).unwrap()).to_vec();
        database.db.flush_cfs_opt(&families, &rocksdb::FlushOptions::default()).unwrap();
    }

    impl Engine for Flushing {
        fn snapshot(&self) -> Arc<dyn Snapshot> {
            self.0.snapshot()
        }

        fn commit(&self, batch: Batch) -> BoxFuture<'static, Result<Stamps, CommitError>> {
            let (shared, commit) = (self.0.shared.clone(), self.0.commit(batch));
            Box::pin(async move {
                let result = commit.await;
                flush(&shared);
                result
            })
        }

        fn newest(&self) -> watch::Receiver<Stamp> {
            self.0.newest()
        }
    }

    fn put(key: &[u8], value: &[u8]) -> Batch {
        let write = Write::Put { family: Family::Points, key: key.to_vec().into(), value: value.to_vec().into() };
        Batch { writes: vec![write], ..Batch::default() }
    }

    fn derived(batch: Batch) -> Batch {
        Batch { durability: Durability::Derived, ..batch }
    }

    #[test]
    fn a_store_that_is_open_is_not_opened_again() {
        let (engine, directory) = fresh();
        let path = directory.path().join("store");
        let snapshot = engine.snapshot();
        assert!(matches!(open(&path), Err(OpenError::InUse { .. })));
        drop(engine);
        drop(snapshot);
        open(&path).unwrap();
    }

    #[test]
    fn what_was_committed_is_there_when_the_store_is_opened_again() {
        let (engine, directory) = fresh();
        let path = directory.path().join("store");
        block_on(engine.commit(Batch { stamps: 7, ..put(b"a", b"1") })).unwrap();
        block_on(engine.commit(derived(put(b"b", b"2")))).unwrap();
        drop(engine);
        let engine = open(&path).unwrap();
        assert_eq!(engine.snapshot().stamp(), Stamp(8));
        assert_eq!(*engine.newest().borrow(), Stamp(8));
        assert_eq!(engine.snapshot().get(Family::Points, b"b").unwrap(), Some(b"2".to_vec()));
        assert_eq!(block_on(engine.commit(put(b"a", b"3"))).unwrap().first, Stamp(9));
    }

    /// What a loss of power can leave of the log behind the last fsync.
    #[test]
    fn a_torn_log_is_read_up_to_the_first_batch_that_is_not_whole() {
        const BATCHES: usize = 20;
        let value = |n: usize| vec![u8::try_from(n).unwrap(); 300];
        let tear = |log: &mut Vec<u8>, tear: usize| {
            let end = log.len();
            match tear {
                0 => log.extend([0xa5; 5000]),
                1 => log.extend([0; 5000]),
                2 => log.truncate(end - 5),
                3 => log.truncate(end - 3000),
                4 => log[end - 100..].fill(0),
                // Blocks reach the disk in any order: a whole one may follow a missing one.
                _ => log[end / 2..end / 2 + 512].fill(0),
            }
        };
        for (kind, whole_min) in [(0, BATCHES), (1, BATCHES), (2, BATCHES - 1), (3, 1), (4, BATCHES - 1), (5, 1)] {
            let (engine, directory) = fresh();
            let path = directory.path().join("store");
            for n in 1..=BATCHES {
                let put = |family| Write::Put { family, key: vec![1; n].into(), value: value(n).into() };
                let writes = Family::ALL.map(put).to_vec();
                block_on(engine.commit(Batch { writes, ..Batch::default() })).unwrap();
            }
            drop(engine);
            let files = std::fs::read_dir(&path).unwrap().map(|file| file.unwrap().path());
            let log = files.filter(|file| file.extension().is_some_and(|end| end == "log")).max().unwrap();
            let mut bytes = std::fs::read(&log).unwrap();
            tear(&mut bytes, kind);
            std::fs::write(&log, bytes).unwrap();

            let snapshot = open(&path).unwrap().snapshot();
            let whole = usize::try_from(snapshot.stamp().0).unwrap();
            assert!((whole_min..=BATCHES).contains(&whole), "{whole} are whole after tear {kind}");
            assert!(kind < 2 || whole < BATCHES, "tear {kind} tore nothing");
            for n in 1..=BATCHES {
                for family in Family::ALL {
                    let expected = (n <= whole).then(|| value(n));
                    assert_eq!(snapshot.get(family, &vec![1; n]).unwrap(), expected, "batch {n} after tear {kind}");
                }
            }
        }
    }

    #[test]
    fn a_store_of_a_newer_layout_is_refused() {
        let (engine, directory) = fresh();
        engine.shared.database.db.put(b"format", (FORMAT + 1).to_be_bytes()).unwrap();
        drop(engine);
        let error = open(&directory.path().join("store")).unwrap_err();
        assert!(matches!(error, OpenError::Newer { found, known: FORMAT, .. } if found == FORMAT + 1), "{error}");
    }

    #[test]
    fn a_path_that_can_not_be_a_directory_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, "").unwrap();
        assert!(matches!(open(&path), Err(OpenError::Directory { .. })));
    }

    #[test]
    fn after_a_failed_write_the_engine_reads_but_writes_no_more() {
        let (engine, directory) = fresh();
        block_on(engine.commit(put(b"a", b"1"))).unwrap();
        engine.shared.database.fail_writes.store(true, Relaxed);
        assert!(matches!(block_on(engine.commit(put(b"a", b"2"))), Err(CommitError::Unknown)));
        engine.shared.database.fail_writes.store(false, Relaxed);
        assert!(matches!(block_on(engine.commit(put(b"a", b"3"))), Err(CommitError::Engine(_))));
        assert!(engine.failure().is_some_and(|failure| failure.contains("takes no more writes")));
        assert_eq!(engine.snapshot().get(Family::Points, b"a").unwrap(), Some(b"1".to_vec()));
        assert_eq!(*engine.newest().borrow(), Stamp(1));
        drop(engine);
        let engine = open(&directory.path().join("store")).unwrap();
        assert_eq!(block_on(engine.commit(put(b"a", b"4"))).unwrap().first, Stamp(2));
    }

    #[test]
    fn dropping_the_engine_commits_what_waits_and_refuses_what_comes_later() {
        let (engine, directory) = fresh();
        let mut waiting: Vec<_> = (0..100_u8).map(|n| engine.commit(put(&[n], b""))).collect();
        let late = engine.commit(put(b"late", b""));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let answered: Vec<bool> =
            waiting.iter_mut().map(|commit| commit.as_mut().poll(&mut context).is_ready()).collect();
        drop(engine);
        assert!(matches!(block_on(late), Err(CommitError::Engine(_))));
        for commit in waiting.into_iter().zip(answered).filter(|(_, ready)| !ready).map(|(commit, _)| commit) {
            block_on(commit).unwrap();
        }
        let engine = open(&directory.path().join("store")).unwrap();
        assert_eq!(engine.snapshot().stamp(), Stamp(100));
    }

    #[test]
    fn batches_that_wait_together_share_an_fsync() {
        let (engine, _directory) = fresh();
        let results = block_on(join_all((0..200_u8).map(|n| engine.commit(put(&[n], b"")))));
        assert!(results.iter().all(Result::is_ok));
        let counters = engine.counters();
        assert_eq!(counters.batches.load(Relaxed), 200);
        assert_eq!(counters.commits.count(), 200);
        assert!(counters.syncs.load(Relaxed) < 100, "{counters:?}");
    }

    #[test]
    fn derived_batches_alone_are_not_fsynced() {
        let (engine, _directory) = fresh();
        block_on(engine.commit(derived(put(b"a", b"")))).unwrap();
        assert_eq!(engine.counters().syncs.load(Relaxed), 0);
        block_on(engine.commit(put(b"b", b""))).unwrap();
        assert_eq!(engine.counters().syncs.load(Relaxed), 1);
        let refused = Expect { family: Family::Points, key: b"b".to_vec(), value: None };
        block_on(engine.commit(Batch { expects: vec![refused], ..put(b"c", b"") })).unwrap_err();
        assert_eq!(engine.counters().groups.load(Relaxed), 2);
        assert_eq!(engine.counters().conflicts.load(Relaxed), 1);
    }

    #[test]
    fn what_is_not_in_memory_is_read_from_the_disk_with_and_without_a_runtime() {
        let (engine, directory) = fresh();
        let keys: Vec<Vec<u8>> = (0..100_u8).map(|n| vec![n; 12]).collect();
        for key in &keys {
            block_on(engine.commit(derived(put(key, key)))).unwrap();
        }
        flush(&engine.shared);
        drop(engine);
        let read = |runtime: Option<tokio::runtime::Runtime>| {
            let _entered = runtime.as_ref().map(tokio::runtime::Runtime::enter);
            let engine = open(&directory.path().join("store")).unwrap();
            let snapshot = engine.snapshot();
            let values: Vec<Vec<u8>> =
                snapshot.get_many(Family::Points, &keys).unwrap().into_iter().map(Option::unwrap).collect();
            assert_eq!(values, keys);
            for direction in [Direction::Forward, Direction::Backward] {
                let scan = Scan { family: Family::Points, from: vec![], to: vec![0xff], direction, rows_max: 1000 };
                assert_eq!(snapshot.scan(&scan).unwrap().len(), 100);
            }
            let disk_reads = engine.counters().disk_reads.load(Relaxed);
            assert!(disk_reads > 0);
            assert_eq!(snapshot.get(Family::Points, &keys[7]).unwrap().as_ref(), Some(&keys[7]));
            assert_eq!(engine.counters().disk_reads.load(Relaxed), disk_reads);
        };
        read(None);
        read(Some(tokio::runtime::Builder::new_current_thread().build().unwrap()));
        read(Some(tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap()));
    }

    #[test]
    fn a_range_of_any_size_is_cleared() {
        let (engine, _directory) = fresh();
        for family in Family::ALL {
            let key = |n: u16| [&[1, 0, 0, 0, 0, 0, 0, 0][..], &n.to_be_bytes()].concat();
            let put = |n| Write::Put { family, key: key(n).into(), value: Vec::new().into() };
            let clear = |from, to| Write::ClearRange { family, from: key(from), to: key(to) };
            let all = Batch { writes: (0..1000).map(put).collect(), ..Batch::default() };
            block_on(engine.commit(all)).unwrap();
            let clears = Batch { writes: vec![clear(10, 20), clear(100, 900), put(500)], ..Batch::default() };
            block_on(engine.commit(clears)).unwrap();
            let scan = Scan { family, from: key(0), to: key(1000), direction: Direction::Forward, rows_max: 1000 };
            let rows = engine.snapshot().scan(&scan).unwrap();
            assert_eq!(rows.len(), 1000 - 10 - 800 + 1, "{family:?}");
        }
    }

    #[test]
    fn a_checkpoint_is_a_store_of_its_own() {
        let (engine, directory) = fresh();
        block_on(engine.commit(put(b"a", b"1"))).unwrap();
        let path = directory.path().join("copy");
        engine.checkpoint(&path).unwrap();
        block_on(engine.commit(put(b"a", b"2"))).unwrap();
        let copy = open(&path).unwrap();
        assert_eq!(copy.snapshot().stamp(), Stamp(1));
        assert_eq!(copy.snapshot().get(Family::Points, b"a").unwrap(), Some(b"1".to_vec()));
        assert!(engine.checkpoint(&path).is_err());
    }

    #[test]
    fn engines_share_one_memory_budget() {
        let directory = tempfile::tempdir().unwrap();
        let memory = SharedMemory::new(0);
        assert_eq!(memory.budget_bytes(), crate::MEMORY_BUDGET_BYTES_MIN);
        let open = |name| RocksEngine::open(directory.path().join(name), &memory, &Config::default()).unwrap();
        let engines = [open("one"), open("two")];
        let before = memory.memtables_bytes();
        for engine in &engines {
            block_on(engine.commit(put(b"a", &vec![1; 500_000]))).unwrap();
        }
        assert!(memory.memtables_bytes() >= before + 1_000_000);
        assert!(memory.used_bytes() >= 1_000_000);
        assert!(engines[0].disk_use().unwrap().memtables_bytes >= 500_000);
    }
}
