//! Requests to other servers: where they are, who they are, and how far they are trusted.
//!
//! [`outgoing`] is the one way in which this server asks anything of anybody over HTTP; [`Peers`] is that for other
//! homeservers, and [`Keys`] says what they have signed. What is asked and why is for the crates above.

mod config;
mod discovery;
mod hosts;
mod keys;
pub mod outgoing;
mod peers;
mod signing;

#[cfg(test)]
mod testing;

pub use config::Config;
pub use hosts::{Hosts, HostsError};
pub use keys::{Keys, KeysError, RequestError, SignedRequest};
pub use outgoing::Outgoing;
pub use peers::{BackOff, Body, Call, PeerError, Peers, segment};
pub use signing::{XMatrix, signed_text};
