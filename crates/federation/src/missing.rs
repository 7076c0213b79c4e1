//! What an event refers to and is not known here: fetched from several servers, bounded in number, rounds and time,
//! and handed to the room.

use crate::fetch::Of;
use crate::order::{by_auth, by_prev};
use crate::{Federation, FederationError, PeerError};
use rooms::{References, RoomError};
use rules::{CheckedPdu, Pdu};
use ruma::room_version_rules::RoomVersionRules;
use ruma::{OwnedEventId, OwnedServerName, RoomId, ServerName};
use std::collections::{HashMap, HashSet};
use std::time::Duration;

/// How many events one request for those between asks for.
const BETWEEN_MAX: usize = 50;
/// How many events are fetched because one that came follows them.
const EVENTS_MAX: usize = 200;
/// How often it is asked what came before.
const ROUNDS_MAX: usize = 6;
/// How many servers are asked for what is missing.
const SERVERS_MAX: usize = 4;
/// From how many unknown events of a state on it is fetched whole.
const SINGLE_EVENTS_MAX: usize = 60;
/// How often events that allow others are asked for, each time those that the last ones name.
const AUTH_DEPTH_MAX: usize = 12;
/// How many events that allow one are fetched.
const AUTH_EVENTS_MAX: usize = 2_000;
/// How long all of it may take for one event.
const TIME_MAX: Duration = Duration::from_mins(2);

/// Whether an event was sent to this server, or fetched by it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Came {
    Sent,
    Fetched,
}

impl Federation {
    /// Takes an event into its room, with what is missing of what it refers to.
    ///
    /// # Errors
    ///
    /// [`RoomError::Missing`] if that can't be got. An event that a room rejects is taken in, and is no error.
    pub(crate) async fn take_in(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        event: CheckedPdu,
    ) -> Result<(), FederationError> {
        let rules = self.rules_of(room_id)?;
        let of = Of { room_id, rules: &rules };
        match tokio::time::timeout(TIME_MAX, self.take_in_with_past(origin, of, event)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(PeerError::Unreachable("what the event refers to did not come in time".to_owned()).into()),
        }
    }

    /// What the version of a room that is known demands.
    pub(crate) fn rules_of(&self, room_id: &RoomId) -> Result<RoomVersionRules, FederationError> {
        let view = self.0.records.view();
        let head = view.room_head(self.0.rooms.num(&view, room_id)?)?.ok_or(RoomError::NotFound("the room"))?;
        let rules = rules::room_rules(&head.version);
        Ok(rules.ok_or_else(|| RoomError::UnsupportedVersion(head.version.to_string()))?)
    }

    async fn take_in_with_past(
        &self,
        origin: &ServerName,
        of: Of<'_>,
        event: CheckedPdu,
    ) -> Result<(), FederationError> {
        let missing = self.unknown(of, &event)?;
        if missing.prev.is_empty() {
            return self.take_in_one(origin, of, event, Came::Sent).await;
        }
        let past = self.past_of(origin, of, &event).await;
        for earlier in past {
            let event_id = earlier.event_id().clone();
            if let Err(error) = self.take_in_one(origin, of, earlier, Came::Fetched).await {
                tracing::info!(%event_id, room_id = %of.room_id, %error, "a fetched event is not taken in");
            }
        }
        self.take_in_one(origin, of, event, Came::Sent).await
    }

    fn unknown(&self, of: Of<'_>, event: &Pdu) -> Result<References, FederationError> {
        let view = self.0.records.view();
        let num = self.0.rooms.num(&view, of.room_id)?;
        Ok(self.0.rooms.unknown_references(&view, num, event)?)
    }

    /// The events that come between what is known and an event, oldest first.
    async fn past_of(&self, origin: &ServerName, of: Of<'_>, event: &CheckedPdu) -> Vec<CheckedPdu> {
        let mut found: Vec<CheckedPdu> = Vec::new();
        let mut ids: HashSet<OwnedEventId> = HashSet::new();
        let mut latest = vec![event.event_id().clone()];
        for _ in 0..ROUNDS_MAX {
            let room_left = EVENTS_MAX.saturating_sub(found.len());
            if room_left == 0 {
                break;
            }
            let Ok(known) = self.tips(of.room_id) else { break };
            let some = match self.events_between(origin, of, &known, &latest, room_left.min(BETWEEN_MAX)).await {
                Ok(some) => some,
                Err(error) => {
                    tracing::info!(room_id = %of.room_id, %origin, %error, "missing events can't be fetched");
                    break;
                }
            };
            let before = found.len();
            for event in some {
                if self.is_unknown(&event) && ids.insert(event.event_id().clone()) {
                    found.push(event);
                }
            }
            if found.len() == before {
                break;
            }
            // Those that follow what nobody has given yet: it is asked for what comes before them.
            let open = |event: &&CheckedPdu| {
                let missing = self.unknown(of, event).map(|missing| missing.prev).unwrap_or_default();
                missing.iter().any(|id| !ids.contains(id))
            };
            latest = found.iter().filter(open).map(|event| event.event_id().clone()).take(20).collect();
            if latest.is_empty() {
                break;
            }
        }
        by_prev(found)
    }

    pub(crate) fn is_unknown(&self, event: &Pdu) -> bool {
        let view = self.0.records.view();
        let num = view.event_num(event.event_id()).ok().flatten();
        let record = num.and_then(|num| view.event(num).ok().flatten());
        record.is_none_or(|(_, record)| record.status == records::EventStatus::Outlier)
    }

