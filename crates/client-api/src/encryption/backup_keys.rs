//! `/room_keys/keys`: the keys in a backup.
//!
//! A backup may have hundreds of megabytes of keys. They are answered page by page as the client takes them, so
//! that an answer costs no more memory than a page.

use super::json_text;
use super::upload::text;
use crate::limits::Class;
use crate::session::Session;
use crate::wire::{Args, Body};
use crate::{ApiError, State};
use axum::body::{Body as HttpBody, Bytes};
use axum::response::Response;
use axum::{Json, extract};
use devices::{BACKED_UP_KEYS_PAGE, BackupStanding, KeyPage, RoomKeys, Which};
use futures::stream;
use http::Uri;
use records::BackedUpKey;
use ruma::{OwnedRoomId, OwnedUserId};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A key as clients write and read it.
#[derive(Deserialize)]
pub(super) struct Key {
    first_message_index: u64,
    forwarded_count: u64,
    is_verified: bool,
    session_data: Box<RawValue>,
}

/// The keys of a room.
#[derive(Deserialize)]
pub(super) struct Room {
    sessions: BTreeMap<String, Key>,
}

/// The keys of rooms.
#[derive(Deserialize)]
pub(super) struct Rooms {
    rooms: BTreeMap<OwnedRoomId, Room>,
}

impl Key {
    fn record(self) -> Result<BackedUpKey, ApiError> {
        let session_data = text(self.session_data);
        if !session_data.starts_with('{') {
            return Err(ApiError::bad_json("session_data is not an object"));
        }
        let Self { first_message_index, forwarded_count, is_verified, .. } = self;
        Ok(BackedUpKey { first_message_index, forwarded_count, is_verified, session_data })
    }
}

impl Room {
    fn records(self) -> Result<BTreeMap<String, BackedUpKey>, ApiError> {
        self.sessions.into_iter().map(|(session, key)| Ok((session, key.record()?))).collect()
    }
}

/// The version that a request means.
fn version(uri: &Uri) -> Result<String, ApiError> {
    #[derive(Deserialize)]
    struct Parameters {
        version: Option<String>,
    }
    let parameters = extract::Query::<Parameters>::try_from_uri(uri);
    let extract::Query(parameters) = parameters.map_err(|error| ApiError::invalid_param(error.body_text()))?;
    parameters.version.ok_or_else(|| ApiError::missing_param("version is missing"))
}

fn shown(standing: &BackupStanding) -> Json<Value> {
    Json(json!({ "etag": standing.etag, "count": standing.count }))
}

async fn put(state: &State, session: &Session, uri: &Uri, keys: RoomKeys) -> Result<Json<Value>, ApiError> {
    state.limit(Class::Other, session)?;
    Ok(shown(&state.devices.put_room_keys(&session.user_id, &version(uri)?, &keys).await?))
}

/// `PUT /room_keys/keys`
pub(super) async fn put_all(
    extract::State(state): extract::State<Arc<State>>,
    session: Session,
    uri: Uri,
    Body(request): Body<Rooms>,
) -> Result<Json<Value>, ApiError> {
    let rooms = request.rooms.into_iter();
    let keys = rooms.map(|(room, keys)| Ok((room.to_string(), keys.records()?))).collect::<Result<_, ApiError>>()?;
    put(&state, &session, &uri, keys).await
}

/// `PUT /room_keys/keys/{roomId}`
pub(super) async fn put_room(
    extract::State(state): extract::State<Arc<State>>,
    session: Session,
    uri: Uri,
    Args((room,)): Args<(OwnedRoomId,)>,
    Body(request): Body<Room>,
) -> Result<Json<Value>, ApiError> {
    put(&state, &session, &uri, RoomKeys::from([(room.to_string(), request.records()?)])).await
}

/// `PUT /room_keys/keys/{roomId}/{sessionId}`
pub(super) async fn put_session(
    extract::State(state): extract::State<Arc<State>>,
    session: Session,
    uri: Uri,
    Args((room, id)): Args<(OwnedRoomId, String)>,
    Body(request): Body<Key>,
) -> Result<Json<Value>, ApiError> {
    let sessions = BTreeMap::from([(id, request.record()?)]);
    put(&state, &session, &uri, RoomKeys::from([(room.to_string(), sessions)])).await
}

async fn delete(state: &State, session: &Session, uri: &Uri, which: Which<'_>) -> Result<Json<Value>, ApiError> {
    state.limit(Class::Other, session)?;
    Ok(shown(&state.devices.delete_room_keys(&session.user_id, &version(uri)?, which).await?))
}

/// `DELETE /room_keys/keys`
pub(super) async fn delete_all(
    extract::State(state): extract::State<Arc<State>>,
    session: Session,
    uri: Uri,
) -> Result<Json<Value>, ApiError> {
    delete(&state, &session, &uri, Which::All).await
}

