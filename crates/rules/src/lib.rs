//! What the Matrix specification decides, as pure functions: event format, hashes, signatures, redaction,
//! authorization, state resolution, history visibility, server ACLs and filters.
//!
//! There is no clock, no randomness, no store and no network here: whatever a rule needs is an argument.
//! Nothing panics on input from the network or the disk, and nothing recurses deeper than
//! [`base::limits::JSON_DEPTH_MAX`].

pub mod auth;
pub mod client_event;
pub mod draft;
pub mod filter;
pub mod id;
pub mod ignored;
pub mod incoming;
pub mod invites;
mod json;
pub mod key;
mod key_ring;
pub mod pdu;
pub mod power;
pub mod push;
pub mod redaction;
pub mod relation;
pub mod resolve;
pub mod server_acl;
pub mod signed;
#[cfg(test)]
mod testing;
pub mod version;
pub mod visibility;

pub use auth::{Forbidden, StateKey};
pub use draft::{BuildError, PduDraft, build, countersign};
pub use ignored::IgnoredUsers;
pub use incoming::{Checked, CheckedPdu};
pub use invites::InviteVerdict;
pub use key::SigningKey;
pub use key_ring::{KeyRing, OldKey};
pub use pdu::{Pdu, PduError};
pub use power::PowerLevels;
pub use relation::Relation;
pub use resolve::{ResolveError, StateMap, resolve};
pub use version::{DEFAULT_ROOM_VERSION, SUPPORTED, room_rules};
