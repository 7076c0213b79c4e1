//! Whose devices a user has to know of, and since when (client-server API, "Tracking the device list for a user").
//! For sync, sliding sync and `GET /keys/changes` alike.
//!
//! A change of a user's devices is one entry of the log and one row of an index, however many share rooms with
//! them. Who has come to share a room, and who has gone, is the difference of the states of those rooms whose
//! members changed. So the cost follows what changed; only joining and leaving cost as much as the room has members.
//!
//! Rooms count whether they are encrypted or not, and who is invited to a room counts as a member: clients encrypt
//! for them too. Nobody is ever told less than they have to know, but for one case: who joins a large room that is
//! not encrypted is not told of all who are in it, whom clients follow only once it is.

use crate::{Inner, SyncError, SyncToken, Syncs};
use base::{EventNum, RoomNum, Stamp};
use records::state_map::StateRoot;
use records::{Membership, RecordsError, View};
use rooms::{RoomReader, StoredEvent};
use ruma::events::room::member::MembershipState;
use ruma::{OwnedUserId, UserId};
use serde::Deserialize;
use std::collections::{BTreeSet, HashMap};

/// The most members of an unencrypted room that one who joins it is told of.
const UNENCRYPTED_MEMBERS_MAX: u64 = 1_000;
/// How many users are looked at one by one to find out whether they still share a room. Of more, the members of the
/// user's rooms are gone through instead.
const ONE_BY_ONE_MAX: usize = 100;
/// How many members of the user's rooms are gone through. Of whom it is not known then that they have gone, nobody
/// is told.
const MEMBERS_READ_MAX: usize = 200_000;
/// How many rows are read at once.
const PAGE: usize = 1_000;

/// Whose devices a client has to look at again, and whose no more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceLists {
    /// Users whose devices or keys changed, or who have come to share a room with the user.
    pub changed: BTreeSet<OwnedUserId>,
    /// Users who share no room with the user any more.
    pub left: BTreeSet<OwnedUserId>,
}

impl DeviceLists {
    /// Whether there is nothing to tell.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.left.is_empty()
    }
}

/// Whose devices changed, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceNews {
    /// Those of these users, who may share a room with the user.
    Users(Vec<OwnedUserId>),
    /// Those of anybody: it has to be looked up.
    Anybody,
}

impl Default for DeviceNews {
    fn default() -> Self {
        Self::Users(Vec::new())
    }
}

impl DeviceNews {
    /// Adds a user.
    pub fn push(&mut self, user: OwnedUserId) {
        if let Self::Users(users) = self {
            users.push(user);
        }
    }
}

/// The rooms whose members have to know of a user's devices.
pub fn shown_in(view: &View, user: &UserId) -> Result<Vec<RoomNum>, RecordsError> {
    let memberships = view.memberships(user)?.into_iter();
    Ok(memberships.filter(|(_, _, record)| is_shown(record.membership)).map(|(room, _, _)| room).collect())
}

fn is_shown(membership: Membership) -> bool {
    matches!(membership, Membership::Join | Membership::Invite)
}

/// Whether a membership event makes its user one whose devices the members have to know of.
fn shows(event: &StoredEvent) -> bool {
    matches!(membership_in(event), Some(MembershipState::Join | MembershipState::Invite))
}

fn membership_in(event: &StoredEvent) -> Option<MembershipState> {
    #[derive(Deserialize)]
    struct Content {
        membership: MembershipState,
    }
    serde_json::from_str::<Content>(event.pdu.content().get()).ok().map(|content| content.membership)
}

/// A user whom others share rooms with, or not.
struct Sharing<'v> {
    view: &'v View,
    user: &'v UserId,
}

