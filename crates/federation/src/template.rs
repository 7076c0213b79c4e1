//! Templates: what a server that is in a room gives to one that is not, to make a membership of it.

use crate::{Federation, FederationError};
use base::random_string;
use rules::{CheckedPdu, PduDraft};
use ruma::room_version_rules::RoomVersionRules;
use ruma::serde::JsonObject;
use ruma::{OwnedEventId, OwnedUserId, RoomId, RoomVersionId, UserId};
use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The letters of an event id's localpart in room versions 1 and 2.
const EVENT_ID_LETTERS: usize = 24;

/// The answer of `make_join`, `make_leave` and `make_knock`.
#[derive(Deserialize)]
pub(crate) struct Made {
    /// The room version; 1 if the server is too old to say.
    pub room_version: Option<RoomVersionId>,
    /// The template.
    pub event: Template,
}

/// An event as another server proposes it.
#[derive(Deserialize)]
pub(crate) struct Template {
    #[serde(rename = "type")]
    kind: String,
    room_id: String,
    sender: String,
    state_key: Option<String>,
    content: Map<String, Value>,
    #[serde(default)]
    prev_events: Vec<Value>,
    #[serde(default)]
    auth_events: Vec<Value>,
    #[serde(default)]
    depth: u64,
}

/// What a template is to become.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    pub room_id: &'a RoomId,
    pub user: &'a UserId,
    /// `join`, `leave` or `knock`.
    pub membership: &'a str,
}

impl Template {
    /// Whether the template is for what was asked for. A server that gives another one would have the user sign what
    /// they never wanted.
    fn fits(&self, wanted: Wanted<'_>) -> Result<(), FederationError> {
        let membership = self.content.get("membership").and_then(Value::as_str);
        let fits = self.kind == "m.room.member"
            && self.room_id == wanted.room_id.as_str()
            && self.sender == wanted.user.as_str()
            && self.state_key.as_deref() == Some(wanted.user.as_str())
            && membership == Some(wanted.membership);
        if fits { Ok(()) } else { Err(FederationError::unusable("the template is for another event")) }
    }

    /// The member who lets the user in, where it is one who has to.
    fn authorising(&self) -> Option<OwnedUserId> {
        let user = self.content.get("join_authorised_via_users_server")?.as_str()?;
        OwnedUserId::try_from(user).ok()
    }
}

impl Federation {
    /// Makes an event of a template: its place in the room is the other server's to say, all else is this server's.
    pub(crate) fn fill_template(
        &self,
        template: &Template,
        wanted: Wanted<'_>,
        rules: &RoomVersionRules,
        mut content: JsonObject,
    ) -> Result<CheckedPdu, FederationError> {
        template.fits(wanted)?;
        let Wanted { room_id, user, membership } = wanted;
        content.insert("membership".to_owned(), membership.into());
        content.remove("join_authorised_via_users_server");
        if membership == "join"
            && let Some(authorising) = template.authorising()
        {
            content.insert("join_authorised_via_users_server".to_owned(), authorising.as_str().into());
        }
        let mut reference_hashes = BTreeMap::new();
        let prev_events = references(&template.prev_events, &mut reference_hashes)?;
        let auth_events = references(&template.auth_events, &mut reference_hashes)?;
        self.member_event(MemberEvent {
            room_id,
            user,
            rules,
            content,
            prev_events,
            auth_events,
            depth: template.depth,
            reference_hashes,
        })
    }

    /// Builds and signs a membership of a user of this server.
    pub(crate) fn member_event(&self, event: MemberEvent<'_>) -> Result<CheckedPdu, FederationError> {
        let MemberEvent { room_id, user, rules, content, prev_events, auth_events, depth, reference_hashes } = event;
        let event_id = rules::pdu::has_written_event_id(rules).then(|| {
            let letters = random_string(&*self.0.random, EVENT_ID_LETTERS);
            OwnedEventId::try_from(format!("${letters}:{}", self.server_name()))
        });
        let draft = PduDraft {
            room_id: Some(room_id.to_owned()),
            sender: user.to_owned(),
            kind: "m.room.member".into(),
            state_key: Some(user.to_string()),
            content: object(&content)?,
            redacts: None,
            prev_events,
            auth_events,
            depth,
            origin_server_ts: self.0.clock.now(),
            event_id: event_id.transpose().map_err(FederationError::unusable)?,
            reference_hashes,
        };
        CheckedPdu::build(draft, rules, &self.0.key).map_err(|error| FederationError::Room(error.into()))
    }
}

/// A membership of a user of this server, to be built.
pub(crate) struct MemberEvent<'a> {
    pub room_id: &'a RoomId,
    pub user: &'a UserId,
    pub rules: &'a RoomVersionRules,
    pub content: JsonObject,
    pub prev_events: Vec<OwnedEventId>,
    pub auth_events: Vec<OwnedEventId>,
    pub depth: u64,
    pub reference_hashes: BTreeMap<OwnedEventId, String>,
}

fn object(content: &JsonObject) -> Result<Box<RawValue>, FederationError> {
    to_raw_value(content).map_err(FederationError::unusable)
}

/// References to events: ids, or in room versions 1 and 2 pairs of an id and its hashes.
fn references(
    references: &[Value],
    hashes: &mut BTreeMap<OwnedEventId, String>,
) -> Result<Vec<OwnedEventId>, FederationError> {
    let mut ids = Vec::with_capacity(references.len());
    for reference in references {
        let id = match reference {
            Value::Array(pair) => pair.first(),
            other => Some(other),
        };
        let id = id.and_then(Value::as_str).and_then(|id| OwnedEventId::try_from(id).ok());
        let id = id.ok_or_else(|| FederationError::unusable("the template refers to what is no event"))?;
        let hash = reference.get(1).and_then(|hashes| hashes.get("sha256")).and_then(Value::as_str);
        if let Some(hash) = hash {
            hashes.insert(id.clone(), hash.to_owned());
        }
        ids.push(id);
    }
    Ok(ids)
}
