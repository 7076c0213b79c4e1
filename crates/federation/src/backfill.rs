//! History from before this server came into a room (server-server API, "Backfilling and retrieving missing events").

use crate::ask::{Path, SOME, read};
use crate::fetch::Of;
use crate::order::by_prev;
use crate::{Federation, FederationError};
use base::Order;
use rooms::{Backfill, RoomError};
use rules::CheckedPdu;
use ruma::{EventId, OwnedEventId, OwnedServerName, RoomId};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::{HashMap, HashSet};
use store::Direction;

/// How many events of the start of the timeline are looked at for what they follow.
const FIRST_EVENTS: usize = 50;
/// How many events that are followed and not known are asked from.
const FROM_MAX: usize = 10;
/// How many servers are asked for history.
const SERVERS_MAX: usize = 4;
/// The fewest events that are asked for.
const EVENTS_MIN: usize = 20;
/// The most.
const EVENTS_MAX: usize = 100;

impl Federation {
    /// Fetches history from before the first event of a room's timeline, if there is any that other servers may give.
    /// Whether there is more of the timeline now.
    ///
    /// # Errors
    ///
    /// If the room is not known, or its records can't be read or written. That no server helps is no error.
    pub async fn backfill(&self, room_id: &RoomId, events_wanted: usize) -> Result<bool, FederationError> {
        let began = self.begin_of(room_id)?;
        if began.is_empty() {
            return Ok(false);
        }
        let _alone = self.lock(room_id, None).await;
        // Somebody else may just have done it.
        let (first, from) = self.start_of(room_id)?;
        if first != began.first().map_or(first, |(order, _)| *order) {
            return Ok(true);
        }
        if from.is_empty() {
            return Ok(false);
        }
        let rules = self.rules_of(room_id)?;
        let of = Of { room_id, rules: &rules };
        let limit = events_wanted.clamp(EVENTS_MIN, EVENTS_MAX);
        let servers = self.residents(room_id, &[], SERVERS_MAX)?;
        for server in &servers {
            match self.history(server, of, &from, limit).await {
                Ok(events) if events.is_empty() => {}
                Ok(events) => {
                    if self.place(server, of, events).await? {
                        return Ok(true);
                    }
                }
                Err(error) => tracing::info!(%room_id, %server, %error, "history can't be fetched"),
            }
        }
        Ok(false)
    }

    /// Whether there is history from before the first events of a room's timeline that is not known here.
    ///
    /// # Errors
    ///
    /// If the room is not known, or its records can't be read.
    pub fn has_unknown_past(&self, room_id: &RoomId) -> Result<bool, FederationError> {
        Ok(!self.begin_of(room_id)?.is_empty())
    }

    /// Fetches one event of a room's past, with the state before it. Whether it is known now.
    ///
    /// # Errors
    ///
    /// As [`Federation::backfill`].
    pub async fn fetch_past(&self, room_id: &RoomId, event_id: &EventId) -> Result<bool, FederationError> {
        let rules = self.rules_of(room_id)?;
        let of = Of { room_id, rules: &rules };
        let known = {
            let view = self.0.records.view();
            let reader = self.0.rooms.reader_by_id(&view, room_id)?.ok_or(RoomError::NotFound("the room"))?;
            reader.event_by_id(event_id)?.is_some()
        };
        if known {
            return Ok(true);
        }
        let servers = self.residents(room_id, &[], SERVERS_MAX)?;
        for server in &servers {
            let events = self.single_events(std::slice::from_ref(server), of, &[event_id.to_owned()]).await;
            if !events.is_empty() && self.place(server, of, events).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn begin_of(&self, room_id: &RoomId) -> Result<Vec<(Order, OwnedEventId)>, FederationError> {
        let (first, from) = self.start_of(room_id)?;
        Ok(from.into_iter().map(|id| (first, id)).collect())
    }

    /// The place of the first event of the timeline, and what the first ones follow that is not known.
    fn start_of(&self, room_id: &RoomId) -> Result<(Order, Vec<OwnedEventId>), FederationError> {
        let view = self.0.records.view();
        let reader = self.0.rooms.reader_by_id(&view, room_id)?.ok_or(RoomError::NotFound("the room"))?;
        let events = reader.timeline(Order(i64::MIN), Order(i64::MAX), Direction::Forward, FIRST_EVENTS)?;
        let first = events.first().map_or(Order(0), |event| event.order);
        let mut unknown: Vec<OwnedEventId> = Vec::new();
        for event in events {
            for id in self.0.rooms.unknown_references(&view, reader.num(), &event.pdu)?.prev {
                if !unknown.contains(&id) && unknown.len() < FROM_MAX {
                    unknown.push(id);
                }
            }
        }
        Ok((first, unknown))
    }

    async fn history(
        &self,
        server: &OwnedServerName,
        of: Of<'_>,
        from: &[OwnedEventId],
        limit: usize,
    ) -> Result<Vec<CheckedPdu>, FederationError> {
        #[derive(Deserialize)]
        struct History {
            #[serde(default)]
            pdus: Vec<Box<RawValue>>,
        }
        let mut path = Path::new("/_matrix/federation/v1/backfill").segment(of.room_id.as_str());
        for id in from {
            path = path.query("v", id.as_str());
        }
        let answer: History = read(&self.get(server, path.query("limit", &limit.to_string()), SOME).await?)?;
        let events = answer.pdus.iter().map(|event| &**event).take(limit + from.len()).collect();
        Ok(self.checked(events, of.rules, of.room_id).await)
    }

    /// Places events before the timeline. Whether there were any that could be.
    async fn place(
        &self,
        server: &OwnedServerName,
        of: Of<'_>,
        events: Vec<CheckedPdu>,
    ) -> Result<bool, FederationError> {
        let mut events = by_prev(events);
        events.retain(|event| self.is_unknown(event));
        let ids: HashSet<OwnedEventId> = events.iter().map(|event| event.event_id().clone()).collect();
        let mut states = HashMap::new();
        let mut lost: HashSet<OwnedEventId> = HashSet::new();
        for event in &events {
            let (prev, auth) = {
                let view = self.0.records.view();
                let unknown = self.0.rooms.unknown_references(&view, self.0.rooms.num(&view, of.room_id)?, event)?;
                (unknown.prev, unknown.auth)
            };
            if auth.iter().any(|id| !ids.contains(id))
                && let Err(error) = self.fetch_auth(server, of, event).await
            {
                tracing::info!(event_id = %event.event_id(), %error, "what allows an event of the past is missing");
            }
            if prev.iter().any(|id| !ids.contains(id) || lost.contains(id)) {
                match self.fetch_state(server, of, event).await {
                    Ok(state) => drop(states.insert(event.event_id().clone(), state)),
                    Err(error) => {
                        tracing::info!(event_id = %event.event_id(), %error, "the state before an event is missing");
                        lost.insert(event.event_id().clone());
                    }
                }
            }
        }
        // What follows an event that could not be placed can't be either, unless its state is known.
        let mut kept = Vec::with_capacity(events.len());
        for event in events {
            let follows_lost = event.prev_events().iter().any(|id| lost.contains(id));
            if lost.contains(event.event_id()) || follows_lost && !states.contains_key(event.event_id()) {
                lost.insert(event.event_id().clone());
            } else {
                kept.push(event);
            }
        }
        if kept.is_empty() {
            return Ok(false);
        }
        let outcomes =
            self.0.rooms.backfill(of.room_id, Backfill { events: kept, outliers: Vec::new(), states }).await?;
        Ok(outcomes.iter().any(Result::is_ok))
    }
}
