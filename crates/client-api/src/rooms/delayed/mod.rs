//! Delayed events (MSC4140): scheduling them, managing them, and sending those that are due.
//!
//! Clients in service schedule them with a parameter of `PUT …/send` and `PUT …/state`, as an earlier version of the
//! proposal had it; the present one has an endpoint of its own. Both are here.

mod manage;
mod schedule;
mod send;
#[cfg(test)]
mod tests;

pub(super) use schedule::{delay_in_query, schedule};
pub(crate) use send::start;

use crate::State;
use axum::Router;
use axum::routing::{get, post, put};
use base::config::Checks;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

const BASE: &str = "/_matrix/client/unstable/org.matrix.msc4140";
/// The most events of a user that the settings can let wait at the same time.
pub(crate) const SCHEDULED_MAX: u32 = 1_000;

base::config! {
    /// Delayed events (MSC4140): messages that are sent later, and what a client in a call wants to be said for it
    /// if it is cut off.
    #[check = DelayedEvents::check]
    pub struct DelayedEvents {
        /// How many events of a user may wait to be sent; 0 turns delayed events off.
        pub scheduled_max: u32 = 100,
        /// How long an event may wait.
        pub delay_max: Duration = Duration::from_hours(30 * 24),
        /// Whether those who know the id of a delayed event may restart, send or cancel it without being logged in,
        /// as services that look after calls for their users do. An id is a secret of 256 bits.
        pub manage_without_login: bool = true,
    }
}

impl DelayedEvents {
    fn check(&self, wrong: &mut Checks<'_, '_>) {
        if self.scheduled_max > SCHEDULED_MAX {
            wrong.key("scheduled_max", "must be 1000 at most");
        }
        if self.delay_max.is_zero() {
            wrong.key("delay_max", "must be longer than nothing");
        }
    }
}

/// Tells the task that sends what is due that something is due earlier than it knows.
#[derive(Debug, Default)]
pub struct Delayed {
    pub(crate) changed: Arc<Notify>,
}

impl Drop for Delayed {
    fn drop(&mut self) {
        // The task looks, finds nothing to work on, and ends.
        self.changed.notify_one();
    }
}

/// The endpoints, under the names that they have until they are accepted.
pub(super) fn routes() -> Router<Arc<State>> {
    Router::new()
        .route(&format!("{BASE}/rooms/{{room_id}}/delayed_event/{{event_type}}/{{txn_id}}"), put(schedule::put))
        .route(&format!("{BASE}/delayed_events"), get(manage::all))
        .route(&format!("{BASE}/delayed_events/{{delay_id}}"), get(manage::show).post(manage::act_by_body))
        .route(&format!("{BASE}/delayed_events/{{delay_id}}/{{action}}"), post(manage::act))
}
