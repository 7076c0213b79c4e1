//! Finishing what a stop of the process cut off: users whose accounts have ended leave their rooms.

use crate::{Inner, Rooms};
use std::sync::Weak;
use std::time::Duration;

/// How many users are looked up at once.
const PAGE: usize = 100;
/// When to try again, if a room could not be left.
const RETRY: Duration = Duration::from_mins(1);

/// Takes those out of their rooms whose accounts had ended when the process stopped.
pub(crate) async fn resume(inner: Weak<Inner>) {
    while let Some(inner) = inner.upgrade() {
        match Rooms(inner).resume_departures().await {
            Ok(()) => return,
            Err(error) => tracing::warn!(%error, "users whose accounts have ended are still in rooms; trying again"),
        }
        tokio::time::sleep(RETRY).await;
    }
}

impl Rooms {
    async fn resume_departures(&self) -> Result<(), crate::RoomError> {
        loop {
            let departing = self.records().view().departing(PAGE)?;
            if departing.is_empty() {
                return Ok(());
            }
            for user in departing {
                self.leave_all(&user).await?;
                tracing::info!(%user, "a user whose account has ended is out of all rooms now");
            }
        }
    }
}
