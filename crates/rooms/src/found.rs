//! Founding rooms: the events that [`create::plan`] writes down become a room in one batch.

use crate::create::{self, CreateRoom, Plan};
use crate::invites::check_invite;
use crate::reader::membership_in;
use crate::work::{Loaded, Shared, Work};
use crate::{Draft, RoomError, Rooms, profile};
use base::{Order, UnixMillis, random_string};
use records::state_map::StateRoot;
use records::{AliasRecord, Changes, RoomHead};
use room_core::Room;
use ruma::events::room::member::MembershipState;
use ruma::room_version_rules::RoomVersionRules;
use ruma::{OwnedRoomId, RoomVersionId, ServerName, UserId};
use std::sync::Arc;
use store::CommitError;

/// How often founding is tried again. From room version 12 on a room's id follows from its creation, so two
/// rooms that one user makes alike within a millisecond would be one: the later is dated a little later.
const ATTEMPTS_MAX: u64 = 32;
/// The letters of the localpart of a room id before room version 12.
const ROOM_ID_LETTERS: usize = 18;

impl Rooms {
    /// Makes a room, all of its first events at once.
    ///
    /// # Errors
    ///
    /// Those of `create::plan`; [`RoomError::AliasTaken`]; [`RoomError::InviteBlocked`]; [`RoomError::InvalidRoomState`] if the room's own
    /// rules don't allow what it should start with.
    pub async fn create(&self, creator: &UserId, request: CreateRoom) -> Result<OwnedRoomId, RoomError> {
        let view = self.records().view();
        let profile_of = |user: &UserId| {
            let is_local = user.server_name() == self.server_name();
            is_local.then(|| profile(&view, user).unwrap_or_default())
        };
        let plan = create::plan(request, creator, profile_of, self.server_name(), &self.config().default_version)?;
        for draft in plan.drafts.iter().filter(|draft| draft.kind == "m.room.member" && draft.sender == *creator) {
            let member = draft.state_key.as_deref().and_then(|key| <&UserId>::try_from(key).ok());
            let is_invite = membership_in(&draft.content) == MembershipState::Invite;
            if let Some(invited) = member.filter(|user| is_invite && user.server_name() == self.server_name()) {
                check_invite(&view, creator, invited)?;
            }
        }
        drop(view);
        let now = self.shared().clock.now();
        for attempt in 0..ATTEMPTS_MAX {
            if let Some(room_id) = self.found(&plan, creator, UnixMillis(now.0 + attempt)).await? {
                return Ok(room_id);
            }
        }
        Err(RoomError::Overloaded)
    }

    /// Makes the room with this time of creation, unless there is a room with that id.
    async fn found(&self, plan: &Plan, creator: &UserId, at: UnixMillis) -> Result<Option<OwnedRoomId>, RoomError> {
        let Plan { version, drafts, alias, published } = plan;
        let rules = rules::room_rules(version).ok_or_else(|| RoomError::UnsupportedVersion(version.to_string()))?;
        let view = self.records().view();
        if alias.as_deref().map(|alias| view.alias(alias)).transpose()?.flatten().is_some() {
            return Err(RoomError::AliasTaken);
        }
        let random_id = random_room_id(self.shared(), self.server_name())?;
        let changes = self.records().changes(&view);
        let mut work = lay(self.shared_arc(), version, rules, random_id, drafts, at, changes)?;
        let (room_id, num) = (work.loaded.head.room_id.clone(), work.num);
        if view.room_num(&room_id)?.is_some() {
            return Ok(None);
        }
        if let Some(alias) = alias.as_deref() {
            let record = AliasRecord { room_id: room_id.clone(), creator: creator.to_owned() };
            work.changes.put_alias(alias, num, &record)?;
        }
        if *published {
            work.publish(true);
        }
        work.finish()?;
        let changes = std::mem::replace(&mut work.changes, self.no_changes());
        let stamps = match self.records().commit(changes).await {
            Ok(stamps) => stamps,
            // The alias or the id was taken in the meantime: the next attempt sees which.
            Err(CommitError::Conflict) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        work.committed().publish(self.shared(), stamps);
        Ok(Some(room_id))
    }
}

impl Work {
    /// A room id that nobody has.
    pub(crate) fn random_room_id(&self) -> Result<OwnedRoomId, RoomError> {
        random_room_id(&self.shared, self.shared.key.server_name())
    }
}

fn random_room_id(shared: &Shared, server_name: &ServerName) -> Result<OwnedRoomId, RoomError> {
    let localpart = random_string(&*shared.random, ROOM_ID_LETTERS);
    OwnedRoomId::try_from(format!("!{localpart}:{server_name}")).map_err(RoomError::internal)
}

/// Decides all first events of a room on top of each other. The first, its creation, is of the time `at`. From
/// room version 12 on the id that follows from it takes the place of `random_id`; whether there is such a room
/// already is for the caller to see.
pub(crate) fn lay(
    shared: Arc<Shared>,
    version: &RoomVersionId,
    rules: RoomVersionRules,
    random_id: OwnedRoomId,
    drafts: &[Draft],
    at: UnixMillis,
    changes: Changes,
) -> Result<Work, RoomError> {
    let room_id = (!rules.authorization.room_create_event_id_as_room_id).then(|| random_id.clone());
    let head = RoomHead {
        room_id: random_id,
        version: version.clone(),
        extremities: Vec::new(),
        depth: 0,
        state: StateRoot::EMPTY,
        joined: 0,
        invited: 0,
        backfilled_to: Order(0),
        generation: 0,
        relations: 0,
    };
    let num = changes.ids().room()?;
    let loaded = Loaded::new(head, Room::new(room_id, version.clone(), rules));
    let mut work = Work::new(shared, num, loaded, changes);
    for draft in drafts {
        let mut draft = draft.clone();
        if draft.kind == "m.room.create" {
            draft.timestamp = Some(at);
        }
        work.draft(draft, None, None).map_err(|error| match error {
            RoomError::Forbidden(reason) => RoomError::InvalidRoomState(reason),
            error => error,
        })?;
    }
    let room_id = work.loaded.room.room_id.clone().ok_or_else(|| RoomError::internal("a room without events"))?;
    work.loaded.head.room_id.clone_from(&room_id);
    work.changes.put_room(&room_id, num)?;
    Ok(work)
}
