//! The suite that every engine passes: what the documentation of [`Engine`] and [`Snapshot`] promises, as
//! tests, and a comparison with a plain model under random batches.
//!
//! [`crate::conformance!`] makes one test of each function here. What only an engine with a disk can
//! break (a crash at any write) is that engine's own test.

#![expect(missing_docs, reason = "each test is named as the statement that it proves")]
#![expect(clippy::missing_panics_doc, reason = "a test that fails panics")]
#![expect(clippy::unwrap_used, reason = "a test that fails panics")]

use crate::{Batch, CommitError, Direction, Durability, Engine, Expect, Family, Hole, Row, Scan, Snapshot, Stamped};
use crate::{Stamps, Write};
use base::{Stamp, limits};
use futures::future::join_all;
use proptest::prelude::*;
use proptest::test_runner::{TestCaseError, TestRunner};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Makes a module of tests that prove an engine: `conformance!(memory, || (MemoryEngine::new(), ()))`.
///
/// The second argument makes an empty engine and something to keep as long as the engine lives, such as
/// its directory.
#[macro_export]
macro_rules! conformance {
    ($name:ident, $make:expr) => {
        mod $name {
            use super::*;

            $crate::conformance!(@tests $make;
                rows_come_in_the_order_of_their_keys_both_ways,
                a_scan_stays_within_its_range_whatever_the_length_of_the_bounds,
                a_scan_returns_no_more_rows_than_asked_for_or_allowed,
                an_empty_or_inverted_range_has_no_rows,
                families_are_separate,
                a_snapshot_never_changes,
                a_batch_whose_expectation_fails_writes_nothing_and_takes_no_stamp,
                an_expectation_sees_what_was_committed_before,
                of_batches_that_expect_the_same_one_is_committed,
                writers_that_expect_what_they_read_lose_no_update,
                stamps_are_consecutive_and_at_least_one_is_taken,
                holes_receive_the_stamps,
                the_later_write_of_a_batch_prevails,
                adding_to_a_counter_starts_at_zero_and_wraps_around,
                concurrent_additions_all_count,
                a_cleared_range_ends_before_its_upper_bound,
                a_batch_beyond_the_limits_is_refused_whole,
                a_batch_at_the_limits_is_committed,
                get_many_answers_in_the_order_of_the_keys,
                an_empty_key_and_an_empty_value_are_stored,
                the_watch_announces_only_what_snapshots_show,
                a_derived_batch_is_visible_when_it_is_answered,
                no_reader_sees_half_a_batch,
                random_batches_do_what_they_do_to_a_plain_map,
                random_concurrent_batches_are_the_same_as_in_the_order_of_their_stamps,
            );
        }
    };
    (@tests $make:expr; $($test:ident,)*) => {
        $(
            #[test]
            fn $test() {
                $crate::conformance::$test($make);
            }
        )*
    };
}

/// Runs a test on a fresh engine, within a runtime of several threads as the server has.
fn check<E: Engine, G, F: Future>(make: &impl Fn() -> (E, G), test: impl FnOnce(Arc<E>) -> F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (engine, guard) = make();
    let output = runtime.block_on(test(Arc::new(engine)));
    drop(runtime);
    drop(guard);
    output
}

fn put(family: Family, key: &[u8], value: &[u8]) -> Write {
    Write::Put { family, key: key.to_vec().into(), value: value.to_vec().into() }
}

fn points(key: &[u8], value: &[u8]) -> Write {
    put(Family::Points, key, value)
}

fn add(key: &[u8], delta: i64) -> Write {
    Write::Add { family: Family::Points, key: key.to_vec(), delta }
}

fn clear_range(from: &[u8], to: &[u8]) -> Write {
    Write::ClearRange { family: Family::Points, from: from.to_vec(), to: to.to_vec() }
}

fn expect(key: &[u8], value: Option<&[u8]>) -> Expect {
    Expect { family: Family::Points, key: key.to_vec(), value: value.map(<[u8]>::to_vec) }
}

fn batch(writes: Vec<Write>) -> Batch {
    Batch { writes, ..Batch::default() }
}

fn guarded(expects: Vec<Expect>, writes: Vec<Write>) -> Batch {
    Batch { expects, writes, ..Batch::default() }
}

fn scan(family: Family, from: &[u8], to: &[u8], direction: Direction) -> Scan {
    Scan { family, from: from.to_vec(), to: to.to_vec(), direction, rows_max: limits::SCAN_ROWS_MAX }
}

fn keys_of(snapshot: &dyn Snapshot, family: Family, from: &[u8], to: &[u8]) -> Vec<Vec<u8>> {
    let rows = snapshot.scan(&scan(family, from, to, Direction::Forward)).unwrap();
    rows.into_iter().map(|(key, _)| key).collect()
}

fn get(engine: &impl Engine, key: &[u8]) -> Option<Vec<u8>> {
    engine.snapshot().get(Family::Points, key).unwrap()
}

