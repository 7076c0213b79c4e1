//! `/account/3pid`: the identifiers of an account.

use super::canonical;
use super::request_token::check_client_secret;
use crate::account::interactive::Challenged;
use crate::limits::Class;
use crate::routes::Routes as _;
use crate::session::Session;
use crate::wire::Body;
use crate::{ApiError, State};
use accounts::Error as AccountsError;
use axum::extract;
use axum::routing::{get, post};
use axum::{Json, Router};
use http::StatusCode;
use records::Purpose;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) fn routes() -> Router<Arc<State>> {
    Router::new()
        .v3("/account/3pid", get(list).post(add_deprecated))
        .v3("/account/3pid/add", post(add))
        .v3("/account/3pid/bind", post(bind))
        .v3("/account/3pid/delete", post(delete))
        .v3("/account/3pid/unbind", post(unbind))
}

/// `GET /account/3pid`
async fn list(extract::State(state): extract::State<Arc<State>>, session: Session) -> Result<Json<Value>, ApiError> {
    let threepids = state.accounts.threepids(&session.user_id)?.into_iter().map(|threepid| {
        json!({
            "medium": threepid.medium,
            "address": threepid.address,
            "validated_at": threepid.record.validated_at.0,
            "added_at": threepid.record.added_at.0,
        })
    });
    Ok(Json(json!({ "threepids": threepids.collect::<Vec<_>>() })))
}

#[derive(Debug, Deserialize)]
struct Credentials {
    sid: String,
    client_secret: String,
    /// The identity server that the client would have it done by, which nobody asks.
    #[serde(rename = "id_server")]
    _id_server: Option<String>,
    #[serde(rename = "id_access_token")]
    _id_access_token: Option<String>,
}

/// `POST /account/3pid/add`
async fn add(
    extract::State(state): extract::State<Arc<State>>,
    session: Session,
    request: Challenged<Credentials>,
) -> Result<Json<Value>, ApiError> {
    may_change(&state)?;
    check_client_secret(&request.body.client_secret)?;
    let credentials = request.password_of(&state, &session).await?;
    add_proven(&state, &session, &credentials).await
}

#[derive(Debug, Deserialize)]
struct Deprecated {
    #[serde(alias = "threePidCreds")]
    three_pid_creds: Credentials,
}

/// `POST /account/3pid`, deprecated. It asks for the password as `/account/3pid/add` does: who has an address can set
/// a new password, so that a stolen token must not be enough to add one.
async fn add_deprecated(
    extract::State(state): extract::State<Arc<State>>,
    session: Session,
    request: Challenged<Deprecated>,
) -> Result<Json<Value>, ApiError> {
    may_change(&state)?;
    check_client_secret(&request.body.three_pid_creds.client_secret)?;
    let request = request.password_of(&state, &session).await?;
    add_proven(&state, &session, &request.three_pid_creds).await
}

async fn add_proven(state: &State, session: &Session, credentials: &Credentials) -> Result<Json<Value>, ApiError> {
    let proven = match state.accounts.proven_address(&credentials.sid, &credentials.client_secret, Purpose::Add) {
        Ok(Some(proven)) => proven,
        Ok(None) | Err(AccountsError::NoSuchValidation) => {
            let message = "the address is not confirmed yet: follow the link in the mail";
            return Err(ApiError::new(StatusCode::BAD_REQUEST, "M_THREEPID_AUTH_FAILED", message));
        }
        Err(error) => return Err(error.into()),
    };
    state.accounts.add_address(&session.user_id, &proven).await?;
    Ok(Json(json!({})))
}

fn may_change(state: &State) -> Result<(), ApiError> {
    if state.accounts.config().addresses.changes {
        Ok(())
    } else {
        Err(ApiError::forbidden("addresses can't be changed here"))
    }
}

#[derive(Debug, Deserialize)]
struct Bind {
    #[serde(rename = "client_secret")]
    _client_secret: String,
    #[serde(rename = "sid")]
    _sid: String,
    #[serde(rename = "id_server")]
    id_server: String,
    #[serde(rename = "id_access_token")]
    _id_access_token: String,
}

/// `POST /account/3pid/bind`. No identity server is trusted here.
async fn bind(
    extract::State(state): extract::State<Arc<State>>,
    session: Session,
    Body(request): Body<Bind>,
) -> Result<Json<Value>, ApiError> {
    state.limit(Class::Other, &session)?;
    let message = format!("the identity server {} is not trusted by this server", request.id_server);
    Err(ApiError::new(StatusCode::BAD_REQUEST, "M_SERVER_NOT_TRUSTED", message))
}

#[derive(Debug, Deserialize)]
struct Named {
    medium: String,
    address: String,
    #[serde(rename = "id_server")]
    _id_server: Option<String>,
}

/// `POST /account/3pid/delete`
async fn delete(
    extract::State(state): extract::State<Arc<State>>,
    session: Session,
    Body(request): Body<Named>,
) -> Result<Json<Value>, ApiError> {
    state.limit(Class::Other, &session)?;
    may_change(&state)?;
    let address = named(&request)?;
    state.accounts.remove_threepid(&session.user_id, &request.medium, &address).await?;
    Ok(Json(json!({ "id_server_unbind_result": "no-support" })))
}

/// `POST /account/3pid/unbind`. Nothing is bound through this server.
async fn unbind(
    extract::State(state): extract::State<Arc<State>>,
    session: Session,
    Body(request): Body<Named>,
) -> Result<Json<Value>, ApiError> {
    state.limit(Class::Other, &session)?;
    named(&request)?;
    Ok(Json(json!({ "id_server_unbind_result": "no-support" })))
}

fn named(request: &Named) -> Result<String, ApiError> {
    canonical(&request.medium, &request.address)
        .ok_or_else(|| ApiError::invalid_param("the identifier is not one of an e-mail address or a phone number"))
}
