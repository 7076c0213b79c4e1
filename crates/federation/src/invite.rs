//! Invitations between servers (server-server API, "Inviting to a room").

use crate::ask::{Path, SOME, read};
use crate::join::{is_unknown_endpoint, raw};
use crate::{Federation, FederationError};
use rooms::{MembershipChange, RoomError, stripped_texts};
use rules::client_event::stripped_state;
use rules::{CheckedPdu, InviteVerdict};
use ruma::serde::JsonObject;
use ruma::{OwnedEventId, RoomId, RoomVersionId, UserId};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

/// The answer of the second version of `invite`, and of the first in a pair with a status.
#[derive(Deserialize)]
struct Invited {
    event: Box<RawValue>,
}

impl Federation {
    /// Invites a user of another server, whose server has to agree and to sign. Nothing, if they are invited or in the
    /// room already.
    ///
    /// # Errors
    ///
    /// What the room refuses, and what the other server does.
    pub async fn invite(
        &self,
        room_id: &RoomId,
        sender: &UserId,
        invited: &UserId,
        reason: Option<String>,
        extra: Option<JsonObject>,
    ) -> Result<Option<OwnedEventId>, FederationError> {
        let change = MembershipChange::Invite { user: invited.to_owned() };
        let prepared = self.0.rooms.prepare_membership(room_id, sender, change, reason, extra).await?;
        let Some(event) = prepared else { return Ok(None) };
        let (version, rules, stripped, whole) = {
            let view = self.0.records.view();
            let reader = self.0.rooms.reader_by_id(&view, room_id)?.ok_or(RoomError::NotFound("the room"))?;
            let whole: Vec<String> =
                reader.outside_state(Some(sender))?.iter().map(|event| event.pdu.json().to_owned()).collect();
            (reader.head().version.clone(), reader.rules().clone(), reader.stripped_state(Some(sender))?, whole)
        };
        let server = invited.server_name();
        let parse = |texts: Vec<String>| -> Vec<Box<RawValue>> {
            texts.into_iter().filter_map(|text| RawValue::from_string(text).ok()).collect()
        };
        // Since version 1.16 of the specification what is shown is whole events; old servers read both.
        let state = parse(whole);
        let body = json!({ "event": raw(&event)?, "invite_room_state": state, "room_version": version });
        let path = |version: &str| {
            Path::new("/_matrix/federation")
                .segment(version)
                .segment("invite")
                .segment(room_id.as_str())
                .segment(event.event_id().as_str())
        };
        let is_old = matches!(version, RoomVersionId::V1 | RoomVersionId::V2);
        let answered: Invited = match self.put(server, path("v2"), &body, SOME).await {
            Err(error) if is_old && is_unknown_endpoint(&error) => {
                let mut event: serde_json::Value =
                    serde_json::from_str(event.json()).map_err(FederationError::unusable)?;
                if let Some(event) = event.as_object_mut() {
                    let unsigned = json!({ "invite_room_state": parse(stripped) });
                    event.insert("unsigned".to_owned(), unsigned);
                }
                let (_, invited): (u16, Invited) = read(&self.put(server, path("v1"), &event, SOME).await?)?;
                invited
            }
            answer => read(&answer?)?,
        };
        let event_id = event.event_id().clone();
        let event = self.countersigned(&event_id, &answered.event, &rules).await?;
        let outcome = self.0.rooms.receive(room_id, vec![event]).await?.pop();
        outcome.transpose()?;
        Ok(Some(event_id))
    }

    /// Takes in an invitation of a user of this server to a room that it may know nothing of. `shown` is what the
    /// inviting server shows of the room: stripped or whole events. Signing it, and whether the user may be invited,
    /// is the caller's.
    ///
    /// # Errors
    ///
    /// [`RoomError::InviteBlocked`] if the user does not want to be invited by this one; [`RoomError::Outdated`] if
    /// this server is in the room: the invitation comes with the room's events then.
    pub async fn invited(
        &self,
        version: &RoomVersionId,
        event: CheckedPdu,
        shown: &[Box<RawValue>],
    ) -> Result<OwnedEventId, FederationError> {
        let room_id = event.room_id().to_owned();
        if let Some(invited) = event.state_key().and_then(|user| <&UserId>::try_from(user).ok())
            && rooms::invite_verdict(&self.0.records.view(), event.sender(), invited)? == InviteVerdict::Block
        {
            return Err(RoomError::InviteBlocked.into());
        }
        let own = stripped_state(&event);
        let texts = shown.iter().map(|event| event.get()).chain(own.as_deref());
        let stripped = stripped_texts(texts);
        Ok(self.0.rooms.out_of_band(&room_id, version, event, Some(stripped)).await?)
    }
}
