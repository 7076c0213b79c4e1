//! Decisions about one room, without a store: drafts, events of other servers, and what is not known.

use crate::{
    Change, Draft, EarlyRedaction, Env, Facts, Input, Refusal, Room, Standing, StateFacts, Verdict, decide, needs,
};
use base::{Secret, UnixMillis};
use rules::{CheckedPdu, Pdu, PduDraft, SigningKey, StateKey};
use ruma::events::StateEventType;
use ruma::{OwnedEventId, RoomVersionId, UserId, user_id};
use serde_json::value::to_raw_value;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;

fn alice() -> &'static UserId {
    user_id!("@alice:a.example")
}

fn bob() -> &'static UserId {
    user_id!("@bob:b.example")
}

fn carol() -> &'static UserId {
    user_id!("@carol:c.example")
}

fn key() -> SigningKey {
    SigningKey::generate("a.example".try_into().unwrap(), "1", Secret::new([1; 32])).unwrap()
}

/// A room with all that was ever decided about it.
#[derive(Clone)]
struct World {
    room: Room,
    now: u64,
    state: StateFacts,
    events: HashMap<OwnedEventId, Arc<Pdu>>,
    /// The state after each event.
    after: HashMap<OwnedEventId, StateFacts>,
}

impl World {
    fn before_creation(version: &RoomVersionId) -> Self {
        let rules = rules::room_rules(version).unwrap();
        let room_id = (!rules.authorization.room_create_event_id_as_room_id)
            .then(|| ruma::OwnedRoomId::try_from("!r:a.example").unwrap());
        let room = Room::new(room_id, version.clone(), rules);
        Self { room, now: 1_000, state: HashMap::new(), events: HashMap::new(), after: HashMap::new() }
    }

    /// A room of Alice's with these join rules.
    fn new(version: &RoomVersionId, join_rules: &Value) -> Self {
        let mut world = Self::before_creation(version);
        let mut creation = json!({"room_version": version});
        if !world.room.rules.authorization.use_room_create_sender {
            creation["creator"] = json!(alice());
        }
        // From version 12 on creators are above all levels, and must not have one.
        let levels = match world.room.rules.authorization.explicitly_privilege_room_creators {
            true => json!({"users": {}}),
            false => json!({"users": {alice(): 100}}),
        };
        world.put(alice(), "m.room.create", "", &creation).unwrap();
        world.put(alice(), "m.room.member", alice().as_str(), &json!({"membership": "join"})).unwrap();
        world.put(alice(), "m.room.power_levels", "", &levels).unwrap();
        world.put(alice(), "m.room.join_rules", "", join_rules).unwrap();
        world
    }

    fn public() -> Self {
        Self::new(&RoomVersionId::V11, &json!({"join_rule": "public"}))
    }

