//! Looking at rooms without being in them, and the deprecated stream of events.

use super::{Server, User, bodies, enc, types};
use http::Method;
use serde_json::{Value, json};

async fn open_room(server: &Server, creator: &User) -> String {
    let state = json!([{"type": "m.room.history_visibility", "content": {"history_visibility": "world_readable"}}]);
    server.room(creator, json!({"preset": "public_chat", "visibility": "public", "initial_state": state})).await
}

async fn stream(server: &Server, user: &User, query: &str) -> Value {
    server.get(user, format!("/events?{query}")).await.ok()
}

#[tokio::test]
async fn who_looks_at_a_room_sees_it_and_hears_what_comes() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = open_room(&server, &alice).await;
    for text in ["1", "2", "3"] {
        server.say(&alice, &room, text).await;
    }
    let seen = server.get(&bob, format!("/rooms/{room}/initialSync?limit=2")).await.ok();
    assert_eq!((seen["room_id"].as_str(), seen.get("membership")), (Some(room.as_str()), None));
    assert_eq!(seen["visibility"], "public");
    assert_eq!(bodies(&seen["messages"]["chunk"]), ["2", "3"]);
    assert!(types(&seen["state"]).contains(&"m.room.create"));
    let start = seen["messages"]["start"].as_str().unwrap();
    let earlier = server.get(&bob, format!("/rooms/{room}/messages?dir=b&limit=1&from={start}")).await.ok();
    assert_eq!(bodies(&earlier["chunk"]), ["1"]);
    assert_eq!(server.get(&bob, format!("/rooms/{room}/members")).await.ok()["chunk"].as_array().unwrap().len(), 1);
    server.get(&bob, format!("/rooms/{room}/state/m.room.join_rules")).await.ok();

    let from = seen["messages"]["end"].as_str().unwrap();
    let nothing = stream(&server, &bob, &format!("room_id={room}&from={from}&timeout=0")).await;
    assert_eq!((&nothing["start"], &nothing["chunk"]), (&json!(from), &json!([])));
    let end = nothing["end"].as_str().unwrap().to_owned();
    let path = format!("/_matrix/client/v3/events?room_id={room}&from={end}&timeout=20000");
    let waits = server.0.send(Method::GET, &path, Some(&bob.token), String::new());
    let (heard, _) = tokio::join!(waits, server.say(&alice, &room, "4"));
    let heard = heard.ok();
    assert_eq!(bodies(&heard["chunk"]), ["4"]);
    assert_eq!(heard["chunk"][0]["room_id"], room.as_str());
    assert!(heard["chunk"][0]["unsigned"]["membership"] == "leave");

    // What is said when the world may not read it any more is not for those who look.
    let joined = json!({"history_visibility": "joined"});
    server.set_state(&alice, &room, "m.room.history_visibility", "", joined).await.ok();
    let end = heard["end"].as_str().unwrap();
    server.get(&bob, format!("/events?room_id={room}&from={end}")).await.refused(403, "M_FORBIDDEN");
    server.get(&bob, format!("/rooms/{room}/initialSync")).await.refused(403, "M_FORBIDDEN");
    server.get(&bob, "/events?room_id=!nowhere:example.org").await.refused(403, "M_FORBIDDEN");
    server.get(&bob, "/events?from=x").await.refused(400, "M_INVALID_PARAM");
    server.get(&bob, "/events?timeout=x").await.refused(400, "M_INVALID_PARAM");
}

