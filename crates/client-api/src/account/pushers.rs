//! Pushers: where users want to be told of what happens (client-server API, "Push Notifications").

use crate::limits::Class;
use crate::routes::Routes as _;
use crate::session::Session;
use crate::wire::Body;
use crate::{ApiError, State};
use accounts::NewPusher;
use axum::extract;
use axum::routing::{get, post};
use axum::{Json, Router};
use records::{Pusher, PusherKind};
use ruma::serde::JsonObject;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// The longest id of an app, in characters.
const APP_ID_MAX: usize = 64;
/// The longest pushkey, in bytes.
const PUSHKEY_BYTES_MAX: usize = 512;
/// The longest name, in bytes.
const NAME_BYTES_MAX: usize = 1024;
/// The longest tag of a language, in bytes.
const LANG_BYTES_MAX: usize = 64;
/// The largest `data`, in bytes of JSON.
const DATA_BYTES_MAX: usize = 8 * 1024;

pub(super) fn routes() -> Router<Arc<State>> {
    Router::new().v3("/pushers", get(list)).v3("/pushers/set", post(set))
}

/// `GET /pushers`
async fn list(extract::State(state): extract::State<Arc<State>>, session: Session) -> Result<Json<Value>, ApiError> {
    let pushers: Vec<Value> = state.accounts.pushers(&session.user_id)?.iter().map(shown).collect();
    Ok(Json(json!({ "pushers": pushers })))
}

fn shown(pusher: &Pusher) -> Value {
    let record = &pusher.record;
    let data: JsonObject = serde_json::from_str(&record.data).unwrap_or_default();
    let mut shown = Map::new();
    for (name, value) in [
        ("pushkey", json!(pusher.pushkey)),
        ("app_id", json!(pusher.app_id)),
        ("kind", json!(kind_name(record.kind))),
        ("app_display_name", json!(record.app_display_name)),
        ("device_display_name", json!(record.device_display_name)),
        ("lang", json!(record.lang)),
        ("data", json!(data)),
    ] {
        shown.insert(name.to_owned(), value);
    }
    if let Some(profile_tag) = &record.profile_tag {
        shown.insert("profile_tag".to_owned(), json!(profile_tag));
    }
    Value::Object(shown)
}

fn kind_name(kind: PusherKind) -> &'static str {
    match kind {
        PusherKind::Http => "http",
        PusherKind::Email => "email",
    }
}

#[derive(Debug, Deserialize)]
struct SetPusher {
    pushkey: Option<String>,
    app_id: Option<String>,
    kind: Option<Value>,
    app_display_name: Option<String>,
    device_display_name: Option<String>,
    profile_tag: Option<String>,
    lang: Option<String>,
    data: Option<JsonObject>,
    append: Option<bool>,
}

/// `POST /pushers/set`
async fn set(
    extract::State(state): extract::State<Arc<State>>,
    session: Session,
    Body(whole): Body<JsonObject>,
) -> Result<Json<Value>, ApiError> {
    state.limit(Class::Other, &session)?;
    let removes = whole.get("kind").is_some_and(Value::is_null);
    let request: SetPusher =
        serde_json::from_value(Value::Object(whole)).map_err(|error| ApiError::bad_json(error.to_string()))?;
    let app_id = needed(request.app_id, "app_id")?;
    let pushkey = needed(request.pushkey, "pushkey")?;
    bounded("app_id", app_id.chars().count(), APP_ID_MAX)?;
    bounded("pushkey", pushkey.len(), PUSHKEY_BYTES_MAX)?;
    if removes {
        state.accounts.remove_pusher(&session.user_id, &app_id, &pushkey).await?;
        return Ok(Json(json!({})));
    }
    let kind = needed(request.kind, "kind")?;
    let kind = match kind.as_str() {
        Some("http") => PusherKind::Http,
        _ => return Err(ApiError::invalid_param("the kind of pusher is not known")),
    };
    let app_display_name = needed(request.app_display_name, "app_display_name")?;
    let device_display_name = needed(request.device_display_name, "device_display_name")?;
    let lang = needed(request.lang, "lang")?;
    let data = needed(request.data, "data")?;
    bounded("app_display_name", app_display_name.len(), NAME_BYTES_MAX)?;
    bounded("device_display_name", device_display_name.len(), NAME_BYTES_MAX)?;
    bounded("profile_tag", request.profile_tag.as_ref().map_or(0, String::len), NAME_BYTES_MAX)?;
    bounded("lang", lang.len(), LANG_BYTES_MAX)?;
    let data_json = json!(data).to_string();
    bounded("data", data_json.len(), DATA_BYTES_MAX)?;
    check_data(&state, kind, &data)?;
    let new = NewPusher {
        app_id,
        pushkey,
        kind,
        app_display_name,
        device_display_name,
        profile_tag: request.profile_tag,
        lang,
        data: data_json,
        append: request.append == Some(true),
    };
    state.accounts.set_pusher(&session.user_id, &session.device_id, new).await?;
    Ok(Json(json!({})))
}

