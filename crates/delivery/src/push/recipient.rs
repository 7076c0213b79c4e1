//! Those who have something to be told now: each of their pushers has a delivery of its own, and a task as long as
//! there is something to do.

use super::gateway::Answer;
use super::notification::{Data, Subject, Tweaks, body};
use super::{Config, Figures, Inner};
use base::{EventNum, Order, RoomNum, Stamp, UnixMillis};
use delivery_core::{Delivery, Jitter, Next};
use records::{Membership, PushLag, Pusher, PusherKind, RecordsError, View};
use ruma::events::room::member::MembershipState;
use ruma::{OwnedUserId, UserId};
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use sync::SyncError;
use tokio::sync::{Notify, watch};

/// How many events are looked for that a gateway was not told of while it failed: the newest.
const CATCH_UP_MAX: usize = 50;
/// After how long a gateway that fails is written down as failing; the log is not kept for it any more.
const LAG_AFTER: Duration = Duration::from_secs(30);
/// After how long what waits for it is forgotten, and read again when it is there.
const FORGET_AFTER: Duration = Duration::from_mins(5);

/// Something that a pusher is to tell.
#[derive(Clone, Debug)]
pub(super) enum Item {
    /// An event.
    Event {
        room: RoomNum,
        event: EventNum,
        /// When it was there to be told.
        at: UnixMillis,
        tweaks: Arc<Tweaks>,
    },
    /// How much there is to be read.
    Badge,
}

/// A pusher and what waits for it.
struct Device {
    pusher: Pusher,
    delivery: Delivery<Item>,
    /// Since when a task works on it.
    working_since: Option<UnixMillis>,
    /// What is written down of how far it has come.
    noted: Option<PushLag>,
    /// The count that its gateway was told last.
    badge: Option<u64>,
    /// Wakes the task; also what tells it from another one of the same name that came later.
    wake: Arc<Notify>,
}

impl Device {
    fn is(&self, pusher: &Pusher) -> bool {
        self.pusher.app_id == pusher.app_id && self.pusher.pushkey == pusher.pushkey
    }
}

/// A user with pushers of which one has something to do.
pub(super) struct Recipient {
    user: OwnedUserId,
    devices: Mutex<Vec<Device>>,
}

impl Recipient {
    fn lock(&self) -> MutexGuard<'_, Vec<Device>> {
        self.devices.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with one of the pushers, if it is still there.
    fn with<T>(&self, wake: &Arc<Notify>, work: impl FnOnce(&mut Device) -> T) -> Option<T> {
        self.lock().iter_mut().find(|device| Arc::ptr_eq(&device.wake, wake)).map(work)
    }
}

/// Those who have something to be told now.
#[derive(Default)]
pub(super) struct Recipients(Mutex<HashMap<OwnedUserId, Arc<Recipient>>>);

impl Recipients {
    fn lock(&self) -> MutexGuard<'_, HashMap<OwnedUserId, Arc<Recipient>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, user: &UserId) -> Option<Arc<Recipient>> {
        self.lock().get(user).cloned()
    }

    fn all(&self) -> Vec<Arc<Recipient>> {
        self.lock().values().cloned().collect()
    }
}

/// What a pusher was not told of, and up to where that is.
type CaughtUp = Result<(Vec<(Stamp, usize, Item)>, Stamp), SyncError>;

/// What is to be written down of pushers whose gateways fail.
#[derive(Default)]
pub(super) struct Lags {
    /// Up to here all others have everything.
    pub prompt: Option<Stamp>,
    /// Those who fall behind, and those who have caught up.
    pub changed: Vec<(OwnedUserId, Pusher, Option<PushLag>)>,
}

