//! Guests of this server, and the rooms that let them in (client-server API, "Guest Access").
//!
//! Whether somebody is a guest is known to their own server only, which sees to it that they are in no room that
//! has not said so. The room's writer decides who enters; who has to go when a room does not let guests in any
//! more goes after that is on disk.

use crate::work::Work;
use crate::{MembershipChange, RoomError, Rooms};
use base::RoomNum;
use records::Membership;
use room_core::Draft;
use rules::Pdu;
use ruma::OwnedUserId;
use ruma::events::StateEventType;
use ruma::events::room::member::MembershipState;
use serde::Deserialize;

/// The type of the state that says whether guests may join.
pub(crate) const GUEST_ACCESS: &str = "m.room.guest_access";
/// How many members are looked at at once.
const MEMBERS_PAGE: usize = 1000;

/// Whether a room with this state event lets guests in.
fn lets_in(guest_access: Option<&Pdu>) -> bool {
    #[derive(Deserialize)]
    struct Content {
        guest_access: String,
    }
    let content = guest_access.and_then(|pdu| serde_json::from_str::<Content>(pdu.content().get()).ok());
    content.is_some_and(|content| content.guest_access == "can_join")
}

impl Work {
    /// Refuses the entry of a guest to a room that does not let them in.
    pub(crate) fn check_guest(&mut self, draft: &Draft) -> Result<(), RoomError> {
        #[derive(Deserialize)]
        struct Content {
            membership: MembershipState,
        }
        if draft.kind != "m.room.member" {
            return Ok(());
        }
        let content = serde_json::from_str::<Content>(draft.content.get()).ok();
        let user = draft.state_key.as_deref().and_then(|key| OwnedUserId::try_from(key).ok());
        let Some(user) = user.filter(|_| content.is_some_and(|content| content.membership == MembershipState::Join))
        else {
            return Ok(());
        };
        if !self.changes.view().user(&user)?.is_some_and(|user| user.guest) {
            return Ok(());
        }
        let is_in = self.changes.membership(&user, self.num())?;
        if is_in.is_some_and(|record| record.membership == Membership::Join) {
            return Ok(());
        }
        let access = self.current(&(StateEventType::RoomGuestAccess, String::new()))?;
        if lets_in(access.as_ref().map(|(_, pdu)| &**pdu)) { Ok(()) } else { Err(RoomError::GuestsForbidden) }
    }
}

impl Rooms {
    /// Takes the guests of this server out of a room that does not let them in any more.
    pub(crate) async fn put_guests_out(self, num: RoomNum) {
        if let Err(error) = self.try_put_guests_out(num).await {
            tracing::error!(room = %num, %error, "guests are still in a room that does not let them in");
        }
    }

    async fn try_put_guests_out(&self, num: RoomNum) -> Result<(), RoomError> {
        let mut after = None;
        loop {
            let view = self.records().view();
            let Some(reader) = self.reader(&view, num)? else { return Ok(()) };
            let access = reader.state_event(reader.state(), GUEST_ACCESS, "")?;
            if lets_in(access.as_ref().map(|event| &*event.pdu)) {
                return Ok(());
            }
            let members = view.room_members(num, Membership::Join, after.as_deref(), MEMBERS_PAGE)?;
            let mut guests = Vec::new();
            for (user, _) in members.iter().filter(|(user, _)| user.server_name() == self.server_name()) {
                if view.user(user)?.is_some_and(|user| user.guest) {
                    guests.push(user.clone());
                }
            }
            let room_id = reader.room_id().to_owned();
            let is_last = members.len() < MEMBERS_PAGE;
            after = members.into_iter().last().map(|(user, _)| user);
            drop((reader, view));
            for guest in guests {
                self.change_membership(&room_id, &guest, MembershipChange::Leave, None, None).await?;
            }
            if is_last {
                return Ok(());
            }
        }
    }
}
