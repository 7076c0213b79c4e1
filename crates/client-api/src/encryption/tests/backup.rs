//! Backups of room keys.

use crate::testing::{Server, User};
use http::Method;
use serde_json::{Value, json};

const VERSION: &str = "/_matrix/client/v3/room_keys/version";
const KEYS: &str = "/_matrix/client/v3/room_keys/keys";

fn auth_data(n: u64) -> Value {
    json!({ "algorithm": "m.megolm_backup.v1.curve25519-aes-sha2", "auth_data": { "public_key": n.to_string() } })
}

fn key(is_verified: bool, first_message_index: u64, forwarded_count: u64) -> Value {
    json!({
        "first_message_index": first_message_index,
        "forwarded_count": forwarded_count,
        "is_verified": is_verified,
        "session_data": { "ciphertext": format!("{is_verified} {first_message_index} {forwarded_count}") },
    })
}

async fn create(server: &Server, user: &User) -> String {
    let answer = server.post(VERSION, Some(&user.token), &auth_data(1)).await.ok();
    answer["version"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn versions_come_and_go_and_no_number_comes_twice() {
    let server = Server::new().await;
    let alice = server.user("alice").await;
    let token = Some(alice.token.as_str());
    server.get(VERSION, token).await.refused(404, "M_NOT_FOUND");
    let first = create(&server, &alice).await;
    let second = create(&server, &alice).await;
    let current = server.get(VERSION, token).await.ok();
    let mut expected = auth_data(1);
    expected["version"] = json!(second);
    expected["count"] = json!(0);
    expected["etag"] = current["etag"].clone();
    assert_eq!(current, expected);
    assert_eq!(server.get(&format!("{VERSION}/{first}"), token).await.ok()["version"], first);
    for gone in ["77", "x", "01", "-1"] {
        server.get(&format!("{VERSION}/{gone}"), token).await.refused(404, "M_NOT_FOUND");
        server.delete(&format!("{VERSION}/{gone}"), token, &json!({})).await.refused(404, "M_NOT_FOUND");
        server.put(&format!("{VERSION}/{gone}"), token, &auth_data(2)).await.refused(404, "M_NOT_FOUND");
    }
    for _ in 0..2 {
        server.delete(&format!("{VERSION}/{second}"), token, &json!({})).await.ok();
    }
    server.get(&format!("{VERSION}/{second}"), token).await.refused(404, "M_NOT_FOUND");
    assert_eq!(server.get(VERSION, token).await.ok()["version"], first);
    let third = create(&server, &alice).await;
    assert!(third != first && third != second);
    let bob = server.user("bob").await;
    server.get(&format!("{VERSION}/{first}"), Some(&bob.token)).await.refused(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn only_the_auth_data_of_a_version_changes() {
    let server = Server::new().await;
    let alice = server.user("alice").await;
    let token = Some(alice.token.as_str());
    let path = format!("{VERSION}/{}", create(&server, &alice).await);
    server.put(&path, token, &auth_data(2)).await.ok();
    assert_eq!(server.get(&path, token).await.ok()["auth_data"], json!({ "public_key": "2" }));
    let mut other = auth_data(3);
    other["algorithm"] = json!("other");
    server.put(&path, token, &other).await.refused(400, "M_INVALID_PARAM");
    let mut other = auth_data(3);
    other["version"] = json!("99");
    server.put(&path, token, &other).await.refused(400, "M_INVALID_PARAM");
    server.put(&path, token, &json!({ "algorithm": "a", "auth_data": [] })).await.refused(400, "M_BAD_JSON");
    server.post(VERSION, token, &json!({ "algorithm": "a" })).await.refused(400, "M_BAD_JSON");
    assert_eq!(server.get(&path, token).await.ok()["auth_data"], json!({ "public_key": "2" }));
}

#[tokio::test]
async fn keys_are_stored_read_counted_and_removed_one_by_one_by_room_and_all() {
    let server = Server::new().await;
    let alice = server.user("alice").await;
    let token = Some(alice.token.as_str());
    let version = create(&server, &alice).await;
    let at = |path: &str| format!("{KEYS}{path}?version={version}");
    assert_eq!(server.get(&at(""), token).await.ok(), json!({ "rooms": {} }));
    assert_eq!(server.get(&at("/!a:b"), token).await.ok(), json!({ "sessions": {} }));
    server.get(&at("/!a:b/s"), token).await.refused(404, "M_NOT_FOUND");

    let one = server.put(&at("/!a:b/s1"), token, &key(false, 1, 1)).await.ok();
    assert_eq!(one["count"], 1);
    let room = json!({ "sessions": { "s2": key(false, 2, 2), "s3": key(false, 3, 3) } });
    let three = server.put(&at("/!a:b"), token, &room).await.ok();
    assert_eq!(three["count"], 3);
    assert_ne!(three["etag"], one["etag"]);
    let rooms = json!({ "rooms": { "!c:d": { "sessions": { "s\"1": key(true, 4, 4) } }, "!e:f": room } });
    let six = server.put(&at(""), token, &rooms).await.ok();
    assert_eq!(six["count"], 6);
    // Nothing new: nothing changes.
    assert_eq!(server.put(&at(""), token, &rooms).await.ok(), six);
    let standing = server.get(VERSION, token).await.ok();
    assert_eq!((&standing["count"], &standing["etag"]), (&six["count"], &six["etag"]));

    let mut all = rooms.clone();
    all["rooms"]["!a:b"] = json!({
        "sessions": { "s1": key(false, 1, 1), "s2": key(false, 2, 2), "s3": key(false, 3, 3) }
    });
    assert_eq!(server.get(&at(""), token).await.ok(), all);
    assert_eq!(server.get(&at("/!a:b"), token).await.ok(), all["rooms"]["!a:b"]);
    assert_eq!(server.get(&at("/!a:b/s2"), token).await.ok(), key(false, 2, 2));

    assert_eq!(server.delete(&at("/!a:b/s2"), token, &json!({})).await.ok()["count"], 5);
    assert_eq!(server.delete(&at("/!a:b/s2"), token, &json!({})).await.ok()["count"], 5);
    assert_eq!(server.delete(&at("/!e:f"), token, &json!({})).await.ok()["count"], 3);
    assert_eq!(server.get(&at("/!e:f"), token).await.ok(), json!({ "sessions": {} }));
    assert_eq!(server.send(Method::DELETE, &at(""), token, "").await.ok()["count"], 0);
    assert_eq!(server.get(&at(""), token).await.ok(), json!({ "rooms": {} }));
}

#[tokio::test]
async fn the_better_key_of_a_session_stays() {
    let server = Server::new().await;
    let alice = server.user("alice").await;
    let token = Some(alice.token.as_str());
    let path = format!("{KEYS}/!a:b/s?version={}", create(&server, &alice).await);
    for (new, stays) in [
        (key(false, 10, 5), key(false, 10, 5)),
        (key(false, 11, 1), key(false, 10, 5)),
        (key(false, 10, 6), key(false, 10, 5)),
        (key(false, 10, 4), key(false, 10, 4)),
        (key(false, 9, 9), key(false, 9, 9)),
        (key(true, 20, 20), key(true, 20, 20)),
        (key(false, 0, 0), key(true, 20, 20)),
        (key(true, 19, 30), key(true, 19, 30)),
    ] {
        server.put(&path, token, &new).await.ok();
        assert_eq!(server.get(&path, token).await.ok(), stays);
    }
}

#[tokio::test]
async fn keys_are_written_to_the_current_version_only() {
    let server = Server::new().await;
    let alice = server.user("alice").await;
    let token = Some(alice.token.as_str());
    let path = |version: &str| format!("{KEYS}/!a:b/s?version={version}");
    server.put(&path("1"), token, &key(true, 0, 0)).await.refused(404, "M_NOT_FOUND");
    let old = create(&server, &alice).await;
    server.put(&path(&old), token, &key(true, 0, 0)).await.ok();
    let new = create(&server, &alice).await;
    let refused = server.put(&path(&old), token, &key(true, 1, 1)).await;
    refused.refused(403, "M_WRONG_ROOM_KEYS_VERSION");
    assert_eq!(refused.body["current_version"], new);
    assert_eq!(server.get(&path(&old), token).await.ok(), key(true, 0, 0));
    server.get(&path(&new), token).await.refused(404, "M_NOT_FOUND");
    server.get(&path("77"), token).await.refused(404, "M_NOT_FOUND");
    server.delete(&path("77"), token, &json!({})).await.refused(404, "M_NOT_FOUND");
    for path in [KEYS.to_owned(), format!("{KEYS}/!a:b"), format!("{KEYS}/!a:b/s")] {
        server.get(&path, token).await.refused(400, "M_MISSING_PARAM");
    }
    let mut odd = key(true, 0, 0);
    odd["session_data"] = json!("text");
    server.put(&path(&new), token, &odd).await.refused(400, "M_BAD_JSON");
    odd["session_data"] = json!({ "x": "x".repeat(70_000) });
    server.put(&path(&new), token, &odd).await.refused(413, "M_TOO_LARGE");
}

#[tokio::test]
async fn a_large_backup_is_answered_whole() {
    let server = Server::new().await;
    let alice = server.user("alice").await;
    let token = Some(alice.token.as_str());
    let path = format!("{KEYS}?version={}", create(&server, &alice).await);
    let session = |n: u64| (format!("s{n}"), key(false, n, 0));
    // Rooms end within pages and at their ends.
    let room = |from: u64, to: u64| json!({ "sessions": (from..to).map(session).collect::<serde_json::Map<_, _>>() });
    let rooms = json!({ "rooms": { "!a:b": room(0, 500), "!c:d": room(0, 1_200), "!e:f": room(0, 300) } });
    for (id, room) in rooms["rooms"].as_object().unwrap() {
        server.put(&path, token, &json!({ "rooms": { id: room } })).await.ok();
    }
    assert_eq!(server.get(&path, token).await.ok(), rooms);
    let one = path.replace("keys?", "keys/!c:d?");
    assert_eq!(server.get(&one, token).await.ok(), rooms["rooms"]["!c:d"]);
    let full = path.replace("keys?", "keys/!a:b?");
    assert_eq!(server.get(&full, token).await.ok(), rooms["rooms"]["!a:b"]);
}
