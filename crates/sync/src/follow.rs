//! The task that follows the log and wakes those whom it concerns.

use crate::active::{Happening, ToWake};
use crate::{Inner, SyncError};
use base::Stamp;
use records::{LogEntry, Membership, RecordsError};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;
use store::CommitError;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// How many entries of the log are read at once.
const LOG_PAGE: usize = 1_000;
/// How many stamps of the log are kept. Syncs read the last [`LOG_READ_MAX`](crate::changed::LOG_READ_MAX) entries
/// of it; a token that is older is answered by looking at all rooms of its user, whether the log is there or not.
const LOG_KEPT: u64 = 1 << 20;
/// How many stamps are trimmed at once, so that it is done seldom.
const LOG_TRIMMED_AT_ONCE: u64 = 1 << 16;
/// How often it is looked whether somebody has stopped typing or syncing, while nothing else happens;
/// also how often a log that can't be read is tried again.
const IDLE_TICK: Duration = Duration::from_secs(1);

/// Follows the log until syncing ends.
pub async fn follow(
    inner: Weak<Inner>,
    mut newest: watch::Receiver<Stamp>,
    mut ended: watch::Receiver<bool>,
    typed: Arc<Notify>,
) {
    // Whether the log could not be read; then it is tried again, whether or not more happens.
    let mut behind = false;
    let mut told_at: Option<Instant> = None;
    loop {
        let anybody_changes = inner.upgrade().is_some_and(|inner| inner.may_change_by_itself());
        tokio::select! {
            // Both end when what they watch is dropped.
            changed = newest.changed() => if changed.is_err() { return },
            _ended = ended.wait_for(|ended| *ended) => return,
            // Somebody begins to type, or comes: that is not in the log, and has to be looked after from now on.
            () = typed.notified(), if !anybody_changes => {}
            () = tokio::time::sleep(IDLE_TICK), if anybody_changes || behind => {}
        }
        let Some(inner) = inner.upgrade() else { return };
        newest.mark_unchanged();
        let caught_up = inner.catch_up();
        behind = caught_up.is_err();
        if let Err(error) = caught_up {
            tracing::error!(%error, "the log can't be read, so waiting syncs are not woken");
        }
        if let Err(error) = inner.trim_log(LOG_KEPT, LOG_TRIMMED_AT_ONCE).await {
            tracing::warn!(%error, "the log can't be trimmed, and grows");
        }
        inner.let_typing_expire();
        // What is told of presence is bundled.
        if told_at.is_none_or(|told_at| told_at.elapsed() >= IDLE_TICK) {
            told_at = Some(Instant::now());
            if let Err(error) = inner.tell_presence().await {
                tracing::error!(%error, "presence can't be told");
            }
        }
        inner.active.sweep(inner.clock.now());
    }
}

impl Inner {
    /// Whether something is volatile that changes with time.
    fn may_change_by_itself(&self) -> bool {
        self.typing.is_anybody() || self.presence.users().is_anybody()
    }

    /// Notes everything that the log says up to now, and wakes those whom it concerns.
    pub fn catch_up(&self) -> Result<(), RecordsError> {
        loop {
            let view = self.records.view();
            let after = self.active.followed();
            let entries = view.log(after, view.stamp(), LOG_PAGE)?;
            let full = entries.len() >= LOG_PAGE;
            let up_to = entries.last().map(|(stamp, _)| *stamp).filter(|_| full).unwrap_or(view.stamp());
            let mut to_wake = ToWake::default();
            for (stamp, entry) in entries {
                self.note(&view, stamp, &entry, &mut to_wake)?;
            }
            self.active.set_followed(up_to);
            drop(to_wake);
            if !full {
                return Ok(());
            }
        }
    }

    /// Trims the log, once there is enough of it that nobody needs: not what is kept for syncs, and not what this
    /// task or another follower of the log has not read yet.
    pub async fn trim_log(&self, kept: u64, at_once: u64) -> Result<(), SyncError> {
        let view = self.records.view();
        let slowest = view.slowest_follower()?.unwrap_or(view.stamp());
        let up_to = Stamp(view.stamp().0.saturating_sub(kept)).min(self.active.followed()).min(slowest);
        let trimmed = Stamp(self.log_trimmed.load(Ordering::Relaxed));
        if up_to.0.saturating_sub(trimmed.0) < at_once {
            return Ok(());
        }
        let mut changes = self.records.changes(&view);
        changes.trim_log(up_to)?;
        // The entries can't be given again by the log, but nobody is told that they are gone.
        changes.derived();
        if !changes.is_empty() {
            match self.records.commit(changes).await {
                // Somebody else trims it.
                Ok(_) | Err(CommitError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.log_trimmed.store(up_to.0, Ordering::Relaxed);
        Ok(())
    }

    fn note(
        &self,
        view: &records::View,
        stamp: Stamp,
        entry: &LogEntry,
        to_wake: &mut ToWake,
    ) -> Result<(), RecordsError> {
        match entry {
            LogEntry::Event { room, member, .. } => {
                if let Some(user) = member {
                    self.note_member(view, stamp, *room, user, to_wake)?;
                }
                self.active.note_room(*room, Happening::Event, stamp, to_wake);
            }
            LogEntry::Membership { room, user } => self.note_member(view, stamp, *room, user, to_wake)?,
            LogEntry::Receipt { room, user, private: true } => {
                self.active.note_user_in(user, *room, Happening::Receipt, stamp, to_wake);
            }
            LogEntry::Receipt { room, .. } => self.active.note_room(*room, Happening::Receipt, stamp, to_wake),
            LogEntry::AccountData { user }
            | LogEntry::KeysSigned { user, .. }
            | LogEntry::ThreadSubscription { user } => {
                self.active.note_user(user, stamp, to_wake);
            }
            LogEntry::ToDevice { users } => {
                for user in users {
                    self.active.note_user(user, stamp, to_wake);
                }
            }
            LogEntry::DeviceList { user } => {
                let rooms = crate::device_lists::shown_in(view, user)?;
                self.active.note_device_list(user, &rooms, stamp, to_wake);
            }
            LogEntry::Forgotten { .. }
            | LogEntry::Pushers { .. }
            | LogEntry::Backfilled { .. }
            | LogEntry::Purged { .. } => {}
        }
        Ok(())
    }

    fn note_member(
        &self,
        view: &records::View,
        stamp: Stamp,
        room: base::RoomNum,
        user: &ruma::UserId,
        to_wake: &mut ToWake,
    ) -> Result<(), RecordsError> {
        // Whose devices the others in the room have to know of may have changed with it.
        self.active.note_room(room, Happening::Member, stamp, to_wake);
        let types = self.typing.users(room).is_some_and(|(_, users)| users.iter().any(|typing| typing == user));
        if !types && !self.active.is_active(user) {
            return Ok(());
        }
        let membership = view.membership(user, room)?.map(|(_, record)| record.membership);
        let joined = membership == Some(Membership::Join);
        if types && !joined {
            self.set_typing(room, user, None, to_wake);
        }
        self.active.set_joined(user, room, joined);
        if joined {
            self.presence.users().show_again(user);
        }
        self.active.note_user_in(user, room, Happening::Event, stamp, to_wake);
        self.active.note_user_in(user, room, Happening::Member, stamp, to_wake);
        Ok(())
    }

    fn let_typing_expire(&self) {
        let now = self.clock.now();
        if !self.typing.is_due(now) {
            return;
        }
        let mut to_wake = ToWake::default();
        for (room, count) in self.typing.expire(now) {
            self.active.note_typing(room, count, &mut to_wake);
        }
    }
}
