//! The list of rooms, `GET /_synapse/admin/v1/rooms`, and one room, `GET /_synapse/admin/v1/rooms/{roomId}`.
//!
//! What a list shows of a room is kept in memory once it was shown, and read again when the room has changed: so a list
//! costs the heads of all rooms, and the state of those that changed since the last one.

use crate::State;
use crate::access::Admin;
use crate::params::{Dir, Page, Params};
use axum::extract;
use axum::routing::get;
use axum::{Json, Router};
use base::RoomNum;
use face::ApiError;
use face::wire::Args;
use records::{Membership, View};
use rooms::{RoomReader, StoredEvent};
use ruma::OwnedRoomId;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// How many rooms or members are read at once.
const ROWS_AT_ONCE: usize = 1000;

pub(super) fn routes() -> Router<Arc<State>> {
    Router::new()
        .route("/_synapse/admin/v1/rooms", get(list))
        .route("/_synapse/admin/v1/rooms/{room_id}", get(show).delete(super::delete::refuse_first_version))
}

/// What lists show of rooms, each as its head with this generation had it; about 600 bytes a room.
#[derive(Default)]
pub struct Index(Mutex<HashMap<RoomNum, (u64, Arc<Row>)>>);

/// What a list shows of a room by its state.
#[derive(Clone, Debug, Default)]
struct Row {
    name: Option<String>,
    canonical_alias: Option<String>,
    avatar: Option<String>,
    topic: Option<String>,
    creator: Option<String>,
    encryption: Option<String>,
    is_federatable: bool,
    join_rules: Option<String>,
    guest_access: Option<String>,
    history_visibility: Option<String>,
    room_type: Option<String>,
    is_tombstoned: bool,
    replacement: Option<String>,
}

impl Row {
    fn of(reader: &RoomReader) -> Result<Self, ApiError> {
        let event = |kind: &str| reader.state_event(reader.state(), kind, "");
        let text = |kind: &str, field: &str| -> Result<Option<String>, ApiError> {
            let value = event(kind)?.and_then(|event| content(&event).remove(field));
            Ok(value.and_then(|value| value.as_str().map(str::to_owned)).filter(|text| !text.is_empty()))
        };
        let created = event("m.room.create")?;
        let create = created.as_ref().map(|event| content(event)).unwrap_or_default();
        let creator = create.get("creator").and_then(Value::as_str).map(str::to_owned);
        let creator = creator.or_else(|| created.map(|event| event.pdu.sender().to_string()));
        Ok(Self {
            name: text("m.room.name", "name")?,
            canonical_alias: text("m.room.canonical_alias", "alias")?,
            avatar: text("m.room.avatar", "url")?,
            topic: text("m.room.topic", "topic")?,
            creator,
            encryption: text("m.room.encryption", "algorithm")?,
            is_federatable: create.get("m.federate") != Some(&Value::Bool(false)),
            join_rules: text("m.room.join_rules", "join_rule")?,
            guest_access: text("m.room.guest_access", "guest_access")?,
            history_visibility: text("m.room.history_visibility", "history_visibility")?,
            room_type: create.get("type").and_then(Value::as_str).map(str::to_owned),
            is_tombstoned: event("m.room.tombstone")?.is_some(),
            replacement: text("m.room.tombstone", "replacement_room")?,
        })
    }

    fn is_found(&self, room_id: &str, text: &str) -> bool {
        let has = |field: &Option<String>| field.as_ref().is_some_and(|field| field.to_lowercase().contains(text));
        has(&self.name) || has(&self.canonical_alias) || room_id.to_lowercase() == text
    }
}

fn content(event: &StoredEvent) -> Map<String, Value> {
    serde_json::from_str(event.pdu.content().get()).unwrap_or_default()
}

impl Index {
    /// What is shown of a room, read if it has changed since it was shown last.
    fn row(&self, reader: &RoomReader) -> Result<Arc<Row>, ApiError> {
        let (num, generation) = (reader.num(), reader.head().generation);
        if let Some((known, row)) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&num)
            && *known == generation
        {
            return Ok(row.clone());
        }
        let row = Arc::new(Row::of(reader)?);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(num, (generation, row.clone()));
        Ok(row)
    }

    /// Forgets rooms that are not there any more.
    fn retain(&self, is_there: impl Fn(RoomNum) -> bool) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|num, _| is_there(*num));
    }
}

