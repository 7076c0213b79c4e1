//! A server in memory for the tests of endpoints: the real router over the memory engine, with a clock that the
//! test turns.

use crate::{Config, Delayed, Interactive, Limits, Nonces, RateLimits, State, router};
use accounts::{Accounts, RegistrationMode};
use axum::Router;
use axum::body::Body;
use base::config::ByteSize;
use base::{FakeClock, Secret, SeededRandom, UnixMillis};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use records::Records;
use ruma::{OwnedUserId, owned_server_name};
use serde_json::{Value, json};
use std::sync::Arc;
use store::MemoryEngine;
use tower::ServiceExt as _;

/// The password of every user that [`Server::user`] makes.
pub(crate) const PASSWORD: &str = "correct horse";

/// A server of the name `example.org`, with open registration and no rate limits unless told otherwise.
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
    pub headers: HeaderMap,
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
        Self::with(|_, _| {}).await
    }

    /// A server whose settings are changed first.
    pub async fn with(change: impl FnOnce(&mut Config, &mut accounts::Config)) -> Self {
        Self::with_all(None, |config, accounts_config, _, _| change(config, accounts_config)).await
    }

    /// A server that sends mails, whose settings of accounts are changed first.
    pub async fn with_mail(mail: crate::Mail, change: impl FnOnce(&mut accounts::Config)) -> Self {
        Self::with_all(Some(mail), |_, accounts_config, _, _| change(accounts_config)).await
    }

    /// A server whose settings of sync are changed first.
    pub async fn with_sync(change: impl FnOnce(&mut ::sync::Config)) -> Self {
        Self::with_all(None, |_, _, sync_config, _| change(sync_config)).await
    }

    /// A server whose settings of files are changed first.
    pub async fn with_media(change: impl FnOnce(&mut ::media::Config)) -> Self {
        Self::with_all(None, |_, _, _, media_config| change(media_config)).await
    }

    async fn with_all(
        mail: Option<crate::Mail>,
        change: impl FnOnce(&mut Config, &mut accounts::Config, &mut ::sync::Config, &mut ::media::Config),
    ) -> Self {
        let mut config = Config { limits: Limits { enabled: false, ..Limits::default() }, ..Config::default() };
        let mut accounts_config = accounts::Config::default();
        accounts_config.registration.mode = RegistrationMode::Open;
        accounts_config.password.argon2_memory = ByteSize::kib(8);
        accounts_config.password.argon2_passes = 1;
        let mut sync_config = ::sync::Config::default();
        let mut media_config = ::media::Config::default();
        change(&mut config, &mut accounts_config, &mut sync_config, &mut media_config);
        let server_name = owned_server_name!("example.org");
        let clock = Arc::new(FakeClock::new(UnixMillis(1_700_000_000_000)));
        let random = Arc::new(SeededRandom::new(1));
        let records = Records::open(Arc::new(MemoryEngine::new())).await.unwrap();
        let accounts =
            Accounts::open(records.clone(), server_name.clone(), clock.clone(), random.clone(), accounts_config)
                .unwrap();
        let key = rules::SigningKey::generate(server_name.clone(), "1", Secret::new([7; 32])).unwrap();
        let key = Arc::new(key);
        let rooms = ::rooms::Rooms::new(
            records.clone(),
            key.clone(),
            clock.clone(),
            random.clone(),
            ::rooms::Config::default(),
        );
        let devices = ::devices::Devices::new(records.clone(), server_name.clone(), clock.clone());
        let syncs = ::sync::Syncs::new(records.clone(), rooms.clone(), clock.clone(), sync_config);
        let federation = ::federation::Federation::new(::federation::Parts {
            records: records.clone(),
            rooms: rooms.clone(),
            devices: devices.clone(),
            key,
            clock: clock.clone(),
            random: random.clone(),
            peers: Arc::new(::federation::NoPeers),
            keys: Arc::new(::federation::NoPeers),
        });
        let media = ::media::Media::new(
            records.clone(),
            ::media::Blobs::in_memory(),
            server_name.clone(),
            clock.clone(),
            random.clone(),
            media_config,
        );
        let search = ::search::Search::new(
            records.clone(),
            rooms.clone(),
            clock.clone(),
            None,
            ::search::Writers::default(),
            ::search::Config::default(),
        );
        let state = Arc::new(State {
            server_name,
            records,
            accounts,
            devices,
            media,
            rooms,
            federation,
            search,
            syncs,
            mail,
            gateways: delivery::GatewayRules::default(),
            clock: clock.clone(),
            random,
            limits: RateLimits::new(&config.limits, clock.clone()),
            config,
            interactive: Interactive::default(),
            nonces: Nonces::default(),
            delayed: Delayed::default(),
        });
        Self { router: router(state.clone()), state, clock }
    }

    /// The templates of the paths of all endpoints. A router tells them only to those who debug it.
    pub fn paths(&self) -> Vec<String> {
        let shown = format!("{:?}", self.router);
        let texts = shown.split('"').filter(|text| text.starts_with("/_matrix/")).map(str::to_owned);
        texts.collect::<std::collections::BTreeSet<_>>().into_iter().collect()
    }

    /// Sends a request with these bytes as its body.
    pub async fn send(&self, method: Method, path: &str, token: Option<&str>, body: impl Into<Body>) -> Answer {
        let mut request = Request::builder().method(method).uri(path).header(CONTENT_TYPE, "application/json");
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        self.answer(request.body(body.into()).unwrap()).await
    }

    /// The response to any request, as it comes.
    pub async fn respond(&self, request: Request<Body>) -> Response<Body> {
        self.router.clone().oneshot(request).await.unwrap()
    }

    /// What is answered to any request.
    pub async fn answer(&self, request: Request<Body>) -> Answer {
        let response = self.respond(request).await;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let is_page = parts.headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
        let body = match body.is_empty() {
            true => Value::Null,
            false if is_page => Value::String(String::from_utf8(body.to_vec()).unwrap()),
            false => serde_json::from_slice(&body).unwrap(),
        };
        Answer { status: parts.status, headers: parts.headers, body }
    }

    pub async fn get(&self, path: &str, token: Option<&str>) -> Answer {
        self.send(Method::GET, path, token, Body::empty()).await
    }

    pub async fn post(&self, path: &str, token: Option<&str>, body: &Value) -> Answer {
        self.send(Method::POST, path, token, body.to_string()).await
    }

    pub async fn put(&self, path: &str, token: Option<&str>, body: &Value) -> Answer {
        self.send(Method::PUT, path, token, body.to_string()).await
    }

    pub async fn delete(&self, path: &str, token: Option<&str>, body: &Value) -> Answer {
        self.send(Method::DELETE, path, token, body.to_string()).await
    }

    /// Registers a user.
    pub async fn user(&self, name: &str) -> User {
        let body = json!({ "username": name, "password": PASSWORD, "auth": { "type": "m.login.dummy" } });
        User::of(&self.post("/_matrix/client/v3/register", None, &body).await.ok())
    }

    /// Logs a user in once more.
    pub async fn log_in(&self, name: &str) -> User {
        let body = json!({
            "type": "m.login.password",
            "identifier": { "type": "m.id.user", "user": name },
            "password": PASSWORD,
        });
        User::of(&self.post("/_matrix/client/v3/login", None, &body).await.ok())
    }
}

impl User {
    /// The user whom an answer of login or registration is about.
    pub fn of(answer: &Value) -> Self {
        let text = |key: &str| answer[key].as_str().unwrap().to_owned();
        Self { id: text("user_id").try_into().unwrap(), token: text("access_token"), device: text("device_id") }
    }
}
