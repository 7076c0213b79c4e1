//! What an engine counts, for whoever exports it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Numbers that only grow, from when the engine was opened.
#[derive(Debug, Default)]
pub struct Counters {
    /// Groups of batches that were written.
    pub groups: AtomicU64,
    /// Batches that were committed.
    pub batches: AtomicU64,
    /// The bytes of their keys and values.
    pub batch_bytes: AtomicU64,
    /// Batches that were refused because an expectation did not hold.
    pub conflicts: AtomicU64,
    /// Groups that were fsynced.
    pub syncs: AtomicU64,
    /// Reads that the memory could not answer.
    pub disk_reads: AtomicU64,
    /// How long writing a group took, with its fsync if it had one.
    pub group_writes: Histogram,
    /// How long a batch took from its queue to its answer.
    pub commits: Histogram,
}

/// The upper bounds of a histogram's buckets in microseconds; one more bucket has no bound.
const BOUNDS_US: [u64; 15] =
    [50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000, 5_000_000];

/// A histogram of durations.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BOUNDS_US.len() + 1],
    sum_us: AtomicU64,
}

impl Histogram {
    pub(crate) fn observe(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_US.partition_point(|bound| *bound < micros);
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.fetch_add(1, Relaxed);
        }
        self.sum_us.fetch_add(micros, Relaxed);
    }

    /// The sum of all durations, in microseconds.
    #[must_use]
    pub fn sum_us(&self) -> u64 {
        self.sum_us.load(Relaxed)
    }

    /// How many durations there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.load(Relaxed)).sum()
    }

    /// Each bucket's inclusive upper bound in microseconds, `None` for the last, and how many durations
    /// fell into that bucket alone.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<u64>, u64)> + '_ {
        let bounds = BOUNDS_US.into_iter().map(Some).chain([None]);
        bounds.zip(self.buckets.iter().map(|bucket| bucket.load(Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_falls_into_the_first_bucket_that_holds_it() {
        let histogram = Histogram::default();
        for micros in [0, 50, 51, 5_000_000, 5_000_001] {
            histogram.observe(Duration::from_micros(micros));
        }
        let filled: Vec<_> = histogram.buckets().filter(|(_, count)| *count > 0).collect();
        assert_eq!(filled, [(Some(50), 2), (Some(100), 1), (Some(5_000_000), 1), (None, 1)]);
        assert_eq!((histogram.count(), histogram.sum_us()), (5, 10_000_102));
    }
}
