//! Where `tracing` goes.

use crate::config::{Log, LogFormat};
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// Begins to log, to the standard error stream. A second call changes nothing.
pub(crate) fn begin(config: &Log) {
    let filter = std::env::var("CHANCERY_LOG").ok().filter(|filter| !filter.is_empty());
    let filter = EnvFilter::builder().parse_lossy(filter.as_deref().unwrap_or(&config.filter));
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let begun = match config.format {
        LogFormat::Json => subscriber.json().flatten_event(true).try_init(),
        LogFormat::Text => subscriber.with_ansi(std::io::stderr().is_terminal()).with_target(false).try_init(),
    };
    if begun.is_ok() {
        log_panics();
    }
}

/// Panics are bugs: they are logged as errors, where operators look, with their place.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let payload = panic.payload();
        let message = payload.downcast_ref::<&str>().copied();
        let message = message.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or_default();
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, message, "the program panicked; please report this");
    }));
}
