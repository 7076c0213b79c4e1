//! Ordered, batched, backing-off delivery to one peer, as a state machine: a push gateway's device, another
//! homeserver, an application service.
//!
//! [`Delivery`] decides what is to be sent next, when a failure is tried again, and up to where all is done. It has
//! neither clock nor randomness nor store: the time and the jitter are given with each question, what a batch means
//! is its user's. What it can't hold in memory it forgets, and asks for again with [`Next::CatchUp`]: so a peer that
//! is away for days costs no more memory than one that is slow.

mod backoff;
mod delivery;
#[cfg(test)]
mod tests;

pub use backoff::{Backoff, Jitter};
pub use delivery::{Delivery, Limits, Next, Offered, Outcome};
