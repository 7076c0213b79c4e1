//! Figures of the stores, one series an agency.

use crate::agency::Agency;
use crate::held_store::HeldStore;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use std::fmt;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use store_rocksdb::{Counters, DiskUse, SharedMemory};

/// Reads the figures at each scrape. It doesn't keep a store open.
#[derive(Debug)]
pub(crate) struct Figures {
    stores: Vec<(String, Weak<HeldStore>)>,
    memory: SharedMemory,
}

/// Name, help, and how it is read.
type Figure<T> = (&'static str, &'static str, fn(&T) -> u64);

const COUNTERS: [Figure<Counters>; 8] = [
    ("store_commits", "Batches that were committed", |c| c.batches.load(Relaxed)),
    ("store_commit_bytes", "The bytes of keys and values that were committed", |c| c.batch_bytes.load(Relaxed)),
    ("store_conflicts", "Batches that another writer was before", |c| c.conflicts.load(Relaxed)),
    ("store_groups", "Groups of batches that were written at once", |c| c.groups.load(Relaxed)),
    ("store_fsyncs", "Groups that were synced to the disk", |c| c.syncs.load(Relaxed)),
    ("store_disk_reads", "Reads that memory could not answer", |c| c.disk_reads.load(Relaxed)),
    ("store_commit_microseconds", "How long batches took, from the queue to the answer", |c| c.commits.sum_us()),
    ("store_group_microseconds", "How long groups took to write and sync", |c| c.group_writes.sum_us()),
];

const DISK: [Figure<DiskUse>; 3] = [
    ("store_tables_bytes", "The tables on the disk", |d| d.tables_bytes),
    ("store_memtables_bytes", "What is in memory and not in tables yet", |d| d.memtables_bytes),
    ("store_compaction_pending_bytes", "What compactions still have to rewrite", |d| d.compaction_pending_bytes),
];

impl Figures {
    pub(crate) fn new(agencies: &[Arc<Agency>], memory: SharedMemory) -> Self {
        let stores = agencies.iter().map(|agency| (agency.server_name.to_string(), Arc::downgrade(&agency.store)));
        Self { stores: stores.collect(), memory }
    }
}

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let open: Vec<(&str, Arc<HeldStore>)> =
            self.stores.iter().filter_map(|(name, store)| Some((name.as_str(), store.upgrade()?))).collect();
        for (name, help, read) in COUNTERS {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (agency, store) in &open {
                ConstCounter::new(read(store.engine().counters()))
                    .encode(metric.encode_family(&[("agency", *agency)])?)?;
            }
        }
        let disk: Vec<(&str, DiskUse)> =
            open.iter().map(|(name, store)| (*name, store.engine().disk_use().unwrap_or_default())).collect();
        for (name, help, read) in DISK {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (agency, disk) in &disk {
                gauge(read(disk)).encode(metric.encode_family(&[("agency", *agency)])?)?;
            }
        }
        let mut metric = encoder.encode_descriptor(
            "store_failed",
            "1 if the store takes no more writes because one failed",
            None,
            MetricType::Gauge,
        )?;
        for (agency, store) in &open {
            let failed = u64::from(store.engine().failure().is_some());
            gauge(failed).encode(metric.encode_family(&[("agency", *agency)])?)?;
        }
        for (name, help, bytes) in [
            ("memory_budget_bytes", "What caches and write buffers may take", self.memory.budget_bytes()),
            ("memory_used_bytes", "What caches and write buffers take", self.memory.used_bytes()),
        ] {
            let gauge = gauge(bytes as u64);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}

fn gauge(value: u64) -> ConstGauge {
    ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX))
}
