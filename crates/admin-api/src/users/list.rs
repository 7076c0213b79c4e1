//! The list of users: `GET /_synapse/admin/v2/users` and `…/v3/users`. It is put together from all users for each page,
//! by few at once: an administrator looks at it now and then.

use super::{last_seen, shown, text_of};
use crate::State;
use crate::access::Admin;
use crate::params::{Dir, Page, Params};
use axum::extract;
use axum::routing::get;
use axum::{Json, Router};
use face::ApiError;
use records::{Profile, UserRecord, View};
use ruma::{OwnedUserId, UserId};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// How many users are read at once.
const USERS_AT_ONCE: usize = 1000;

pub(super) fn routes() -> Router<Arc<State>> {
    Router::new().route("/_synapse/admin/v2/users", get(second)).route("/_synapse/admin/v3/users", get(third))
}

#[derive(Debug, Deserialize)]
struct Query {
    from: Option<usize>,
    limit: Option<usize>,
    user_id: Option<String>,
    name: Option<String>,
    guests: Option<bool>,
    admins: Option<bool>,
    deactivated: Option<bool>,
    locked: Option<bool>,
    #[serde(default)]
    order_by: Order,
    #[serde(default)]
    dir: Dir,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Order {
    #[default]
    Name,
    IsGuest,
    Admin,
    UserType,
    Deactivated,
    ShadowBanned,
    Displayname,
    AvatarUrl,
    CreationTs,
    LastSeenTs,
    Locked,
    Suspended,
}

/// `GET /_synapse/admin/v2/users`: with `deactivated`, those who are deactivated are among the users.
async fn second(
    extract::State(state): extract::State<Arc<State>>,
    _: Admin,
    Params(query): Params<Query>,
) -> Result<Json<Value>, ApiError> {
    let deactivated = if query.deactivated == Some(true) { None } else { Some(false) };
    list(state, query, deactivated).await
}

/// `GET /_synapse/admin/v3/users`: with `deactivated`, only those are shown who are, or only those who are not.
async fn third(
    extract::State(state): extract::State<Arc<State>>,
    _: Admin,
    Params(query): Params<Query>,
) -> Result<Json<Value>, ApiError> {
    let deactivated = query.deactivated;
    list(state, query, deactivated).await
}

async fn list(state: Arc<State>, query: Query, deactivated: Option<bool>) -> Result<Json<Value>, ApiError> {
    let shared = state.clone();
    state.search(move || Ok(Json(page(&shared, &query, deactivated)?))).await
}

/// What a list is sorted by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Number(u64),
    Text(Option<String>),
}

fn page(state: &State, query: &Query, deactivated: Option<bool>) -> Result<Value, ApiError> {
    let view = state.records.view();
    let name = query.name.as_deref().map(str::to_lowercase);
    let user_id = query.user_id.as_deref().map(str::to_lowercase);
    let reads_profiles = name.is_some() || matches!(query.order_by, Order::Displayname | Order::AvatarUrl);
    let mut found: Vec<(Key, OwnedUserId)> = Vec::new();
    let mut after: Option<OwnedUserId> = None;
    loop {
        let users = view.users(after.as_deref(), USERS_AT_ONCE)?;
        let is_last = users.len() < USERS_AT_ONCE;
        after = users.last().map(|(user, _)| user.clone());
        for (user, record) in users {
            if !wanted(query, &record, deactivated) {
                continue;
            }
            let profile = if reads_profiles { view.profile(&user)? } else { Profile::new() };
            let is_found = match (&name, &user_id) {
                (Some(text), _) => {
                    let displayname = text_of(&profile, "displayname").unwrap_or_default();
                    user.localpart().contains(text) || displayname.to_lowercase().contains(text)
                }
                (None, Some(text)) => user.as_str().to_lowercase().contains(text),
                (None, None) => true,
            };
            if is_found {
                found.push((key(state, query.order_by, &user, &record, &profile)?, user));
            }
        }
        if is_last {
            break;
        }
    }
    // Those who are alike stay in the order of their names.
    match query.dir {
        Dir::Forwards => found.sort_by(|(one, _), (other, _)| one.cmp(other)),
        Dir::Backwards => found.sort_by(|(one, _), (other, _)| other.cmp(one)),
    }
    let total = found.len();
    let page = Page::new(query.from, query.limit);
    let users: Vec<Value> =
        page.of(found).iter().map(|(_, user)| entry(state, &view, user)).collect::<Result<_, ApiError>>()?;
    let mut answer = json!({ "users": users, "total": total });
    if let (Some(next), Some(answer)) = (page.next(total), answer.as_object_mut()) {
        answer.insert("next_token".to_owned(), json!(next.to_string()));
    }
    Ok(answer)
}

