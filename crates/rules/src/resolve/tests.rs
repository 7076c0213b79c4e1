use super::*;
use crate::auth::{authorize_with_auth_events, authorize_with_state};
use crate::testing::{ALICE, BOB, CAROL, Room, key_of_state, rules};
use proptest::prelude::*;
use ruma::events::StateEventType;
use ruma::owned_event_id;
use serde_json::{Value, json};
use sha1::{Digest, Sha1};
use std::collections::HashMap;

/// The versions of the algorithm: 1, 2 in an old room and in a newer one, 2.1.
const VERSIONS: [u8; 4] = [1, 2, 11, 12];

/// A room whose history parts: each event has the state before and after it.
struct Dag {
    room: Room,
    after: HashMap<OwnedEventId, StateMap<OwnedEventId>>,
    /// In the order in which they were made, all of them after the room was set up.
    made: Vec<OwnedEventId>,
    root: OwnedEventId,
}

impl Dag {
    fn new(number: u8) -> Self {
        let room = Room::with_members(number);
        let root = room.last[0].clone();
        let after = HashMap::from([(root.clone(), room.state.clone())]);
        Self { room, after, made: Vec::new(), root }
    }

    fn resolve(&self, states: &[StateMap<OwnedEventId>]) -> StateMap<OwnedEventId> {
        resolve(&self.room.rules, states, |event_id| self.room.get(event_id)).unwrap()
    }

    /// The state before an event that follows `prev_events`.
    fn before(
        &self,
        prev_events: &[OwnedEventId],
        after: &HashMap<OwnedEventId, StateMap<OwnedEventId>>,
    ) -> StateMap<OwnedEventId> {
        let states: Vec<_> = prev_events.iter().map(|event_id| after[event_id].clone()).collect();
        self.resolve(&states)
    }

    /// Whether the event is allowed, and the state after it if so.
    fn judge(&self, pdu: &Arc<Pdu>, before: &StateMap<OwnedEventId>) -> Option<StateMap<OwnedEventId>> {
        authorize_with_auth_events(&self.room.rules, pdu, |event_id| self.room.get(event_id)).ok()?;
        authorize_with_state(&self.room.rules, pdu, self.room.at(before)).ok()?;
        let mut after = before.clone();
        if let Some(key) = key_of_state(pdu) {
            after.insert(key, pdu.event_id().clone());
        }
        Some(after)
    }

    /// Makes an event that follows `prev_events`, whether it is allowed or not.
    fn add(
        &mut self,
        prev_events: &[OwnedEventId],
        sender: &str,
        kind: &str,
        key: Option<&str>,
        content: Value,
    ) -> OwnedEventId {
        let before = self.before(prev_events, &self.after);
        let pdu = Arc::new(self.room.draft_at(&before, prev_events, sender, kind, key, content));
        let after = self.judge(&pdu, &before);
        let rejected = after.is_none();
        let event_id = pdu.event_id().clone();
        let pdu = Pdu::parse_stored(event_id.clone(), pdu.json(), &self.room.rules, rejected).unwrap();
        self.room.events.insert(event_id.clone(), Arc::new(pdu));
        self.after.insert(event_id.clone(), after.unwrap_or(before));
        self.made.push(event_id.clone());
        event_id
    }

    fn ends(&self) -> Vec<OwnedEventId> {
        let followed: BTreeSet<_> =
            self.made.iter().flat_map(|event_id| self.room.events[event_id].prev_events()).collect();
        let all = std::iter::once(&self.root).chain(&self.made);
        all.filter(|event_id| !followed.contains(event_id)).cloned().collect()
    }

    fn content(&self, state: &StateMap<OwnedEventId>, kind: StateEventType, key: &str) -> Value {
        let Some(event_id) = state.get(&(kind, key.to_owned())) else { return Value::Null };
        serde_json::from_str(self.room.events[event_id].content().get()).unwrap()
    }
}

fn member(membership: &str) -> Value {
    json!({"membership": membership})
}

#[test]
fn states_that_agree_need_no_events() {
    let state = StateMap::from([((StateEventType::RoomName, String::new()), owned_event_id!("$unknown"))]);
    for number in 1..=12 {
        let resolved = |states: &[StateMap<OwnedEventId>]| resolve(&rules(number), states, |_| None).unwrap();
        assert_eq!(resolved(&[]), StateMap::new());
        assert_eq!(resolved(std::slice::from_ref(&state)), state);
        assert_eq!(resolved(&[state.clone(), state.clone(), state.clone()]), state);
    }
}

