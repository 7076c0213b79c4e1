//! Rooms that administrators have blocked: nobody of this server enters them or is invited.

use crate::reader::membership_in;
use crate::work::Work;
use crate::{RoomError, Rooms};
use records::BlockedRoom;
use room_core::Draft;
use ruma::events::room::member::MembershipState;
use ruma::{RoomId, UserId};

impl Rooms {
    /// Blocks a room, whether it is known here or not, or takes that back. What is under way when this answers is not
    /// let in any more.
    pub async fn set_blocked(&self, room_id: &RoomId, by: &UserId, blocked: bool) -> Result<(), RoomError> {
        let mut changes = self.no_changes();
        if blocked {
            let at = self.shared().clock.now();
            changes.block_room(room_id, &BlockedRoom { by: by.to_owned(), at });
        } else {
            changes.unblock_room(room_id);
        }
        self.records().commit(changes).await?;
        Ok(())
    }
}

impl Work {
    /// Refuses who would enter a blocked room, invite to it or knock on it.
    pub(crate) fn expect_not_blocked(&mut self, draft: &Draft) -> Result<(), RoomError> {
        let enters = draft.kind == "m.room.member"
            && matches!(
                membership_in(&draft.content),
                MembershipState::Join | MembershipState::Invite | MembershipState::Knock
            );
        if enters {
            let room_id = self.loaded.head.room_id.clone();
            if self.changes.view().blocked_room(&room_id)?.is_some() {
                return Err(RoomError::Forbidden("the room is blocked on this server".to_owned()));
            }
            self.changes.expect_not_blocked(&room_id);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::tests::{alice, bob, room_of, rooms};
    use crate::{MembershipChange, Preset, RoomError};
    use ruma::RoomVersionId;

    #[tokio::test]
    async fn nobody_enters_a_blocked_room_until_it_is_unblocked() {
        let rooms = rooms().await;
        let room = room_of(&rooms, RoomVersionId::V12, Preset::PublicChat).await;
        rooms.set_blocked(&room, &alice(), true).await.unwrap();
        let user = bob();
        let joins = || rooms.change_membership(&room, &user, MembershipChange::Join, None, None);
        assert!(matches!(joins().await, Err(RoomError::Forbidden(_))));
        let invites = MembershipChange::Invite { user: bob() };
        let invited = rooms.change_membership(&room, &alice(), invites, None, None).await;
        assert!(matches!(invited, Err(RoomError::Forbidden(_))));
        rooms.set_blocked(&room, &alice(), false).await.unwrap();
        joins().await.unwrap();
        rooms.set_blocked(&room, &alice(), true).await.unwrap();
        rooms.change_membership(&room, &bob(), MembershipChange::Leave, None, None).await.unwrap();
    }
}
