//! Leaving rooms, and rejecting invitations, that only other servers are in (server-server API, "Leaving Rooms
//! (Rejecting Invites)").

use crate::ask::{Path, QUICK};
use crate::join::{is_unknown_endpoint, raw};
use crate::template::{MemberEvent, Wanted};
use crate::{Federation, FederationError};
use records::Membership;
use rooms::RoomError;
use rules::CheckedPdu;
use ruma::serde::JsonObject;
use ruma::{OwnedServerName, RoomId, RoomVersionId, ServerName, UserId};
use std::collections::BTreeMap;

impl Federation {
    /// Rejects an invitation, or takes back a knock, in a room that this server is not in. The other servers are told
    /// if they can be reached; the user is rid of it in any case.
    ///
    /// # Errors
    ///
    /// [`RoomError::NotFound`] if there is nothing to leave; if it can't be written down.
    pub async fn leave(&self, room_id: &RoomId, user: &UserId, reason: Option<String>) -> Result<(), FederationError> {
        let _alone = self.lock(room_id, None).await;
        let (version, invited_by) = {
            let view = self.0.records.view();
            let num = self.0.rooms.num(&view, room_id)?;
            let head = view.room_head(num)?.ok_or(RoomError::NotFound("the room"))?;
            match view.membership(user, num)? {
                Some((_, record)) if matches!(record.membership, Membership::Invite | Membership::Knock) => {
                    let event = view.event(record.event)?.map(|(_, event)| event.event_id);
                    (head.version, event)
                }
                _ => return Err(RoomError::NotFound("an invitation").into()),
            }
        };
        let mut content = JsonObject::new();
        if let Some(reason) = reason {
            content.insert("reason".to_owned(), reason.into());
        }
        let mut left = None;
        for server in self.doors(room_id, user, &[])? {
            match self.leave_through(&server, room_id, user, &version, content.clone()).await {
                Ok(event) => {
                    left = Some(event);
                    break;
                }
                Err(error) => tracing::info!(%room_id, %server, %error, "a server does not take that a user leaves"),
            }
        }
        let rules = rules::room_rules(&version).ok_or_else(|| RoomError::UnsupportedVersion(version.to_string()))?;
        let left = match left {
            Some(left) => left,
            // Nobody else knows of it, but the user is not kept in what they want to be rid of.
            None => {
                content.insert("membership".to_owned(), "leave".into());
                let written = rules::pdu::has_written_event_id(&rules);
                self.member_event(MemberEvent {
                    room_id,
                    user,
                    rules: &rules,
                    content,
                    prev_events: invited_by.filter(|_| !written).into_iter().collect(),
                    auth_events: Vec::new(),
                    depth: 1,
                    reference_hashes: BTreeMap::new(),
                })?
            }
        };
        self.0.rooms.out_of_band(room_id, &version, left, None).await?;
        Ok(())
    }

    async fn leave_through(
        &self,
        server: &ServerName,
        room_id: &RoomId,
        user: &UserId,
        version: &RoomVersionId,
        content: JsonObject,
    ) -> Result<CheckedPdu, FederationError> {
        let made = self.make("make_leave", server, room_id, user).await?;
        let version = made.room_version.as_ref().unwrap_or(version);
        let rules = rules::room_rules(version).ok_or_else(|| RoomError::UnsupportedVersion(version.to_string()))?;
        let wanted = Wanted { room_id, user, membership: "leave" };
        let event = self.fill_template(&made.event, wanted, &rules, content)?;
        let path = |version: &str| {
            Path::new("/_matrix/federation")
                .segment(version)
                .segment("send_leave")
                .segment(room_id.as_str())
                .segment(event.event_id().as_str())
        };
        let body = raw(&event)?;
        match self.put(server, path("v2"), &body, QUICK).await {
            Err(error) if is_unknown_endpoint(&error) => self.put(server, path("v1"), &body, QUICK).await?,
            answer => answer?,
        };
        Ok(event)
    }

    /// The servers that a user who is not in a room could leave it through, if any are known.
    ///
    /// # Errors
    ///
    /// If the records can't be read.
    pub fn servers_of(&self, room_id: &RoomId, user: &UserId) -> Result<Vec<OwnedServerName>, FederationError> {
        self.doors(room_id, user, &[])
    }
}
