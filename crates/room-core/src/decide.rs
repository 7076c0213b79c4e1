//! The decision.

use crate::{Draft, Input, Refusal, Room, Tip};
use base::UnixMillis;
use rules::draft::PREV_EVENTS_MAX;
use rules::pdu::{create_event_id, has_written_event_id};
use rules::{CheckedPdu, Forbidden, Pdu, PduDraft, PowerLevels, SigningKey, StateKey, auth, redaction};
use ruma::events::{StateEventType, TimelineEventType};
use ruma::{EventId, OwnedEventId};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// What a decision takes from outside.
#[derive(Clone, Copy)]
pub struct Env<'a> {
    /// The time.
    pub now: UnixMillis,
    /// The key of this server.
    pub key: &'a SigningKey,
    /// A localpart for an event id that was never used before, for room versions 1 and 2.
    pub fresh: &'a str,
}

/// The facts that an input needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Entries of the current state, and of the state before the input where that is another one.
    pub state: Vec<StateKey>,
    /// Events of the room.
    pub events: Vec<OwnedEventId>,
    /// Events without which there is no decision, of those in `events`.
    pub required: Vec<OwnedEventId>,
}

/// Entries of a state.
pub type StateFacts = HashMap<StateKey, Arc<Pdu>>;

/// What the caller found of what an input needs.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Of the current state.
    pub current: StateFacts,
    /// Of the state before the input; `None` where that is the current one.
    pub before: Option<StateFacts>,
    /// Events of the room, those that were rejected included.
    pub events: HashMap<OwnedEventId, Arc<Pdu>>,
    /// Redactions of the input that were accepted before it came.
    pub redactions: Vec<EarlyRedaction>,
}

/// A redaction that came before what it redacts.
#[derive(Clone, Debug)]
pub struct EarlyRedaction {
    /// The redaction.
    pub pdu: Arc<Pdu>,
    /// What [`PowerLevels::state_needed`] names, of the state before it.
    pub before: StateFacts,
}

/// How an event stands in the room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is allowed.
    Accepted,
    /// It is allowed by the events that it names. Nobody has asked the state.
    Outlier,
    /// It was allowed where it was sent, but is not by the current state (server-server API, "Soft failure").
    SoftFailed(Forbidden),
    /// It is not allowed, and what builds on it is not either.
    Rejected(Forbidden),
}

/// What a decision makes of a room.
#[derive(Clone, Debug)]
pub struct Change {
    /// The event.
    pub pdu: Arc<Pdu>,
    /// How it stands.
    pub standing: Standing,
    /// The forward extremities afterwards.
    pub tips: Vec<Tip>,
    /// The entry of the state that it sets, if it sets one.
    pub sets: Option<StateKey>,
    /// The event that it redacts, if it is a redaction that takes effect.
    pub redacts: Option<OwnedEventId>,
    /// The event that it will redact, if it is a redaction of one that is not known yet.
    pub awaits: Option<OwnedEventId>,
    /// The redaction that takes effect on it, if one came before it.
    pub redacted_by: Option<OwnedEventId>,
}

/// What the room says to an input.
#[derive(Debug)]
pub enum Verdict {
    /// The event is in the room, as its standing says.
    Change(Box<Change>),
    /// The draft becomes no event.
    Refused(Refusal),
    /// These events must be known first.
    Missing(Vec<OwnedEventId>),
}

/// Names what must be known to decide about `input`. A draft that cannot be authorized at all is refused.
pub fn needs(room: &Room, input: &Input) -> Result<Needs, Refusal> {
    match input {
        Input::Draft(draft) => {
            let kind = TimelineEventType::from(draft.kind.as_str());
            let state = state_needed(room, &kind, &draft.sender, draft.state_key.as_deref(), &draft.content)?;
            let events = draft.redacts.iter().cloned().collect();
            Ok(Needs { state, events, required: Vec::new() })
        }
        Input::Event(pdu) | Input::Given(pdu) | Input::Past(pdu) | Input::Outlier(pdu) => {
            let state = match input {
                Input::Outlier(_) => Vec::new(),
                _ => state_needed(room, pdu.kind(), pdu.sender(), pdu.state_key(), pdu.content())?,
            };
            let mut required: Vec<_> = pdu.auth_events().to_vec();
            required.extend(create_event_id(pdu.room_id(), &room.rules));
            if matches!(input, Input::Event(_)) {
                required.extend_from_slice(pdu.prev_events());
            }
            required.retain(|id| id != pdu.event_id());
            let mut events = required.clone();
            events.extend(pdu.redacts().map(ToOwned::to_owned));
            Ok(Needs { state, events, required })
        }
    }
}

fn state_needed(
    room: &Room,
    kind: &TimelineEventType,
    sender: &ruma::UserId,
    state_key: Option<&str>,
    content: &serde_json::value::RawValue,
) -> Result<Vec<StateKey>, Forbidden> {
    let mut keys = auth::state_needed(&room.rules, kind, sender, state_key, content)?;
    if *kind == TimelineEventType::RoomRedaction {
        keys.extend(PowerLevels::state_needed().into_iter().filter(|key| !keys.contains(key)).collect::<Vec<_>>());
    }
    Ok(keys)
}

