//! Mail addresses and phone numbers of users (client-server API, "Adding Account Administrative Contact Information").
//!
//! That an address is somebody's is proven by a mail with a link to a page of ours. The page has a button: what
//! programs that look for viruses open, proves nothing.

mod account;
mod confirm;
mod notices;
mod request_token;
#[cfg(test)]
mod tests;

pub(super) use notices::{new_login, password_changed};

use super::html;
use crate::State;
use axum::Router;
use http::HeaderMap;
use mailer::{EmailAddress, Language, Mailer};
use std::sync::Arc;

/// The way in which users get mails.
#[derive(Clone, Debug)]
pub struct Mail {
    /// What sends them.
    pub mailer: Mailer,
    /// The address of this server that links in them lead to, without a slash at the end.
    pub base_url: String,
}

pub(super) fn routes() -> Router<Arc<State>> {
    Router::new().merge(account::routes()).merge(confirm::routes()).merge(request_token::routes())
}

/// The language in which somebody gets a mail because of this request.
fn language_of(headers: &HeaderMap, mail: &Mail) -> Language {
    match html::Language::named(headers) {
        Some(html::Language::English) => Language::English,
        Some(html::Language::Russian) => Language::Russian,
        None => mail.mailer.default_language(),
    }
}

/// An identifier in its canonical form; none if it can't be one.
pub(super) fn canonical(medium: &str, address: &str) -> Option<String> {
    match medium {
        "email" => address.parse::<EmailAddress>().ok().map(|address| address.as_str().to_owned()),
        "msisdn" => {
            let digits = address.trim_start_matches('+');
            let is_number = (5..=15).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
            is_number.then(|| digits.to_owned())
        }
        _ => None,
    }
}
