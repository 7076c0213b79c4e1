//! Reports and tags.

use super::{Server, enc};
use crate::{Limits, Rate};
use http::Method;
use records::Reported;
use serde_json::json;
use store::Direction;

#[tokio::test]
async fn reports_are_kept_for_the_administrators() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = server.room(&alice, json!({"preset": "public_chat"})).await;
    let said = server.say(&alice, &room, "rude").await;
    let path = format!("/rooms/{room}/report/{}", enc(&said));
    let body = json!({"reason": "R", "score": -50});
    server.post(&bob, &path, body.clone()).await.refused(404, "M_NOT_FOUND");
    server.join(&bob, &room).await.ok();
    server.post(&bob, &path, body).await.ok();
    server.post(&bob, format!("/rooms/{room}/report"), json!({"reason": ""})).await.ok();
    server.post(&bob, format!("/users/{}/report", alice.id), json!({"reason": "U"})).await.ok();
    let reports = server.0.state.records.view().reports(None, Direction::Forward, 10).unwrap();
    let kept: Vec<_> = reports.iter().map(|(_, report)| (&report.reported, report.reason.as_str())).collect();
    let room_id: ruma::OwnedRoomId = room.try_into().unwrap();
    let event = Reported::Event {
        room_id: room_id.clone(),
        event_id: said.try_into().unwrap(),
        sender: alice.id.clone(),
        score: Some(-50),
    };
    let user = Reported::User { user_id: alice.id.clone() };
    assert_eq!(kept, [(&event, "R"), (&Reported::Room { room_id }, ""), (&user, "U")]);
    assert!(reports.iter().all(|(_, report)| report.reporter == bob.id && report.at.0 > 0));
}

#[tokio::test]
async fn wrong_reports_are_refused() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let room = server.room(&alice, json!({})).await;
    let said = server.say(&alice, &room, "x").await;
    let event = format!("/rooms/{room}/report/{}", enc(&said));
    for (path, body, status, code) in [
        (event.as_str(), json!({"score": 1}), 400, "M_INVALID_PARAM"),
        (&event, json!({"score": -101}), 400, "M_INVALID_PARAM"),
        (&event, json!({"score": "x"}), 400, "M_BAD_JSON"),
        (&event, json!({"reason": 1}), 400, "M_BAD_JSON"),
        (&event, json!({"reason": "x".repeat(9000)}), 413, "M_TOO_LARGE"),
        (&format!("/rooms/{room}/report/$nothing"), json!({}), 404, "M_NOT_FOUND"),
        ("/rooms/!nowhere:example.org/report/$nothing", json!({}), 404, "M_NOT_FOUND"),
        ("/rooms/!nowhere:example.org/report", json!({"reason": "x"}), 404, "M_NOT_FOUND"),
        (&format!("/rooms/{room}/report"), json!({}), 400, "M_BAD_JSON"),
        ("/users/@nobody:example.org/report", json!({"reason": "x"}), 404, "M_NOT_FOUND"),
        ("/users/@nobody:b.example/report", json!({"reason": "x"}), 404, "M_NOT_FOUND"),
        ("/users/nobody/report", json!({"reason": "x"}), 400, "M_INVALID_PARAM"),
        (&format!("/users/{}/report", alice.id), json!({"reason": null}), 400, "M_BAD_JSON"),
    ] {
        server.post(&alice, path, body).await.refused(status, code);
    }
    assert!(server.0.state.records.view().reports(None, Direction::Forward, 10).unwrap().is_empty());
    server.post(&alice, &event, json!({})).await.ok();
}

#[tokio::test]
async fn reports_have_a_limit_of_their_own() {
    let server = Server::with_limits(Limits { report: Rate::new(0.001, 1), ..Limits::default() }).await;
    let alice = server.user("alice").await;
    let path = format!("/users/{}/report", alice.id);
    server.post(&alice, &path, json!({"reason": "x"})).await.ok();
    server.post(&alice, &path, json!({"reason": "x"})).await.refused(429, "M_LIMIT_EXCEEDED");
}

#[tokio::test]
async fn tags_are_account_data_of_the_room() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = server.room(&alice, json!({})).await;
    let tags = format!("/user/{}/rooms/{room}/tags", alice.id);
    assert_eq!(server.get(&alice, &tags).await.ok(), json!({"tags": {}}));
    server.put(&alice, format!("{tags}/m.favourite"), json!({"order": 0.25, "x": 1})).await.ok();
    server.put(&alice, format!("{tags}/u.Work"), json!({})).await.ok();
    let both = json!({"tags": {"m.favourite": {"order": 0.25, "x": 1}, "u.Work": {}}});
    assert_eq!(server.get(&alice, &tags).await.ok(), both);
    let data = format!("/user/{}/rooms/{room}/account_data/m.tag", alice.id);
    assert_eq!(server.get(&alice, data).await.ok(), both);
    let synced = server.get(&alice, "/sync").await.ok();
    let events = synced["rooms"]["join"][&room]["account_data"]["events"].as_array().unwrap();
    assert!(events.contains(&json!({"type": "m.tag", "content": both})), "{events:?}");
    let delete =
        async |tag: &str| server.request(Some(&alice), Method::DELETE, format!("{tags}/{tag}"), String::new()).await;
    delete("m.favourite").await.ok();
    delete("m.favourite").await.ok();
    assert_eq!(server.get(&alice, &tags).await.ok(), json!({"tags": {"u.Work": {}}}));

    server.get(&bob, &tags).await.refused(403, "M_FORBIDDEN");
    server.put(&bob, format!("{tags}/u.x"), json!({})).await.refused(403, "M_FORBIDDEN");
    for order in [json!(1.5), json!(-0.1)] {
        server.put(&alice, format!("{tags}/u.x"), json!({"order": order})).await.refused(400, "M_INVALID_PARAM");
    }
    server.put(&alice, format!("{tags}/u.x"), json!({"order": "0.5"})).await.refused(400, "M_BAD_JSON");
    server.put(&alice, format!("{tags}/u.x"), json!([])).await.refused(400, "M_BAD_JSON");
    server.put(&alice, format!("{tags}/{}", "x".repeat(256)), json!({})).await.refused(400, "M_INVALID_PARAM");
}
