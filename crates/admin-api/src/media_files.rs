//! Files: what users have uploaded, quarantine, protection, removal, and how much there is of it.

use crate::State;
use crate::access::Admin;
use crate::params::{Dir, Page, Params};
use crate::users::text_of;
use axum::extract;
use axum::routing::{get, post};
use axum::{Json, Router};
use base::UnixMillis;
use face::ApiError;
use face::wire::Args;
use media::{MediaInfo, UserMedia};
use records::Mxc;
use ruma::{OwnedRoomId, OwnedServerName, OwnedUserId};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use store::Direction;

/// How many files are removed by one request.
const DELETED_MAX: usize = 1000;
/// How many files or users are read at once.
const ROWS_AT_ONCE: usize = 1000;
/// The most files of a user that a list looks at.
const LISTED_MAX: usize = 100_000;

pub(crate) fn routes() -> Router<Arc<State>> {
    Router::new()
        .route("/_synapse/admin/v1/users/{user_id}/media", get(of_user).delete(delete_of_user))
        .route("/_synapse/admin/v1/user/{user_id}/media/quarantine", post(quarantine_user))
        .route("/_synapse/admin/v1/room/{room_id}/media", get(of_room))
        .route("/_synapse/admin/v1/room/{room_id}/media/quarantine", post(quarantine_room))
        .route("/_synapse/admin/v1/media/{server_name}/{media_id}", get(show).delete(remove))
        .route("/_synapse/admin/v1/media/quarantine/{server_name}/{media_id}", post(quarantine))
        .route("/_synapse/admin/v1/media/unquarantine/{server_name}/{media_id}", post(unquarantine))
        .route("/_synapse/admin/v1/media/protect/{media_id}", post(protect))
        .route("/_synapse/admin/v1/media/unprotect/{media_id}", post(unprotect))
        .route("/_synapse/admin/v1/media/delete", post(delete_old))
        .route("/_synapse/admin/v1/purge_media_cache", post(purge_remote))
        .route("/_synapse/admin/v1/statistics/users/media", get(statistics))
}

fn name(server: &ruma::ServerName, id: &str) -> Result<Mxc, ApiError> {
    Mxc::new(server, id).ok_or_else(|| ApiError::invalid_param("it is not the id of a file"))
}

fn shown(info: &MediaInfo) -> Value {
    json!({
        "media_id": info.mxc.id(),
        "media_length": info.record.bytes,
        "media_type": info.record.content_type,
        "upload_name": info.record.filename,
        "created_ts": info.record.created_at.0,
        "last_access_ts": info.accessed_at.map(|at| at.0),
        "quarantined_by": info.blocked.as_ref().map(|blocked| blocked.by.as_ref().map_or("", |by| by.as_str())),
        "safe_from_quarantine": info.record.protected,
    })
}

