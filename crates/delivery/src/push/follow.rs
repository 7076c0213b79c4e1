//! The task that follows the log, and finds whom an event notifies.

use super::Inner;
use super::audience::{Audience, Member};
use super::notification::Tweaks;
use super::recipient::Item;
use base::{EventNum, RoomNum, Stamp};
use records::{LogEntry, Membership, RecordsError, View};
use rules::push::{Digest, Outcome};
use ruma::{OwnedUserId, UserId};
use std::sync::{Arc, Weak};
use std::time::Duration;
use sync::SyncError;
use tokio::sync::watch;
use tokio::time::Instant;

/// What the follower is called.
const NAME: &str = "push";
/// How many entries of the log are read at once.
const LOG_PAGE: usize = 500;
/// How many rows are read at once.
const PAGE: usize = 1_000;
/// How often it is written down how far it has come.
const NOTE_EVERY: Duration = Duration::from_secs(1);
/// How often an entry of the log is tried that can't be understood, before it is passed over.
const TRIES_MAX: u32 = 5;
/// How often it is tried again to read what can't be read.
const RETRY: Duration = Duration::from_secs(1);

struct Follower {
    inner: Weak<Inner>,
    audience: Audience,
    /// Everything up to here was offered to those whom it concerns.
    at: Stamp,
    /// What is written down of it.
    noted: Option<Stamp>,
    /// Whether there was anything in the log since then.
    moved: bool,
    /// How often the next entry has failed.
    tries: u32,
}

/// Follows the log until pushing ends.
pub async fn follow(inner: Weak<Inner>, mut newest: watch::Receiver<Stamp>, mut ended: watch::Receiver<bool>) {
    let mut follower = loop {
        let Some(strong) = inner.upgrade() else { return };
        if !strong.config.enabled {
            return forget(&strong).await;
        }
        match Follower::begin(&strong) {
            Ok(follower) => break follower,
            Err(error) => tracing::error!(%error, "pushers can't be read"),
        }
        drop(strong);
        tokio::time::sleep(RETRY).await;
    };
    let mut noted_at: Option<Instant> = None;
    let mut behind = true;
    loop {
        if !behind {
            tokio::select! {
                changed = newest.changed() => if changed.is_err() { return },
                _ended = ended.wait_for(|ended| *ended) => {}
                () = tokio::time::sleep(NOTE_EVERY), if follower.has_to_note() => {}
            }
        }
        if *ended.borrow() {
            return follower.note().await;
        }
        newest.mark_unchanged();
        let Some(inner) = inner.upgrade() else { return };
        let caught_up = follower.catch_up(&inner);
        behind = caught_up.is_err();
        drop(inner);
        if let Err(error) = caught_up {
            tracing::error!(%error, "the log can't be followed, so nobody is pushed anything");
            tokio::select! {
                () = tokio::time::sleep(RETRY) => {}
                _ended = ended.wait_for(|ended| *ended) => {}
            }
        }
        if noted_at.is_none_or(|noted_at| noted_at.elapsed() >= NOTE_EVERY) {
            noted_at = Some(Instant::now());
            follower.note().await;
        }
    }
}

/// Nothing is pushed: the log need not be kept for it.
async fn forget(inner: &Inner) {
    let mut changes = inner.records.changes(&inner.records.view());
    changes.forget_follower(NAME);
    changes.derived();
    if let Err(error) = inner.records.commit(changes).await {
        tracing::error!(%error, "that nothing is pushed can't be written down");
    }
}

impl Follower {
    /// Goes on where the last time ended.
    fn begin(inner: &Arc<Inner>) -> Result<Self, RecordsError> {
        let view = inner.records.view();
        let audience = Audience::read(&view, &inner.syncs, inner.config.audience_memory.bytes())?;
        let at = match view.follower(NAME)? {
            // What the log does not tell any more, nobody is told of.
            Some(at) => at.max(view.log_trimmed()?).min(view.stamp()),
            None => view.stamp(),
        };
        let mut after: Option<OwnedUserId> = None;
        loop {
            let users = view.users_with_push_lags(after.as_deref(), PAGE)?;
            let Some(last) = users.last().cloned() else { break };
            for user in users {
                inner.resume(&view, &user, at)?;
            }
            after = Some(last);
        }
        Ok(Self { inner: Arc::downgrade(inner), audience, at, noted: None, moved: true, tries: 0 })
    }

    fn has_to_note(&self) -> bool {
        self.moved || self.inner.upgrade().is_some_and(|inner| inner.is_busy())
    }

    /// Offers everything that the log says up to now to those whom it concerns.
    fn catch_up(&mut self, inner: &Arc<Inner>) -> Result<(), SyncError> {
        loop {
            let view = inner.records.view();
            let entries = view.log(self.at, view.stamp(), LOG_PAGE)?;
            let full = entries.len() >= LOG_PAGE;
            for (stamp, entry) in entries {
                if let Err(error) = self.entry(inner, &view, stamp, &entry) {
                    self.tries += 1;
                    if self.tries < TRIES_MAX {
                        return Err(error);
                    }
                    tracing::error!(%error, "what happened can't be understood, and is not pushed");
                }
                self.at = stamp;
                self.moved = true;
                self.tries = 0;
            }
            if !full {
                self.at = self.at.max(view.stamp());
                return Ok(());
            }
        }
    }

