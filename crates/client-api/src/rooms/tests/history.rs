//! `GET /rooms/{roomId}/messages`

use super::{Server, User, bodies, enc};
use serde_json::{Value, json};

/// How many messages the long room has.
const MESSAGES: usize = 520;

async fn long_room() -> (Server, User, User, String) {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = server.room(&alice, json!({"preset": "public_chat"})).await;
    server.join(&bob, &room).await.ok();
    for n in 0..MESSAGES {
        server.say(if n % 10 == 0 { &bob } else { &alice }, &room, &n.to_string()).await;
    }
    (server, alice, bob, room)
}

/// Pages through the whole room and answers all events and how many pages it took.
async fn all(server: &Server, user: &User, room: &str, query: &str) -> (Vec<Value>, usize) {
    let (mut events, mut from, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = server.get(user, &format!("/rooms/{room}/messages?{query}{from}")).await.ok();
        events.extend(page["chunk"].as_array().unwrap().iter().cloned());
        pages += 1;
        assert!(pages < 200, "the pages have no end");
        match page["end"].as_str() {
            Some(end) => from = format!("&from={end}"),
            None => return (events, pages),
        }
    }
}

#[tokio::test]
async fn pages_show_every_event_once_in_both_directions() {
    let (server, alice, _, room) = long_room().await;
    let (mut back, pages) = all(&server, &alice, &room, "dir=b&limit=50").await;
    assert_eq!(pages, back.len().div_ceil(50));
    let (forth, _) = all(&server, &alice, &room, "dir=f&limit=37").await;
    assert_eq!(forth.first().unwrap()["type"], "m.room.create");
    back.reverse();
    let ids = |events: &[Value]| events.iter().map(|event| event["event_id"].to_string()).collect::<Vec<_>>();
    assert_eq!(ids(&back), ids(&forth));
    let said = json!(forth);
    let expected: Vec<_> = (0..MESSAGES).map(|n| n.to_string()).collect();
    assert_eq!(bodies(&said), expected);
}

