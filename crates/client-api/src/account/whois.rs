//! What an administrator may know of a user's devices, and users of their own: `GET /admin/whois/{userId}`.

use crate::limits::Class;
use crate::routes::Routes as _;
use crate::session::Session;
use crate::wire::Args;
use crate::{ApiError, State};
use accounts::Device;
use axum::extract;
use axum::routing::get;
use axum::{Json, Router};
use ruma::OwnedUserId;
use serde_json::{Map, Value, json};
use std::sync::Arc;

pub(super) fn routes() -> Router<Arc<State>> {
    Router::new().v3("/admin/whois/{user_id}", get(whois))
}

/// `GET /admin/whois/{userId}`. A device is one session here, and where it was last seen is all that is kept.
async fn whois(
    extract::State(state): extract::State<Arc<State>>,
    session: Session,
    Args((user,)): Args<(OwnedUserId,)>,
) -> Result<Json<Value>, ApiError> {
    state.limit(Class::Other, &session)?;
    if user != session.user_id && !session.is_admin {
        return Err(ApiError::forbidden("only administrators may look at others"));
    }
    if state.accounts.user(&user)?.is_none() {
        return Err(ApiError::not_found("there is no such user"));
    }
    let devices: Map<String, Value> = state.accounts.devices(&user)?.into_iter().map(shown).collect();
    Ok(Json(json!({ "user_id": user, "devices": devices })))
}

fn shown(device: Device) -> (String, Value) {
    let connections: Vec<Value> =
        device.last_seen.map(|seen| json!({ "ip": seen.address, "last_seen": seen.at.0 })).into_iter().collect();
    (device.device_id.to_string(), json!({ "sessions": [{ "connections": connections }] }))
}

#[cfg(test)]
mod tests {
    use crate::testing::{PASSWORD, Server};
    use accounts::NewUser;
    use base::Secret;

    #[tokio::test]
    async fn users_look_at_themselves_and_administrators_at_all() {
        let server = Server::new().await;
        let (alice, bob) = (server.user("alice").await, server.user("bob").await);
        let path = format!("/_matrix/client/v3/admin/whois/{}", alice.id);
        let own = server.get(&path, Some(&alice.token)).await.ok();
        assert_eq!(own["user_id"], alice.id.as_str());
        let connection = &own["devices"][&alice.device]["sessions"][0]["connections"][0];
        assert!(connection["ip"].is_string() && connection["last_seen"].is_u64(), "{own}");
        server.get(&path, Some(&bob.token)).await.refused(403, "M_FORBIDDEN");

        let user_id = server.state.accounts.available("root").unwrap();
        let password = Some(Secret::new(PASSWORD.to_owned()));
        let root = NewUser { user_id, password, accepted_terms: false, admin: true };
        server.state.accounts.create_user(root).await.unwrap();
        let root = server.log_in("root").await;
        assert_eq!(server.get(&path, Some(&root.token)).await.ok()["user_id"], alice.id.as_str());
        let nobody = "/_matrix/client/v3/admin/whois/@nobody:example.org";
        server.get(nobody, Some(&root.token)).await.refused(404, "M_NOT_FOUND");
    }
}