#[derive(Debug, Deserialize)]
struct Query {
    from: Option<usize>,
    limit: Option<usize>,
    #[serde(default)]
    order_by: Order,
    #[serde(default)]
    dir: Dir,
    search_term: Option<String>,
    public_rooms: Option<bool>,
    empty_rooms: Option<bool>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Order {
    #[default]
    #[serde(alias = "alphabetical")]
    Name,
    CanonicalAlias,
    #[serde(alias = "size")]
    JoinedMembers,
    JoinedLocalMembers,
    Version,
    Creator,
    Encryption,
    Federatable,
    Public,
    JoinRules,
    GuestAccess,
    HistoryVisibility,
    StateEvents,
}

/// `GET /_synapse/admin/v1/rooms`: by numbers the largest first, by texts in their order.
async fn list(
    extract::State(state): extract::State<Arc<State>>,
    _: Admin,
    Params(query): Params<Query>,
) -> Result<Json<Value>, ApiError> {
    let shared = state.clone();
    state.search(move || Ok(Json(page(&shared, &query)?))).await
}

/// What a list is sorted by: texts, and numbers as what they lack to the greatest.
type Key = (Option<String>, u64);

fn page(state: &State, query: &Query) -> Result<Value, ApiError> {
    let view = state.records.view();
    let text = query.search_term.as_deref().map(str::to_lowercase).filter(|text| !text.is_empty());
    let (mut found, mut all): (Vec<(Key, OwnedRoomId, RoomNum)>, Vec<RoomNum>) = (Vec::new(), Vec::new());
    let mut after = None;
    loop {
        let rooms = view.rooms(after, ROWS_AT_ONCE)?;
        let Some((last, _)) = rooms.last() else { break };
        after = Some(*last);
        for (num, head) in rooms {
            all.push(num);
            if query.empty_rooms.is_some_and(|empty| empty != (head.joined == 0)) {
                continue;
            }
            let is_public = view.is_published(num)?;
            if query.public_rooms.is_some_and(|public| public != is_public) {
                continue;
            }
            let Some(reader) = state.rooms.reader(&view, num)? else { continue };
            let row = state.index.row(&reader)?;
            if text.as_deref().is_none_or(|text| row.is_found(head.room_id.as_str(), text)) {
                found.push((key(state, query.order_by, &reader, &row, is_public)?, head.room_id, num));
            }
        }
    }
    // Rooms come in the order of their numbers.
    state.index.retain(|num| all.binary_search(&num).is_ok());
    match query.dir {
        Dir::Forwards => found.sort_by(|(one, id, _), (other, other_id, _)| (one, id).cmp(&(other, other_id))),
        Dir::Backwards => found.sort_by(|(one, id, _), (other, other_id, _)| (other, other_id).cmp(&(one, id))),
    }
    let total = found.len();
    let page = Page::new(query.from, query.limit);
    let mut rooms = Vec::new();
    for (_, _, num) in page.of(found) {
        if let Some(reader) = state.rooms.reader(&view, num)? {
            rooms.push(entry(state, &reader)?);
        }
    }
    let mut answer = json!({ "rooms": rooms, "offset": page.from, "total_rooms": total });
    if let Some(answer) = answer.as_object_mut() {
        answer.extend(page.next(total).map(|next| ("next_batch".to_owned(), json!(next))));
        if page.from > 0 {
            answer.insert("prev_batch".to_owned(), json!(page.from.saturating_sub(page.limit)));
        }
    }
    Ok(answer)
}

fn key(state: &State, order: Order, reader: &RoomReader, row: &Row, is_public: bool) -> Result<Key, ApiError> {
    let number = |number: u64| (None, u64::MAX - number);
    let text = |text: &Option<String>| (Some(text.as_deref().unwrap_or_default().to_lowercase()), 0);
    Ok(match order {
        Order::Name => text(&row.name),
        Order::CanonicalAlias => text(&row.canonical_alias),
        Order::Version => text(&Some(reader.head().version.to_string())),
        Order::Creator => text(&row.creator),
        Order::Encryption => text(&row.encryption),
        Order::JoinRules => text(&row.join_rules),
        Order::GuestAccess => text(&row.guest_access),
        Order::HistoryVisibility => text(&row.history_visibility),
        Order::Federatable => number(row.is_federatable.into()),
        Order::Public => number(is_public.into()),
        Order::JoinedMembers => number(reader.head().joined),
        Order::JoinedLocalMembers => number(local(state, reader, |_| Ok(1))?),
        Order::StateEvents => number(state_events(reader)?),
    })
}

/// How many entries the state has.
fn state_events(reader: &RoomReader) -> Result<u64, ApiError> {
    let mut count = 0;
    for entry in reader.state().entries(reader.view()) {
        entry?;
        count += 1;
    }
    Ok(count)
}

/// The sum of something over the joined members of this server.
fn local(
    state: &State,
    reader: &RoomReader,
    of: impl Fn(&ruma::UserId) -> Result<u64, ApiError>,
) -> Result<u64, ApiError> {
    let (mut sum, mut after) = (0, None);
    loop {
        let members = reader.view().room_members(reader.num(), Membership::Join, after.as_deref(), ROWS_AT_ONCE)?;
        for (user, _) in members.iter().filter(|(user, _)| state.accounts.is_local(user)) {
            sum += of(user)?;
        }
        match members.into_iter().last() {
            Some((last, _)) => after = Some(last),
            None => return Ok(sum),
        }
    }
}

fn entry(state: &State, reader: &RoomReader) -> Result<Value, ApiError> {
    let row = state.index.row(reader)?;
    Ok(json!({
        "room_id": reader.room_id(),
        "name": row.name,
        "canonical_alias": row.canonical_alias,
        "joined_members": reader.head().joined,
        "joined_local_members": local(state, reader, |_| Ok(1))?,
        "version": reader.head().version,
        "creator": row.creator,
        "encryption": row.encryption,
        "federatable": row.is_federatable,
        "public": reader.view().is_published(reader.num())?,
        "join_rules": row.join_rules,
        "guest_access": row.guest_access,
        "history_visibility": row.history_visibility,
        "state_events": state_events(reader)?,
        "room_type": row.room_type,
        "tombstoned": row.is_tombstoned,
        "replacement_room": row.replacement,
    }))
}

/// `GET /_synapse/admin/v1/rooms/{roomId}`
async fn show(
    extract::State(state): extract::State<Arc<State>>,
    _: Admin,
    Args((room_id,)): Args<(OwnedRoomId,)>,
) -> Result<Json<Value>, ApiError> {
    let shared = state.clone();
    state.search(move || Ok(Json(details(&shared, &room_id)?))).await
}

fn details(state: &State, room_id: &ruma::RoomId) -> Result<Value, ApiError> {
    let reader = state.room(room_id)?;
    let row = state.index.row(&reader)?;
    let devices = |user: &ruma::UserId| {
        let count = reader.view().device_count(user, accounts::DEVICES_MAX)?;
        Ok::<_, ApiError>(u64::try_from(count).unwrap_or(u64::MAX))
    };
    let mut shown = entry(state, &reader)?;
    if let Some(fields) = shown.as_object_mut() {
        fields.insert("avatar".to_owned(), json!(row.avatar));
        fields.insert("topic".to_owned(), json!(row.topic));
        fields.insert("joined_local_devices".to_owned(), json!(local(state, &reader, devices)?));
        fields.insert("forgotten".to_owned(), json!(is_forgotten(state, reader.view(), reader.num())?));
    }
    Ok(shown)
}

/// Whether all users of this server who had to do with the room have left it and forgotten it.
fn is_forgotten(state: &State, view: &View, num: RoomNum) -> Result<bool, ApiError> {
    for membership in [Membership::Join, Membership::Invite, Membership::Knock, Membership::Leave, Membership::Ban] {
        let mut after = None;
        loop {
            let members = view.room_members(num, membership, after.as_deref(), ROWS_AT_ONCE)?;
            for (user, _) in members.iter().filter(|(user, _)| state.accounts.is_local(user)) {
                if view.membership(user, num)?.is_some_and(|(_, record)| !record.forgotten) {
                    return Ok(false);
                }
            }
            match members.into_iter().last() {
                Some((last, _)) => after = Some(last),
                None => break,
            }
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use crate::testing::{Server, User};
    use rooms::{CreateRoom, Preset};
    use ruma::OwnedRoomId;
    use serde_json::{Value, json};

    async fn named(server: &Server, creator: &User, name: &str, published: bool) -> OwnedRoomId {
        let request = CreateRoom {
            preset: Some(Preset::PublicChat),
            published,
            name: Some(name.to_owned()),
            ..CreateRoom::default()
        };
        server.state.rooms.create(&creator.id, request).await.unwrap()
    }

    fn names(answer: &Value) -> Vec<&str> {
        answer["rooms"].as_array().unwrap().iter().map(|room| room["name"].as_str().unwrap()).collect()
    }

    #[tokio::test]
    async fn rooms_are_found_sorted_and_paged() {
        let server = Server::new().await;
        let (admin, alice, bob) = (server.admin("root").await, server.user("alice").await, server.user("bob").await);
        let one = named(&server, &alice, "One", true).await;
        named(&server, &bob, "Two", false).await;
        let three = named(&server, &alice, "Three", false).await;
        server.enter(&bob, &one).await;
        server.leave(&alice, &three).await;
        let list =
            async |query: &str| server.get(&format!("/_synapse/admin/v1/rooms?{query}"), Some(&admin)).await.ok();
        let all = list("").await;
        assert_eq!((names(&all), &all["total_rooms"]), (vec!["One", "Three", "Two"], &json!(3)));
        let first = &all["rooms"][0];
        assert_eq!((&first["joined_members"], &first["joined_local_members"]), (&json!(2), &json!(2)));
        assert_eq!((&first["public"], &first["creator"]), (&json!(true), &json!(alice.id)));
        assert_eq!((&first["federatable"], &first["join_rules"]), (&json!(true), &json!("public")));
        assert!(first["state_events"].as_u64().unwrap() >= 6, "{first}");
        assert_eq!(names(&list("order_by=joined_members").await), ["One", "Two", "Three"]);
        assert_eq!(names(&list("order_by=name&dir=b").await), ["Two", "Three", "One"]);
        assert_eq!(names(&list("search_term=tHr").await), ["Three"]);
        assert_eq!(names(&list("public_rooms=true").await), ["One"]);
        assert_eq!(names(&list("empty_rooms=true").await), ["Three"]);
        let page = list("from=1&limit=1").await;
        assert_eq!((names(&page), &page["next_batch"], &page["prev_batch"]), (vec!["Three"], &json!(2), &json!(0)));
        server.get("/_synapse/admin/v1/rooms?order_by=x", Some(&admin)).await.refused(400, "M_INVALID_PARAM");
        server.get("/_synapse/admin/v1/rooms", Some(&alice)).await.refused(403, "M_FORBIDDEN");
        // What is shown follows the room.
        server.enter(&alice, &three).await;
        assert_eq!(list("search_term=three").await["rooms"][0]["joined_members"], 1);
    }

    #[tokio::test]
    async fn one_room_is_shown_with_its_devices() {
        let server = Server::new().await;
        let (admin, alice) = (server.admin("root").await, server.user("alice").await);
        let room = named(&server, &alice, "One", false).await;
        let path = format!("/_synapse/admin/v1/rooms/{room}");
        let shown = server.get(&path, Some(&admin)).await.ok();
        assert_eq!((&shown["joined_local_devices"], &shown["forgotten"]), (&json!(1), &json!(false)));
        server.leave(&alice, &room).await;
        server.state.rooms.forget(&room, &alice.id).await.unwrap();
        assert_eq!(server.get(&path, Some(&admin)).await.ok()["forgotten"], true);
        server.get("/_synapse/admin/v1/rooms/!none:example.org", Some(&admin)).await.refused(404, "M_NOT_FOUND");
    }
}
