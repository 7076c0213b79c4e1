//! Joining rooms through servers that are in them (server-server API, "Joining Rooms").

use crate::ask::{Path, QUICK, WHOLE, read};
use crate::fetch::{events_of, find_create};
use crate::order::by_auth;
use crate::template::{Made, Wanted};
use crate::{Federation, FederationError, PeerError};
use bytes::Bytes;
use rooms::{Entry, RoomError};
use rules::{Checked, CheckedPdu, auth};
use ruma::room_version_rules::RoomVersionRules;
use ruma::serde::JsonObject;
use ruma::{EventId, OwnedEventId, OwnedServerName, RoomId, RoomVersionId, ServerName, UserId};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::HashSet;

/// A user of this server who wants to enter a room.
#[derive(Clone, Debug)]
pub struct Joining<'a> {
    /// The room.
    pub room_id: &'a RoomId,
    /// The user.
    pub user: &'a UserId,
    /// Servers that are said to be in the room.
    pub via: &'a [OwnedServerName],
    /// Why, in the user's words.
    pub reason: Option<String>,
    /// What the client has put into the membership itself.
    pub extra: Option<JsonObject>,
}

/// The answer of `send_join`.
#[derive(Deserialize)]
struct Joined<'a> {
    #[serde(borrow, default)]
    state: Vec<&'a RawValue>,
    #[serde(borrow, default)]
    auth_chain: Vec<&'a RawValue>,
    #[serde(borrow, default)]
    event: Option<&'a RawValue>,
}

impl Federation {
    /// Lets a user of this server into a room through a server that is in it: one of those that were named, or that
    /// are known. If this server is in the room by the time, the membership is an event like any other.
    ///
    /// # Errors
    ///
    /// [`FederationError::NobodyToAsk`]; the most telling refusal, if all who were asked refuse.
    pub async fn join(&self, joining: Joining<'_>) -> Result<OwnedEventId, FederationError> {
        let _alone = self.lock(joining.room_id, None).await;
        let servers = self.doors(joining.room_id, joining.user, joining.via)?;
        let mut telling = FederationError::NobodyToAsk;
        for server in servers {
            match self.join_through(&server, &joining).await {
                Ok(event_id) => return Ok(event_id),
                Err(error) => {
                    tracing::info!(room_id = %joining.room_id, %server, %error, "a room can't be joined through a server");
                    if error.weight() > telling.weight() {
                        telling = error;
                    }
                }
            }
        }
        Err(telling)
    }

