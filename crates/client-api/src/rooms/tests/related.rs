//! The relations API, the list of threads, and filters by relation.

use super::enc;
use super::relating::World;
use serde_json::{Value, json};

fn ids(events: &Value) -> Vec<&str> {
    events.as_array().unwrap().iter().map(|event| event["event_id"].as_str().unwrap()).collect()
}

impl World {
    /// An answer of the relations API, of which `path` is what comes after the room.
    async fn relations(&self, path: &str) -> super::Answer {
        self.v1(&format!("/relations/{path}")).await
    }

    async fn v1(&self, path: &str) -> super::Answer {
        self.server.get_at(Some(&self.bob), &format!("/v1/rooms/{}{path}", self.room)).await
    }

    async fn messages(&self, filter: &Value) -> Vec<String> {
        let filter = enc(&filter.to_string());
        let path = format!("/rooms/{}/messages?dir=f&limit=100&filter={filter}", self.room);
        let answer = self.server.get(&self.bob, path).await.ok();
        ids(&answer["chunk"]).into_iter().map(ToOwned::to_owned).collect()
    }
}

#[tokio::test]
async fn relations_are_found_by_their_target_their_type_and_the_type_of_the_event() {
    let world = World::new().await;
    let root = world.say(&world.alice, "root").await;
    let reply = world.relate(&world.alice, "m.thread", &root, "a").await;
    let dummy = json!({"m.relates_to": {"rel_type": "m.thread", "event_id": root}});
    let dummy = world.send(&world.alice, "m.dummy", dummy).await;
    let edit = world.edit(&world.alice, &root, "b").await;
    let own = world.relate(&world.bob, "org.example.own", &root, "c").await;
    world.relate(&world.bob, "org.example.other", &root, "d").await;
    let path = enc(&root);
    let get = |path: String| {
        let world = &world;
        async move { world.relations(&path).await.ok()["chunk"].clone() }
    };
    let all = get(path.clone()).await;
    assert_eq!(ids(&all)[1..], [&*own, &*edit, &*dummy, &*reply]);
    assert_eq!((all[4]["room_id"].as_str(), all[4]["content"]["body"].as_str()), (Some(&*world.room), Some("a")));
    assert_eq!(ids(&get(format!("{path}/m.thread")).await), [&*dummy, &*reply]);
    assert_eq!(ids(&get(format!("{path}/m.thread/m.room.message")).await), [&*reply]);
    assert_eq!(ids(&get(format!("{path}/org.example.own")).await), [&*own]);
    assert_eq!(ids(&get(format!("{path}/m.reference")).await), [""; 0]);
    assert_eq!(ids(&get(enc(&own)).await), [""; 0]);

    // The names from before they were in the specification answer alike.
    for rest in ["", "/m.thread", "/m.thread/m.room.message"] {
        let old = format!("/unstable/rooms/{}/relations/{path}{rest}", world.room);
        let old = world.server.get_at(Some(&world.bob), old).await.ok();
        assert_eq!(ids(&old["chunk"]), ids(&get(format!("{path}{rest}")).await));
    }

    world.redact(&world.alice, &reply).await;
    assert_eq!(ids(&get(format!("{path}/m.thread")).await), [&*dummy]);
}

