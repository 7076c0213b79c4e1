//! Rooms: creating them, membership, what is said in them, and reading it back.

mod access;
mod alias;
mod context;
mod create;
mod delayed;
mod error;
mod event;
mod federation;
mod follow;
mod initial_sync;
mod join;
mod joined_rooms;
mod members;
mod membership;
mod messages;
mod mutual;
mod published;
mod redact;
mod relations;
mod report;
mod search;
mod send;
mod state;
#[cfg(test)]
mod tests;
mod thread_subscriptions;
mod threads;
mod timeline;
mod timestamp;
mod upgrade;

pub(crate) use delayed::start as start_delayed;
pub use delayed::{Delayed, DelayedEvents};

use crate::State;
use crate::routes::Routes as _;
use axum::Router;
use axum::routing::{get, post, put};
use std::sync::Arc;

/// The endpoints of rooms.
pub(crate) fn routes() -> Router<Arc<State>> {
    Router::new()
        .v3("/createRoom", post(create::create))
        .v3("/join/{room_id_or_alias}", post(join::join_by_id_or_alias))
        .v3_once("unstable/xyz.amorgan.knock", "/knock/{room_id_or_alias}", post(join::knock))
        .v3("/joined_rooms", get(joined_rooms::joined_rooms))
        .v3("/rooms/{room_id}/join", post(join::join_by_id))
        .v3("/rooms/{room_id}/invite", post(membership::invite))
        .v3("/rooms/{room_id}/kick", post(membership::kick))
        .v3("/rooms/{room_id}/ban", post(membership::ban))
        .v3("/rooms/{room_id}/unban", post(membership::unban))
        .v3("/rooms/{room_id}/leave", post(membership::leave))
        .v3("/rooms/{room_id}/forget", post(membership::forget))
        .v3("/rooms/{room_id}/send/{event_type}/{txn_id}", put(send::send))
        .v3("/rooms/{room_id}/redact/{event_id}/{txn_id}", put(redact::redact))
        .v3("/rooms/{room_id}/state", get(state::all))
        .v3("/rooms/{room_id}/state/{event_type}", get(state::get_without_key).put(state::put_without_key))
        .v3("/rooms/{room_id}/state/{event_type}/", get(state::get_without_key).put(state::put_without_key))
        .v3("/rooms/{room_id}/state/{event_type}/{state_key}", get(state::get).put(state::put))
        .v3("/rooms/{room_id}/event/{event_id}", get(event::event))
        .v3("/events/{event_id}", get(event::anywhere))
        .v3("/rooms/{room_id}/initialSync", get(initial_sync::of_room))
        .v3("/initialSync", get(initial_sync::of_user))
        .v3("/rooms/{room_id}/context/{event_id}", get(context::context))
        .v3("/rooms/{room_id}/messages", get(messages::messages))
        .merge(delayed::routes())
        .merge(mutual::routes())
        .merge(relations::routes())
        .merge(threads::routes())
        .merge(thread_subscriptions::routes())
        .v3("/rooms/{room_id}/members", get(members::members))
        .v3("/rooms/{room_id}/joined_members", get(members::joined))
        .v3_once("unstable/org.matrix.msc2432", "/rooms/{room_id}/aliases", get(alias::of_room))
        .v3("/directory/room/{room_alias}", get(alias::get).put(alias::put).delete(alias::delete))
        .v3("/search", post(search::search))
        .v3("/rooms/{room_id}/upgrade", post(upgrade::upgrade))
        .v3("/rooms/{room_id}/report", post(report::room))
        .v3("/rooms/{room_id}/report/{event_id}", post(report::event))
        .v3("/users/{user_id}/report", post(report::user))
        .v1("/rooms/{room_id}/timestamp_to_event", get(timestamp::timestamp_to_event))
        // As clients in service call them that know them from before they were stable.
        .route(
            "/_matrix/client/unstable/org.matrix.msc3030/rooms/{room_id}/timestamp_to_event",
            get(timestamp::timestamp_to_event),
        )
        .route("/_matrix/client/unstable/org.matrix.msc4151/rooms/{room_id}/report", post(report::room))
        .route("/_matrix/client/unstable/org.matrix.msc4260/users/{user_id}/report", post(report::user))
        .v3("/directory/list/room/{room_id}", get(published::get).put(published::put))
}
