//! Figures of the process, from /proc.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use std::fmt;
use std::fs;

/// Reads the figures at each scrape. What the system doesn't tell is left out.
#[derive(Debug)]
pub(crate) struct Figures;

/// The ticks of the times in /proc/self/stat, which is 100 a second on every Linux there is.
const TICKS_A_SECOND: f64 = 100.0;

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        if let Some(bytes) = status("VmRSS:") {
            gauge(&mut encoder, "process_resident_memory_bytes", "Memory in use", bytes * 1024)?;
        }
        if let Some(bytes) = status("VmHWM:") {
            gauge(&mut encoder, "process_resident_memory_max_bytes", "The most memory ever in use", bytes * 1024)?;
        }
        if let Some(threads) = status("Threads:") {
            gauge(&mut encoder, "process_threads", "Threads", threads)?;
        }
        if let Ok(files) = fs::read_dir("/proc/self/fd") {
            let open = i64::try_from(files.count()).unwrap_or(i64::MAX);
            gauge(&mut encoder, "process_open_fds", "Open files and sockets", open)?;
        }
        if let Some(seconds) = cpu_seconds() {
            let counter = ConstCounter::new(seconds);
            let metric = encoder.encode_descriptor(
                "process_cpu_seconds",
                "Processor time, of the program and of the system for it",
                None,
                counter.metric_type(),
            )?;
            counter.encode(metric)?;
        }
        Ok(())
    }
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: i64) -> Result<(), fmt::Error> {
    let gauge = ConstGauge::new(value);
    gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
}

/// A number of /proc/self/status.
fn status(name: &str) -> Option<i64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

fn cpu_seconds() -> Option<f64> {
    let text = fs::read_to_string("/proc/self/stat").ok()?;
    // The name of the program is in parentheses and may have blanks; utime and stime are 12th and 13th after it.
    let (_, fields) = text.rsplit_once(')')?;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<f64>);
    Some(ticks.sum::<Result<f64, _>>().ok()? / TICKS_A_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_knows_its_memory_and_time() {
        assert!(status("VmRSS:").unwrap() > 100);
        assert!(cpu_seconds().unwrap() >= 0.0);
    }
}