/// Decides about `input`.
#[must_use]
pub fn decide(env: Env<'_>, room: &Room, input: Input, facts: &Facts) -> Verdict {
    match input {
        Input::Draft(draft) => match decide_draft(env, room, draft, facts) {
            Ok(change) => Verdict::Change(Box::new(change)),
            Err(refusal) => Verdict::Refused(refusal),
        },
        Input::Event(event) => decide_event(room, event, facts, Predecessors::Required),
        Input::Given(event) => decide_event(room, event, facts, Predecessors::Unknown),
        Input::Past(event) => decide_past(room, event, facts),
        Input::Outlier(event) => decide_outlier(room, event, facts),
    }
}

/// A draft follows the forward extremities, so the state before it is the current one: it stands, or it
/// does not become an event.
fn decide_draft(env: Env<'_>, room: &Room, draft: Draft, facts: &Facts) -> Result<Change, Refusal> {
    let pdu = Arc::new(build(env, room, draft, facts)?.into_pdu());
    let by_id: HashMap<&EventId, &Arc<Pdu>> =
        facts.current.values().map(|pdu| (AsRef::<EventId>::as_ref(pdu.event_id()), pdu)).collect();
    auth::authorize_alone(&room.rules, &pdu, |id| by_id.get(id).map(|pdu| Arc::clone(pdu)))?;
    auth::authorize_with_state(&room.rules, &pdu, |kind, key| lookup(&facts.current, kind, key))?;
    Ok(accept(room, pdu, facts))
}

fn build(env: Env<'_>, room: &Room, draft: Draft, facts: &Facts) -> Result<CheckedPdu, Refusal> {
    let kind = TimelineEventType::from(draft.kind.as_str());
    let state_key = draft.state_key.as_deref();
    let keys = auth::auth_events_for(&room.rules, &kind, &draft.sender, state_key, &draft.content)?;
    let auth_events: Vec<_> =
        keys.iter().filter_map(|key| facts.current.get(key)).map(|pdu| pdu.event_id().clone()).collect();

    // The newest extremities: what is left out is still followed, through those of a later event.
    let mut tips: Vec<&Tip> = room.tips.iter().collect();
    tips.sort_by_key(|tip| std::cmp::Reverse(tip.depth));
    tips.truncate(PREV_EVENTS_MAX);

    let mut reference_hashes = BTreeMap::new();
    let mut event_id = None;
    if has_written_event_id(&room.rules) {
        event_id = OwnedEventId::try_from(format!("${}:{}", env.fresh, env.key.server_name())).ok();
        for tip in &tips {
            reference_hashes.insert(tip.event_id.clone(), tip.reference_hash.clone());
        }
        for pdu in facts.current.values().filter(|pdu| auth_events.contains(pdu.event_id())) {
            reference_hashes.insert(pdu.event_id().clone(), rules::draft::reference_hash_of(pdu, &room.rules)?);
        }
    }
    let pdu = PduDraft {
        room_id: room.room_id.clone(),
        sender: draft.sender,
        kind,
        state_key: draft.state_key,
        content: draft.content,
        redacts: draft.redacts,
        prev_events: tips.iter().map(|tip| tip.event_id.clone()).collect(),
        auth_events,
        depth: tips.iter().map(|tip| tip.depth).max().unwrap_or(0) + 1,
        origin_server_ts: draft.timestamp.unwrap_or(env.now),
        event_id,
        reference_hashes,
    };
    Ok(CheckedPdu::build(pdu, &room.rules, env.key)?)
}

/// Whether the events that an event follows must be known.
#[derive(Clone, Copy)]
enum Predecessors {
    Required,
    Unknown,
}

/// The checks of the server-server API, "Checks performed on receipt of a PDU", from the fourth on.
fn decide_event(room: &Room, event: CheckedPdu, facts: &Facts, predecessors: Predecessors) -> Verdict {
    let pdu = event.into_pdu();
    let prev_events = match predecessors {
        Predecessors::Required => pdu.prev_events().to_vec(),
        Predecessors::Unknown => Vec::new(),
    };
    if let Err(verdict) =
        check_references(room, &pdu, prev_events, facts).and_then(|()| check_before(room, &pdu, facts))
    {
        return verdict.of(room, pdu);
    }
    if let Err(forbidden) = auth::authorize_with_state(&room.rules, &pdu, |kind, key| lookup(&facts.current, kind, key))
    {
        let redacted_by = redacted_by(room, &pdu, facts);
        let change = Change { redacted_by, ..unchanged(room, pdu, Standing::SoftFailed(forbidden)) };
        return Verdict::Change(Box::new(change));
    }
    Verdict::Change(Box::new(accept(room, Arc::new(pdu), facts)))
}

