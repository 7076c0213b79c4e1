//! For any history, what a client puts together from its syncs is what happened.

use super::forks::dora;
use super::*;
use ::rooms::{RoomReader, StoredEvent};
use base::{Order, Stamp};
use proptest::prelude::*;
use records::ReceiptKind;
use std::collections::{BTreeMap, BTreeSet};
use store::Direction;
use sync_core::{PageToken, SyncFilter};

#[derive(Clone, Copy, Debug)]
pub enum Step {
    AliceSays,
    BobSays,
    Topic,
    Name,
    Visibility(u8),
    BobJoins,
    BobLeaves,
    AliceInvites,
    AliceKicks,
    AliceBans,
    AliceUnbans,
    CarolMoves,
    AliceReads,
    BobReads,
    BobStores {
        in_room: bool,
    },
    BobForgets,
    /// Alice redacts one of the last events.
    AliceRedacts(u8),
    /// Dora, on another server, sends something after one of the last events: history may part.
    DoraSends {
        back: u8,
        what: u8,
        late: bool,
    },
    /// The server starts anew.
    Restart,
    Sync {
        limit: u8,
        after: bool,
        lazy: bool,
        full: bool,
    },
}

/// What clients want to see; each history has one of these.
const FILTERS: [&str; 7] = [
    "{}",
    r#"{"room": {"timeline": {"not_types": ["m.room.message"]}}}"#,
    r#"{"room": {"timeline": {"types": ["m.room.message", "m.room.topic"]}}}"#,
    r#"{"room": {"timeline": {"not_senders": ["@alice:here.example"]}}}"#,
    r#"{"room": {"timeline": {"types": []}}}"#,
    r#"{"room": {"timeline": {"contains_url": true}, "state": {"not_types": ["m.room.name"]}}}"#,
    r#"{"room": {"state": {"types": ["m.room.topic", "m.room.member"]}, "include_leave": true}}"#,
];

pub fn step() -> impl Strategy<Value = Step> {
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
        1 => Just(Step::AliceBans),
        1 => Just(Step::AliceUnbans),
        1 => Just(Step::AliceReads),
        1 => Just(Step::BobReads),
        1 => any::<bool>().prop_map(|in_room| Step::BobStores { in_room }),
        1 => Just(Step::BobForgets),
        1 => (0_u8..6).prop_map(Step::AliceRedacts),
        2 => (0_u8..5, 0_u8..4, any::<bool>()).prop_map(|(back, what, late)| Step::DoraSends { back, what, late }),
        1 => Just(Step::Restart),
        5 => (0_u8..6, any::<bool>(), any::<bool>(), proptest::bool::weighted(0.1))
            .prop_map(|(limit, after, lazy, full)| Step::Sync { limit, after, lazy, full }),
    ]
}

/// What a client knows of one room, and of its user.
struct Client {
    filter: Value,
    since: Option<String>,
    timeline: BTreeMap<Order, String>,
    state: BTreeMap<(String, String), String>,
    receipts: BTreeMap<(String, String), String>,
    /// By type, of the room and of the user.
    stored: [BTreeMap<String, Value>; 2],
    in_room: bool,
}

