//! For any history, what a client puts together from its sliding syncs is what happened.

use super::*;
use crate::tests::histories::{Step, page_back, step};
use ::rooms::RoomReader;
use base::Order;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use sync_core::PageToken;
use sync_core::sliding::Wanted;

const ROOMS: usize = 4;
const MEMBER: &str = "m.room.member";

#[derive(Clone, Debug)]
enum Move {
    Happens { room: usize, step: Step },
    Slide(Slide),
    Restart,
}

/// A request, and whether its response is lost.
#[derive(Clone, Debug)]
struct Slide {
    range: Option<(usize, usize)>,
    room: RoomRule,
    subscribed: Option<(usize, RoomRule)>,
    receipts: bool,
    anew: bool,
    lost: bool,
}

fn room_rule() -> impl Strategy<Value = RoomRule> {
    let states: [&[(&str, &str)]; 4] = [
        &[("*", "*")],
        &[("*", "*"), (MEMBER, "$LAZY")],
        &[("m.room.topic", ""), ("m.room.name", "*")],
        &[(MEMBER, "$LAZY"), (MEMBER, "$ME"), ("m.room.topic", "")],
    ];
    (0_usize..5, 0_usize..4).prop_map(move |(limit, which)| rule(limit, states[which]))
}

fn slide() -> impl Strategy<Value = Slide> {
    let range = proptest::option::weighted(0.9, (0_usize..3, 0_usize..4)).prop_map(|range| {
        // Mostly from the top, as clients do.
        range.map(|(first, more)| (first.saturating_sub(1), first.saturating_sub(1) + more))
    });
    let subscribed = proptest::option::weighted(0.3, (0..ROOMS, room_rule()));
    let chances = (any::<bool>(), proptest::bool::weighted(0.05), proptest::bool::weighted(0.2));
    (range, room_rule(), subscribed, chances).prop_map(|(range, room, subscribed, (receipts, anew, lost))| Slide {
        range,
        room,
        subscribed,
        receipts,
        anew,
        lost,
    })
}

/// Some rules for long, as clients do, and then others.
fn moves() -> impl Strategy<Value = Vec<Move>> {
    let moved = prop_oneof![
        8 => (0..ROOMS, step()).prop_map(|(room, step)| Move::Happens { room, step }),
        3 => slide().prop_map(Move::Slide),
        1 => Just(Move::Restart),
    ];
    (proptest::collection::vec(moved, 1..50), any::<bool>()).prop_map(|(mut moves, steady)| {
        let mut last: Option<Slide> = None;
        for moved in moves.iter_mut().filter(|_| steady) {
            if let Move::Slide(slide) = moved {
                let Slide { range, room, subscribed, receipts, .. } = last.clone().unwrap_or_else(|| slide.clone());
                *slide = Slide { range, room, subscribed, receipts, ..slide.clone() };
                last = Some(slide.clone());
            }
        }
        moves
    })
}

/// What the client knows of a room.
#[derive(Default)]
struct Known {
    timeline: BTreeMap<Order, String>,
    state: BTreeMap<(String, String), String>,
}

#[derive(Default)]
struct Client {
    position: Option<Value>,
    rooms: BTreeMap<String, Known>,
}

fn place(event: &Value) -> Option<(String, String)> {
    Some((event["type"].as_str()?.to_owned(), event["state_key"].as_str()?.to_owned()))
}

impl Client {
    async fn slide(&mut self, world: &World, rooms: &[OwnedRoomId], slide: &Slide) {
        let mut rules = Rules::default();
        if let Some(range) = slide.range {
            rules = list(range, slide.room.clone());
        }
        if let Some((room, rule)) = &slide.subscribed {
            rules.subscriptions.insert(rooms[*room].clone(), rule.clone());
        }
        rules.extensions.receipts = slide.receipts.then(Scope::default);
        let position = self.position.as_ref().filter(|_| !slide.anew);
        let is_first = position.is_none();
        let response = world.slide(position, &rules).await;
        if slide.lost && !is_first {
            return;
        }
        if is_first {
            // What a client knows from another connection is of no use.
            self.rooms.clear();
        }
        for room in rooms {
            let reader = world.reader(room);
            let told = of(&response, room);
            let listed = told["lists"].as_array().is_some_and(|lists| !lists.is_empty());
            let subscribed = rules.subscriptions.get(room);
            let parts = subscribed.into_iter().chain(listed.then_some(&slide.room));
            let wanted = Wanted::combine(parts.map(|rule| &rule.required_state));
            let is_joined = reader.is_joined(&bob()).unwrap();
            if told.is_object() {
                let known = self.rooms.entry(room.to_string()).or_default();
                known.take(&reader, told, &wanted);
            }
            if is_joined && (told.is_object() || subscribed.is_some()) {
                self.rooms.get(room.as_str()).unwrap().check(&reader, told, &wanted);
            }
        }
        self.position = Some(response);
    }
}