fn count(engine: &impl Engine, key: &[u8]) -> u64 {
    u64::from_be_bytes(get(engine, key).unwrap().try_into().unwrap())
}

/// Beyond every key that the tests write.
const END: &[u8] = &[0xff; 40];

pub fn rows_come_in_the_order_of_their_keys_both_ways<E: Engine, G>(make: impl Fn() -> (E, G)) {
    check(&make, async |engine| {
        for family in Family::ALL {
            let keys: [&[u8]; 6] = [b"b", b"a", b"ab", b"a\0", b"\xff", b"a\xff"];
            let writes = keys.iter().map(|key| put(family, key, key)).collect();
            engine.commit(batch(writes)).await.unwrap();
            let snapshot = engine.snapshot();
            let sorted: Vec<Row> =
                [&b"a"[..], b"a\0", b"ab", b"a\xff", b"b", b"\xff"].map(|key| (key.to_vec(), key.to_vec())).to_vec();
            assert_eq!(snapshot.scan(&scan(family, b"", END, Direction::Forward)).unwrap(), sorted);
            let backward = snapshot.scan(&scan(family, b"", END, Direction::Backward)).unwrap();
            assert_eq!(backward, sorted.into_iter().rev().collect::<Vec<_>>());
        }
    });
}

pub fn a_scan_stays_within_its_range_whatever_the_length_of_the_bounds<E: Engine, G>(make: impl Fn() -> (E, G)) {
    check(&make, async |engine| {
        for family in Family::ALL {
            let all: [&[u8]; 8] = [
                b"\x01",
                b"\x01\0\0\0\0\0\0\0",
                b"\x01\0\0\0\0\0\0\0\x01",
                b"\x01\0\0\0\0\0\0\0\x01a",
                b"\x01\0\0\0\0\0\0\0\x01b",
                b"\x01\0\0\0\0\0\0\0\x02a",
                b"\x02",
                b"\x02\0\0\0\0\0\0\0\x01a",
            ];
            engine.commit(batch(all.iter().map(|key| put(family, key, b"")).collect())).await.unwrap();
            let snapshot = engine.snapshot();
            for from in all {
                for to in all {
                    let inside: Vec<Vec<u8>> =
                        all.iter().filter(|key| (from..to).contains(*key)).map(|key| key.to_vec()).collect();
                    assert_eq!(keys_of(&*snapshot, family, from, to), inside, "{family:?} {from:?} {to:?}");
                    let backward = snapshot.scan(&scan(family, from, to, Direction::Backward)).unwrap();
                    let backward: Vec<Vec<u8>> = backward.into_iter().rev().map(|(key, _)| key).collect();
                    assert_eq!(backward, inside, "{family:?} {from:?} {to:?} backward");
                }
            }
            let one = b"\x01\0\0\0\0\0\0\0\x01".to_vec();
            let beyond = crate::key::after_prefix(&one);
            assert_eq!(keys_of(&*snapshot, family, &one, &beyond).len(), 3);
        }
    });
}

pub fn a_scan_returns_no_more_rows_than_asked_for_or_allowed<E: Engine, G>(make: impl Fn() -> (E, G)) {
    check(&make, async |engine| {
        let rows = u32::try_from(limits::SCAN_ROWS_MAX).unwrap() + 1;
        let writes = (0..rows).map(|n| put(Family::Ranges, &n.to_be_bytes(), b"")).collect();
        engine.commit(batch(writes)).await.unwrap();
        let snapshot = engine.snapshot();
        for direction in [Direction::Forward, Direction::Backward] {
            let page = |rows_max| {
                let scan = Scan { rows_max, ..scan(Family::Ranges, b"", END, direction) };
                snapshot.scan(&scan).unwrap()
            };
            assert_eq!(page(0).len(), 0);
            assert_eq!(page(3).len(), 3);
            assert_eq!(page(usize::MAX).len(), limits::SCAN_ROWS_MAX);
        }
        let scan = Scan { rows_max: 2, ..scan(Family::Ranges, b"", END, Direction::Backward) };
        let last: Vec<Vec<u8>> = snapshot.scan(&scan).unwrap().into_iter().map(|(key, _)| key).collect();
        assert_eq!(last, [(rows - 1).to_be_bytes().to_vec(), (rows - 2).to_be_bytes().to_vec()]);
    });
}

pub fn an_empty_or_inverted_range_has_no_rows<E: Engine, G>(make: impl Fn() -> (E, G)) {
    check(&make, async |engine| {
        engine.commit(batch(vec![points(b"a", b""), points(b"b", b"")])).await.unwrap();
        engine.commit(batch(vec![clear_range(b"b", b"a"), clear_range(b"a", b"a")])).await.unwrap();
        let snapshot = engine.snapshot();
        for direction in [Direction::Forward, Direction::Backward] {
            for (from, to) in [(&b"a"[..], &b"a"[..]), (b"b", b"a"), (b"", b""), (b"c", b"d")] {
                assert_eq!(snapshot.scan(&scan(Family::Points, from, to, direction)).unwrap(), []);
            }
        }
        assert_eq!(keys_of(&*snapshot, Family::Points, b"", END).len(), 2);
    });
}

