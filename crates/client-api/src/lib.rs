//! The Matrix client-server API: what a request asks is read from HTTP, done by the crates below, and answered.
//!
//! Only here are status codes and error codes known. Every area is a module with a `routes` function, and
//! every endpoint a function that takes what it needs through extractors: `wire::Wire` for the request,
//! `session::Session` for who asks. CORS, timeouts and the size of the whole request are layered around
//! [`router`] by the binary.

mod account;
mod calls;
mod directory;
mod discovery;
mod encryption;
#[cfg(test)]
mod every_endpoint;
mod guests;
mod limits;
mod media;
mod rooms;
mod routes;
mod session;
mod shadow_ban;
mod suspension;
mod sync;
#[cfg(test)]
mod testing;
mod third_party;

pub use account::{Interactive, Mail, Nonces};
pub use calls::{Calls, RtcTransport, Turn};
pub use face::ApiError;
pub use limits::{Limits, Rate, RateLimits};
pub use rooms::{Delayed, DelayedEvents};
pub use session::ClientAddress;

use accounts::Accounts;
use axum::Router;
use base::config::ByteSize;
use base::{Clock, Random};
use face::{route_name, wire};
use records::Records;
use ruma::OwnedServerName;
use std::sync::Arc;

base::config! {
    /// The client-server API: what clients may send, and how often.
    pub struct Config {
        /// The largest body of a request, uploads of files apart. Events are at most 64 KiB by the
        /// specification; this bounds account data, filters and the state that a new room starts with.
        pub body_bytes_max: ByteSize = ByteSize::mib(1),
        /// Whether access tokens are taken from the query too (`?access_token=`), as very old clients send them.
        /// Proxies write queries into their logs.
        pub access_token_in_query: bool = false,
        /// Whether only those who are logged in get to see the list of published rooms and summaries of rooms
        /// that everybody can join or read. Else everybody does, as the specification has it.
        pub directory_needs_login: bool = false,
        /// Whether users find all users of the server in the user directory. Else they find those with whom they
        /// share a room, and those who are in a room that everybody can join or read.
        pub find_all_users: bool = false,
        /// Events that are sent later.
        pub delayed_events: DelayedEvents,
        /// How often clients may do what.
        pub limits: Limits,
        /// What clients need for calls.
        pub calls: Calls,
    }
}

/// What the endpoints of one agency work on.
pub struct State {
    /// The agency's name.
    pub server_name: OwnedServerName,
    /// What is stored.
    pub records: Records,
    /// Users, sessions, and what users store.
    pub accounts: Accounts,
    /// Keys, messages to devices, backups.
    pub devices: ::devices::Devices,
    /// Files.
    pub media: ::media::Media,
    /// The rooms.
    pub rooms: ::rooms::Rooms,
    /// Other servers.
    pub federation: ::federation::Federation,
    /// Full-text search.
    pub search: ::search::Search,
    /// Sync: who waits for what.
    pub syncs: ::sync::Syncs,
    /// The way in which users get mails, if there is one.
    pub mail: Option<Mail>,
    /// Which push gateways users may choose.
    pub gateways: delivery::GatewayRules,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
    /// The settings.
    pub config: Config,
    /// Who did how much lately; [`RateLimits::new`] with the same settings and clock.
    pub limits: RateLimits,
    /// The authentications that are under way; begins empty, as [`Interactive::default`].
    pub interactive: Interactive,
    /// What tools that make accounts have to sign; begins empty, as [`Nonces::default`].
    pub nonces: Nonces,
    /// What wakes the task that sends delayed events; begins as [`Delayed::default`].
    pub delayed: Delayed,
}

impl wire::BodyLimit for State {
    fn body_bytes_max(&self) -> usize {
        self.config.body_bytes_max.bytes()
    }
}

/// Starts what an agency does by itself: sending delayed events. It ends with the state. To be called within a runtime.
pub fn start(state: &Arc<State>) {
    rooms::start_delayed(state);
}

/// All endpoints of one agency.
///
/// What does not exist answers 404 `M_UNRECOGNIZED`, and a method that an endpoint doesn't have answers 405
/// `M_UNRECOGNIZED` (client-server API, "Common error codes"). The address of the client is expected as a
/// request extension of the type [`ClientAddress`].
pub fn router(state: Arc<State>) -> Router {
    Router::new()
        .merge(discovery::routes())
        .merge(account::routes())
        .merge(calls::routes())
        .merge(directory::routes())
        .merge(encryption::routes())
        .merge(media::routes())
        .merge(rooms::routes())
        .merge(sync::routes())
        .merge(third_party::routes())
        .route_layer(axum::middleware::from_fn(route_name::name_route))
        .fallback(async || ApiError::unrecognized())
        .method_not_allowed_fallback(async || ApiError::wrong_method())
        .with_state(state)
}