#[test]
fn a_ban_wins_over_what_the_banned_did_meanwhile() {
    for number in [2, 6, 10, 11, 12] {
        let mut dag = Dag::new(number);
        let root = [dag.root.clone()];
        let ban = dag.add(&root, ALICE, "m.room.member", Some(BOB), member("ban"));
        let name = dag.add(&root, BOB, "m.room.name", Some(""), json!({"name": "by Bob"}));
        assert!(!dag.room.events[&name].rejected());
        let state = dag.before(&[ban, name], &dag.after);
        assert_eq!(dag.content(&state, StateEventType::RoomMember, BOB), member("ban"), "{number}");
        assert_eq!(dag.content(&state, StateEventType::RoomName, ""), Value::Null, "{number}");
    }
}

#[test]
fn a_lost_level_undoes_what_was_done_with_it_meanwhile() {
    for number in [2, 11, 12] {
        let mut dag = Dag::new(number);
        let root = [dag.root.clone()];
        let mut levels = json!({"users": {BOB: 0}});
        if number < 12 {
            levels["users"][ALICE] = json!(100);
        }
        let demotion = dag.add(&root, ALICE, "m.room.power_levels", Some(""), levels);
        let kick = dag.add(&root, BOB, "m.room.member", Some(CAROL), member("leave"));
        let state = dag.before(&[kick, demotion], &dag.after);
        assert_eq!(dag.content(&state, StateEventType::RoomMember, CAROL), member("join"), "{number}");
    }
}

#[test]
fn version_1_lets_the_deepest_event_win() {
    let mut dag = Dag::new(1);
    let root = [dag.root.clone()];
    let shallow = dag.add(&root, ALICE, "m.room.name", Some(""), json!({"name": "shallow"}));
    let message = dag.add(&root, BOB, "m.room.message", None, json!({}));
    let deep = dag.add(&[message], BOB, "m.room.name", Some(""), json!({"name": "deep"}));
    let state = dag.before(&[shallow, deep], &dag.after);
    assert_eq!(dag.content(&state, StateEventType::RoomName, ""), json!({"name": "deep"}));
}

#[test]
fn version_1_breaks_ties_by_the_lowest_sha1() {
    let mut dag = Dag::new(1);
    let root = [dag.root.clone()];
    let names: Vec<_> = (0..6).map(|n| dag.add(&root, ALICE, "m.room.name", Some(""), json!({"name": n}))).collect();
    let state = dag.before(&names, &dag.after);
    let lowest = names.iter().min_by_key(|id| Sha1::digest(id.as_str().as_bytes()).to_vec()).unwrap();
    assert_eq!(state.get(&(StateEventType::RoomName, String::new())), Some(lowest));
}

#[test]
fn version_1_judges_members_by_the_power_levels_that_won() {
    let mut dag = Dag::new(1);
    let root = [dag.root.clone()];
    let demotion = dag.add(&root, ALICE, "m.room.power_levels", Some(""), json!({"users": {ALICE: 100, BOB: 0}}));
    let topic = dag.add(&[demotion], ALICE, "m.room.name", Some(""), json!({"name": "by Alice"}));
    let first = dag.add(&root, BOB, "m.room.message", None, json!({}));
    let second = dag.add(&[first], BOB, "m.room.message", None, json!({}));
    let name = dag.add(&[second], BOB, "m.room.name", Some(""), json!({"name": "by Bob"}));
    let levels = dag.add(&[name], ALICE, "m.room.power_levels", Some(""), json!({"users": {ALICE: 100, BOB: 1}}));
    let state = dag.before(&[topic, levels], &dag.after);
    assert_eq!(dag.content(&state, StateEventType::RoomPowerLevels, "")["users"][BOB], 1);
    // Bob's name is the deeper one, but he may not set it in a room where his level is 1.
    assert_eq!(dag.content(&state, StateEventType::RoomName, ""), json!({"name": "by Alice"}));
}

#[test]
fn version_1_takes_what_only_one_state_has() {
    let mut dag = Dag::new(1);
    let root = [dag.root.clone()];
    let name = dag.add(&root, ALICE, "m.room.name", Some(""), json!({"name": "N"}));
    let topic = dag.add(&root, ALICE, "m.room.topic", Some(""), json!({"topic": "T"}));
    let state = dag.before(&[name.clone(), topic.clone()], &dag.after);
    assert_eq!(state.get(&(StateEventType::RoomName, String::new())), Some(&name));
    assert_eq!(state.get(&(StateEventType::RoomTopic, String::new())), Some(&topic));
}

/// Events that only name each other, for the walks.
fn bare(edges: &[(&str, &[&str])]) -> HashMap<OwnedEventId, Arc<Pdu>> {
    let event = |(id, auth_events): &(&str, &[&str])| {
        let json = json!({
            "type": "m.room.name", "state_key": "", "sender": ALICE, "room_id": "!r:a.example", "content": {},
            "depth": 1, "origin_server_ts": 1, "auth_events": auth_events, "prev_events": [],
        });
        let id = OwnedEventId::try_from(*id).unwrap();
        (id.clone(), Arc::new(Pdu::parse_stored(id, json.to_string(), &rules(11), false).unwrap()))
    };
    edges.iter().map(event).collect()
}

