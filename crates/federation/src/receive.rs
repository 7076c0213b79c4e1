//! Events that other servers send (server-server API, "Transactions").

use crate::order::by_prev;
use crate::{Federation, FederationError};
use futures::StreamExt as _;
use records::Membership;
use rooms::RoomError;
use rules::server_acl::ServerAcl;
use rules::{Checked, CheckedPdu};
use ruma::room_version_rules::RoomVersionRules;
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, RoomVersionId, ServerName};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// How many rooms take in events of one transaction at the same time.
const ROOMS_AT_ONCE: usize = 8;

/// What became of an event: taken in (which it is too if its room rejects it), or why it was not.
pub type Outcome = Result<(), String>;
/// What became of each event that could be read.
pub type Outcomes = BTreeMap<OwnedEventId, Outcome>;

impl Federation {
    /// Takes in the events of a transaction, those of different rooms at the same time. What can't be read as an event
    /// of a room is left out: it has no id by which its fate could be told.
    ///
    /// Events of rooms from which the server is barred are refused, and those of rooms that this server is not in.
    /// What an event refers to and is not known is fetched first. The events of one server for one room are taken in
    /// one transaction after another.
    pub async fn receive(&self, origin: &ServerName, pdus: &[Box<RawValue>]) -> Outcomes {
        #[derive(Deserialize)]
        struct Peek {
            room_id: OwnedRoomId,
        }
        let mut by_room: BTreeMap<OwnedRoomId, Vec<String>> = BTreeMap::new();
        for pdu in pdus {
            if let Ok(Peek { room_id }) = serde_json::from_str(pdu.get()) {
                by_room.entry(room_id).or_default().push(pdu.get().to_owned());
            }
        }
        let rooms = by_room.into_iter().map(|(room_id, pdus)| async move {
            let _in_turn = self.lock(&room_id, Some(origin)).await;
            self.receive_in(origin, &room_id, pdus).await
        });
        let outcomes: Vec<Outcomes> = futures::stream::iter(rooms).buffer_unordered(ROOMS_AT_ONCE).collect().await;
        outcomes.into_iter().flatten().collect()
    }

    async fn receive_in(&self, origin: &ServerName, room_id: &RoomId, pdus: Vec<String>) -> Outcomes {
        let mut outcomes = Outcomes::new();
        let known = match self.known_room(origin, room_id) {
            Ok(known) => known,
            Err(error) => {
                tracing::error!(%room_id, %error, "a room can't be read");
                return outcomes;
            }
        };
        let Some(known) = known else {
            tracing::debug!(%room_id, %origin, "events of a room that is not known here");
            return outcomes;
        };
        let mut events = Vec::new();
        let ids =
            pdus.iter().map(|pdu| rules::incoming::Unverified::read(pdu, &known.rules).map(|u| u.event_id().clone()));
        let ids: Vec<Option<OwnedEventId>> = ids.map(Result::ok).collect();
        for (checked, id) in self.0.keys.check(pdus, &known.rules).await.into_iter().zip(ids) {
            match checked {
                Checked::Whole(event) | Checked::Redacted(event) => events.push(event),
                Checked::Drop(reason) => {
                    tracing::info!(%room_id, %origin, %reason, "something that a server sent is no event");
                    if let Some(id) = id {
                        outcomes.insert(id, Err(reason.to_string()));
                    }
                }
            }
        }
        if !known.admits {
            let refused = "the server is barred from the room";
            outcomes.extend(events.iter().map(|event| (event.event_id().clone(), Err(refused.to_owned()))));
            return outcomes;
        }
        if !known.takes_part {
            for event in events {
                let id = event.event_id().clone();
                let outcome = self.receive_outside(room_id, &known.version, event).await;
                outcomes.insert(id, outcome.map_err(|error| error.to_string()));
            }
            return outcomes;
        }
        for event in by_prev(events) {
            let id = event.event_id().clone();
            let outcome = self.take_in(origin, room_id, event).await;
            if let Err(error) = &outcome {
                tracing::info!(%room_id, %origin, event_id = %id, %error, "an event is not taken in");
            }
            outcomes.insert(id, outcome.map_err(|error| error.to_string()));
        }
        outcomes
    }

    /// What an event of a room that this server is not in may still say: that a user of this server is not invited any
    /// more, was refused, or banned, by somebody of the server that has sent it.
    async fn receive_outside(
        &self,
        room_id: &RoomId,
        version: &RoomVersionId,
        event: CheckedPdu,
    ) -> Result<(), FederationError> {
        let not_here = || FederationError::Room(RoomError::NotFound("the room"));
        if event.kind_str() != "m.room.member" {
            return Err(not_here());
        }
        let user = event.state_key().and_then(|key| OwnedUserId::try_from(key).ok()).ok_or_else(not_here)?;
        let is_over = matches!(membership(&event).as_deref(), Some("leave" | "ban"));
        if !is_over || self.is_remote(user.server_name()) || event.sender() == user {
            return Err(not_here());
        }
        let current = {
            let view = self.0.records.view();
            let num = self.0.rooms.num(&view, room_id)?;
            view.membership(&user, num)?.map(|(_, record)| record)
        };
        let concerns = current.is_some_and(|record| match record.membership {
            // Who invited may take it back, as may others of their server.
            Membership::Invite => record.sender.server_name() == event.sender().server_name(),
            Membership::Knock => true,
            _ => false,
        });
        if !concerns {
            return Err(not_here());
        }
        self.0.rooms.out_of_band(room_id, version, event, None).await?;
        Ok(())
    }

    fn known_room(&self, origin: &ServerName, room_id: &RoomId) -> Result<Option<KnownRoom>, FederationError> {
        let view = self.0.records.view();
        let Some(reader) = self.0.rooms.reader_by_id(&view, room_id)? else { return Ok(None) };
        let takes_part = view.joined_of_server(reader.num(), self.server_name())? > 0;
        let acl = reader.state_event(reader.state(), "m.room.server_acl", "")?;
        let admits = acl.is_none_or(|acl| ServerAcl::of_content(acl.pdu.content()).allows(origin));
        Ok(Some(KnownRoom {
            rules: reader.rules().clone(),
            version: reader.head().version.clone(),
            takes_part,
            admits,
        }))
    }
}

/// What is to be known of a room before its events are looked at.
struct KnownRoom {
    rules: RoomVersionRules,
    version: RoomVersionId,
    takes_part: bool,
    admits: bool,
}

/// What a membership event says.
pub(crate) fn membership(event: &rules::Pdu) -> Option<String> {
    #[derive(Deserialize)]
    struct Content {
        membership: String,
    }
    serde_json::from_str::<Content>(event.content().get()).ok().map(|content| content.membership)
}
