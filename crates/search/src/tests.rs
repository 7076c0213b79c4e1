//! The follower and its index, over rooms in memory and an index in a folder.

use super::*;
use base::{FakeClock, RoomNum, Secret, SeededRandom, UnixMillis};
use rooms::{CreateRoom, Draft, InitialState};
use ruma::{OwnedRoomId, OwnedUserId, owned_server_name, owned_user_id};
use serde_json::json;
use serde_json::value::to_raw_value;
use std::path::Path;
use store::MemoryEngine;
use tempfile::TempDir;

struct Server {
    records: Records,
    rooms: Rooms,
    clock: Arc<FakeClock>,
    folder: TempDir,
}

fn alice() -> OwnedUserId {
    owned_user_id!("@alice:here.example")
}

impl Server {
    async fn new() -> Self {
        let records = Records::open(Arc::new(MemoryEngine::new())).await.unwrap();
        let clock = Arc::new(FakeClock::new(UnixMillis(1_700_000_000_000)));
        let key = rules::SigningKey::generate(owned_server_name!("here.example"), "1", Secret::new([1; 32])).unwrap();
        let random = Arc::new(SeededRandom::new(1));
        let rooms = Rooms::new(records.clone(), Arc::new(key), clock.clone(), random, rooms::Config::default());
        Self { records, rooms, clock, folder: tempfile::tempdir().unwrap() }
    }

    fn index(&self) -> std::path::PathBuf {
        self.folder.path().join("search")
    }

    async fn search_in(&self, folder: &Path) -> Search {
        let (records, rooms, clock) = (self.records.clone(), self.rooms.clone(), self.clock.clone());
        let folder = Some(folder.to_owned());
        let search = Search::new(records, rooms, clock, folder, Writers::default(), Config::default());
        search.made().await;
        search
    }

    /// Starts search, which makes the index if it has to.
    async fn search(&self) -> Search {
        self.search_in(&self.index()).await
    }

    async fn room(&self) -> OwnedRoomId {
        self.rooms.create(&alice(), CreateRoom::default()).await.unwrap()
    }

    async fn say(&self, room: &OwnedRoomId, content: serde_json::Value) -> String {
        let draft = Draft::message(alice(), "m.room.message", to_raw_value(&content).unwrap());
        self.rooms.send(room, draft, None).await.unwrap().to_string()
    }

    async fn tell(&self, room: &OwnedRoomId, text: &str) -> String {
        self.say(room, json!({"msgtype": "m.text", "body": text})).await
    }

    async fn edit(&self, room: &OwnedRoomId, event: &str, text: &str) -> String {
        let relation = json!({"rel_type": "m.replace", "event_id": event});
        let new = json!({"msgtype": "m.text", "body": text});
        self.say(room, json!({"msgtype": "m.text", "body": "*", "m.new_content": new, "m.relates_to": relation})).await
    }

    async fn redact(&self, room: &OwnedRoomId, event: &str) {
        let content = to_raw_value(&json!({"redacts": event})).unwrap();
        let draft =
            Draft { redacts: Some(event.try_into().unwrap()), ..Draft::message(alice(), "m.room.redaction", content) };
        self.rooms.send(room, draft, None).await.unwrap();
    }

    /// The ids of what alice finds, the most recent first.
    async fn find(&self, search: &Search, text: &str) -> Vec<String> {
        search.catch_up().await;
        let found = search.hits(self.request(text)).await.unwrap();
        assert_eq!(found.certain, u64::try_from(found.hits.len()).unwrap());
        let view = self.records.view();
        found.hits.iter().map(|hit| view.event(hit.event).unwrap().unwrap().1.event_id.to_string()).collect()
    }

