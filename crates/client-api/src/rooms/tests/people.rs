//! The user directory.

use super::{Server, User};
use crate::testing;
use serde_json::{Value, json};

impl Server {
    async fn named(&self, localpart: &str, name: &str) -> User {
        let user = self.user(localpart).await;
        self.put(&user, format!("/profile/{}/displayname", user.id), json!({"displayname": name})).await.ok();
        user
    }

    async fn find(&self, user: &User, term: &str) -> Vec<String> {
        let answer = self.post(user, "/user_directory/search", json!({"search_term": term})).await.ok();
        let results = answer["results"].as_array().unwrap();
        results.iter().map(|found| found["user_id"].as_str().unwrap().to_owned()).collect()
    }
}

#[tokio::test]
async fn people_are_found_by_those_who_know_of_them() {
    let server = Server::start().await;
    let (ivan, olga) = (server.named("i.petrov", "Иван Петров").await, server.named("olga", "Ольга").await);
    let eve = server.user("eve").await;
    assert!(server.find(&olga, "петр").await.is_empty());
    let room = server.room(&ivan, json!({"invite": [olga.id]})).await;
    assert!(server.find(&olga, "петр").await.is_empty());
    server.join(&olga, &room).await.ok();
    let answer = server.post(&olga, "/user_directory/search", json!({"search_term": "ПЕТР ив"})).await.ok();
    assert_eq!(answer, json!({"results": [{"user_id": ivan.id, "display_name": "Иван Петров"}], "limited": false}));
    assert_eq!(server.find(&olga, "@i.petrov:example.org").await, [ivan.id.as_str()]);
    assert!(server.find(&olga, "петр ольга").await.is_empty());
    // Nobody finds themselves, and strangers nobody.
    assert!(server.find(&ivan, "петров").await.is_empty());
    assert!(server.find(&eve, "петров").await.is_empty());
    // Names in single rooms are for those rooms.
    let content = json!({"membership": "join", "displayname": "Freddy"});
    server.set_state(&ivan, &room, "m.room.member", ivan.id.as_str(), content).await.ok();
    assert!(server.find(&olga, "freddy").await.is_empty());
    server.room(&ivan, json!({"preset": "public_chat"})).await;
    assert_eq!(server.find(&eve, "петров").await, [ivan.id.as_str()]);
}

#[tokio::test]
async fn a_new_name_is_found_and_the_old_one_no_longer() {
    let server = Server::start().await;
    let (alice, bob) = (server.named("alice", "Alice Cooper").await, server.user("bob").await);
    server.room(&alice, json!({"preset": "public_chat"})).await;
    assert_eq!(server.find(&bob, "cooper").await.len(), 1);
    let path = format!("/profile/{}/displayname", alice.id);
    server.put(&alice, path, json!({"displayname": "Alice Liddell"})).await.ok();
    assert!(server.find(&bob, "cooper").await.is_empty());
    assert_eq!(server.find(&bob, "lid").await.len(), 1);
    server.0.state.accounts.deactivate(&alice.id, accounts::Erase::Nothing).await.unwrap();
    assert!(server.find(&bob, "alice").await.is_empty());
}

/// Puts users into the user directory who have these words, and their numbers.
async fn crowd(server: &testing::Server, prefix: &str, count: usize, words: &[&str]) {
    let mut changes = server.state.records.changes(&server.state.records.view());
    for number in 0..count {
        let user = ruma::OwnedUserId::try_from(format!("@{prefix}{number}:example.org")).unwrap();
        let own = format!("{prefix}{number}");
        let words = words.iter().map(|word| (*word).to_owned()).chain([own]).collect();
        let found = records::FoundUser { display_name: None, avatar_url: None, words };
        changes.put_found_user(&user, Some(&found)).unwrap();
    }
    server.state.records.commit(changes).await.unwrap();
}

#[tokio::test]
async fn who_shares_a_room_is_found_first_though_thousands_have_the_name() {
    let server = Server::start().await;
    let (asker, friend) = (server.user("asker").await, server.named("zz", "Иван Последний").await);
    crowd(&server.0, "a", 3_000, &["иван"]).await;
    let room = server.room(&asker, json!({"preset": "public_chat"})).await;
    assert_eq!(server.find(&asker, "иван").await, [""; 0]);
    server.join(&friend, &room).await.ok();
    assert_eq!(server.find(&asker, "иван").await, [friend.id.as_str()]);
    assert_eq!(server.find(&asker, "ив").await, [friend.id.as_str()]);
}

#[tokio::test]
async fn of_two_common_words_those_are_found_who_have_both() {
    let server = testing::Server::with(|config, _| config.find_all_users = true).await;
    let asker = server.user("asker").await;
    crowd(&server, "a", 3_000, &["иван"]).await;
    crowd(&server, "b", 3_000, &["петров"]).await;
    crowd(&server, "z", 1, &["иван", "петров"]).await;
    for term in ["иван петров", "петр ива"] {
        let body = json!({"search_term": term});
        let found = server.post("/_matrix/client/v3/user_directory/search", Some(&asker.token), &body).await.ok();
        assert_eq!(found["results"], json!([{"user_id": "@z0:example.org"}]), "{term}");
    }
}

#[tokio::test]
async fn an_operator_can_let_everybody_be_found() {
    let server = testing::Server::with(|config, _| config.find_all_users = true).await;
    let asker = server.user("asker").await;
    for n in 0..4 {
        server.user(&format!("clerk.{n}")).await;
    }
    server.user("clerks").await;
    let find =
        async |body: Value| server.post("/_matrix/client/v3/user_directory/search", Some(&asker.token), &body).await;
    let some = find(json!({"search_term": "clerk", "limit": 2})).await.ok();
    assert_eq!((some["results"].as_array().unwrap().len(), &some["limited"]), (2, &json!(true)));
    let all = find(json!({"search_term": "clerk"})).await.ok();
    assert_eq!((all["results"].as_array().unwrap().len(), &all["limited"]), (5, &json!(false)));
    // Who has the word itself comes first.
    assert_eq!(all["results"][4], json!({"user_id": "@clerks:example.org"}));
    assert_eq!(find(json!({"search_term": " "})).await.ok(), json!({"results": [], "limited": false}));
    find(json!({})).await.refused(400, "M_BAD_JSON");
    find(json!({"search_term": 1})).await.refused(400, "M_BAD_JSON");
    find(json!({"search_term": "x", "limit": -1})).await.refused(400, "M_INVALID_PARAM");
    find(json!({"search_term": "x".repeat(2000)})).await.refused(400, "M_INVALID_PARAM");
}