impl Inner {
    /// Offers something to all pushers of a user that were there before it.
    pub fn offer(self: &Arc<Self>, view: &View, user: &UserId, stamp: Stamp, item: &Item) -> Result<(), RecordsError> {
        self.with_recipient(view, user, previous(stamp), |devices| {
            for device in devices.iter_mut().filter(|device| device.pusher.record.since < stamp) {
                if matches!(item, Item::Badge) {
                    // One count is as good as several.
                    device.delivery.retain(|_, waiting| !matches!(waiting, Item::Badge));
                }
                device.delivery.offer(stamp, 1, item.clone());
            }
        })
    }

    /// Goes on with the pushers of a user of which it is written down how far they are.
    pub fn resume(self: &Arc<Self>, view: &View, user: &UserId, followed: Stamp) -> Result<(), RecordsError> {
        self.with_recipient(view, user, followed, |_| {})
    }

    /// Does something with a user's pushers, read if they are not in memory; then those have everything up to `done`
    /// of which nothing else is written down. What they have to do then is begun.
    fn with_recipient(
        self: &Arc<Self>,
        view: &View,
        user: &UserId,
        done: Stamp,
        work: impl FnOnce(&mut Vec<Device>),
    ) -> Result<(), RecordsError> {
        let mut read = None;
        if !self.recipients.lock().contains_key(user) {
            let mut devices = Vec::new();
            for pusher in view.pushers(user)?.into_iter().filter(|pusher| pusher.record.kind == PusherKind::Http) {
                let lag = view.push_lag(user, &pusher.app_id, &pusher.pushkey)?;
                devices.push(self.device(pusher, done, lag));
            }
            read = Some(devices);
        }
        let recipient = {
            // Held until the pushers have work to do, so that they are not forgotten in between.
            let mut recipients = self.recipients.lock();
            let recipient = recipients.entry(user.to_owned()).or_insert_with(|| {
                let devices = Mutex::new(read.unwrap_or_default());
                Arc::new(Recipient { user: user.to_owned(), devices })
            });
            let recipient = recipient.clone();
            let mut devices = recipient.lock();
            work(&mut devices);
            self.set_to_work(&recipient, &mut devices);
            drop(devices);
            recipient
        };
        self.retire(&recipient);
        Ok(())
    }

    fn device(&self, pusher: Pusher, done: Stamp, lag: Option<PushLag>) -> Device {
        let (limits, backoff) = (Config::limits(), self.config.backoff());
        let mut delivery = match lag {
            Some(lag) => Delivery::resume(limits, backoff, lag.done),
            None => Delivery::new(limits, backoff, done.max(pusher.record.since)),
        };
        delivery.pass(done);
        Device { pusher, delivery, working_since: None, noted: lag, badge: None, wake: Arc::default() }
    }

    /// A user's pushers have changed: takes up how they are now.
    pub fn reload(self: &Arc<Self>, view: &View, user: &UserId) -> Result<(), RecordsError> {
        let Some(recipient) = self.recipients.get(user) else { return Ok(()) };
        let pushers = view.pushers(user)?;
        let mut devices = recipient.lock();
        for pusher in pushers.iter().filter(|pusher| pusher.record.kind == PusherKind::Http) {
            match devices.iter_mut().find(|device| device.is(pusher)) {
                Some(device) => {
                    // Somebody is there who cares, perhaps with another gateway.
                    device.pusher = pusher.clone();
                    device.badge = None;
                    device.delivery.reset();
                    device.wake.notify_one();
                }
                None => devices.push(self.device(pusher.clone(), view.stamp(), None)),
            }
        }
        devices.retain(|device| {
            let is_there = pushers.iter().any(|pusher| device.is(pusher));
            if !is_there {
                device.wake.notify_one();
            }
            is_there
        });
        drop(devices);
        self.retire(&recipient);
        Ok(())
    }

