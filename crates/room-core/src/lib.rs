//! One room as a state machine: what an input needs to know, what the room decides about it, and what the
//! room is afterwards.
//!
//! Nothing here waits, reads a clock or touches a store. [`needs`] names the facts, the caller looks them
//! up, [`decide`] answers with a [`Verdict`], and once the caller has made a [`Change`] durable,
//! [`Room::apply`] makes it the room's own. Users' drafts and other servers' events take the same way: a
//! draft becomes an event first and is then judged by the same rules.

mod decide;
mod draft;
mod room;
#[cfg(test)]
mod tests;

pub use decide::{Change, EarlyRedaction, Env, Facts, Needs, Standing, StateFacts, Verdict, decide, needs};
pub use draft::{Draft, Refusal};
pub use room::{Input, Room, Tip};
