//! Subscriptions to threads (MSC4306), and the pages of their changes that did not fit into a sliding sync (MSC4308).

use super::access::Access;
use super::messages::place;
use crate::limits::Class;
use crate::session::Session;
use crate::wire::{Args, Body};
use crate::{ApiError, State};
use ::sync::{SubscribeError, THREAD_SUBSCRIPTIONS_MAX};
use axum::extract::{Query, State as Within};
use axum::routing::get;
use axum::{Json, Router};
use http::{StatusCode, Uri};
use records::ThreadSubscription;
use rooms::StoredEvent;
use rules::relation::can_be_root;
use ruma::{OwnedEventId, OwnedRoomId};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use sync_core::PageToken;

/// The endpoints, under the names that they have until they are accepted.
pub(super) fn routes() -> Router<Arc<State>> {
    Router::new()
        .route(
            "/_matrix/client/unstable/io.element.msc4306/rooms/{room_id}/thread/{event_id}/subscription",
            get(show).put(subscribe).delete(unsubscribe),
        )
        .route("/_matrix/client/unstable/io.element.msc4308/thread_subscriptions", get(changes))
}

type Thread = Args<(OwnedRoomId, OwnedEventId)>;

/// `GET …/subscription`: whether the user subscribes to a thread, and whether their client did that.
async fn show(
    Within(state): Within<Arc<State>>,
    session: Session,
    Args((room_id, root)): Thread,
) -> Result<Json<Value>, ApiError> {
    let (access, root) = thread(&state, &session, &room_id, &root)?;
    match state.syncs.thread_subscription(&session.user_id, &access.reader, &root)? {
        Some(subscription) => Ok(Json(json!({"automatic": subscription == ThreadSubscription::Automatic}))),
        None => Err(ApiError::not_found("you have not subscribed to this thread")),
    }
}

/// Who subscribes.
#[derive(Deserialize)]
struct Subscribe {
    /// The event that gave the client cause; none if the user did it.
    automatic: Option<OwnedEventId>,
}

/// `PUT …/subscription`
async fn subscribe(
    Within(state): Within<Arc<State>>,
    session: Session,
    Args((room_id, root)): Thread,
    Body(Subscribe { automatic }): Body<Subscribe>,
) -> Result<Json<Value>, ApiError> {
    state.limit(Class::Other, &session)?;
    let (access, root) = thread(&state, &session, &room_id, &root)?;
    let cause = match automatic {
        Some(event_id) => {
            let event = access.reader.event_by_id(&event_id)?;
            let event = event.map(|event| access.may_see(&[event])).transpose()?.and_then(|mut seen| seen.pop());
            Some(event.ok_or_else(|| refuse(SubscribeError::NotInThread))?.event)
        }
        None => None,
    };
    let subscribed = state.syncs.subscribe_to_thread(&session.user_id, &access.reader, &root, cause.as_ref());
    subscribed.await.map_err(refuse)?;
    Ok(Json(json!({})))
}

/// `DELETE …/subscription`
async fn unsubscribe(
    Within(state): Within<Arc<State>>,
    session: Session,
    Args((room_id, root)): Thread,
) -> Result<Json<Value>, ApiError> {
    state.limit(Class::Other, &session)?;
    let (access, root) = thread(&state, &session, &room_id, &root)?;
    let unsubscribed = state.syncs.unsubscribe_from_thread(&session.user_id, &access.reader, &root);
    unsubscribed.await.map_err(refuse)?;
    Ok(Json(json!({})))
}

/// A thread that the user has access to; 404 `M_NOT_FOUND` if there is none.
fn thread<'a>(
    state: &'a State,
    session: &'a Session,
    room_id: &OwnedRoomId,
    root: &OwnedEventId,
) -> Result<(Access<'a>, Arc<StoredEvent>), ApiError> {
    let no_thread = || ApiError::not_found("there is no such thread");
    let access = Access::of(state, session, room_id).map_err(|error| match error {
        error if error.is_internal() => error,
        _ => no_thread(),
    })?;
    let root = access.reader.event_by_id(root)?.filter(|root| can_be_root(&root.pdu)).ok_or_else(no_thread)?;
    // Whom the user ignores may have begun it.
    let seen = access.may_see(&[root])?.pop().ok_or_else(no_thread)?;
    Ok((access, seen.event))
}

fn refuse(error: SubscribeError) -> ApiError {
    let message = error.to_string();
    match error {
        SubscribeError::NotInThread => {
            ApiError::new(StatusCode::BAD_REQUEST, "IO.ELEMENT.MSC4306.M_NOT_IN_THREAD", message)
        }
        SubscribeError::Unsubscribed => {
            ApiError::new(StatusCode::CONFLICT, "IO.ELEMENT.MSC4306.M_CONFLICTING_UNSUBSCRIPTION", message)
        }
        SubscribeError::TooMany => ApiError::too_large(message),
        SubscribeError::Sync(error) => error.into(),
    }
}

