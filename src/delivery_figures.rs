//! Figures of what is delivered to push gateways and by mail, one series an agency.

use crate::agency::Agency;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// Reads the figures at each scrape.
#[derive(Debug)]
pub(crate) struct Figures(Vec<Of>);

#[derive(Debug)]
struct Of {
    agency: String,
    push: Arc<delivery::Figures>,
}

/// Name, help, and where it is.
type Figure = (&'static str, &'static str, fn(&delivery::Figures) -> &AtomicU64);

const COUNTERS: [Figure; 4] = [
    ("push_delivered", "Pushes that a gateway has accepted", |f| &f.delivered),
    ("push_failed", "Pushes that a gateway has not accepted, and that are tried again", |f| &f.failed),
    ("push_rejected", "Pushers that were removed because their gateway knows nothing of them", |f| &f.rejected),
    ("push_dropped", "Pushes that were read, redacted or too old when their turn came", |f| &f.dropped),
];

const GAUGES: [Figure; 2] = [
    ("push_busy", "Pushers that have something to send", |f| &f.busy),
    ("push_failing", "Pushers whose gateways fail", |f| &f.failing),
];

impl Figures {
    pub(crate) fn new(agencies: &[Arc<Agency>]) -> Self {
        let of = |agency: &Arc<Agency>| Of { agency: agency.server_name.to_string(), push: agency.push.figures() };
        Self(agencies.iter().map(of).collect())
    }
}

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for (name, help, read) in COUNTERS {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for of in &self.0 {
                ConstCounter::new(read(&of.push).load(Relaxed))
                    .encode(metric.encode_family(&[("agency", of.agency.as_str())])?)?;
            }
        }
        for (name, help, read) in GAUGES {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for of in &self.0 {
                ConstGauge::new(i64::try_from(read(&of.push).load(Relaxed)).unwrap_or(i64::MAX))
                    .encode(metric.encode_family(&[("agency", of.agency.as_str())])?)?;
            }
        }
        Ok(())
    }
}
