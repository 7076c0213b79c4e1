//! The rooms of an agency: each has one writer, which decides and commits, and any number of readers, which
//! look at snapshots and never wait for it.
//!
//! [`Rooms`] is the handle. What it answers to a write is on disk. The network is never awaited here: an
//! event whose ancestors are unknown comes back as [`RoomError::Missing`].

mod acquaintance;
mod actor;
mod backfill;
mod blocked;
mod bundle;
mod children;
mod create;
mod delayed;
mod departures;
mod directory;
mod entering;
mod erasures;
mod error;
mod event;
mod found;
mod glance;
mod guests;
mod ignored;
mod invites;
mod listing;
mod membership;
mod purge;
mod reader;
mod relating;
mod removal;
mod retention;
mod summary;
#[cfg(test)]
mod tests;
mod threads;
mod trail;
mod txns;
mod upgrade;
mod work;

pub use acquaintance::{Acquaintance, Neighbour, Shown};
pub use backfill::{BACKFILL_BYTES_MAX, BACKFILL_EVENTS_MAX, Backfill};
pub use children::{DEPTH_MAX, Depth, Found, Piece, Wanted};
pub use create::{CreateRoom, InitialState, Plan, Preset, check_levels};
pub use delayed::{Changed as DelayedChanged, Schedule, Scheduled, due as delayed_due};
pub use directory::ListFilter;
pub use entering::{Entry, References, stripped_texts};
pub use error::RoomError;
pub use event::StoredEvent;
pub use glance::Glanced;
pub use ignored::Ignored;
pub use invites::{invite_permission, invite_verdict};
pub use membership::MembershipChange;
pub use purge::PURGED_AT_ONCE_MAX;
pub use reader::{Departure, Recipient, RoomReader};
pub use retention::Retention;
pub use room_core::Draft;
pub use threads::ThreadRow;
pub use trail::Trail;
pub use upgrade::Upgrade;

use actor::{Basis, Command};
use base::{Clock, Random, RoomNum};
use dashmap::DashMap;
use event::Events;
use membership::{Door, Facts, Outcome, Profile};
use records::{AliasRecord, Changes, Membership, Records, View};
use rules::{CheckedPdu, Pdu, SigningKey};
use ruma::serde::JsonObject;
use ruma::{OwnedEventId, OwnedServerName, RoomAliasId, RoomId, RoomVersionId, ServerName, UserId};
use std::collections::HashMap;
use std::sync::{Arc, OnceLock, Weak};
use store::CommitError;
use tokio::sync::{Semaphore, mpsc};
use work::Shared;

/// How many of a user's rooms are written to at the same time when their profile changes or they leave all.
const ROOMS_AT_ONCE: usize = 16;
/// How often a membership change is planned again because the member's own membership has changed meanwhile.
const PLANS_MAX: usize = 8;
/// How many joined members of this server are looked at to find one who may let somebody in.
const AUTHORISERS_MAX: usize = 1000;

/// Settings of rooms.
#[derive(Clone, Debug)]
pub struct Config {
    /// The version of rooms whose creator does not choose one.
    pub default_version: RoomVersionId,
    /// How much memory the events take that readers share, in bytes.
    pub event_cache_bytes: u64,
    /// How long what is said is kept.
    pub retention: Retention,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            default_version: rules::DEFAULT_ROOM_VERSION,
            event_cache_bytes: 32 << 20,
            retention: Retention::default(),
        }
    }
}

/// What makes a request the same as an earlier one: a repeat answers the event that the first has made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Txn {
    /// The device that sends.
    pub device_id: String,
    /// The endpoint with its path parameters, such as `send/!room/m.room.message`.
    pub endpoint: String,
    /// The transaction id.
    pub txn_id: String,
}

/// The rooms of an agency. Cheap to clone.
#[derive(Clone)]
pub struct Rooms(Arc<Inner>);

/// The rooms, for those who should not keep them alive.
#[derive(Clone)]
pub(crate) struct WeakRooms(Weak<Inner>);

