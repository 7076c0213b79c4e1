use super::node::{NODE_BYTES_MAX, encode};
use super::*;
use proptest::prelude::*;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Nodes in memory, with what was read and written.
#[derive(Default)]
struct Shelf {
    nodes: HashMap<NodeNum, Vec<u8>>,
    reads: Cell<usize>,
    read_nums: RefCell<BTreeSet<NodeNum>>,
    written_bytes: usize,
}

impl Nodes for Shelf {
    type Bytes = Vec<u8>;
    type Error = StateMapError;

    fn node(&self, num: NodeNum) -> Result<Option<Vec<u8>>, StateMapError> {
        self.reads.set(self.reads.get() + 1);
        self.read_nums.borrow_mut().insert(num);
        Ok(self.nodes.get(&num).cloned())
    }
}

impl NewNodes for Shelf {
    fn add(&mut self, bytes: Vec<u8>) -> Result<NodeNum, StateMapError> {
        let num = NodeNum(self.nodes.len() as u64 + 1);
        self.written_bytes += bytes.len();
        assert!(self.nodes.insert(num, bytes).is_none());
        Ok(num)
    }
}

type Plain = BTreeMap<(String, String), EventNum>;

fn entries_of_map(plain: &Plain) -> Vec<StateEntry> {
    let entry = |((kind, state_key), event): (&(String, String), &EventNum)| StateEntry {
        kind: kind.clone(),
        state_key: state_key.clone(),
        event: *event,
    };
    plain.iter().map(entry).collect()
}

fn all(shelf: &Shelf, root: StateRoot) -> Vec<StateEntry> {
    root.entries(shelf).collect::<Result<_, _>>().unwrap()
}

/// A map of `count` members; user `n` has event `n + 1`.
fn members(shelf: &mut Shelf, count: u64) -> StateRoot {
    let entries = (0..count).map(|n| ("m.room.member".to_owned(), user(n), EventNum(n + 1)));
    StateRoot::build(shelf, entries).unwrap()
}

fn user(n: u64) -> String {
    format!("@user-{n:07}:agency.example.gov")
}

fn diff_of_maps(before: &Plain, after: &Plain) -> Vec<Difference> {
    let keys: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let difference = |key: &(String, String)| Difference {
        kind: key.0.clone(),
        state_key: key.1.clone(),
        before: before.get(key).copied(),
        after: after.get(key).copied(),
    };
    keys.into_iter().map(difference).filter(|found| found.before != found.after).collect()
}

/// Every node below a root is as this module promises: sorted, of falling height, not too large, and with
/// the smallest key of each child.
fn check_shape(shelf: &Shelf, root: StateRoot) {
    fn check(shelf: &Shelf, num: NodeNum, above: Option<u8>, is_root: bool) -> Vec<u8> {
        let bytes = &shelf.nodes[&num];
        let view = view(bytes, num, above).unwrap();
        let pairs = view.pairs().unwrap();
        assert!(bytes.len() <= NODE_BYTES_MAX || pairs.len() < 8, "{} bytes, {} entries", bytes.len(), pairs.len());
        assert_eq!(&encode(view.height, &pairs), bytes);
        if view.height > 0 {
            assert!(!is_root || pairs.len() > 1, "a root with one child");
            for (low, child) in &pairs {
                assert_eq!(&check(shelf, NodeNum(*child), Some(view.height), false), low);
            }
        }
        pairs[0].0.clone()
    }
    if let Some(num) = root.0 {
        check(shelf, num, None, true);
    }
}

/// Types and state keys of which some are alike, some contain NUL and some are long.
fn a_key() -> impl Strategy<Value = (String, String)> {
    let kind = prop_oneof![
        6 => Just("m.room.member".to_owned()),
        2 => Just("m.room.membership".to_owned()),
        1 => Just("m.room.member\0".to_owned()),
        1 => Just("m.room.member\0x".to_owned()),
        1 => Just(String::new()),
        1 => "[a-c\0é]{0,3}",
    ];
    let state_key = prop_oneof![
        10 => (0_u64..400).prop_map(user),
        2 => "[a-c\0é]{0,3}",
        1 => ("[ab]", 200_usize..255).prop_map(|(letter, count)| letter.repeat(count)),
        1 => (0_u32..200).prop_map(|n| format!("{}{n}", "長".repeat(80))),
    ];
    (kind, state_key)
}

