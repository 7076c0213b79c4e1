//! Knocking on rooms that only other servers are in (server-server API, "Knocking upon a room").

use crate::ask::{Path, QUICK, read};
use crate::join::{Joining, raw};
use crate::template::Wanted;
use crate::{Federation, FederationError};
use rooms::{RoomError, stripped_texts};
use rules::client_event::stripped_state;
use ruma::{OwnedEventId, RoomVersionId, ServerName};
use serde::Deserialize;
use serde_json::value::RawValue;

/// The answer of `send_knock`.
#[derive(Deserialize)]
struct Knocked {
    #[serde(default)]
    knock_room_state: Vec<Box<RawValue>>,
}

impl Federation {
    /// Asks to be let into a room, through a server that is in it.
    ///
    /// # Errors
    ///
    /// As [`Federation::join`].
    pub async fn knock(&self, knocking: Joining<'_>) -> Result<OwnedEventId, FederationError> {
        let _alone = self.lock(knocking.room_id, None).await;
        let mut telling = FederationError::NobodyToAsk;
        for server in self.doors(knocking.room_id, knocking.user, knocking.via)? {
            match self.knock_through(&server, &knocking).await {
                Ok(event_id) => return Ok(event_id),
                Err(error) if error.weight() > telling.weight() => telling = error,
                Err(_) => {}
            }
        }
        Err(telling)
    }

    async fn knock_through(
        &self,
        server: &ServerName,
        knocking: &Joining<'_>,
    ) -> Result<OwnedEventId, FederationError> {
        let (room_id, user) = (knocking.room_id, knocking.user);
        let made = self.make("make_knock", server, room_id, user).await?;
        let version = made.room_version.clone().unwrap_or(RoomVersionId::V1);
        let rules = rules::room_rules(&version).ok_or_else(|| RoomError::UnsupportedVersion(version.to_string()))?;
        let wanted = Wanted { room_id, user, membership: "knock" };
        let content = self.content(user, knocking.reason.clone(), knocking.extra.clone())?;
        let event = self.fill_template(&made.event, wanted, &rules, content)?;
        let path =
            Path::new("/_matrix/federation/v1/send_knock").segment(room_id.as_str()).segment(event.event_id().as_str());
        let answer: Knocked = read(&self.put(server, path, &raw(&event)?, QUICK).await?)?;
        let own = stripped_state(&event);
        let texts = answer.knock_room_state.iter().map(|event| event.get()).chain(own.as_deref());
        let stripped = stripped_texts(texts);
        Ok(self.0.rooms.out_of_band(room_id, &version, event, Some(stripped)).await?)
    }
}
