//! The page that a link in a mail leads to. Only its button proves something, since programs that look for viruses
//! open links too. Clients can send the token themselves (Identity Service API, `POST /validate/email/submitToken`).

use super::super::fallback::cross_site;
use super::super::html::{Language, Page, escape, is_cross_site};
use crate::limits::Class;
use crate::session::ClientAddress;
use crate::wire::{query_param, read};
use crate::{ApiError, State};
use accounts::Error as AccountsError;
use axum::Router;
use axum::extract::{self, Request};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;

/// Where the page is.
pub(super) const PATH: &str = "/_chancery/email/confirm";

pub(super) fn routes() -> Router<Arc<State>> {
    Router::new().route(PATH, get(show).post(submit))
}

#[derive(Debug, Default, Deserialize)]
struct Submission {
    sid: String,
    client_secret: String,
    token: String,
}

impl Submission {
    fn of_query(query: &str) -> Option<Self> {
        let param = |name| query_param(query, name);
        Some(Self { sid: param("sid")?, client_secret: param("client_secret")?, token: param("token")? })
    }
}

async fn show(
    extract::State(state): extract::State<Arc<State>>,
    address: ClientAddress,
    request: Request,
) -> Result<Page, ApiError> {
    state.limits.address(Class::Other, address)?;
    let language = Language::of(request.headers());
    if Submission::of_query(request.uri().query().unwrap_or_default()).is_none() {
        return Ok(wrong(language));
    }
    let text = language.text(
        "Press the button to confirm that this e-mail address is yours.",
        "Нажмите кнопку, чтобы подтвердить, что этот адрес электронной почты ваш.",
    );
    let button = language.text("Confirm", "Подтвердить");
    let body = format!("<p>{text}</p><form method=\"post\"><button>{button}</button></form>");
    Ok(Page::new(language, title(language), body))
}

async fn submit(
    extract::State(state): extract::State<Arc<State>>,
    address: ClientAddress,
    request: Request,
) -> Result<Response, ApiError> {
    state.limits.address(Class::Login, address)?;
    let (parts, body) = request.into_parts();
    let body = read(body, state.config.body_bytes_max.bytes()).await?;
    let kind = parts.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if kind.starts_with("application/json") {
        let token: Submission = serde_json::from_slice(&body).map_err(|error| ApiError::bad_json(error.to_string()))?;
        state.accounts.submit_validation(&token.sid, &token.client_secret, &token.token).await?;
        return Ok(axum::Json(json!({ "success": true })).into_response());
    }
    let language = Language::of(&parts.headers);
    if is_cross_site(&parts) {
        return Ok(cross_site(language).into_response());
    }
    let Some(token) = Submission::of_query(parts.uri.query().unwrap_or_default()) else {
        return Ok(wrong(language).into_response());
    };
    match state.accounts.submit_validation(&token.sid, &token.client_secret, &token.token).await {
        Ok(next_link) => Ok(done(language, next_link.as_deref()).into_response()),
        Err(AccountsError::NoSuchValidation | AccountsError::ValidationExpired | AccountsError::WrongToken) => {
            Ok(wrong(language).into_response())
        }
        Err(error) => Err(error.into()),
    }
}

fn title(language: Language) -> &'static str {
    language.text("Confirm your e-mail address", "Подтверждение адреса электронной почты")
}

fn done(language: Language, next_link: Option<&str>) -> Page {
    let text =
        language.text("Your address is confirmed. Go back to your app.", "Адрес подтверждён. Вернитесь в приложение.");
    let link = next_link.map(|link| {
        let text = language.text("Continue", "Продолжить");
        format!("<p><a rel=\"noreferrer\" href=\"{}\">{text}</a></p>", escape(link))
    });
    let body = format!("<p>{text}</p>{}", link.unwrap_or_default());
    Page::new(language, language.text("Done", "Готово"), body)
}

fn wrong(language: Language) -> Page {
    let text = language.text(
        "This link is not valid any more. Go back to your app and ask for another mail.",
        "Эта ссылка больше не действует. Вернитесь в приложение и запросите новое письмо.",
    );
    Page::problem(language, StatusCode::BAD_REQUEST, language.text("This did not work", "Не получилось"), text)
}
