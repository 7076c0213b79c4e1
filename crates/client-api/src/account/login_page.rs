//! `GET /_matrix/static/client/login/`: logging in in a browser, for clients that know none of the ways to log in
//! (client-server API, "Login Fallback").

use super::fallback::{cross_site, refusal};
use super::html::{LOGGED_IN, Language, Page, escape, is_cross_site};
use super::login::{LoginRequest, log_in};
use crate::session::ClientAddress;
use crate::wire::{query_param, read};
use crate::{ApiError, State};
use axum::Router;
use axum::extract::{self, Request};
use axum::routing::get;
use base::Secret;
use std::sync::Arc;

pub(super) fn routes() -> Router<Arc<State>> {
    Router::new().route("/_matrix/static/client/login/", get(show).post(answer))
}

async fn show(request: Request) -> Page {
    form(Language::of(request.headers()), "", "")
}

/// The form of the page. What the query says of the device goes to the login.
async fn answer(
    extract::State(state): extract::State<Arc<State>>,
    address: ClientAddress,
    request: Request,
) -> Result<Page, ApiError> {
    let (parts, body) = request.into_parts();
    let language = Language::of(&parts.headers);
    if is_cross_site(&parts) {
        return Ok(cross_site(language));
    }
    let body = read(body, state.config.body_bytes_max.bytes()).await?;
    let typed = |name: &str| query_param(std::str::from_utf8(&body).unwrap_or_default(), name);
    let given = |name: &str| query_param(parts.uri.query().unwrap_or_default(), name);
    let user = typed("user").unwrap_or_default();
    let request = LoginRequest {
        kind: "m.login.password".to_owned(),
        user: Some(user.trim().to_owned()),
        password: Some(Secret::new(typed("password").unwrap_or_default())),
        device_id: given("device_id").map(Into::into),
        initial_device_display_name: given("initial_device_display_name"),
        refresh_token: given("refresh_token").map(|value| value == "true"),
        ..LoginRequest::default()
    };
    match log_in(&state, address, &parts.headers, request).await {
        Ok(response) => {
            // No text in it may end the element that it is in.
            let response = response.to_string().replace('<', "\\u003c");
            let text = language.text("You are logged in.", "Вход выполнен.");
            let body = format!("<p>{text}</p><script type=\"application/json\" id=\"response\">{response}</script>");
            Ok(Page { script: Some(LOGGED_IN), ..Page::new(language, language.text("Done", "Готово"), body) })
        }
        Err(error) if error.is_internal() => Err(error),
        Err(error) => {
            let refused = format!("<p class=\"error\">{}</p>", refusal(language, &error));
            Ok(Page { status: error.status_code(), ..form(language, &refused, &user) })
        }
    }
}

fn form(language: Language, above: &str, user: &str) -> Page {
    let (name, password) = (language.text("User name", "Имя пользователя"), language.text("Password", "Пароль"));
    let (user, button) = (escape(user), language.text("Log in", "Войти"));
    let body = format!(
        "{above}<form method=\"post\"><label>{name}<input type=\"text\" name=\"user\" value=\"{user}\" \
         autocomplete=\"username\" required autofocus></label><label>{password}<input type=\"password\" \
         name=\"password\" autocomplete=\"current-password\" required></label><button>{button}</button></form>"
    );
    Page::new(language, language.text("Log in", "Вход"), body)
}

#[cfg(test)]
mod tests;