pub fn families_are_separate<E: Engine, G>(make: impl Fn() -> (E, G)) {
    check(&make, async |engine| {
        let writes = Family::ALL.into_iter().zip(0_u8..).map(|(family, n)| put(family, b"key", &[n])).collect();
        engine.commit(batch(writes)).await.unwrap();
        engine.commit(batch(vec![Write::Clear { family: Family::Events, key: b"key".to_vec() }])).await.unwrap();
        let snapshot = engine.snapshot();
        for (family, n) in Family::ALL.into_iter().zip(0_u8..) {
            let value = (family != Family::Events).then(|| vec![n]);
            assert_eq!(snapshot.get(family, b"key").unwrap(), value);
        }
    });
}

pub fn a_snapshot_never_changes<E: Engine, G>(make: impl Fn() -> (E, G)) {
    check(&make, async |engine| {
        let empty = engine.snapshot();
        let first = engine.commit(batch(vec![points(b"a", b"1"), points(b"b", b"1")])).await.unwrap();
        let before = engine.snapshot();
        let writes = vec![points(b"a", b"2"), clear_range(b"b", b"c"), points(b"c", b"2")];
        let second = engine.commit(batch(writes)).await.unwrap();
        let after = engine.snapshot();

        assert_eq!(empty.stamp(), Stamp(0));
        assert_eq!(keys_of(&*empty, Family::Points, b"", END).len(), 0);
        assert_eq!(before.stamp(), first.last);
        assert_eq!(before.get(Family::Points, b"a").unwrap(), Some(b"1".to_vec()));
        assert_eq!(keys_of(&*before, Family::Points, b"", END), [b"a", b"b"]);
        assert_eq!(after.stamp(), second.last);
        assert_eq!(after.get(Family::Points, b"a").unwrap(), Some(b"2".to_vec()));
        assert_eq!(keys_of(&*after, Family::Points, b"", END), [b"a", b"c"]);
    });
}

pub fn a_batch_whose_expectation_fails_writes_nothing_and_takes_no_stamp<E: Engine, G>(make: impl Fn() -> (E, G)) {
    check(&make, async |engine| {
        let first = engine.commit(batch(vec![points(b"a", b"1")])).await.unwrap();
        for wrong in [expect(b"a", None), expect(b"a", Some(b"2")), expect(b"b", Some(b"")), expect(b"a", Some(b""))] {
            let right = expect(b"a", Some(b"1"));
            let result = engine.commit(guarded(vec![right, wrong], vec![points(b"b", b"1"), points(b"a", b"2")])).await;
            assert!(matches!(result, Err(CommitError::Conflict)));
        }
        assert_eq!(engine.snapshot().stamp(), first.last);
        assert_eq!(get(&*engine, b"a"), Some(b"1".to_vec()));
        assert_eq!(get(&*engine, b"b"), None);
        let second = engine.commit(batch(vec![points(b"a", b"2")])).await.unwrap();
        assert_eq!(second.first, first.last.next());
    });
}

pub fn an_expectation_sees_what_was_committed_before<E: Engine, G>(make: impl Fn() -> (E, G)) {
    check(&make, async |engine| {
        // Each expects what the one before it wrote. They are started at once, so that an engine which
        // commits in groups meets them in one; one that comes before its turn conflicts.
        let chain = [
            guarded(vec![expect(b"a", None)], vec![points(b"a", b"1"), points(b"b", b"1")]),
            guarded(vec![expect(b"a", Some(b"1"))], vec![clear_range(b"a", b"b")]),
            guarded(vec![expect(b"a", None), expect(b"b", Some(b"1"))], vec![add(b"a", 7)]),
            guarded(vec![expect(b"a", Some(&7_u64.to_be_bytes()))], vec![add(b"a", 1)]),
            guarded(vec![expect(b"a", Some(&8_u64.to_be_bytes()))], vec![points(b"a", b"end")]),
        ];
        let results = join_all(chain.iter().map(|batch| engine.commit(batch.clone()))).await;
        let mut committed: Vec<(Stamps, usize)> =
            results.iter().zip(0..).filter_map(|(result, n)| Some((*result.as_ref().ok()?, n))).collect();
        committed.sort_by_key(|(stamps, _)| stamps.first);
        assert!(committed.iter().map(|(_, n)| *n).eq(0..committed.len()), "{committed:?}");
        for batch in chain.into_iter().skip(committed.len()) {
            engine.commit(batch).await.unwrap();
        }
        assert_eq!(get(&*engine, b"a"), Some(b"end".to_vec()));
    });
}

