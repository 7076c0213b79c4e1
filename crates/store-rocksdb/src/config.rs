//! What an engine may use: memory, which all engines of the process share, and files and threads of its own.

use rocksdb::{Cache, WriteBufferManager};

/// The smallest memory budget; a smaller one is raised to it.
pub const MEMORY_BUDGET_BYTES_MIN: usize = 32 * 1024 * 1024;

/// The part of the budget that memtables may take before they are flushed: one in this many.
const MEMTABLES_SHARE: usize = 4;

/// The memory of all engines of one process: a block cache, and memtables that are charged to it, so that
/// one budget bounds both however many engines there are. Blocks that are being read are pinned and may
/// exceed it for that moment. Clones share the same memory.
#[derive(Clone)]
pub struct SharedMemory {
    budget_bytes: usize,
    pub(crate) cache: Cache,
    pub(crate) write_buffers: WriteBufferManager,
}

impl SharedMemory {
    /// Memory of at most `budget_bytes`, but no less than [`MEMORY_BUDGET_BYTES_MIN`].
    #[must_use]
    pub fn new(budget_bytes: usize) -> Self {
        let budget_bytes = budget_bytes.max(MEMORY_BUDGET_BYTES_MIN);
        // The variant of the clock cache whose table grows: memtables and blocks differ in size.
        let cache = Cache::new_hyper_clock_cache(budget_bytes, 0);
        // Writers aren't stalled when memtables reach their share, they are flushed: otherwise one engine
        // whose disk fails would stall every other. `Config::memtable_bytes` bounds what a flush that
        // lags behind can add.
        let write_buffers = WriteBufferManager::new_write_buffer_manager_with_cache(
            budget_bytes / MEMTABLES_SHARE,
            false,
            cache.clone(),
        );
        Self { budget_bytes, cache, write_buffers }
    }

    /// The budget.
    #[must_use]
    pub fn budget_bytes(&self) -> usize {
        self.budget_bytes
    }

    /// What is in use of the budget: blocks, filters, indexes and memtables.
    #[must_use]
    pub fn used_bytes(&self) -> usize {
        self.cache.get_usage()
    }

    /// What of the budget can't be given up at the moment, because it is being read or is a memtable.
    #[must_use]
    pub fn pinned_bytes(&self) -> usize {
        self.cache.get_pinned_usage()
    }

    /// The memtables of all engines.
    #[must_use]
    pub fn memtables_bytes(&self) -> usize {
        self.write_buffers.get_usage()
    }
}

impl std::fmt::Debug for SharedMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedMemory").field("budget_bytes", &self.budget_bytes).finish_non_exhaustive()
    }
}

/// What one engine may use besides the shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// The most files that are open at once.
    pub open_files_max: u16,
    /// The most flushes and compactions that run at once.
    pub background_jobs_max: u8,
    /// The size at which a family's memtable is flushed, whatever the shared memory still allows. Three
    /// such memtables a family are the most; writers then wait.
    pub memtable_bytes: usize,
    /// The size of the write-ahead log at which memtables are flushed. It bounds how long opening takes
    /// after a crash.
    pub wal_bytes_max: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            open_files_max: 512,
            background_jobs_max: 2,
            memtable_bytes: 16 * 1024 * 1024,
            wal_bytes_max: 128 * 1024 * 1024,
        }
    }
}
