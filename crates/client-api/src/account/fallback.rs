//! `GET /auth/{authType}/fallback/web`: a stage of user-interactive authentication in a browser, for clients that
//! don't know the stage (client-server API, "User-Interactive Authentication API", "Fallback").
//!
//! Nothing here rests on who the browser is: there are no cookies, so that a page of another site gains nothing by
//! sending the form that it could not have without the browser. It is refused all the same.

use super::html::{AUTH_DONE, Language, Page, escape, is_cross_site, title_of};
use super::interactive::{Progress, Stage, progress, submit};
use crate::limits::Class;
use crate::routes::Routes as _;
use crate::session::ClientAddress;
use crate::wire::{Args, query_param, read};
use crate::{ApiError, State};
use axum::Router;
use axum::extract::{self, Request};
use axum::routing::get;
use http::StatusCode;
use std::fmt::Write as _;
use std::sync::Arc;

pub(super) fn routes() -> Router<Arc<State>> {
    Router::new().v3("/auth/{auth_type}/fallback/web", get(show).post(answer))
}

/// `GET /auth/{authType}/fallback/web`
async fn show(
    extract::State(state): extract::State<Arc<State>>,
    address: ClientAddress,
    Args((kind,)): Args<(String,)>,
    request: Request,
) -> Result<Page, ApiError> {
    let language = Language::of(request.headers());
    state.limits.address(Class::Other, address)?;
    let Some(session) = query_param(request.uri().query().unwrap_or_default(), "session") else {
        return Ok(page(&state, language, &Progress::Unknown));
    };
    Ok(page(&state, language, &progress(&state, &session, &kind)))
}

/// The form of the page.
async fn answer(
    extract::State(state): extract::State<Arc<State>>,
    address: ClientAddress,
    Args((kind,)): Args<(String,)>,
    request: Request,
) -> Result<Page, ApiError> {
    let (parts, body) = request.into_parts();
    let language = Language::of(&parts.headers);
    if is_cross_site(&parts) {
        return Ok(cross_site(language));
    }
    let session = query_param(parts.uri.query().unwrap_or_default(), "session").unwrap_or_default();
    let before = progress(&state, &session, &kind);
    let Progress::Next(stage, _) = before else { return Ok(page(&state, language, &before)) };
    state.limits.address(
        match stage {
            Stage::Dummy | Stage::Terms | Stage::Email(_) => Class::Other,
            Stage::RegistrationToken => Class::Registration,
            Stage::Password => Class::Login,
        },
        address,
    )?;
    let body = read(body, state.config.body_bytes_max.bytes()).await?;
    let typed = query_param(std::str::from_utf8(&body).unwrap_or_default(), "answer");
    match submit(&state, &session, &kind, typed).await {
        Ok(after) => Ok(page(&state, language, &after)),
        Err(error) if error.is_internal() => Err(error),
        Err(error) => {
            let status = error.status_code();
            let mut page = page(&state, language, &before);
            page.body = format!("<p class=\"error\">{}</p>{}", refusal(language, &error), page.body);
            Ok(Page { status, ..page })
        }
    }
}

fn page(state: &State, language: Language, progress: &Progress) -> Page {
    let failed = language.text("This did not work", "Не получилось");
    match progress {
        Progress::Next(stage, user) => {
            let mut body = String::new();
            if let (Stage::Password, Some(user)) = (stage, user) {
                let _infallible = write!(body, "<p>{}</p>", escape(user.as_str()));
            }
            if *stage == Stage::Terms {
                body.push_str(&terms(state, language));
            }
            if let Stage::Email(_) = stage {
                let text = language.text(
                    "Open the link in the mail that you got, then go back to your app.",
                    "Откройте ссылку из полученного письма, затем вернитесь в приложение.",
                );
                return Page::new(language, title_of(*stage, language), format!("<p>{text}</p>"));
            }
            body.push_str("<form method=\"post\">");
            body.push_str(match stage {
                Stage::Password => {
                    "<input type=\"password\" name=\"answer\" autocomplete=\"current-password\" required autofocus>"
                }
                Stage::RegistrationToken => {
                    "<input type=\"text\" name=\"answer\" autocomplete=\"off\" maxlength=\"64\" required autofocus>"
                }
                Stage::Dummy | Stage::Terms | Stage::Email(_) => "",
            });
            let button = match stage {
                Stage::Terms => language.text("I accept them all", "Принимаю все условия"),
                _ => language.text("Continue", "Продолжить"),
            };
            let _infallible = write!(body, "<button>{button}</button></form>");
            Page::new(language, title_of(*stage, language), body)
        }
        Progress::Complete => {
            let text = language.text("You can close this window.", "Это окно можно закрыть.");
            let page = Page::new(language, language.text("Done", "Готово"), format!("<p>{text}</p>"));
            Page { script: Some(AUTH_DONE), ..page }
        }
        Progress::Unknown => {
            let text = language.text(
                "This sign-in is not known or has expired. Go back to your app and begin again.",
                "Этот вход неизвестен или истёк. Вернитесь в приложение и начните заново.",
            );
            Page::problem(language, StatusCode::NOT_FOUND, failed, text)
        }
        Progress::NotYet => {
            let text = language.text(
                "Something else has to be done first. Go back to your app.",
                "Сначала нужно сделать другой шаг. Вернитесь в приложение.",
            );
            Page::problem(language, StatusCode::BAD_REQUEST, failed, text)
        }
        Progress::NotAsked => {
            let text = language.text("Nobody has asked for this.", "Этого никто не запрашивал.");
            Page::problem(language, StatusCode::BAD_REQUEST, failed, text)
        }
    }
}

/// The policies, each in the language of the page if there is one.
fn terms(state: &State, language: Language) -> String {
    let terms = &state.accounts.config().registration.terms;
    let mut out = String::from("<ul>");
    let mut shown: Vec<&str> = Vec::new();
    for term in terms {
        if shown.contains(&term.policy.as_str()) {
            continue;
        }
        shown.push(&term.policy);
        let of_policy = || terms.iter().filter(|other| other.policy == term.policy);
        let best = of_policy().find(|other| other.language == language.tag()).unwrap_or(term);
        let (url, name) = (escape(&best.url), escape(&best.name));
        let _infallible =
            write!(out, "<li><a href=\"{url}\" target=\"_blank\" rel=\"noopener noreferrer\">{name}</a></li>");
    }
    out.push_str("</ul>");
    out
}

/// What is said of a form that another site has sent.
pub(super) fn cross_site(language: Language) -> Page {
    let title = language.text("This did not work", "Не получилось");
    let text = language.text("Another site has sent this form.", "Эту форму отправил другой сайт.");
    Page::problem(language, StatusCode::FORBIDDEN, title, text)
}

/// Why what was typed did not do.
pub(super) fn refusal(language: Language, error: &ApiError) -> &'static str {
    match error.code() {
        Some("M_LIMIT_EXCEEDED") => {
            language.text("Too many attempts. Try again later.", "Слишком много попыток. Повторите позже.")
        }
        Some("M_USER_DEACTIVATED") => language.text("This account is deactivated.", "Эта учётная запись отключена."),
        Some("M_MISSING_PARAM") => language.text("Something is missing.", "Чего-то не хватает."),
        _ => language.text("That is not right. Try again.", "Неверно. Попробуйте ещё раз."),
    }
}

#[cfg(test)]
mod tests;
