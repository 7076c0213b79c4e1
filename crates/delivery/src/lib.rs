//! Senders driven by the log.