#[tokio::test]
async fn a_filter_chooses_without_losing_or_repeating() {
    let (server, alice, bob, room) = long_room().await;
    for (filter, expected) in [
        (json!({"senders": [bob.id], "types": ["m.room.message"]}), MESSAGES / 10),
        (
            json!({"not_senders": [bob.id], "types": ["m.room.*"], "not_types": ["m.room.c*"]}),
            MESSAGES - MESSAGES / 10 + 5,
        ),
        (json!({"types": ["m.room.create"]}), 1),
        (json!({"types": []}), 0),
        (json!({"not_rooms": [room]}), 0),
    ] {
        for dir in ["b", "f"] {
            let query = format!("dir={dir}&limit=30&filter={}", enc(&filter.to_string()));
            let (events, _) = all(&server, &alice, &room, &query).await;
            assert_eq!(events.len(), expected, "{filter} {dir}");
        }
    }
    let query = format!("/rooms/{room}/messages?dir=b&filter={}", enc(r#"{"limit":3}"#));
    assert_eq!(server.get(&alice, &query).await.ok()["chunk"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn a_page_has_an_end_a_start_and_a_limit() {
    let (server, alice, _, room) = long_room().await;
    let get = |query: &str| server.get(&alice, format!("/rooms/{room}/messages?{query}"));
    let newest = get("dir=b").await.ok();
    assert_eq!(newest["chunk"].as_array().unwrap().len(), 10, "the default");
    assert_eq!(newest["chunk"][0]["content"]["body"], "519");
    let start = newest["start"].as_str().unwrap().to_owned();
    let again = get(&format!("dir=b&from={start}")).await.ok();
    assert_eq!(bodies(&again["chunk"]), bodies(&newest["chunk"]));
    let end = newest["end"].as_str().unwrap().to_owned();
    let between = get(&format!("dir=f&from={end}&limit=100")).await.ok();
    assert_eq!(between["start"], end.as_str(), "as it was given");
    let said: Vec<_> = (510..520).map(|n| n.to_string()).collect();
    assert_eq!(bodies(&between["chunk"]), said);
    assert_eq!(between.get("end"), None, "there is no more");
    // `to` stops both directions.
    let middle = get(&format!("dir=b&from={end}&limit=5")).await.ok()["end"].as_str().unwrap().to_owned();
    let back = get(&format!("dir=b&to={middle}&limit=100")).await.ok();
    assert_eq!(bodies(&back["chunk"]).len(), 15);
    let forth = get(&format!("dir=f&from={middle}&to={end}&limit=100")).await.ok();
    assert_eq!(bodies(&forth["chunk"]), ["505", "506", "507", "508", "509"]);
    // A token of sync is a place as well.
    assert_eq!(get("dir=f&from=s0_0&limit=1").await.ok()["chunk"][0]["type"], "m.room.create");
}

#[tokio::test]
async fn a_request_that_makes_no_sense_is_refused() {
    let server = Server::start().await;
    let alice = server.user("alice").await;
    let room = server.room(&alice, json!({})).await;
    for (query, code) in [
        ("", "M_MISSING_PARAM"),
        ("dir=x", "M_INVALID_PARAM"),
        ("dir=b&from=x", "M_INVALID_PARAM"),
        ("dir=b&to=x", "M_INVALID_PARAM"),
        ("dir=b&limit=x", "M_INVALID_PARAM"),
        ("dir=b&filter=x", "M_INVALID_PARAM"),
    ] {
        server.get(&alice, &format!("/rooms/{room}/messages?{query}")).await.refused(400, code);
    }
    let bob = server.user("bob").await;
    server.get(&bob, &format!("/rooms/{room}/messages?dir=b")).await.refused(403, "M_FORBIDDEN");
    server.get(&bob, "/rooms/!nowhere:example.org/messages?dir=b").await.refused(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn a_lazy_page_brings_the_members_who_speak_on_it() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = server.room(&alice, json!({"preset": "public_chat"})).await;
    server.join(&bob, &room).await.ok();
    server.say(&alice, &room, "a").await;
    server.say(&bob, &room, "b").await;
    let get = |query: &str| server.get(&alice, format!("/rooms/{room}/messages?dir=b&{query}"));
    let lazy = enc(r#"{"lazy_load_members":true}"#);
    let speakers = |page: &Value| -> Vec<String> {
        let state = page["state"].as_array().unwrap();
        assert!(state.iter().all(|event| event["type"] == "m.room.member"));
        state.iter().map(|event| event["state_key"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(speakers(&get(&format!("limit=1&filter={lazy}")).await.ok()), ["@bob:example.org"]);
    assert_eq!(
        speakers(&get(&format!("limit=2&filter={lazy}")).await.ok()),
        ["@alice:example.org", "@bob:example.org"]
    );
    assert_eq!(get("limit=2").await.ok().get("state"), None);
}

#[tokio::test]
async fn what_one_may_not_see_is_passed_over() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let state = json!([{"type": "m.room.history_visibility", "content": {"history_visibility": "joined"}}]);
    let room = server.room(&alice, json!({"preset": "public_chat", "initial_state": state})).await;
    server.say(&alice, &room, "first").await;
    server.join(&bob, &room).await.ok();
    server.say(&alice, &room, "second").await;
    server.leave(&bob, &room).await.ok();
    server.say(&alice, &room, "third").await;
    server.join(&bob, &room).await.ok();
    server.say(&alice, &room, "fourth").await;
    for dir in ["b", "f"] {
        let (events, _) = all(&server, &bob, &room, &format!("dir={dir}&limit=1")).await;
        let said = json!(events);
        let mut seen = bodies(&said);
        seen.sort_unstable();
        assert_eq!(seen, ["fourth", "second"], "{dir}");
    }
}