/// The same checks but the last: what is current says nothing about the past.
fn decide_past(room: &Room, event: CheckedPdu, facts: &Facts) -> Verdict {
    let pdu = event.into_pdu();
    if let Err(verdict) = check_references(room, &pdu, Vec::new(), facts).and_then(|()| check_before(room, &pdu, facts))
    {
        return verdict.of(room, pdu);
    }
    let accepted = accept(room, Arc::new(pdu), facts);
    Verdict::Change(Box::new(Change { tips: room.tips.clone(), ..accepted }))
}

/// The fourth of the checks alone: there is no state to judge by.
fn decide_outlier(room: &Room, event: CheckedPdu, facts: &Facts) -> Verdict {
    let pdu = event.into_pdu();
    match check_references(room, &pdu, Vec::new(), facts) {
        Ok(()) => Verdict::Change(Box::new(unchanged(room, pdu, Standing::Outlier))),
        Err(verdict) => verdict.of(room, pdu),
    }
}

/// Why an event is not accepted.
enum Refused {
    Missing(Vec<OwnedEventId>),
    Forbidden(Forbidden),
}

impl Refused {
    fn of(self, room: &Room, pdu: Pdu) -> Verdict {
        match self {
            Self::Missing(ids) => Verdict::Missing(ids),
            Self::Forbidden(forbidden) => {
                let pdu = pdu.with_rejected(true);
                Verdict::Change(Box::new(unchanged(room, pdu, Standing::Rejected(forbidden))))
            }
        }
    }
}

/// Whether what an event refers to is known, and the events that it names allow it.
fn check_references(room: &Room, pdu: &Pdu, prev_events: Vec<OwnedEventId>, facts: &Facts) -> Result<(), Refused> {
    auth::auth_events_for(&room.rules, pdu.kind(), pdu.sender(), pdu.state_key(), pdu.content())
        .map_err(Refused::Forbidden)?;
    let mut needed = pdu.auth_events().to_vec();
    if *pdu.kind() != TimelineEventType::RoomCreate {
        needed.extend(create_event_id(pdu.room_id(), &room.rules));
    }
    needed.extend(prev_events);
    needed.retain(|id| !facts.events.contains_key(id));
    if !needed.is_empty() {
        return Err(Refused::Missing(needed));
    }
    let fetch = |id: &EventId| facts.events.get(id).cloned();
    auth::authorize_with_auth_events(&room.rules, pdu, fetch).map_err(Refused::Forbidden)
}

/// Whether the state before an event allows it.
fn check_before(room: &Room, pdu: &Pdu, facts: &Facts) -> Result<(), Refused> {
    let before = facts.before.as_ref().unwrap_or(&facts.current);
    auth::authorize_with_state(&room.rules, pdu, |kind, key| lookup(before, kind, key)).map_err(Refused::Forbidden)
}

/// An event that leaves the room as it is.
fn unchanged(room: &Room, pdu: Pdu, standing: Standing) -> Change {
    let (pdu, tips) = (Arc::new(pdu), room.tips.clone());
    Change { pdu, standing, tips, sets: None, redacts: None, awaits: None, redacted_by: None }
}

fn accept(room: &Room, pdu: Arc<Pdu>, facts: &Facts) -> Change {
    let mut tips: Vec<Tip> =
        room.tips.iter().filter(|tip| !pdu.prev_events().contains(&tip.event_id)).cloned().collect();
    let reference_hash = if has_written_event_id(&room.rules) {
        rules::draft::reference_hash_of(&pdu, &room.rules).unwrap_or_default()
    } else {
        String::new()
    };
    tips.push(Tip { event_id: pdu.event_id().clone(), depth: pdu.depth(), reference_hash });
    let sets = pdu.state_key().map(|key| (StateEventType::from(pdu.kind().to_string()), key.to_owned()));
    let target = pdu.redacts().map(|target| facts.events.get(target).ok_or(target));
    let (redacts, awaits) = match target {
        Some(Ok(target)) => {
            let before = facts.before.as_ref().unwrap_or(&facts.current);
            let power = PowerLevels::of(&room.rules, |kind, key| lookup(before, kind, key));
            let takes_effect = redaction::takes_effect(&pdu, target, &power, &room.rules);
            (takes_effect.then(|| target.event_id().clone()), None)
        }
        Some(Err(unknown)) => (None, Some(unknown.to_owned())),
        None => (None, None),
    };
    let redacted_by = redacted_by(room, &pdu, facts);
    Change { pdu, standing: Standing::Accepted, tips, sets, redacts, awaits, redacted_by }
}

/// The first of the redactions that came before the event and takes effect on it.
fn redacted_by(room: &Room, pdu: &Pdu, facts: &Facts) -> Option<OwnedEventId> {
    let takes_effect = |early: &&EarlyRedaction| {
        let power = PowerLevels::of(&room.rules, |kind, key| lookup(&early.before, kind, key));
        redaction::takes_effect(&early.pdu, pdu, &power, &room.rules)
    };
    facts.redactions.iter().find(takes_effect).map(|early| early.pdu.event_id().clone())
}

fn lookup(state: &StateFacts, kind: &StateEventType, key: &str) -> Option<Arc<Pdu>> {
    state.get(&(kind.clone(), key.to_owned())).cloned()
}