impl Sharing<'_> {
    /// Whether another user is in a room of the user's, or invited to it. It takes as long as the other has rooms,
    /// however many the user has.
    fn is_with(&self, other: &UserId) -> Result<bool, RecordsError> {
        for room in shown_in(self.view, other)? {
            let own = self.view.membership(self.user, room)?;
            if own.is_some_and(|(_, record)| record.membership == Membership::Join) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Those of `users` who are in none of the rooms. Those of whom that is too much work to say are left out.
    fn without(&self, mut users: BTreeSet<OwnedUserId>) -> Result<BTreeSet<OwnedUserId>, RecordsError> {
        if users.len() <= ONE_BY_ONE_MAX {
            let mut gone = BTreeSet::new();
            for user in users {
                if !self.is_with(&user)? {
                    gone.insert(user);
                }
            }
            return Ok(gone);
        }
        let memberships = self.view.memberships(self.user)?.into_iter();
        let joined = memberships.filter(|(_, _, record)| record.membership == Membership::Join);
        let mut left = MEMBERS_READ_MAX;
        for (room, _, _) in joined {
            let is_whole = each_member(self.view, room, |member| {
                users.remove(&member);
                left = left.saturating_sub(1);
                left > 0 && !users.is_empty()
            })?;
            if users.is_empty() || !is_whole {
                return Ok(BTreeSet::new());
            }
        }
        Ok(users)
    }
}

/// Goes through those who are in a room or invited to it, until `go_on` says no. Answers whether it never did.
fn each_member(view: &View, room: RoomNum, mut go_on: impl FnMut(OwnedUserId) -> bool) -> Result<bool, RecordsError> {
    for membership in [Membership::Join, Membership::Invite] {
        let mut after: Option<OwnedUserId> = None;
        loop {
            let page = view.room_members(room, membership, after.as_deref(), PAGE)?;
            let is_last = page.len() < PAGE;
            after = page.last().map(|(user, _)| user.clone());
            for (user, _) in page {
                if !go_on(user) {
                    return Ok(false);
                }
            }
            if is_last {
                break;
            }
        }
    }
    Ok(true)
}

impl Syncs {
    /// Whose devices changed since a token. It looks at all rooms of the user, so few of these run at once.
    pub async fn device_lists(&self, user: &UserId, since: SyncToken) -> Result<DeviceLists, SyncError> {
        let inner = self.0.clone();
        let user = user.to_owned();
        let permit = inner.long.clone().acquire_owned().await.map_err(SyncError::internal)?;
        let work = tokio::task::spawn_blocking(move || {
            let view = inner.records.view();
            let since = since.stamp.min(view.stamp());
            let rooms: Vec<_> = view.memberships(&user)?.into_iter().map(|(room, _, _)| room).collect();
            let lists = inner.device_lists_since(&view, &user, since, (&DeviceNews::Anybody, true), rooms);
            drop(permit);
            lists
        });
        work.await.map_err(SyncError::internal)?
    }
}

impl Inner {
    /// Whose devices changed after `since` and up to the view. `rooms` are those whose members may have changed,
    /// or the user's own membership; whether the user may have signed keys of others comes with the news.
    pub fn device_lists_since(
        &self,
        view: &View,
        user: &UserId,
        since: Stamp,
        (news, may_have_signed): (&DeviceNews, bool),
        rooms: impl IntoIterator<Item = RoomNum>,
    ) -> Result<DeviceLists, SyncError> {
        let sharing = Sharing { view, user };
        let (mut changed, mut gone) = (BTreeSet::new(), BTreeSet::new());
        let mut has_moved = false;
        for room in rooms {
            has_moved |= self.room_members_since(view, user, room, since, (&mut changed, &mut gone))?;
        }
        // Who was out of a room was not told meanwhile of those in it.
        let news = if has_moved { &DeviceNews::Anybody } else { news };
        let mut note = |other: OwnedUserId| -> Result<(), SyncError> {
            if !changed.contains(&other) && (other == user || sharing.is_with(&other)?) {
                changed.insert(other);
            }
            Ok(())
        };
        match news {
            DeviceNews::Users(users) => users.iter().cloned().try_for_each(&mut note)?,
            DeviceNews::Anybody => {
                let mut after = since;
                loop {
                    let page = view.device_lists_changed(after, view.stamp(), PAGE)?;
                    let is_last = page.len() < PAGE;
                    after = page.last().map_or(after, |(stamp, _)| *stamp);
                    page.into_iter().try_for_each(|(_, other)| note(other))?;
                    if is_last {
                        break;
                    }
                }
            }
        }
        gone.remove(user);
        let gone = gone.into_iter().filter(|other| !changed.contains(other)).collect();
        let left = sharing.without(gone)?;
        if may_have_signed {
            // Whom one has signed shows that to oneself alone, whether or not one shares a room with them.
            changed.extend(view.users_signed(user, since, view.stamp())?);
        }
        Ok(DeviceLists { changed, left })
    }

    /// Who has come to share a room with a user after `since`, and who has gone from it. Answers whether the user's
    /// own membership has changed.
    fn room_members_since(
        &self,
        view: &View,
        user: &UserId,
        room: RoomNum,
        since: Stamp,
        (come, gone): (&mut BTreeSet<OwnedUserId>, &mut BTreeSet<OwnedUserId>),
    ) -> Result<bool, SyncError> {
        let Some((at, record)) = view.membership(user, room)? else { return Ok(false) };
        let is_joined = record.membership == Membership::Join;
        let has_moved = at > since;
        if !is_joined && !has_moved {
            return Ok(false);
        }
        let Some(reader) = self.rooms.reader(view, room)? else { return Ok(has_moved) };
        let before = reader.state_at(since.into())?;
        let was_joined = if has_moved {
            let member = reader.state_event(before, "m.room.member", user.as_str())?;
            member.is_some_and(|member| membership_in(&member) == Some(MembershipState::Join))
        } else {
            is_joined
        };
        match (was_joined, is_joined) {
            (false, false) => {}
            (false, true) => {
                let is_encrypted = reader.state_event(reader.state(), "m.room.encryption", "")?.is_some();
                if is_encrypted || reader.head().joined + reader.head().invited <= UNENCRYPTED_MEMBERS_MAX {
                    each_member(view, room, |member| {
                        come.insert(member);
                        true
                    })?;
                    come.remove(user);
                }
            }
            (true, true) => {
                for MemberChange { user, was_shown, is_shown } in member_changes(&reader, before)? {
                    // Who has gone and come again may have new keys, which nobody was told of meanwhile.
                    let is_new = || Ok::<_, RecordsError>(view.device_list_changed(&user)? > Some(since));
                    if is_shown && (!was_shown || is_new()?) {
                        come.insert(user);
                    } else if was_shown && !is_shown {
                        gone.insert(user);
                    }
                }
            }
            (true, false) => {
                // Those who were there when the client last looked: who came later is not for the user to know.
                let mut members = BTreeSet::new();
                each_member(view, room, |member| {
                    members.insert(member);
                    true
                })?;
                for MemberChange { user: member, was_shown, .. } in member_changes(&reader, before)? {
                    if was_shown {
                        members.insert(member);
                    } else {
                        members.remove(&member);
                    }
                }
                gone.append(&mut members);
            }
        }
        Ok(has_moved)
    }
}

/// A user whose membership event is another one than before.
struct MemberChange {
    user: OwnedUserId,
    was_shown: bool,
    is_shown: bool,
}

/// How the members of a room differ from those in a state before.
fn member_changes(reader: &RoomReader, before: StateRoot) -> Result<Vec<MemberChange>, SyncError> {
    let mut differences = Vec::new();
    for difference in before.diff(reader.view(), reader.state()) {
        let difference = difference?;
        if difference.kind == "m.room.member"
            && let Ok(user) = OwnedUserId::try_from(difference.state_key.as_str())
        {
            differences.push((user, difference.before, difference.after));
        }
    }
    let nums: Vec<EventNum> =
        differences.iter().flat_map(|(_, before, after)| before.iter().chain(after)).copied().collect();
    let shown: HashMap<EventNum, bool> = reader.events(&nums)?.iter().map(|event| (event.num, shows(event))).collect();
    let shown = |num: Option<EventNum>| num.and_then(|num| shown.get(&num).copied()).unwrap_or_default();
    let change = |(user, before, after)| MemberChange { user, was_shown: shown(before), is_shown: shown(after) };
    Ok(differences.into_iter().map(change).collect())
}
