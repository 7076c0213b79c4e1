//! For any history, what a client puts together from its syncs is what happened.

use super::*;
use ::rooms::{RoomReader, StoredEvent};
use base::Order;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use store::Direction;
use sync_core::PageToken;

#[derive(Clone, Copy, Debug)]
enum Step {
    AliceSays,
    BobSays,
    Topic,
    Name,
    Visibility(u8),
    BobJoins,
    BobLeaves,
    AliceInvites,
    AliceKicks,
    CarolMoves,
    AliceReads,
    Sync { limit: u8, after: bool, lazy: bool },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::AliceSays),
        2 => Just(Step::BobSays),
        2 => Just(Step::Topic),
        1 => Just(Step::Name),
        1 => (0_u8..3).prop_map(Step::Visibility),
        3 => Just(Step::BobJoins),
        1 => Just(Step::BobLeaves),
        1 => Just(Step::AliceInvites),
        1 => Just(Step::AliceKicks),
        1 => Just(Step::CarolMoves),
        1 => Just(Step::AliceReads),
        4 => (0_u8..6, any::<bool>(), any::<bool>()).prop_map(|(limit, after, lazy)| Step::Sync { limit, after, lazy }),
    ]
}

/// What a client knows of one room.
#[derive(Default)]
struct Client {
    since: Option<String>,
    timeline: BTreeMap<Order, String>,
    state: BTreeMap<(String, String), String>,
    in_room: bool,
}

impl World {
    async fn step(&self, room: &RoomId, step: Step) {
        let change = async |sender: &UserId, change: MembershipChange| {
            // What the room's rules refuse is not part of the history.
            drop(self.rooms.change_membership(room, sender, change, None, None).await);
        };
        let number = self.records.view().stamp().0;
        match step {
            Step::AliceSays => drop(self.say(room, &alice(), "a").await),
            Step::BobSays => {
                let content = to_raw_value(&json!({"body": "b"})).unwrap();
                drop(self.rooms.send(room, Draft::message(bob(), "m.room.message", content), None).await);
            }
            Step::Topic => drop(self.set(room, &alice(), "m.room.topic", json!({"topic": number})).await),
            Step::Name => drop(self.set(room, &alice(), "m.room.name", json!({"name": number})).await),
            Step::Visibility(which) => {
                let visibility = ["shared", "invited", "joined"][usize::from(which)];
                let content = json!({"history_visibility": visibility});
                self.set(room, &alice(), "m.room.history_visibility", content).await;
            }
            Step::BobJoins => change(&bob(), MembershipChange::Join).await,
            Step::BobLeaves => change(&bob(), MembershipChange::Leave).await,
            Step::AliceInvites => change(&alice(), MembershipChange::Invite { user: bob() }).await,
            Step::AliceKicks => change(&alice(), MembershipChange::Kick { user: bob() }).await,
            Step::CarolMoves => {
                let reader = self.reader(room);
                let leave = reader.is_joined(&carol()).unwrap();
                change(&carol(), if leave { MembershipChange::Leave } else { MembershipChange::Join }).await;
            }
            Step::AliceReads => {
                let last = self.reader(room).timeline(Order(0), Order(i64::MAX), Direction::Backward, 1).unwrap();
                let read = Some(last[0].pdu.event_id().clone());
                self.syncs.mark(&alice(), room, &crate::Marks { read, ..crate::Marks::default() }).await.unwrap();
            }
            Step::Sync { .. } => {}
        }
    }
}

/// The events up to a place that bob may see, newest first.
fn page_back(reader: &RoomReader, from: Order) -> Vec<Arc<StoredEvent>> {
    let page = reader.timeline(Order(i64::MIN), from, Direction::Backward, 10_000).unwrap();
    let visible = reader.visible(&bob(), &page).unwrap();
    page.into_iter().zip(visible).filter(|(_, visible)| visible.is_some()).map(|(event, _)| event).collect()
}

fn key(event: &Value) -> Option<(String, String)> {
    Some((event["type"].as_str()?.to_owned(), event["state_key"].as_str()?.to_owned()))
}

fn id(event: &Value) -> String {
    event["event_id"].as_str().unwrap().to_owned()
}