pub fn of_batches_that_expect_the_same_one_is_committed<E: Engine, G>(make: impl Fn() -> (E, G)) {
    check(&make, async |engine| {
        let contest = |n: u8| guarded(vec![expect(b"head", None)], vec![points(b"head", &[n]), points(&[n], b"")]);
        let results = join_all((0..32).map(|n| engine.commit(contest(n)))).await;
        let winners: Vec<u8> = (0..32).zip(&results).filter(|(_, result)| result.is_ok()).map(|(n, _)| n).collect();
        assert_eq!(winners.len(), 1);
        assert!(results.iter().all(|result| matches!(result, Ok(_) | Err(CommitError::Conflict))));
        assert_eq!(get(&*engine, b"head"), Some(winners.clone()));
        assert_eq!(keys_of(&*engine.snapshot(), Family::Points, &[0], &[32]), [winners]);
    });
}

pub fn writers_that_expect_what_they_read_lose_no_update<E: Engine, G>(make: impl Fn() -> (E, G)) {
    const WRITERS: usize = 4;
    const UPDATES: usize = 10;
    check(&make, async |engine| {
        let tasks = (0..WRITERS).map(|_| {
            let engine = engine.clone();
            tokio::spawn(async move {
                let mut done = 0;
                while done < UPDATES {
                    let old = get(&*engine, b"list");
                    let mut new = old.clone().unwrap_or_default();
                    new.push(b'x');
                    let update = guarded(vec![expect(b"list", old.as_deref())], vec![points(b"list", &new)]);
                    match engine.commit(update).await {
                        Ok(_) => done += 1,
                        Err(error) => assert!(matches!(error, CommitError::Conflict), "{error}"),
                    }
                }
            })
        });
        join_all(tasks).await.into_iter().for_each(|joined| joined.unwrap());
        assert_eq!(get(&*engine, b"list").unwrap().len(), WRITERS * UPDATES);
    });
}

pub fn stamps_are_consecutive_and_at_least_one_is_taken<E: Engine, G>(make: impl Fn() -> (E, G)) {
    check(&make, async |engine| {
        let mut newest = Stamp(0);
        for stamps in [0, 1, 5, 0, u16::MAX, 1] {
            let taken = engine.commit(Batch { stamps, ..batch(vec![points(b"a", b"")]) }).await.unwrap();
            assert_eq!(taken.first, newest.next());
            assert_eq!(taken.last, Stamp(newest.0 + u64::from(stamps.max(1))));
            newest = taken.last;
        }
        let empty = engine.commit(Batch::default()).await.unwrap();
        assert_eq!((empty.first, empty.last), (newest.next(), newest.next()));

        let mut all = join_all((0..64).map(|_| engine.commit(Batch { stamps: 3, ..Batch::default() }))).await;
        all.sort_by_key(|result| result.as_ref().unwrap().first);
        newest = empty.last;
        for stamps in all {
            let stamps = stamps.unwrap();
            assert_eq!((stamps.first, stamps.last), (newest.next(), Stamp(newest.0 + 3)));
            newest = stamps.last;
        }
        assert_eq!(engine.snapshot().stamp(), newest);
    });
}

pub fn holes_receive_the_stamps<E: Engine, G>(make: impl Fn() -> (E, G)) {
    check(&make, async |engine| {
        engine.commit(batch(vec![points(b"a", b"")])).await.unwrap();
        let key = Stamped { bytes: b"k........".to_vec(), holes: vec![Hole { at: 1, nth: 1 }] };
        let holes = vec![Hole { at: 0, nth: 0 }, Hole { at: 8, nth: 2 }, Hole { at: 12, nth: 0 }];
        let value = Stamped { bytes: vec![0; 18], holes };
        let put = Write::Put { family: Family::Log, key, value };
        let stamps = engine.commit(Batch { stamps: 3, ..batch(vec![put]) }).await.unwrap();
        assert_eq!(stamps, Stamps { first: Stamp(2), last: Stamp(4) });
        let rows = engine.snapshot().scan(&scan(Family::Log, b"", END, Direction::Forward)).unwrap();
        let key = [&b"k"[..], &3_u64.to_be_bytes()].concat();
        let value = [&2_u64.to_be_bytes()[..], &4_u64.to_be_bytes(), &[0, 0]].concat();
        assert_eq!(rows, [(key, value)]);
    });
}