    fn set_to_work(self: &Arc<Self>, recipient: &Arc<Recipient>, devices: &mut [Device]) {
        let is_due = |device: &&mut Device| device.working_since.is_none() && !device.delivery.is_idle();
        for device in devices.iter_mut().filter(is_due) {
            device.working_since = Some(self.clock.now());
            self.figures.busy.fetch_add(1, Ordering::Relaxed);
            let work = Work {
                inner: Arc::downgrade(self),
                recipient: recipient.clone(),
                wake: device.wake.clone(),
                ended: self.ending.subscribe(),
            };
            tokio::spawn(work.run());
        }
    }

    /// Forgets a user of whom no pusher has anything to do.
    fn retire(&self, recipient: &Arc<Recipient>) {
        let mut recipients = self.recipients.lock();
        let devices = recipient.lock();
        let has_ended = |device: &Device| device.working_since.is_none() && device.noted.is_none();
        if devices.iter().all(|device| has_ended(device) && device.delivery.is_idle()) {
            recipients.remove(&recipient.user);
        }
    }

    /// Looks how far all pushers are that have something to do.
    pub fn lags(&self) -> Lags {
        let now = self.clock.now();
        let (mut lags, mut failing) = (Lags::default(), 0);
        for recipient in self.recipients.all() {
            for device in recipient.lock().iter_mut() {
                if device.delivery.is_idle() {
                    if device.noted.is_some() {
                        lags.changed.push((recipient.user.clone(), device.pusher.clone(), None));
                    }
                    continue;
                }
                let done = device.delivery.done();
                let failing_since = device.delivery.failing_since();
                failing += u64::from(failing_since.is_some());
                if failing_since.is_some_and(|since| now.since(since) > FORGET_AFTER) {
                    device.delivery.forget();
                }
                let since = device.working_since.unwrap_or(now);
                if now.since(since) <= LAG_AFTER && device.noted.is_none() {
                    lags.prompt = Some(lags.prompt.map_or(done, |prompt| prompt.min(done)));
                    continue;
                }
                let lag = PushLag { done, since: device.noted.map_or(since, |lag| lag.since) };
                if device.noted != Some(lag) {
                    lags.changed.push((recipient.user.clone(), device.pusher.clone(), Some(lag)));
                }
            }
        }
        self.figures.failing.store(failing, Ordering::Relaxed);
        lags
    }

    /// Whether anybody has something to do, or something written down of them.
    pub fn is_busy(&self) -> bool {
        !self.recipients.lock().is_empty()
    }

    /// Takes note that it is written down how far pushers are.
    pub fn noted(&self, lags: Lags) {
        for (user, pusher, lag) in lags.changed {
            let Some(recipient) = self.recipients.get(&user) else { continue };
            if let Some(device) = recipient.lock().iter_mut().find(|device| device.is(&pusher)) {
                device.noted = lag;
            }
            self.retire(&recipient);
        }
    }
}

/// The task that works on a pusher as long as it has something to do.
struct Work {
    inner: Weak<Inner>,
    recipient: Arc<Recipient>,
    wake: Arc<Notify>,
    ended: watch::Receiver<bool>,
}

enum Step {
    Send(Pusher, Stamp, Item),
    Wait(Duration),
    CatchUp(Pusher, Stamp),
    Done,
}

impl Work {
    async fn run(self) {
        let mut ended = self.ended.clone();
        while let Some(inner) = self.inner.upgrade() {
            match self.step(&inner) {
                Step::Done => return inner.retire(&self.recipient),
                Step::Wait(duration) => {
                    drop(inner);
                    tokio::select! {
                        () = tokio::time::sleep(duration) => {}
                        () = self.wake.notified() => {}
                        _ended = ended.wait_for(|ended| *ended) => return,
                    }
                }
                Step::Send(pusher, stamp, item) => {
                    let told = tokio::select! {
                        told = inner.tell(&self, &pusher, &item) => told,
                        _ended = ended.wait_for(|ended| *ended) => return,
                    };
                    if told.answer == Answer::Rejected && self.reject(&inner, &pusher).await {
                        return inner.retire(&self.recipient);
                    }
                    self.finish(&inner, &pusher, stamp, &told);
                }
                Step::CatchUp(pusher, after) => {
                    let caught_up = tokio::select! {
                        caught_up = inner.catch_up_pusher(&self.recipient.user, &pusher, after) => caught_up,
                        _ended = ended.wait_for(|ended| *ended) => return,
                    };
                    self.caught_up(&inner, caught_up);
                }
            }
        }
    }

