//! The room state map with 100,000 members: reading, changing and comparing.

#![expect(clippy::unwrap_used, reason = "a benchmark may stop at an error")]

use base::{EventNum, NodeNum};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use records::state_map::{NewNodes, Nodes, StateMapError, StateRoot};
use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;

const MEMBERS: u64 = 100_000;

/// Nodes in memory; what is new is kept apart, so that a run can be repeated from the same state.
#[derive(Clone, Default)]
struct Shelf {
    old: Arc<HashMap<NodeNum, Vec<u8>>>,
    new: HashMap<NodeNum, Vec<u8>>,
}

impl Nodes for Shelf {
    type Bytes = Vec<u8>;
    type Error = StateMapError;

    fn node(&self, num: NodeNum) -> Result<Option<Vec<u8>>, StateMapError> {
        Ok(self.new.get(&num).or_else(|| self.old.get(&num)).cloned())
    }
}

impl NewNodes for Shelf {
    fn add(&mut self, bytes: Vec<u8>) -> Result<NodeNum, StateMapError> {
        let num = NodeNum((self.old.len() + self.new.len()) as u64 + 1);
        self.new.insert(num, bytes);
        Ok(num)
    }
}

impl Shelf {
    fn settle(self) -> Self {
        let mut all = Arc::unwrap_or_clone(self.old);
        all.extend(self.new);
        Self { old: Arc::new(all), new: HashMap::new() }
    }
}

fn user(n: u64) -> String {
    format!("@user-{n:07}:agency.example.gov")
}

fn members() -> impl Iterator<Item = (String, String, EventNum)> {
    (0..MEMBERS).map(|n| ("m.room.member".to_owned(), user(n), EventNum(10_000_000 + n)))
}

fn state_map(bench: &mut Criterion) {
    let mut shelf = Shelf::default();
    let root = StateRoot::build(&mut shelf, members()).unwrap();
    let bytes: usize = shelf.new.values().map(Vec::len).sum();
    println!("{MEMBERS} members: {} nodes, {bytes} bytes", shelf.new.len());
    let mut ten = root;
    for n in 0..10 {
        ten = ten.set(&mut shelf, &[("m.room.member", &user(n * 9_000), EventNum(n + 1))]).unwrap();
    }
    let shelf = shelf.settle();
    let mut written = shelf.clone();
    root.set(&mut written, &[("m.room.member", "@user-0050000b:agency.example.gov", EventNum(11_000_000))]).unwrap();
    println!("one join: {} nodes, {} bytes", written.new.len(), written.new.values().map(Vec::len).sum::<usize>());

    let mut group = bench.benchmark_group("100000_members");
    let mut n = 0;
    let mut next = || {
        n = (n + 7919) % MEMBERS;
        n
    };
    group.bench_function("get", |bench| {
        bench.iter_batched(
            || user(next()),
            |user| black_box(root.get(&shelf, "m.room.member", &user).unwrap()),
            BatchSize::SmallInput,
        );
    });
    group.bench_function("get_many_100", |bench| {
        bench.iter_batched(
            || (0..100).map(|_| user(next())).collect::<Vec<_>>(),
            |users| {
                let keys: Vec<_> = users.iter().map(|user| ("m.room.member", user.as_str())).collect();
                black_box(root.get_many(&shelf, &keys).unwrap())
            },
            BatchSize::SmallInput,
        );
    });
    group.bench_function("set", |bench| {
        bench.iter_batched(
            || (shelf.clone(), user(next())),
            |(mut shelf, user)| root.set(&mut shelf, &[("m.room.member", &user, EventNum(1))]).unwrap(),
            BatchSize::SmallInput,
        );
    });
    group.bench_function("set_100", |bench| {
        bench.iter_batched(
            || (shelf.clone(), (0..100).map(|_| user(next())).collect::<Vec<_>>()),
            |(mut shelf, users)| {
                let changes: Vec<_> = users.iter().map(|user| ("m.room.member", user.as_str(), EventNum(1))).collect();
                root.set(&mut shelf, &changes).unwrap()
            },
            BatchSize::SmallInput,
        );
    });
    group.bench_function("diff_10", |bench| bench.iter(|| black_box(root.diff(&shelf, ten).count())));
    group.bench_function("page_100", |bench| {
        bench.iter_batched(
            || user(next()),
            |user| black_box(root.page_of(&shelf, "m.room.member", Some(&user), 100).unwrap()),
            BatchSize::SmallInput,
        );
    });
    group.sample_size(10);
    group.bench_function("entries_all", |bench| bench.iter(|| black_box(root.entries(&shelf).count())));
    group.bench_function("build", |bench| {
        bench.iter_batched(
            Shelf::default,
            |mut shelf| StateRoot::build(&mut shelf, members()).unwrap(),
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

criterion_group!(benches, state_map);
criterion_main!(benches);
