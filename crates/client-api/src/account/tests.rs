//! The endpoints of accounts, through the real router.

use crate::ClientAddress;
use crate::testing::{Answer, PASSWORD, Server, User};
use accounts::{Config, NewUser, RegistrationMode, Terms};
use axum::body::Body;
use base::Secret;
use http::{Method, Request, StatusCode};
use records::Membership;
use serde_json::{Value, json};
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;
use tower::ServiceExt as _;

const REGISTER: &str = "/_matrix/client/v3/register";
const LOGIN: &str = "/_matrix/client/v3/login";
const REFRESH: &str = "/_matrix/client/v3/refresh";
const WHOAMI: &str = "/_matrix/client/v3/account/whoami";
const DEVICES: &str = "/_matrix/client/v3/devices";
const CHANGE_PASSWORD: &str = "/_matrix/client/v3/account/password";
const DEACTIVATE: &str = "/_matrix/client/v3/account/deactivate";

fn login(name: &str, password: &str) -> Value {
    json!({ "type": "m.login.password", "identifier": { "type": "m.id.user", "user": name }, "password": password })
}

fn password_of(user: &User, session: Option<&Value>) -> Value {
    let mut auth = json!({
        "type": "m.login.password",
        "identifier": { "type": "m.id.user", "user": user.id },
        "password": PASSWORD,
    });
    if let Some(session) = session {
        auth["session"] = session.clone();
    }
    auth
}

fn with(mut body: Value, auth: &Value) -> Value {
    body["auth"] = auth.clone();
    body
}

impl Server {
    /// A user whom the operator has made, where nobody can register without more.
    async fn user_by_operator(&self, name: &str) -> User {
        let user_id = self.state.accounts.available(name).unwrap();
        let password = Some(Secret::new(PASSWORD.to_owned()));
        self.state
            .accounts
            .create_user(NewUser { user_id, password, accepted_terms: false, admin: false })
            .await
            .unwrap();
        self.log_in(name).await
    }

    async fn is_logged_in(&self, user: &User) -> bool {
        self.get(WHOAMI, Some(&user.token)).await.status == StatusCode::OK
    }
}

/// Sends a request and hangs up as soon as something is stored.
async fn hang_up(request: impl Future<Output = Answer>, stored: impl Fn() -> bool) {
    let mut request = Box::pin(request);
    while !stored() {
        let pending = poll_fn(|context| Poll::Ready(request.as_mut().poll(context).is_pending())).await;
        assert!(pending, "the request was done before the client hung up");
        tokio::task::yield_now().await;
    }
}

/// Whether something comes to hold while other tasks go on.
async fn in_the_end(holds: impl AsyncFn() -> bool) -> bool {
    for _ in 0..1000 {
        if holds().await {
            return true;
        }
        tokio::task::yield_now().await;
    }
    false
}

#[tokio::test]
async fn registration_asks_for_a_stage_first_and_then_logs_in() {
    let server = Server::new().await;
    let body = json!({ "username": "alice", "password": PASSWORD, "initial_device_display_name": "Phone" });
    let challenge = server.post(REGISTER, None, &body).await;
    assert_eq!(challenge.status, StatusCode::UNAUTHORIZED);
    assert_eq!(challenge.body["flows"], json!([{ "stages": ["m.login.dummy"] }]));
    assert_eq!(challenge.body.get("errcode"), None);
    let auth = json!({ "type": "m.login.dummy", "session": challenge.body["session"] });
    let user = User::of(&server.post(REGISTER, None, &with(body, &auth)).await.ok());
    assert_eq!(user.id, "@alice:example.org");
    let whoami = server.get(WHOAMI, Some(&user.token)).await.ok();
    assert_eq!(whoami, json!({ "user_id": "@alice:example.org", "device_id": user.device, "is_guest": false }));
    let device = server.get(&format!("{DEVICES}/{}", user.device), Some(&user.token)).await.ok();
    assert_eq!(device["display_name"], "Phone");
}

#[tokio::test]
async fn registration_asks_for_a_stage_even_of_an_empty_request() {
    let server = Server::new().await;
    let answer = server.send(Method::POST, REGISTER, None, "").await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert!(answer.body["session"].is_string());
    let auth = json!({ "auth": { "type": "m.login.dummy" } });
    server.post(REGISTER, None, &auth).await.refused(400, "M_MISSING_PARAM");
}

#[tokio::test]
async fn registration_refuses_bad_names_and_passwords_before_it_asks_for_anything() {
    let server = Server::new().await;
    server.user("alice").await;
    let long = "a".repeat(300);
    for (name, password, code) in [
        ("alice", PASSWORD, "M_USER_IN_USE"),
        ("ALICE", PASSWORD, "M_USER_IN_USE"),
        ("@alice:example.org", PASSWORD, "M_USER_IN_USE"),
        ("älice", PASSWORD, "M_INVALID_USERNAME"),
        ("", PASSWORD, "M_INVALID_USERNAME"),
        ("@bob:elsewhere.org", PASSWORD, "M_INVALID_USERNAME"),
        (long.as_str(), PASSWORD, "M_INVALID_USERNAME"),
        ("bob", "short", "M_WEAK_PASSWORD"),
    ] {
        let body = json!({ "username": name, "password": password });
        server.post(REGISTER, None, &body).await.refused(400, code);
    }
}

#[tokio::test]
async fn registration_makes_up_a_name_and_inhibits_login() {
    let server = Server::new().await;
    let body = json!({ "password": PASSWORD, "inhibit_login": true, "auth": { "type": "m.login.dummy" } });
    let answer = server.post(REGISTER, None, &body).await.ok();
    assert_eq!(answer.as_object().unwrap().len(), 1);
    let name = answer["user_id"].as_str().unwrap();
    server.post(LOGIN, None, &login(name, PASSWORD)).await.ok();
}

