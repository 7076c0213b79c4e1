//! The end of a room: its members of this server are put out, or taken to a new room, and its data is removed.

use crate::State;
use face::ApiError;
use records::{Job, JobRecord, Membership, RoomDeletion};
use rooms::{CreateRoom, Draft, MembershipChange, Preset};
use ruma::{OwnedRoomId, OwnedUserId, UserId};
use serde_json::json;
use serde_json::value::to_raw_value;
use std::sync::Arc;
use std::time::Duration;

/// How many of those who were put out are named.
const NAMED_MAX: usize = 1000;
/// How many members are looked up at once.
const MEMBERS_AT_ONCE: usize = 200;
/// How long clients have to learn that they were put out, before there is nothing left to tell it by.
const LEARNING: Duration = Duration::from_secs(20);
/// The level that saying something in the room takes that comes in place of the old one.
const SPEAKER_LEVEL: i64 = 50;

impl State {
    pub(super) async fn delete_room(
        self: &Arc<Self>,
        id: &str,
        record: &mut JobRecord,
        mut deletion: RoomDeletion,
    ) -> Result<(), ApiError> {
        if !deletion.is_empty {
            self.make_new_room(&mut deletion).await?;
            record.job = Job::DeleteRoom(deletion.clone());
            self.put_job(id, record).await?;
            let before = deletion.kicked.len();
            self.put_out(&mut deletion).await?;
            deletion.is_empty = true;
            let anybody = deletion.kicked.len() > before;
            let purge = deletion.purge;
            record.job = Job::DeleteRoom(deletion.clone());
            self.put_job(id, record).await?;
            if anybody && purge {
                tokio::time::sleep(LEARNING).await;
            }
        }
        let Some(num) = deletion.room.filter(|_| deletion.purge) else { return Ok(()) };
        if !deletion.failed_to_kick.is_empty() && !deletion.force {
            return Err(ApiError::unknown("somebody could not be put out, so the room stays"));
        }
        self.rooms.remove(num).await?;
        tracing::info!(room_id = %deletion.room_id, "a room was removed");
        Ok(())
    }

    /// Makes the room to which the members are taken.
    async fn make_new_room(&self, deletion: &mut RoomDeletion) -> Result<(), ApiError> {
        let Some((creator, name, message)) = &deletion.new_room else { return Ok(()) };
        if deletion.new_room_id.is_some() {
            return Ok(());
        }
        let levels = json!({ "events_default": SPEAKER_LEVEL, "invite": SPEAKER_LEVEL });
        let request = CreateRoom {
            preset: Some(Preset::PublicChat),
            name: Some(name.clone()),
            power_level_content_override: levels.as_object().cloned().unwrap_or_default(),
            ..CreateRoom::default()
        };
        let room_id = self.rooms.create(creator, request).await?;
        let content = to_raw_value(&json!({ "msgtype": "m.text", "body": message }));
        let content = content.map_err(|error| ApiError::internal(&error))?;
        self.rooms.send(&room_id, Draft::message(creator.clone(), "m.room.message", content), None).await?;
        deletion.new_room_id = Some(room_id);
        Ok(())
    }

    /// Lets all members of this server leave, and takes them to the new room if there is one.
    async fn put_out(&self, deletion: &mut RoomDeletion) -> Result<(), ApiError> {
        let Some(num) = deletion.room else { return Ok(()) };
        let aliases = self.records.view().room_aliases(num)?;
        for alias in aliases {
            if let Some(new_room) = &deletion.new_room_id {
                self.move_alias(&alias, new_room, deletion).await?;
            }
            if deletion.aliases.len() < NAMED_MAX && !deletion.aliases.iter().any(|known| known == alias.as_str()) {
                deletion.aliases.push(alias.to_string());
            }
        }
        for membership in [Membership::Join, Membership::Invite, Membership::Knock] {
            let mut after: Option<OwnedUserId> = None;
            loop {
                let members = self.records.view().room_members(num, membership, after.as_deref(), MEMBERS_AT_ONCE)?;
                let Some((last, _)) = members.last() else { break };
                after = Some(last.clone());
                for (user, _) in members.into_iter().filter(|(user, _)| self.accounts.is_local(user)) {
                    self.put_one_out(&user, membership, deletion).await;
                }
            }
        }
        Ok(())
    }

    async fn put_one_out(&self, user: &UserId, membership: Membership, deletion: &mut RoomDeletion) {
        let room_id = &deletion.room_id;
        let left = self.rooms.change_membership(room_id, user, MembershipChange::Leave, None, None).await;
        let named = match left {
            Ok(_) => &mut deletion.kicked,
            Err(error) => {
                tracing::warn!(%user, %room_id, %error, "a user could not be put out of a room");
                &mut deletion.failed_to_kick
            }
        };
        if named.len() < NAMED_MAX && !named.iter().any(|known| known == user) {
            named.push(user.to_owned());
        }
        if membership == Membership::Join
            && let Some(new_room) = &deletion.new_room_id
            && let Err(error) = self.rooms.change_membership(new_room, user, MembershipChange::Join, None, None).await
        {
            tracing::warn!(%user, %new_room, %error, "a user could not be taken to the room that replaces another");
        }
    }

    /// Lets an alias of the old room lead to the new one.
    async fn move_alias(
        &self,
        alias: &ruma::RoomAliasId,
        new_room: &OwnedRoomId,
        deletion: &RoomDeletion,
    ) -> Result<(), ApiError> {
        let Some((creator, ..)) = &deletion.new_room else { return Ok(()) };
        self.rooms.delete_alias(alias).await?;
        Ok(self.rooms.put_alias(alias, new_room, creator).await?)
    }
}