#[derive(Deserialize)]
struct Parameters {
    dir: Option<String>,
    from: Option<String>,
    to: Option<String>,
    limit: Option<u64>,
}

/// `GET …/thread_subscriptions`: a page of changes, the newest first.
async fn changes(Within(state): Within<Arc<State>>, session: Session, uri: Uri) -> Result<Json<Value>, ApiError> {
    let parameters = Query::<Parameters>::try_from_uri(&uri);
    let Query(parameters) = parameters.map_err(|error| ApiError::invalid_param(error.body_text()))?;
    match parameters.dir.as_deref() {
        Some("b") => {}
        Some(_) => return Err(ApiError::invalid_param("`dir` must be `b`")),
        None => return Err(ApiError::missing_param("`dir` is missing")),
    }
    if parameters.limit == Some(0) {
        return Err(ApiError::invalid_param("`limit` must be greater than zero"));
    }
    let threads_max = parameters.limit.map_or(THREAD_SUBSCRIPTIONS_MAX, |limit| {
        usize::try_from(limit).unwrap_or(usize::MAX).min(THREAD_SUBSCRIPTIONS_MAX)
    });
    let token = |name: &'static str, text: &Option<String>| -> Result<Option<PageToken>, ApiError> {
        Ok(text.as_deref().map(|text| place(name, text)).transpose()?.map(PageToken))
    };
    let (from, to) = (token("from", &parameters.from)?, token("to", &parameters.to)?);
    let page = state.syncs.thread_subscriptions(&session.user_id, from, to, threads_max)?;
    Ok(Json(page.to_json("end")))
}

#[cfg(test)]
mod tests {
    use crate::testing::{Server, User};
    use serde_json::{Value, json};

    const UNSTABLE: &str = "/_matrix/client/unstable";

    struct World {
        server: Server,
        alice: User,
        room: String,
    }

    impl World {
        async fn new() -> Self {
            let server = Server::new().await;
            let alice = server.user("alice").await;
            let created = server.post("/_matrix/client/v3/createRoom", Some(&alice.token), &json!({})).await.ok();
            Self { room: created["room_id"].as_str().unwrap().to_owned(), server, alice }
        }

        async fn say(&self, txn: &str, root: Option<&str>) -> String {
            let mut content = json!({"msgtype": "m.text", "body": txn});
            if let Some(root) = root {
                content["m.relates_to"] = json!({"rel_type": "m.thread", "event_id": root});
            }
            let path = format!("/_matrix/client/v3/rooms/{}/send/m.room.message/{txn}", self.room);
            let said = self.server.put(&path, Some(&self.alice.token), &content).await.ok();
            said["event_id"].as_str().unwrap().to_owned()
        }

        fn path(&self, root: &str) -> String {
            format!("{UNSTABLE}/io.element.msc4306/rooms/{}/thread/{root}/subscription", self.room)
        }

        async fn put(&self, root: &str, body: Value) -> crate::testing::Answer {
            self.server.put(&self.path(root), Some(&self.alice.token), &body).await
        }

        async fn unsubscribe(&self, root: &str) {
            self.server.delete(&self.path(root), Some(&self.alice.token), &Value::Null).await.ok();
        }

        async fn show(&self, root: &str) -> crate::testing::Answer {
            self.server.get(&self.path(root), Some(&self.alice.token)).await
        }

        async fn slide(&self, pos: Option<&Value>, limit: u64) -> Value {
            let wanted = json!({"enabled": true, "limit": limit});
            let body = json!({"pos": pos, "extensions": {"io.element.msc4308.thread_subscriptions": wanted}});
            let path = format!("{UNSTABLE}/org.matrix.simplified_msc3575/sync");
            self.server.post(&path, Some(&self.alice.token), &body).await.ok()
        }

        async fn page(&self, query: &str) -> Value {
            let path = format!("{UNSTABLE}/io.element.msc4308/thread_subscriptions?dir=b{query}");
            self.server.get(&path, Some(&self.alice.token)).await.ok()
        }
    }

    #[tokio::test]
    async fn a_users_own_will_comes_before_that_of_their_client() {
        let world = World::new().await;
        let root = world.say("root", None).await;
        world.show(&root).await.refused(404, "M_NOT_FOUND");
        world.unsubscribe(&root).await;
        let first = world.say("1", Some(&root)).await;
        world.put(&root, json!({"automatic": first})).await.ok();
        assert_eq!(world.show(&root).await.ok(), json!({"automatic": true}));
        world.put(&root, json!({})).await.ok();
        world.put(&root, json!({"automatic": first})).await.ok();
        assert_eq!(world.show(&root).await.ok(), json!({"automatic": false}));
    }