impl WeakRooms {
    pub fn upgrade(&self) -> Option<Rooms> {
        self.0.upgrade().map(Rooms)
    }
}

struct Inner {
    records: Records,
    shared: Arc<Shared>,
    server_name: OwnedServerName,
    config: Config,
    mailboxes: DashMap<RoomNum, mpsc::Sender<Command>>,
    /// Held by those who search the whole room directory.
    searches: Arc<Semaphore>,
}

impl Rooms {
    /// The rooms in these records, of the server that the key belongs to. Starts a task that tidies up, so it
    /// must be called within a runtime.
    #[must_use]
    pub fn new(
        records: Records,
        key: Arc<SigningKey>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        config: Config,
    ) -> Self {
        let server_name = key.server_name().to_owned();
        let events = Arc::new(Events::new(config.event_cache_bytes));
        let shared = Arc::new(Shared { events, erasures: Arc::default(), key, clock, random });
        let searches = Arc::new(Semaphore::new(directory::SEARCHES_AT_ONCE));
        let retention = config.retention.clone();
        let inner = Arc::new(Inner { records, shared, server_name, config, mailboxes: DashMap::new(), searches });
        if retention.enabled {
            tokio::spawn(retention::purge_expired(Arc::downgrade(&inner), retention.purge_every));
        }
        tokio::spawn(txns::forget_old(Arc::downgrade(&inner)));
        tokio::spawn(departures::resume(Arc::downgrade(&inner)));
        Self(inner)
    }

    /// The name of this server.
    #[must_use]
    pub fn server_name(&self) -> &ServerName {
        &self.0.server_name
    }

    /// The settings.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// The records that the rooms are in.
    #[must_use]
    pub fn records(&self) -> &Records {
        &self.0.records
    }

    pub(crate) fn downgrade(&self) -> WeakRooms {
        WeakRooms(Arc::downgrade(&self.0))
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.0.shared
    }

    pub(crate) fn shared_arc(&self) -> Arc<Shared> {
        self.0.shared.clone()
    }

    pub(crate) fn mailboxes(&self) -> &DashMap<RoomNum, mpsc::Sender<Command>> {
        &self.0.mailboxes
    }

    /// A room at a view, by number.
    pub fn reader(&self, view: &View, num: RoomNum) -> Result<Option<RoomReader>, RoomError> {
        let Some(head) = view.room_head(num)? else { return Ok(None) };
        let rules =
            rules::room_rules(&head.version).ok_or_else(|| RoomError::UnsupportedVersion(head.version.to_string()))?;
        let (events, erasures) = (self.0.shared.events.clone(), self.0.shared.erasures.clone());
        let (erased, ignored, expired_before) = (OnceLock::new(), OnceLock::new(), OnceLock::new());
        let retention = &self.0.config.retention;
        let retention = retention.enabled.then(|| (retention.clone(), self.0.shared.clock.now()));
        let view = view.clone();
        let reader =
            RoomReader { events, erasures, erased, view, num, head, rules, ignored, retention, expired_before };
        Ok(Some(reader))
    }

    /// A room at a view, by id.
    pub fn reader_by_id(&self, view: &View, room_id: &RoomId) -> Result<Option<RoomReader>, RoomError> {
        match view.room_num(room_id)? {
            Some(num) => self.reader(view, num),
            None => Ok(None),
        }
    }

    /// Sends an event. Answered when it is on disk. A state event that sets what is set already answers the
    /// id of the event that did.
    pub async fn send(&self, room_id: &RoomId, draft: Draft, txn: Option<Txn>) -> Result<OwnedEventId, RoomError> {
        let num = num_of(&self.0.records.view(), room_id)?;
        self.tell(num, |reply| Command::Send { draft, txn, basis: None, reply }).await
    }

    /// The event that an earlier request with this transaction id has made, if there was one.
    pub fn sent(&self, sender: &UserId, txn: &Txn) -> Result<Option<OwnedEventId>, RoomError> {
        let sent = self.0.records.view().txn(txn.scope(sender), &txn.txn_id)?;
        Ok(sent.map(|(_, event_id)| event_id))
    }