/// Changes that are made at once.
type Batch = Vec<((String, String), Option<u64>)>;

/// Batches of changes.
fn batches() -> impl Strategy<Value = Vec<Batch>> {
    let event = prop_oneof![
        3 => (1_u64..40).prop_map(Some),
        1 => any::<u64>().prop_map(Some),
        2 => Just(None),
    ];
    let batch = prop_oneof![
        3 => prop::collection::vec((a_key(), event.clone()), 0..8),
        1 => prop::collection::vec((a_key(), event), 100..300),
    ];
    prop::collection::vec(batch, 1..12)
}

/// The roots and the plain maps after each batch, from the empty state on.
fn apply_batches(shelf: &mut Shelf, batches: &[Batch]) -> Vec<(StateRoot, Plain)> {
    let mut history = vec![(StateRoot::EMPTY, Plain::new())];
    for batch in batches {
        let (root, mut plain) = history.last().cloned().unwrap();
        let changes = batch.iter().map(|((kind, key), event)| (kind.as_str(), key.as_str(), event.map(EventNum)));
        let root = root.change(shelf, changes).unwrap();
        for (key, event) in batch {
            match event {
                Some(event) => plain.insert(key.clone(), EventNum(*event)),
                None => plain.remove(key),
            };
        }
        history.push((root, plain));
    }
    history
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn it_holds_what_a_plain_map_holds_and_old_states_stay_readable(batches in batches(), probes in prop::collection::vec(a_key(), 20)) {
        let mut shelf = Shelf::default();
        let history = apply_batches(&mut shelf, &batches);
        for (root, plain) in &history {
            check_shape(&shelf, *root);
            prop_assert_eq!(all(&shelf, *root), entries_of_map(plain));
            prop_assert_eq!(root.is_empty(), plain.is_empty());
            let keys: Vec<_> = plain.keys().chain(&probes).collect();
            let asked: Vec<_> = keys.iter().rev().map(|(kind, key)| (kind.as_str(), key.as_str())).collect();
            let expected: Vec<_> = keys.iter().rev().map(|key| plain.get(*key).copied()).collect();
            prop_assert_eq!(root.get_many(&shelf, &asked).unwrap(), expected);
            for key in keys {
                prop_assert_eq!(root.get(&shelf, &key.0, &key.1).unwrap(), plain.get(key).copied());
            }
        }
    }

    #[test]
    fn the_difference_of_any_two_states_is_that_of_the_maps(batches in batches(), others in batches()) {
        let mut shelf = Shelf::default();
        let mut history = apply_batches(&mut shelf, &batches);
        // States of another descent share no node with the first ones.
        history.extend(apply_batches(&mut shelf, &others));
        for (before, before_map) in &history {
            for (after, after_map) in &history {
                let found: Vec<_> = before.diff(&shelf, *after).collect::<Result<_, _>>().unwrap();
                prop_assert_eq!(found, diff_of_maps(before_map, after_map));
            }
        }
    }

    #[test]
    fn pages_joined_are_the_whole(batches in batches(), size in 1_usize..40, kind in a_key().prop_map(|key| key.0)) {
        let mut shelf = Shelf::default();
        let (root, plain) = apply_batches(&mut shelf, &batches).pop().unwrap();
        let mut entries: Vec<StateEntry> = Vec::new();
        loop {
            let after = entries.last().map(|last| (last.kind.clone(), last.state_key.clone()));
            let after = after.as_ref().map(|(kind, key)| (kind.as_str(), key.as_str()));
            let page = root.page(&shelf, after, size).unwrap();
            prop_assert!(page.entries.len() <= size);
            entries.extend(page.entries);
            if !page.more {
                break;
            }
        }
        prop_assert_eq!(entries, entries_of_map(&plain));

        let mut of_kind: Vec<StateEntry> = Vec::new();
        loop {
            let after = of_kind.last().map(|last| last.state_key.clone());
            let page = root.page_of(&shelf, &kind, after.as_deref(), size).unwrap();
            of_kind.extend(page.entries);
            if !page.more {
                break;
            }
        }
        let expected: Vec<_> = entries_of_map(&plain).into_iter().filter(|entry| entry.kind == kind).collect();
        prop_assert_eq!(of_kind, expected);
    }

    #[test]
    fn a_page_starts_after_any_key_whether_it_is_there_or_not(batches in batches(), after in a_key()) {
        let mut shelf = Shelf::default();
        let (root, plain) = apply_batches(&mut shelf, &batches).pop().unwrap();
        let page = root.page(&shelf, Some((&after.0, &after.1)), PAGE_ENTRIES_MAX).unwrap();
        let expected: Vec<_> =
            entries_of_map(&plain).into_iter().filter(|entry| (&entry.kind, &entry.state_key) > (&after.0, &after.1)).collect();
        prop_assert_eq!(page, StatePage { entries: expected, more: false });
    }

    #[test]
    fn a_built_state_is_the_same_as_one_that_was_set(batches in batches()) {
        let mut shelf = Shelf::default();
        let (root, plain) = apply_batches(&mut shelf, &batches).pop().unwrap();
        let entries = plain.iter().map(|((kind, key), event)| (kind.as_str(), key.as_str(), *event));
        let built = StateRoot::build(&mut shelf, entries).unwrap();
        check_shape(&shelf, built);
        prop_assert_eq!(all(&shelf, built), all(&shelf, root));
        prop_assert_eq!(built.diff(&shelf, root).count(), 0);
    }

    #[test]
    fn corrupt_nodes_are_errors_or_other_answers_but_never_a_panic(
        count in 1_u64..600,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of((any::<prop::sample::Index>(), any::<prop::sample::Index>())),
    ) {
        let mut shelf = Shelf::default();
        let root = members(&mut shelf, count);
        let other = root.set(&mut shelf, &[("m.room.member", &user(count / 2), EventNum(9)), ("z", "", EventNum(1))]).unwrap();
        let nums = shelf.nodes.len();
        let num = |index: &prop::sample::Index| NodeNum(index.index(nums) as u64 + 1);
        for (node, place, byte) in &damage {
            let bytes = shelf.nodes.get_mut(&num(node)).unwrap();
            let place = place.index(bytes.len());
            bytes[place] = *byte;
        }
        if let Some((node, length)) = &cut {
            let bytes = shelf.nodes.get_mut(&num(node)).unwrap();
            bytes.truncate(length.index(bytes.len()));
        }
        for n in 0..count {
            let _ = root.get(&shelf, "m.room.member", &user(n));
        }
        let names: Vec<_> = (0..count).map(user).collect();
        let asked: Vec<_> = names.iter().map(|name| ("m.room.member", name.as_str())).collect();
        let _ = other.get_many(&shelf, &asked);
        let _ = root.entries(&shelf).take(10_000).count();
        let _ = root.page_of(&shelf, "m.room.member", Some(&user(count / 3)), 100);
        let _ = root.diff(&shelf, other).take(10_000).count();
        let _ = root.set(&mut shelf, &[("m.room.member", &user(count / 3), EventNum(5)), ("a", "", EventNum(7))]);
        let _ = root.remove(&mut shelf, &[("m.room.member", &user(0))]);
    }

    #[test]
    fn arbitrary_bytes_are_no_node(bytes in prop::collection::vec(any::<u8>(), 0..200), header in any::<bool>()) {
        let mut shelf = Shelf::default();
        let mut node = if header { vec![1, 0, 1, 3, 0, 0, 0, 0, 0] } else { Vec::new() };
        node.extend(bytes);
        let root = StateRoot(Some(shelf.add(node).unwrap()));
        let _ = root.get(&shelf, "m.room.member", "@a:b");
        let _ = root.entries(&shelf).take(10_000).count();
        let _ = root.set(&mut shelf, &[("a", "", EventNum(1))]);
    }
}

