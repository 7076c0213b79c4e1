//! `POST /user_directory/search`

use crate::limits::Class;
use crate::session::Session;
use crate::wire::Body;
use crate::{ApiError, State};
use accounts::{FoundUsers, UserTerm, words_of};
use axum::Json;
use axum::extract::State as Within;
use records::FoundUser;
use rooms::{Acquaintance, Shown};
use ruma::OwnedUserId;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::sync::Arc;

/// How many users an answer has if the client doesn't say.
const PAGE: usize = 10;
/// The most users that an answer has.
const PAGE_MAX: usize = 50;
/// The longest search term, in bytes.
const TERM_BYTES_MAX: usize = 1024;

/// How many people whom the asker shares a room with are looked at, from the smallest rooms on. Whoever shares larger
/// rooms knows so many that a search for the words alone finds some of them soon.
const NEIGHBOURS_MAX: usize = 2_000;

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
    let term = UserTerm::of(&search.search_term);
    let view = state.records.view();
    let mut known = state.rooms.acquaintance(&view, &session.user_id)?;
    // Those whom the asker shares a room with come first: they are meant most often. Of the others, those may be
    // found who are in a room that is open to all.
    let mut found = neighbours(&state, &session, &term, &known, limit)?;
    if found.users.len() <= limit && !term.is_empty() {
        let seen: HashSet<OwnedUserId> = found.users.iter().map(|(user, _)| user.clone()).collect();
        let everybody = state.config.find_all_users;
        let more =
            state.accounts.find_users(&term, limit + 1 - found.users.len(), |user| -> Result<bool, ApiError> {
                if *user == session.user_id || seen.contains(user) {
                    return Ok(false);
                }
                Ok(everybody || known.knows(user)?)
            })?;
        found.users.extend(more.users);
        found.limited |= more.limited;
    }
    found.limited |= found.users.len() > limit;
    found.users.truncate(limit);
    let shown = |(user_id, FoundUser { display_name, avatar_url, .. })| Found { user_id, display_name, avatar_url };
    Ok(Json(Answer { results: found.users.into_iter().map(shown).collect(), limited: found.limited }))
}

/// Those who are meant among the people whom the asker shares a room with, the users of other servers included: those
/// are called as they are in the room. One more than asked for, if there are more.
fn neighbours(
    state: &State,
    session: &Session,
    term: &UserTerm,
    known: &Acquaintance<'_>,
    limit: usize,
) -> Result<FoundUsers, ApiError> {
    let mut users = Vec::new();
    if term.is_empty() {
        return Ok(FoundUsers::default());
    }
    let neighbours = known.neighbours(NEIGHBOURS_MAX)?;
    let ids: Vec<OwnedUserId> = neighbours.iter().map(|neighbour| neighbour.user_id.clone()).collect();
    for (neighbour, found) in neighbours.into_iter().zip(state.accounts.found_users(&ids)?) {
        if neighbour.user_id == session.user_id {
            continue;
        }
        let found = match found {
            Some(found) => found,
            // Who is of this server and not in the directory is not to be found.
            None if neighbour.user_id.server_name() == state.server_name => continue,
            None => {
                let Shown { displayname, avatar_url } = known.shown(&neighbour)?;
                let words = words_of(&neighbour.user_id, displayname.as_deref());
                FoundUser { display_name: displayname, avatar_url, words }
            }
        };
        users.extend(term.fits(&found.words).map(|fit| (fit, neighbour.user_id, found)));
    }
    users.sort_by(|(fit, user, _), (other_fit, other, _)| (fit, user).cmp(&(other_fit, other)));
    users.truncate(limit + 1);
    let users = users.into_iter().map(|(_, user, found)| (user, found)).collect();
    Ok(FoundUsers { users, limited: false })
}
