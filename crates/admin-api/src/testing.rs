//! A server in memory for the tests of endpoints: the real router over the memory engine, with a clock that the
//! test turns.

use crate::{Index, Jobs, NoticesConfig, Searches, State, router};
use accounts::{Accounts, NewSession, NewUser};
use axum::Router;
use axum::body::Body;
use base::config::ByteSize;
use base::{FakeClock, Secret, SeededRandom, UnixMillis};
use bytes::Bytes;
use futures::StreamExt as _;
use http::header::AUTHORIZATION;
use http::{Method, Request, StatusCode};
use media::{Blobs, Media};
use records::Records;
use rooms::{CreateRoom, Draft, MembershipChange, Preset, Rooms};
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, owned_server_name};
use serde_json::value::to_raw_value;
use serde_json::{Value, json};
use std::sync::Arc;
use store::MemoryEngine;
use tower::ServiceExt as _;

/// The password of every user.
pub(crate) const PASSWORD: &str = "correct horse";

/// A server of the name `example.org`.
pub(crate) struct Server {
    pub state: Arc<State>,
    pub clock: Arc<FakeClock>,
    router: Router,
}

/// A user who is logged in.
#[derive(Clone, Debug)]
pub(crate) struct User {
    pub id: OwnedUserId,
    pub token: String,
    pub device: String,
}

/// What the server answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub status: StatusCode,
    pub body: Value,
}

impl Answer {
    /// The body of an answer that must be 200.
    #[track_caller]
    pub fn ok(self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{}", self.body);
        self.body
    }

    /// Checks that the answer is an error with this status and code.
    #[track_caller]
    pub fn refused(&self, status: u16, errcode: &str) {
        let found = (self.status.as_u16(), self.body.get("errcode").and_then(Value::as_str));
        assert_eq!(found, (status, Some(errcode)), "{}", self.body);
    }
}

impl Server {
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// A server whose state is changed first.
    pub async fn with(change: impl FnOnce(&mut State)) -> Self {
        let server_name = owned_server_name!("example.org");
        let clock = Arc::new(FakeClock::new(UnixMillis(1_700_000_000_000)));
        let random = Arc::new(SeededRandom::new(1));
        let records = Records::open(Arc::new(MemoryEngine::new())).await.unwrap();
        let mut config = accounts::Config::default();
        config.password.argon2_memory = ByteSize::kib(8);
        config.password.argon2_passes = 1;
        let accounts =
            Accounts::open(records.clone(), server_name.clone(), clock.clone(), random.clone(), config).unwrap();
        let key = rules::SigningKey::generate(server_name.clone(), "1", Secret::new([7; 32])).unwrap();
        let rooms = Rooms::new(records.clone(), Arc::new(key), clock.clone(), random.clone(), rooms::Config::default());
        let media = Media::new(
            records.clone(),
            Blobs::in_memory(),
            server_name.clone(),
            clock.clone(),
            random.clone(),
            media::Config::default(),
        );
        let mut state = State {
            media,
            server_name,
            records,
            accounts,
            rooms,
            clock: clock.clone(),
            random,
            notices: NoticesConfig::default(),
            searches: Searches::default(),
            jobs: Jobs::default(),
            index: Index::default(),
        };
        change(&mut state);
        let state = Arc::new(state);
        Self { router: router(state.clone()), state, clock }
    }

    pub async fn send(&self, method: Method, path: &str, user: Option<&User>, body: String) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(user) = user {
            request = request.header(AUTHORIZATION, format!("Bearer {}", user.token));
        }
        let response = self.router.clone().oneshot(request.body(Body::from(body)).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let body: Vec<Bytes> = body.into_data_stream().map(Result::unwrap).collect().await;
        let body = body.concat();
        let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() };
        Answer { status: parts.status, body }
    }

    pub async fn get(&self, path: &str, user: Option<&User>) -> Answer {
        self.send(Method::GET, path, user, String::new()).await
    }

    pub async fn post(&self, path: &str, user: Option<&User>, body: &Value) -> Answer {
        self.send(Method::POST, path, user, body.to_string()).await
    }

    pub async fn put(&self, path: &str, user: Option<&User>, body: &Value) -> Answer {
        self.send(Method::PUT, path, user, body.to_string()).await
    }

    pub async fn delete(&self, path: &str, user: Option<&User>, body: &Value) -> Answer {
        self.send(Method::DELETE, path, user, body.to_string()).await
    }

    /// Asks again, on paused time, until the answer is so.
    pub async fn until(&self, path: &str, user: &User, is_so: impl Fn(&Value) -> bool) -> Value {
        for _ in 0..1000 {
            let answer = self.get(path, Some(user)).await.ok();
            if is_so(&answer) {
                return answer;
            }
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        }
        panic!("{path} does not come to that")
    }

    /// Makes a user, and logs them in.
    pub async fn user(&self, name: &str) -> User {
        self.make(name, false).await
    }

    /// Makes an administrator, and logs them in.
    pub async fn admin(&self, name: &str) -> User {
        self.make(name, true).await
    }

    async fn make(&self, name: &str, admin: bool) -> User {
        let id = self.state.accounts.available(name).unwrap();
        let password = Some(Secret::new(PASSWORD.to_owned()));
        let user = NewUser { user_id: id.clone(), password, accepted_terms: false, admin };
        self.state.accounts.create_user(user).await.unwrap();
        let login = self.state.accounts.begin_session(&id, NewSession::default()).await.unwrap();
        User { id, token: login.access_token, device: login.device_id.to_string() }
    }

    /// A public room of a user.
    pub async fn room(&self, creator: &User) -> OwnedRoomId {
        let request = CreateRoom { preset: Some(Preset::PublicChat), ..CreateRoom::default() };
        self.state.rooms.create(&creator.id, request).await.unwrap()
    }

    pub async fn enter(&self, user: &User, room: &RoomId) {
        self.state.rooms.change_membership(room, &user.id, MembershipChange::Join, None, None).await.unwrap();
    }

    pub async fn leave(&self, user: &User, room: &RoomId) {
        self.state.rooms.change_membership(room, &user.id, MembershipChange::Leave, None, None).await.unwrap();
    }

    /// Says something in a room.
    pub async fn say(&self, user: &User, room: &RoomId, text: &str) -> OwnedEventId {
        let content = to_raw_value(&json!({ "msgtype": "m.text", "body": text })).unwrap();
        let draft = Draft::message(user.id.clone(), "m.room.message", content);
        self.state.rooms.send(room, draft, None).await.unwrap()
    }
}
