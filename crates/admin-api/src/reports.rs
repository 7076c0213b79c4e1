//! What users have reported: `/_synapse/admin/v1/event_reports`, and in the same shape `…/room_reports` and
//! `…/user_reports`.

use crate::State;
use crate::access::Admin;
use crate::params::{Dir, Page, Params};
use axum::extract;
use axum::routing::get;
use axum::{Json, Router};
use base::Stamp;
use base::limits::SCAN_ROWS_MAX;
use face::ApiError;
use face::wire::Args;
use records::{ReportRecord, Reported, View};
use rooms::RoomReader;
use ruma::RoomId;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::sync::Arc;
use store::Direction;

/// The most reports that are looked at for one page.
const LOOKED_AT_MAX: usize = 100_000;

pub(crate) fn routes() -> Router<Arc<State>> {
    Router::new()
        .route("/_synapse/admin/v1/event_reports", get(events))
        .route("/_synapse/admin/v1/event_reports/{report_id}", get(event).delete(delete_event))
        .route("/_synapse/admin/v1/room_reports", get(rooms))
        .route("/_synapse/admin/v1/room_reports/{report_id}", get(room).delete(delete_room))
        .route("/_synapse/admin/v1/user_reports", get(users))
        .route("/_synapse/admin/v1/user_reports/{report_id}", get(user).delete(delete_user))
}

/// What reports are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Event,
    Room,
    User,
}

impl Kind {
    fn of(report: &ReportRecord) -> Self {
        match &report.reported {
            Reported::Event { .. } => Self::Event,
            Reported::Room { .. } => Self::Room,
            Reported::User { .. } => Self::User,
        }
    }

    fn list_name(self) -> &'static str {
        match self {
            Self::Event => "event_reports",
            Self::Room => "room_reports",
            Self::User => "user_reports",
        }
    }
}

#[derive(Debug, Deserialize)]
struct Query {
    from: Option<usize>,
    limit: Option<usize>,
    /// The newest first unless they are asked for the other way round.
    dir: Option<Dir>,
    user_id: Option<String>,
    room_id: Option<String>,
    event_sender_user_id: Option<String>,
    target_user_id: Option<String>,
}

async fn events(state: extract::State<Arc<State>>, _: Admin, query: Params<Query>) -> Result<Json<Value>, ApiError> {
    list(state.0, query.0, Kind::Event).await
}

async fn rooms(state: extract::State<Arc<State>>, _: Admin, query: Params<Query>) -> Result<Json<Value>, ApiError> {
    list(state.0, query.0, Kind::Room).await
}

async fn users(state: extract::State<Arc<State>>, _: Admin, query: Params<Query>) -> Result<Json<Value>, ApiError> {
    list(state.0, query.0, Kind::User).await
}

async fn list(state: Arc<State>, query: Query, kind: Kind) -> Result<Json<Value>, ApiError> {
    let shared = state.clone();
    state.search(move || Ok(Json(page(&shared, &query, kind)?))).await
}

fn page(state: &State, query: &Query, kind: Kind) -> Result<Value, ApiError> {
    let view = state.records.view();
    let direction = match query.dir {
        Some(Dir::Forwards) => Direction::Forward,
        Some(Dir::Backwards) | None => Direction::Backward,
    };
    let page = Page::new(query.from, query.limit);
    let (mut found, mut total, mut looked_at, mut beyond) = (Vec::new(), 0, 0, None);
    while looked_at < LOOKED_AT_MAX {
        let reports = view.reports(beyond, direction, SCAN_ROWS_MAX)?;
        looked_at += reports.len();
        let is_last = reports.len() < SCAN_ROWS_MAX;
        beyond = reports.last().map(|(id, _)| *id);
        for (id, report) in reports.into_iter().filter(|(_, report)| wanted(query, kind, report)) {
            if total >= page.from && found.len() < page.limit {
                found.push((id, report));
            }
            total += 1;
        }
        if is_last {
            break;
        }
    }
    let shown: Vec<Value> =
        found.iter().map(|(id, report)| shown(state, &view, *id, report)).collect::<Result<_, ApiError>>()?;
    let mut answer = json!({ kind.list_name(): shown, "total": total });
    if let (Some(next), Some(answer)) = (page.next(total), answer.as_object_mut()) {
        answer.insert("next_token".to_owned(), json!(next));
    }
    Ok(answer)
}

