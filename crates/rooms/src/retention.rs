//! How long what is said in rooms is kept (`m.room.retention`, MSC1763): what is older is not shown any more from
//! then on, and removed from time to time. State is kept.

use crate::purge::PURGED_AT_ONCE_MAX;
use crate::{Inner, RoomError, RoomReader, Rooms, StoredEvent};
use base::config::Checks;
use base::{EventNum, RoomNum, UnixMillis};
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::Weak;
use std::time::Duration;
use store::Direction;

/// The type of the state event.
const KIND: &str = "m.room.retention";
/// How many rooms are looked up at once.
const ROOMS_AT_ONCE: usize = 100;
/// After how many rounds all of a room is looked at again, for what has come late and says that it is old.
const ROUNDS_BEFORE_ALL: u32 = 24;

base::config! {
    /// How long what is said in rooms is kept. Rooms can say it of themselves with `m.room.retention`. State, such as
    /// names and memberships, is kept in any case.
    #[check = Retention::check]
    pub struct Retention {
        /// Whether anything is removed because it is old.
        pub enabled: bool = false,
        /// How long it is kept in rooms that don't say. Unset: for ever.
        #[example = r#""52w""#]
        pub default_lifetime: Option<Duration>,
        /// The shortest time that a room can choose.
        #[example = r#""1d""#]
        pub lifetime_min: Option<Duration>,
        /// The longest time, also of rooms that don't say.
        #[example = r#""260w""#]
        pub lifetime_max: Option<Duration>,
        /// How often what is too old is removed. It is shown to nobody before that.
        pub purge_every: Duration = Duration::from_hours(1),
    }
}

impl Retention {
    fn check(&self, wrong: &mut Checks<'_, '_>) {
        if let (Some(min), Some(max)) = (self.lifetime_min, self.lifetime_max)
            && min > max
        {
            wrong.key("lifetime_min", "must not be longer than `lifetime_max`");
        }
        for (key, lifetime) in [
            ("default_lifetime", self.default_lifetime),
            ("lifetime_min", self.lifetime_min),
            ("lifetime_max", self.lifetime_max),
            ("purge_every", Some(self.purge_every)),
        ] {
            if lifetime.is_some_and(|lifetime| lifetime < Duration::from_secs(1)) {
                wrong.key(key, "must be at least \"1s\"");
            }
        }
    }

    /// How long it is kept in a room that says this of itself.
    fn lifetime(&self, of_room: Option<Duration>) -> Option<Duration> {
        let lifetime = match of_room {
            Some(lifetime) => Some(self.lifetime_min.map_or(lifetime, |min| lifetime.max(min))),
            None => self.default_lifetime,
        };
        match (lifetime, self.lifetime_max) {
            (Some(lifetime), Some(max)) => Some(lifetime.min(max)),
            (lifetime, max) => lifetime.or(max),
        }
    }
}

impl StoredEvent {
    /// Whether it is no state and was said before this time.
    pub(crate) fn is_expired(&self, before: UnixMillis) -> bool {
        self.pdu.state_key().is_none() && u64::from(self.pdu.origin_server_ts().0) < before.0
    }
}

impl RoomReader {
    /// Before when what was said is not kept any more, if it is not kept for ever.
    pub(crate) fn expired_before(&self) -> Result<Option<UnixMillis>, RoomError> {
        #[derive(Deserialize)]
        struct Content {
            max_lifetime: Option<u64>,
        }

        let Some((retention, now)) = &self.retention else { return Ok(None) };
        if let Some(known) = self.expired_before.get() {
            return Ok(*known);
        }
        let event = self.state_event(self.head.state, KIND, "")?;
        let content = event.and_then(|event| serde_json::from_str::<Content>(event.pdu.content().get()).ok());
        let of_room = content.and_then(|content| content.max_lifetime).filter(|lifetime| *lifetime > 0);
        let lifetime = retention.lifetime(of_room.map(Duration::from_millis));
        let millis = |lifetime: Duration| u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX);
        let before = lifetime.map(|lifetime| UnixMillis(now.0.saturating_sub(millis(lifetime))));
        Ok(*self.expired_before.get_or_init(|| before))
    }
}