#[derive(Debug, Deserialize)]
struct List {
    from: Option<usize>,
    limit: Option<usize>,
    order_by: Option<OrderBy>,
    dir: Option<Dir>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum OrderBy {
    MediaId,
    UploadName,
    CreatedTs,
    LastAccessTs,
    MediaLength,
    MediaType,
    QuarantinedBy,
    SafeFromQuarantine,
}

/// `GET /_synapse/admin/v1/users/{userId}/media`: the newest first, unless another order is asked for.
async fn of_user(
    extract::State(state): extract::State<Arc<State>>,
    _: Admin,
    Args((user,)): Args<(OwnedUserId,)>,
    Params(list): Params<List>,
) -> Result<Json<Value>, ApiError> {
    state.local_user(&user)?;
    let shared = state.clone();
    state
        .search(move || {
            let mut found: Vec<MediaInfo> = Vec::new();
            while found.len() < LISTED_MAX {
                let beyond = found.last().map(|info| (info.record.created_at, &info.mxc));
                let page = shared.media.media_of_user(&user, beyond, Direction::Backward, ROWS_AT_ONCE)?;
                if page.is_empty() {
                    break;
                }
                found.extend(page);
            }
            let total = found.len();
            if let Some(order) = list.order_by {
                found.sort_by_cached_key(|info| key(order, info));
            }
            let dir = list.dir.unwrap_or(if list.order_by.is_some() { Dir::Forwards } else { Dir::Backwards });
            // Without another order they come the newest first, which is backwards.
            if (dir == Dir::Backwards) == list.order_by.is_some() {
                found.reverse();
            }
            let page = Page::new(list.from, list.limit);
            let media: Vec<Value> = page.of(found).iter().map(shown).collect();
            let mut answer = json!({ "media": media, "total": total });
            if let (Some(next), Some(answer)) = (page.next(total), answer.as_object_mut()) {
                answer.insert("next_token".to_owned(), json!(next));
            }
            Ok(Json(answer))
        })
        .await
}

fn key(order: OrderBy, info: &MediaInfo) -> (String, u64) {
    match order {
        OrderBy::MediaId => (info.mxc.id().to_owned(), 0),
        OrderBy::UploadName => (info.record.filename.clone().unwrap_or_default(), 0),
        OrderBy::MediaType => (info.record.content_type.clone(), 0),
        OrderBy::CreatedTs => (String::new(), info.record.created_at.0),
        OrderBy::LastAccessTs => (String::new(), info.accessed_at.map_or(0, |at| at.0)),
        OrderBy::MediaLength => (String::new(), info.record.bytes),
        OrderBy::QuarantinedBy => (String::new(), info.blocked.is_some().into()),
        OrderBy::SafeFromQuarantine => (String::new(), info.record.protected.into()),
    }
}

fn deleted(media: &[Mxc]) -> Json<Value> {
    let ids: Vec<&str> = media.iter().map(Mxc::id).collect();
    Json(json!({ "total": ids.len(), "deleted_media": ids }))
}

/// `DELETE /_synapse/admin/v1/users/{userId}/media`: the oldest first.
async fn delete_of_user(
    extract::State(state): extract::State<Arc<State>>,
    admin: Admin,
    Args((user,)): Args<(OwnedUserId,)>,
    Params(list): Params<List>,
) -> Result<Json<Value>, ApiError> {
    state.local_user(&user)?;
    tracing::warn!(admin = %admin.user_id, %user, "files of a user are deleted");
    let limit = Page::new(None, list.limit).limit.min(DELETED_MAX);
    Ok(deleted(&state.media.delete_of_user(&user, limit).await?))
}

/// `POST /_synapse/admin/v1/user/{userId}/media/quarantine`
async fn quarantine_user(
    extract::State(state): extract::State<Arc<State>>,
    admin: Admin,
    Args((user,)): Args<(OwnedUserId,)>,
) -> Result<Json<Value>, ApiError> {
    state.local_user(&user)?;
    tracing::warn!(admin = %admin.user_id, %user, "files of a user are quarantined");
    Ok(Json(json!({ "num_quarantined": state.media.quarantine_user(&user, &admin.user_id).await? })))
}

/// `GET /_synapse/admin/v1/room/{roomId}/media`: what its events mention, where they are not encrypted.
async fn of_room(
    extract::State(state): extract::State<Arc<State>>,
    _: Admin,
    Args((room_id,)): Args<(OwnedRoomId,)>,
) -> Result<Json<Value>, ApiError> {
    state.room(&room_id)?;
    let shared = state.clone();
    state
        .search(move || {
            let media = shared.media.media_of_room(&room_id)?;
            let (local, remote): (Vec<_>, Vec<_>) = media.iter().partition(|mxc| *mxc.origin() == *shared.server_name);
            let texts = |media: Vec<&Mxc>| media.into_iter().map(ToString::to_string).collect::<Vec<_>>();
            Ok(Json(json!({ "local": texts(local), "remote": texts(remote) })))
        })
        .await
}

/// `POST /_synapse/admin/v1/room/{roomId}/media/quarantine`
async fn quarantine_room(
    extract::State(state): extract::State<Arc<State>>,
    admin: Admin,
    Args((room_id,)): Args<(OwnedRoomId,)>,
) -> Result<Json<Value>, ApiError> {
    state.room(&room_id)?;
    tracing::warn!(admin = %admin.user_id, %room_id, "files of a room are quarantined");
    Ok(Json(json!({ "num_quarantined": state.media.quarantine_room(&room_id, &admin.user_id).await? })))
}

/// `GET /_synapse/admin/v1/media/{serverName}/{mediaId}`
async fn show(
    extract::State(state): extract::State<Arc<State>>,
    _: Admin,
    Args((server, id)): Args<(OwnedServerName, String)>,
) -> Result<Json<Value>, ApiError> {
    let info = state.media.info(&name(&server, &id)?)?;
    let info = info.ok_or_else(|| ApiError::not_found("there is no such file"))?;
    let mut shown = shown(&info);
    if let Some(fields) = shown.as_object_mut() {
        fields.insert("user_id".to_owned(), json!(info.record.uploader));
        fields.insert("media_origin".to_owned(), json!(info.mxc.origin()));
    }
    Ok(Json(json!({ "media_info": shown })))
}

/// `DELETE /_synapse/admin/v1/media/{serverName}/{mediaId}`
async fn remove(
    extract::State(state): extract::State<Arc<State>>,
    admin: Admin,
    Args((server, id)): Args<(OwnedServerName, String)>,
) -> Result<Json<Value>, ApiError> {
    let mxc = name(&server, &id)?;
    tracing::warn!(admin = %admin.user_id, %mxc, "a file is deleted");
    match state.media.delete(&mxc).await? {
        true => Ok(deleted(&[mxc])),
        false => Err(ApiError::not_found("there is no such file")),
    }
}

/// `POST /_synapse/admin/v1/media/quarantine/{serverName}/{mediaId}`: whatever file has the same bytes too.
async fn quarantine(
    extract::State(state): extract::State<Arc<State>>,
    admin: Admin,
    Args((server, id)): Args<(OwnedServerName, String)>,
) -> Result<Json<Value>, ApiError> {
    let mxc = name(&server, &id)?;
    tracing::warn!(admin = %admin.user_id, %mxc, "a file is quarantined");
    state.media.quarantine(&mxc, &admin.user_id).await?;
    Ok(Json(json!({})))
}

/// `POST /_synapse/admin/v1/media/unquarantine/{serverName}/{mediaId}`
async fn unquarantine(
    extract::State(state): extract::State<Arc<State>>,
    admin: Admin,
    Args((server, id)): Args<(OwnedServerName, String)>,
) -> Result<Json<Value>, ApiError> {
    let mxc = name(&server, &id)?;
    tracing::warn!(admin = %admin.user_id, %mxc, "a file is quarantined no more");
    state.media.unquarantine(&mxc).await?;
    Ok(Json(json!({})))
}

/// `POST /_synapse/admin/v1/media/protect/{mediaId}`
async fn protect(
    extract::State(state): extract::State<Arc<State>>,
    _: Admin,
    Args((id,)): Args<(String,)>,
) -> Result<Json<Value>, ApiError> {
    state.media.protect(&name(&state.server_name, &id)?, true).await?;
    Ok(Json(json!({})))
}

/// `POST /_synapse/admin/v1/media/unprotect/{mediaId}`
async fn unprotect(
    extract::State(state): extract::State<Arc<State>>,
    _: Admin,
    Args((id,)): Args<(String,)>,
) -> Result<Json<Value>, ApiError> {
    state.media.protect(&name(&state.server_name, &id)?, false).await?;
    Ok(Json(json!({})))
}

#[derive(Debug, Deserialize)]
struct Old {
    before_ts: u64,
    #[serde(default)]
    size_gt: u64,
    keep_profiles: Option<bool>,
}

/// `POST /_synapse/admin/v1/media/delete`: files of this server that nobody has asked for since then.
async fn delete_old(
    extract::State(state): extract::State<Arc<State>>,
    admin: Admin,
    Params(old): Params<Old>,
) -> Result<Json<Value>, ApiError> {
    tracing::warn!(admin = %admin.user_id, before = old.before_ts, "old files are deleted");
    let keep_profiles = old.keep_profiles.unwrap_or(true);
    let before = UnixMillis(old.before_ts);
    Ok(deleted(&state.media.delete_local_before(before, old.size_gt, keep_profiles, DELETED_MAX).await?))
}

#[derive(Debug, Deserialize)]
struct Before {
    before_ts: u64,
}

/// `POST /_synapse/admin/v1/purge_media_cache`: files of other servers that nobody has asked for since then.
async fn purge_remote(
    extract::State(state): extract::State<Arc<State>>,
    admin: Admin,
    Params(Before { before_ts }): Params<Before>,
) -> Result<Json<Value>, ApiError> {
    tracing::info!(admin = %admin.user_id, before_ts, "old files of other servers are deleted");
    Ok(Json(json!({ "deleted": state.media.purge_remote(UnixMillis(before_ts)).await? })))
}

#[derive(Debug, Deserialize)]
struct Statistics {
    from: Option<usize>,
    limit: Option<usize>,
    #[serde(default)]
    order_by: Counted,
    #[serde(default)]
    dir: Dir,
    search_term: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Counted {
    #[default]
    UserId,
    Displayname,
    MediaLength,
    MediaCount,
}

/// `GET /_synapse/admin/v1/statistics/users/media`: who has uploaded how much.
async fn statistics(
    extract::State(state): extract::State<Arc<State>>,
    _: Admin,
    Params(query): Params<Statistics>,
) -> Result<Json<Value>, ApiError> {
    let shared = state.clone();
    state
        .search(move || {
            let view = shared.records.view();
            let text = query.search_term.as_deref().map(str::to_lowercase);
            let mut found: Vec<(Option<String>, UserMedia)> = Vec::new();
            let mut last: Option<OwnedUserId> = None;
            loop {
                let page = shared.media.usages(last.as_deref(), ROWS_AT_ONCE)?;
                let Some(end) = page.last() else { break };
                last = Some(end.user.clone());
                for entry in page {
                    let displayname = text_of(&view.profile(&entry.user)?, "displayname");
                    let is_found = |text: &String| {
                        entry.user.as_str().to_lowercase().contains(text)
                            || displayname.as_ref().is_some_and(|name| name.to_lowercase().contains(text))
                    };
                    if text.as_ref().is_none_or(is_found) {
                        found.push((displayname, entry));
                    }
                }
            }
            match query.order_by {
                Counted::UserId => {}
                Counted::Displayname => found.sort_by(|one, other| one.0.cmp(&other.0)),
                Counted::MediaLength => found.sort_by_key(|(_, entry)| entry.usage.bytes),
                Counted::MediaCount => found.sort_by_key(|(_, entry)| entry.usage.files),
            }
            if query.dir == Dir::Backwards {
                found.reverse();
            }
            let (total, page) = (found.len(), Page::new(query.from, query.limit));
            let users = page.of(found).into_iter().map(|(displayname, entry)| {
                json!({
                    "user_id": entry.user,
                    "displayname": displayname,
                    "media_count": entry.usage.files,
                    "media_length": entry.usage.bytes,
                })
            });
            let mut answer = json!({ "users": users.collect::<Vec<_>>(), "total": total });
            if let (Some(next), Some(answer)) = (page.next(total), answer.as_object_mut()) {
                answer.insert("next_token".to_owned(), json!(next));
            }
            Ok(Json(answer))
        })
        .await
}

#[cfg(test)]
mod tests {
    use crate::testing::{Server, User};
    use bytes::Bytes;
    use futures::stream;
    use media::{Mxc, NewFile};
    use serde_json::{Value, json};

