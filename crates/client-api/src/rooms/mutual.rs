//! `GET /mutual_rooms`

use crate::limits::Class;
use crate::routes::Routes as _;
use crate::session::Session;
use crate::wire::query_param;
use crate::{ApiError, State};
use axum::extract::State as Within;
use axum::routing::get;
use axum::{Json, Router};
use base::RoomNum;
use http::Uri;
use records::{Membership, RecordsError, View};
use ruma::{OwnedRoomId, RoomId, UserId};
use serde::Serialize;
use std::collections::BTreeSet;
use std::sync::Arc;

/// How many rooms a page has.
const PAGE: usize = 100;

/// The endpoint, which some clients still know by the name that it had as MSC2666.
pub(super) fn routes() -> Router<Arc<State>> {
    Router::new()
        .route("/_matrix/client/unstable/uk.half-shot.msc2666/user/mutual_rooms", get(mutual_rooms))
        .v1("/mutual_rooms", get(mutual_rooms))
}

/// The rooms that two are in.
#[derive(Serialize)]
struct Answer {
    joined: Vec<OwnedRoomId>,
    count: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_batch: Option<OwnedRoomId>,
}

/// The rooms that the user and another one have both joined.
async fn mutual_rooms(Within(state): Within<Arc<State>>, session: Session, uri: Uri) -> Result<Json<Answer>, ApiError> {
    state.limit(Class::Other, &session)?;
    let query = uri.query().unwrap_or_default();
    // Clients of an early form of MSC2666 say `batch_token`.
    let from = query_param(query, "from").or_else(|| query_param(query, "batch_token"));
    let user = query_param(query, "user_id").ok_or_else(|| ApiError::missing_param("`user_id` is missing"))?;
    let other = UserId::parse(&user).ok().filter(|user| user.validate_strict().is_ok());
    let other = other.ok_or_else(|| ApiError::invalid_param("`user_id` is not a user id"))?;
    if *other == *session.user_id {
        return Err(ApiError::invalid_param("`user_id` is your own"));
    }
    let view = state.records.view();
    let own = joined(&view, &session.user_id)?;
    let mutual: BTreeSet<RoomNum> = joined(&view, &other)?.into_iter().filter(|room| own.contains(room)).collect();
    // A token is the last room of the page before.
    let after = match from {
        None => None,
        Some(token) => {
            let num = RoomId::parse(&token).ok().map(|room_id| view.room_num(&room_id)).transpose()?.flatten();
            Some(num.ok_or_else(|| ApiError::invalid_param("`from` is not a token of this list"))?)
        }
    };
    let mut rest = mutual.iter().filter(|room| after.is_none_or(|after| **room > after));
    let mut page = Vec::new();
    for room in rest.by_ref().take(PAGE) {
        page.extend(view.room_head(*room)?.map(|head| head.room_id));
    }
    let next_batch = page.last().cloned().filter(|_| rest.next().is_some());
    Ok(Json(Answer { joined: page, count: mutual.len(), next_batch }))
}

/// The rooms that a user is in.
fn joined(view: &View, user: &UserId) -> Result<BTreeSet<RoomNum>, RecordsError> {
    let memberships = view.memberships(user)?.into_iter();
    Ok(memberships.filter(|(_, _, record)| record.membership == Membership::Join).map(|(room, ..)| room).collect())
}

#[cfg(test)]
mod tests {
    use crate::testing::Server;
    use serde_json::{Value, json};
    use std::time::Duration;

    const PATH: &str = "/_matrix/client/v1/mutual_rooms";

    #[tokio::test]
    async fn rooms_that_both_have_joined_are_listed_page_by_page() {
        let server = Server::new().await;
        let (alice, bob) = (server.user("alice").await, server.user("bob").await);
        let mut rooms = Vec::new();
        for number in 0..super::PAGE + 3 {
            // Rooms that one user makes alike within a millisecond would be one.
            server.clock.advance(Duration::from_millis(1));
            let body = json!({"preset": "public_chat"});
            let room = server.post("/_matrix/client/v3/createRoom", Some(&alice.token), &body).await.ok();
            let room = room["room_id"].as_str().unwrap().to_owned();
            if number > 0 {
                let path = format!("/_matrix/client/v3/rooms/{room}/join");
                server.post(&path, Some(&bob.token), &json!({})).await.ok();
                rooms.push(json!(room));
            }
        }
        let left = format!("/_matrix/client/v3/rooms/{}/leave", rooms.pop().unwrap().as_str().unwrap());
        server.post(&left, Some(&bob.token), &json!({})).await.ok();
        for path in [PATH, "/_matrix/client/unstable/uk.half-shot.msc2666/user/mutual_rooms"] {
            let mut found: Vec<Value> = Vec::new();
            let mut from = String::new();
            loop {
                let path = format!("{path}?user_id={}{from}", alice.id);
                let page = server.get(&path, Some(&bob.token)).await.ok();
                assert_eq!(page["count"], super::PAGE + 1);
                found.extend(page["joined"].as_array().unwrap().iter().cloned());
                match page["next_batch"].as_str() {
                    Some(token) => from = format!("&from={token}"),
                    None => break,
                }
            }
            assert_eq!(found, rooms);
        }
    }

    #[tokio::test]
    async fn nobody_is_mutual_with_themselves_nor_with_what_is_no_user() {
        let server = Server::new().await;
        let alice = server.user("alice").await;
        let get = async |query: &str| server.get(&format!("{PATH}{query}"), Some(&alice.token)).await;
        get("").await.refused(400, "M_MISSING_PARAM");
        get("?user_id=x").await.refused(400, "M_INVALID_PARAM");
        get("?user_id=@Historical%7C:example.org").await.refused(400, "M_INVALID_PARAM");
        get("?user_id=@alice:example.org").await.refused(400, "M_INVALID_PARAM");
        get("?user_id=@bob:x&from=y").await.refused(400, "M_INVALID_PARAM");
        assert_eq!(get("?user_id=@nobody:example.org").await.ok(), json!({"joined": [], "count": 0}));
    }
}
