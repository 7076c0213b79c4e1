//! `GET /delayed_events` and `GET /delayed_events/{delayId}`, `POST /delayed_events/{delayId}/{action}`

use super::SCHEDULED_MAX;
use super::send::deliver;
use crate::limits::Class;
use crate::session::{ClientAddress, Session};
use crate::wire::{Args, Body};
use crate::{ApiError, State};
use axum::Json;
use axum::extract::State as Within;
use http::StatusCode;
use records::{DelayedRecord, Fate};
use rooms::DelayedChanged;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// `GET /delayed_events`: those of the user that wait, in the order in which they will be sent.
pub(super) async fn all(Within(state): Within<Arc<State>>, session: Session) -> Result<Json<Value>, ApiError> {
    state.limit(Class::Other, &session)?;
    let events_max = usize::try_from(SCHEDULED_MAX).unwrap_or(usize::MAX);
    let events = state.rooms.delayed_of(&session.user_id, events_max)?;
    let shown: Result<Vec<Value>, ApiError> = events.iter().map(|(id, record)| shown(id, record)).collect();
    Ok(Json(json!({"delayed_events": shown?})))
}

/// `GET /delayed_events/{delayId}`: one of the user's, which waits or has waited.
pub(super) async fn show(
    Within(state): Within<Arc<State>>,
    session: Session,
    Args((id,)): Args<(String,)>,
) -> Result<Json<Value>, ApiError> {
    state.limit(Class::Other, &session)?;
    let record = state.rooms.delayed(&id)?.filter(|record| record.user == session.user_id);
    let record = record.ok_or_else(unknown)?;
    let mut shown = shown(&id, &record)?;
    if let (Some(fields), Some(at)) = (shown.as_object_mut(), record.fate.at()) {
        fields.insert("finalised_ts".to_owned(), json!(at));
        match &record.fate {
            Fate::Sent { event_id, .. } => drop(fields.insert("event_id".to_owned(), json!(event_id))),
            Fate::Failed { error, .. } => drop(fields.insert("error".to_owned(), read(error)?)),
            Fate::Scheduled | Fate::Cancelled { .. } => {}
        }
    }
    Ok(Json(shown))
}

fn unknown() -> ApiError {
    ApiError::not_found("there is no such delayed event")
}

fn read(json: &str) -> Result<Value, ApiError> {
    serde_json::from_str(json).map_err(|error| ApiError::internal(&error))
}

fn shown(id: &str, record: &DelayedRecord) -> Result<Value, ApiError> {
    let mut shown = json!({
        "delay_id": id,
        "room_id": record.room_id,
        "type": record.kind,
        "delay_ms": record.delay_ms,
        "scheduled_at": record.scheduled_at,
        "content": read(&record.content)?,
        // As clients in service know them.
        "delay": record.delay_ms,
        "running_since": record.scheduled_at,
    });
    if let (Some(fields), Some(state_key)) = (shown.as_object_mut(), &record.state_key) {
        fields.insert("state_key".to_owned(), json!(state_key));
    }
    Ok(shown)
}

/// What to do with a delayed event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Action {
    /// Begin its wait anew.
    Restart,
    /// Send it now.
    Send,
    /// Never send it.
    Cancel,
}

/// `POST /delayed_events/{delayId}/{action}`
pub(super) async fn act(
    Within(state): Within<Arc<State>>,
    session: Option<Session>,
    address: ClientAddress,
    Args((id, action)): Args<(String, String)>,
) -> Result<Json<Value>, ApiError> {
    let action = match action.as_str() {
        "restart" => Action::Restart,
        "send" => Action::Send,
        "cancel" => Action::Cancel,
        _ => return Err(ApiError::unrecognized()),
    };
    do_it(&state, session.as_ref(), address, &id, action).await
}

/// The action as clients in service name it.
#[derive(Deserialize)]
pub(super) struct Request {
    action: Action,
}

/// `POST /delayed_events/{delayId}`
pub(super) async fn act_by_body(
    Within(state): Within<Arc<State>>,
    session: Option<Session>,
    address: ClientAddress,
    Args((id,)): Args<(String,)>,
    Body(Request { action }): Body<Request>,
) -> Result<Json<Value>, ApiError> {
    do_it(&state, session.as_ref(), address, &id, action).await
}

async fn do_it(
    state: &Arc<State>,
    session: Option<&Session>,
    address: ClientAddress,
    id: &str,
    action: Action,
) -> Result<Json<Value>, ApiError> {
    if session.is_none() && !state.config.delayed_events.manage_without_login {
        return Err(ApiError::missing_token());
    }
    let record = state.rooms.delayed(id)?;
    let Some(record) = record.filter(|record| session.is_none_or(|session| session.user_id == record.user)) else {
        // Whoever knows an id is limited with its user: many of them may come from the address of one service.
        match session {
            Some(session) => state.limit(Class::Other, session)?,
            None => state.limits.address(Class::Other, address)?,
        }
        return Err(unknown());
    };
    state.limits.user(Class::Other, &record.user)?;
    let changed = match action {
        Action::Restart => state.rooms.restart_delayed(id).await?,
        Action::Cancel => state.rooms.cancel_delayed(id).await?,
        Action::Send => match &record.fate {
            Fate::Scheduled => {
                state.limits.user(Class::Message, &record.user)?;
                deliver(state, id, &record).await?;
                DelayedChanged::Done
            }
            Fate::Sent { .. } => DelayedChanged::Done,
            fate => DelayedChanged::Over(fate.clone()),
        },
    };
    match changed {
        DelayedChanged::Done => {
            if action != Action::Restart {
                state.rooms.forget_delayed(id).await?;
            }
            state.delayed.changed.notify_one();
            Ok(Json(json!({})))
        }
        DelayedChanged::Over(fate) => {
            let what = if matches!(fate, Fate::Sent { .. }) { "sent" } else { "cancelled" };
            let message = format!("the delayed event was {what} already");
            Err(ApiError::new(StatusCode::CONFLICT, "M_UNKNOWN", message))
        }
        DelayedChanged::Unknown => Err(unknown()),
    }
}