fn wanted(query: &Query, kind: Kind, report: &ReportRecord) -> bool {
    let fits = |text: &Option<String>, id: &str| text.as_deref().is_none_or(|text| id.contains(text));
    Kind::of(report) == kind
        && fits(&query.user_id, report.reporter.as_str())
        && match &report.reported {
            Reported::Event { room_id, sender, .. } => {
                fits(&query.room_id, room_id.as_str()) && fits(&query.event_sender_user_id, sender.as_str())
            }
            Reported::Room { room_id } => fits(&query.room_id, room_id.as_str()),
            Reported::User { user_id } => fits(&query.target_user_id, user_id.as_str()),
        }
}

fn shown(state: &State, view: &View, id: Stamp, report: &ReportRecord) -> Result<Value, ApiError> {
    let mut shown = json!({
        "id": id.0,
        "received_ts": report.at.0,
        "reason": report.reason,
        "user_id": report.reporter,
    });
    let Some(fields) = shown.as_object_mut() else { return Ok(shown) };
    match &report.reported {
        Reported::Event { room_id, event_id, sender, score } => {
            fields.insert("event_id".to_owned(), json!(event_id));
            fields.insert("sender".to_owned(), json!(sender));
            fields.insert("score".to_owned(), json!(score));
            fields.extend(names(state, view, room_id)?);
        }
        Reported::Room { room_id } => fields.extend(names(state, view, room_id)?),
        Reported::User { user_id } => {
            fields.insert("target_user_id".to_owned(), json!(user_id));
        }
    }
    Ok(shown)
}

/// How a room is known: its id, name and alias.
fn names(state: &State, view: &View, room_id: &RoomId) -> Result<[(String, Value); 3], ApiError> {
    let reader = state.rooms.reader_by_id(view, room_id)?;
    let text = |reader: &RoomReader, kind: &str, field: &str| {
        let event = reader.state_event(reader.state(), kind, "")?;
        let content = event.and_then(|event| serde_json::from_str::<Value>(event.pdu.content().get()).ok());
        Ok::<_, ApiError>(content.and_then(|mut content| content.get_mut(field).map(Value::take)))
    };
    let (name, alias) = match &reader {
        Some(reader) => (text(reader, "m.room.name", "name")?, text(reader, "m.room.canonical_alias", "alias")?),
        None => (None, None),
    };
    Ok([
        ("room_id".to_owned(), json!(room_id)),
        ("name".to_owned(), json!(name)),
        ("canonical_alias".to_owned(), json!(alias)),
    ])
}

/// A report of a kind by its id, as it is in a path.
fn look_up(view: &View, kind: Kind, id: &str) -> Result<(Stamp, ReportRecord), ApiError> {
    let wrong = || ApiError::invalid_param("the id of a report is a number");
    let id = Stamp(id.parse().map_err(|_| wrong())?);
    let report = view.report(id)?.filter(|report| Kind::of(report) == kind);
    report.map(|report| (id, report)).ok_or_else(|| ApiError::not_found("there is no such report"))
}

fn show(state: &State, kind: Kind, id: &str) -> Result<Json<Value>, ApiError> {
    let view = state.records.view();
    let (id, report) = look_up(&view, kind, id)?;
    let mut shown = shown(state, &view, id, &report)?;
    if let (Reported::Event { room_id, event_id, .. }, Some(fields)) = (&report.reported, shown.as_object_mut()) {
        let event = match state.rooms.reader_by_id(&view, room_id)? {
            Some(reader) => reader.event_by_id(event_id)?,
            None => None,
        };
        let json = event.map(|event| RawValue::from_string(event.pdu.json().to_owned())).transpose();
        let json = json.map_err(|error| ApiError::internal(&error))?;
        fields.insert("event_json".to_owned(), json!(json));
    }
    Ok(Json(shown))
}

async fn delete(state: &State, admin: &Admin, kind: Kind, id: &str) -> Result<Json<Value>, ApiError> {
    let view = state.records.view();
    let (id, _) = look_up(&view, kind, id)?;
    let mut changes = state.records.changes(&view);
    changes.clear_report(id);
    state.records.commit(changes).await.map_err(|error| ApiError::internal(&error))?;
    tracing::info!(admin = %admin.user_id, report = id.0, "a report was deleted");
    Ok(Json(json!({})))
}