pub fn the_later_write_of_a_batch_prevails<E: Engine, G>(make: impl Fn() -> (E, G)) {
    check(&make, async |engine| {
        let clear = |key: &[u8]| Write::Clear { family: Family::Points, key: key.to_vec() };
        let writes = vec![
            points(b"twice", b"1"),
            points(b"twice", b"2"),
            points(b"gone", b"1"),
            clear(b"gone"),
            clear(b"back"),
            points(b"back", b"1"),
            points(b"range", b"1"),
            clear_range(b"range", b"range\xff"),
            points(b"range2", b"1"),
            clear(b"never"),
        ];
        engine.commit(batch(writes)).await.unwrap();
        let rows = engine.snapshot().scan(&scan(Family::Points, b"", END, Direction::Forward)).unwrap();
        let row = |key: &[u8], value: &[u8]| (key.to_vec(), value.to_vec());
        assert_eq!(rows, [row(b"back", b"1"), row(b"range2", b"1"), row(b"twice", b"2")]);
    });
}

pub fn adding_to_a_counter_starts_at_zero_and_wraps_around<E: Engine, G>(make: impl Fn() -> (E, G)) {
    check(&make, async |engine| {
        engine.commit(batch(vec![add(b"a", 5), add(b"a", -2), points(b"text", b"no number")])).await.unwrap();
        assert_eq!(count(&*engine, b"a"), 3);
        engine.commit(batch(vec![add(b"a", -4), add(b"text", 9)])).await.unwrap();
        assert_eq!(count(&*engine, b"a"), u64::MAX);
        assert_eq!(count(&*engine, b"text"), 9);
        let clear = Write::Clear { family: Family::Points, key: b"a".to_vec() };
        let writes = vec![
            clear,
            add(b"a", 1),
            points(b"text", &40_u64.to_be_bytes()),
            add(b"text", 2),
            add(b"b", 8),
            clear_range(b"b", b"c"),
            add(b"b", 1),
        ];
        engine.commit(batch(writes)).await.unwrap();
        assert_eq!([b"a", b"b"].map(|key| count(&*engine, key)), [1, 1]);
        assert_eq!(count(&*engine, b"text"), 42);
    });
}

pub fn concurrent_additions_all_count<E: Engine, G>(make: impl Fn() -> (E, G)) {
    check(&make, async |engine| {
        let results = join_all((0..100).map(|n| engine.commit(batch(vec![add(b"a", n), add(b"b", 1)])))).await;
        assert!(results.iter().all(Result::is_ok));
        assert_eq!(count(&*engine, b"a"), 4950);
        assert_eq!(count(&*engine, b"b"), 100);
    });
}

pub fn a_cleared_range_ends_before_its_upper_bound<E: Engine, G>(make: impl Fn() -> (E, G)) {
    check(&make, async |engine| {
        for family in Family::ALL {
            let keys = (0..20_u8).map(|n| put(family, &[1, 0, 0, 0, 0, 0, 0, 0, n, n], b"")).collect();
            engine.commit(batch(keys)).await.unwrap();
            let (from, to) = (vec![1, 0, 0, 0, 0, 0, 0, 0, 3], vec![1, 0, 0, 0, 0, 0, 0, 0, 17, 17]);
            engine.commit(batch(vec![Write::ClearRange { family, from, to }])).await.unwrap();
            let left: Vec<Option<u8>> =
                keys_of(&*engine.snapshot(), family, b"", END).iter().map(|key| key.last().copied()).collect();
            assert_eq!(left, [0, 1, 2, 17, 18, 19].map(Some));
        }
    });
}

pub fn a_batch_beyond_the_limits_is_refused_whole<E: Engine, G>(make: impl Fn() -> (E, G)) {
    check(&make, async |engine| {
        let long = vec![1; limits::KEY_BYTES_MAX + 1];
        let large = vec![1; limits::VALUE_BYTES_MAX + 1];
        let full = vec![1; limits::VALUE_BYTES_MAX];
        let pieces = limits::BATCH_BYTES_MAX / limits::VALUE_BYTES_MAX;
        let too_large = [
            batch(vec![points(b"a", b""), points(&long, b"")]),
            batch(vec![points(b"a", b""), points(b"b", &large)]),
            batch(vec![points(b"a", b""), Write::Clear { family: Family::Points, key: long.clone() }]),
            batch(vec![points(b"a", b""), clear_range(b"x", &long)]),
            batch(vec![points(b"a", b""), add(&long, 1)]),
            guarded(vec![expect(&long, None)], vec![points(b"a", b"")]),
            batch((0..pieces).map(|n| points(&n.to_be_bytes(), &full)).collect()),
        ];
        for batch in too_large {
            assert!(matches!(engine.commit(batch).await, Err(CommitError::TooLarge)));
        }
        assert_eq!(engine.snapshot().stamp(), Stamp(0));
        assert_eq!(keys_of(&*engine.snapshot(), Family::Points, b"", END).len(), 0);
    });
}

