//! What holds whatever happens: order, completeness, bounds.

use crate::{Backoff, Delivery, Jitter, Limits, Next, Offered, Outcome};
use base::{Stamp, UnixMillis};
use proptest::prelude::*;
use std::time::Duration;

const LIMITS: Limits = Limits { batch_items_max: 3, batch_weight_max: 10, queue_items_max: 5 };
const BACKOFF: Backoff = Backoff { first: Duration::from_secs(10), max: Duration::from_secs(100) };
const NOW: UnixMillis = UnixMillis(1_000_000);

fn failed() -> Outcome {
    Outcome::Failed { retry_after: None, jitter: Jitter(u16::MAX) }
}

fn delivery(items: &[(u64, usize, &'static str)]) -> Delivery<&'static str> {
    let mut delivery = Delivery::new(LIMITS, BACKOFF, Stamp(0));
    for (stamp, weight, item) in items {
        delivery.offer(Stamp(*stamp), *weight, *item);
    }
    delivery
}

fn batch(delivery: &mut Delivery<&'static str>) -> Vec<&'static str> {
    assert_eq!(delivery.next(NOW), Next::Send);
    delivery.batch().map(|(_, item)| *item).collect()
}

#[test]
fn batches_are_bounded_by_number_and_weight() {
    let mut one = delivery(&[(1, 1, "a"), (2, 1, "b"), (3, 1, "c"), (4, 1, "d")]);
    assert_eq!(batch(&mut one), ["a", "b", "c"]);
    assert_eq!(one.next(NOW), Next::Sending);
    one.finish(Outcome::Accepted, NOW);
    assert_eq!(batch(&mut one), ["d"]);
    let mut one = delivery(&[(1, 99, "a"), (2, 6, "b"), (3, 6, "c")]);
    assert_eq!(batch(&mut one), ["a"], "what is too heavy for a batch is one by itself");
    one.finish(Outcome::Accepted, NOW);
    assert_eq!(batch(&mut one), ["b"]);
}

#[test]
fn a_failed_batch_is_sent_again_after_a_while_that_grows() {
    let mut one = delivery(&[(1, 1, "a")]);
    let mut now = NOW;
    for seconds in [10, 20, 40, 80, 100, 100] {
        assert_eq!(one.next(now), Next::Send);
        one.finish(failed(), now);
        let retry_at = now.after(Duration::from_secs(seconds));
        assert_eq!(one.next(now), Next::Wait(retry_at));
        assert_eq!((one.done(), one.failing_since()), (Stamp(0), Some(NOW)));
        now = retry_at;
    }
    assert_eq!(one.next(now), Next::Send);
    assert!(one.finish(Outcome::Accepted, now));
    assert_eq!((one.next(now), one.done(), one.failing_since()), (Next::Idle, Stamp(1), None));
}

#[test]
fn a_peer_may_ask_for_a_longer_wait_but_not_for_any() {
    for (asked, seconds) in [(1, 10), (50, 50), (9_999, 100)] {
        let mut one = delivery(&[(1, 1, "a")]);
        one.next(NOW);
        let retry_after = Some(Duration::from_secs(asked));
        one.finish(Outcome::Failed { retry_after, jitter: Jitter(u16::MAX) }, NOW);
        assert_eq!(one.retry_at(), Some(NOW.after(Duration::from_secs(seconds))));
    }
}

#[test]
fn what_is_refused_for_good_is_passed_over() {
    let mut one = delivery(&[(1, 99, "a"), (2, 1, "b")]);
    batch(&mut one);
    one.finish(Outcome::Refused, NOW);
    assert_eq!(one.done(), Stamp(1));
    assert_eq!(batch(&mut one), ["b"]);
}

#[test]
fn a_peer_that_is_heard_from_is_not_waited_for() {
    let mut one = delivery(&[(1, 1, "a")]);
    one.next(NOW);
    one.finish(failed(), NOW);
    one.reset();
    assert_eq!(one.next(NOW), Next::Send);
}

#[test]
fn what_is_forgotten_is_asked_for_again() {
    let mut one = delivery(&[(1, 1, "a"), (2, 1, "b"), (3, 1, "c"), (4, 1, "d"), (5, 1, "e")]);
    assert_eq!(one.offer(Stamp(6), 1, "f"), Offered::Later);
    assert_eq!(one.offer(Stamp(7), 1, "g"), Offered::Later);
    batch(&mut one);
    one.forget();
    assert_eq!((one.queued(), one.done()), (3, Stamp(0)));
    one.finish(Outcome::Accepted, NOW);
    assert_eq!((one.done(), one.next(NOW)), (Stamp(3), Next::CatchUp(Stamp(3))));
    one.caught_up([(Stamp(5), 1, "e")], Stamp(6));
    assert_eq!(batch(&mut one), ["e"]);
    one.finish(Outcome::Accepted, NOW);
    assert_eq!(one.next(NOW), Next::CatchUp(Stamp(6)));
    one.caught_up([], Stamp(7));
    assert_eq!((one.next(NOW), one.done()), (Next::Idle, Stamp(7)));
}

#[test]
fn what_need_not_be_sent_any_more_is_taken_out_unless_it_is_being_sent() {
    let mut one = delivery(&[(1, 9, "a"), (2, 9, "b"), (3, 9, "c")]);
    batch(&mut one);
    one.retain(|_, item| *item == "c");
    one.finish(failed(), NOW);
    let items: Vec<_> = one.queue_items();
    assert_eq!(items, ["a", "c"]);
}

#[test]
fn passing_over_what_is_for_others_moves_the_cursor() {
    let mut one = delivery(&[]);
    one.pass(Stamp(9));
    assert_eq!((one.done(), one.next(NOW)), (Stamp(9), Next::Idle));
    one.offer(Stamp(12), 1, "a");
    one.pass(Stamp(20));
    assert_eq!(one.done(), Stamp(11));
}

impl Delivery<&'static str> {
    fn queue_items(&mut self) -> Vec<&'static str> {
        let mut items = Vec::new();
        self.retain(|_, item| {
            items.push(*item);
            true
        });
        items
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// The log grows by an entry with so many items.
    Grow(usize),
    /// The peer is asked, and answers like this.
    Turn(bool),
    Forget,
    /// The process ends and begins again with what it has written down.
    Crash,
    WriteDown,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0_usize..3).prop_map(Step::Grow),
        6 => any::<bool>().prop_map(Step::Turn),
        1 => Just(Step::Forget),
        1 => Just(Step::Crash),
        2 => Just(Step::WriteDown),
    ]
}

/// A world with a log, a peer, and what was written down.
struct World {
    log: Vec<(Stamp, usize)>,
    newest: Stamp,
    delivery: Delivery<usize>,
    written: Stamp,
    received: Vec<usize>,
    now: UnixMillis,
}

impl World {
    fn turn(&mut self, accepts: bool) {
        match self.delivery.next(self.now) {
            Next::Wait(at) => {
                assert!(at > self.now);
                self.now = at;
            }
            Next::CatchUp(after) => {
                // Two at a time, but never half of a stamp.
                let mut items: Vec<(Stamp, usize)> =
                    self.log.iter().copied().filter(|(stamp, _)| *stamp > after).collect();
                let up_to = items.get(1).map_or(self.newest, |(stamp, _)| *stamp);
                items.retain(|(stamp, _)| *stamp <= up_to);
                self.delivery.caught_up(items.into_iter().map(|(stamp, item)| (stamp, 1, item)), up_to);
            }
            Next::Send => {
                let batch: Vec<usize> = self.delivery.batch().map(|(_, item)| *item).collect();
                assert!(!batch.is_empty() && batch.len() <= LIMITS.batch_items_max);
                if accepts {
                    self.received.extend(batch);
                }
                let outcome = if accepts { Outcome::Accepted } else { failed() };
                self.delivery.finish(outcome, self.now);
            }
            Next::Sending => panic!("nothing is being sent"),
            Next::Idle => assert_eq!(self.delivery.done(), self.newest),
        }
    }
}

proptest! {
    #[test]
    fn everything_arrives_in_order_whatever_fails(steps in prop::collection::vec(step(), 1..200)) {
        let mut world = World {
            log: Vec::new(),
            newest: Stamp(0),
            delivery: Delivery::new(LIMITS, BACKOFF, Stamp(0)),
            written: Stamp(0),
            received: Vec::new(),
            now: NOW,
        };
        for step in steps {
            match step {
                Step::Grow(items) => {
                    world.newest = world.newest.next();
                    for _ in 0..items {
                        let item = world.log.len();
                        world.log.push((world.newest, item));
                        world.delivery.offer(world.newest, 1, item);
                    }
                    world.delivery.pass(world.newest);
                }
                Step::Turn(accepts) => world.turn(accepts),
                Step::Forget => world.delivery.forget(),
                Step::WriteDown => world.written = world.delivery.done(),
                Step::Crash => {
                    world.delivery = Delivery::resume(LIMITS, BACKOFF, world.written);
                    world.delivery.pass(world.newest);
                }
            }
            // Nothing counts as done that has not arrived.
            let done = world.delivery.done();
            for (stamp, item) in &world.log {
                prop_assert!(*stamp > done || world.received.contains(item));
            }
        }
        for _ in 0..10_000 {
            if world.delivery.is_idle() {
                break;
            }
            world.turn(true);
        }
        prop_assert!(world.delivery.is_idle());
        // The first times that items arrive are in their order, and all do.
        let mut first = Vec::new();
        for item in &world.received {
            if !first.contains(item) {
                first.push(*item);
            }
        }
        prop_assert_eq!(first, (0..world.log.len()).collect::<Vec<_>>());
    }
}