impl Client {
    async fn sync(&mut self, world: &World, room: &RoomId, limit: u8, use_state_after: bool, lazy: bool) {
        let filter = json!({"room": {"timeline": {"limit": limit}, "state": {"lazy_load_members": lazy}}});
        let device_id = if lazy { "LAZY" } else { "DEVICE" };
        let request = SyncRequest {
            state: if use_state_after { StateChoice::After } else { StateChoice::Before },
            device_id: device_id.into(),
            ..filtered(&bob(), self.since.as_deref(), &filter)
        };
        let response = world.ask(request.clone()).await;
        if !lazy {
            self.same_by_any_way(world, request, &response).await;
        }
        let reader = world.reader(room);
        let rooms = &response["rooms"];
        let sections: Vec<_> =
            ["join", "leave", "invite"].into_iter().filter(|name| rooms[name].get(room.as_str()).is_some()).collect();
        assert!(sections.len() <= 1, "one room is told in one section: {response}");
        if sections.first() == Some(&"invite") {
            self.in_room = false;
        }
        if let Some(name @ ("join" | "leave")) = sections.first().copied() {
            let told = &rooms[name][room.as_str()];
            if name == "join" && !self.in_room {
                // What it knows from an earlier stay may be out of date, and of members it may not be told anew.
                self.state.clear();
            }
            self.take_timeline(&reader, told);
            self.take_state(told, use_state_after);
            self.in_room = name == "join";
        }
        if self.in_room {
            self.check_state(&reader);
        }
        self.since = Some(token(&response).to_owned());
    }

    /// Whatever way the server finds what changed, it tells the same.
    async fn same_by_any_way(&self, world: &World, request: SyncRequest, response: &Value) {
        let request = SyncRequest { since: self.since.as_ref().map(|since| since.parse().unwrap()), ..request };
        for log_read_max in [crate::changed::LOG_READ_MAX, 0] {
            let config = Config::default();
            let clock = world.clock.clone();
            let syncs =
                Syncs::with_log_read_max(world.records.clone(), world.rooms.clone(), clock, config, log_read_max);
            let mut again: Value = serde_json::from_slice(&syncs.sync(request.clone()).await.unwrap()).unwrap();
            again["next_batch"] = response["next_batch"].clone();
            assert_eq!(&again, response);
        }
    }

    fn take_timeline(&mut self, reader: &RoomReader, told: &Value) {
        let events = told["timeline"]["events"].as_array().unwrap();
        let before = self.timeline.len();
        let mut last = Order(i64::MIN);
        for event in events {
            let event_id: OwnedEventId = id(event).try_into().unwrap();
            let order = reader.event_by_id(&event_id).unwrap().unwrap().order;
            assert!(order > last, "the timeline is in order");
            last = order;
            self.timeline.insert(order, event_id.to_string());
        }
        if told["timeline"]["limited"] == json!(true) {
            // The client pages back until it meets what it knows.
            let start = PageToken::parse(told["timeline"]["prev_batch"].as_str().unwrap()).unwrap();
            for event in page_back(reader, start.0) {
                self.timeline.insert(event.order, event.pdu.event_id().to_string());
            }
        } else if self.in_room {
            assert_eq!(self.timeline.len(), before + events.len(), "nothing is told twice");
        }
    }

    fn take_state(&mut self, told: &Value, state_after: bool) {
        let (state, timeline) = if state_after {
            (&told["state_after"]["events"], &Value::Null)
        } else {
            (&told["state"]["events"], &told["timeline"]["events"])
        };
        let events = state.as_array().unwrap().iter().chain(timeline.as_array().into_iter().flatten());
        for event in events {
            if let Some(key) = key(event) {
                self.state.insert(key, id(event));
            }
        }
    }

    fn check_state(&self, reader: &RoomReader) {
        let truth = reader.state_events(reader.state()).unwrap();
        for event in truth {
            let key = (event.pdu.kind().to_string(), event.pdu.state_key().unwrap().to_owned());
            if key.0 == "m.room.member" && !self.state.contains_key(&key) {
                // Not needed yet, by syncs that load members lazily.
                continue;
            }
            assert_eq!(self.state.get(&key).map(String::as_str), Some(event.pdu.event_id().as_str()), "{key:?}");
        }
    }
}

async fn check(steps: Vec<Step>) {
    let world = World::new().await;
    let room = world.room().await;
    let mut client = Client::default();
    let end = [Step::BobJoins, Step::Sync { limit: 3, after: false, lazy: false }];
    let mut told_all = true;
    for step in steps.into_iter().chain(end) {
        world.step(&room, step).await;
        if let Step::Sync { limit, after, lazy } = step {
            client.sync(&world, &room, limit, after, lazy).await;
            told_all = true;
        } else {
            told_all = false;
        }
    }
    assert!(told_all);
    // Of what bob may see now: if he is a member, all; if he was refused at the end, what he saw then.
    let reader = world.reader(&room);
    let truth: BTreeSet<Order> = page_back(&reader, Order(i64::MAX)).iter().map(|event| event.order).collect();
    let known: BTreeSet<Order> = client.timeline.keys().copied().collect();
    let missing: Vec<_> = truth.difference(&known).collect();
    assert!(missing.is_empty(), "bob was not told {missing:?}, only {known:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn the_syncs_together_are_the_truth(steps in proptest::collection::vec(step(), 1..40)) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(check(steps));
    }
}
