//! Questions about users, aliases and rooms of other servers.

use crate::ask::{Path, QUICK, SOME, read};
use crate::{Federation, FederationError};
use bytes::Bytes;
use ruma::serde::JsonObject;
use ruma::{OwnedEventId, OwnedRoomId, OwnedServerName, RoomAliasId, RoomId, ServerName, UserId};
use serde::Deserialize;
use serde_json::Value;

/// How many servers are asked about one thing.
const SERVERS_MAX: usize = 4;

/// Where an alias leads.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Resolved {
    /// The room.
    pub room_id: OwnedRoomId,
    /// Servers that are said to be in it.
    #[serde(default)]
    pub servers: Vec<OwnedServerName>,
}

/// An event that was sent about a time.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct EventAt {
    /// The event.
    pub event_id: OwnedEventId,
    /// When it was sent.
    pub origin_server_ts: u64,
}

impl Federation {
    /// Where an alias of another server leads; nothing if that server does not know it.
    ///
    /// # Errors
    ///
    /// If the server can't be asked.
    pub async fn resolve_alias(&self, alias: &RoomAliasId) -> Result<Option<Resolved>, FederationError> {
        let path = Path::new("/_matrix/federation/v1/query/directory").query("room_alias", alias.as_str());
        match self.get(alias.server_name(), path, QUICK).await {
            Ok(answer) => {
                let mut resolved: Resolved = read(&answer)?;
                if !resolved.servers.iter().any(|server| server == alias.server_name()) {
                    resolved.servers.push(alias.server_name().to_owned());
                }
                resolved.servers.truncate(20);
                Ok(Some(resolved))
            }
            Err(error) if not_found(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The profile of a user of another server, or one field of it; nothing if that server does not know it.
    ///
    /// # Errors
    ///
    /// If the server can't be asked.
    pub async fn profile(&self, user: &UserId, field: Option<&str>) -> Result<Option<JsonObject>, FederationError> {
        let mut path = Path::new("/_matrix/federation/v1/query/profile").query("user_id", user.as_str());
        if let Some(field) = field {
            path = path.query("field", field);
        }
        match self.get(user.server_name(), path, QUICK).await {
            Ok(answer) => Ok(Some(read(&answer)?)),
            Err(error) if not_found(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A page of the published rooms of another server. The body is the one of the server-server API's
    /// `POST /publicRooms`, and so is the answer.
    ///
    /// # Errors
    ///
    /// If the server can't be asked.
    pub async fn public_rooms(&self, server: &ServerName, body: &Value) -> Result<Value, FederationError> {
        let path = Path::new("/_matrix/federation/v1/publicRooms");
        read(&self.post(server, path, body, SOME).await?)
    }

    /// A room and its children as another server tells of them (server-server API, "Spaces"), from the first of these
    /// servers that does; nothing if none of them may tell.
    ///
    /// # Errors
    ///
    /// If none can be asked.
    pub async fn hierarchy(
        &self,
        room_id: &RoomId,
        via: &[OwnedServerName],
        suggested_only: bool,
    ) -> Result<Option<Bytes>, FederationError> {
        let mut servers = via.to_vec();
        servers.extend(room_id.server_name().map(ToOwned::to_owned));
        let mut last = FederationError::NobodyToAsk;
        for server in self.residents(room_id, &servers, SERVERS_MAX)? {
            let suggested = if suggested_only { "true" } else { "false" };
            let path = Path::new("/_matrix/federation/v1/hierarchy")
                .segment(room_id.as_str())
                .query("suggested_only", suggested);
            match self.get(&server, path, QUICK).await {
                Ok(answer) => return Ok(Some(answer)),
                Err(error) => last = error,
            }
        }
        match last {
            error if not_found(&error) || error.weight() >= 3 => Ok(None),
            FederationError::NobodyToAsk => Ok(None),
            error => Err(error),
        }
    }

    /// The event nearest to a time that other servers of the room know, after it or before it.
    ///
    /// # Errors
    ///
    /// If none can be asked.
    pub async fn event_at(&self, room_id: &RoomId, at: u64, forward: bool) -> Result<Option<EventAt>, FederationError> {
        for server in self.residents(room_id, &[], SERVERS_MAX)? {
            let path = Path::new("/_matrix/federation/v1/timestamp_to_event")
                .segment(room_id.as_str())
                .query("ts", &at.to_string())
                .query("dir", if forward { "f" } else { "b" });
            match self.get(&server, path, QUICK).await {
                Ok(answer) => return Ok(Some(read(&answer)?)),
                Err(error) => tracing::debug!(%server, %error, "a server does not tell an event by its time"),
            }
        }
        Ok(None)
    }
}

fn not_found(error: &FederationError) -> bool {
    matches!(error, FederationError::Peer(crate::PeerError::Refused { status: 404, .. }))
}
