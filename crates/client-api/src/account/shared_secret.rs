//! `/_synapse/admin/v1/register`: accounts made by tools that know the shared secret of the settings. It is no part
//! of the specification; scripts that set servers up count on it, under the name that Synapse gave it.

use super::to_the_end;
use crate::limits::Class;
use crate::session::ClientAddress;
use crate::wire::Body;
use crate::{ApiError, State};
use accounts::{NewSession, NewUser, SignedRegistration};
use axum::extract;
use axum::routing::get;
use axum::{Json, Router};
use base::{Secret, UnixMillis, random_string};
use http::StatusCode;
use quick_cache::sync::Cache;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// How many nonces are out at once; beyond that, those that were given first go.
const NONCES_MAX: usize = 1000;
/// How long a nonce is good.
const NONCE_AGE_MAX: Duration = Duration::from_mins(1);
/// The length of a nonce.
const NONCE_LENGTH: usize = 40;

pub(super) fn routes() -> Router<Arc<State>> {
    Router::new().route("/_synapse/admin/v1/register", get(nonce).post(register))
}

/// The nonces that are out, and since when. Each is good for one registration.
pub struct Nonces(Cache<String, UnixMillis>);

impl Default for Nonces {
    fn default() -> Self {
        Self(Cache::new(NONCES_MAX))
    }
}

/// `GET /_synapse/admin/v1/register`
async fn nonce(
    extract::State(state): extract::State<Arc<State>>,
    address: ClientAddress,
) -> Result<Json<Value>, ApiError> {
    check_enabled(&state)?;
    state.limits.address(Class::Other, address)?;
    let nonce = random_string(&*state.random, NONCE_LENGTH);
    state.nonces.0.insert(nonce.clone(), state.clock.now());
    Ok(Json(json!({ "nonce": nonce })))
}

#[derive(Debug, Deserialize)]
struct Registration {
    nonce: String,
    username: String,
    password: Secret<String>,
    displayname: Option<String>,
    #[serde(default)]
    admin: bool,
    user_type: Option<String>,
    mac: String,
}

/// `POST /_synapse/admin/v1/register`
async fn register(
    extract::State(state): extract::State<Arc<State>>,
    address: ClientAddress,
    Body(body): Body<Registration>,
) -> Result<Json<Value>, ApiError> {
    check_enabled(&state)?;
    state.limits.address(Class::Other, address)?;
    let given = state.nonces.0.remove(&body.nonce);
    if given.is_none_or(|(_, at)| state.clock.now().since(at) > NONCE_AGE_MAX) {
        return Err(unknown("the nonce is not known or has expired"));
    }
    let signed = SignedRegistration {
        nonce: &body.nonce,
        username: &body.username,
        password: &body.password,
        admin: body.admin,
        user_type: body.user_type.as_deref(),
    };
    if !state.accounts.is_signed(&signed, &body.mac) {
        return Err(ApiError::forbidden("the signature is wrong"));
    }
    if body.user_type.is_some() {
        return Err(ApiError::invalid_param("there are no types of users on this server"));
    }
    if let Some(name) = &body.displayname {
        super::profile::check_displayname(name)?;
    }
    let user_id = state.accounts.available(&body.username)?;
    let user =
        NewUser { user_id: user_id.clone(), password: Some(body.password), accepted_terms: false, admin: body.admin };
    to_the_end(async move {
        state.accounts.create_user(user).await?;
        if let Some(name) = body.displayname.filter(|name| !name.is_empty()) {
            state.accounts.set_profile_field(&user_id, "displayname", Some(&json!(name).to_string())).await?;
        }
        let session = NewSession { device_id: None, display_name: None, can_refresh: false, proof: None };
        let login = state.accounts.begin_session(&user_id, session).await?;
        let mut answer = super::login::answer(&login);
        if let Some(answer) = answer.as_object_mut() {
            answer.insert("home_server".to_owned(), json!(state.server_name));
        }
        Ok(Json(answer))
    })
    .await
}

fn check_enabled(state: &State) -> Result<(), ApiError> {
    if state.accounts.has_shared_secret() {
        Ok(())
    } else {
        Err(unknown("registration by a shared secret is not enabled"))
    }
}

fn unknown(message: &'static str) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, "M_UNKNOWN", message)
}

#[cfg(test)]
mod tests {
    use crate::testing::{Answer, PASSWORD, Server};
    use base::Secret;
    use hmac::{Hmac, Mac as _};
    use serde_json::{Value, json};
    use sha1::Sha1;
    use std::time::Duration;

    const REGISTER: &str = "/_synapse/admin/v1/register";
    const SECRET: &str = "the shared secret";

    async fn server() -> Server {
        Server::with(|_, accounts| accounts.registration.shared_secret = Some(Secret::new(SECRET.to_owned()))).await
    }

