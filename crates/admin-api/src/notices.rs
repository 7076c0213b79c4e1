//! Server notices: messages of the agency to its users, each in a room of their own (client-server API, "Server
//! Notices"). `POST /_synapse/admin/v1/send_server_notice` and `PUT …/send_server_notice/{txnId}`.

use crate::access::Admin;
use crate::{State, to_the_end};
use accounts::{Error as AccountsError, NewUser};
use axum::extract;
use axum::routing::{post, put};
use axum::{Json, Router};
use base::config::Checks;
use base::limits::ID_BYTES_MAX;
use face::ApiError;
use face::wire::{Args, Body};
use records::{Membership, View};
use rooms::{CreateRoom, Draft, InitialState, MembershipChange, Preset, Txn};
use ruma::serde::JsonObject;
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UserId};
use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};
use std::sync::Arc;
use store::CommitError;

/// The tag by which clients know the room.
const TAG: &str = "m.server_notice";
/// How often a room is made again because another request was first.
const ATTEMPTS_MAX: usize = 3;
/// The level that saying something in the room takes: users read it.
const SPEAKER_LEVEL: i64 = 50;

base::config! {
    /// Messages of the agency to its users, each in a room of their own that they can't decline.
    #[check = Config::check]
    pub struct Config {
        /// Whether administrators can send notices.
        pub enabled: bool = false,
        /// The part before the colon of the user who sends them. It is made with the first notice; nobody can log in
        /// to it.
        pub localpart: String = "notices".to_owned(),
        /// What that user is called.
        pub display_name: String = "Уведомления / Notices".to_owned(),
        /// Its picture, an mxc: URI.
        #[example = r#""mxc://agency.example/picture""#]
        pub avatar_url: Option<String>,
        /// What the rooms are called.
        pub room_name: String = "Уведомления сервера / Server notices".to_owned(),
        /// What the rooms are about.
        pub room_topic: String =
            "Важные сообщения администраторов / Important messages of the administrators".to_owned(),
        /// The picture of the rooms, an mxc: URI.
        #[example = r#""mxc://agency.example/picture""#]
        pub room_avatar_url: Option<String>,
    }
}

impl Config {
    fn check(&self, wrong: &mut Checks<'_, '_>) {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._=-/+".contains(&byte);
        if self.localpart.is_empty() || self.localpart.len() > 100 || !self.localpart.bytes().all(allowed) {
            wrong.key("localpart", "must be 1 to 100 of a-z, 0-9 and ._=-/+");
        }
        for (key, text) in
            [("display_name", &self.display_name), ("room_name", &self.room_name), ("room_topic", &self.room_topic)]
        {
            if text.is_empty() || text.len() > 1000 {
                wrong.key(key, "must have 1 to 1000 bytes");
            }
        }
        for (key, url) in [("avatar_url", &self.avatar_url), ("room_avatar_url", &self.room_avatar_url)] {
            if url.as_deref().is_some_and(|url| !url.starts_with("mxc://")) {
                wrong.key(key, "must be an mxc: URI such as \"mxc://agency.example/picture\"");
            }
        }
    }
}

pub(crate) fn routes() -> Router<Arc<State>> {
    Router::new()
        .route("/_synapse/admin/v1/send_server_notice", post(send))
        .route("/_synapse/admin/v1/send_server_notice/{txn_id}", put(send_once))
}

/// A notice as an administrator gives it.
#[derive(Debug, Deserialize)]
struct Request {
    user_id: OwnedUserId,
    #[serde(rename = "type")]
    kind: Option<String>,
    state_key: Option<String>,
    content: Box<RawValue>,
}

/// `POST /_synapse/admin/v1/send_server_notice`
async fn send(
    extract::State(state): extract::State<Arc<State>>,
    admin: Admin,
    Body(request): Body<Request>,
) -> Result<Json<Value>, ApiError> {
    let notice = notice(&admin, request, None)?;
    Ok(Json(json!({ "event_id": state.send_notice(notice).await? })))
}

/// `PUT /_synapse/admin/v1/send_server_notice/{txnId}`: the same request twice is one notice.
async fn send_once(
    extract::State(state): extract::State<Arc<State>>,
    admin: Admin,
    Args((txn_id,)): Args<(String,)>,
    Body(request): Body<Request>,
) -> Result<Json<Value>, ApiError> {
    let notice = notice(&admin, request, Some(txn_id))?;
    Ok(Json(json!({ "event_id": state.send_notice(notice).await? })))
}