fn ids(ids: &[&str]) -> BTreeSet<OwnedEventId> {
    ids.iter().map(|id| OwnedEventId::try_from(*id).unwrap()).collect()
}

#[test]
fn the_conflicted_subgraph_is_what_lies_between_conflicts() {
    // a <- b <- c <- d, and e beside: a <- e <- d; f hangs on c.
    let events =
        bare(&[("$a", &[]), ("$b", &["$a"]), ("$c", &["$b"]), ("$d", &["$c", "$e"]), ("$e", &["$a"]), ("$f", &["$c"])]);
    let graph = Graph::new(|id: &EventId| events.get(id).cloned());
    let between = |conflicted: &[&str]| graph.between(&ids(conflicted)).unwrap().into_iter().collect::<BTreeSet<_>>();
    assert_eq!(between(&["$d", "$b"]), ids(&["$b", "$c", "$d"]));
    assert_eq!(between(&["$d", "$a"]), ids(&["$a", "$b", "$c", "$d", "$e"]));
    assert_eq!(between(&["$e", "$b"]), ids(&["$b", "$e"]));
    assert_eq!(between(&["$f", "$d"]), ids(&["$d", "$f"]));
    assert_eq!(between(&[]), ids(&[]));
}

#[test]
fn the_auth_difference_is_that_of_the_full_chains() {
    let events =
        bare(&[("$a", &[]), ("$b", &["$a"]), ("$c", &["$b"]), ("$x", &["$c"]), ("$y", &["$b"]), ("$shared", &["$c"])]);
    let graph = Graph::new(|id: &EventId| events.get(id).cloned());
    let state = |entries: &[(&str, &str)]| -> StateMap<OwnedEventId> {
        let entry = |(kind, id): &(&str, &str)| {
            ((StateEventType::from(*kind), String::new()), OwnedEventId::try_from(*id).unwrap())
        };
        entries.iter().map(entry).collect()
    };
    let difference = |states: &[StateMap<OwnedEventId>]| {
        let chains = auth_chains(&graph, states).unwrap();
        let all: BTreeSet<OwnedEventId> = chains.iter().flatten().cloned().collect();
        all.into_iter().filter(|id| !chains.iter().all(|chain| chain.contains(id))).collect::<BTreeSet<_>>()
    };
    assert_eq!(difference(&[state(&[("k", "$x")]), state(&[("k", "$y")])]), ids(&["$c"]));
    // An event that both states have stands on $c too, so $c is in both chains.
    let with_shared = |id| state(&[("k", id), ("s", "$shared")]);
    assert_eq!(difference(&[with_shared("$x"), with_shared("$y")]), ids(&[]));
    assert_eq!(difference(&[state(&[("k", "$x")]), state(&[])]), ids(&["$a", "$b", "$c"]));
}

#[test]
fn a_circle_of_auth_events_is_refused() {
    let events = bare(&[("$a", &["$b"]), ("$b", &["$a"]), ("$c", &["$c"])]);
    let states = |one, other| {
        let key = (StateEventType::RoomName, String::new());
        [StateMap::from([(key.clone(), one)]), StateMap::from([(key, other)])]
    };
    for number in [2, 12] {
        for (one, other) in [("$a", "$b"), ("$c", "$a")] {
            let states = states(one.try_into().unwrap(), other.try_into().unwrap());
            let result = resolve(&rules(number), &states, |id| events.get(id).cloned());
            assert!(matches!(result, Err(ResolveError::Cycle(_))), "{result:?}");
        }
    }
}

#[test]
fn an_event_that_is_missing_is_named() {
    for number in VERSIONS {
        let mut dag = Dag::new(number);
        let root = [dag.root.clone()];
        let one = dag.add(&root, ALICE, "m.room.name", Some(""), json!({"name": "1"}));
        let other = dag.add(&root, ALICE, "m.room.name", Some(""), json!({"name": "2"}));
        let states = [dag.after[&one].clone(), dag.after[&other].clone()];
        let fetch = |id: &EventId| dag.room.get(id).filter(|_| *id != one);
        let result = resolve(&dag.room.rules, &states, fetch);
        assert_eq!(result, Err(ResolveError::Missing(one.clone())), "{number}");
    }
}

/// One thing that happens in a generated room: who does what to whom, after which events.
#[derive(Clone, Debug)]
struct Happening {
    sender: usize,
    action: usize,
    target: usize,
    after: (usize, usize),
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let happening = (0..3_usize, 0..9_usize, 0..3_usize, (0..4_usize, 0..6_usize))
        .prop_map(|(sender, action, target, after)| Happening { sender, action, target, after });
    prop::collection::vec(happening, 1..14)
}