#[test]
fn the_empty_state_has_nothing() {
    let mut shelf = Shelf::default();
    assert_eq!(StateRoot::default(), StateRoot::EMPTY);
    assert_eq!(StateRoot::EMPTY.get(&shelf, "m.room.create", "").unwrap(), None);
    assert_eq!(StateRoot::EMPTY.get_many(&shelf, &[("a", "b")]).unwrap(), [None]);
    assert_eq!(all(&shelf, StateRoot::EMPTY), []);
    assert_eq!(StateRoot::EMPTY.remove(&mut shelf, &[("a", "b")]).unwrap(), StateRoot::EMPTY);
    assert_eq!(StateRoot::build(&mut shelf, Vec::<(String, String, EventNum)>::new()).unwrap(), StateRoot::EMPTY);
    assert!(shelf.nodes.is_empty());
}

#[test]
fn removing_everything_leaves_the_empty_state() {
    let mut shelf = Shelf::default();
    let root = members(&mut shelf, 3000);
    let names: Vec<_> = (0..3000).map(user).collect();
    let keys: Vec<_> = names.iter().map(|name| ("m.room.member", name.as_str())).collect();
    assert_eq!(root.remove(&mut shelf, &keys).unwrap(), StateRoot::EMPTY);
    // One by one as well, with the tree shrinking on the way.
    let last = keys.iter().fold(root, |root, key| {
        let next = root.remove(&mut shelf, &[*key]).unwrap();
        check_shape(&shelf, next);
        next
    });
    assert_eq!(last, StateRoot::EMPTY);
    assert_eq!(all(&shelf, root).len(), 3000);
}

