//! The Matrix server-server API, as other servers ask it: requests are authenticated by their signatures, answered
//! from what is stored, and what they bring is handed to the rooms.
//!
//! Every answer is for the server that asks: it gets what its users may see of rooms that it is in, and no more. What
//! takes asking others is [`federation`]'s.

mod access;
mod authentication;
mod backfill;
mod edus;
mod entering;
mod event;
mod hierarchy;
mod invite;
mod join;
mod keys;
mod knock;
mod leave;
mod media;
mod public_rooms;
mod query;
mod state;
mod templates;
#[cfg(test)]
mod tests;
mod third_party;
mod timestamp;
mod transactions;
mod user;
mod version;

pub use authentication::Origin;
pub use transactions::Transactions;

use accounts::Accounts;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post, put};
use base::Clock;
use devices::Devices;
use face::{ApiError, route_name, wire};
use federation::Federation;
use records::Records;
use remote::{Keys, Peers};
use rooms::Rooms;
use ruma::OwnedServerName;
use std::sync::Arc;
use sync::Syncs;
use tokio::sync::Semaphore;

/// The largest body of a request that is not a transaction: an event with what an invitation shows of its room, or a
/// question about the keys of many users.
const BODY_BYTES_MAX: usize = 2 * 1024 * 1024;
/// How many answers with a room's whole state are put together at the same time; each may take tens of megabytes.
pub const LARGE_AT_ONCE: usize = 4;

/// What the endpoints of one agency work on.
pub struct State {
    /// The agency's name.
    pub server_name: OwnedServerName,
    /// What is stored.
    pub records: Records,
    /// The rooms.
    pub rooms: Rooms,
    /// Users.
    pub accounts: Accounts,
    /// Keys, messages to devices.
    pub devices: Devices,
    /// Files.
    pub media: ::media::Media,
    /// Who waits for what.
    pub syncs: Syncs,
    /// What takes other servers.
    pub federation: Federation,
    /// The way to other servers.
    pub peers: Peers,
    /// The keys of servers.
    pub keys: Keys,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The largest transaction, in bytes.
    pub transaction_bytes_max: usize,
    /// The transactions that are under way, and those that have just been; begins empty.
    pub transactions: Transactions,
    /// Held while an answer with a room's whole state is put together: [`LARGE_AT_ONCE`].
    pub large: Arc<Semaphore>,
}

impl wire::BodyLimit for State {
    fn body_bytes_max(&self) -> usize {
        // What comes through the middleware was read within its limits.
        self.transaction_bytes_max.max(BODY_BYTES_MAX)
    }
}

/// All endpoints of one agency. It has no fallback for what does not exist: that is the router's that it is merged
/// into.
pub fn router(state: Arc<State>) -> Router {
    let v1 = |path: &str| format!("/_matrix/federation/v1{path}");
    let v2 = |path: &str| format!("/_matrix/federation/v2{path}");
    let signed = Router::new()
        .route(&v1("/send/{txn_id}"), put(transactions::send))
        .route(&v1("/event/{event_id}"), get(event::event))
        .route(&v1("/event_auth/{room_id}/{event_id}"), get(event::event_auth))
        .route(&v1("/state/{room_id}"), get(state::state))
        .route(&v1("/state_ids/{room_id}"), get(state::state_ids))
        .route(&v1("/backfill/{room_id}"), get(backfill::backfill))
        .route(&v1("/get_missing_events/{room_id}"), post(backfill::missing_events))
        .route(&v1("/timestamp_to_event/{room_id}"), get(timestamp::timestamp_to_event))
        .route(&v1("/make_join/{room_id}/{user_id}"), get(join::make))
        .route(&v1("/send_join/{room_id}/{event_id}"), put(join::send_v1))
        .route(&v2("/send_join/{room_id}/{event_id}"), put(join::send))
        .route(&v1("/make_leave/{room_id}/{user_id}"), get(leave::make))
        .route(&v1("/send_leave/{room_id}/{event_id}"), put(leave::send_v1))
        .route(&v2("/send_leave/{room_id}/{event_id}"), put(leave::send))
        .route(&v1("/make_knock/{room_id}/{user_id}"), get(knock::make))
        .route(&v1("/send_knock/{room_id}/{event_id}"), put(knock::send))
        .route(&v1("/invite/{room_id}/{event_id}"), put(invite::v1))
        .route(&v2("/invite/{room_id}/{event_id}"), put(invite::v2))
        .route(&v1("/exchange_third_party_invite/{room_id}"), put(third_party::exchange))
        .route(&v1("/publicRooms"), get(public_rooms::list).post(public_rooms::search))
        .route(&v1("/hierarchy/{room_id}"), get(hierarchy::hierarchy))
        .route(&v1("/query/directory"), get(query::directory))
        .route(&v1("/query/profile"), get(query::profile))
        .route(&v1("/media/download/{media_id}"), get(media::download))
        .route(&v1("/media/thumbnail/{media_id}"), get(media::thumbnail))
        .route(&v1("/user/devices/{user_id}"), get(user::devices))
        .route(&v1("/user/keys/query"), post(user::query_keys))
        .route(&v1("/user/keys/claim"), post(user::claim_keys))
        .route_layer(DefaultBodyLimit::disable())
        .route_layer(from_fn_with_state(state.clone(), authentication::authenticate));
    let key = |path: &str| format!("/_matrix/key/v2{path}");
    let unsigned = Router::new()
        .route(&v1("/version"), get(version::version))
        .route(&v1("/3pid/onbind"), put(third_party::on_bind))
        .route(&key("/server"), get(keys::server))
        // Older servers still ask for one key.
        .route(&key("/server/"), get(keys::server))
        .route(&key("/server/{key_id}"), get(keys::server))
        .route(&key("/query"), post(keys::query))
        .route(&key("/query/{server_name}"), get(keys::query_one))
        .route(&key("/query/{server_name}/{key_id}"), get(keys::query_key));
    signed
        .merge(unsigned)
        .route_layer(axum::middleware::from_fn(route_name::name_route))
        .method_not_allowed_fallback(async || ApiError::wrong_method())
        .with_state(state)
}
