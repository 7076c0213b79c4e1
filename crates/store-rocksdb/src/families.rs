//! How each family of keys is laid out on the disk, after how it is read.

use crate::{Config, SharedMemory};
use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, ColumnFamilyDescriptor, DBCompressionType, DBRecoveryMode,
    DataBlockIndexType, LogLevel, Options, SliceTransform,
};
use std::ffi::c_int;
use store::Family;

/// The bytes of a key by which the ranges family is indexed: a table's byte and a number.
pub(crate) const RANGE_PREFIX_BYTES: usize = 9;

/// The bits a key takes in a bloom filter: one read in a hundred looks in vain.
const BLOOM_BITS: f64 = 10.0;

/// The part of a memtable that its bloom filter takes, from the start: ten bits for each of its keys at 200
/// bytes a row. More would cost every quiet agency.
const MEMTABLE_BLOOM_RATIO: f64 = 0.006;

const KIB: usize = 1024;

/// The name of a family's column family. The engine's own records are in RocksDB's default one.
pub(crate) fn name(family: Family) -> &'static str {
    match family {
        Family::Points => "points",
        Family::Ranges => "ranges",
        Family::Events => "events",
        Family::Nodes => "nodes",
        Family::Log => "log",
    }
}

/// The options of the whole database.
pub(crate) fn database_options(memory: &SharedMemory, config: &Config) -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    // A batch spans families, so their memtables reach the disk together or not at all.
    options.set_atomic_flush(true);
    // After kill -9 the log ends within a record; after a power loss anything behind the last fsync may be
    // missing, torn or zero, in any order of its blocks. All that was acknowledged lies before that. So the
    // log is read up to the first record that isn't whole, and what follows is dropped: tolerating only a
    // torn last record would refuse to open after a power loss that tore more than one.
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    // That mode alone would also stop silently at a hole in what *was* synced. Finished logs are therefore
    // recorded with their size, and opening fails if one is missing or shorter.
    options.set_track_and_verify_wals_in_manifest(true);
    options.set_max_total_wal_size(config.wal_bytes_max);
    options.set_write_buffer_manager(&memory.write_buffers);
    options.set_max_open_files(c_int::from(config.open_files_max));
    options.set_max_background_jobs(c_int::from(config.background_jobs_max.max(2)));
    // Spreads the writing back of new tables, so that the fsync of a commit doesn't wait for all of one.
    options.set_bytes_per_sync(1024 * 1024);
    // A reader that drops the last snapshot of an old table doesn't delete the file itself.
    options.set_avoid_unnecessary_blocking_io(true);
    options.set_log_level(LogLevel::Warn);
    options.set_max_log_file_size(4 * KIB * KIB);
    options.set_keep_log_file_num(4);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options
}

/// Every column family with its options.
pub(crate) fn descriptors(memory: &SharedMemory, config: &Config) -> Vec<ColumnFamilyDescriptor> {
    let mut descriptors = vec![ColumnFamilyDescriptor::new(
        rocksdb::DEFAULT_COLUMN_FAMILY_NAME,
        with_blocks(common_options(config), &common_blocks(memory, 4 * KIB)),
    )];
    descriptors.extend(
        Family::ALL.map(|family| ColumnFamilyDescriptor::new(name(family), family_options(family, memory, config))),
    );
    descriptors
}

fn family_options(family: Family, memory: &SharedMemory, config: &Config) -> Options {
    let mut options = common_options(config);
    let blocks = match family {
        Family::Points => {
            options.set_memtable_prefix_bloom_ratio(MEMTABLE_BLOOM_RATIO);
            options.set_memtable_whole_key_filtering(true);
            let mut blocks = point_blocks(memory, 8 * KIB);
            blocks.set_data_block_index_type(DataBlockIndexType::BinaryAndHash);
            blocks.set_data_block_hash_ratio(0.75);
            blocks
        }
        Family::Ranges => {
            options.set_prefix_extractor(SliceTransform::create_fixed_prefix(RANGE_PREFIX_BYTES));
            options.set_memtable_prefix_bloom_ratio(MEMTABLE_BLOOM_RATIO);
            let mut blocks = common_blocks(memory, 8 * KIB);
            // Only prefixes are in the filter: a scan asks for those, and a read by key is helped by them.
            blocks.set_bloom_filter(BLOOM_BITS, false);
            blocks.set_whole_key_filtering(false);
            blocks
        }
        Family::Events => {
            options.set_bottommost_compression_type(DBCompressionType::Zstd);
            point_blocks(memory, 16 * KIB)
        }
        Family::Nodes => point_blocks(memory, 16 * KIB),
        Family::Log => common_blocks(memory, 64 * KIB),
    };
    with_blocks(options, &blocks)
}

fn common_options(config: &Config) -> Options {
    let mut options = Options::default();
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_write_buffer_size(config.memtable_bytes);
    options.set_max_write_buffer_number(3);
    // Memtables grow by this: a quiet agency's six families then cost little.
    options.set_arena_block_size(64 * KIB);
    options.set_target_file_size_base(32 * 1024 * 1024);
    options.set_level_compaction_dynamic_level_bytes(true);
    options
}

/// Blocks whose indexes and filters are in the block cache too, so that the budget bounds them.
fn common_blocks(memory: &SharedMemory, block_bytes: usize) -> BlockBasedOptions {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(&memory.cache);
    blocks.set_block_size(block_bytes);
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_cache_index_and_filter_blocks_with_high_priority(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    blocks
}

/// Blocks that are found by whole keys. Filters and indexes are cut in pieces, so that a miss loads a few
/// KiB instead of a whole table's filter.
fn point_blocks(memory: &SharedMemory, block_bytes: usize) -> BlockBasedOptions {
    let mut blocks = common_blocks(memory, block_bytes);
    blocks.set_bloom_filter(BLOOM_BITS, false);
    blocks.set_whole_key_filtering(true);
    blocks.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    blocks.set_partition_filters(true);
    blocks.set_metadata_block_size(4 * KIB);
    blocks.set_pin_top_level_index_and_filter(true);
    blocks
}

fn with_blocks(mut options: Options, blocks: &BlockBasedOptions) -> Options {
    options.set_block_based_table_factory(blocks);
    options
}