    fn step(&self, inner: &Inner) -> Step {
        let now = inner.clock.now();
        let step = self.recipient.with(&self.wake, |device| match device.delivery.next(now) {
            Next::Send => {
                let next = device.delivery.batch().next().map(|(stamp, item)| (stamp, item.clone()));
                next.map_or(Step::Done, |(stamp, item)| Step::Send(device.pusher.clone(), stamp, item))
            }
            Next::Wait(until) => Step::Wait(until.since(now)),
            Next::CatchUp(after) => Step::CatchUp(device.pusher.clone(), after),
            Next::Idle | Next::Sending => {
                device.working_since = None;
                Step::Done
            }
        });
        let step = step.unwrap_or(Step::Done);
        if matches!(step, Step::Done) {
            inner.figures.busy.fetch_sub(1, Ordering::Relaxed);
        }
        step
    }

    /// Removes a pusher that its gateway rejects, and all that waits for it. Not if it was set again meanwhile.
    async fn reject(&self, inner: &Inner, pusher: &Pusher) -> bool {
        match inner.accounts.reject_pusher(&self.recipient.user, pusher).await {
            Ok(true) => {}
            Ok(false) => return false,
            Err(error) => {
                tracing::error!(%error, "a rejected pusher can't be removed");
                return false;
            }
        }
        Figures::count(&inner.figures.rejected);
        inner.figures.busy.fetch_sub(1, Ordering::Relaxed);
        self.recipient.lock().retain(|device| !Arc::ptr_eq(&device.wake, &self.wake));
        true
    }

    fn finish(&self, inner: &Inner, pusher: &Pusher, stamp: Stamp, told: &Told) {
        if let Answer::Failed(why, _) = &told.answer {
            Figures::count(&inner.figures.failed);
            tracing::debug!(user = %self.recipient.user, app = %pusher.app_id, %why, "a push failed");
        }
        self.recipient.with(&self.wake, |device| {
            debug_assert_eq!(device.delivery.batch().next().map(|(at, _)| at), Some(stamp));
            device.badge = told.badge.or(device.badge);
            device.delivery.finish(told.answer.outcome(inner.jitter()), inner.clock.now())
        });
    }

    fn caught_up(&self, inner: &Inner, found: CaughtUp) {
        self.recipient.with(&self.wake, |device| match found {
            Ok((items, up_to)) => device.delivery.caught_up(items, up_to),
            Err(error) => {
                tracing::error!(%error, "what a pusher has missed can't be read");
                let failed = Answer::Failed(String::new(), None).outcome(inner.jitter());
                device.delivery.finish(failed, inner.clock.now());
            }
        });
    }
}

/// What became of an attempt to tell a gateway.
struct Told {
    answer: Answer,
    /// The count that the gateway knows now.
    badge: Option<u64>,
}

impl Told {
    fn nothing() -> Self {
        Self { answer: Answer::Accepted, badge: None }
    }
}

impl Inner {
    fn jitter(&self) -> Jitter {
        let mut bytes = [0; 2];
        self.random.fill(&mut bytes);
        Jitter(u16::from_be_bytes(bytes))
    }