fn notice(admin: &Admin, request: Request, txn_id: Option<String>) -> Result<Notice, ApiError> {
    let Request { user_id, kind, state_key, content } = request;
    if serde_json::from_str::<JsonObject>(content.get()).is_err() {
        return Err(ApiError::bad_json("`content` must be an object"));
    }
    let ids = [&kind, &state_key, &txn_id];
    if ids.into_iter().flatten().any(|id| id.len() > ID_BYTES_MAX) {
        return Err(ApiError::too_large(format!("a type, a state key and a transaction id have {ID_BYTES_MAX} bytes")));
    }
    let txn = txn_id.map(|txn_id| Txn {
        device_id: String::new(),
        endpoint: format!("send_server_notice/{}", admin.user_id),
        txn_id,
    });
    let kind = kind.unwrap_or_else(|| "m.room.message".to_owned());
    tracing::info!(admin = %admin.user_id, user = %user_id, "a server notice is sent");
    Ok(Notice { user: user_id, kind, state_key, content, txn })
}

/// A message of the agency to a user.
pub(crate) struct Notice {
    /// To whom.
    pub user: OwnedUserId,
    /// The type of the event.
    pub kind: String,
    /// Its state key, if it is state.
    pub state_key: Option<String>,
    /// Its content.
    pub content: Box<RawValue>,
    /// What makes a second request the same as the first.
    pub txn: Option<Txn>,
}

impl State {
    /// Sends a user of this server a notice: in the room that they have for it, to which they are invited if they are
    /// not in it. Refused if notices are off, and for users who are not there.
    pub(crate) async fn send_notice(self: &Arc<Self>, notice: Notice) -> Result<OwnedEventId, ApiError> {
        if !self.notices.enabled {
            return Err(ApiError::unknown("server notices are not enabled on this server"));
        }
        let state = self.clone();
        to_the_end(async move {
            let sender = state.notice_sender()?;
            if let Some(txn) = &notice.txn
                && let Some(event_id) = state.rooms.sent(&sender, txn)?
            {
                return Ok(event_id);
            }
            let user = &notice.user;
            if !state.accounts.is_local(user) {
                return Err(ApiError::invalid_param("notices are for users of this server"));
            }
            let is_there = state.accounts.user(user)?.is_some_and(|record| record.deactivated_at.is_none());
            if !is_there || *user == sender {
                return Err(ApiError::not_found("there is no such user"));
            }
            state.prepare_sender(&sender).await?;
            let room_id = state.notice_room(&sender, user).await?;
            state.admit(&sender, user, &room_id).await?;
            let Notice { kind, state_key, content, txn, .. } = notice;
            let draft = match state_key {
                Some(state_key) => Draft::state(sender, kind, state_key, content),
                None => Draft::message(sender, kind, content),
            };
            Ok(state.rooms.send(&room_id, draft, txn).await?)
        })
        .await
    }

    /// Who sends notices.
    fn notice_sender(&self) -> Result<OwnedUserId, ApiError> {
        Ok(self.accounts.user_id(&self.notices.localpart)?)
    }

