//! Accounts: registration, login, sessions and devices, profiles, and what users store.

mod account_data;
mod deactivate;
mod devices;
mod fallback;
mod filter;
#[cfg(test)]
mod guest_tests;
mod html;
mod interactive;
mod login;
mod login_page;
mod moderation;
mod openid;
mod password;
mod profile;
mod push_rules;
mod pushers;
mod register;
mod shared_secret;
mod tags;
#[cfg(test)]
mod tests;
mod threepid;
mod whois;

pub use interactive::Interactive;
pub use shared_secret::Nonces;
pub use threepid::Mail;

pub(crate) use interactive::Challenged;

use crate::{ApiError, State};
use axum::Router;
use std::sync::Arc;
use tracing::Instrument as _;

/// The endpoints of accounts.
pub(crate) fn routes() -> Router<Arc<State>> {
    Router::new()
        .merge(account_data::routes())
        .merge(deactivate::routes())
        .merge(devices::routes())
        .merge(fallback::routes())
        .merge(filter::routes())
        .merge(login::routes())
        .merge(login_page::routes())
        .merge(moderation::routes())
        .merge(openid::routes())
        .merge(password::routes())
        .merge(profile::routes())
        .merge(push_rules::routes())
        .merge(pushers::routes())
        .merge(register::routes())
        .merge(shared_secret::routes())
        .merge(tags::routes())
        .merge(threepid::routes())
        .merge(whois::routes())
}

/// Does work to its end though the client hangs up meanwhile: a commit and what has to follow it.
pub(crate) async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, ApiError>> + Send + 'static,
) -> Result<T, ApiError> {
    tokio::spawn(work.in_current_span()).await.map_err(|error| ApiError::internal(&error))?
}