    /// Tells the gateway of a pusher, if there is still something to tell.
    async fn tell(&self, work: &Work, pusher: &Pusher, item: &Item) -> Told {
        let Some(data) = Data::read(&pusher.record.data) else { return Told::nothing() };
        let (body, badge) = match self.put_together(work, pusher, &data, item).await {
            Ok(Some(found)) => found,
            Ok(None) => {
                if matches!(item, Item::Event { .. }) {
                    Figures::count(&self.figures.dropped);
                }
                return Told::nothing();
            }
            Err(error) => {
                tracing::error!(%error, "a push can't be put together");
                return Told { answer: Answer::Failed(error.to_string(), None), badge: None };
            }
        };
        let answer = self.gateways.tell(&data.url, &pusher.pushkey, body).await;
        let badge = (answer == Answer::Accepted).then_some(badge);
        if badge.is_some() {
            Figures::count(&self.figures.delivered);
        }
        Told { answer, badge }
    }

    /// The body for a gateway, and the count in it; nothing if there is nothing to tell any more.
    async fn put_together(
        &self,
        work: &Work,
        pusher: &Pusher,
        data: &Data,
        item: &Item,
    ) -> Result<Option<(Vec<u8>, u64)>, SyncError> {
        let user = &work.recipient.user;
        let counter = self.badges.of(user);
        // All rooms of a user are looked at by few at a time.
        let turn = if counter.is_quick() { None } else { Some(self.syncs.turn().await?) };
        let unread = counter.count(&self.syncs, &self.records, user)?;
        drop(turn);
        let ids_only = self.config.event_ids_only;
        let Item::Event { room, event, at, tweaks } = item else {
            let known = work.recipient.with(&work.wake, |device| device.badge).flatten();
            let is_news = known != Some(unread.messages);
            return Ok(is_news.then(|| (body(pusher, user, data, ids_only, unread, None), unread.messages)));
        };
        if self.clock.now().since(*at) > self.config.give_up_after {
            return Ok(None);
        }
        let view = self.records.view();
        let Some(reader) = self.rooms.reader(&view, *room)? else { return Ok(None) };
        let Some(event) = reader.event(*event)?.filter(|event| event.record.redacted_by.is_none()) else {
            return Ok(None);
        };
        let Some((since, membership)) = reader.membership(user)? else { return Ok(None) };
        let may_know = match membership.membership {
            Membership::Join if Order::from(since) <= event.order => true,
            // They joined later, or changed their profile since.
            Membership::Join => {
                let sees = reader.visible(user, std::slice::from_ref(&event))?;
                sees.into_iter().flatten().any(|then| matches!(then, MembershipState::Join | MembershipState::Invite))
            }
            Membership::Invite => membership.event == event.num,
            _ => false,
        };
        if !may_know || self.syncs.has_read(&reader, user, &event)? {
            return Ok(None);
        }
        let described = self.describe(&reader, &event)?;
        let subject = Subject { event: &event, reader: &reader, described: &described, tweaks };
        Ok(Some((body(pusher, user, data, ids_only, unread, Some(&subject)), unread.messages)))
    }

    /// What a pusher was not told of after a stamp, and up to where that is.
    async fn catch_up_pusher(&self, user: &UserId, pusher: &Pusher, after: Stamp) -> CaughtUp {
        let _turn = self.syncs.turn().await?;
        let view = self.records.view();
        let after = Order::from(after.max(pusher.record.since));
        let missed = self.syncs.missed(&view, user, after, CATCH_UP_MAX)?;
        let mut items: Vec<(Stamp, usize, Item)> = missed
            .into_iter()
            .map(|missed| {
                let stamp = Stamp(u64::try_from(missed.order.0).unwrap_or_default());
                let tweaks = Arc::new(Tweaks::of(&missed.outcome));
                let at = missed.sent_at.min(self.clock.now());
                (stamp, 1, Item::Event { room: missed.room, event: missed.event, at, tweaks })
            })
            .collect();
        // How much there is to read has changed meanwhile, perhaps to nothing.
        items.push((view.stamp(), 1, Item::Badge));
        Ok((items, view.stamp()))
    }
}

fn previous(stamp: Stamp) -> Stamp {
    Stamp(stamp.0.saturating_sub(1))
}