#[tokio::test]
async fn relations_are_paged_both_ways_and_from_a_sync() {
    let world = World::new().await;
    let root = world.say(&world.alice, "root").await;
    let mut sent = Vec::new();
    let mut synced = String::new();
    for n in 0..7 {
        let rel_type = if n % 2 == 0 { "m.thread" } else { "m.reference" };
        sent.push(world.relate(&world.alice, rel_type, &root, &n.to_string()).await);
        if n == 2 {
            let answer = world.server.get(&world.bob, "/sync").await.ok();
            answer["next_batch"].as_str().unwrap().clone_into(&mut synced);
        }
    }
    let root = enc(&root);
    for (dir, mut expected) in [("f", sent.clone()), ("b", sent.iter().rev().cloned().collect())] {
        let (mut found, mut from, mut before) = (Vec::new(), String::new(), None);
        loop {
            let page = world.relations(&format!("{root}?limit=3&dir={dir}{from}")).await.ok();
            assert_eq!(page["prev_batch"].as_str(), before.as_deref());
            found.extend(ids(&page["chunk"]).into_iter().map(ToOwned::to_owned));
            let Some(next) = page["next_batch"].as_str() else { break };
            from = format!("&from={next}");
            before = Some(next.to_owned());
        }
        assert_eq!(found, expected);
        // The page before a page is found with its `prev_batch` the other way.
        let other = if dir == "f" { "b" } else { "f" };
        let page = world.relations(&format!("{root}?limit=2&dir={other}&from={}", before.unwrap())).await.ok();
        expected.truncate(6);
        expected.reverse();
        assert_eq!(ids(&page["chunk"]), expected[..2]);
    }
    let page = world.relations(&format!("{root}?dir=f&limit=3&from={synced}")).await.ok();
    assert_eq!(ids(&page["chunk"]), sent[3..6]);
    let page = world.relations(&format!("{root}?dir=b&to={synced}")).await.ok();
    assert_eq!(ids(&page["chunk"]), [&*sent[6], &*sent[5], &*sent[4], &*sent[3]]);
    for bad in ["from=x", "to=x", "dir=x", "limit=x", "recurse=x"] {
        world.relations(&format!("{root}?{bad}")).await.refused(400, "M_INVALID_PARAM");
    }
}

#[tokio::test]
async fn recursion_finds_what_relates_indirectly() {
    let world = World::new().await;
    let root = world.say(&world.alice, "root").await;
    let reply = world.relate(&world.alice, "m.thread", &root, "a").await;
    let reference = world.relate(&world.bob, "m.reference", &reply, "b").await;
    let second = world.relate(&world.alice, "m.thread", &root, "c").await;
    let third = world.relate(&world.bob, "m.reference", &reference, "d").await;
    // Three steps are followed.
    world.relate(&world.bob, "m.reference", &third, "e").await;
    let path = enc(&root);
    let get = |path: String| {
        let world = &world;
        async move { world.relations(&path).await.ok() }
    };
    let answer = get(format!("{path}?recurse=true")).await;
    assert_eq!(ids(&answer["chunk"]), [&*third, &*second, &*reference, &*reply]);
    assert_eq!(answer["recursion_depth"], 3);
    let answer = get(format!("{path}?recurse=true&dir=f&limit=2")).await;
    assert_eq!(ids(&answer["chunk"]), [&*reply, &*reference]);
    let next = answer["next_batch"].as_str().unwrap();
    let answer = get(format!("{path}?recurse=true&dir=f&from={next}")).await;
    assert_eq!(ids(&answer["chunk"]), [&*second, &*third]);
    assert_eq!(answer["next_batch"], Value::Null);
    // What is found only by way of what is not wanted is not wanted either.
    assert_eq!(ids(&get(format!("{path}/m.thread?recurse=true")).await["chunk"]), [&*second, &*reply]);
    assert_eq!(ids(&get(format!("{path}/m.reference?recurse=true")).await["chunk"]), [""; 0]);
    let answer = get(enc(&reply)).await;
    assert_eq!((ids(&answer["chunk"]), &answer["recursion_depth"]), (vec![&*reference], &Value::Null));

    world.redact(&world.bob, &reference).await;
    assert_eq!(ids(&get(format!("{path}?recurse=true")).await["chunk"]), [&*second, &*reply]);
}