#[test]
fn the_last_change_of_a_place_wins() {
    let mut shelf = Shelf::default();
    let root = StateRoot::EMPTY
        .set(&mut shelf, &[("a", "", EventNum(1)), ("b", "", EventNum(2)), ("a", "", EventNum(3))])
        .unwrap();
    assert_eq!(root.get_many(&shelf, &[("b", ""), ("a", "")]).unwrap(), [Some(EventNum(2)), Some(EventNum(3))]);
    let root = root.change(&mut shelf, [("a", "", Some(EventNum(4))), ("a", "", None)]).unwrap();
    assert_eq!(root.get(&shelf, "a", "").unwrap(), None);
}

#[test]
fn setting_what_is_there_already_writes_nothing() {
    let mut shelf = Shelf::default();
    let root = members(&mut shelf, 5000);
    let before = shelf.nodes.len();
    assert_eq!(root.set(&mut shelf, &[("m.room.member", &user(77), EventNum(78))]).unwrap(), root);
    assert_eq!(root.remove(&mut shelf, &[("m.room.member", "@nobody:example.org")]).unwrap(), root);
    assert_eq!(shelf.nodes.len(), before);
}

#[test]
fn a_join_into_a_room_of_100_000_writes_less_than_8_kib() {
    let mut shelf = Shelf::default();
    let mut root = members(&mut shelf, 100_000);
    for n in (0..100_000).step_by(997) {
        let before = shelf.written_bytes;
        let joined = format!("@user-{n:07}b:agency.example.gov");
        root = root.set(&mut shelf, &[("m.room.member", &joined, EventNum(200_000 + n))]).unwrap();
        let written = shelf.written_bytes - before;
        assert!(written < 8 * 1024, "{written} bytes");
    }
}

#[test]
fn a_look_up_among_100_000_reads_at_most_four_nodes() {
    let mut shelf = Shelf::default();
    let root = members(&mut shelf, 100_000);
    for n in (0..100_000).step_by(997) {
        shelf.reads.set(0);
        assert_eq!(root.get(&shelf, "m.room.member", &user(n)).unwrap(), Some(EventNum(n + 1)));
        assert!(shelf.reads.get() <= 4, "{} reads", shelf.reads.get());
    }
}

