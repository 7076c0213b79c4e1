//! Senders that the log drives: what happens is told to those who asked for it outside of the client-server API.
//!
//! [`Push`] tells push gateways. What is to be sent when, and what is tried again, is decided in `delivery_core`; whom
//! an event notifies, in `sync`.

mod push;

pub use push::{BadUrl, Config, Figures, GatewayRules, Push, Sources};
