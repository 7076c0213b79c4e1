//! Numbers that stand for things inside the process and the store. They never leave either: clients and
//! peers see only Matrix identifiers and opaque tokens.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident, $inner:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// The place of a commit in the total order of all commits of one agency. The first is 1; 0 means
    /// "before everything".
    Stamp, u64
}
number! {
    /// A room as this agency numbers it.
    RoomNum, u64
}
number! {
    /// An event as this agency numbers it, whether it is in a timeline or not.
    EventNum, u64
}
number! {
    /// A node of a persistent room state map.
    NodeNum, u64
}
number! {
    /// The place of an event in its room's timeline. Events that came live have their stamp; events that
    /// were backfilled count down from -1.
    Order, i64
}

impl Stamp {
    /// The stamp after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl From<Stamp> for Order {
    fn from(stamp: Stamp) -> Self {
        Self(i64::try_from(stamp.0).unwrap_or(i64::MAX))
    }
}