#[test]
fn a_difference_reads_only_the_paths_that_changed() {
    let mut shelf = Shelf::default();
    let before = members(&mut shelf, 100_000);
    let joined: Vec<_> = (0..5).map(|n| format!("@user-{:07}b:agency.example.gov", n * 20_000)).collect();
    let mut after = before;
    for name in &joined {
        after = after.set(&mut shelf, &[("m.room.member", name, EventNum(500_000))]).unwrap();
    }
    shelf.read_nums.borrow_mut().clear();
    let found: Vec<_> = before.diff(&shelf, after).collect::<Result<_, _>>().unwrap();
    assert_eq!(found.iter().map(|difference| difference.state_key.clone()).collect::<Vec<_>>(), joined);
    let read = shelf.read_nums.borrow().len();
    assert!(read < 60, "{read} nodes read");
}

#[test]
fn a_difference_after_leaves_were_joined_or_split_stays_small() {
    let mut shelf = Shelf::default();
    let before = members(&mut shelf, 100_000);
    let gone: Vec<_> = (50_000..50_300).map(user).collect();
    let gone: Vec<_> = gone.iter().map(|name| ("m.room.member", name.as_str())).collect();
    let after = before.remove(&mut shelf, &gone).unwrap();
    shelf.read_nums.borrow_mut().clear();
    assert_eq!(after.diff(&shelf, before).count(), 300);
    let read = shelf.read_nums.borrow().len();
    assert!(read < 30, "{read} nodes read");
}

#[test]
fn keys_beyond_the_limit_are_refused_and_the_longest_fit() {
    let mut shelf = Shelf::default();
    let long = "x".repeat(limits::KEY_BYTES_MAX - 2);
    let too_long = "x".repeat(limits::KEY_BYTES_MAX);
    assert_eq!(StateRoot::EMPTY.set(&mut shelf, &[("a", &too_long, EventNum(1))]), Err(StateMapError::KeyTooLong));
    let mut root = StateRoot::EMPTY;
    for n in 0..60_u8 {
        let key = format!("{}{long}", char::from(b'0' + n));
        let (key, _) = key.split_at(long.len());
        root = root.set(&mut shelf, &[("a", key, EventNum(u64::MAX - u64::from(n)))]).unwrap();
    }
    check_shape(&shelf, root);
    assert_eq!(all(&shelf, root).len(), 60);
    assert!(shelf.nodes.values().all(|bytes| bytes.len() <= 32 * 1024));
}

#[test]
fn building_from_unsorted_entries_is_refused() {
    let mut shelf = Shelf::default();
    let twice = [("a", "", EventNum(1)), ("a", "", EventNum(2))];
    assert_eq!(StateRoot::build(&mut shelf, twice), Err(StateMapError::Unsorted));
}

#[test]
fn a_missing_node_and_a_cycle_are_errors() {
    let mut shelf = Shelf::default();
    let missing = StateRoot(Some(NodeNum(7)));
    assert_eq!(missing.get(&shelf, "a", ""), Err(StateMapError::Missing(NodeNum(7))));
    assert_eq!(missing.entries(&shelf).collect::<Vec<_>>(), [Err(StateMapError::Missing(NodeNum(7)))]);
    let own = shelf.add(encode(3, &[(encode_key("a", ""), 1)])).unwrap();
    assert_eq!(own, NodeNum(1));
    let cycle = StateRoot(Some(own));
    assert!(matches!(cycle.get(&shelf, "a", "").unwrap_err(), StateMapError::Corrupt { node: NodeNum(1), .. }));
    assert!(matches!(cycle.entries(&shelf).next(), Some(Err(StateMapError::Corrupt { .. }))));
    assert!(cycle.set(&mut shelf, &[("b", "", EventNum(1))]).is_err());
}