    /// Takes in events of another server, oldest first, and answers what became of each. One whose ancestors
    /// are not known is [`RoomError::Missing`]: fetch those and try again.
    pub async fn receive(
        &self,
        room_id: &RoomId,
        events: Vec<CheckedPdu>,
    ) -> Result<Vec<Result<OwnedEventId, RoomError>>, RoomError> {
        self.receive_after(room_id, events, HashMap::new()).await
    }

    /// As [`Rooms::receive`], of events that follow others which nobody can give: `states` has the state before each
    /// of those, as other servers say it is, by the ids of its events, all of which must be known. The room's state
    /// is resolved with it.
    pub async fn receive_after(
        &self,
        room_id: &RoomId,
        events: Vec<CheckedPdu>,
        states: HashMap<OwnedEventId, Vec<OwnedEventId>>,
    ) -> Result<Vec<Result<OwnedEventId, RoomError>>, RoomError> {
        let num = num_of(&self.0.records.view(), room_id)?;
        self.tell(num, |reply| Command::Receive { events, states, reply }).await
    }

    pub(crate) fn no_changes(&self) -> Changes {
        self.0.records.changes(&self.0.records.view())
    }

    /// Changes what somebody is to a room; see [`MembershipChange`]. Answers the event, or `None` if all is
    /// as it should be already.
    pub async fn change_membership(
        &self,
        room_id: &RoomId,
        sender: &UserId,
        change: MembershipChange,
        reason: Option<String>,
        extra: Option<JsonObject>,
    ) -> Result<Option<OwnedEventId>, RoomError> {
        self.change_membership_once(room_id, sender, change, reason, extra, None).await
    }

    /// As [`Self::change_membership`]; a request with the same transaction id answers the same event.
    pub async fn change_membership_once(
        &self,
        room_id: &RoomId,
        sender: &UserId,
        change: MembershipChange,
        reason: Option<String>,
        extra: Option<JsonObject>,
        txn: Option<Txn>,
    ) -> Result<Option<OwnedEventId>, RoomError> {
        for _ in 0..PLANS_MAX {
            let planned = self.plan_membership(room_id, sender, &change, reason.clone(), extra.clone())?;
            let Some((num, draft, basis)) = planned else { return Ok(None) };
            let (basis, txn) = (Some(basis), txn.clone());
            match self.tell(num, |reply| Command::Send { draft, txn, basis, reply }).await {
                Err(RoomError::Outdated) => {}
                outcome => return outcome.map(Some),
            }
        }
        Err(RoomError::Overloaded)
    }

    /// Makes an event of a draft as the room would now, without sending it: for another server to sign, or as a
    /// template for its own user. The room has allowed it as it is now.
    pub async fn prepare(&self, room_id: &RoomId, draft: Draft) -> Result<Arc<Pdu>, RoomError> {
        let num = num_of(&self.0.records.view(), room_id)?;
        self.tell(num, |reply| Command::Prepare { draft, basis: None, reply }).await
    }

    /// As [`Rooms::prepare`], of a membership change; nothing if nothing is to change.
    pub async fn prepare_membership(
        &self,
        room_id: &RoomId,
        sender: &UserId,
        change: MembershipChange,
        reason: Option<String>,
        extra: Option<JsonObject>,
    ) -> Result<Option<Arc<Pdu>>, RoomError> {
        for _ in 0..PLANS_MAX {
            let planned = self.plan_membership(room_id, sender, &change, reason.clone(), extra.clone())?;
            let Some((num, draft, basis)) = planned else { return Ok(None) };
            let basis = Some(basis);
            match self.tell(num, |reply| Command::Prepare { draft, basis, reply }).await {
                Err(RoomError::Outdated) => {}
                outcome => return outcome.map(Some),
            }
        }
        Err(RoomError::Overloaded)
    }

