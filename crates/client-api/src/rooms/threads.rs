//! `GET /rooms/{roomId}/threads`

use super::access::{Access, Seen};
use super::messages::place;
use crate::limits::Class;
use crate::routes::Routes as _;
use crate::session::Session;
use crate::wire::Args;
use crate::{ApiError, State};
use axum::extract::{Query, State as Within};
use axum::routing::get;
use axum::{Json, Router};
use base::Order;
use http::Uri;
use ruma::{OwnedRoomId, UserId};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::cmp::Reverse;
use std::sync::Arc;
use sync_core::PageToken;

/// The endpoint, which some clients still know by the name that it had as MSC3856.
pub(super) fn routes() -> Router<Arc<State>> {
    let threads = get(threads);
    Router::new()
        .route("/_matrix/client/unstable/org.matrix.msc3856/rooms/{room_id}/threads", threads.clone())
        .v1("/rooms/{room_id}/threads", threads)
}

/// How many threads a page has if the client does not say.
const THREADS_DEFAULT: u64 = 20;
/// The most threads of one page.
const THREADS_MAX: u64 = 100;
/// How many threads one request looks at, whatever of them it can show. The client goes on from there.
const LOOKED_AT_MAX: usize = 1_000;

/// Which threads are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Include {
    /// All of the room.
    #[default]
    All,
    /// Those that the user has said something in, or has begun.
    Participated,
}

#[derive(Deserialize)]
struct Parameters {
    #[serde(default)]
    include: Include,
    limit: Option<u64>,
    from: Option<String>,
}

/// A page of a room's threads.
#[derive(Serialize)]
pub(super) struct Response {
    chunk: Vec<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_batch: Option<String>,
}

/// The roots of a room's threads, those with the latest events first.
pub(super) async fn threads(
    Within(state): Within<Arc<State>>,
    session: Session,
    Args((room_id,)): Args<(OwnedRoomId,)>,
    uri: Uri,
) -> Result<Json<Response>, ApiError> {
    state.limit(Class::Other, &session)?;
    let parameters = Query::<Parameters>::try_from_uri(&uri);
    let Query(Parameters { include, limit, from }) =
        parameters.map_err(|error| ApiError::invalid_param(error.body_text()))?;
    if limit == Some(0) {
        return Err(ApiError::invalid_param("`limit` must be greater than zero"));
    }
    let threads_max = usize::try_from(limit.unwrap_or(THREADS_DEFAULT).min(THREADS_MAX)).unwrap_or(usize::MAX);
    let from = from.as_deref().map(|token| place("from", token)).transpose()?;
    let access = Access::of(&state, &session, &room_id)?;
    let Page { mut threads, rest } = page(&access, &session.user_id, include, from, threads_max)?;
    // The last event that this user may see of a thread is not always the last of all.
    threads.sort_by_key(|(latest, _)| Reverse(*latest));
    let chunk = threads.iter().map(|(_, root)| access.client_event(root)).collect::<Result<_, _>>()?;
    Ok(Json(Response { chunk, next_batch: rest.map(|rest| PageToken(rest).to_string()) }))
}

struct Page {
    /// The places of the threads' last events, and the roots.
    threads: Vec<(Order, Seen)>,
    /// Where to go on; nothing if there are no more threads.
    rest: Option<Order>,
}

fn page(
    access: &Access<'_>,
    user: &UserId,
    include: Include,
    from: Option<Order>,
    threads_max: usize,
) -> Result<Page, ApiError> {
    let reader = &access.reader;
    let ignored = reader.ignored(user)?;
    let mut rest = from.unwrap_or(Order(i64::MAX));
    let (mut threads, mut looked_at) = (Vec::new(), 0);
    while looked_at < LOOKED_AT_MAX {
        let wanted = threads_max.saturating_add(1).min(LOOKED_AT_MAX - looked_at);
        let rows = reader.threads(rest, wanted)?;
        let is_end = rows.len() < wanted;
        looked_at += rows.len();
        let roots: Vec<_> = rows.iter().filter_map(|row| row.root.clone()).collect();
        let mut seen = access.may_see(&roots)?;
        if include == Include::Participated {
            let took_part = reader.took_part(&seen.iter().map(|seen| &*seen.event).collect::<Vec<_>>(), user)?;
            let mut took_part = took_part.into_iter();
            seen.retain(|_| took_part.next().unwrap_or_default());
        }
        for row in rows {
            if threads.len() == threads_max {
                return Ok(Page { threads, rest: Some(rest) });
            }
            rest = Order(row.latest.0.saturating_sub(1));
            let Some(at) = row.root.and_then(|root| seen.iter().position(|seen| seen.event.num == root.num)) else {
                continue;
            };
            let root = seen.swap_remove(at);
            // A thread in which only those speak whom the user ignores, or may not hear, is none to them.
            let Some((latest, _)) = reader.latest_of_thread(&root.event, user, &ignored)? else { continue };
            let event = if ignored.has(root.event.pdu.sender()) {
                // As if the client had put the thread together from what it gets of it.
                Arc::new(reader.redacted(&root.event)?)
            } else {
                root.event
            };
            threads.push((latest.order, Seen { event, membership: root.membership }));
        }
        if is_end {
            return Ok(Page { threads, rest: None });
        }
    }
    Ok(Page { threads, rest: Some(rest) })
}
