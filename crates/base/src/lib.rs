//! What everything above stands on: stamps, numeric ids, clock and randomness, secrets and named limits.
//!
//! Nothing here does any input or output but [`SystemClock`] and [`SystemRandom`], the only places that
//! read the machine's clock and its randomness.

mod clock;
pub mod config;
mod ids;
pub mod limits;
mod random;
mod route;
mod secret;

pub use clock::{Clock, FakeClock, SystemClock, UnixMillis};
pub use ids::{EventNum, NodeNum, Order, RoomNum, Stamp};
pub use random::{Random, SeededRandom, SystemRandom, random_string};
pub use route::Route;
pub use secret::Secret;
