//! `POST /user_directory/search`

use crate::limits::Class;
use crate::session::Session;
use crate::wire::Body;
use crate::{ApiError, State};
use axum::Json;
use axum::extract::State as Within;
use records::FoundUser;
use ruma::OwnedUserId;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// How many users an answer has if the client doesn't say.
const PAGE: usize = 10;
/// The most users that an answer has.
const PAGE_MAX: usize = 50;
/// The longest search term, in bytes.
const TERM_BYTES_MAX: usize = 1024;

/// Whom a client looks for.
#[derive(Deserialize)]
pub(super) struct Search {
    search_term: String,
    limit: Option<i64>,
}

/// Whom it is told of.
#[derive(Serialize)]
pub(super) struct Answer {
    results: Vec<Found>,
    limited: bool,
}

#[derive(Serialize)]
struct Found {
    user_id: OwnedUserId,
    #[serde(skip_serializing_if = "Option::is_none")]
    display_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    avatar_url: Option<String>,
}

/// Users by the words of their ids and names: those whom the asker knows of by the rooms that they are in, or all,
/// as the settings say. Not the asker.
pub(super) async fn search(
    Within(state): Within<Arc<State>>,
    session: Session,
    Body(search): Body<Search>,
) -> Result<Json<Answer>, ApiError> {
    state.limit(Class::Other, &session)?;
    if search.search_term.len() > TERM_BYTES_MAX {
        return Err(ApiError::invalid_param(format!("a search term has at most {TERM_BYTES_MAX} bytes")));
    }
    let limit = match search.limit.map(usize::try_from) {
        None => PAGE,
        Some(Ok(limit)) => limit.min(PAGE_MAX),
        Some(Err(_)) => return Err(ApiError::invalid_param("`limit` must not be negative")),
    };
    let view = state.records.view();
    let mut known = match state.config.find_all_users {
        true => None,
        false => Some(state.rooms.acquaintance(&view, &session.user_id)?),
    };
    let found = state.accounts.find_users(&search.search_term, limit, |user| -> Result<bool, ApiError> {
        if *user == session.user_id {
            return Ok(false);
        }
        Ok(known.as_mut().map_or(Ok(true), |known| known.knows(user))?)
    })?;
    let shown = |(user_id, FoundUser { display_name, avatar_url, .. })| Found { user_id, display_name, avatar_url };
    Ok(Json(Answer { results: found.users.into_iter().map(shown).collect(), limited: found.limited }))
}
