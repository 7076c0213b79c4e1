//! Full-text search.

use super::*;

fn criteria(term: &str, more: &Value) -> Value {
    let mut events = json!({"search_term": term, "order_by": "recent"});
    events.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"search_categories": {"room_events": events}})
}

impl Server {
    /// A server whose search index is there.
    async fn with_search() -> Self {
        let server = Self::start().await;
        server.0.state.search.made().await;
        server
    }

    async fn search(&self, user: &User, term: &str, more: Value) -> Value {
        let answer = self.post(user, "/search", criteria(term, &more)).await.ok();
        answer["search_categories"]["room_events"].clone()
    }

    /// The bodies that are found, the last first, and how many there are said to be.
    async fn found(&self, user: &User, term: &str) -> (Vec<String>, u64) {
        let found = self.search(user, term, json!({})).await;
        (results(&found), found["count"].as_u64().unwrap())
    }
}

fn results(found: &Value) -> Vec<String> {
    let results = found["results"].as_array().unwrap().iter();
    let text = |result: &Value| {
        let content = &result["result"]["content"];
        let keys = ["body", "name", "topic"];
        keys.into_iter().find_map(|key| content[key].as_str().map(ToOwned::to_owned)).unwrap()
    };
    results.map(text).collect()
}

fn ids(found: &Value) -> Vec<&str> {
    found["results"].as_array().unwrap().iter().map(|r| r["result"]["event_id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn messages_names_and_topics_are_found_by_their_words() {
    let server = Server::with_search().await;
    let alice = server.user("alice").await;
    let room = server.room(&alice, json!({"name": "Отдел кадров", "topic": "Приказы по кадрам"})).await;
    let event = server.say(&alice, &room, "Проект приказа о кадрах, см. приложение").await;
    let found = server.search(&alice, "кадры приказ", json!({})).await;
    assert_eq!(results(&found), ["Проект приказа о кадрах, см. приложение", "Приказы по кадрам"]);
    assert_eq!(found["count"], 2);
    assert_eq!(found["highlights"], json!(["кадрам", "кадрах", "приказа", "приказы"]));
    let first = &found["results"][0];
    assert_eq!((&first["result"]["event_id"], &first["result"]["room_id"]), (&json!(event), &json!(room)));
    assert!(first["rank"].as_f64().unwrap() > 0.0);
    for (keys, count) in [(json!(["content.name"]), 1), (json!(["content.body", "content.topic"]), 2), (json!([]), 0)] {
        let found = server.search(&alice, "кадры", json!({"keys": keys})).await;
        assert_eq!(found["count"], count, "{keys}");
    }
}

#[tokio::test]
async fn what_fits_better_comes_first_unless_the_last_shall() {
    let server = Server::with_search().await;
    let alice = server.user("alice").await;
    let room = server.room(&alice, json!({})).await;
    server.say(&alice, &room, "tender").await;
    server.say(&alice, &room, "a tender among a great many other words that have nothing to do with it").await;
    let ranked = server.search(&alice, "tenders", json!({"order_by": "rank"})).await;
    assert_eq!(results(&ranked)[0], "tender");
    assert_eq!(results(&server.search(&alice, "tenders", json!({})).await)[1], "tender");
    let rank = |nth: usize| ranked["results"][nth]["rank"].as_f64().unwrap();
    assert!(rank(0) > rank(1));
}

#[tokio::test]
async fn nobody_finds_or_counts_what_they_may_not_see() {
    let server = Server::with_search().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let history = |visibility: &str| {
        let content = json!({"history_visibility": visibility});
        json!({"preset": "public_chat",
            "initial_state": [{"type": "m.room.history_visibility", "state_key": "", "content": content}]})
    };
    let room = server.room(&alice, history("joined")).await;
    server.say(&alice, &room, "word before").await;
    assert_eq!(server.found(&bob, "word").await, (vec![], 0));
    server.join(&bob, &room).await.ok();
    assert_eq!(server.found(&bob, "word").await, (vec![], 0));
    server.say(&alice, &room, "word while").await;
    server.leave(&bob, &room).await.ok();
    let after = server.say(&alice, &room, "word after").await;
    assert_eq!(server.found(&bob, "word").await, (vec!["word while".to_owned()], 1));
    assert_eq!(server.found(&alice, "word").await.1, 3);
    // Nor by an edit of what they saw.
    let seen = server.search(&bob, "word", json!({})).await;
    let seen = ids(&seen)[0].to_owned();
    let edit = json!({"msgtype": "m.text", "body": "*", "m.new_content": {"msgtype": "m.text", "body": "hidden"},
        "m.relates_to": {"rel_type": "m.replace", "event_id": seen}});
    server.put(&alice, format!("/rooms/{room}/send/m.room.message/edit"), edit).await.ok();
    assert_eq!(server.found(&bob, "hidden").await, (vec![], 0));
    assert_eq!(ids(&server.search(&alice, "hidden", json!({})).await), [&seen]);
    assert_ne!(after, seen);
    // Who has forgotten a room does not search it.
    server.post(&bob, format!("/rooms/{room}/forget"), json!({})).await.ok();
    assert_eq!(server.found(&bob, "word").await, (vec![], 0));
    // What was said before somebody came is found where it is shared.
    let shared = server.room(&alice, history("shared")).await;
    server.say(&alice, &shared, "shared word").await;
    server.join(&bob, &shared).await.ok();
    assert_eq!(server.found(&bob, "word").await, (vec!["shared word".to_owned()], 1));
}

#[tokio::test]
async fn what_is_redacted_or_of_somebody_ignored_is_not_found() {
    let server = Server::with_search().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = server.room(&alice, json!({"preset": "public_chat"})).await;
    server.join(&bob, &room).await.ok();
    let gone = server.say(&alice, &room, "draft one").await;
    server.say(&bob, &room, "draft two").await;
    server.put(&alice, format!("/rooms/{room}/redact/{gone}/1"), json!({})).await.ok();
    assert_eq!(server.found(&alice, "draft").await, (vec!["draft two".to_owned()], 1));
    let list = json!({"ignored_users": {bob.id.as_str(): {}}});
    server.put(&alice, format!("/user/{}/account_data/m.ignored_user_list", alice.id), list).await.ok();
    assert_eq!(server.found(&alice, "draft").await, (vec![], 0));
    assert_eq!(server.found(&bob, "draft").await.1, 1);
}

#[tokio::test]
async fn encrypted_rooms_are_not_searched() {
    let server = Server::with_search().await;
    let alice = server.user("alice").await;
    let room = server.room(&alice, json!({})).await;
    server.say(&alice, &room, "plain").await;
    assert_eq!(server.found(&alice, "plain").await.1, 1);
    server.set_state(&alice, &room, "m.room.encryption", "", json!({"algorithm": "m.megolm.v1.aes-sha2"})).await.ok();
    server.say(&alice, &room, "plain again").await;
    assert_eq!(server.found(&alice, "plain").await, (vec![], 0));
}

#[tokio::test]
async fn pages_follow_each_other_and_groups_have_their_own() {
    let server = Server::with_search().await;
    let alice = server.user("alice").await;
    let (one, two) = (server.room(&alice, json!({})).await, server.room(&alice, json!({})).await);
    for number in 0..6 {
        server.say(&alice, if number % 3 == 0 { &two } else { &one }, &format!("Message number {number}")).await;
    }
    let more = json!({
        "filter": {"limit": 2}, "groupings": {"group_by": [{"key": "room_id"}, {"key": "sender"}]},
    });
    let page = async |token: &str| {
        let path = if token.is_empty() { "/search".to_owned() } else { format!("/search?next_batch={token}") };
        let answer = server.post(&alice, path, criteria("message", &more)).await.ok();
        answer["search_categories"]["room_events"].clone()
    };
    let first = page("").await;
    assert_eq!(results(&first), ["Message number 5", "Message number 4"]);
    assert_eq!(first["count"], 6);
    let groups = &first["groups"];
    assert_eq!(groups["room_id"][&one]["results"], json!(ids(&first)));
    assert_eq!(groups["sender"][alice.id.as_str()]["order"], 1);
    let second = page(first["next_batch"].as_str().unwrap()).await;
    assert_eq!(results(&second), ["Message number 3", "Message number 2"]);
    assert_eq!(second["groups"]["room_id"][&one]["order"], 2);
    let third = page(second["next_batch"].as_str().unwrap()).await;
    assert_eq!(results(&third), ["Message number 1", "Message number 0"]);
    let last = page(third["next_batch"].as_str().unwrap()).await;
    assert_eq!((results(&last), &last["count"], last.get("next_batch")), (vec![], &json!(6), None));
    let of_group = page(groups["room_id"][&one]["next_batch"].as_str().unwrap()).await;
    assert_eq!(results(&of_group), ["Message number 2", "Message number 1"]);
    let of_group = page(of_group["next_batch"].as_str().unwrap()).await;
    assert_eq!(results(&of_group), [""; 0]);
    let of_sender = page(groups["sender"][alice.id.as_str()]["next_batch"].as_str().unwrap()).await;
    assert_eq!(results(&of_sender), ["Message number 3", "Message number 2"]);
    server.post(&alice, "/search?next_batch=x", criteria("m", &json!({}))).await.refused(400, "M_INVALID_PARAM");
}

#[tokio::test]
async fn results_come_with_what_was_around_them() {
    let server = Server::with_search().await;
    let alice = server.user("alice").await;
    server.put(&alice, format!("/profile/{}/displayname", alice.id), json!({"displayname": "Алиса"})).await.ok();
    let room = server.room(&alice, json!({})).await;
    for number in 1..=7 {
        server.say(&alice, &room, &format!("Message number {number}")).await;
    }
    let more = json!({
        "filter": {"limit": 1}, "include_state": true,
        "event_context": {"before_limit": 2, "after_limit": 2, "include_profile": true},
    });
    let found = server.search(&alice, "Message 4", more).await;
    assert_eq!(results(&found), ["Message number 4"]);
    let context = &found["results"][0]["context"];
    assert_eq!(bodies(&context["events_before"]), ["Message number 3", "Message number 2"]);
    assert_eq!(bodies(&context["events_after"]), ["Message number 5", "Message number 6"]);
    assert_eq!(context["profile_info"][alice.id.as_str()], json!({"displayname": "Алиса"}));
    let page = server.get(&alice, format!("/rooms/{room}/messages?dir=b&from={}", context["start"].as_str().unwrap()));
    assert_eq!(bodies(&page.await.ok()["chunk"]), ["Message number 1"]);
    assert!(types(&found["state"][&room]).contains(&"m.room.create"));
    let plain = server.search(&alice, "Message 4", json!({})).await;
    assert_eq!((plain["results"][0].get("context"), plain.get("state")), (None, None));
}

#[tokio::test]
async fn filters_choose_rooms_senders_types_and_urls() {
    let server = Server::with_search().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = server.room(&alice, json!({"preset": "public_chat", "name": "item name"})).await;
    let other = server.room(&alice, json!({})).await;
    server.join(&bob, &room).await.ok();
    server.say(&alice, &room, "item alice").await;
    server.say(&bob, &room, "item bob").await;
    server.say(&alice, &other, "item other").await;
    let file = json!({"msgtype": "m.file", "body": "item file", "url": "mxc://x/y"});
    server.put(&alice, format!("/rooms/{room}/send/m.room.message/f"), file).await.ok();
    for (filter, expected) in [
        (json!({"rooms": [other]}), vec!["item other"]),
        (json!({"rooms": ["!nowhere:example.org"]}), vec![]),
        (json!({"not_rooms": [room]}), vec!["item other"]),
        (json!({"senders": [bob.id]}), vec!["item bob"]),
        (json!({"not_senders": [alice.id]}), vec!["item bob"]),
        (json!({"types": ["m.room.n*"]}), vec!["item name"]),
        (json!({"not_types": ["m.room.message"]}), vec!["item name"]),
        (json!({"contains_url": true}), vec!["item file"]),
        (json!({"contains_url": false, "rooms": [room]}), vec!["item bob", "item alice", "item name"]),
    ] {
        let found = server.search(&alice, "item", json!({"filter": filter})).await;
        assert_eq!(results(&found), expected, "{filter}");
    }
}

#[tokio::test]
async fn a_room_is_searched_with_the_one_that_it_replaces() {
    let server = Server::with_search().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let old = server.room(&alice, json!({"preset": "public_chat", "room_version": "10"})).await;
    server.say(&alice, &old, "upgrade before").await;
    let new = server.post(&alice, format!("/rooms/{old}/upgrade"), json!({"new_version": "11"})).await.ok();
    let new = new["replacement_room"].as_str().unwrap().to_owned();
    server.say(&alice, &new, "upgrade after").await;
    let filter = json!({"filter": {"rooms": [new]}});
    assert_eq!(results(&server.search(&alice, "upgrade", filter.clone()).await), ["upgrade after", "upgrade before"]);
    // Who was not in the old one finds nothing of it.
    server.join(&bob, &new).await.ok();
    assert_eq!(results(&server.search(&bob, "upgrade", filter).await), ["upgrade after"]);
}

#[tokio::test]
async fn a_search_for_nothing_finds_nothing() {
    let server = Server::with_search().await;
    let alice = server.user("alice").await;
    server.room(&alice, json!({"name": "x"})).await;
    for term in ["", " ?! ", "\"\"", "nowhere"] {
        assert_eq!(server.found(&alice, term).await, (vec![], 0), "{term}");
    }
    assert_eq!(
        server.post(&alice, "/search", json!({"search_categories": {}})).await.ok(),
        json!({"search_categories": {}})
    );
    server.post(&alice, "/search", json!({})).await.refused(400, "M_BAD_JSON");
    server.post(&alice, "/search", criteria(&"x".repeat(5000), &json!({}))).await.refused(400, "M_INVALID_PARAM");
}