    fn env<R>(&self, use_env: impl FnOnce(Env<'_>) -> R) -> R {
        use_env(Env { now: UnixMillis(self.now), key: &key(), fresh: &self.now.to_string() })
    }

    fn facts(&self, input: &Input, before: Option<StateFacts>) -> Result<Facts, Refusal> {
        let needs = needs(&self.room, input)?;
        let of = |state: &StateFacts| -> StateFacts {
            needs.state.iter().filter_map(|key| Some((key.clone(), state.get(key)?.clone()))).collect()
        };
        let events = needs.events.iter().filter_map(|id| Some((id.clone(), self.events.get(id)?.clone())));
        Ok(Facts {
            current: of(&self.state),
            before: before.map(|before| of(&before)),
            events: events.collect(),
            redactions: Vec::new(),
        })
    }

    fn send(&mut self, draft: Draft) -> Result<Change, Refusal> {
        self.now += 1;
        let input = Input::Draft(draft);
        let facts = self.facts(&input, None)?;
        match self.env(|env| decide(env, &self.room, input, &facts)) {
            Verdict::Change(change) => {
                self.apply(&change, self.state.clone());
                Ok(*change)
            }
            Verdict::Refused(refusal) => Err(refusal),
            Verdict::Missing(ids) => panic!("{ids:?}"),
        }
    }

    fn put(&mut self, sender: &UserId, kind: &str, key: &str, content: &Value) -> Result<Change, Refusal> {
        self.send(Draft::state(sender.to_owned(), kind, key, to_raw_value(content).unwrap()))
    }

    fn say(&mut self, sender: &UserId, body: &str) -> Result<Change, Refusal> {
        let content = to_raw_value(&json!({ "body": body })).unwrap();
        self.send(Draft::message(sender.to_owned(), "m.room.message", content))
    }

    fn member(&mut self, sender: &UserId, target: &UserId, membership: &str) -> Result<Change, Refusal> {
        self.put(sender, "m.room.member", target.as_str(), &json!({ "membership": membership }))
    }

    /// An event of another server that follows this one, judged by the state after it.
    fn foreign(
        &self,
        sender: &UserId,
        (kind, state_key): (&str, Option<&str>),
        content: &Value,
        after: &Pdu,
    ) -> CheckedPdu {
        let content = to_raw_value(content).unwrap();
        let state = self.after.get(after.event_id()).cloned().unwrap_or_default();
        let rules = &self.room.rules;
        let keys = rules::auth::auth_events_for(rules, &kind.into(), sender, state_key, &content).unwrap();
        let draft = PduDraft {
            room_id: self.room.room_id.clone(),
            sender: sender.to_owned(),
            kind: kind.into(),
            state_key: state_key.map(ToOwned::to_owned),
            content,
            redacts: None,
            prev_events: vec![after.event_id().clone()],
            auth_events: keys.iter().filter_map(|key| Some(state.get(key)?.event_id().clone())).collect(),
            depth: after.depth() + 1,
            origin_server_ts: UnixMillis(self.now + 500),
            event_id: None,
            reference_hashes: std::collections::BTreeMap::new(),
        };
        CheckedPdu::build(draft, rules, &key()).unwrap()
    }

    /// The state that an event of another server comes upon.
    fn before(&self, event: &CheckedPdu) -> StateFacts {
        event.prev_events().first().and_then(|id| self.after.get(id)).cloned().unwrap_or_default()
    }

    fn decide(&self, input: Input, before: StateFacts) -> Verdict {
        let facts = self.facts(&input, Some(before)).unwrap();
        self.env(|env| decide(env, &self.room, input, &facts))
    }

    fn receive(&mut self, event: CheckedPdu) -> Verdict {
        let before = self.before(&event);
        let verdict = self.decide(Input::Event(event), before.clone());
        if let Verdict::Change(change) = &verdict {
            self.apply(change, before);
        }
        verdict
    }

    /// Takes over what was decided. The tests that let history part don't look at the state of what comes after.
    fn apply(&mut self, change: &Change, before: StateFacts) {
        let mut after = before;
        if let (Some(key), Standing::Accepted) = (&change.sets, &change.standing) {
            after.insert(key.clone(), change.pdu.clone());
            self.state.insert(key.clone(), change.pdu.clone());
        }
        self.after.insert(change.pdu.event_id().clone(), after);
        self.events.insert(change.pdu.event_id().clone(), change.pdu.clone());
        self.room.apply(change);
    }

    fn last(&self) -> Arc<Pdu> {
        self.events[&self.room.tips[0].event_id].clone()
    }
}

fn standing(verdict: Verdict) -> Standing {
    match verdict {
        Verdict::Change(change) => change.standing,
        other => panic!("{other:?}"),
    }
}

fn member_key(user: &UserId) -> StateKey {
    (StateEventType::RoomMember, user.to_string())
}

#[test]
fn a_draft_follows_the_tips_names_what_allows_it_and_becomes_the_tip() {
    for version in rules::SUPPORTED {
        let mut world = World::new(&version, &json!({"join_rule": "public"}));
        let before = world.last();
        let change = world.say(alice(), "hello").unwrap();
        let pdu = &change.pdu;
        assert_eq!(pdu.prev_events(), [before.event_id().clone()], "{version}");
        assert_eq!(pdu.depth(), before.depth() + 1);
        let named: Vec<_> = pdu.auth_events().iter().map(|id| world.events[id].kind_str().to_owned()).collect();
        assert!(named.contains(&"m.room.power_levels".to_owned()) && named.contains(&"m.room.member".to_owned()));
        assert_eq!(change.standing, Standing::Accepted);
        assert_eq!(change.sets, None);
        assert_eq!(world.room.tips.len(), 1);
        assert_eq!(world.room.tips[0].event_id, *pdu.event_id());
        assert_eq!(world.room.tips[0].reference_hash.is_empty(), version.as_str() != "1" && version.as_str() != "2");
    }
}

#[test]
fn the_room_of_version_12_has_the_id_of_its_creation() {
    let world = World::new(&RoomVersionId::V12, &json!({"join_rule": "public"}));
    let create = &world.state[&(StateEventType::RoomCreate, String::new())];
    assert_eq!(world.room.room_id.as_ref().unwrap().strip_sigil(), create.event_id().as_str().trim_start_matches('$'));
    assert_eq!(world.last().room_id(), world.room.room_id.as_ref().unwrap());
}

#[test]
fn a_draft_that_the_room_does_not_allow_becomes_no_event() {
    let mut world = World::public();
    let tips = world.room.tips.clone();
    assert!(matches!(world.say(bob(), "not a member"), Err(Refusal::Forbidden(_))));
    world.member(bob(), bob(), "join").unwrap();
    let refused = world.put(bob(), "m.room.name", "", &json!({"name": "no power"}));
    assert!(matches!(refused, Err(Refusal::Forbidden(_))));
    let large = json!({ "body": "x".repeat(70_000) });
    let draft = Draft::message(bob().to_owned(), "m.room.message", to_raw_value(&large).unwrap());
    assert!(matches!(world.send(draft), Err(Refusal::Build(_))));
    assert_ne!(world.room.tips, tips);
    assert_eq!(world.room.tips.len(), 1);
}

/// What each change of Bob's membership comes to, from none, leave, invite, join, knock and ban.
fn check(join_rule: &str, sender: &UserId, membership: &str, expected: [bool; 6]) {
    let states: [&[(&UserId, &str)]; 6] = [
        &[],
        &[(alice(), "invite"), (bob(), "leave")],
        &[(alice(), "invite")],
        &[(alice(), "invite"), (bob(), "join")],
        &[(bob(), "knock")],
        &[(alice(), "ban")],
    ];
    for (steps, expected) in states.iter().zip(expected) {
        // Bob can knock only where that is allowed: the rule that is asked about comes after.
        let mut world = World::new(&RoomVersionId::V11, &json!({"join_rule": "knock"}));
        world.member(alice(), carol(), "invite").unwrap();
        world.member(carol(), carol(), "join").unwrap();
        for (sender, membership) in *steps {
            world.member(sender, bob(), membership).unwrap();
        }
        world.put(alice(), "m.room.join_rules", "", &json!({ "join_rule": join_rule, "allow": [] })).unwrap();
        let outcome = world.member(sender, bob(), membership);
        let last = steps.last().map_or("none", |(_, membership)| membership);
        assert_eq!(outcome.is_ok(), expected, "{join_rule}: {sender} makes it {membership} from {last}: {outcome:?}");
        if let Ok(change) = outcome {
            assert_eq!(change.sets, Some(member_key(bob())));
        }
    }
}

#[test]
fn every_change_of_membership_is_allowed_where_the_rules_say_so() {
    const YES: bool = true;
    const NO: bool = false;
    // From:                             none leave invite join knock ban
    check("public", bob(), "join", [YES, YES, YES, YES, YES, NO]);
    for rule in ["invite", "knock", "restricted", "knock_restricted", "private"] {
        check(rule, bob(), "join", [NO, NO, rule != "private", rule != "private", NO, NO]);
    }
    for rule in ["public", "invite"] {
        check(rule, bob(), "knock", [NO, NO, NO, NO, NO, NO]);
        check(rule, bob(), "leave", [NO, NO, YES, YES, YES, NO]);
        check(rule, bob(), "invite", [NO, NO, NO, NO, NO, NO]);
        check(rule, bob(), "ban", [NO, NO, NO, NO, NO, NO]);
        check(rule, alice(), "join", [NO, NO, NO, NO, NO, NO]);
        check(rule, alice(), "knock", [NO, NO, NO, NO, NO, NO]);
        check(rule, alice(), "invite", [YES, YES, YES, NO, YES, NO]);
        check(rule, alice(), "leave", [YES, YES, YES, YES, YES, YES]);
        check(rule, alice(), "ban", [YES, YES, YES, YES, YES, YES]);
        // A member without power may invite, and no more.
        check(rule, carol(), "invite", [YES, YES, YES, NO, YES, NO]);
        check(rule, carol(), "leave", [NO, NO, NO, NO, NO, NO]);
        check(rule, carol(), "ban", [NO, NO, NO, NO, NO, NO]);
    }
    for rule in ["knock", "knock_restricted"] {
        check(rule, bob(), "knock", [YES, YES, NO, NO, YES, NO]);
    }
}

#[test]
fn an_event_of_another_server_takes_its_place_among_the_tips() {
    let mut world = World::public();
    world.member(bob(), bob(), "join").unwrap();
    let fork = world.last();
    world.say(alice(), "ours").unwrap();
    let theirs = world.foreign(bob(), ("m.room.message", None), &json!({"body": "theirs"}), &fork);
    assert_eq!(standing(world.receive(theirs)), Standing::Accepted);
    assert_eq!(world.room.tips.len(), 2);
    let both = world.say(alice(), "both").unwrap();
    assert_eq!(both.pdu.prev_events().len(), 2);
    assert_eq!(both.tips.len(), 1);
}

#[test]
fn what_an_event_refers_to_and_is_not_known_is_named() {
    let mut world = World::public();
    world.member(bob(), bob(), "join").unwrap();
    let known = world.last();
    let first = world.foreign(bob(), ("m.room.message", None), &json!({"body": "1"}), &known);
    let mut ahead = world.clone();
    let first_id = first.event_id().clone();
    assert_eq!(standing(ahead.receive(first)), Standing::Accepted);
    let second =
        ahead.foreign(bob(), ("m.room.message", None), &json!({"body": "2"}), &ahead.events[&first_id].clone());
    let verdict = world.decide(Input::Event(second), world.state.clone());
    assert!(matches!(&verdict, Verdict::Missing(ids) if *ids == [first_id]), "{verdict:?}");

    let mut without_members = world.clone();
    let member = without_members.state[&member_key(bob())].event_id().clone();
    without_members.events.remove(&member);
    let third = world.foreign(bob(), ("m.room.message", None), &json!({"body": "3"}), &known);
    let verdict = without_members.decide(Input::Event(third), world.state.clone());
    assert!(matches!(&verdict, Verdict::Missing(ids) if ids.contains(&member)), "{verdict:?}");
}

#[test]
fn an_event_that_was_allowed_where_it_was_sent_but_is_not_now_is_soft_failed() {
    let mut world = World::public();
    world.member(bob(), bob(), "join").unwrap();
    let fork = world.last();
    world.member(alice(), bob(), "ban").unwrap();
    let late = world.foreign(bob(), ("m.room.message", None), &json!({"body": "late"}), &fork);
    let tips = world.room.tips.clone();
    assert!(matches!(standing(world.receive(late)), Standing::SoftFailed(_)));
    assert_eq!(world.room.tips, tips);
}

#[test]
fn an_event_that_the_state_before_it_does_not_allow_is_rejected() {
    let mut world = World::public();
    world.member(bob(), bob(), "join").unwrap();
    let member = world.last();
    world.member(alice(), bob(), "ban").unwrap();
    let banned = world.last();
    // It names the join as allowing it, and follows the ban.
    let honest = world.foreign(bob(), ("m.room.message", None), &json!({"body": "x"}), &member);
    let draft = PduDraft {
        room_id: world.room.room_id.clone(),
        sender: bob().to_owned(),
        kind: "m.room.message".into(),
        state_key: None,
        content: to_raw_value(&json!({"body": "x"})).unwrap(),
        redacts: None,
        prev_events: vec![banned.event_id().clone()],
        auth_events: honest.auth_events().to_vec(),
        depth: banned.depth() + 1,
        origin_server_ts: UnixMillis(2_000),
        event_id: None,
        reference_hashes: std::collections::BTreeMap::new(),
    };
    let forged = CheckedPdu::build(draft, &world.room.rules, &key()).unwrap();
    let verdict = world.receive(forged);
    let Verdict::Change(change) = verdict else { panic!("{verdict:?}") };
    assert!(matches!(change.standing, Standing::Rejected(_)));
    assert!(change.pdu.rejected());
    // What builds on it is rejected by that.
    let next = world.foreign(bob(), ("m.room.message", None), &json!({"body": "y"}), &change.pdu);
    assert!(matches!(standing(world.receive(next)), Standing::Rejected(_) | Standing::SoftFailed(_)));
}

#[test]
fn an_event_that_what_it_names_does_not_allow_is_rejected_wherever_it_comes_from() {
    let world = World::public();
    let (stranger, after) = (user_id!("@eve:e.example"), world.last());
    let event = || world.foreign(stranger, ("m.room.message", None), &json!({"body": "x"}), &after);
    for input in [Input::Event(event()), Input::Past(event()), Input::Outlier(event())] {
        assert!(matches!(standing(world.decide(input, world.state.clone())), Standing::Rejected(_)));
    }
}

#[test]
fn the_past_is_judged_by_its_own_state_and_changes_nothing_current() {
    let mut world = World::public();
    world.member(bob(), bob(), "join").unwrap();
    let then = world.last();
    world.member(alice(), bob(), "ban").unwrap();
    let content = json!({"membership": "join", "displayname": "B"});
    let past = world.foreign(bob(), ("m.room.member", Some(bob().as_str())), &content, &then);
    // Nothing that it follows needs to be known.
    world.events.remove(then.event_id());
    world.events.insert(then.event_id().clone(), then.clone());
    let verdict = world.decide(Input::Past(past), world.after[then.event_id()].clone());
    let Verdict::Change(change) = verdict else { panic!("{verdict:?}") };
    assert_eq!(change.standing, Standing::Accepted);
    assert_eq!(change.sets, Some(member_key(bob())));
    assert_eq!(change.tips, world.room.tips);

    let banned = world.last();
    let forged = world.foreign(alice(), ("m.room.message", None), &json!({"body": "x"}), &banned);
    let before_alice = StateFacts::new();
    assert!(matches!(standing(world.decide(Input::Past(forged), before_alice)), Standing::Rejected(_)));
}

#[test]
fn an_outlier_is_judged_by_what_it_names_alone() {
    let world = World::public();
    let join = json!({"membership": "join"});
    let event = world.foreign(bob(), ("m.room.member", Some(bob().as_str())), &join, &world.last());
    let input = Input::Outlier(event);
    assert!(needs(&world.room, &input).unwrap().state.is_empty());
    let Verdict::Change(change) = world.decide(input, StateFacts::new()) else { panic!() };
    assert_eq!((change.standing, change.sets, &change.tips), (Standing::Outlier, None, &world.room.tips));
}

/// A redaction by this user of an event of Bob's: whether it takes effect, and whether it waits.
fn redaction_by(redactor: &UserId, target_is_known: bool) -> (bool, bool) {
    let mut world = World::public();
    for user in [bob(), carol()] {
        world.member(user, user, "join").unwrap();
    }
    let target = world.say(bob(), "secret").unwrap().pdu.event_id().clone();
    if !target_is_known {
        world.events.remove(&target);
    }
    let content = to_raw_value(&json!({ "redacts": target })).unwrap();
    let draft =
        Draft { redacts: Some(target.clone()), ..Draft::message(redactor.to_owned(), "m.room.redaction", content) };
    let change = world.send(draft).unwrap();
    assert!(change.awaits.as_ref().is_none_or(|awaited| *awaited == target));
    (change.redacts == Some(target), change.awaits.is_some())
}

#[test]
fn a_redaction_takes_effect_where_its_sender_may_redact() {
    assert_eq!(redaction_by(alice(), true), (true, false));
    assert_eq!(redaction_by(bob(), true), (true, false));
    assert_eq!(redaction_by(carol(), true), (false, false));
    for redactor in [alice(), bob(), carol()] {
        assert_eq!(redaction_by(redactor, false), (false, true));
    }
}

#[test]
fn of_the_redactions_that_came_first_the_first_that_may_takes_effect() {
    let mut world = World::public();
    for user in [bob(), carol()] {
        world.member(user, user, "join").unwrap();
    }
    let fork = world.last();
    let target = world.foreign(bob(), ("m.room.message", None), &json!({"body": "secret"}), &fork);
    let mut early = Vec::new();
    for redactor in [carol(), alice(), bob()] {
        let content = json!({ "redacts": target.event_id() });
        let redaction = world.foreign(redactor, ("m.room.redaction", None), &content, &fork);
        let Verdict::Change(change) = world.receive(redaction) else { panic!() };
        assert_eq!(change.awaits.as_ref(), Some(target.event_id()));
        early.push(EarlyRedaction { pdu: change.pdu.clone(), before: world.state.clone() });
    }
    let input = Input::Event(target);
    let mut facts = world.facts(&input, None).unwrap();
    facts.redactions = early.clone();
    let Verdict::Change(change) = world.env(|env| decide(env, &world.room, input, &facts)) else { panic!() };
    assert_eq!(change.redacted_by.as_ref(), Some(early[1].pdu.event_id()));
}

#[test]
fn no_more_tips_are_followed_than_an_event_may_name() {
    let mut world = World::public();
    world.member(bob(), bob(), "join").unwrap();
    let fork = world.last();
    for number in 0..25 {
        let event = world.foreign(bob(), ("m.room.message", None), &json!({ "body": number }), &fork);
        assert_eq!(standing(world.receive(event)), Standing::Accepted);
    }
    assert_eq!(world.room.tips.len(), 25);
    let change = world.say(alice(), "some of them").unwrap();
    assert_eq!(change.pdu.prev_events().len(), 20);
    assert_eq!(world.room.tips.len(), 6);
    let change = world.say(alice(), "the others").unwrap();
    assert_eq!(change.pdu.prev_events().len(), 6);
}