pub fn a_batch_at_the_limits_is_committed<E: Engine, G>(make: impl Fn() -> (E, G)) {
    check(&make, async |engine| {
        let key = |n: u8| vec![n; limits::KEY_BYTES_MAX];
        let value = vec![7; limits::VALUE_BYTES_MAX];
        let pieces = u8::try_from(limits::BATCH_BYTES_MAX / (limits::VALUE_BYTES_MAX + limits::KEY_BYTES_MAX)).unwrap();
        let large = batch((0..pieces).map(|n| put(Family::Events, &key(n), &value)).collect());
        engine.commit(large).await.unwrap();
        let values = engine.snapshot().get_many(Family::Events, &(0..pieces).map(key).collect::<Vec<_>>()).unwrap();
        assert!(values.iter().all(|stored| stored.as_ref() == Some(&value)));
    });
}

pub fn get_many_answers_in_the_order_of_the_keys<E: Engine, G>(make: impl Fn() -> (E, G)) {
    check(&make, async |engine| {
        engine.commit(batch((0..50).map(|n| points(&[n], &[n, n])).collect())).await.unwrap();
        let keys: Vec<Vec<u8>> = [9, 3, 200, 3, 49, 0, 100].map(|n| vec![n]).to_vec();
        let values = engine.snapshot().get_many(Family::Points, &keys).unwrap();
        let some = |n| Some(vec![n, n]);
        assert_eq!(values, [some(9), some(3), None, some(3), some(49), some(0), None]);
        assert_eq!(engine.snapshot().get_many(Family::Points, &[]).unwrap(), [None; 0]);
    });
}

pub fn an_empty_key_and_an_empty_value_are_stored<E: Engine, G>(make: impl Fn() -> (E, G)) {
    check(&make, async |engine| {
        for family in Family::ALL {
            engine.commit(batch(vec![put(family, b"", b"")])).await.unwrap();
            assert_eq!(engine.snapshot().get(family, b"").unwrap(), Some(Vec::new()));
            assert_eq!(keys_of(&*engine.snapshot(), family, b"", END), [b""]);
        }
        let stays = guarded(vec![expect(b"", Some(b""))], vec![]);
        engine.commit(stays).await.unwrap();
    });
}

pub fn the_watch_announces_only_what_snapshots_show<E: Engine, G>(make: impl Fn() -> (E, G)) {
    check(&make, async |engine| {
        let mut newest = engine.newest();
        assert_eq!(*newest.borrow_and_update(), Stamp(0));
        let reader = tokio::spawn({
            let engine = engine.clone();
            async move {
                let mut seen = Stamp(0);
                while seen < Stamp(50) {
                    newest.changed().await.unwrap();
                    let announced = *newest.borrow_and_update();
                    assert!(announced > seen);
                    assert!(engine.snapshot().stamp() >= announced);
                    seen = announced;
                }
            }
        });
        for _ in 0..50 {
            let stamps = engine.commit(batch(vec![points(b"a", b"")])).await.unwrap();
            assert!(engine.snapshot().stamp() >= stamps.last);
            assert!(*engine.newest().borrow() >= stamps.last);
        }
        reader.await.unwrap();
        assert_eq!(*engine.newest().borrow(), Stamp(50));
    });
}

pub fn a_derived_batch_is_visible_when_it_is_answered<E: Engine, G>(make: impl Fn() -> (E, G)) {
    check(&make, async |engine| {
        let derived = Batch { durability: Durability::Derived, ..batch(vec![points(b"a", b"1")]) };
        let stamps = engine.commit(derived).await.unwrap();
        assert_eq!(engine.snapshot().stamp(), stamps.last);
        assert_eq!(get(&*engine, b"a"), Some(b"1".to_vec()));
    });
}

pub fn no_reader_sees_half_a_batch<E: Engine, G>(make: impl Fn() -> (E, G)) {
    const WRITERS: u8 = 4;
    const COMMITS: u64 = 20;
    check(&make, async |engine| {
        // Every batch sets the same number under a key in every family.
        let writers = (0..WRITERS).map(|writer| {
            let engine = engine.clone();
            tokio::spawn(async move {
                for n in 1..=COMMITS {
                    let writes = Family::ALL.map(|family| put(family, &[writer], &n.to_be_bytes())).to_vec();
                    engine.commit(batch(writes)).await.unwrap();
                }
            })
        });
        let writers = tokio::spawn(join_all(writers.collect::<Vec<_>>()));
        let mut newest = engine.newest();
        while newest.borrow_and_update().0 < u64::from(WRITERS) * COMMITS {
            let snapshot = engine.snapshot();
            for writer in 0..WRITERS {
                let values = Family::ALL.map(|family| snapshot.get(family, &[writer]).unwrap());
                assert!(values.windows(2).all(|pair| pair.first() == pair.last()), "{values:?}");
            }
            newest.changed().await.unwrap();
        }
        writers.await.unwrap().into_iter().for_each(|joined| joined.unwrap());
    });
}

/// What an engine is, without any engine: a map and a number.
#[derive(Clone, Debug, Default)]
struct Model {
    newest: Stamp,
    rows: BTreeMap<(Family, Vec<u8>), Vec<u8>>,
}

