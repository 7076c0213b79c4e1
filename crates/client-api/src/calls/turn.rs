//! `GET /voip/turnServer`

use super::Turn;
use crate::limits::Class;
use crate::session::Session;
use crate::{ApiError, State};
use axum::Json;
use axum::extract::State as Within;
use base::{Secret, UnixMillis};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use ruma::UserId;
use serde_json::{Value, json};
use sha1::Sha1;
use std::sync::Arc;

/// The relay and credentials for it; an empty object if there is none, which clients understand.
pub(super) async fn turn_server(Within(state): Within<Arc<State>>, session: Session) -> Result<Json<Value>, ApiError> {
    let turn = &state.config.calls.turn;
    if session.is_guest && !turn.guests {
        return Err(ApiError::guest_access_forbidden("guests get no relay for calls"));
    }
    state.limit(Class::Other, &session)?;
    Ok(Json(credentials(turn, &session.user_id, state.clock.now())))
}

/// What a user is told. With a secret that is shared with the relay, the name says until when it is good and the
/// password proves that this server made it (draft-uberti-behave-turn-rest).
fn credentials(turn: &Turn, user: &UserId, now: UnixMillis) -> Value {
    if turn.uris.is_empty() {
        return json!({});
    }
    let (username, password) = match (&turn.shared_secret, &turn.username, &turn.password) {
        (Some(secret), _, _) => {
            let username = format!("{}:{user}", now.after(turn.ttl).0 / 1000);
            let password = signed(secret, &username);
            (username, password)
        }
        (None, Some(username), Some(password)) => (username.clone(), password.expose().clone()),
        // The settings were checked for that.
        _ => return json!({}),
    };
    json!({ "username": username, "password": password, "uris": turn.uris, "ttl": turn.ttl.as_secs() })
}

fn signed(secret: &Secret<String>, username: &str) -> String {
    // A key of any length will do.
    let Ok(mut mac) = Hmac::<Sha1>::new_from_slice(secret.expose().as_bytes()) else { return String::new() };
    mac.update(username.as_bytes());
    STANDARD.encode(mac.finalize().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Server;
    use accounts::RegistrationMode;
    use std::time::Duration;

    const PATH: &str = "/_matrix/client/v3/voip/turnServer";

    fn turn() -> Turn {
        Turn {
            uris: vec!["turn:turn.example.org".to_owned()],
            shared_secret: Some(Secret::new("secret".to_owned())),
            ttl: Duration::from_mins(10),
            ..Turn::default()
        }
    }

    #[test]
    fn credentials_are_signed_with_the_shared_secret() {
        let told = credentials(&turn(), "@a:b".try_into().unwrap(), UnixMillis(1_000_000_900_000));
        // `printf 1000001500:@a:b | openssl dgst -sha1 -hmac secret -binary | base64`
        let password = "U/YLPc5une3yqBAB+93Y5yyLC40=";
        let uris = ["turn:turn.example.org"];
        assert_eq!(told, json!({"username": "1000001500:@a:b", "password": password, "uris": uris, "ttl": 600}));
    }

    #[test]
    fn without_a_secret_everybody_gets_the_same() {
        let (username, password) = (Some("u".to_owned()), Some(Secret::new("p".to_owned())));
        let turn = Turn { shared_secret: None, username, password, ..turn() };
        let told = credentials(&turn, "@a:b".try_into().unwrap(), UnixMillis(0));
        assert_eq!((&told["username"], &told["password"]), (&json!("u"), &json!("p")));
        assert_eq!(credentials(&Turn::default(), "@a:b".try_into().unwrap(), UnixMillis(0)), json!({}));
    }

    #[tokio::test]
    async fn guests_get_a_relay_only_if_they_may() {
        for allowed in [false, true] {
            let server = Server::with(|config, accounts| {
                config.calls.turn = Turn { guests: allowed, ..turn() };
                accounts.registration.mode = RegistrationMode::Open;
                accounts.registration.guests = true;
            })
            .await;
            let guest = server.post("/_matrix/client/v3/register?kind=guest", None, &json!({})).await.ok();
            let answer = server.get(PATH, guest["access_token"].as_str()).await;
            match allowed {
                true => assert_eq!(answer.ok()["ttl"], 600),
                false => answer.refused(403, "M_GUEST_ACCESS_FORBIDDEN"),
            }
            let alice = server.user("alice").await;
            assert!(
                server.get(PATH, Some(&alice.token)).await.ok()["username"]
                    .as_str()
                    .unwrap()
                    .ends_with(":@alice:example.org")
            );
        }
    }
}
