//! Fetching events from other servers.

use crate::ask::{Path, QUICK, SOME, WHOLE, read};
use crate::{Federation, FederationError};
use futures::StreamExt as _;
use rules::{Checked, CheckedPdu, Pdu};
use ruma::room_version_rules::RoomVersionRules;
use ruma::{EventId, OwnedEventId, OwnedServerName, RoomId, ServerName};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

/// How many single events are asked for at the same time.
const EVENTS_AT_ONCE: usize = 8;

/// A room of which events are fetched.
#[derive(Clone, Copy)]
pub(crate) struct Of<'a> {
    pub room_id: &'a RoomId,
    pub rules: &'a RoomVersionRules,
}

/// The events that are right and of the room.
pub(crate) fn events_of(checked: Vec<Checked>, room_id: &RoomId) -> Vec<CheckedPdu> {
    let event = |checked| match checked {
        Checked::Whole(event) | Checked::Redacted(event) if event.room_id() == room_id => Some(event),
        Checked::Whole(event) | Checked::Redacted(event) => {
            tracing::info!(event_id = %event.event_id(), %room_id, "an event is of another room than was asked for");
            None
        }
        Checked::Drop(reason) => {
            tracing::info!(%reason, %room_id, "something that was fetched is no event");
            None
        }
    };
    checked.into_iter().filter_map(event).collect()
}

/// The creation of the room, if it is among these events.
pub(crate) fn find_create(events: &[CheckedPdu]) -> Option<&Pdu> {
    events
        .iter()
        .find(|event| event.kind_str() == "m.room.create" && event.state_key() == Some(""))
        .map(|event| &**event)
}

/// A room's state before an event, by ids.
#[derive(Deserialize)]
pub(crate) struct StateIds {
    pub pdu_ids: Vec<OwnedEventId>,
    #[serde(default)]
    pub auth_chain_ids: Vec<OwnedEventId>,
}

impl Federation {
    /// Events between what is known and what came (`get_missing_events`), oldest first as far as the server says so.
    pub(crate) async fn events_between(
        &self,
        server: &ServerName,
        of: Of<'_>,
        known: &[OwnedEventId],
        latest: &[OwnedEventId],
        events_max: usize,
    ) -> Result<Vec<CheckedPdu>, FederationError> {
        #[derive(Deserialize)]
        struct Between {
            #[serde(default)]
            events: Vec<Box<RawValue>>,
        }
        let path = Path::new("/_matrix/federation/v1/get_missing_events").segment(of.room_id.as_str());
        let body = json!({ "limit": events_max, "min_depth": 0, "earliest_events": known, "latest_events": latest });
        let answer: Between = read(&self.post(server, path, &body, SOME).await?)?;
        let events = answer.events.iter().map(|event| &**event).take(events_max).collect();
        Ok(self.checked(events, of.rules, of.room_id).await)
    }

    /// The ids of the state before an event, and of what allows it.
    pub(crate) async fn state_ids(
        &self,
        server: &ServerName,
        of: Of<'_>,
        event_id: &EventId,
    ) -> Result<StateIds, FederationError> {
        let path = Path::new("/_matrix/federation/v1/state_ids").segment(of.room_id.as_str());
        read(&self.get(server, path.query("event_id", event_id.as_str()), WHOLE).await?)
    }

    /// The whole state before an event, with what allows it.
    pub(crate) async fn whole_state(
        &self,
        server: &ServerName,
        of: Of<'_>,
        event_id: &EventId,
    ) -> Result<Vec<CheckedPdu>, FederationError> {
        #[derive(Deserialize)]
        struct State {
            #[serde(default)]
            pdus: Vec<Box<RawValue>>,
            #[serde(default)]
            auth_chain: Vec<Box<RawValue>>,
        }
        let path = Path::new("/_matrix/federation/v1/state").segment(of.room_id.as_str());
        let answer: State = read(&self.get(server, path.query("event_id", event_id.as_str()), WHOLE).await?)?;
        let events = answer.auth_chain.iter().chain(&answer.pdus).map(|event| &**event).collect();
        Ok(self.checked(events, of.rules, of.room_id).await)
    }

    /// What allows an event (`event_auth`).
    pub(crate) async fn auth_chain(
        &self,
        server: &ServerName,
        of: Of<'_>,
        event_id: &EventId,
    ) -> Result<Vec<CheckedPdu>, FederationError> {
        #[derive(Deserialize)]
        struct Chain {
            #[serde(default)]
            auth_chain: Vec<Box<RawValue>>,
        }
        let path =
            Path::new("/_matrix/federation/v1/event_auth").segment(of.room_id.as_str()).segment(event_id.as_str());
        let answer: Chain = read(&self.get(server, path, SOME).await?)?;
        Ok(self.checked(answer.auth_chain.iter().map(|event| &**event).collect(), of.rules, of.room_id).await)
    }

    /// Single events, each from the first of these servers that gives it.
    pub(crate) async fn single_events(
        &self,
        servers: &[OwnedServerName],
        of: Of<'_>,
        ids: &[OwnedEventId],
    ) -> Vec<CheckedPdu> {
        let fetched = futures::stream::iter(ids.iter().cloned().enumerate()).map(|(nth, id)| async move {
            // Each begins with another server, so that none has to bear it alone.
            for server in servers.iter().cycle().skip(nth % servers.len().max(1)).take(servers.len()) {
                match self.single_event(server, of, &id).await {
                    Ok(Some(event)) => return Some(event),
                    Ok(None) => {}
                    Err(error) => tracing::debug!(%server, event_id = %id, %error, "an event can't be fetched"),
                }
            }
            None
        });
        fetched.buffer_unordered(EVENTS_AT_ONCE).filter_map(|event| async { event }).collect().await
    }

    async fn single_event(
        &self,
        server: &ServerName,
        of: Of<'_>,
        id: &EventId,
    ) -> Result<Option<CheckedPdu>, FederationError> {
        #[derive(Deserialize)]
        struct Single {
            #[serde(default)]
            pdus: Vec<Box<RawValue>>,
        }
        let path = Path::new("/_matrix/federation/v1/event").segment(id.as_str());
        let answer: Single = read(&self.get(server, path, QUICK).await?)?;
        let events = answer.pdus.iter().map(|event| &**event).take(1).collect();
        let events = self.checked(events, of.rules, of.room_id).await;
        Ok(events.into_iter().find(|event| event.event_id() == id))
    }
}
