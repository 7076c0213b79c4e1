//! Telling those who share rooms with a user what they are.

use super::{LISTENERS_MAX, TOLD_AT_ONCE_MAX};
use crate::Inner;
use crate::active::{Active, ToWake};
use base::RoomNum;
use records::{RecordsError, View};
use ruma::{OwnedUserId, UserId};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// Which rooms tell presence, as far as it was asked.
#[derive(Default)]
struct Telling(HashMap<RoomNum, bool>);

impl Telling {
    fn tells(&mut self, inner: &Inner, view: &View, room: RoomNum) -> Result<bool, RecordsError> {
        if let Some(tells) = self.0.get(&room) {
            return Ok(*tells);
        }
        let members = view.room_head(room)?.map_or(0, |head| head.joined);
        let tells = usize::try_from(members).is_ok_and(|members| members <= inner.config.presence_members_max);
        self.0.insert(room, tells);
        Ok(tells)
    }
}

impl Inner {
    /// Does what has become due with time, and tells what changed. Keeps what is to outlive a restart.
    pub async fn tell_presence(&self) -> Result<(), RecordsError> {
        let changed = {
            let mut users = self.presence.users();
            users.expire(self.clock.now());
            users.take_changed(TOLD_AT_ONCE_MAX)
        };
        if changed.is_empty() {
            return Ok(());
        }
        let view = self.records.view();
        let (mut telling, mut told) = (Telling::default(), Vec::new());
        let mut changes = self.records.changes(&view);
        for (user, record) in changed {
            // Nobody may be listening.
            let _listeners = self.presence_changed.send(user.clone());
            told.push((self.listeners(&view, &user, &mut telling)?, user.clone()));
            if view.presence(&user)?.as_ref() != Some(&record) {
                changes.put_presence(&user, &record);
            }
        }
        drop(view);
        self.note_presence(told);
        if !changes.is_empty() {
            changes.derived();
            if let Err(error) = self.records.commit(changes).await {
                tracing::warn!(%error, "presence is not kept");
            }
        }
        Ok(())
    }

    fn note_presence(&self, told: Vec<(Vec<Arc<Active>>, OwnedUserId)>) {
        let mut to_wake = ToWake::default();
        // Held so that no token counts a change that is not noted with all whom it concerns.
        let users = self.presence.users();
        for (listeners, user) in told {
            let count = self.volatile.next();
            for listener in listeners {
                listener.note_presence(&user, count, &mut to_wake);
            }
        }
        drop(users);
    }

    /// The active users who are told of a user's presence.
    fn listeners(&self, view: &View, user: &UserId, telling: &mut Telling) -> Result<Vec<Arc<Active>>, RecordsError> {
        let mut listeners = HashMap::new();
        for room in self.active.rooms_of(user) {
            let others = self.active.listeners(room);
            if others.len() < 2 || !telling.tells(self, view, room)? {
                continue;
            }
            for other in others.into_iter().filter(|other| other.user() != user) {
                listeners.insert(other.id(), other);
            }
            if listeners.len() >= LISTENERS_MAX {
                break;
            }
        }
        Ok(listeners.into_values().take(LISTENERS_MAX).collect())
    }

    /// The active users in rooms, those of large rooms apart, and without the one who asks: at most
    /// [`LISTENERS_MAX`].
    pub fn present_in(
        &self,
        view: &View,
        rooms: impl IntoIterator<Item = RoomNum>,
        asker: &UserId,
    ) -> Result<BTreeSet<OwnedUserId>, RecordsError> {
        let (mut telling, mut present) = (Telling::default(), BTreeSet::new());
        for room in rooms {
            let others = self.active.listeners(room);
            let is_anybody = others.iter().any(|other| other.user() != asker);
            if !is_anybody || !telling.tells(self, view, room)? {
                continue;
            }
            for other in others {
                if present.len() >= LISTENERS_MAX {
                    return Ok(present);
                }
                if other.user() != asker && !present.contains(other.user()) {
                    present.insert(other.user().to_owned());
                }
            }
        }
        Ok(present)
    }
}