    async fn upload(server: &Server, user: &User, text: &'static str) -> Mxc {
        let file = NewFile {
            content_type: Some("text/plain".to_owned()),
            filename: Some(format!("{text}.txt")),
            length: None,
        };
        let body = stream::iter([Ok::<_, String>(Bytes::from_static(text.as_bytes()))]);
        server.state.media.upload(&user.id, file, body).await.unwrap()
    }

    #[tokio::test]
    async fn files_are_listed_quarantined_protected_and_deleted() {
        let server = Server::new().await;
        let (admin, alice) = (server.admin("root").await, server.user("alice").await);
        let (one, other) = (upload(&server, &alice, "one").await, upload(&server, &alice, "other").await);
        let list = format!("/_synapse/admin/v1/users/{}/media", alice.id);
        let all = server.get(&format!("{list}?order_by=media_length"), Some(&admin)).await.ok();
        assert_eq!((&all["total"], &all["media"][0]["upload_name"]), (&json!(2), &json!("one.txt")));
        let statistics = server.get("/_synapse/admin/v1/statistics/users/media", Some(&admin)).await.ok();
        assert_eq!(
            (&statistics["users"][0]["media_count"], &statistics["users"][0]["media_length"]),
            (&json!(2), &json!(8))
        );
        let path = |what: &str, mxc: &Mxc| format!("/_synapse/admin/v1/media/{what}/example.org/{}", mxc.id());
        let nothing = json!({});
        server.post(&path("quarantine", &one), Some(&alice), &nothing).await.refused(403, "M_FORBIDDEN");
        server.post(&path("quarantine", &one), Some(&admin), &nothing).await.ok();
        let info = format!("/_synapse/admin/v1/media/example.org/{}", one.id());
        let by = |shown: Value| shown["media_info"]["quarantined_by"].clone();
        assert_eq!(by(server.get(&info, Some(&admin)).await.ok()), json!(admin.id));
        server.post(&path("unquarantine", &one), Some(&admin), &nothing).await.ok();
        assert_eq!(by(server.get(&info, Some(&admin)).await.ok()), Value::Null);
        let protect = format!("/_synapse/admin/v1/media/protect/{}", other.id());
        server.post(&protect, Some(&admin), &nothing).await.ok();
        let all = format!("/_synapse/admin/v1/user/{}/media/quarantine", alice.id);
        assert_eq!(server.post(&all, Some(&admin), &nothing).await.ok()["num_quarantined"], 1);
        let deleted = server.delete(&info, Some(&admin), &nothing).await.ok();
        assert_eq!(deleted, json!({ "deleted_media": [one.id()], "total": 1 }));
        server.delete(&info, Some(&admin), &nothing).await.refused(404, "M_NOT_FOUND");
        assert_eq!(server.delete(&list, Some(&admin), &nothing).await.ok()["total"], 1);
        let purge = "/_synapse/admin/v1/purge_media_cache?before_ts=5";
        assert_eq!(server.post(purge, Some(&admin), &nothing).await.ok()["deleted"], 0);
        server.post("/_synapse/admin/v1/media/delete", Some(&admin), &nothing).await.refused(400, "M_INVALID_PARAM");
    }
}