    async fn nonce(server: &Server) -> String {
        server.get(REGISTER, None).await.ok()["nonce"].as_str().unwrap().to_owned()
    }

    fn mac(secret: &str, parts: &[&str]) -> String {
        let mut hmac = Hmac::<Sha1>::new_from_slice(secret.as_bytes()).unwrap();
        hmac.update(parts.join("\0").as_bytes());
        hmac.finalize().into_bytes().iter().fold(String::new(), |mac, byte| format!("{mac}{byte:02x}"))
    }

    fn body(nonce: &str, name: &str, admin: bool, mac: &str) -> Value {
        json!({ "nonce": nonce, "username": name, "password": PASSWORD, "admin": admin, "mac": mac })
    }

    async fn register(server: &Server, name: &str, admin: bool) -> Answer {
        let nonce = nonce(server).await;
        let mac = mac(SECRET, &[&nonce, name, PASSWORD, if admin { "admin" } else { "notadmin" }]);
        server.post(REGISTER, None, &body(&nonce, name, admin, &mac)).await
    }

    #[tokio::test]
    async fn the_shared_secret_makes_users_and_administrators() {
        let server = server().await;
        let answer = register(&server, "Alice", false).await.ok();
        assert_eq!(answer["user_id"], "@alice:example.org");
        assert_eq!(answer["home_server"], "example.org");
        let whoami = server.get("/_matrix/client/v3/account/whoami", answer["access_token"].as_str()).await.ok();
        assert_eq!(whoami["device_id"], answer["device_id"]);
        register(&server, "root", true).await.ok();
        let admin = |id: &str| server.state.accounts.user(id.try_into().unwrap()).unwrap().unwrap().admin;
        assert!(admin("@root:example.org") && !admin("@alice:example.org"));
        register(&server, "alice", false).await.refused(400, "M_USER_IN_USE");
    }

    #[tokio::test]
    async fn a_signature_is_good_once_and_for_what_was_signed() {
        let server = server().await;
        let given = nonce(&server).await;
        let mac_of = |nonce: &str, secret| mac(secret, &[nonce, "eve", PASSWORD, "notadmin"]);
        // Signed as a user, sent as an administrator; signed with another secret; with a nonce of one's own.
        server
            .post(REGISTER, None, &body(&given, "eve", true, &mac_of(&given, SECRET)))
            .await
            .refused(403, "M_FORBIDDEN");
        server
            .post(REGISTER, None, &body(&given, "eve", false, &mac_of(&given, SECRET)))
            .await
            .refused(400, "M_UNKNOWN");
        let given = nonce(&server).await;
        server
            .post(REGISTER, None, &body(&given, "eve", false, &mac_of(&given, "guess")))
            .await
            .refused(403, "M_FORBIDDEN");
        server.post(REGISTER, None, &body("own", "eve", false, &mac_of("own", SECRET))).await.refused(400, "M_UNKNOWN");
        let given = nonce(&server).await;
        server.clock.advance(Duration::from_secs(61));
        server
            .post(REGISTER, None, &body(&given, "eve", false, &mac_of(&given, SECRET)))
            .await
            .refused(400, "M_UNKNOWN");
    }

    #[tokio::test]
    async fn a_nul_moves_no_part_of_what_is_signed() {
        let server = server().await;
        let given = nonce(&server).await;
        let signed = mac(SECRET, &[&given, "eve", "x", PASSWORD, "notadmin"]);
        let mut shifted = body(&given, "eve", false, &signed);
        shifted["password"] = json!(format!("x\0{PASSWORD}"));
        server.post(REGISTER, None, &shifted).await.refused(403, "M_FORBIDDEN");
    }

    #[tokio::test]
    async fn a_display_name_is_set_and_a_type_of_user_is_refused() {
        let server = server().await;
        let given = nonce(&server).await;
        let mut named = body(&given, "alice", false, &mac(SECRET, &[&given, "alice", PASSWORD, "notadmin"]));
        named["displayname"] = json!("Alice A.");
        server.post(REGISTER, None, &named).await.ok();
        let profile = server.get("/_matrix/client/v3/profile/@alice:example.org", None).await.ok();
        assert_eq!(profile["displayname"], "Alice A.");
        let given = nonce(&server).await;
        let mut bot = body(&given, "bot", false, &mac(SECRET, &[&given, "bot", PASSWORD, "notadmin", "bot"]));
        bot["user_type"] = json!("bot");
        server.post(REGISTER, None, &bot).await.refused(400, "M_INVALID_PARAM");
    }

    #[tokio::test]
    async fn without_a_shared_secret_there_is_no_such_registration() {
        let server = Server::new().await;
        server.get(REGISTER, None).await.refused(400, "M_UNKNOWN");
        server.post(REGISTER, None, &body("n", "eve", true, "00")).await.refused(400, "M_UNKNOWN");
    }
}