    /// Makes the draft of a membership change from the room as it is now; none if nothing is to change.
    fn plan_membership(
        &self,
        room_id: &RoomId,
        sender: &UserId,
        change: &MembershipChange,
        reason: Option<String>,
        extra: Option<JsonObject>,
    ) -> Result<Option<(RoomNum, Draft, Basis)>, RoomError> {
        let view = self.0.records.view();
        let reader = self.reader_by_id(&view, room_id)?.ok_or(RoomError::NotFound("the room"))?;
        let target = change.target(sender);
        let current = reader.membership(target)?.map(|(_, record)| record);
        let event = current.as_ref().map(|record| reader.event(record.event)).transpose()?.flatten();
        let power = reader.power_levels()?;
        let is_local = target.server_name() == self.server_name();
        if is_local && matches!(change, MembershipChange::Invite { .. }) {
            invites::check_invite(&view, sender, target)?;
        }
        let own_profile = if is_local { Some(profile(&view, target)?) } else { None };
        let membership = current.as_ref().map(|record| record.membership);
        let facts = Facts {
            current: membership.zip(event.as_ref().map(|event| event.pdu.content())),
            sender_joined: reader.is_joined(sender)?,
            power: &power,
            profile: own_profile.as_ref(),
            door: self.door(&reader, change, target, membership, &power)?,
        };
        let basis = Basis { user: target.to_owned(), event: current.as_ref().map(|record| record.event) };
        match membership::plan(sender, change, &facts, reason, extra)? {
            Outcome::Send(draft) => Ok(Some((reader.num(), draft, basis))),
            Outcome::Unchanged => Ok(None),
        }
    }

    /// What the join rules make of somebody who joins without an invitation.
    fn door(
        &self,
        reader: &RoomReader,
        change: &MembershipChange,
        target: &UserId,
        current: Option<Membership>,
        power: &rules::PowerLevels,
    ) -> Result<Door, RoomError> {
        if *change != MembershipChange::Join || matches!(current, Some(Membership::Join | Membership::Invite)) {
            return Ok(Door::Plain);
        }
        let Some(join_rules) = reader.state_event(reader.state(), "m.room.join_rules", "")? else {
            return Ok(Door::Plain);
        };
        let Some(others) = rules::auth::rooms_that_admit(reader.rules(), &join_rules.pdu) else {
            return Ok(Door::Plain);
        };
        let mut admitted = false;
        for room_id in others {
            let Some(num) = reader.view().room_num(&room_id)? else { continue };
            let membership = reader.view().membership(target, num)?.map(|(_, record)| record.membership);
            admitted |= membership == Some(Membership::Join);
        }
        let mut authorising = None;
        if admitted {
            // Those with a level of their own first: they are few, and mostly one of them may invite.
            let mut joined = Vec::new();
            for user in power.users().filter(|user| user.server_name() == self.server_name()) {
                if reader.is_joined(user)? {
                    joined.push(user.to_owned());
                }
            }
            let members = reader.view().room_members(reader.num(), Membership::Join, None, AUTHORISERS_MAX)?;
            joined.extend(members.into_iter().map(|(user, _)| user).filter(|u| u.server_name() == self.server_name()));
            authorising = rules::auth::authorising_user(power, joined.iter().map(AsRef::as_ref)).map(ToOwned::to_owned);
        }
        Ok(Door::Restricted { admitted, authorising })
    }

    /// Takes a room that a user has left out of what they see.
    pub async fn forget(&self, room_id: &RoomId, user: &UserId) -> Result<(), RoomError> {
        let num = num_of(&self.0.records.view(), room_id)?;
        let user = user.to_owned();
        self.tell(num, |reply| Command::Forget { user, reply }).await
    }

    /// Shows a user's profile, as the records have it now, in all rooms that they have joined. Rooms that
    /// refuse are left as they are.
    pub async fn update_profile(&self, user: &UserId) -> Result<(), RoomError> {
        self.in_all_rooms(user, &[Membership::Join], MembershipChange::ShowProfile).await
    }

    /// Takes a user whose account has ended out of all rooms: those that they have joined, and those that they
    /// could join. If that is cut off, it is done when the rooms are opened again.
    pub async fn leave_all(&self, user: &UserId) -> Result<(), RoomError> {
        let current = [Membership::Join, Membership::Invite, Membership::Knock];
        self.in_all_rooms(user, &current, MembershipChange::Leave).await?;
        let mut changes = self.no_changes();
        changes.departed(user);
        self.0.records.commit(changes).await?;
        Ok(())
    }

