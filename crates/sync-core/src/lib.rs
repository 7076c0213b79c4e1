//! What sync decides, as pure functions: tokens, windows of timelines, gaps, which members a client needs,
//! room summaries, and filters made ready.
//!
//! There is no store, no clock and no waiting here: the crate `sync` brings what these functions ask for.

pub mod fields;
pub mod filter;
pub mod lazy;
pub mod recent;
pub mod sliding;
pub mod summary;
pub mod token;
pub mod window;

pub use filter::{EventFormat, LazyMembers, SyncFilter};
pub use lazy::SentMembers;
pub use recent::Recent;
pub use token::{PageToken, SyncToken, TokenError};
pub use window::{Window, WindowBuilder};