/// `DELETE /room_keys/keys/{roomId}`
pub(super) async fn delete_room(
    extract::State(state): extract::State<Arc<State>>,
    session: Session,
    uri: Uri,
    Args((room,)): Args<(OwnedRoomId,)>,
) -> Result<Json<Value>, ApiError> {
    delete(&state, &session, &uri, Which::Room(room.as_str())).await
}

/// `DELETE /room_keys/keys/{roomId}/{sessionId}`
pub(super) async fn delete_session(
    extract::State(state): extract::State<Arc<State>>,
    session: Session,
    uri: Uri,
    Args((room, id)): Args<(OwnedRoomId, String)>,
) -> Result<Json<Value>, ApiError> {
    delete(&state, &session, &uri, Which::Session(room.as_str(), &id)).await
}

/// `GET /room_keys/keys/{roomId}/{sessionId}`
pub(super) async fn session(
    extract::State(state): extract::State<Arc<State>>,
    session: Session,
    uri: Uri,
    Args((room, id)): Args<(OwnedRoomId, String)>,
) -> Result<Response, ApiError> {
    let key = state.devices.room_key(&session.user_id, &version(&uri)?, room.as_str(), &id)?;
    Ok(json_text(key_json(&key)))
}

/// `GET /room_keys/keys`
pub(super) async fn all(
    extract::State(state): extract::State<Arc<State>>,
    session: Session,
    uri: Uri,
) -> Result<Response, ApiError> {
    answer(state, &session, &uri, None)
}

/// `GET /room_keys/keys/{roomId}`
pub(super) async fn room(
    extract::State(state): extract::State<Arc<State>>,
    session: Session,
    uri: Uri,
    Args((room,)): Args<(OwnedRoomId,)>,
) -> Result<Response, ApiError> {
    answer(state, &session, &uri, Some(room.to_string()))
}

fn key_json(key: &BackedUpKey) -> String {
    format!(
        "{{\"first_message_index\":{},\"forwarded_count\":{},\"is_verified\":{},\"session_data\":{}}}",
        key.first_message_index, key.forwarded_count, key.is_verified, key.session_data
    )
}

/// An answer of many keys, page by page.
struct Pages {
    state: Arc<State>,
    user_id: OwnedUserId,
    version: String,
    /// The one room whose keys are asked for.
    room: Option<String>,
    /// The last key so far: its room and session.
    last: Option<(String, String)>,
    is_done: bool,
}

/// Answers the keys of a room, or of all.
fn answer(state: Arc<State>, session: &Session, uri: &Uri, room: Option<String>) -> Result<Response, ApiError> {
    state.limit(Class::Other, session)?;
    let user_id = session.user_id.clone();
    let mut pages = Pages { state, user_id, version: version(uri)?, room, last: None, is_done: false };
    // What can be refused is refused before the answer begins.
    let first = pages.next()?;
    if pages.is_done {
        return Ok(json_text(first));
    }
    let rest = stream::unfold(pages, |mut pages| async move {
        if pages.is_done {
            return None;
        }
        // An answer that breaks off is no JSON: the client can't take it for the whole.
        let page = pages.next().map_err(|_| std::io::Error::other("the backup can't be read any further"));
        pages.is_done |= page.is_err();
        Some((page.map(Bytes::from), pages))
    });
    let first = stream::once(async move { Ok(Bytes::from(first)) });
    Ok(json_text(HttpBody::from_stream(stream::StreamExt::chain(first, rest))))
}

impl Pages {
    /// The next piece of the answer.
    fn next(&mut self) -> Result<String, ApiError> {
        let after = self.last.as_ref().map(|(room, session)| (room.as_str(), session.as_str()));
        let page = self.state.devices.room_keys(&self.user_id, &self.version, self.room.as_deref(), after)?;
        self.is_done = page.len() < BACKED_UP_KEYS_PAGE;
        Ok(self.push(page))
    }

    fn push(&mut self, page: KeyPage) -> String {
        let mut out = String::new();
        if self.last.is_none() && page.is_empty() {
            out.push_str(if self.room.is_some() { "{\"sessions\":{}}" } else { "{\"rooms\":{}}" });
            return out;
        }
        for (room, session, key) in page {
            match &self.last {
                Some((last, _)) if *last == room => out.push(','),
                Some(_) => {
                    out.push_str("}},");
                    push_room(&mut out, &room);
                }
                None if self.room.is_some() => out.push_str("{\"sessions\":{"),
                None => {
                    out.push_str("{\"rooms\":{");
                    push_room(&mut out, &room);
                }
            }
            out.push_str(&Value::from(session.as_str()).to_string());
            out.push(':');
            out.push_str(&key_json(&key));
            self.last = Some((room, session));
        }
        if self.is_done {
            out.push_str(if self.room.is_some() { "}}" } else { "}}}}" });
        }
        out
    }
}

fn push_room(out: &mut String, room: &str) {
    out.push_str(&Value::from(room).to_string());
    out.push_str(":{\"sessions\":{");
}