    fn entry(&mut self, inner: &Arc<Inner>, view: &View, stamp: Stamp, entry: &LogEntry) -> Result<(), SyncError> {
        match entry {
            LogEntry::Event { room, event, member } => {
                if let Some(user) = member {
                    self.member_changed(inner, view, *room, user)?;
                }
                self.event(inner, view, stamp, (*room, *event), member.as_deref())?;
            }
            LogEntry::Membership { user, room } => self.member_changed(inner, view, *room, user)?,
            LogEntry::Receipt { room, user, .. } => {
                inner.badges.changed(user, *room);
                if self.audience.has(user) {
                    inner.offer(view, user, stamp, &Item::Badge)?;
                }
            }
            LogEntry::AccountData { user } => {
                inner.badges.forget(user);
                self.audience.habits_changed(view, &inner.syncs, user)?;
            }
            LogEntry::Pushers { user } => {
                let listens = !view.pushers(user)?.is_empty();
                self.audience.set_listens(view, &inner.syncs, user, listens)?;
                inner.reload(view, user)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn member_changed(&mut self, inner: &Inner, view: &View, room: RoomNum, user: &UserId) -> Result<(), RecordsError> {
        inner.badges.changed(user, room);
        let membership = view.membership(user, room)?.map(|(_, record)| record.membership);
        self.audience.member_changed(room, user, membership == Some(Membership::Join));
        Ok(())
    }

    /// Offers an event to all whom it notifies.
    fn event(
        &mut self,
        inner: &Arc<Inner>,
        view: &View,
        stamp: Stamp,
        (room, num): (RoomNum, EventNum),
        target: Option<&UserId>,
    ) -> Result<(), SyncError> {
        let members = self.audience.of_room(view, room)?;
        let target = target.and_then(|user| self.audience.member(user));
        if members.is_empty() && target.is_none() {
            return Ok(());
        }
        let Some(reader) = inner.rooms.reader(view, room)? else { return Ok(()) };
        let Some(event) = reader.event(num)? else { return Ok(()) };
        let digest = Digest::of(&event.pdu);
        let judge = inner.syncs.judge(&reader, &event);
        let at = inner.clock.now();
        let item = |outcome: &Outcome| Item::Event { room, event: num, at, tweaks: Arc::new(Tweaks::of(outcome)) };
        // What it means for one of those who have changed nothing, it means for all, unless somebody is named.
        let mut plain: Option<Option<Item>> = (digest == Digest::Silent).then_some(None);
        let listening = members.iter().filter_map(|member| self.audience.at(*member));
        // Who is invited is not in the room yet.
        let invited = target.filter(|_| matches!(event.pdu.kind_str(), "m.room.member"));
        let invited = invited.filter(|member| {
            let membership = reader.membership(member.user).ok().flatten();
            membership.is_some_and(|(_, record)| record.membership == Membership::Invite && record.event == num)
        });
        for Member { user, plain: is_plain } in listening.chain(invited) {
            if event.pdu.sender() == user {
                if event.pdu.state_key().is_none() {
                    // What is before their own message counts as read.
                    inner.badges.changed(user, room);
                    inner.offer(view, user, stamp, &Item::Badge)?;
                }
                continue;
            }
            let found = match &plain {
                Some(item) if is_plain && digest != Digest::Special => item.clone(),
                _ => judge.outcome(user)?.as_ref().map(item),
            };
            if is_plain && digest == Digest::Plain && plain.is_none() {
                plain = Some(found.clone());
            }
            if let Some(item) = found {
                inner.badges.changed(user, room);
                inner.offer(view, user, stamp, &item)?;
            }
        }
        Ok(())
    }

    /// Writes down how far this has come, and the pushers whose gateways fail.
    async fn note(&mut self) {
        let Some(inner) = self.inner.upgrade() else { return };
        let lags = inner.lags();
        let up_to = lags.prompt.map_or(self.at, |prompt| prompt.min(self.at));
        let lagging = !lags.changed.is_empty();
        if !lagging && (!self.moved || Some(up_to) <= self.noted) {
            return;
        }
        let mut changes = inner.records.changes(&inner.records.view());
        changes.set_follower(NAME, up_to);
        for (user, pusher, lag) in &lags.changed {
            match lag {
                Some(lag) => changes.put_push_lag(user, &pusher.app_id, &pusher.pushkey, *lag),
                None => changes.clear_push_lag(user, &pusher.app_id, &pusher.pushkey),
            }
        }
        changes.derived();
        match inner.records.commit(changes).await {
            Ok(_) => {
                self.noted = Some(up_to);
                // Its own commit is nothing new.
                self.moved = up_to < self.at && lags.prompt.is_some();
                inner.noted(lags);
            }
            Err(error) => tracing::error!(%error, "how far pushes have come can't be written down"),
        }
    }
}