fn wanted(query: &Query, record: &UserRecord, deactivated: Option<bool>) -> bool {
    (query.guests != Some(false) || !record.guest)
        && query.admins.is_none_or(|admins| admins == record.admin)
        && deactivated.is_none_or(|deactivated| deactivated == record.deactivated_at.is_some())
        && (query.locked == Some(true) || !record.sanctions.locked)
}

fn key(state: &State, order: Order, user: &UserId, record: &UserRecord, profile: &Profile) -> Result<Key, ApiError> {
    Ok(match order {
        Order::Name => Key::Text(Some(user.to_string())),
        Order::IsGuest => Key::Number(record.guest.into()),
        Order::Admin => Key::Number(record.admin.into()),
        Order::UserType => Key::Text(record.user_type.clone()),
        Order::Deactivated => Key::Number(record.deactivated_at.is_some().into()),
        Order::ShadowBanned => Key::Number(record.sanctions.shadow_banned.into()),
        Order::Locked => Key::Number(record.sanctions.locked.into()),
        Order::Suspended => Key::Number(record.sanctions.suspended.into()),
        Order::Displayname => Key::Text(text_of(profile, "displayname").map(|name| name.to_lowercase())),
        Order::AvatarUrl => Key::Text(text_of(profile, "avatar_url")),
        Order::CreationTs => Key::Number(record.created_at.0),
        Order::LastSeenTs => Key::Number(last_seen(&state.accounts.devices(user)?).map_or(0, |at| at.0)),
    })
}

fn entry(state: &State, view: &View, user: &UserId) -> Result<Value, ApiError> {
    let record = view.user(user)?.ok_or_else(|| ApiError::not_found("User not found"))?;
    let mut shown = shown(user, &record, &view.profile(user)?, &state.accounts.devices(user)?);
    if let Some(shown) = shown.as_object_mut() {
        shown.insert("creation_ts".to_owned(), json!(record.created_at.0));
    }
    Ok(shown)
}

#[cfg(test)]
mod tests {
    use crate::testing::Server;
    use serde_json::Value;

    fn names(answer: &Value) -> Vec<&str> {
        let users = answer["users"].as_array().unwrap().iter();
        users.map(|user| user["name"].as_str().unwrap().split(':').next().unwrap()).collect()
    }

    #[tokio::test]
    async fn users_are_found_sorted_and_paged() {
        let server = Server::new().await;
        let admin = server.admin("root").await;
        for name in ["carol", "alice", "bob"] {
            server.user(name).await;
            server.clock.advance(std::time::Duration::from_secs(1));
        }
        let alice = "@alice:example.org".try_into().unwrap();
        server.state.accounts.set_profile_field(alice, "displayname", Some("\"Zoë\"")).await.unwrap();
        let list =
            async |query: &str| server.get(&format!("/_synapse/admin/v2/users?{query}"), Some(&admin)).await.ok();
        let all = list("").await;
        assert_eq!((names(&all), &all["total"]), (vec!["@alice", "@bob", "@carol", "@root"], &Value::from(4)));
        assert_eq!(all["users"][0]["displayname"], "Zoë");
        assert_eq!(all["users"][3]["admin"], true);
        let page = list("from=1&limit=2").await;
        assert_eq!((names(&page), page["next_token"].as_str()), (vec!["@bob", "@carol"], Some("3")));
        assert_eq!(list("from=3&limit=2").await.get("next_token"), None);
        assert_eq!(names(&list("dir=b").await), ["@root", "@carol", "@bob", "@alice"]);
        assert_eq!(names(&list("order_by=creation_ts&guests=false").await), ["@carol", "@root", "@alice", "@bob"]);
        assert_eq!(names(&list("name=zoë").await), ["@alice"]);
        assert_eq!(names(&list("user_id=OB").await), ["@bob"]);
        assert_eq!(names(&list("admins=true").await), ["@root"]);
        let path = "/_synapse/admin/v2/users?dir=x";
        server.get(path, Some(&admin)).await.refused(400, "M_INVALID_PARAM");
    }

    #[tokio::test]
    async fn the_deactivated_and_the_locked_are_shown_when_they_are_asked_for() {
        let server = Server::new().await;
        let admin = server.admin("root").await;
        let (alice, bob) = (server.user("alice").await, server.user("bob").await);
        server.state.accounts.deactivate(&alice.id, accounts::Erase::Nothing).await.unwrap();
        server.state.accounts.set_locked(&bob.id, true).await.unwrap();
        for (path, expected) in [
            ("v2/users", vec!["@root"]),
            ("v2/users?deactivated=true", vec!["@alice", "@root"]),
            ("v2/users?locked=true", vec!["@bob", "@root"]),
            ("v3/users", vec!["@alice", "@root"]),
            ("v3/users?deactivated=true", vec!["@alice"]),
        ] {
            let answer = server.get(&format!("/_synapse/admin/{path}"), Some(&admin)).await.ok();
            assert_eq!(names(&answer), expected, "{path}");
        }
    }
}