    /// Makes the user who sends notices, if there is none yet, and lets it appear as the settings say.
    async fn prepare_sender(&self, sender: &UserId) -> Result<(), ApiError> {
        if self.accounts.user(sender)?.is_none() {
            let user = NewUser { user_id: sender.to_owned(), password: None, accepted_terms: false, admin: false };
            match self.accounts.create_user(user).await {
                Ok(()) | Err(AccountsError::UserInUse) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let fields = [
            ("displayname", Some(self.notices.display_name.as_str())),
            ("avatar_url", self.notices.avatar_url.as_deref()),
        ];
        for (field, value) in fields {
            let value = value.map(|value| json!(value).to_string());
            self.accounts.set_profile_field(sender, field, value.as_deref()).await?;
        }
        Ok(())
    }

    /// The room in which a user gets notices, made if there is none. It is theirs alone: of two that are made at the
    /// same time the first counts.
    async fn notice_room(&self, sender: &UserId, user: &UserId) -> Result<OwnedRoomId, ApiError> {
        for _ in 0..ATTEMPTS_MAX {
            let view = self.records.view();
            if let Some(room_id) = usable_room(&view, sender, user)? {
                drop(view);
                // The name and the picture may have changed since the last notice.
                self.rooms.change_membership(&room_id, sender, MembershipChange::ShowProfile, None, None).await?;
                return Ok(room_id);
            }
            let room_id = self.rooms.create(sender, self.new_room()?).await?;
            let mut changes = self.records.changes(&view);
            changes.put_notice_room(user, &room_id)?;
            match self.records.commit(changes).await {
                Ok(_) => return Ok(room_id),
                Err(CommitError::Conflict) => {
                    self.rooms.change_membership(&room_id, sender, MembershipChange::Leave, None, None).await?;
                }
                Err(error) => return Err(ApiError::internal(&error)),
            }
        }
        Err(ApiError::internal(&"the room of server notices is made again and again"))
    }

    fn new_room(&self) -> Result<CreateRoom, ApiError> {
        let object = |value: Value| value.as_object().cloned().unwrap_or_default();
        let state = |kind: &str, content: Value| {
            let content = to_raw_value(&content).map_err(|error| ApiError::internal(&error))?;
            Ok::<_, ApiError>(InitialState { kind: kind.to_owned(), state_key: String::new(), content })
        };
        let mut initial_state = vec![state("m.room.guest_access", json!({ "guest_access": "forbidden" }))?];
        if let Some(url) = &self.notices.room_avatar_url {
            initial_state.push(state("m.room.avatar", json!({ "url": url }))?);
        }
        Ok(CreateRoom {
            preset: Some(Preset::PrivateChat),
            name: Some(self.notices.room_name.clone()),
            topic: Some(self.notices.room_topic.clone()),
            creation_content: object(json!({ "m.federate": false })),
            initial_state,
            power_level_content_override: object(json!({ "events_default": SPEAKER_LEVEL, "invite": SPEAKER_LEVEL })),
            ..CreateRoom::default()
        })
    }

    /// Invites the user to their room if they are not in it, and tags it for them.
    async fn admit(&self, sender: &UserId, user: &UserId, room_id: &RoomId) -> Result<(), ApiError> {
        if !self.accounts.tags(user, room_id)?.contains_key(TAG) {
            self.accounts.set_tag(user, room_id, TAG, Some(JsonObject::new())).await?;
        }
        let view = self.records.view();
        let membership = match view.room_num(room_id)? {
            Some(num) => view.membership(user, num)?.map(|(_, record)| record.membership),
            None => None,
        };
        drop(view);
        if !matches!(membership, Some(Membership::Join | Membership::Invite)) {
            let change = MembershipChange::Invite { user: user.to_owned() };
            self.rooms.change_membership(room_id, sender, change, None, None).await?;
        }
        Ok(())
    }
}

/// The room that is known for a user, if it is still there with the sender in it.
fn usable_room(view: &View, sender: &UserId, user: &UserId) -> Result<Option<OwnedRoomId>, ApiError> {
    let Some(room_id) = view.notice_room(user)? else { return Ok(None) };
    let Some(num) = view.room_num(&room_id)? else { return Ok(None) };
    let membership = view.membership(sender, num)?;
    Ok(membership.is_some_and(|(_, record)| record.membership == Membership::Join).then_some(room_id))
}

#[cfg(test)]
mod tests {
    use crate::testing::{Server, User};
    use records::Membership;
    use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, owned_user_id};
    use serde_json::{Value, json};

    const PATH: &str = "/_synapse/admin/v1/send_server_notice";

    async fn scene() -> (Server, User, User) {
        let server = Server::with(|state| state.notices.enabled = true).await;
        let (admin, alice) = (server.admin("root").await, server.user("alice").await);
        (server, admin, alice)
    }

    fn hello(user: &User) -> Value {
        json!({ "user_id": user.id, "content": { "msgtype": "m.text", "body": "hello" } })
    }

    fn sender() -> OwnedUserId {
        owned_user_id!("@notices:example.org")
    }

    fn event(answer: &Value) -> OwnedEventId {
        answer["event_id"].as_str().unwrap().try_into().unwrap()
    }

    fn room_of(server: &Server, user: &User) -> OwnedRoomId {
        server.state.records.view().notice_room(&user.id).unwrap().unwrap()
    }

    fn membership(server: &Server, user: &User) -> Option<Membership> {
        let view = server.state.records.view();
        let num = view.room_num(&room_of(server, user)).unwrap().unwrap();
        view.membership(&user.id, num).unwrap().map(|(_, record)| record.membership)
    }

    #[tokio::test]
    async fn only_administrators_send_notices_and_only_where_they_are_enabled() {
        let (server, _, alice) = scene().await;
        server.post(PATH, None, &json!({})).await.refused(401, "M_MISSING_TOKEN");
        server.post(PATH, Some(&alice), &json!({})).await.refused(403, "M_FORBIDDEN");
        let server = Server::new().await;
        let (admin, alice) = (server.admin("root").await, server.user("alice").await);
        server.post(PATH, Some(&admin), &hello(&alice)).await.refused(400, "M_UNKNOWN");
        assert!(server.state.accounts.user(&sender()).unwrap().is_none());
    }

    #[tokio::test]
    async fn a_notice_invites_to_a_tagged_room_which_stays_the_same() {
        let (server, admin, alice) = scene().await;
        let first = event(&server.post(PATH, Some(&admin), &hello(&alice)).await.ok());
        let room = room_of(&server, &alice);
        assert_eq!(membership(&server, &alice), Some(Membership::Invite));
        assert!(server.state.accounts.tags(&alice.id, &room).unwrap().contains_key("m.server_notice"));
        let view = server.state.records.view();
        let reader = server.state.rooms.reader_by_id(&view, &room).unwrap().unwrap();
        let said = reader.event_by_id(&first).unwrap().unwrap();
        assert_eq!((said.pdu.sender(), said.pdu.kind_str()), (&*sender(), "m.room.message"));
        // The user reads the room and says nothing in it.
        assert!(!reader.power_levels().unwrap().can_send_message(&alice.id, &"m.room.message".into()));

        server.enter(&alice, &room).await;
        server.post(PATH, Some(&admin), &hello(&alice)).await.ok();
        assert_eq!(membership(&server, &alice), Some(Membership::Join));
        server.leave(&alice, &room).await;
        server.post(PATH, Some(&admin), &hello(&alice)).await.ok();
        assert_eq!((room_of(&server, &alice), membership(&server, &alice)), (room, Some(Membership::Invite)));
    }

    #[tokio::test]
    async fn notices_at_the_same_time_share_one_room() {
        let (server, admin, alice) = scene().await;
        let body = hello(&alice);
        let (one, two, three) = tokio::join!(
            server.post(PATH, Some(&admin), &body),
            server.post(PATH, Some(&admin), &body),
            server.post(PATH, Some(&admin), &body),
        );
        let room = room_of(&server, &alice);
        let view = server.state.records.view();
        let reader = server.state.rooms.reader_by_id(&view, &room).unwrap().unwrap();
        for answer in [one, two, three] {
            assert!(reader.event_by_id(&event(&answer.ok())).unwrap().is_some());
        }
        let sender = sender();
        let mut joined = view.memberships(&sender).unwrap();
        joined.retain(|(_, _, record)| record.membership == Membership::Join);
        assert_eq!(joined.len(), 1);
    }

    #[tokio::test]
    async fn a_transaction_id_is_one_notice_for_one_administrator() {
        let (server, admin, alice) = scene().await;
        let other = server.admin("other").await;
        let path = format!("{PATH}/1");
        let first = event(&server.put(&path, Some(&admin), &hello(&alice)).await.ok());
        assert_eq!(event(&server.put(&path, Some(&admin), &hello(&alice)).await.ok()), first);
        assert_ne!(event(&server.put(&path, Some(&other), &hello(&alice)).await.ok()), first);
    }

    #[tokio::test]
    async fn notices_are_for_users_who_are_there() {
        let (server, admin, _) = scene().await;
        for (user, status, code) in
            [("@a:elsewhere.org", 400, "M_INVALID_PARAM"), ("@nobody:example.org", 404, "M_NOT_FOUND")]
        {
            let body = json!({ "user_id": user, "content": {} });
            server.post(PATH, Some(&admin), &body).await.refused(status, code);
        }
        let body = json!({ "user_id": admin.id, "content": "text" });
        server.post(PATH, Some(&admin), &body).await.refused(400, "M_BAD_JSON");
    }
}
