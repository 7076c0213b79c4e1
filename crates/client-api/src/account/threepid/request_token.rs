//! `POST .../requestToken`: a mail with a link is asked for.

use super::language_of;
use crate::limits::Class;
use crate::routes::Routes as _;
use crate::session::ClientAddress;
use crate::wire::Body;
use crate::{ApiError, State};
use accounts::{EMAIL, NewValidation, RegistrationMode};
use axum::extract;
use axum::routing::post;
use axum::{Json, Router};
use base::random_string;
use form_urlencoded::Serializer;
use http::{HeaderMap, StatusCode};
use mailer::{EmailAddress, Template};
use records::Purpose;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// The longest secret of a client (client-server API, "POST /register/email/requestToken").
const CLIENT_SECRET_MAX: usize = 255;
/// The longest link, in bytes.
const NEXT_LINK_BYTES_MAX: usize = 2048;
/// The length of an id that stands for no proof.
const SID_LENGTH: usize = 32;

pub(super) fn routes() -> Router<Arc<State>> {
    let mut router = Router::new();
    for (path, purpose) in
        [("/register", Purpose::Register), ("/account/password", Purpose::Reset), ("/account/3pid", Purpose::Add)]
    {
        let email = move |state: extract::State<Arc<State>>, address: ClientAddress, headers: HeaderMap, body| {
            email(purpose, state, address, headers, body)
        };
        router = router
            .v3(&format!("{path}/email/requestToken"), post(email))
            .v3(&format!("{path}/msisdn/requestToken"), post(msisdn));
    }
    router
}

#[derive(Debug, Deserialize)]
struct EmailRequest {
    client_secret: String,
    email: String,
    send_attempt: u64,
    next_link: Option<String>,
    /// The identity server that the client would have it done by, which nobody asks.
    #[serde(rename = "id_server")]
    _id_server: Option<String>,
    #[serde(rename = "id_access_token")]
    _id_access_token: Option<String>,
}

/// Only read to be refused as any wrong body is.
#[derive(Debug, Deserialize)]
struct MsisdnRequest {
    #[serde(rename = "client_secret")]
    _client_secret: String,
    #[serde(rename = "country")]
    _country: String,
    #[serde(rename = "phone_number")]
    _phone_number: String,
    #[serde(rename = "send_attempt")]
    _send_attempt: u64,
    #[serde(rename = "next_link")]
    _next_link: Option<String>,
    #[serde(rename = "id_server")]
    _id_server: Option<String>,
    #[serde(rename = "id_access_token")]
    _id_access_token: Option<String>,
}

async fn email(
    purpose: Purpose,
    extract::State(state): extract::State<Arc<State>>,
    address: ClientAddress,
    headers: HeaderMap,
    Body(request): Body<EmailRequest>,
) -> Result<Json<Value>, ApiError> {
    state.limits.address(Class::Registration, address)?;
    let Some(mail) = &state.mail else { return Err(unsupported()) };
    if purpose == Purpose::Register && state.accounts.config().registration.mode == RegistrationMode::Closed {
        return Err(ApiError::forbidden("registration is disabled"));
    }
    let settings = &state.accounts.config().addresses;
    if purpose == Purpose::Add && !settings.changes {
        return Err(ApiError::threepid_denied("addresses can't be changed here"));
    }
    check_client_secret(&request.client_secret)?;
    let email: EmailAddress =
        request.email.parse().map_err(|_| ApiError::invalid_param("the e-mail address is not valid"))?;
    if purpose != Purpose::Reset && !settings.allows_domain(email.domain()) {
        return Err(ApiError::threepid_denied("addresses of this domain can't be used here"));
    }
    let holder = state.accounts.threepid_user(EMAIL, email.as_str())?;
    let language = language_of(&headers, mail);
    match (&holder, purpose) {
        (Some(_), Purpose::Register | Purpose::Add) if settings.tell_in_use => {
            return Err(ApiError::new(StatusCode::BAD_REQUEST, "M_THREEPID_IN_USE", "the address is in use already"));
        }
        (None, Purpose::Reset) if settings.tell_in_use => {
            return Err(ApiError::new(StatusCode::BAD_REQUEST, "M_THREEPID_NOT_FOUND", "no account has the address"));
        }
        // Whether there is an account is said to whom the address belongs, and to nobody else.
        (Some(user_id), Purpose::Register | Purpose::Add) => {
            state.limits.mailbox(email.as_str())?;
            let notice = mailer::Mail::new(email, Template::AlreadyRegistered, language).with("user_id", user_id);
            mail.mailer.send(&notice).map_err(|_| busy())?;
            return Ok(Json(json!({ "sid": random_string(&*state.random, SID_LENGTH) })));
        }
        (None, Purpose::Reset) => {
            state.limits.mailbox(email.as_str())?;
            mail.mailer.send(&mailer::Mail::new(email, Template::NoAccount, language)).map_err(|_| busy())?;
            return Ok(Json(json!({ "sid": random_string(&*state.random, SID_LENGTH) })));
        }
        (None, Purpose::Register | Purpose::Add) | (Some(_), Purpose::Reset) => {}
    }
    let next_link = request.next_link.filter(|link| settings.allows_next_link(link, NEXT_LINK_BYTES_MAX));
    let new = NewValidation {
        purpose,
        address: email.as_str(),
        client_secret: &request.client_secret,
        send_attempt: request.send_attempt,
        next_link: next_link.as_deref(),
    };
    let begun = state.accounts.begin_validation(new).await?;
    if let Some(token) = begun.token {
        state.limits.mailbox(email.as_str())?;
        let template = match purpose {
            Purpose::Register => Template::Register,
            Purpose::Add => Template::AddAddress,
            Purpose::Reset => Template::ResetPassword,
        };
        let query = Serializer::new(String::new())
            .append_pair("sid", &begun.sid)
            .append_pair("client_secret", &request.client_secret)
            .append_pair("token", &token)
            .finish();
        let link = format!("{}{}?{query}", mail.base_url, super::confirm::PATH);
        mail.mailer.send(&mailer::Mail::new(email, template, language).with("link", link)).map_err(|_| busy())?;
    }
    Ok(Json(json!({ "sid": begun.sid })))
}

/// Nothing here can send a text message.
async fn msisdn(
    extract::State(state): extract::State<Arc<State>>,
    address: ClientAddress,
    Body(_): Body<MsisdnRequest>,
) -> Result<Json<Value>, ApiError> {
    state.limits.address(Class::Other, address)?;
    Err(unsupported())
}

/// Checks the secret that a client has chosen.
pub(super) fn check_client_secret(secret: &str) -> Result<(), ApiError> {
    let valid = (1..=CLIENT_SECRET_MAX).contains(&secret.len())
        && secret.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".=_-".contains(&byte));
    if valid { Ok(()) } else { Err(ApiError::invalid_param("the client_secret is not valid")) }
}

fn unsupported() -> ApiError {
    let message = "this server can't verify identifiers of this kind";
    ApiError::new(StatusCode::BAD_REQUEST, "M_THREEPID_MEDIUM_NOT_SUPPORTED", message)
}

fn busy() -> ApiError {
    ApiError::limit_exceeded(std::time::Duration::from_mins(1)).status(StatusCode::SERVICE_UNAVAILABLE)
}
