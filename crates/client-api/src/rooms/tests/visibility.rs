//! Who sees what (client-server API, "Room history visibility"): each visibility against each way of having
//! been, or not having been, in the room.

use super::{Server, enc};
use http::StatusCode;
use serde_json::json;

/// What of the messages before, during and after their time in the room a user sees.
async fn seen(visibility: &str, user: &str) -> Vec<&'static str> {
    const SAID: [&str; 5] = ["unknown", "invited", "joined", "left", "again"];
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let state = json!([{"type": "m.room.history_visibility", "content": {"history_visibility": visibility}}]);
    let room = server.room(&alice, json!({"initial_state": state})).await;
    let mut events = Vec::new();
    for said in SAID {
        // What bob does before it is said.
        match (user, said) {
            ("invited" | "member" | "departed" | "returned", "invited") | ("returned", "again") => {
                server.invite(&alice, &room, &bob).await.ok();
            }
            ("departed" | "returned", "left") => {
                server.leave(&bob, &room).await.ok();
            }
            _ => {}
        }
        if matches!((user, said), ("member" | "departed" | "returned", "joined") | ("returned", "again")) {
            server.join(&bob, &room).await.ok();
        }
        events.push((said, server.say(&alice, &room, said).await));
    }
    let mut seen = Vec::new();
    for (said, event_id) in events {
        let answer = server.get(&bob, &format!("/rooms/{room}/event/{}", enc(&event_id))).await;
        let in_context = server.get(&bob, &format!("/rooms/{room}/context/{}", enc(&event_id))).await;
        // What is around an event is told with the state of the room, which is not for those who are only invited.
        let has_been_in = user != "invited" || visibility == "world_readable";
        let in_context = in_context.status == StatusCode::OK;
        assert_eq!((answer.status == StatusCode::OK) && has_been_in, in_context, "{visibility} {user} {said}");
        if answer.status == StatusCode::OK {
            seen.push(said);
        }
    }
    seen
}

#[tokio::test]
async fn each_visibility_shows_what_it_says() {
    const ALL: [&str; 5] = ["unknown", "invited", "joined", "left", "again"];
    let table: [(&str, &str, &[&str]); 20] = [
        ("world_readable", "stranger", &ALL),
        ("world_readable", "invited", &ALL),
        ("world_readable", "member", &ALL),
        ("world_readable", "departed", &ALL),
        ("world_readable", "returned", &ALL),
        ("shared", "stranger", &[]),
        ("shared", "invited", &[]),
        ("shared", "member", &ALL),
        ("shared", "departed", &ALL[..3]),
        ("shared", "returned", &ALL),
        ("invited", "stranger", &[]),
        ("invited", "invited", &ALL[1..]),
        ("invited", "member", &ALL[1..]),
        ("invited", "departed", &ALL[1..3]),
        ("invited", "returned", &["invited", "joined", "again"]),
        ("joined", "stranger", &[]),
        ("joined", "invited", &[]),
        ("joined", "member", &ALL[2..]),
        ("joined", "departed", &ALL[2..3]),
        ("joined", "returned", &["joined", "again"]),
    ];
    for (visibility, user, expected) in table {
        assert_eq!(seen(visibility, user).await, expected, "{visibility} {user}");
    }
}

#[tokio::test]
async fn a_change_of_the_visibility_does_not_open_what_was_said_before() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let state = json!([{"type": "m.room.history_visibility", "content": {"history_visibility": "joined"}}]);
    let room = server.room(&alice, json!({"preset": "public_chat", "initial_state": state})).await;
    let secret = server.say(&alice, &room, "secret").await;
    let shared = json!({"history_visibility": "shared"});
    let change = server.set_state(&alice, &room, "m.room.history_visibility", "", shared).await.ok();
    let open = server.say(&alice, &room, "open").await;
    server.join(&bob, &room).await.ok();
    let get = |id: &str| server.get(&bob, format!("/rooms/{room}/event/{}", enc(id)));
    get(&secret).await.refused(404, "M_NOT_FOUND");
    get(change["event_id"].as_str().unwrap()).await.ok();
    get(&open).await.ok();
}

#[tokio::test]
async fn what_everybody_could_read_when_it_was_said_stays_so() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let state = json!([{"type": "m.room.history_visibility", "content": {"history_visibility": "world_readable"}}]);
    let room = server.room(&alice, json!({"preset": "public_chat", "initial_state": state})).await;
    let open = server.say(&alice, &room, "open").await;
    let shared = json!({"history_visibility": "shared"});
    server.set_state(&alice, &room, "m.room.history_visibility", "", shared).await.ok();
    let closed = server.say(&alice, &room, "closed").await;
    let get = |id: &str| server.get(&bob, format!("/rooms/{room}/event/{}", enc(id)));
    get(&open).await.ok();
    get(&closed).await.refused(404, "M_NOT_FOUND");

    // Who has forgotten the room gets nothing of it, what was open to everybody apart.
    server.join(&bob, &room).await.ok();
    get(&closed).await.ok();
    server.leave(&bob, &room).await.ok();
    server.post(&bob, format!("/rooms/{room}/forget"), json!({})).await.ok();
    get(&closed).await.refused(404, "M_NOT_FOUND");
}