impl Model {
    fn commit(&mut self, batch: &Batch) -> Option<Stamps> {
        let holds = |expect: &Expect| self.rows.get(&(expect.family, expect.key.clone())) == expect.value.as_ref();
        if !batch.expects.iter().all(holds) {
            return None;
        }
        let first = Stamp(self.newest.0 + 1);
        let last = Stamp(self.newest.0 + u64::from(batch.stamps.max(1)));
        for write in &batch.writes {
            match write {
                Write::Put { family, key, value } => {
                    self.rows.insert((*family, key.fill(first)), value.fill(first));
                }
                Write::Clear { family, key } => {
                    self.rows.remove(&(*family, key.clone()));
                }
                Write::ClearRange { family, from, to } => {
                    self.rows.retain(|(other, key), _| other != family || key < from || key >= to);
                }
                Write::Add { family, key, delta } => {
                    let row = self.rows.entry((*family, key.clone())).or_default();
                    let old = <[u8; 8]>::try_from(row.as_slice()).map_or(0, u64::from_be_bytes);
                    *row = old.wrapping_add(delta.cast_unsigned()).to_be_bytes().to_vec();
                }
            }
        }
        self.newest = last;
        Some(Stamps { first, last })
    }

    fn scan(&self, scan: &Scan) -> Vec<Row> {
        let inside = |(family, key): &&(Family, Vec<u8>)| *family == scan.family && *key >= scan.from && *key < scan.to;
        let mut keys: Vec<_> = self.rows.keys().filter(inside).collect();
        if scan.direction == Direction::Backward {
            keys.reverse();
        }
        keys.truncate(scan.rows_max);
        keys.into_iter().filter_map(|key| Some((key.1.clone(), self.rows.get(key)?.clone()))).collect()
    }

    /// Fails unless the snapshot shows exactly this.
    fn compare(&self, snapshot: &dyn Snapshot) -> Result<(), TestCaseError> {
        prop_assert_eq!(snapshot.stamp(), self.newest);
        for family in Family::ALL {
            for direction in [Direction::Forward, Direction::Backward] {
                let all = scan(family, b"", END, direction);
                prop_assert_eq!(snapshot.scan(&all).unwrap(), self.scan(&all));
            }
            let keys: Vec<Vec<u8>> = self.rows.keys().map(|(_, key)| key.clone()).collect();
            let values: Vec<_> = keys.iter().map(|key| self.rows.get(&(family, key.clone())).cloned()).collect();
            for (key, value) in keys.iter().zip(&values) {
                prop_assert_eq!(&snapshot.get(family, key).unwrap(), value);
            }
            prop_assert_eq!(snapshot.get_many(family, &keys).unwrap(), values);
        }
        Ok(())
    }
}

/// What a random test does next.
#[derive(Clone, Debug)]
enum Step {
    /// Commits this; the flags say which of the expectations are made true first.
    Commit(Batch, Vec<bool>),
    Scan(Scan),
    Hold,
}

/// Few enough keys that they meet, of lengths around that of the prefix which engines may index.
fn a_key() -> impl Strategy<Value = Vec<u8>> {
    let prefix = prop_oneof![Just([0_u8; 9]), Just([0, 0, 0, 0, 0, 0, 0, 0, 1]), Just([0xff; 9])];
    let length = prop_oneof![Just(0_usize), Just(3), Just(8), Just(9), Just(10), Just(11)];
    let tail = prop_oneof![Just(0_u8), Just(1), Just(0xff)];
    (prefix, length, tail)
        .prop_map(|(prefix, length, tail)| prefix.into_iter().chain([tail, tail]).take(length).collect())
}

fn a_family() -> impl Strategy<Value = Family> {
    proptest::sample::select(&[Family::Points, Family::Ranges, Family::Ranges, Family::Log][..])
}

fn a_write() -> impl Strategy<Value = Write> {
    let value = proptest::collection::vec(any::<u8>(), 0..20);
    let holes = proptest::collection::vec((0..24_u32, 0..3_u16).prop_map(|(at, nth)| Hole { at, nth }), 0..2);
    let put = (a_family(), a_key(), proptest::option::of(0..3_u16), value, holes).prop_map(
        |(family, mut bytes, stamped, value, holes)| {
            let at = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            let key_holes = stamped.map(|nth| Hole { at, nth }).into_iter().collect::<Vec<_>>();
            bytes.resize(bytes.len() + key_holes.len() * 8, 0);
            let key = Stamped { bytes, holes: key_holes };
            Write::Put { family, key, value: Stamped { bytes: value, holes } }
        },
    );
    let clear = (a_family(), a_key()).prop_map(|(family, key)| Write::Clear { family, key });
    let clear_range =
        (a_family(), a_key(), a_key()).prop_map(|(family, from, to)| Write::ClearRange { family, from, to });
    let add = (a_family(), a_key(), any::<i64>()).prop_map(|(family, key, delta)| Write::Add { family, key, delta });
    prop_oneof![6 => put, 2 => clear, 1 => clear_range, 2 => add]
}

