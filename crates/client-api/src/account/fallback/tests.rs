//! Stages that are completed in a browser.

use crate::testing::{Answer, PASSWORD, Server};
use accounts::{RegistrationMode, Terms};
use base::Secret;
use http::header::{CONTENT_SECURITY_POLICY, ORIGIN};
use http::{Method, Request, StatusCode};
use serde_json::{Value, json};
use std::time::Duration;

const REGISTER: &str = "/_matrix/client/v3/register";
const DELETE_DEVICES: &str = "/_matrix/client/v3/delete_devices";

fn page(stage: &str, session: &Value) -> String {
    format!("/_matrix/client/v3/auth/{stage}/fallback/web?session={}", session.as_str().unwrap())
}

fn text(answer: &Answer) -> &str {
    answer.body.as_str().unwrap()
}

fn policy(answer: &Answer) -> &str {
    answer.headers[CONTENT_SECURITY_POLICY].to_str().unwrap()
}

async fn server() -> Server {
    Server::with(|_, accounts| {
        accounts.registration.mode = RegistrationMode::Token;
        accounts.registration.tokens = vec![Secret::new("let-me-in".to_owned())];
        let terms = |language: &str, name: &str| Terms {
            policy: "privacy".to_owned(),
            version: "1.0".to_owned(),
            language: language.to_owned(),
            name: name.to_owned(),
            url: format!("https://example.org/{language}?a=1&b=2"),
        };
        accounts.registration.terms = vec![terms("en", "Privacy & more"), terms("ru", "Конфиденциальность")];
    })
    .await
}

#[tokio::test]
async fn a_registration_is_completed_in_the_browser_stage_by_stage() {
    let server = server().await;
    let request = json!({ "username": "alice", "password": PASSWORD });
    let begun = server.post(REGISTER, None, &request).await;
    let session = &begun.body["session"];
    let (token, terms) = (page("m.login.registration_token", session), page("m.login.terms", session));

    let shown = server.get(&token, None).await;
    assert_eq!(shown.status, StatusCode::OK);
    assert!(text(&shown).contains("name=\"answer\"") && !text(&shown).contains("<script"));
    assert!(policy(&shown).contains("default-src 'none'") && !policy(&shown).contains("script-src"));
    assert_eq!(server.get(&terms, None).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(server.send(Method::POST, &terms, None, "").await.status, StatusCode::BAD_REQUEST);

    let wrong = server.send(Method::POST, &token, None, "answer=wrong").await;
    assert_eq!(wrong.status, StatusCode::FORBIDDEN);
    assert!(text(&wrong).contains("class=\"error\"") && text(&wrong).contains("<form"));
    let right = server.send(Method::POST, &token, None, "answer=let%2Dme%2Din").await;
    assert_eq!(right.status, StatusCode::OK);
    assert!(text(&right).contains("window.onAuthDone()") && policy(&right).contains("script-src 'sha256-"));

    let with_session = json!({ "username": "alice", "password": PASSWORD, "auth": { "session": session } });
    let next = server.post(REGISTER, None, &with_session).await;
    assert_eq!(
        (next.status, &next.body["completed"]),
        (StatusCode::UNAUTHORIZED, &json!(["m.login.registration_token"]))
    );
    let shown = server.get(&terms, None).await;
    assert!(text(&shown).contains("https://example.org/en?a=1&amp;b=2") && text(&shown).contains("Privacy &amp; more"));
    assert!(text(&server.send(Method::POST, &terms, None, "").await).contains("window.onAuthDone()"));
    assert!(text(&server.get(&terms, None).await).contains("window.onAuthDone()"));
    assert_eq!(server.post(REGISTER, None, &with_session).await.ok()["user_id"], "@alice:example.org");
    assert_eq!(server.get(&terms, None).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_password_that_is_typed_in_the_browser_is_good_for_its_user_only() {
    let server = Server::new().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let request = json!({ "devices": [] });
    let begun = server.post(DELETE_DEVICES, Some(&alice.token), &request).await;
    let session = &begun.body["session"];
    let path = page("m.login.password", session);
    assert!(text(&server.get(&path, None).await).contains("@alice:example.org"));
    for wrong in ["", "answer=wrong", "answer="] {
        let refused = server.send(Method::POST, &path, None, wrong).await;
        assert!(refused.status.is_client_error() && text(&refused).contains("class=\"error\""), "{wrong}");
    }
    let right = server.send(Method::POST, &path, None, "answer=correct+horse").await;
    assert!(text(&right).contains("window.onAuthDone()"));
    let with_session = json!({ "devices": [], "auth": { "session": session } });
    server.post(DELETE_DEVICES, Some(&bob.token), &with_session).await.refused(403, "M_FORBIDDEN");
    server.post(DELETE_DEVICES, Some(&alice.token), &with_session).await.ok();
}

#[tokio::test]
async fn a_page_of_nothing_says_so_in_the_language_of_the_browser() {
    let server = Server::new().await;
    let unknown = page("m.login.dummy", &json!("nothing"));
    assert_eq!(server.get(&unknown, None).await.status, StatusCode::NOT_FOUND);
    let begun = server.post(REGISTER, None, &json!({ "username": "alice", "password": PASSWORD })).await;
    let session = &begun.body["session"];
    assert_eq!(server.get(&page("m.login.sso", session), None).await.status, StatusCode::BAD_REQUEST);
    let request = Request::get(page("m.login.dummy", session)).header("accept-language", "ru-RU");
    let shown = server.answer(request.body(axum::body::Body::empty()).unwrap()).await;
    assert!(text(&shown).contains("lang=\"ru\"") && text(&shown).contains("Продолжить"));
    server.clock.advance(Duration::from_mins(31));
    assert_eq!(server.get(&page("m.login.dummy", session), None).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_form_that_another_site_sends_is_refused() {
    let server = Server::new().await;
    let begun = server.post(REGISTER, None, &json!({ "username": "alice", "password": PASSWORD })).await;
    let path = page("m.login.dummy", &begun.body["session"]);
    let request = Request::post(&path).header("host", "example.org").header(ORIGIN, "https://evil.example");
    let refused = server.answer(request.body(axum::body::Body::empty()).unwrap()).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert!(text(&server.get(&path, None).await).contains("<form"));
    assert!(text(&server.send(Method::POST, &path, None, "").await).contains("window.onAuthDone()"));
}