#[tokio::test]
async fn guests_and_application_services_cannot_register() {
    let server = Server::new().await;
    server.post(&format!("{REGISTER}?kind=guest"), None, &json!({})).await.refused(403, "M_GUEST_ACCESS_FORBIDDEN");
    server.post(&format!("{REGISTER}?kind=king"), None, &json!({})).await.refused(400, "M_INVALID_PARAM");
    let body = json!({ "type": "m.login.application_service", "username": "bot" });
    server.post(REGISTER, None, &body).await.refused(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn closed_registration_tells_nothing() {
    let server = Server::with(|_, accounts| accounts.registration.mode = RegistrationMode::Closed).await;
    server.post(REGISTER, None, &json!({ "username": "alice" })).await.refused(403, "M_FORBIDDEN");
    server.get(&format!("{REGISTER}/available?username=alice"), None).await.refused(403, "M_FORBIDDEN");
    let validity = "/_matrix/client/v1/register/m.login.registration_token/validity?token=x";
    server.get(validity, None).await.refused(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn names_are_said_to_be_available_or_why_not() {
    let server = Server::new().await;
    server.user("alice").await;
    let ask = async |query: &str| server.get(&format!("{REGISTER}/available{query}"), None).await;
    assert_eq!(ask("?username=bob").await.ok(), json!({ "available": true }));
    ask("?username=alice").await.refused(400, "M_USER_IN_USE");
    ask("?username=b%C3%B6b").await.refused(400, "M_INVALID_USERNAME");
    ask("").await.refused(400, "M_MISSING_PARAM");
}

fn token_and_terms(accounts: &mut Config) {
    accounts.registration.mode = RegistrationMode::Token;
    accounts.registration.tokens = vec![Secret::new("let-me-in".to_owned()), Secret::new("other".to_owned())];
    accounts.registration.terms = ["en", "de"]
        .map(|language| Terms {
            policy: "privacy".to_owned(),
            version: "1.0".to_owned(),
            language: language.to_owned(),
            name: format!("Privacy {language}"),
            url: format!("https://example.org/{language}"),
        })
        .to_vec();
}

#[tokio::test]
async fn the_stages_of_a_registration_go_in_order_and_the_terms_are_noted() {
    let server = Server::with(|_, accounts| token_and_terms(accounts)).await;
    let body = json!({ "username": "alice", "password": PASSWORD });
    let challenge = server.post(REGISTER, None, &body).await;
    assert_eq!(challenge.body["flows"], json!([{ "stages": ["m.login.registration_token", "m.login.terms"] }]));
    assert_eq!(
        challenge.body["params"]["m.login.terms"]["policies"],
        json!({ "privacy": {
            "version": "1.0",
            "en": { "name": "Privacy en", "url": "https://example.org/en" },
            "de": { "name": "Privacy de", "url": "https://example.org/de" },
        } })
    );
    let session = &challenge.body["session"];
    let stage = async |auth: Value| {
        let mut auth = auth;
        auth["session"] = session.clone();
        server.post(REGISTER, None, &with(body.clone(), &auth)).await
    };
    let early = stage(json!({ "type": "m.login.terms" })).await;
    early.refused(401, "M_FORBIDDEN");
    assert_eq!(early.body.get("completed"), None);
    let wrong = stage(json!({ "type": "m.login.registration_token", "token": "guess" })).await;
    wrong.refused(401, "M_UNAUTHORIZED");
    let right = stage(json!({ "type": "m.login.registration_token", "token": "let-me-in" })).await;
    assert_eq!(right.status, StatusCode::UNAUTHORIZED);
    assert_eq!(right.body["completed"], json!(["m.login.registration_token"]));
    assert_eq!(right.body.get("errcode"), None);
    let again = stage(json!({ "type": "m.login.registration_token", "token": "guess" })).await;
    assert_eq!(again.body["completed"], json!(["m.login.registration_token"]));
    assert_eq!(again.body.get("errcode"), None);
    let asked = stage(json!({})).await;
    assert_eq!(asked.body["completed"], json!(["m.login.registration_token"]));
    let user = User::of(&stage(json!({ "type": "m.login.terms" })).await.ok());
    let record = server.state.accounts.user(&user.id).unwrap().unwrap();
    let accepted: Vec<_> = record.terms.iter().map(|terms| (terms.policy.as_str(), terms.version.as_str())).collect();
    assert_eq!(accepted, [("privacy", "1.0")]);
}

#[tokio::test]
async fn registration_tokens_can_be_tried_before_they_are_used() {
    let server = Server::with(|_, accounts| token_and_terms(accounts)).await;
    let path = "/_matrix/client/v1/register/m.login.registration_token/validity";
    assert_eq!(server.get(&format!("{path}?token=other"), None).await.ok(), json!({ "valid": true }));
    assert_eq!(server.get(&format!("{path}?token=let-me"), None).await.ok(), json!({ "valid": false }));
    server.get(path, None).await.refused(400, "M_MISSING_PARAM");
}

#[tokio::test]
async fn an_authentication_is_good_for_its_endpoint_only_and_not_for_long() {
    let server = Server::with(|_, accounts| token_and_terms(accounts)).await;
    let body = json!({ "username": "alice", "password": PASSWORD });
    let session = server.post(REGISTER, None, &body).await.body["session"].clone();
    let auth = json!({ "type": "m.login.registration_token", "token": "other", "session": session });
    let user = server.user_by_operator("bob").await;
    let elsewhere = with(json!({ "new_password": "battery staple" }), &auth);
    server.post(CHANGE_PASSWORD, Some(&user.token), &elsewhere).await.refused(403, "M_FORBIDDEN");
    server.clock.advance(Duration::from_mins(31));
    let late = server.post(REGISTER, None, &with(body.clone(), &auth)).await;
    late.refused(401, "M_UNKNOWN");
    assert_ne!(late.body["session"], session);
    let auth = json!({ "type": "m.login.registration_token", "token": "other", "session": "none" });
    server.post(REGISTER, None, &with(body, &auth)).await.refused(401, "M_UNKNOWN");
}

#[tokio::test]
async fn login_takes_a_localpart_or_an_id_in_every_form_that_clients_use() {
    let server = Server::new().await;
    server.user("alice").await;
    assert_eq!(server.get(LOGIN, None).await.ok(), json!({ "flows": [{ "type": "m.login.password" }] }));
    for body in [
        login("alice", PASSWORD),
        login("Alice", PASSWORD),
        login("@alice:example.org", PASSWORD),
        json!({ "type": "m.login.password", "user": "alice", "password": PASSWORD }),
        json!({ "type": "m.login.password", "user": "alice", "password": PASSWORD, "device_id": null }),
    ] {
        let user = User::of(&server.post(LOGIN, None, &body).await.ok());
        assert!(server.is_logged_in(&user).await);
    }
    let r0 = server.post("/_matrix/client/r0/login", None, &login("alice", PASSWORD)).await.ok();
    assert_eq!(r0["user_id"], "@alice:example.org");
    assert_eq!(r0.get("refresh_token"), None);
    assert_eq!(r0.get("expires_in_ms"), None);
}

#[tokio::test]
async fn login_refuses_what_it_must() {
    let server = Server::new().await;
    server.user("alice").await;
    let third_party = json!({
        "type": "m.login.password",
        "identifier": { "type": "m.id.thirdparty", "medium": "email", "address": "a@example.org" },
        "password": PASSWORD,
    });
    for (body, status, code) in [
        (login("alice", "wrong horse"), 403, "M_FORBIDDEN"),
        (login("nobody", PASSWORD), 403, "M_FORBIDDEN"),
        (login("not a name", PASSWORD), 403, "M_FORBIDDEN"),
        (login("@alice:elsewhere.org", PASSWORD), 403, "M_FORBIDDEN"),
        (third_party, 403, "M_FORBIDDEN"),
        (
            json!({ "type": "m.login.password", "medium": "email", "address": "a@b", "password": "x" }),
            403,
            "M_FORBIDDEN",
        ),
        (json!({ "type": "m.login.token", "token": "x" }), 400, "M_UNKNOWN"),
        (json!({ "type": "m.login.password", "user": "alice" }), 400, "M_MISSING_PARAM"),
        (json!({ "type": "m.login.password", "password": "x" }), 400, "M_MISSING_PARAM"),
        (json!({ "user": "alice", "password": PASSWORD }), 400, "M_BAD_JSON"),
        (json!({ "type": 5 }), 400, "M_BAD_JSON"),
        (json!([]), 400, "M_BAD_JSON"),
    ] {
        server.post(LOGIN, None, &body).await.refused(status, code);
    }
    server.send(Method::POST, LOGIN, None, "{\"type\":").await.refused(400, "M_NOT_JSON");
    server.send(Method::POST, LOGIN, None, vec![0xff, 0xfe]).await.refused(400, "M_NOT_JSON");
    server.send(Method::POST, LOGIN, None, "[".repeat(200)).await.refused(400, "M_BAD_JSON");
    server.send(Method::POST, LOGIN, None, " ".repeat(2 << 20)).await.refused(413, "M_TOO_LARGE");
}

#[tokio::test]
async fn logging_in_to_a_device_again_voids_its_old_token_and_keeps_its_name() {
    let server = Server::new().await;
    server.user("alice").await;
    let mut body = login("alice", PASSWORD);
    body["device_id"] = json!("PHONE");
    body["initial_device_display_name"] = json!("Phone");
    let first = User::of(&server.post(LOGIN, None, &body).await.ok());
    assert!(server.is_logged_in(&first).await);
    body["initial_device_display_name"] = json!("Another name");
    let second = User::of(&server.post(LOGIN, None, &body).await.ok());
    assert_eq!(second.device, "PHONE");
    server.get(WHOAMI, Some(&first.token)).await.refused(401, "M_UNKNOWN_TOKEN");
    let device = server.get(&format!("{DEVICES}/PHONE"), Some(&second.token)).await.ok();
    assert_eq!(device["display_name"], "Phone");
    body["device_id"] = json!("x".repeat(256));
    server.post(LOGIN, None, &body).await.refused(413, "M_TOO_LARGE");
}

#[tokio::test]
async fn a_token_is_needed_and_comes_in_the_query_only_where_that_is_allowed() {
    let server = Server::new().await;
    let user = server.user("alice").await;
    server.get(WHOAMI, None).await.refused(401, "M_MISSING_TOKEN");
    let unknown = server.get(WHOAMI, Some("cha_nothing")).await;
    unknown.refused(401, "M_UNKNOWN_TOKEN");
    assert_eq!(unknown.body["soft_logout"], false);
    let in_query = |user: &User| format!("{WHOAMI}?access_token={}", user.token);
    server.get(&in_query(&user), None).await.refused(401, "M_MISSING_TOKEN");
    let server = Server::with(|config, _| config.access_token_in_query = true).await;
    let user = server.user("alice").await;
    server.get(&in_query(&user), None).await.ok();
}

#[tokio::test]
async fn logout_ends_a_session_with_its_device_and_logout_all_ends_all() {
    let server = Server::new().await;
    let one = server.user("alice").await;
    let [two, three] = [server.log_in("alice").await, server.log_in("alice").await];
    let bob = server.user("bob").await;
    assert!(server.is_logged_in(&two).await);
    server.post("/_matrix/client/v3/logout", Some(&two.token), &json!({})).await.ok();
    server.get(WHOAMI, Some(&two.token)).await.refused(401, "M_UNKNOWN_TOKEN");
    server.get(&format!("{DEVICES}/{}", two.device), Some(&one.token)).await.refused(404, "M_NOT_FOUND");
    assert!(server.is_logged_in(&three).await);
    server.send(Method::POST, "/_matrix/client/v3/logout/all", Some(&three.token), "").await.ok();
    for user in [&one, &three] {
        server.get(WHOAMI, Some(&user.token)).await.refused(401, "M_UNKNOWN_TOKEN");
    }
    assert!(server.is_logged_in(&bob).await);
}

struct Tokens {
    access: String,
    refresh: String,
}

impl Tokens {
    fn of(answer: &Value) -> Self {
        let text = |key: &str| answer[key].as_str().unwrap().to_owned();
        Self { access: text("access_token"), refresh: text("refresh_token") }
    }
}

impl Server {
    async fn log_in_refreshable(&self) -> Tokens {
        let mut body = login("alice", PASSWORD);
        body["refresh_token"] = json!(true);
        let answer = self.post(LOGIN, None, &body).await.ok();
        assert_eq!(answer["expires_in_ms"], 3_600_000);
        Tokens::of(&answer)
    }

    async fn refresh(&self, token: &str) -> Answer {
        self.post(REFRESH, None, &json!({ "refresh_token": token })).await
    }
}

#[tokio::test]
async fn a_refreshed_access_token_expires_softly_and_is_refreshed() {
    let server = Server::new().await;
    server.user("alice").await;
    let first = server.log_in_refreshable().await;
    let before = server.get(WHOAMI, Some(&first.access)).await.ok();
    server.clock.advance(Duration::from_mins(61));
    let expired = server.get(WHOAMI, Some(&first.access)).await;
    expired.refused(401, "M_UNKNOWN_TOKEN");
    assert_eq!(expired.body["soft_logout"], true);
    let second = Tokens::of(&server.refresh(&first.refresh).await.ok());
    assert_eq!(server.get(WHOAMI, Some(&second.access)).await.ok(), before);
}

#[tokio::test]
async fn an_old_refresh_token_lives_until_a_new_token_is_used() {
    let server = Server::new().await;
    server.user("alice").await;
    let first = server.log_in_refreshable().await;
    server.get(WHOAMI, Some(&first.access)).await.ok();
    // The answer got lost: the client asks again, and what it never saw is void.
    let lost = Tokens::of(&server.refresh(&first.refresh).await.ok());
    server.get(WHOAMI, Some(&first.access)).await.ok();
    let second = Tokens::of(&server.refresh(&first.refresh).await.ok());
    server.get(WHOAMI, Some(&lost.access)).await.refused(401, "M_UNKNOWN_TOKEN");
    server.refresh(&lost.refresh).await.refused(401, "M_UNKNOWN_TOKEN");
    // The new access token is used: the old tokens are retired.
    server.get(WHOAMI, Some(&second.access)).await.ok();
    server.get(WHOAMI, Some(&first.access)).await.refused(401, "M_UNKNOWN_TOKEN");
    server.refresh(&first.refresh).await.refused(401, "M_UNKNOWN_TOKEN");
    // The new refresh token is used without the access token: the same.
    let third = Tokens::of(&server.refresh(&second.refresh).await.ok());
    let fourth = Tokens::of(&server.refresh(&third.refresh).await.ok());
    server.refresh(&second.refresh).await.refused(401, "M_UNKNOWN_TOKEN");
    server.get(WHOAMI, Some(&second.access)).await.refused(401, "M_UNKNOWN_TOKEN");
    server.get(WHOAMI, Some(&fourth.access)).await.ok();
    // Logging out ends them all.
    server.post("/_matrix/client/v3/logout", Some(&fourth.access), &json!({})).await.ok();
    server.refresh(&fourth.refresh).await.refused(401, "M_UNKNOWN_TOKEN");
}

#[tokio::test]
async fn a_refresh_token_that_lay_unused_for_too_long_asks_for_a_new_login() {
    let server = Server::with(|_, accounts| {
        accounts.sessions.refresh_token_lifetime = Some(Duration::from_hours(24));
        accounts.sessions.unrefreshable_lifetime = Some(Duration::from_hours(12));
    })
    .await;
    let plain = server.user("alice").await;
    let tokens = server.log_in_refreshable().await;
    server.clock.advance(Duration::from_hours(13));
    assert_eq!(server.get(WHOAMI, Some(&plain.token)).await.body["soft_logout"], true);
    server.clock.advance(Duration::from_hours(12));
    let late = server.refresh(&tokens.refresh).await;
    late.refused(401, "M_UNKNOWN_TOKEN");
    assert_eq!(late.body["soft_logout"], true);
}

#[tokio::test]
async fn a_new_password_ends_other_sessions_unless_asked_not_to() {
    let server = Server::new().await;
    let one = server.user("alice").await;
    let two = server.log_in("alice").await;
    let body = json!({ "new_password": "battery staple", "logout_devices": false });
    let challenge = server.post(CHANGE_PASSWORD, Some(&one.token), &body).await;
    assert_eq!(challenge.status, StatusCode::UNAUTHORIZED);
    assert_eq!(challenge.body["flows"], json!([{ "stages": ["m.login.password"] }]));
    let auth = password_of(&one, Some(&challenge.body["session"]));
    server.post(CHANGE_PASSWORD, Some(&one.token), &with(body, &auth)).await.ok();
    server.post(LOGIN, None, &login("alice", PASSWORD)).await.refused(403, "M_FORBIDDEN");
    let three = User::of(&server.post(LOGIN, None, &login("alice", "battery staple")).await.ok());
    for user in [&one, &two, &three] {
        assert!(server.is_logged_in(user).await);
    }
    let mut auth = password_of(&one, None);
    auth["password"] = json!("battery staple");
    let body = with(json!({ "new_password": PASSWORD }), &auth);
    server.post(CHANGE_PASSWORD, Some(&one.token), &body).await.ok();
    assert!(server.is_logged_in(&one).await);
    assert!(!server.is_logged_in(&two).await);
    assert!(!server.is_logged_in(&three).await);
}

#[tokio::test]
async fn a_password_is_changed_only_by_who_knows_the_old_one() {
    let server = Server::new().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let body = json!({ "new_password": "battery staple" });
    let mut wrong = password_of(&alice, None);
    wrong["password"] = json!("guess guess");
    let answer = server.post(CHANGE_PASSWORD, Some(&alice.token), &with(body.clone(), &wrong)).await;
    answer.refused(401, "M_FORBIDDEN");
    assert!(answer.body["session"].is_string());
    let others = with(body.clone(), &password_of(&bob, None));
    server.post(CHANGE_PASSWORD, Some(&alice.token), &others).await.refused(403, "M_FORBIDDEN");
    server.post(CHANGE_PASSWORD, None, &body).await.refused(401, "M_MISSING_TOKEN");
    let dummy = with(body, &json!({ "type": "m.login.dummy" }));
    server.post(CHANGE_PASSWORD, Some(&alice.token), &dummy).await.refused(401, "M_FORBIDDEN");
    let weak = json!({ "new_password": "short" });
    server.post(CHANGE_PASSWORD, Some(&alice.token), &weak).await.refused(400, "M_WEAK_PASSWORD");
    server.post(CHANGE_PASSWORD, Some(&alice.token), &json!({})).await.refused(400, "M_BAD_JSON");
    server.log_in("alice").await;
}

#[tokio::test]
async fn a_deactivated_account_is_gone_for_good() {
    let server = Server::new().await;
    let user = server.user("alice").await;
    let profile = format!("/_matrix/client/v3/profile/{}", user.id);
    server.put(&format!("{profile}/displayname"), Some(&user.token), &json!({ "displayname": "Alice" })).await.ok();
    assert_eq!(server.post(DEACTIVATE, Some(&user.token), &json!({})).await.status, StatusCode::UNAUTHORIZED);
    let body = json!({ "auth": password_of(&user, None) });
    let answer = server.post(DEACTIVATE, Some(&user.token), &body).await.ok();
    assert_eq!(answer, json!({ "id_server_unbind_result": "success" }));
    server.get(WHOAMI, Some(&user.token)).await.refused(401, "M_UNKNOWN_TOKEN");
    server.post(LOGIN, None, &login("alice", PASSWORD)).await.refused(403, "M_USER_DEACTIVATED");
    server.post(LOGIN, None, &login("alice", "wrong horse")).await.refused(403, "M_FORBIDDEN");
    server.post(REGISTER, None, &json!({ "username": "alice" })).await.refused(400, "M_USER_IN_USE");
    assert_eq!(server.get(&profile, None).await.ok(), json!({ "displayname": "Alice" }));
}

#[tokio::test]
async fn an_erased_account_keeps_nothing_but_its_name() {
    let server = Server::new().await;
    let user = server.user("alice").await;
    let profile = format!("/_matrix/client/v3/profile/{}", user.id);
    server.put(&format!("{profile}/displayname"), Some(&user.token), &json!({ "displayname": "Alice" })).await.ok();
    let body = json!({ "erase": true, "auth": password_of(&user, None) });
    server.post(DEACTIVATE, Some(&user.token), &body).await.ok();
    assert_eq!(server.get(&profile, None).await.ok(), json!({}));
    server.post(LOGIN, None, &login("alice", PASSWORD)).await.refused(403, "M_FORBIDDEN");
    server.post(REGISTER, None, &json!({ "username": "alice" })).await.refused(400, "M_USER_IN_USE");
}

#[tokio::test]
async fn what_an_erased_user_sent_is_redacted_for_those_who_come_later() {
    let server = Server::new().await;
    let (alice, bob, carol) = (server.user("alice").await, server.user("bob").await, server.user("carol").await);
    let create = json!({ "preset": "public_chat" });
    let room = server.post("/_matrix/client/v3/createRoom", Some(&bob.token), &create).await.ok();
    let room = format!("/_matrix/client/v3/rooms/{}", room["room_id"].as_str().unwrap());
    let join = format!("{room}/join");
    server.post(&join, Some(&alice.token), &json!({})).await.ok();
    let sent = server
        .put(&format!("{room}/send/m.room.message/1"), Some(&alice.token), &json!({ "body": "her own words" }))
        .await;
    let sent = sent.ok();
    let body = json!({ "erase": true, "auth": password_of(&alice, None) });
    server.post(DEACTIVATE, Some(&alice.token), &body).await.ok();
    server.post(&join, Some(&carol.token), &json!({})).await.ok();

    let event = format!("{room}/event/{}", sent["event_id"].as_str().unwrap());
    assert_eq!(server.get(&event, Some(&bob.token)).await.ok()["content"], json!({ "body": "her own words" }));
    assert_eq!(server.get(&event, Some(&carol.token)).await.ok()["content"], json!({}));
    let told = async |user: &User| server.get("/_matrix/client/v3/sync", Some(&user.token)).await.ok().to_string();
    assert!(told(&bob).await.contains("her own words") && !told(&carol).await.contains("her own words"));
}

#[tokio::test]
async fn an_empty_device_id_is_none_and_queries_are_decoded() {
    let server = Server::with(|config, _| config.access_token_in_query = true).await;
    let path = format!("{REGISTER}?kind=%75ser");
    let user = User::of(
        &server
            .post(
                &path,
                None,
                &with(json!({ "username": "a", "password": PASSWORD }), &json!({ "type": "m.login.dummy" })),
            )
            .await
            .ok(),
    );
    let mut request = login("a", PASSWORD);
    request["device_id"] = json!("");
    let other = User::of(&server.post(LOGIN, None, &request).await.ok());
    assert!(!other.device.is_empty() && other.device != user.device);
    let encoded: Vec<_> = user.token.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let encoded = encoded.concat();
    server.get(&format!("{WHOAMI}?access_token={encoded}"), None).await.ok();
}

#[tokio::test]
async fn devices_are_listed_renamed_and_deleted() {
    let server = Server::new().await;
    let one = server.user("alice").await;
    let two = server.log_in("alice").await;
    let bob = server.user("bob").await;
    assert!(server.is_logged_in(&two).await);
    let path = format!("{DEVICES}/{}", two.device);
    server.put(&path, Some(&one.token), &json!({ "display_name": "Tablet" })).await.ok();
    server.put(&path, Some(&one.token), &json!({})).await.ok();
    let device = server.get(&path, Some(&one.token)).await.ok();
    assert_eq!(
        device,
        json!({
            "device_id": two.device,
            "display_name": "Tablet",
            "last_seen_ip": "::",
            "last_seen_ts": 1_700_000_000_000_u64,
        })
    );
    let list = server.get(DEVICES, Some(&one.token)).await.ok();
    assert_eq!(list["devices"].as_array().unwrap().len(), 2);
    for unknown in [json!({ "display_name": "x" }), json!({})] {
        server.put(&path, Some(&bob.token), &unknown).await.refused(404, "M_NOT_FOUND");
    }
    let long = json!({ "display_name": "x".repeat(1001) });
    server.put(&path, Some(&one.token), &long).await.refused(413, "M_TOO_LARGE");
    let challenge = server.send(Method::DELETE, &path, Some(&one.token), "").await;
    assert_eq!(challenge.status, StatusCode::UNAUTHORIZED);
    let body = json!({ "auth": password_of(&one, Some(&challenge.body["session"])) });
    server.delete(&path, Some(&one.token), &body).await.ok();
    server.get(WHOAMI, Some(&two.token)).await.refused(401, "M_UNKNOWN_TOKEN");
    let body = json!({ "auth": password_of(&one, None) });
    server.delete(&path, Some(&one.token), &body).await.ok();
}

#[tokio::test]
async fn many_devices_are_deleted_at_once() {
    let server = Server::new().await;
    let one = server.user("alice").await;
    let [two, three] = [server.log_in("alice").await, server.log_in("alice").await];
    let path = "/_matrix/client/v3/delete_devices";
    let body = json!({ "devices": [two.device, three.device, "GONE"] });
    let challenge = server.post(path, Some(&one.token), &body).await;
    assert_eq!(challenge.status, StatusCode::UNAUTHORIZED);
    let auth = password_of(&one, Some(&challenge.body["session"]));
    let elsewhere = json!({ "auth": auth });
    let other = format!("{DEVICES}/{}", one.device);
    server.delete(&other, Some(&one.token), &elsewhere).await.refused(403, "M_FORBIDDEN");
    server.post(path, Some(&one.token), &with(body, &auth)).await.ok();
    assert!(server.is_logged_in(&one).await);
    assert!(!server.is_logged_in(&two).await);
    assert!(!server.is_logged_in(&three).await);
    server.post(path, Some(&one.token), &json!({})).await.refused(400, "M_BAD_JSON");
}

#[tokio::test]
async fn when_a_device_was_seen_is_noted_now_and_then() {
    let server = Server::new().await;
    let user = server.user("alice").await;
    let seen = async || {
        let device = server.get(&format!("{DEVICES}/{}", user.device), Some(&user.token)).await.ok();
        device["last_seen_ts"].as_u64().unwrap()
    };
    let first = seen().await;
    let stamp = server.state.records.view().stamp();
    server.clock.advance(Duration::from_mins(4));
    assert_eq!(seen().await, first);
    assert_eq!(server.state.records.view().stamp(), stamp);
    server.clock.advance(Duration::from_mins(1));
    assert_eq!(seen().await, first + 300_000);
}

#[tokio::test]
async fn a_profile_has_fields_of_any_kind_that_everybody_can_read() {
    let server = Server::new().await;
    let user = server.user("alice").await;
    let profile = format!("/_matrix/client/v3/profile/{}", user.id);
    assert_eq!(server.get(&profile, None).await.ok(), json!({}));
    for (key, value) in [
        ("displayname", json!("Alice")),
        ("avatar_url", json!("mxc://example.org/abc")),
        ("m.tz", json!("Europe/Berlin")),
        ("org.example.team", json!({ "name": "x", "floor": 3, "none": null })),
        ("org.example.none", json!(null)),
    ] {
        let path = format!("{profile}/{key}");
        server.put(&path, Some(&user.token), &json!({ key: value })).await.ok();
        assert_eq!(server.get(&path, None).await.ok(), json!({ key: value }));
    }
    assert_eq!(server.get(&profile, None).await.ok().as_object().unwrap().len(), 5);
    server.delete(&format!("{profile}/m.tz"), Some(&user.token), &json!({})).await.ok();
    server.send(Method::DELETE, &format!("{profile}/m.tz"), Some(&user.token), "").await.ok();
    server.put(&format!("{profile}/avatar_url"), Some(&user.token), &json!({ "avatar_url": "" })).await.ok();
    let left = server.get(&profile, None).await.ok();
    let left: Vec<_> = left.as_object().unwrap().keys().cloned().collect();
    assert_eq!(left, ["displayname", "org.example.none", "org.example.team"]);
    server.get(&format!("{profile}/m.tz"), None).await.refused(404, "M_NOT_FOUND");
    server.get("/_matrix/client/v3/profile/@nobody:example.org", None).await.refused(404, "M_NOT_FOUND");
    server.get("/_matrix/client/v3/profile/@a:elsewhere.org/displayname", None).await.refused(404, "M_NOT_FOUND");
    server.get("/_matrix/client/v3/profile/alice", None).await.refused(400, "M_INVALID_PARAM");
}

#[tokio::test]
async fn rooms_show_a_new_profile_though_the_client_hung_up_and_setting_it_again_mends_them() {
    let server = Server::new().await;
    let user = server.user("alice").await;
    let path = format!("/_matrix/client/v3/profile/{}/displayname", user.id);
    let mut rooms = Vec::new();
    for _ in 0..3 {
        let room = server.post("/_matrix/client/v3/createRoom", Some(&user.token), &json!({})).await.ok();
        rooms.push(room["room_id"].as_str().unwrap().to_owned());
    }
    let show = async |name: &str| {
        let mut show = 0;
        for room in &rooms {
            let path = format!("/_matrix/client/v3/rooms/{room}/state/m.room.member/{}", user.id);
            show += usize::from(server.get(&path, Some(&user.token)).await.ok()["displayname"] == name);
        }
        show == rooms.len()
    };
    let stored = || server.state.accounts.profile(&user.id).unwrap().unwrap().contains_key("displayname");
    hang_up(server.put(&path, Some(&user.token), &json!({ "displayname": "Alice" })), stored).await;
    assert!(in_the_end(async || show("Alice").await).await);

    // What a server leaves that stops between the commit and what follows it.
    server.state.accounts.set_profile_field(&user.id, "displayname", Some("\"Bob\"")).await.unwrap();
    assert!(!show("Bob").await);
    server.put(&path, Some(&user.token), &json!({ "displayname": "Bob" })).await.ok();
    assert!(show("Bob").await);
}

#[tokio::test]
async fn a_deactivated_user_leaves_all_rooms_though_the_client_hung_up() {
    let server = Server::new().await;
    let user = server.user("alice").await;
    for _ in 0..3 {
        server.post("/_matrix/client/v3/createRoom", Some(&user.token), &json!({})).await.ok();
    }
    let joined = || {
        let memberships = server.state.records.view().memberships(&user.id).unwrap();
        memberships.iter().filter(|(_, _, record)| record.membership == Membership::Join).count()
    };
    assert_eq!(joined(), 3);
    let body = json!({ "auth": password_of(&user, None) });
    let deactivated = || server.state.accounts.user(&user.id).unwrap().unwrap().deactivated_at.is_some();
    hang_up(server.post(DEACTIVATE, Some(&user.token), &body), deactivated).await;
    assert!(in_the_end(async || joined() == 0).await);
}

#[tokio::test]
async fn a_profile_refuses_what_it_must() {
    let server = Server::new().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let profile = format!("/_matrix/client/v3/profile/{}", alice.id);
    let put = async |key: &str, body: Value| server.put(&format!("{profile}/{key}"), Some(&alice.token), &body).await;
    put("displayname", json!({})).await.refused(400, "M_MISSING_PARAM");
    put("displayname", json!({ "displayname": 5 })).await.refused(400, "M_BAD_JSON");
    put("displayname", json!({ "displayname": "x".repeat(2000) })).await.refused(400, "M_INVALID_PARAM");
    for elsewhere in ["https://example.org/a.png", "data:image/png;base64,AA", "mxc:no-server", "mxc://no-media"] {
        put("avatar_url", json!({ "avatar_url": elsewhere })).await.refused(400, "M_INVALID_PARAM");
    }
    put("avatar_url", json!({ "avatar_url": "no address at all" })).await.ok();
    put("nickname", json!({ "nickname": "x" })).await.refused(400, "M_INVALID_PARAM");
    put("Org.Example", json!({ "Org.Example": "x" })).await.refused(400, "M_INVALID_PARAM");
    let long = format!("a.{}", "b".repeat(254));
    put(&long, json!({ &long: "x" })).await.refused(400, "M_KEY_TOO_LARGE");
    let large = "x".repeat(40_000);
    put("org.example.one", json!({ "org.example.one": large })).await.ok();
    put("org.example.two", json!({ "org.example.two": large })).await.refused(400, "M_PROFILE_TOO_LARGE");
    put("org.example.one", json!({ "org.example.one": "small" })).await.ok();
    put("org.example.two", json!({ "org.example.two": large })).await.ok();
    let path = format!("{profile}/displayname");
    let body = json!({ "displayname": "Mallory" });
    server.put(&path, Some(&bob.token), &body).await.refused(403, "M_FORBIDDEN");
    server.put(&path, None, &body).await.refused(401, "M_MISSING_TOKEN");
    server.delete(&path, Some(&bob.token), &json!({})).await.refused(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn account_data_is_stored_for_the_account_and_for_rooms() {
    let server = Server::new().await;
    let user = server.user("alice").await;
    let global = format!("/_matrix/client/v3/user/{}/account_data", user.id);
    let room = format!("/_matrix/client/v3/user/{}/rooms/!r:example.org/account_data", user.id);
    server.get(&format!("{global}/org.example.x"), Some(&user.token)).await.refused(404, "M_NOT_FOUND");
    server.put(&format!("{global}/org.example.x"), Some(&user.token), &json!({ "a": 1 })).await.ok();
    server.get(&format!("{room}/org.example.x"), Some(&user.token)).await.refused(404, "M_NOT_FOUND");
    server.put(&format!("{room}/org.example.x"), Some(&user.token), &json!({ "b": [2] })).await.ok();
    let get = async |path: &str| server.get(&format!("{path}/org.example.x"), Some(&user.token)).await.ok();
    assert_eq!(get(&global).await, json!({ "a": 1 }));
    assert_eq!(get(&room).await, json!({ "b": [2] }));
    let stamp = server.state.records.view().stamp();
    server.put(&format!("{global}/org.example.x"), Some(&user.token), &json!({ "a": 1 })).await.ok();
    assert_eq!(server.state.records.view().stamp(), stamp, "what is stored already is not news");
}

#[tokio::test]
async fn account_data_is_deleted_by_its_own_endpoint_and_by_an_empty_content() {
    let server = Server::new().await;
    let user = server.user("alice").await;
    let token = Some(user.token.as_str());
    let created = server.post("/_matrix/client/v3/createRoom", token, &json!({})).await.ok();
    let room = created["room_id"].as_str().unwrap();
    let of_type = |events: &Value| -> Vec<Value> {
        let events = events.as_array().into_iter().flatten();
        events.filter(|event| event["type"] == "x").map(|event| event["content"].clone()).collect()
    };
    for place in [String::new(), format!("/rooms/{room}")] {
        let pointer = if place.is_empty() {
            "/account_data/events".to_owned()
        } else {
            format!("/rooms/join/{room}/account_data/events")
        };
        let path = |version: &str| format!("/_matrix/client/{version}/user/{}{place}/account_data/x", user.id);
        let (path, delete) = (path("v3"), path("unstable/org.matrix.msc3391"));
        let sync = async |since: &str| {
            let synced = server.get(&format!("/_matrix/client/v3/sync{since}"), token).await.ok();
            let since = format!("?since={}", synced["next_batch"].as_str().unwrap());
            (of_type(synced.pointer(&pointer).unwrap_or(&Value::Null)), since)
        };
        for by_put in [false, true] {
            server.put(&path, token, &json!({"n": 1})).await.ok();
            let (told, since) = sync("").await;
            assert_eq!(told, [json!({"n": 1})]);
            match by_put {
                true => server.send(Method::PUT, &path, token, "{ }").await.ok(),
                false => server.delete(&delete, token, &Value::Null).await.ok(),
            };
            server.get(&path, token).await.refused(404, "M_NOT_FOUND");
            let (told, since) = sync(&since).await;
            assert_eq!(told, [json!({})]);
            assert!(sync("").await.0.is_empty());
            server.delete(&delete, token, &Value::Null).await.ok();
            assert!(sync(&since).await.0.is_empty());
        }
    }
    let path = format!("/_matrix/client/unstable/org.matrix.msc3391/user/{}/account_data/m.push_rules", user.id);
    server.delete(&path, token, &Value::Null).await.refused(405, "M_BAD_JSON");
}

#[tokio::test]
async fn the_settings_of_a_device_go_with_it() {
    let server = Server::new().await;
    let (first, second) = (server.user("alice").await, server.log_in("alice").await);
    let token = Some(first.token.as_str());
    let path = |device: &str| {
        let kind = format!("org.matrix.msc3890.local_notification_settings.{device}");
        format!("/_matrix/client/v3/user/{}/account_data/{kind}", first.id)
    };
    for device in [&first.device, &second.device] {
        server.put(&path(device), token, &json!({"is_silenced": true})).await.ok();
    }
    server.post("/_matrix/client/v3/logout", Some(&second.token), &json!({})).await.ok();
    server.get(&path(&second.device), token).await.refused(404, "M_NOT_FOUND");
    server.get(&path(&first.device), token).await.ok();
}

#[tokio::test]
async fn account_data_refuses_what_it_must() {
    let server = Server::new().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    for scope in ["", "/rooms/!r:example.org"] {
        let path = format!("/_matrix/client/v3/user/{}{scope}/account_data", alice.id);
        for kind in ["m.fully_read", "m.push_rules"] {
            let answer = server.put(&format!("{path}/{kind}"), Some(&alice.token), &json!({})).await;
            answer.refused(405, "M_BAD_JSON");
        }
        let path = format!("{path}/org.example.x");
        server.put(&path, Some(&bob.token), &json!({})).await.refused(403, "M_FORBIDDEN");
        server.get(&path, Some(&bob.token)).await.refused(403, "M_FORBIDDEN");
        server.put(&path, Some(&alice.token), &json!([1])).await.refused(400, "M_BAD_JSON");
        for nonsense in ["nonsense", r#"{"x":"\ud800"}"#, r#"{"x":1e999}"#] {
            server.send(Method::PUT, &path, Some(&alice.token), nonsense).await.refused(400, "M_NOT_JSON");
        }
        let large = json!({ "x": "y".repeat(300_000) });
        server.put(&path, Some(&alice.token), &large).await.refused(413, "M_TOO_LARGE");
    }
    let path = format!("/_matrix/client/v3/user/{}/rooms/nowhere/account_data/x", alice.id);
    server.put(&path, Some(&alice.token), &json!({})).await.refused(400, "M_INVALID_PARAM");
}

#[tokio::test]
async fn filters_are_stored_once_and_given_back_whole() {
    let server = Server::new().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let path = format!("/_matrix/client/v3/user/{}/filter", alice.id);
    let filter = json!({ "room": { "timeline": { "limit": 5, "org.example.more": true } }, "event_fields": ["type"] });
    let id = server.post(&path, Some(&alice.token), &filter).await.ok()["filter_id"].clone();
    assert_eq!(server.post(&path, Some(&alice.token), &filter).await.ok()["filter_id"], id);
    let other = server.post(&path, Some(&alice.token), &json!({})).await.ok();
    assert_ne!(other["filter_id"], id);
    let id = id.as_str().unwrap();
    assert!(!id.starts_with('{'));
    assert_eq!(server.get(&format!("{path}/{id}"), Some(&alice.token)).await.ok(), filter);
    server.get(&format!("{path}/none"), Some(&alice.token)).await.refused(404, "M_NOT_FOUND");
    server.get(&format!("{path}/{id}"), Some(&bob.token)).await.refused(403, "M_FORBIDDEN");
    server.post(&path, Some(&bob.token), &filter).await.refused(403, "M_FORBIDDEN");
    server.post(&path, Some(&alice.token), &json!({ "room": 5 })).await.refused(400, "M_BAD_JSON");
}

#[tokio::test]
async fn push_rules_are_those_of_the_specification() {
    let server = Server::new().await;
    let user = server.user("alice").await;
    let all = server.get("/_matrix/client/v3/pushrules/", Some(&user.token)).await.ok();
    let global = server.get("/_matrix/client/v3/pushrules/global/", Some(&user.token)).await.ok();
    assert_eq!(all["global"], global);
    assert!(global["override"].as_array().unwrap().iter().any(|rule| rule["rule_id"] == ".m.rule.master"));
    let path = format!("/_matrix/client/v3/user/{}/account_data/m.push_rules", user.id);
    assert_eq!(server.get(&path, Some(&user.token)).await.ok(), all);
    server.get("/_matrix/client/v3/pushrules/", None).await.refused(401, "M_MISSING_TOKEN");
}

#[tokio::test]
async fn logins_are_limited_by_address() {
    let server = Server::with(|config, _| config.limits.enabled = true).await;
    server.user("alice").await;
    for _ in 0..10 {
        server.post(LOGIN, None, &login("alice", "wrong horse")).await.refused(403, "M_FORBIDDEN");
    }
    let limited = server.post(LOGIN, None, &login("alice", PASSWORD)).await;
    limited.refused(429, "M_LIMIT_EXCEEDED");
    assert_eq!(limited.body["retry_after_ms"], 5000);
    assert_eq!(limited.headers["retry-after"], "5");
    server.clock.advance(Duration::from_secs(5));
    server.log_in("alice").await;
}

#[tokio::test]
async fn guesses_from_many_addresses_are_limited_and_do_not_lock_out_who_logged_in_before() {
    let server = Server::with(|config, _| config.limits.enabled = true).await;
    server.user("alice").await;
    let try_from = async |address: [u8; 4], password: &str| {
        let mut request = Request::post(LOGIN).body(Body::from(login("alice", password).to_string())).unwrap();
        request.extensions_mut().insert(ClientAddress(address.into()));
        crate::router(server.state.clone()).oneshot(request).await.unwrap().status().as_u16()
    };
    let office = [10, 0, 0, 1];
    assert_eq!(try_from(office, PASSWORD).await, 200);
    for number in 0..99 {
        assert_eq!(try_from([10, 1, 0, number], "wrong horse").await, 403);
    }
    assert_eq!(try_from([10, 1, 1, 1], "wrong horse").await, 429);
    assert_eq!(try_from([10, 1, 1, 2], PASSWORD).await, 429);
    assert_eq!(try_from(office, PASSWORD).await, 200);
    server.clock.advance(Duration::from_secs(2));
    assert_eq!(try_from([10, 1, 1, 2], PASSWORD).await, 200);
}

#[tokio::test]
async fn what_is_not_there_and_what_is_done_otherwise_are_told_apart() {
    let server = Server::new().await;
    server.get("/_matrix/client/v3/nothing", None).await.refused(404, "M_UNRECOGNIZED");
    server.delete(LOGIN, None, &json!({})).await.refused(405, "M_UNRECOGNIZED");
}

#[tokio::test]
async fn the_server_says_what_it_can() {
    let server = Server::new().await;
    let user = server.user("alice").await;
    let versions = server.get("/_matrix/client/versions", None).await.ok();
    assert!(versions["versions"].as_array().unwrap().contains(&json!("v1.1")));
    let path = "/_matrix/client/v3/capabilities";
    server.get(path, None).await.refused(401, "M_MISSING_TOKEN");
    let capabilities = server.get(path, Some(&user.token)).await.ok()["capabilities"].clone();
    assert_eq!(capabilities["m.room_versions"]["default"], "12");
    assert_eq!(capabilities["m.room_versions"]["available"].as_object().unwrap().len(), 12);
    assert_eq!(capabilities["m.change_password"]["enabled"], true);
    assert_eq!(capabilities["m.3pid_changes"]["enabled"], false);
}
