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
}

/// How an event stands in the room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is allowed.
    Accepted,
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
        Input::Event(pdu) => {
            let state = state_needed(room, pdu.kind(), pdu.sender(), pdu.state_key(), pdu.content())?;
            let mut required: Vec<_> = pdu.auth_events().to_vec();
            required.extend(create_event_id(pdu.room_id(), &room.rules));
            required.extend_from_slice(pdu.prev_events());
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
        Input::Event(event) => decide_event(room, event, facts),
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

/// The checks of the server-server API, "Checks performed on receipt of a PDU", from the fourth on.
fn decide_event(room: &Room, event: CheckedPdu, facts: &Facts) -> Verdict {
    let pdu = event.into_pdu();
    let missing: Vec<_> = match needs_of_event(room, &pdu) {
        Ok(ids) => ids.into_iter().filter(|id| !facts.events.contains_key(id)).collect(),
        Err(forbidden) => return reject(room, pdu, forbidden),
    };
    if !missing.is_empty() {
        return Verdict::Missing(missing);
    }
    let fetch = |id: &EventId| facts.events.get(id).cloned();
    if let Err(forbidden) = auth::authorize_with_auth_events(&room.rules, &pdu, fetch) {
        return reject(room, pdu, forbidden);
    }
    let before = facts.before.as_ref().unwrap_or(&facts.current);
    if let Err(forbidden) = auth::authorize_with_state(&room.rules, &pdu, |kind, key| lookup(before, kind, key)) {
        return reject(room, pdu, forbidden);
    }
    if let Err(forbidden) = auth::authorize_with_state(&room.rules, &pdu, |kind, key| lookup(&facts.current, kind, key))
    {
        let change = Change {
            pdu: Arc::new(pdu),
            standing: Standing::SoftFailed(forbidden),
            tips: room.tips.clone(),
            sets: None,
            redacts: None,
        };
        return Verdict::Change(Box::new(change));
    }
    Verdict::Change(Box::new(accept(room, Arc::new(pdu), facts)))
}

fn needs_of_event(room: &Room, pdu: &Pdu) -> Result<Vec<OwnedEventId>, Forbidden> {
    auth::auth_events_for(&room.rules, pdu.kind(), pdu.sender(), pdu.state_key(), pdu.content())?;
    let mut ids = pdu.auth_events().to_vec();
    if *pdu.kind() != TimelineEventType::RoomCreate {
        ids.extend(create_event_id(pdu.room_id(), &room.rules));
    }
    ids.extend_from_slice(pdu.prev_events());
    Ok(ids)
}

fn reject(room: &Room, pdu: Pdu, forbidden: Forbidden) -> Verdict {
    Verdict::Change(Box::new(Change {
        pdu: Arc::new(pdu.with_rejected(true)),
        standing: Standing::Rejected(forbidden),
        tips: room.tips.clone(),
        sets: None,
        redacts: None,
    }))
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
    let redacts = pdu.redacts().and_then(|target| facts.events.get(target)).and_then(|target| {
        let power = PowerLevels::of(&room.rules, |kind, key| lookup(&facts.current, kind, key));
        redaction::takes_effect(&pdu, target, &power, &room.rules).then(|| target.event_id().clone())
    });
    Change { pdu, standing: Standing::Accepted, tips, sets, redacts }
}

fn lookup(state: &StateFacts, kind: &StateEventType, key: &str) -> Option<Arc<Pdu>> {
    state.get(&(kind.clone(), key.to_owned())).cloned()
}