/// Removes what is too old from time to time, as long as the rooms are in use.
pub(crate) async fn purge_expired(inner: Weak<Inner>, every: Duration) {
    let mut done = Done::default();
    loop {
        tokio::time::sleep(every).await;
        let Some(inner) = inner.upgrade() else { return };
        match Rooms(inner).purge_all_expired(&mut done).await {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "events that rooms keep no longer were removed"),
            Err(error) => tracing::warn!(%error, "events that rooms keep no longer could not be removed"),
        }
    }
}

/// Up to which time each room was looked at.
#[derive(Default)]
pub(crate) struct Done {
    rooms: HashMap<RoomNum, UnixMillis>,
    rounds: u32,
}

impl Rooms {
    /// Removes what is too old in all rooms. Answers how many events are gone.
    pub(crate) async fn purge_all_expired(&self, done: &mut Done) -> Result<usize, RoomError> {
        done.rounds = done.rounds.wrapping_add(1);
        if done.rounds.is_multiple_of(ROUNDS_BEFORE_ALL) {
            done.rooms.clear();
        }
        let (mut after, mut purged) = (None, 0);
        loop {
            let rooms = self.records().view().rooms(after, ROOMS_AT_ONCE)?;
            let Some((last, _)) = rooms.last() else { return Ok(purged) };
            after = Some(*last);
            for (num, _) in rooms {
                match self.purge_expired(num, done.rooms.get(&num).copied().unwrap_or_default()).await {
                    Ok((before, count)) => {
                        purged += count;
                        done.rooms.extend(before.map(|before| (num, before)));
                    }
                    // The others don't suffer for one that is busy or broken.
                    Err(error) => tracing::warn!(room = %num, %error, "a room keeps what it should not for now"),
                }
            }
        }
    }