impl Known {
    fn take(&mut self, reader: &RoomReader, told: &Value, wanted: &Wanted) {
        let (initial, limited) = (told["initial"] == json!(true), told["limited"] == json!(true));
        if initial {
            self.state.clear();
        }
        if limited && wanted.is_lazy() {
            self.state.retain(|(kind, key), _| kind != MEMBER || wanted.matches(kind, key));
        }
        let before = self.timeline.len();
        let none = Vec::new();
        let events = told["timeline"].as_array().unwrap_or(&none);
        let mut last = Order(i64::MIN);
        for event in events {
            let event_id: OwnedEventId = event["event_id"].as_str().unwrap().try_into().unwrap();
            let order = reader.event_by_id(&event_id).unwrap().unwrap().order;
            assert!(order > last, "the timeline is in order");
            last = order;
            self.timeline.insert(order, event_id.to_string());
        }
        if limited {
            let start = PageToken::parse(told["prev_batch"].as_str().unwrap()).unwrap();
            for event in page_back(reader, start.0) {
                self.timeline.insert(event.order, event.pdu.event_id().to_string());
            }
        } else if !initial && told.get("expanded_timeline").is_none() {
            assert_eq!(self.timeline.len(), before + events.len(), "nothing is told twice");
        }
        for event in told["required_state"].as_array().unwrap_or(&none) {
            let at = place(event).unwrap();
            match event.get("event_id") {
                Some(id) => drop(self.state.insert(at, id.as_str().unwrap().to_owned())),
                None => drop(self.state.remove(&at)),
            }
        }
    }

    fn check(&self, reader: &RoomReader, told: &Value, wanted: &Wanted) {
        let mut truth = BTreeMap::new();
        for event in reader.state_events(reader.state()).unwrap() {
            let at = (event.pdu.kind().to_string(), event.pdu.state_key().unwrap().to_owned());
            truth.insert(at, event.pdu.event_id().to_string());
        }
        for (at, event) in truth.iter().filter(|((kind, key), _)| wanted.matches(kind, key)) {
            assert_eq!(self.state.get(at), Some(event), "{at:?}");
        }
        if wanted.is_lazy() {
            for event in told["timeline"].as_array().unwrap_or(&Vec::new()) {
                let at = (MEMBER.to_owned(), event["sender"].as_str().unwrap().to_owned());
                assert_eq!(self.state.get(&at), truth.get(&at), "{at:?}");
            }
        }
    }
}

async fn check(moves: Vec<Move>) {
    let mut world = World::new().await;
    let mut rooms = Vec::new();
    for _ in 0..ROOMS {
        rooms.push(world.room().await);
    }
    let mut client = Client::default();
    for moved in moves {
        match moved {
            Move::Happens { room, step } => world.step(&rooms[room], step).await,
            Move::Slide(slide) => client.slide(&world, &rooms, &slide).await,
            Move::Restart => world.restart(),
        }
    }
    for room in &rooms {
        world.step(room, Step::BobJoins).await;
    }
    let all = Slide {
        range: Some((0, 99)),
        room: rule(3, &[("*", "*")]),
        subscribed: None,
        receipts: false,
        anew: false,
        lost: false,
    };
    client.slide(&world, &rooms, &all).await;
    for room in &rooms {
        // Of what bob may see now: if he is a member, all; if he was refused at the end, what he saw then.
        let reader = world.reader(room);
        let truth: BTreeSet<Order> = page_back(&reader, Order(i64::MAX)).iter().map(|event| event.order).collect();
        let known: BTreeSet<Order> =
            client.rooms.get(room.as_str()).map(|known| known.timeline.keys().copied().collect()).unwrap_or_default();
        let missing: Vec<_> = truth.difference(&known).collect();
        if reader.is_joined(&bob()).unwrap() {
            assert!(missing.is_empty(), "bob was not told {missing:?}, only {known:?}");
            client.rooms[room.as_str()].check(&reader, &Value::Null, &Wanted::combine([&all.room.required_state]));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, max_shrink_iters: 300, ..ProptestConfig::default() })]

    #[test]
    fn the_sliding_syncs_together_are_the_truth(moves in moves()) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(check(moves));
    }
}
