//! Third-party networks: which there are, and who and what of them is who and what here (client-server API,
//! "Third-party Networks").
//!
//! Bridges to such networks are application services, and none is connected. So there are no protocols, and nothing is
//! found.

use crate::routes::Routes as _;
use crate::session::Session;
use crate::wire::query_param;
use crate::{ApiError, State};
use axum::routing::get;
use axum::{Json, Router};
use http::Uri;
use ruma::{RoomAliasId, UserId};
use serde_json::{Map, Value};
use std::sync::Arc;

/// The endpoints of third-party networks.
pub(crate) fn routes() -> Router<Arc<State>> {
    Router::new()
        .v3("/thirdparty/protocols", get(protocols))
        .v3("/thirdparty/protocol/{protocol}", get(of_protocol))
        .v3("/thirdparty/location", get(location))
        .v3("/thirdparty/location/{protocol}", get(of_protocol))
        .v3("/thirdparty/user", get(user))
        .v3("/thirdparty/user/{protocol}", get(of_protocol))
}

/// `GET /thirdparty/protocols`
async fn protocols(_: Session) -> Json<Map<String, Value>> {
    Json(Map::new())
}

/// `GET /thirdparty/protocol/{protocol}`, and what is looked for by the fields of a protocol.
async fn of_protocol(_: Session) -> ApiError {
    ApiError::not_found("there is no bridge for this protocol")
}

/// `GET /thirdparty/location`
async fn location(_: Session, uri: Uri) -> ApiError {
    looked_up(&uri, "alias", |alias| RoomAliasId::parse(alias).is_ok())
}

/// `GET /thirdparty/user`
async fn user(_: Session, uri: Uri) -> ApiError {
    looked_up(&uri, "userid", |user| UserId::parse(user).is_ok())
}

fn looked_up(uri: &Uri, parameter: &str, is_id: impl Fn(&str) -> bool) -> ApiError {
    match query_param(uri.query().unwrap_or_default(), parameter) {
        None => ApiError::missing_param(format!("`{parameter}` is missing")),
        Some(id) if !is_id(&id) => ApiError::invalid_param(format!("`{parameter}` is not what it should be")),
        Some(_) => ApiError::not_found("nothing of a third-party network is known by that"),
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::Server;
    use serde_json::json;

    #[tokio::test]
    async fn without_bridges_there_are_no_protocols_and_nothing_is_found() {
        let server = Server::new().await;
        let alice = server.user("alice").await;
        let get =
            async |path: &str| server.get(&format!("/_matrix/client/v3/thirdparty/{path}"), Some(&alice.token)).await;
        assert_eq!(get("protocols").await.ok(), json!({}));
        for path in ["protocol/irc", "location/irc?channel=x", "user/irc", "location?alias=%23a:b", "user?userid=@a:b"]
        {
            get(path).await.refused(404, "M_NOT_FOUND");
        }
        for path in ["location", "user"] {
            get(path).await.refused(400, "M_MISSING_PARAM");
        }
        get("location?alias=x").await.refused(400, "M_INVALID_PARAM");
        get("user?userid=x").await.refused(400, "M_INVALID_PARAM");
    }
}