fn an_expect() -> impl Strategy<Value = Expect> {
    let value = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..2));
    (a_family(), a_key(), value).prop_map(|(family, key, value)| Expect { family, key, value })
}

fn a_batch() -> impl Strategy<Value = (Batch, Vec<bool>)> {
    let expects = proptest::collection::vec((an_expect(), proptest::bool::weighted(0.8)), 0..3);
    let writes = proptest::collection::vec(a_write(), 0..6);
    (0..4_u16, expects, writes, any::<bool>()).prop_map(|(stamps, expects, writes, synced)| {
        let (expects, right) = expects.into_iter().unzip();
        let durability = if synced { Durability::Synced } else { Durability::Derived };
        (Batch { stamps, expects, writes, durability }, right)
    })
}

fn a_scan() -> impl Strategy<Value = Scan> {
    let direction = prop_oneof![Just(Direction::Forward), Just(Direction::Backward)];
    let to = prop_oneof![a_key(), a_key().prop_map(|key| crate::key::after_prefix(&key))];
    (a_family(), a_key(), to, direction, 0..8_usize).prop_map(|(family, from, to, direction, rows_max)| Scan {
        family,
        from,
        to,
        direction,
        rows_max,
    })
}

fn a_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => a_batch().prop_map(|(batch, right)| Step::Commit(batch, right)),
        3 => a_scan().prop_map(Step::Scan),
        1 => Just(Step::Hold),
    ]
}

fn runner() -> TestRunner {
    TestRunner::new(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })
}

pub fn random_batches_do_what_they_do_to_a_plain_map<E: Engine, G>(make: impl Fn() -> (E, G)) {
    let steps = proptest::collection::vec(a_step(), 1..40);
    let compared = runner().run(&steps, |steps| check(&make, |engine| compare_in_turn(engine, steps)));
    assert!(compared.is_ok(), "{}", compared.unwrap_err());
}

async fn compare_in_turn<E: Engine>(engine: Arc<E>, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut model = Model::default();
    let mut held = Vec::new();
    for step in steps {
        match step {
            Step::Commit(mut batch, right) => {
                for (expect, _) in batch.expects.iter_mut().zip(right).filter(|(_, right)| *right) {
                    expect.value = model.rows.get(&(expect.family, expect.key.clone())).cloned();
                }
                let expected = model.commit(&batch);
                match engine.commit(batch).await {
                    Ok(stamps) => prop_assert_eq!(Some(stamps), expected),
                    Err(CommitError::Conflict) => prop_assert_eq!(None, expected),
                    Err(error) => prop_assert!(false, "{}", error),
                }
                prop_assert_eq!(*engine.newest().borrow(), model.newest);
            }
            Step::Scan(scan) => {
                prop_assert_eq!(engine.snapshot().scan(&scan).unwrap(), model.scan(&scan), "{:?}", scan);
            }
            Step::Hold => held.push((engine.snapshot(), model.clone())),
        }
    }
    held.push((engine.snapshot(), model));
    held.iter().try_for_each(|(snapshot, model)| model.compare(&**snapshot))
}

pub fn random_concurrent_batches_are_the_same_as_in_the_order_of_their_stamps<E: Engine, G>(make: impl Fn() -> (E, G)) {
    let rounds = proptest::collection::vec(proptest::collection::vec(a_batch(), 1..12), 1..6);
    let compared = runner().run(&rounds, |rounds| check(&make, |engine| compare_at_once(engine, rounds)));
    assert!(compared.is_ok(), "{}", compared.unwrap_err());
}

async fn compare_at_once<E: Engine>(engine: Arc<E>, rounds: Vec<Vec<(Batch, Vec<bool>)>>) -> Result<(), TestCaseError> {
    let mut model = Model::default();
    for mut round in rounds {
        for (batch, right) in &mut round {
            for (expect, _) in batch.expects.iter_mut().zip(right).filter(|(_, right)| **right) {
                expect.value = model.rows.get(&(expect.family, expect.key.clone())).cloned();
            }
        }
        let results = join_all(round.iter().map(|(batch, _)| engine.commit(batch.clone()))).await;
        let mut committed = Vec::new();
        for ((batch, _), result) in round.into_iter().zip(results) {
            match result {
                Ok(stamps) => committed.push((stamps, batch)),
                Err(CommitError::Conflict) => prop_assert!(!batch.expects.is_empty()),
                Err(error) => prop_assert!(false, "{}", error),
            }
        }
        committed.sort_by_key(|(stamps, _)| stamps.first);
        for (stamps, batch) in committed {
            prop_assert_eq!(Some(stamps), model.commit(&batch));
        }
        model.compare(&*engine.snapshot())?;
    }
    Ok(())
}