impl World {
    pub async fn step(&mut self, room: &RoomId, step: Step) {
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
            Step::AliceBans => change(&alice(), MembershipChange::Ban { user: bob() }).await,
            Step::AliceUnbans => change(&alice(), MembershipChange::Unban { user: bob() }).await,
            Step::BobReads => {
                let last = self.newest(room, 1).remove(0);
                let read_private = Some(last.pdu.event_id().clone());
                let fully_read = read_private.clone();
                // Only members have receipts, and only of what they see.
                drop(
                    self.syncs
                        .mark(&bob(), room, &crate::Marks { fully_read, read_private, ..Default::default() })
                        .await,
                );
            }
            Step::BobStores { in_room } => {
                self.store(&bob(), in_room.then_some(room), "example.note", &json!({"note": number})).await;
            }
            Step::BobForgets => drop(self.rooms.forget(room, &bob()).await),
            Step::AliceRedacts(back) => {
                let target = self.newest(room, 6).get(usize::from(back)).map(|event| event.pdu.event_id().clone());
                let content = to_raw_value(&json!({"redacts": target})).unwrap();
                let draft = Draft { redacts: target, ..Draft::message(alice(), "m.room.redaction", content) };
                drop(self.rooms.send(room, draft, None).await);
            }
            Step::DoraSends { back, what, late } => {
                let last = self.newest(room, 5);
                let after = &last[usize::from(back).min(last.len() - 1)];
                let at = u64::from(after.pdu.origin_server_ts().0) + if late { 1_000_000 } else { 0 };
                let (kind, key, content) = match what {
                    0 => ("m.room.topic", Some(""), json!({"topic": number})),
                    1 => ("m.room.name", Some(""), json!({"name": number})),
                    2 => {
                        ("m.room.power_levels", Some(""), json!({"users": {dora(): 100}, "users_default": number % 3}))
                    }
                    _ => ("m.room.message", None, json!({"body": "d", "url": "mxc://x/y"})),
                };
                self.receive(room, after, kind, key, &content, UnixMillis(at)).await;
            }
            Step::Restart => {
                let (records, rooms) = (self.records.clone(), self.rooms.clone());
                self.syncs = Syncs::new(records, rooms, self.clock.clone(), Config::default());
            }
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
pub fn page_back(reader: &RoomReader, from: Order) -> Vec<Arc<StoredEvent>> {
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
    fn new(filter: &str) -> Self {
        Self {
            filter: serde_json::from_str(filter).unwrap(),
            since: None,
            timeline: BTreeMap::new(),
            state: BTreeMap::new(),
            receipts: BTreeMap::new(),
            stored: Default::default(),
            in_room: false,
        }
    }

    fn compiled(&self) -> SyncFilter {
        SyncFilter::parse(&self.filter.to_string()).unwrap()
    }

    async fn sync(&mut self, world: &World, room: &RoomId, step: Step) {
        let Step::Sync { limit, after: use_state_after, lazy, full } = step else { return };
        let mut filter = self.filter.clone();
        filter["room"]["timeline"]["limit"] = json!(limit);
        filter["room"]["state"]["lazy_load_members"] = json!(lazy);
        let device_id = if lazy { "LAZY" } else { "DEVICE" };
        let request = SyncRequest {
            full_state: full,
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
                self.receipts.clear();
            }
            self.take_timeline(&reader, told);
            self.take_state(told, use_state_after);
            self.take_receipts(told);
            self.take_stored(0, told);
            self.in_room = name == "join";
        }
        self.take_stored(1, &response);
        self.check_stored(world, 1, None);
        assert_eq!(self.in_room, reader.is_joined(&bob()).unwrap(), "a client knows whether it is in the room");
        if self.in_room {
            self.check_state(&reader);
            self.check_receipts(world, &reader);
            self.check_stored(world, 0, Some(room));
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
            // How much is unread may be told again by a sync that looks at all rooms.
            assert_eq!(without_unread(again), without_unread(response.clone()));
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
            let filter = self.compiled();
            let wanted = |event: &Arc<StoredEvent>| filter.timeline.matches_pdu(&event.pdu);
            for event in page_back(reader, start.0).into_iter().filter(wanted) {
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

    fn take_receipts(&mut self, told: &Value) {
        let events = told["ephemeral"]["events"].as_array().into_iter().flatten();
        for event in events.filter(|event| event["type"] == "m.receipt") {
            for (event_id, kinds) in event["content"].as_object().unwrap() {
                for (kind, users) in kinds.as_object().unwrap() {
                    for user in users.as_object().unwrap().keys() {
                        self.receipts.insert((user.clone(), kind.clone()), event_id.clone());
                    }
                }
            }
        }
    }

    fn check_receipts(&self, world: &World, reader: &RoomReader) {
        let truth = world.records.view().receipts_after(reader.num(), &bob(), Stamp(0), 100).unwrap();
        let kind = |kind| if kind == ReceiptKind::Public { "m.read" } else { "m.read.private" };
        let truth = truth
            .into_iter()
            .map(|(_, key, record)| ((key.user.to_string(), kind(key.kind).to_owned()), record.event_id.to_string()));
        assert_eq!(self.receipts, truth.collect());
    }

    fn take_stored(&mut self, which: usize, told: &Value) {
        for event in told["account_data"]["events"].as_array().into_iter().flatten() {
            self.stored[which].insert(event["type"].as_str().unwrap().to_owned(), event["content"].clone());
        }
    }

    fn check_stored(&self, world: &World, which: usize, room: Option<&RoomId>) {
        for datum in world.records.view().account_data_of(&bob(), room).unwrap() {
            let content: Value = serde_json::from_str(&datum.content).unwrap();
            assert_eq!(self.stored[which].get(&datum.kind), Some(&content), "{} {room:?}", datum.kind);
        }
    }

    fn check_state(&self, reader: &RoomReader) {
        let filter = self.compiled();
        let truth = reader.state_events(reader.state()).unwrap();
        for event in truth.into_iter().filter(|event| filter.state.matches_pdu(&event.pdu)) {
            let key = (event.pdu.kind().to_string(), event.pdu.state_key().unwrap().to_owned());
            if key.0 == "m.room.member" && !self.state.contains_key(&key) {
                // Not needed yet, by syncs that load members lazily.
                continue;
            }
            assert_eq!(self.state.get(&key).map(String::as_str), Some(event.pdu.event_id().as_str()), "{key:?}");
        }
    }
}

async fn check(filter: &str, with_dora: bool, steps: Vec<Step>) {
    let mut world = World::new().await;
    let room = if with_dora { world.room_with_dora().await } else { world.room().await };
    if with_dora {
        world.change(&room, &bob(), MembershipChange::Leave).await;
    }
    let mut client = Client::new(filter);
    let end = [Step::AliceUnbans, Step::BobJoins, Step::Sync { limit: 3, after: false, lazy: false, full: false }];
    let mut told_all = true;
    for step in steps.into_iter().chain(end) {
        if with_dora || !matches!(step, Step::DoraSends { .. }) {
            world.step(&room, step).await;
        }
        if let Step::Sync { .. } = step {
            client.sync(&world, &room, step).await;
            told_all = true;
        } else {
            told_all = false;
        }
    }
    assert!(told_all);
    // Of what bob may see now: if he is a member, all; if he was refused at the end, what he saw then.
    let reader = world.reader(&room);
    let filter = client.compiled();
    let truth = page_back(&reader, Order(i64::MAX)).into_iter();
    let truth = truth.filter(|event| filter.timeline.matches_pdu(&event.pdu));
    let truth: BTreeSet<Order> = truth.map(|event| event.order).collect();
    let known: BTreeSet<Order> = client.timeline.keys().copied().collect();
    let missing: Vec<_> = truth.difference(&known).collect();
    assert!(missing.is_empty(), "bob was not told {missing:?}, only {known:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn the_syncs_together_are_the_truth(
        filter in proptest::sample::select(FILTERS.to_vec()),
        with_dora: bool,
        steps in proptest::collection::vec(step(), 1..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(check(filter, with_dora, steps));
    }
}

/// A response without how much is unread in its rooms.
fn without_unread(mut response: Value) -> Value {
    for room in response
        .pointer_mut("/rooms/join")
        .and_then(Value::as_object_mut)
        .into_iter()
        .flat_map(|rooms| rooms.values_mut())
    {
        room.as_object_mut().unwrap().remove("unread_notifications");
    }
    response
}
