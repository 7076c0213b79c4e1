//! One event, as the client wants it.

use super::Context;
use crate::SyncError;
use rooms::{Recipient, RoomReader, StoredEvent};
use rules::Pdu;
use rules::client_event::Format;
use ruma::events::room::member::MembershipState;
use serde::Deserialize;
use sync_core::EventFormat;

impl Context<'_> {
    /// The JSON of an event. `membership` is what the user was to the room at the event, where that is known.
    pub(crate) fn event(
        &self,
        reader: &RoomReader,
        event: &StoredEvent,
        membership: Option<&MembershipState>,
    ) -> Result<String, SyncError> {
        let text = match self.filter.format {
            EventFormat::Federation => reader.copy_for(self.user(), event, membership)?.json().to_owned(),
            EventFormat::Client => {
                let text = reader.client_event_alone(event, self.recipient(), membership, Format::WithoutRoomId)?;
                String::from(Box::<str>::from(text))
            }
        };
        Ok(self.select_fields(text))
    }

    /// The JSON of an event of a timeline that leaves a gap, with what relates to the event: that may be in the
    /// gap (client-server API, "Aggregations of child events").
    pub(crate) fn event_with_relations(
        &self,
        reader: &RoomReader,
        event: &StoredEvent,
        membership: &MembershipState,
    ) -> Result<String, SyncError> {
        if self.filter.format == EventFormat::Federation {
            return self.event(reader, event, Some(membership));
        }
        let text = reader.client_event(event, self.recipient(), Some(membership), Format::WithoutRoomId)?;
        Ok(self.select_fields(String::from(Box::<str>::from(text))))
    }

    fn recipient(&self) -> Recipient<'_> {
        Recipient { user_id: self.user(), device_id: Some(&*self.request.device_id), now: self.now }
    }

    /// The fields of an event that the filter wants.
    pub(super) fn select_fields(&self, event: String) -> String {
        match &self.filter.fields {
            Some(fields) => fields.select(&event),
            None => event,
        }
    }
}

/// Whether a membership event says that its user is joined.
pub fn says_join(member: &Pdu) -> bool {
    #[derive(Deserialize)]
    struct Content {
        membership: MembershipState,
    }
    serde_json::from_str::<Content>(member.content().get())
        .is_ok_and(|content| content.membership == MembershipState::Join)
}