    /// Removes what is too old in a room, from a time on. Answers up to which time it was looked at, and how many
    /// events are gone.
    async fn purge_expired(&self, num: RoomNum, from: UnixMillis) -> Result<(Option<UnixMillis>, usize), RoomError> {
        let (mut beyond, mut purged) = (None, 0);
        loop {
            let (before, events, last) = {
                let view = self.records().view();
                let Some(reader) = self.reader(&view, num)? else { return Ok((None, purged)) };
                let Some(before) = reader.expired_before()? else { return Ok((None, purged)) };
                let rows = view.events_from_time(num, from, beyond, Direction::Forward, PURGED_AT_ONCE_MAX)?;
                let rows: Vec<_> = rows.into_iter().take_while(|row| row.at < before).collect();
                let nums: Vec<EventNum> = rows.iter().map(|row| row.event).collect();
                let events = reader.events(&nums)?.into_iter().filter(|event| event.pdu.state_key().is_none());
                let events: Vec<EventNum> = events.map(|event| event.num).collect();
                (before, events, rows.last().copied())
            };
            if last.is_none() {
                return Ok((Some(before), purged));
            }
            beyond = last;
            purged += self.purge(num, events).await?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{alice, bob, key, message, raw, reader, room_of};
    use crate::{Config, Draft, MembershipChange, Preset};
    use base::{FakeClock, Order, SeededRandom};
    use records::Records;
    use ruma::{OwnedEventId, RoomId, RoomVersionId, owned_server_name};
    use serde_json::json;
    use std::sync::Arc;
    use store::MemoryEngine;

    const DAY: Duration = Duration::from_hours(24);

    async fn rooms(retention: Retention) -> (Rooms, Arc<FakeClock>) {
        let records = Records::open(Arc::new(MemoryEngine::new())).await.unwrap();
        let clock = Arc::new(FakeClock::new(UnixMillis(1_700_000_000_000)));
        let key = Arc::new(key(owned_server_name!("here.example"), 1));
        let config = Config { retention, ..Config::default() };
        (Rooms::new(records, key, clock.clone(), Arc::new(SeededRandom::new(1)), config), clock)
    }

    fn sees(rooms: &Rooms, room: &RoomId, event: &OwnedEventId) -> Option<bool> {
        let reader = reader(rooms, room);
        let event = reader.event_by_id(event).unwrap()?;
        Some(reader.visible(&alice(), &[event]).unwrap()[0].is_some())
    }

    #[test]
    fn a_room_chooses_between_the_shortest_and_the_longest_time() {
        let retention = Retention {
            default_lifetime: Some(7 * DAY),
            lifetime_min: Some(2 * DAY),
            lifetime_max: Some(30 * DAY),
            ..Retention::default()
        };
        assert_eq!(retention.lifetime(None), Some(7 * DAY));
        assert_eq!(retention.lifetime(Some(DAY)), Some(2 * DAY));
        assert_eq!(retention.lifetime(Some(5 * DAY)), Some(5 * DAY));
        assert_eq!(retention.lifetime(Some(50 * DAY)), Some(30 * DAY));
        assert_eq!(Retention::default().lifetime(None), None);
        assert_eq!(Retention { lifetime_max: Some(DAY), ..Retention::default() }.lifetime(None), Some(DAY));
    }

    #[tokio::test]
    async fn what_is_too_old_is_not_shown_and_then_removed_and_state_stays() {
        let (rooms, clock) = rooms(Retention { enabled: true, ..Retention::default() }).await;
        let room = room_of(&rooms, RoomVersionId::V12, Preset::PublicChat).await;
        let kept = room_of(&rooms, RoomVersionId::V12, Preset::PublicChat).await;
        let content = raw(&json!({ "max_lifetime": 86_400_000 }));
        rooms.send(&room, Draft::state(alice(), KIND, "", content), None).await.unwrap();
        let old = rooms.send(&room, message(alice(), "old"), None).await.unwrap();
        let other = rooms.send(&kept, message(alice(), "kept"), None).await.unwrap();
        let joined = rooms.change_membership(&room, &bob(), MembershipChange::Join, None, None).await.unwrap().unwrap();
        assert_eq!(sees(&rooms, &room, &old), Some(true));
        clock.advance(DAY / 2);
        let new = rooms.send(&room, message(alice(), "new"), None).await.unwrap();
        clock.advance(DAY / 2 + Duration::from_secs(1));
        assert_eq!(sees(&rooms, &room, &old), Some(false));
        assert_eq!(sees(&rooms, &room, &joined), Some(true));
        assert_eq!((sees(&rooms, &room, &new), sees(&rooms, &kept, &other)), (Some(true), Some(true)));

        let mut done = Done::default();
        assert_eq!(rooms.purge_all_expired(&mut done).await.unwrap(), 1);
        assert_eq!(sees(&rooms, &room, &old), None);
        assert_eq!((sees(&rooms, &room, &new), sees(&rooms, &kept, &other)), (Some(true), Some(true)));
        assert_eq!(rooms.purge_all_expired(&mut done).await.unwrap(), 0);
        // Pages go on over the gap.
        let events = reader(&rooms, &room).timeline(Order(i64::MIN), Order(i64::MAX), Direction::Backward, 2).unwrap();
        assert_eq!(events.iter().map(|event| event.pdu.event_id()).collect::<Vec<_>>(), [&new, &joined]);
        // The newest event of a room stays though it is old: the next one follows it. It is not shown.
        clock.advance(10 * DAY);
        assert_eq!(rooms.purge_all_expired(&mut done).await.unwrap(), 0);
        assert_eq!(sees(&rooms, &room, &new), Some(false));
    }
}