    /// The ids of a room's forward extremities.
    fn tips(&self, room_id: &RoomId) -> Result<Vec<OwnedEventId>, FederationError> {
        let view = self.0.records.view();
        let head = view.room_head(self.0.rooms.num(&view, room_id)?)?.ok_or(RoomError::NotFound("the room"))?;
        let records = view.events(&head.extremities)?;
        Ok(records.into_iter().flatten().map(|(_, record)| record.event_id).take(20).collect())
    }

    async fn take_in_one(
        &self,
        origin: &ServerName,
        of: Of<'_>,
        event: CheckedPdu,
        came: Came,
    ) -> Result<(), FederationError> {
        let missing = self.unknown(of, &event)?;
        if !missing.auth.is_empty() {
            self.fetch_auth(origin, of, &event).await?;
        }
        let mut states = HashMap::new();
        if !missing.prev.is_empty() {
            // An event that was sent here could become the only one that the room goes on from, with a state that is
            // whatever its sender says. Whoever sends one gives what it follows.
            if came == Came::Sent {
                return Err(RoomError::Missing(missing.prev).into());
            }
            let state = self.fetch_state(origin, of, &event).await?;
            states.insert(event.event_id().clone(), state);
        }
        let outcomes = self.0.rooms.receive_after(of.room_id, vec![event], states).await?;
        for outcome in outcomes {
            outcome?;
        }
        Ok(())
    }

    /// Fetches what allows an event: all at once from one server, or what it names one by one, deeper and deeper.
    pub(crate) async fn fetch_auth(&self, origin: &ServerName, of: Of<'_>, event: &Pdu) -> Result<(), FederationError> {
        let servers = self.residents(of.room_id, &[origin.to_owned()], SERVERS_MAX)?;
        let mut events = match self.auth_chain(origin, of, event.event_id()).await {
            Ok(chain) => chain,
            Err(error) => {
                tracing::debug!(%origin, event_id = %event.event_id(), %error, "an auth chain can't be fetched");
                Vec::new()
            }
        };
        let mut ids: HashSet<OwnedEventId> = events.iter().map(|event| event.event_id().clone()).collect();
        for _ in 0..AUTH_DEPTH_MAX {
            let named = events.iter().flat_map(|event| event.auth_events()).chain(event.auth_events());
            let wanted: HashSet<OwnedEventId> = named.filter(|id| !ids.contains(*id)).cloned().collect();
            let wanted = self.not_stored(wanted)?;
            if wanted.is_empty() || events.len() >= AUTH_EVENTS_MAX {
                break;
            }
            let wanted: Vec<OwnedEventId> = wanted.into_iter().take(AUTH_EVENTS_MAX - events.len()).collect();
            let found = self.single_events(&servers, of, &wanted).await;
            if found.is_empty() {
                break;
            }
            ids.extend(found.iter().map(|event| event.event_id().clone()));
            events.extend(found);
        }
        events.truncate(AUTH_EVENTS_MAX);
        self.put_outliers(of, events).await
    }

    /// Fetches the state before an event, and answers the ids of its events, all of which are stored then.
    pub(crate) async fn fetch_state(
        &self,
        origin: &ServerName,
        of: Of<'_>,
        event: &Pdu,
    ) -> Result<Vec<OwnedEventId>, FederationError> {
        let servers = self.residents(of.room_id, &[origin.to_owned()], SERVERS_MAX)?;
        let mut last = FederationError::NobodyToAsk;
        for server in &servers {
            match self.fetch_state_from(server, &servers, of, event).await {
                Ok(state) => return Ok(state),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn fetch_state_from(
        &self,
        server: &ServerName,
        servers: &[OwnedServerName],
        of: Of<'_>,
        event: &Pdu,
    ) -> Result<Vec<OwnedEventId>, FederationError> {
        let ids = self.state_ids(server, of, event.event_id()).await?;
        let wanted: HashSet<OwnedEventId> = ids.pdu_ids.iter().chain(&ids.auth_chain_ids).cloned().collect();
        let wanted = self.not_stored(wanted)?;
        if !wanted.is_empty() {
            let mut events = Vec::new();
            if wanted.len() > SINGLE_EVENTS_MAX {
                events = self.whole_state(server, of, event.event_id()).await.unwrap_or_default();
            }
            let found: HashSet<&OwnedEventId> = events.iter().map(|event| event.event_id()).collect();
            let rest: Vec<OwnedEventId> = wanted.into_iter().filter(|id| !found.contains(id)).collect();
            if rest.len() > AUTH_EVENTS_MAX {
                return Err(FederationError::unusable("too much of the state is missing"));
            }
            events.extend(self.single_events(servers, of, &rest).await);
            self.put_outliers(of, events).await?;
        }
        let missing = self.not_stored(ids.pdu_ids.iter().cloned().collect())?;
        if missing.is_empty() { Ok(ids.pdu_ids) } else { Err(RoomError::Missing(missing).into()) }
    }

    /// Those of these events that are not known in any way.
    fn not_stored(&self, ids: HashSet<OwnedEventId>) -> Result<Vec<OwnedEventId>, FederationError> {
        let ids: Vec<OwnedEventId> = ids.into_iter().collect();
        let nums = self.0.records.view().event_nums(&ids)?;
        Ok(ids.into_iter().zip(nums).filter(|(_, num)| num.is_none()).map(|(id, _)| id).collect())
    }

    async fn put_outliers(&self, of: Of<'_>, events: Vec<CheckedPdu>) -> Result<(), FederationError> {
        let outcomes = self.0.rooms.outliers(of.room_id, by_auth(events)).await?;
        for error in outcomes.into_iter().filter_map(Result::err) {
            match error {
                RoomError::Internal(_) | RoomError::Overloaded => return Err(error.into()),
                error => tracing::info!(room_id = %of.room_id, %error, "an event that others name is left out"),
            }
        }
        Ok(())
    }
}