#[tokio::test]
async fn the_stream_tells_of_all_rooms_of_a_user_page_by_page() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let (first, second) = (open_room(&server, &alice).await, open_room(&server, &alice).await);
    let foreign = open_room(&server, &alice).await;
    for room in [&first, &second] {
        server.join(&bob, room).await.ok();
    }
    let from = stream(&server, &bob, "").await["end"].as_str().unwrap().to_owned();
    for n in 0..130 {
        let room = if n % 2 == 0 { &first } else { &second };
        server.say(&alice, room, &n.to_string()).await;
    }
    server.say(&alice, &foreign, "not bob's").await;
    let (mut from, mut told) = (from, Vec::new());
    loop {
        let page = stream(&server, &bob, &format!("from={from}")).await;
        if page["chunk"].as_array().unwrap().is_empty() {
            break;
        }
        told.extend(bodies(&page["chunk"]).into_iter().map(ToOwned::to_owned));
        from = page["end"].as_str().unwrap().to_owned();
    }
    let expected: Vec<_> = (0..130).map(|n| n.to_string()).collect();
    assert_eq!(told, expected);

    server.invite(&alice, &foreign, &bob).await.ok();
    let page = stream(&server, &bob, &format!("from={from}")).await;
    assert_eq!(page["chunk"][0]["content"]["membership"], "invite");
    server.leave(&bob, &first).await.ok();
    server.say(&alice, &first, "later").await;
    let page = stream(&server, &bob, &format!("from={}", page["end"].as_str().unwrap())).await;
    assert_eq!(page["chunk"].as_array().unwrap().len(), 1);
    assert_eq!(page["chunk"][0]["content"]["membership"], "leave");
}

#[tokio::test]
async fn the_first_sync_of_old_has_all_rooms_and_what_the_user_stored() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let (joined, invited, left) =
        (open_room(&server, &alice).await, open_room(&server, &alice).await, open_room(&server, &alice).await);
    for room in [&joined, &left] {
        server.join(&bob, room).await.ok();
    }
    server.invite(&alice, &invited, &bob).await.ok();
    server.leave(&bob, &left).await.ok();
    server.say(&alice, &joined, "hello").await;
    server.put(&bob, format!("/user/{}/account_data/m.x", bob.id), json!({"a": 1})).await.ok();
    server.put(&bob, format!("/user/{}/rooms/{joined}/account_data/m.y", bob.id), json!({"b": 2})).await.ok();

    let answer = server.get(&bob, "/initialSync?limit=1").await.ok();
    let room = |answer: &Value, id: &str| {
        answer["rooms"].as_array().unwrap().iter().find(|room| room["room_id"] == id).cloned()
    };
    let told = room(&answer, &joined).unwrap();
    assert_eq!((bodies(&told["messages"]["chunk"]), &told["membership"]), (vec!["hello"], &json!("join")));
    assert_eq!(told["account_data"], json!([{"type": "m.y", "content": {"b": 2}}]));
    assert_eq!(room(&answer, &invited).unwrap()["invite"]["content"]["membership"], "invite");
    assert_eq!(room(&answer, &left), None);
    assert!(answer["account_data"].as_array().unwrap().contains(&json!({"type": "m.x", "content": {"a": 1}})));
    assert_eq!(answer["presence"][0]["sender"], json!(alice.id));
    let end = answer["end"].as_str().unwrap();
    assert_eq!(stream(&server, &bob, &format!("from={end}")).await["chunk"], json!([]));

    let archived = server.get(&bob, "/initialSync?archived=true").await.ok();
    assert_eq!(room(&archived, &left).unwrap()["membership"], "leave");
    server.get(&bob, "/initialSync?limit=-1").await.refused(400, "M_INVALID_PARAM");
}

#[tokio::test]
async fn an_event_is_found_by_its_id_alone_by_those_who_may_see_it() {
    let server = Server::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = server.room(&alice, json!({})).await;
    let event = server.say(&alice, &room, "1").await;
    let path = format!("/events/{}", enc(&event));
    let found = server.get(&alice, &path).await.ok();
    assert_eq!((found["content"]["body"].as_str(), found["room_id"].as_str()), (Some("1"), Some(room.as_str())));
    server.get(&bob, &path).await.refused(404, "M_NOT_FOUND");
    server.get(&alice, "/events/$nothing").await.refused(404, "M_NOT_FOUND");
}