fn happen(number: u8, happenings: &[Happening]) -> Dag {
    let users = [ALICE, BOB, CAROL];
    let mut dag = Dag::new(number);
    for (n, happening) in happenings.iter().enumerate() {
        // Counted from the newest, so that histories part and meet again.
        let nth = |back: usize| {
            let at = dag.made.len().checked_sub(back + 1);
            at.map_or_else(|| dag.root.clone(), |at| dag.made[at].clone())
        };
        let mut prev_events = vec![nth(happening.after.0)];
        if nth(happening.after.1) != prev_events[0] {
            prev_events.push(nth(happening.after.1));
        }
        let (sender, target) = (users[happening.sender], users[happening.target]);
        let level = [0, 40, 50, 60][n % 4];
        let mut levels = json!({"users": {ALICE: 100, BOB: level, CAROL: n % 50}});
        if number == 12 {
            levels["users"].as_object_mut().unwrap().remove(ALICE);
        }
        let (kind, key, content) = match happening.action {
            0 => ("m.room.member", Some(target), member("ban")),
            1 => ("m.room.member", Some(target), member("leave")),
            2 => ("m.room.member", Some(sender), member("join")),
            3 => ("m.room.member", Some(target), member("invite")),
            4 => ("m.room.power_levels", Some(""), levels),
            5 => ("m.room.join_rules", Some(""), json!({"join_rule": if n % 2 == 0 { "public" } else { "invite" }})),
            6 => ("m.room.name", Some(""), json!({"name": n})),
            7 => ("m.room.topic", Some(""), json!({"topic": n})),
            _ => ("m.room.message", None, json!({"body": n})),
        };
        dag.add(&prev_events, sender, kind, key, content);
    }
    dag
}

/// The events in another order in which each comes after those it follows.
fn shuffled(dag: &Dag, seeds: &[usize]) -> Vec<OwnedEventId> {
    let mut left = dag.made.clone();
    let mut arrived = vec![dag.root.clone()];
    let mut seeds = seeds.iter().cycle();
    while !left.is_empty() {
        let ready: Vec<usize> = (0..left.len())
            .filter(|at| dag.room.events[&left[*at]].prev_events().iter().all(|prev| arrived.contains(prev)))
            .collect();
        arrived.push(left.remove(ready[seeds.next().unwrap() % ready.len()]));
    }
    arrived.split_off(1)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_state_is_the_same_in_whatever_order_events_arrive(
        happenings in happenings(),
        seeds in prop::collection::vec(any::<usize>(), 1..20),
    ) {
        for number in VERSIONS {
            let dag = happen(number, &happenings);
            let mut after = HashMap::from([(dag.root.clone(), dag.after[&dag.root].clone())]);
            for event_id in shuffled(&dag, &seeds) {
                let pdu = &dag.room.events[&event_id];
                let mut prev_events = pdu.prev_events().to_vec();
                prev_events.reverse();
                let before = dag.before(&prev_events, &after);
                let judged = dag.judge(pdu, &before);
                prop_assert_eq!(judged.is_none(), pdu.rejected(), "{} {:?}", number, pdu);
                after.insert(event_id, judged.unwrap_or(before));
            }
            prop_assert_eq!(&after, &dag.after);
            let ends = dag.ends();
            let mut reversed = ends.clone();
            reversed.reverse();
            prop_assert_eq!(dag.before(&ends, &dag.after), dag.before(&reversed, &after));
        }
    }

    #[test]
    fn resolving_is_commutative_and_idempotent(happenings in happenings(), turn in any::<usize>()) {
        for number in VERSIONS {
            let dag = happen(number, &happenings);
            let mut states: Vec<_> = dag.made.iter().map(|event_id| dag.after[event_id].clone()).collect();
            let resolved = dag.resolve(&states);
            prop_assert_eq!(dag.resolve(&[resolved.clone(), resolved.clone()]), resolved.clone());
            let by = turn % states.len();
            states.rotate_left(by);
            prop_assert_eq!(&dag.resolve(&states), &resolved);
            states.reverse();
            prop_assert_eq!(&dag.resolve(&states), &resolved);
            let doubled = [states.clone(), states].concat();
            prop_assert_eq!(&dag.resolve(&doubled), &resolved);
        }
    }

    #[test]
    fn what_is_resolved_was_in_one_of_the_states_or_their_chains(happenings in happenings()) {
        for number in VERSIONS {
            let dag = happen(number, &happenings);
            let states: Vec<_> = dag.ends().iter().map(|event_id| dag.after[event_id].clone()).collect();
            for (key, event_id) in dag.resolve(&states) {
                let pdu = &dag.room.events[&event_id];
                prop_assert!(!pdu.rejected());
                prop_assert_eq!(key_of_state(pdu), Some(key));
            }
        }
    }
}