#[tokio::test]
async fn relations_are_for_those_who_may_see_the_event_and_them() {
    let visibility = json!({"type": "m.room.history_visibility", "content": {"history_visibility": "joined"}});
    let world = World::with(json!({"preset": "public_chat", "initial_state": [visibility]})).await;
    let root = world.say(&world.alice, "root").await;
    let first = world.relate(&world.alice, "m.thread", &root, "a").await;
    world.server.leave(&world.bob, &world.room).await.ok();
    let second = world.relate(&world.alice, "m.thread", &root, "b").await;
    let page = world.relations(&enc(&root)).await.ok();
    assert_eq!(ids(&page["chunk"]), [&*first]);
    world.relations(&enc(&second)).await.refused(404, "M_NOT_FOUND");
    world.relations("$unknown").await.refused(404, "M_NOT_FOUND");
    let carol = world.server.user("carol").await;
    let path = format!("/v1/rooms/{}/relations/{}", world.room, enc(&root));
    world.server.get_at(Some(&carol), &path).await.refused(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn relations_of_those_who_are_ignored_are_left_out() {
    let world = World::new().await;
    let root = world.say(&world.bob, "root").await;
    world.relate(&world.alice, "m.thread", &root, "a").await;
    let own = world.relate(&world.bob, "m.thread", &root, "b").await;
    world.ignore(&world.bob, &world.alice).await;
    assert_eq!(ids(&world.relations(&enc(&root)).await.ok()["chunk"]), [&*own]);
}

#[tokio::test]
async fn threads_are_listed_by_their_last_events() {
    let world = World::new().await;
    let (one, two) = (world.say(&world.alice, "one").await, world.say(&world.bob, "two").await);
    assert_eq!(world.v1("/threads").await.ok(), json!({"chunk": []}));
    let first = world.relate(&world.alice, "m.thread", &one, "a").await;
    world.relate(&world.alice, "m.thread", &two, "b").await;
    let list = world.v1("/threads").await.ok();
    assert_eq!(ids(&list["chunk"]), [&*two, &*one]);
    let latest = &list["chunk"][1]["unsigned"]["m.relations"]["m.thread"]["latest_event"]["event_id"];
    assert_eq!(*latest, json!(first));

    let second = world.relate(&world.alice, "m.thread", &one, "c").await;
    assert_eq!(ids(&world.v1("/threads").await.ok()["chunk"]), [&*one, &*two]);
    assert_eq!(ids(&world.v1("/threads?include=participated").await.ok()["chunk"]), [&*two]);
    world.relate(&world.bob, "m.thread", &one, "d").await;
    assert_eq!(ids(&world.v1("/threads?include=participated").await.ok()["chunk"]), [&*one, &*two]);
    let page = world.v1("/threads?limit=1").await.ok();
    assert_eq!(ids(&page["chunk"]), [&*one]);
    let page = world.v1(&format!("/threads?limit=1&from={}", page["next_batch"].as_str().unwrap())).await.ok();
    assert_eq!((ids(&page["chunk"]), &page["next_batch"]), (vec![&*two], &Value::Null));

    // Without its events a thread is none.
    world.redact(&world.alice, &second).await;
    world.redact(&world.alice, &first).await;
    let list = world.v1("/threads").await.ok();
    assert_eq!(list["chunk"][0]["unsigned"]["m.relations"]["m.thread"]["count"], 1);
    for bad in ["limit=0", "limit=x", "include=x", "from=x"] {
        world.v1(&format!("/threads?{bad}")).await.refused(400, "M_INVALID_PARAM");
    }
    let carol = world.server.user("carol").await;
    let private = world.server.room(&world.alice, json!({"preset": "private_chat"})).await;
    world.server.get_at(Some(&carol), &format!("/v1/rooms/{private}/threads")).await.refused(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn a_thread_whose_events_are_redacted_leaves_the_list() {
    let world = World::new().await;
    let (one, two) = (world.say(&world.alice, "one").await, world.say(&world.alice, "two").await);
    world.relate(&world.alice, "m.thread", &two, "a").await;
    let first = world.relate(&world.alice, "m.thread", &one, "b").await;
    let second = world.relate(&world.alice, "m.thread", &two, "c").await;
    assert_eq!(ids(&world.v1("/threads").await.ok()["chunk"]), [&*two, &*one]);
    world.redact(&world.alice, &second).await;
    assert_eq!(ids(&world.v1("/threads").await.ok()["chunk"]), [&*one, &*two]);
    world.redact(&world.alice, &first).await;
    assert_eq!(ids(&world.v1("/threads").await.ok()["chunk"]), [&*two]);
}

#[tokio::test]
async fn the_list_of_threads_hides_what_an_ignored_user_says() {
    let world = World::new().await;
    let (own, theirs) = (world.say(&world.bob, "own").await, world.say(&world.alice, "theirs").await);
    let only_theirs = world.say(&world.bob, "only theirs").await;
    world.relate(&world.bob, "m.thread", &own, "a").await;
    world.relate(&world.bob, "m.thread", &theirs, "b").await;
    world.relate(&world.alice, "m.thread", &own, "c").await;
    world.relate(&world.alice, "m.thread", &only_theirs, "d").await;
    world.ignore(&world.bob, &world.alice).await;
    let list = world.v1("/threads").await.ok();
    assert_eq!(ids(&list["chunk"]), [&*theirs, &*own]);
    assert_eq!(list["chunk"][0]["content"], json!({}));
    assert_eq!(list["chunk"][1]["unsigned"]["m.relations"]["m.thread"]["count"], 1);
}

#[tokio::test]
async fn messages_are_filtered_by_what_they_relate_to_and_what_relates_to_them() {
    let world = World::new().await;
    let root = world.say(&world.alice, "root").await;
    let plain = world.say(&world.alice, "plain").await;
    let reply = world.relate(&world.alice, "m.thread", &root, "a").await;
    let reference = world.relate(&world.bob, "m.reference", &root, "b").await;
    let own = world.relate(&world.alice, "org.example.own", &reply, "c").await;
    let messages = async |mut filter: Value| {
        filter["types"] = json!(["m.room.message"]);
        world.messages(&filter).await
    };
    let rel = "org.matrix.msc3874.rel_types";
    let not_rel = "org.matrix.msc3874.not_rel_types";
    assert_eq!(messages(json!({(rel): ["m.thread"]})).await, [&*reply]);
    assert_eq!(messages(json!({(rel): ["m.thread", "m.reference"]})).await, [&*reply, &*reference]);
    assert_eq!(messages(json!({(not_rel): ["m.thread"]})).await, [&*root, &*plain, &*reference, &*own]);
    assert_eq!(messages(json!({"related_by_rel_types": ["m.thread"]})).await, [&*root]);
    assert_eq!(messages(json!({"io.element.relation_types": ["org.example.own"]})).await, [&*reply]);
    assert_eq!(messages(json!({"related_by_rel_types": ["org.example.none"]})).await, [""; 0]);
    assert_eq!(messages(json!({"related_by_senders": [world.alice.id]})).await, [&*root, &*reply]);
    assert_eq!(messages(json!({"io.element.relation_senders": [world.bob.id]})).await, [&*root]);
    let both = json!({"related_by_senders": [world.bob.id], "related_by_rel_types": ["m.thread"]});
    assert_eq!(messages(both).await, [""; 0]);

    let filter = enc(&json!({"related_by_rel_types": ["m.thread"]}).to_string());
    let context = format!("/rooms/{}/context/{}?filter={filter}", world.room, enc(&own));
    let context = world.server.get(&world.bob, context).await.ok();
    assert_eq!(ids(&context["events_before"]), [&*root]);
    let filter = enc(&json!({"related_by_rel_types": 7}).to_string());
    let path = format!("/rooms/{}/messages?dir=b&filter={filter}", world.room);
    world.server.get(&world.bob, path).await.refused(400, "M_INVALID_PARAM");
}

#[tokio::test]
async fn a_sync_is_filtered_by_relation() {
    let world = World::new().await;
    let root = world.say(&world.alice, "root").await;
    world.say(&world.alice, "plain").await;
    let reply = world.relate(&world.alice, "m.thread", &root, "a").await;
    let timeline = async |filter: Value| {
        let filter = enc(&json!({"room": {"timeline": filter}}).to_string());
        let answer = world.server.get(&world.bob, format!("/sync?filter={filter}")).await.ok();
        answer["rooms"]["join"][&world.room]["timeline"]["events"].clone()
    };
    assert_eq!(ids(&timeline(json!({"related_by_rel_types": ["m.thread"]})).await), [&*root]);
    assert_eq!(ids(&timeline(json!({"org.matrix.msc3874.rel_types": ["m.thread"]})).await), [&*reply]);
}
