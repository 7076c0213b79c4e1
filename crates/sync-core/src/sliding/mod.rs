//! Sliding sync (MSC4186): the rules of a request, the order of rooms in its lists, and what a connection has
//! been told. Nothing here reads a store or knows JSON; the crate `sync` does.

pub mod connection;
pub mod filter;
pub mod order;
pub mod position;
pub mod required;
pub mod rules;

pub use connection::{Begun, Connection, Draft, Save, Sent, UnknownPosition};
pub use filter::{ListFilter, RoomFacts};
pub use order::RoomOrder;
pub use position::Position;
pub use required::{Element, Lookup, RequiredState, Wanted};
pub use rules::{Extensions, ListRule, Match, RoomRule, RuleError, Rules, Scope};
