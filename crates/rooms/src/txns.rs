//! Forgetting transaction ids: clients repeat a request within minutes, not days.

use crate::Inner;
use base::UnixMillis;
use std::sync::Weak;
use std::time::Duration;

/// How long a transaction id is known.
const KEPT: Duration = Duration::from_hours(24);
/// How often the old ones are forgotten.
const EVERY: Duration = Duration::from_mins(10);
/// How many are forgotten in one batch.
const BATCH_MAX: usize = 5_000;

/// Forgets old transaction ids from time to time, as long as the rooms are in use.
pub(crate) async fn forget_old(inner: Weak<Inner>) {
    loop {
        tokio::time::sleep(EVERY).await;
        let Some(inner) = inner.upgrade() else { return };
        if let Err(error) = inner.forget_txns().await {
            tracing::warn!(%error, "old transaction ids stay for now");
        }
    }
}

impl Inner {
    async fn forget_txns(&self) -> Result<(), crate::RoomError> {
        let kept_ms = u64::try_from(KEPT.as_millis()).unwrap_or(u64::MAX);
        let before = UnixMillis(self.shared.clock.now().0.saturating_sub(kept_ms));
        loop {
            let mut changes = self.records.changes(&self.records.view());
            let cleared = changes.clear_txns(before, BATCH_MAX)?;
            changes.derived();
            if !changes.is_empty() {
                self.records.commit(changes).await?;
            }
            if cleared < BATCH_MAX {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::tests::{alice, message, room_of, rooms_and_clock};
    use crate::{Preset, Txn};
    use ruma::RoomVersionId;
    use std::time::Duration;

    #[tokio::test]
    async fn a_day_later_a_transaction_id_is_new_again() {
        let (rooms, clock) = rooms_and_clock().await;
        let room = room_of(&rooms, RoomVersionId::V12, Preset::PrivateChat).await;
        let txn = || Some(Txn { device_id: "D".to_owned(), endpoint: "send".to_owned(), txn_id: "1".to_owned() });
        let first = rooms.send(&room, message(alice(), "a"), txn()).await.unwrap();
        clock.advance(Duration::from_hours(23));
        rooms.0.forget_txns().await.unwrap();
        assert_eq!(rooms.send(&room, message(alice(), "b"), txn()).await.unwrap(), first);
        clock.advance(Duration::from_hours(2));
        rooms.0.forget_txns().await.unwrap();
        assert_ne!(rooms.send(&room, message(alice(), "c"), txn()).await.unwrap(), first);
    }
}