type Id = Args<(String,)>;

async fn event(state: extract::State<Arc<State>>, _: Admin, Args((id,)): Id) -> Result<Json<Value>, ApiError> {
    show(&state, Kind::Event, &id)
}

async fn room(state: extract::State<Arc<State>>, _: Admin, Args((id,)): Id) -> Result<Json<Value>, ApiError> {
    show(&state, Kind::Room, &id)
}

async fn user(state: extract::State<Arc<State>>, _: Admin, Args((id,)): Id) -> Result<Json<Value>, ApiError> {
    show(&state, Kind::User, &id)
}

async fn delete_event(
    state: extract::State<Arc<State>>,
    admin: Admin,
    Args((id,)): Id,
) -> Result<Json<Value>, ApiError> {
    delete(&state, &admin, Kind::Event, &id).await
}

async fn delete_room(
    state: extract::State<Arc<State>>,
    admin: Admin,
    Args((id,)): Id,
) -> Result<Json<Value>, ApiError> {
    delete(&state, &admin, Kind::Room, &id).await
}

async fn delete_user(
    state: extract::State<Arc<State>>,
    admin: Admin,
    Args((id,)): Id,
) -> Result<Json<Value>, ApiError> {
    delete(&state, &admin, Kind::User, &id).await
}

#[cfg(test)]
mod tests {
    use crate::testing::Server;
    use records::Reported;
    use serde_json::{Value, json};

    #[tokio::test]
    async fn reports_are_listed_shown_and_deleted_by_what_they_are_about() {
        let server = Server::new().await;
        let (admin, alice, bob) = (server.admin("root").await, server.user("alice").await, server.user("bob").await);
        let room_id = server.room(&alice).await;
        let event_id = server.say(&alice, &room_id, "spam").await;
        let report = async |reported: Reported, reason: &str| {
            server.state.accounts.report(&bob.id, reported, reason.to_owned()).await.unwrap();
        };
        let event = Reported::Event { room_id: room_id.clone(), event_id, sender: alice.id.clone(), score: Some(-100) };
        report(event.clone(), "one").await;
        report(Reported::Room { room_id: room_id.clone() }, "two").await;
        report(Reported::User { user_id: alice.id.clone() }, "three").await;
        report(event, "four").await;
        let get = async |path: &str| server.get(&format!("/_synapse/admin/v1/{path}"), Some(&admin)).await.ok();
        let reasons = |list: &Value, name: &str| -> Vec<String> {
            list[name].as_array().unwrap().iter().map(|r| r["reason"].as_str().unwrap().to_owned()).collect()
        };
        let events = get("event_reports").await;
        assert_eq!(
            (reasons(&events, "event_reports"), &events["total"]),
            (vec!["four".into(), "one".into()], &json!(2))
        );
        assert_eq!(events["event_reports"][0]["score"], -100);
        assert_eq!(reasons(&get("event_reports?dir=f").await, "event_reports"), ["one", "four"]);
        let page = get("event_reports?limit=1").await;
        assert_eq!((reasons(&page, "event_reports").len(), &page["next_token"]), (1, &json!(1)));
        assert_eq!(get("event_reports?user_id=@nobody").await["total"], 0);
        assert_eq!(get("event_reports?event_sender_user_id=alice&user_id=bob").await["total"], 2);
        assert_eq!(reasons(&get("room_reports").await, "room_reports"), ["two"]);
        assert_eq!(get("user_reports").await["user_reports"][0]["target_user_id"], alice.id.as_str());

        let id = events["event_reports"][0]["id"].as_u64().unwrap();
        let shown = get(&format!("event_reports/{id}")).await;
        assert_eq!(shown["event_json"]["content"]["body"], "spam");
        let path = format!("/_synapse/admin/v1/event_reports/{id}");
        server.delete(&path, Some(&admin), &json!({})).await.ok();
        server.get(&path, Some(&admin)).await.refused(404, "M_NOT_FOUND");
        server.get("/_synapse/admin/v1/event_reports/x", Some(&admin)).await.refused(400, "M_INVALID_PARAM");
        assert_eq!(get("event_reports").await["total"], 1);
    }
}