fn needed<T>(value: Option<T>, name: &'static str) -> Result<T, ApiError> {
    value.ok_or_else(|| ApiError::missing_param(format!("{name} is missing")))
}

fn bounded(name: &'static str, length: usize, length_max: usize) -> Result<(), ApiError> {
    if length > length_max {
        return Err(ApiError::invalid_param(format!("{name} is longer than {length_max}")));
    }
    Ok(())
}

fn check_data(state: &State, kind: PusherKind, data: &JsonObject) -> Result<(), ApiError> {
    if kind != PusherKind::Http {
        return Ok(());
    }
    let url = data.get("url").ok_or_else(|| ApiError::missing_param("data.url is missing"))?;
    let url = url.as_str().ok_or_else(|| ApiError::invalid_param("data.url is not a text"))?;
    state.gateways.check(url).map_err(|error| ApiError::invalid_param(error.to_string()))?;
    match data.get("format") {
        None | Some(Value::String(_)) => Ok(()),
        Some(_) => Err(ApiError::invalid_param("data.format is not a text")),
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{PASSWORD, Server, User};
    use serde_json::{Value, json};

    const SET: &str = "/_matrix/client/v3/pushers/set";

    fn pusher(pushkey: &str) -> Value {
        json!({
            "pushkey": pushkey,
            "kind": "http",
            "app_id": "org.example.app",
            "app_display_name": "App",
            "device_display_name": "Phone",
            "profile_tag": "x",
            "lang": "ru",
            "data": {"url": "https://push.example/_matrix/push/v1/notify", "format": "event_id_only", "custom": [1]},
        })
    }

    async fn keys(server: &Server, user: &User) -> Vec<String> {
        let listed = server.get("/_matrix/client/v3/pushers", Some(&user.token)).await.ok();
        let pushers = listed["pushers"].as_array().unwrap();
        pushers.iter().map(|pusher| pusher["pushkey"].as_str().unwrap().to_owned()).collect()
    }

    #[tokio::test]
    async fn a_pusher_is_set_listed_changed_and_removed() {
        let server = Server::new().await;
        let alice = server.user("alice").await;
        server.post(SET, Some(&alice.token), &pusher("key")).await.ok();
        let listed = server.get("/_matrix/client/v3/pushers", Some(&alice.token)).await.ok();
        assert_eq!(listed, json!({"pushers": [pusher("key")]}));
        let mut changed = pusher("key");
        changed["lang"] = json!("en");
        changed.as_object_mut().unwrap().remove("profile_tag");
        server.post(SET, Some(&alice.token), &changed).await.ok();
        let listed = server.get("/_matrix/client/v3/pushers", Some(&alice.token)).await.ok();
        assert_eq!(listed, json!({"pushers": [changed]}));
        let removal = json!({"kind": null, "app_id": "org.example.app", "pushkey": "key"});
        server.post(SET, Some(&alice.token), &removal).await.ok();
        server.post(SET, Some(&alice.token), &removal).await.ok();
        assert!(keys(&server, &alice).await.is_empty());
    }

    #[tokio::test]
    async fn wrong_pushers_are_refused() {
        let server = Server::new().await;
        let alice = server.user("alice").await;
        let check = async |field: &str, value: Value, code: &str| {
            let mut body = pusher("key");
            match value {
                Value::Null => body.as_object_mut().unwrap().remove(field),
                value => body.as_object_mut().unwrap().insert(field.to_owned(), value),
            };
            server.post(SET, Some(&alice.token), &body).await.refused(400, code);
        };
        for field in ["pushkey", "app_id", "kind", "app_display_name", "device_display_name", "lang", "data"] {
            check(field, Value::Null, "M_MISSING_PARAM").await;
            check(field, json!(7), if field == "kind" { "M_INVALID_PARAM" } else { "M_BAD_JSON" }).await;
        }
        check("kind", json!("carrier_pigeon"), "M_INVALID_PARAM").await;
        check("pushkey", json!("x".repeat(513)), "M_INVALID_PARAM").await;
        check("app_id", json!("x".repeat(65)), "M_INVALID_PARAM").await;
        check("lang", json!("x".repeat(65)), "M_INVALID_PARAM").await;
        check("data", json!({}), "M_MISSING_PARAM").await;
        check("data", json!({"url": 7}), "M_INVALID_PARAM").await;
        check("data", json!({"url": "https://push.example/other"}), "M_INVALID_PARAM").await;
        check("data", json!({"url": "http://push.example/_matrix/push/v1/notify"}), "M_INVALID_PARAM").await;
        let data = json!({"url": "https://push.example/_matrix/push/v1/notify", "x": "x".repeat(9000)});
        check("data", data, "M_INVALID_PARAM").await;
        let body = json!({"kind": null, "app_id": "a"});
        server.post(SET, Some(&alice.token), &body).await.refused(400, "M_MISSING_PARAM");
        assert!(keys(&server, &alice).await.is_empty());
    }

    #[tokio::test]
    async fn a_pushkey_is_one_users_unless_it_is_appended() {
        let server = Server::new().await;
        let (alice, bob) = (server.user("alice").await, server.user("bob").await);
        server.post(SET, Some(&alice.token), &pusher("key")).await.ok();
        let mut appended = pusher("key");
        appended["append"] = json!(true);
        server.post(SET, Some(&bob.token), &appended).await.ok();
        assert_eq!((keys(&server, &alice).await.len(), keys(&server, &bob).await.len()), (1, 1));
        server.post(SET, Some(&bob.token), &pusher("key")).await.ok();
        assert_eq!((keys(&server, &alice).await.len(), keys(&server, &bob).await.len()), (0, 1));
    }

    #[tokio::test]
    async fn a_device_has_so_many_pushers_and_no_more() {
        let server = Server::new().await;
        let alice = server.user("alice").await;
        for n in 0..20 {
            server.post(SET, Some(&alice.token), &pusher(&n.to_string())).await.ok();
        }
        server.post(SET, Some(&alice.token), &pusher("20")).await.refused(403, "M_FORBIDDEN");
        server.post(SET, Some(&alice.token), &pusher("7")).await.ok();
        let other = server.log_in("alice").await;
        server.post(SET, Some(&other.token), &pusher("20")).await.ok();
        assert_eq!(keys(&server, &alice).await.len(), 21);
    }

    #[tokio::test]
    async fn pushers_go_with_their_device() {
        let server = Server::new().await;
        let alice = server.user("alice").await;
        let other = server.log_in("alice").await;
        server.post(SET, Some(&alice.token), &pusher("own")).await.ok();
        server.post(SET, Some(&other.token), &pusher("other")).await.ok();
        let change = json!({
            "new_password": "battery staple",
            "auth": {"type": "m.login.password", "identifier": {"type": "m.id.user", "user": "alice"},
                     "password": PASSWORD},
        });
        server.post("/_matrix/client/v3/account/password", Some(&alice.token), &change).await.ok();
        assert_eq!(keys(&server, &alice).await, ["own"]);
        server.post("/_matrix/client/v3/logout", Some(&alice.token), &json!({})).await.ok();
        assert!(server.state.accounts.pushers(&alice.id).unwrap().is_empty());
    }
}