    async fn join_through(&self, server: &ServerName, joining: &Joining<'_>) -> Result<OwnedEventId, FederationError> {
        let (room_id, user) = (joining.room_id, joining.user);
        let made = self.make("make_join", server, room_id, user).await?;
        let version = made.room_version.clone().unwrap_or(RoomVersionId::V1);
        let rules = rules::room_rules(&version).ok_or_else(|| RoomError::UnsupportedVersion(version.to_string()))?;
        let wanted = Wanted { room_id, user, membership: "join" };
        let content = self.content(user, joining.reason.clone(), joining.extra.clone())?;
        let join = self.fill_template(&made.event, wanted, &rules, content)?;
        let answer = self.send_join(server, &join).await?;
        let joined: Joined<'_> = match read_joined(&answer) {
            Ok(joined) => joined,
            Err(error) => return Err(FederationError::unusable(error)),
        };
        // Where another server's user has let this one in, that server has signed the event too.
        let join = match joined.event {
            Some(event) => self.countersigned(join.event_id(), event, &rules).await?,
            None => join,
        };
        let takes_part = {
            let view = self.0.records.view();
            self.0.rooms.takes_part(&view, room_id)?
        };
        let event_id = join.event_id().clone();
        if takes_part {
            self.take_in(server, room_id, join).await?;
            return Ok(event_id);
        }
        let state = self.checked(joined.state, &rules, room_id).await;
        let chain = self.checked(joined.auth_chain, &rules, room_id).await;
        let state_ids: Vec<OwnedEventId> = state.iter().map(|event| event.event_id().clone()).collect();
        let create = find_create(&state).or_else(|| find_create(&chain));
        let create = create.ok_or_else(|| FederationError::unusable("the state has no creation of the room"))?;
        let actual = auth::room_version_of(create).map_err(FederationError::unusable)?;
        if actual != version {
            return Err(FederationError::unusable(format!("the room is of version {actual}, not {version}")));
        }
        let mut events = chain;
        events.extend(state);
        let entry = Entry { version, events: by_auth(events), state: state_ids, join };
        Ok(self.0.rooms.enter(room_id, entry).await?)
    }

    /// Asks for a template.
    pub(crate) async fn make(
        &self,
        what: &str,
        server: &ServerName,
        room_id: &RoomId,
        user: &UserId,
    ) -> Result<Made, FederationError> {
        let mut path =
            Path::new("/_matrix/federation/v1").segment(what).segment(room_id.as_str()).segment(user.as_str());
        if what != "make_leave" {
            for version in rules::SUPPORTED {
                path = path.query("ver", version.as_str());
            }
        }
        read(&self.get(server, path, QUICK).await?)
    }

    async fn send_join(&self, server: &ServerName, join: &CheckedPdu) -> Result<Bytes, FederationError> {
        let path = |version: &str| {
            Path::new("/_matrix/federation")
                .segment(version)
                .segment("send_join")
                .segment(join.room_id().as_str())
                .segment(join.event_id().as_str())
        };
        let body = raw(join)?;
        match self.put(server, path("v2").query("omit_members", "false"), &body, WHOLE).await {
            Err(error) if is_unknown_endpoint(&error) => self.put(server, path("v1"), &body, WHOLE).await,
            answer => answer,
        }
    }

    /// The event as a server sent it back, which has to be the one that it was sent, with its own signature.
    pub(crate) async fn countersigned(
        &self,
        sent: &EventId,
        answered: &RawValue,
        rules: &RoomVersionRules,
    ) -> Result<CheckedPdu, FederationError> {
        let mut checked = self.0.keys.check(vec![answered.get().to_owned()], rules).await;
        match checked.pop() {
            Some(Checked::Whole(event)) if event.event_id() == sent => Ok(event),
            Some(Checked::Drop(reason)) => Err(FederationError::unusable(reason)),
            _ => Err(FederationError::unusable("the server has sent back another event")),
        }
    }

    /// The events of an answer that are right and of the room; the others are left out.
    pub(crate) async fn checked(
        &self,
        events: Vec<&RawValue>,
        rules: &RoomVersionRules,
        room_id: &RoomId,
    ) -> Vec<CheckedPdu> {
        let mut seen = HashSet::with_capacity(events.len());
        let mut texts = Vec::with_capacity(events.len());
        for event in events {
            if seen.insert(event.get()) {
                texts.push(event.get().to_owned());
            }
        }
        events_of(self.0.keys.check(texts, rules).await, room_id)
    }

    /// The content of a membership of a user of this server: their profile, and what the client says.
    pub(crate) fn content(
        &self,
        user: &UserId,
        reason: Option<String>,
        extra: Option<JsonObject>,
    ) -> Result<JsonObject, FederationError> {
        let mut content = extra.unwrap_or_default();
        let profile = self.0.records.view().profile(user)?;
        for field in ["displayname", "avatar_url"] {
            let value = profile.get(field).and_then(|json| serde_json::from_str::<Value>(json).ok());
            if let Some(value) = value.filter(Value::is_string)
                && !content.contains_key(field)
            {
                content.insert(field.to_owned(), value);
            }
        }
        if let Some(reason) = reason {
            content.insert("reason".to_owned(), reason.into());
        }
        Ok(content)
    }
}

/// The answer of `send_join`: an object, or in the first version of the endpoint a pair of a status and an object.
fn read_joined(answer: &Bytes) -> serde_json::Result<Joined<'_>> {
    if answer.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[') {
        let (_, joined): (u16, Joined<'_>) = serde_json::from_slice(answer)?;
        return Ok(joined);
    }
    serde_json::from_slice(answer)
}

/// An event as it is sent.
pub(crate) fn raw(event: &rules::Pdu) -> Result<Box<RawValue>, FederationError> {
    RawValue::from_string(event.json().to_owned()).map_err(FederationError::unusable)
}

/// Whether a server does not know an endpoint, so that an older form of it may help. Some answer a bare 404.
pub(crate) fn is_unknown_endpoint(error: &FederationError) -> bool {
    match error {
        FederationError::Peer(PeerError::Refused { status, errcode, .. }) => {
            matches!(status, 404 | 405) && matches!(errcode.as_deref(), None | Some("M_UNRECOGNIZED"))
                || *status == 400 && errcode.as_deref() == Some("M_UNRECOGNIZED")
        }
        _ => false,
    }
}