    async fn in_all_rooms(
        &self,
        user: &UserId,
        current: &[Membership],
        change: MembershipChange,
    ) -> Result<(), RoomError> {
        let view = self.0.records.view();
        let mut room_ids = Vec::new();
        for (num, _, record) in view.memberships(user)? {
            if current.contains(&record.membership) {
                room_ids.extend(view.room_head(num)?.map(|head| head.room_id));
            }
        }
        drop(view);
        let limit = Arc::new(Semaphore::new(ROOMS_AT_ONCE));
        let mut tasks = tokio::task::JoinSet::new();
        for room_id in room_ids {
            let (rooms, user, change, limit) = (self.clone(), user.to_owned(), change.clone(), limit.clone());
            tasks.spawn(async move {
                let _permit = limit.acquire_owned().await;
                let outcome = rooms.change_membership(&room_id, &user, change, None, None).await;
                outcome.map(drop).or_else(|error| match error {
                    RoomError::Internal(_) | RoomError::Overloaded => Err(error),
                    error => {
                        tracing::debug!(%room_id, %error, "a room refuses a change of all of a user's rooms");
                        Ok(())
                    }
                })
            });
        }
        let mut result = Ok(());
        while let Some(outcome) = tasks.join_next().await {
            result = result.and(outcome.unwrap_or_else(|error| Err(RoomError::internal(error))));
        }
        result
    }

    /// Where an alias of this server leads.
    pub fn resolve_alias(&self, view: &View, alias: &RoomAliasId) -> Result<Option<AliasRecord>, RoomError> {
        Ok(view.alias(alias)?)
    }

    /// Names a room. Who may do that is the caller's to check.
    pub async fn put_alias(&self, alias: &RoomAliasId, room_id: &RoomId, creator: &UserId) -> Result<(), RoomError> {
        let view = self.0.records.view();
        let num = num_of(&view, room_id)?;
        if view.alias(alias)?.is_some() {
            return Err(RoomError::AliasTaken);
        }
        let mut changes = self.0.records.changes(&view);
        let record = AliasRecord { room_id: room_id.to_owned(), creator: creator.to_owned() };
        changes.put_alias(alias, num, &record)?;
        match self.0.records.commit(changes).await {
            Ok(_) => Ok(()),
            Err(CommitError::Conflict) => Err(RoomError::AliasTaken),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes an alias. Who may do that is the caller's to check.
    pub async fn delete_alias(&self, alias: &RoomAliasId) -> Result<(), RoomError> {
        let view = self.0.records.view();
        let record = view.alias(alias)?.ok_or(RoomError::NotFound("the alias"))?;
        let num = num_of(&view, &record.room_id)?;
        let mut changes = self.0.records.changes(&view);
        changes.clear_alias(alias, num)?;
        match self.0.records.commit(changes).await {
            // Somebody else has removed it, or named another room with it.
            Err(CommitError::Conflict) => Err(RoomError::NotFound("the alias")),
            outcome => Ok(outcome.map(drop)?),
        }
    }

    /// Lists a room in the public room directory, or takes it out. Who may do that is the caller's to check.
    pub async fn set_published(&self, room_id: &RoomId, published: bool) -> Result<(), RoomError> {
        let num = num_of(&self.0.records.view(), room_id)?;
        self.tell(num, |reply| Command::Publish { published, reply }).await
    }
}

fn num_of(view: &View, room_id: &RoomId) -> Result<RoomNum, RoomError> {
    view.room_num(room_id)?.ok_or(RoomError::NotFound("the room"))
}

/// How a user of this server appears in rooms.
fn profile(view: &View, user: &UserId) -> Result<Profile, RoomError> {
    let fields = view.profile(user)?;
    let text = |name: &str| fields.get(name).and_then(|json| serde_json::from_str(json).ok());
    Ok(Profile { displayname: text("displayname"), avatar_url: text("avatar_url") })
}