    fn request(&self, text: &str) -> Request {
        Request {
            terms: Arc::new(Terms::of(text)),
            scope: Arc::new(Scope::of(&self.records.view(), &alice()).unwrap()),
            wanted: Arc::new(Wanted::new(Key::ALL.to_vec())),
            ordering: Ordering::Recent,
            beyond: None,
            group: None,
            hits_max: 100,
            doubtful_max: 100,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_said_before_and_what_is_said_now_is_found() {
    let server = Server::new().await;
    let room = server.room().await;
    let before = server.tell(&room, "Проект приказа о премировании").await;
    let search = server.search().await;
    assert_eq!(server.find(&search, "приказы").await, [&*before]);
    let after = server.tell(&room, "Приказ подписан").await;
    assert_eq!(server.find(&search, "ПРИКАЗ").await, [&*after, &*before]);
    assert_eq!(server.find(&search, "премирование \"проект приказа\"").await, [&*before]);
    assert_eq!(server.find(&search, "\"приказа проект\"").await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_replaces_what_it_edits_until_it_is_redacted() {
    let server = Server::new().await;
    let (room, search) = (server.room().await, server.search().await);
    let event = server.tell(&room, "monday").await;
    let first = server.edit(&room, &event, "tuesday").await;
    server.clock.advance(Duration::from_secs(1));
    let second = server.edit(&room, &event, "wednesday").await;
    assert_eq!(server.find(&search, "wednesday").await, [&*event]);
    assert!(server.find(&search, "monday").await.is_empty() && server.find(&search, "tuesday").await.is_empty());
    server.redact(&room, &second).await;
    assert_eq!(server.find(&search, "tuesday").await, [&*event]);
    assert!(server.find(&search, "wednesday").await.is_empty());
    server.redact(&room, &first).await;
    assert_eq!(server.find(&search, "monday").await, [&*event]);
    server.redact(&room, &event).await;
    assert!(server.find(&search, "monday").await.is_empty() && server.find(&search, "tuesday").await.is_empty());
    // An index that is made from the rooms says the same.
    let anew = server.search_in(&server.folder.path().join("other")).await;
    for word in ["monday", "tuesday", "wednesday"] {
        assert!(server.find(&anew, word).await.is_empty(), "{word}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_that_becomes_encrypted_is_not_searched_any_more() {
    let server = Server::new().await;
    let (room, search) = (server.room().await, server.search().await);
    let open = server.room().await;
    server.tell(&room, "secret").await;
    let other = server.tell(&open, "secret").await;
    assert_eq!(server.find(&search, "secret").await.len(), 2);
    let content = to_raw_value(&json!({"algorithm": "m.megolm.v1.aes-sha2"})).unwrap();
    let draft = Draft::state(alice(), "m.room.encryption", "", content);
    server.rooms.send(&room, draft, None).await.unwrap();
    server.tell(&room, "secret in the open").await;
    assert_eq!(server.find(&search, "secret").await, [&*other]);
    let anew = server.search_in(&server.folder.path().join("other")).await;
    assert_eq!(server.find(&anew, "secret").await, [&*other]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_goes_on_where_it_ended() {
    let server = Server::new().await;
    let room = server.room().await;
    let search = server.search().await;
    let first = server.tell(&room, "word one").await;
    assert_eq!(server.find(&search, "word").await.len(), 1);
    let id = server.records.view().search_index().unwrap();
    search.close().await;
    let second = server.tell(&room, "word two").await;
    let search = server.search().await;
    assert_eq!(server.find(&search, "word").await, [&*second, &*first]);
    assert_eq!(server.records.view().search_index().unwrap(), id, "it is the same index");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_is_lost_or_damaged_is_made_anew() {
    let server = Server::new().await;
    let room = server.room().await;
    server.tell(&room, "word").await;
    let search = server.search().await;
    assert_eq!(server.find(&search, "word").await.len(), 1);
    search.close().await;
    let mut ids = vec![server.records.view().search_index().unwrap()];
    std::fs::remove_dir_all(server.index()).unwrap();
    for damage in ["nothing", "meta.json", "segment"] {
        for file in std::fs::read_dir(server.index()).into_iter().flatten().map(|file| file.unwrap().path()) {
            let name = file.file_name().unwrap().to_str().unwrap().to_owned();
            let is_segment = damage == "segment" && name.len() > 32;
            if name == damage || is_segment {
                let mut bytes = std::fs::read(&file).unwrap();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 0x55;
                if damage == "meta.json" {
                    bytes.truncate(middle);
                }
                std::fs::write(&file, bytes).unwrap();
            }
        }
        let search = server.search().await;
        assert_eq!(server.find(&search, "word").await.len(), 1, "{damage}");
        search.close().await;
        let id = server.records.view().search_index().unwrap();
        assert!(!ids.contains(&id), "{damage}: it is a new one");
        ids.push(id);
        server.clock.advance(Duration::from_secs(1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_of_another_store_is_not_used() {
    let (server, other) = (Server::new().await, Server::new().await);
    for (server, text) in [(&server, "ours"), (&other, "theirs")] {
        let room = server.room().await;
        server.tell(&room, text).await;
    }
    let search = server.search().await;
    assert_eq!(server.find(&search, "ours").await.len(), 1);
    search.close().await;
    let search = other.search_in(&server.index()).await;
    assert!(other.find(&search, "ours").await.is_empty());
    assert_eq!(other.find(&search, "theirs").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_kept_for_the_index_and_not_for_one_that_is_turned_off() {
    let server = Server::new().await;
    let search = server.search().await;
    assert!(server.records.view().follower(NAME).unwrap().is_some());
    search.close().await;
    let (records, rooms, clock) = (server.records.clone(), server.rooms.clone(), server.clock.clone());
    let config = Config { enabled: false, ..Config::default() };
    let search = Search::new(records, rooms, clock, Some(server.index()), Writers::default(), config);
    let mut newest = server.records.newest();
    while server.records.view().follower(NAME).unwrap().is_some() {
        newest.changed().await.unwrap();
    }
    assert!(matches!(search.hits(server.request("x")).await, Err(SearchError::Off)));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_rooms_and_messages_are_made_into_an_index_piece_by_piece() {
    let server = Server::new().await;
    for number in 0..30 {
        let name = format!("room {number}");
        let topic = InitialState {
            kind: "m.room.topic".to_owned(),
            state_key: String::new(),
            content: to_raw_value(&json!({"topic": "a subject"})).unwrap(),
        };
        let request = CreateRoom { name: Some(name), initial_state: vec![topic], ..CreateRoom::default() };
        let room = server.rooms.create(&alice(), request).await.unwrap();
        for message in 0..40 {
            server.tell(&room, &format!("message {message} of {number}")).await;
        }
    }
    let search = server.search().await;
    let mut request = server.request("messages");
    request.hits_max = 7;
    let found = search.hits(request.clone()).await.unwrap();
    assert_eq!((found.certain, found.hits.len()), (30 * 40, 7));
    assert!(found.hits.is_sorted_by(|a, b| a.place > b.place));
    // Page by page, everything comes once.
    let mut seen = std::collections::HashSet::new();
    request.hits_max = 100;
    loop {
        let page = search.hits(request.clone()).await.unwrap().hits;
        let Some(last) = page.last() else { break };
        request.beyond = Some(last.place);
        assert!(page.iter().all(|hit| seen.insert(hit.event)));
    }
    assert_eq!(seen.len(), 30 * 40);
    // Topics and names are found too, and one room alone.
    assert_eq!(search.hits(server.request("subjects")).await.unwrap().certain, 30);
    let mut one = server.request("room");
    one.group = Some(Group::room(RoomNum(one.scope.few(100).unwrap().map(|room| room.0).min().unwrap())));
    assert_eq!(search.hits(one).await.unwrap().hits.len(), 1);
}