    #[tokio::test]
    async fn a_client_does_not_subscribe_again_for_what_came_before_the_user_unsubscribed() {
        let world = World::new().await;
        let root = world.say("root", None).await;
        let before = world.say("1", Some(&root)).await;
        world.put(&root, json!({})).await.ok();
        world.unsubscribe(&root).await;
        let conflict = world.put(&root, json!({"automatic": before})).await;
        conflict.refused(409, "IO.ELEMENT.MSC4306.M_CONFLICTING_UNSUBSCRIPTION");
        world.show(&root).await.refused(404, "M_NOT_FOUND");
        let after = world.say("2", Some(&root)).await;
        world.put(&root, json!({"automatic": after})).await.ok();
        assert_eq!(world.show(&root).await.ok(), json!({"automatic": true}));
    }

    #[tokio::test]
    async fn only_events_of_the_thread_give_cause() {
        let world = World::new().await;
        let (root, other) = (world.say("root", None).await, world.say("other", None).await);
        let elsewhere = world.say("1", Some(&other)).await;
        for cause in [&root, &other, &elsewhere, "$unknown"] {
            let refused = world.put(&root, json!({"automatic": cause})).await;
            refused.refused(400, "IO.ELEMENT.MSC4306.M_NOT_IN_THREAD");
        }
        for thread in ["$unknown", &elsewhere] {
            world.put(thread, json!({})).await.refused(404, "M_NOT_FOUND");
        }
        let bob = world.server.user("bob").await;
        world.server.put(&world.path(&root), Some(&bob.token), &json!({})).await.refused(404, "M_NOT_FOUND");
    }

    #[tokio::test]
    async fn where_subscriptions_count_other_threads_are_silent() {
        let server = Server::with_sync(|config| config.thread_subscriptions = true).await;
        let (alice, bob) = (server.user("alice").await, server.user("bob").await);
        let create = json!({"preset": "public_chat"});
        let created = server.post("/_matrix/client/v3/createRoom", Some(&alice.token), &create).await.ok();
        let world = World { room: created["room_id"].as_str().unwrap().to_owned(), server, alice };
        let path = format!("/_matrix/client/v3/rooms/{}/join", world.room);
        world.server.post(&path, Some(&bob.token), &json!({})).await.ok();
        let versions = world.server.get("/_matrix/client/versions", None).await.ok();
        assert_eq!(versions["unstable_features"]["org.matrix.msc4306"], true);

        let root = world.say("root", None).await;
        world.say("1", Some(&root)).await;
        let unread = async || {
            let synced = world.server.get("/_matrix/client/v3/sync", Some(&bob.token)).await.ok();
            synced["rooms"]["join"][world.room.as_str()]["unread_notifications"]["notification_count"].clone()
        };
        assert_eq!(unread().await, 1);
        world.server.put(&world.path(&root), Some(&bob.token), &json!({})).await.ok();
        assert_eq!(unread().await, 2);
        world.say("2", Some(&root)).await;
        assert_eq!(unread().await, 3);
        world.server.delete(&world.path(&root), Some(&bob.token), &Value::Null).await.ok();
        assert_eq!(unread().await, 1);
    }

    #[tokio::test]
    async fn changes_come_with_sliding_syncs_and_what_does_not_fit_in_pages() {
        let world = World::new().await;
        let mut roots = Vec::new();
        for n in 0..4 {
            let root = world.say(&n.to_string(), None).await;
            world.put(&root, json!({})).await.ok();
            roots.push(root);
        }
        let of = |told: &Value, section: &str| -> Vec<String> {
            let threads = told[section][world.room.as_str()].as_object();
            let mut found: Vec<_> = threads.into_iter().flatten().map(|(root, _)| root.clone()).collect();
            found.sort_by_key(|root| roots.iter().position(|known| known == root));
            found
        };
        let name = "io.element.msc4308.thread_subscriptions";
        let first = world.slide(None, 2).await;
        let told = &first["extensions"][name];
        assert_eq!(of(told, "subscribed"), roots[2..]);
        let page = world.page(&format!("&limit=1&from={}", told["prev_batch"].as_str().unwrap())).await;
        assert_eq!(of(&page, "subscribed"), roots[1..2]);
        let page = world.page(&format!("&from={}", page["end"].as_str().unwrap())).await;
        assert_eq!((of(&page, "subscribed"), page.get("end")), (roots[..1].to_vec(), None));

        world.unsubscribe(&roots[3]).await;
        world.put(&roots[3], json!({})).await.ok();
        world.unsubscribe(&roots[0]).await;
        let second = world.slide(Some(&first["pos"]), 1).await;
        let told = &second["extensions"][name];
        assert_eq!((of(told, "unsubscribed"), told.get("subscribed")), (roots[..1].to_vec(), None));
        let (from, to) = (told["prev_batch"].as_str().unwrap(), first["pos"].as_str().unwrap());
        let page = world.page(&format!("&from={from}&to={to}")).await;
        assert_eq!((of(&page, "subscribed"), page.get("end")), (roots[3..].to_vec(), None));
        let third = world.slide(Some(&second["pos"]), 1).await;
        assert_eq!(third["extensions"], json!({}));
    }
}
