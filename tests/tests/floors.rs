//! The shape of the workspace, from `cargo metadata`: which crate may stand on which, which package lives
//! where, and which licences come in. Each rule that is broken is told in one sentence.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics has failed, which is meant")]

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package, PackageId};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use toml::de::{DeTable, DeValue};

/// Each crate and its floor: it may depend on lower floors only.
const FLOORS: &[(u8, &[&str])] = &[
    (0, &["base"]),
    (1, &["rules"]),
    (2, &["room-core", "sync-core", "delivery-core", "policy"]),
    (3, &["store"]),
    (4, &["store-rocksdb", "records"]),
    (5, &["remote", "mailer"]),
    (6, &["rooms", "accounts", "devices", "media"]),
    (7, &["sync", "federation", "search"]),
    (8, &["face", "delivery"]),
    (9, &["client-api", "federation-api", "admin-api"]),
    (10, &["chancery"]),
    (11, &["tests"]),
];

/// Packages that live only in some crates.
const HOMES: &[(&str, &[&str])] = &[
    ("rocksdb", &["store-rocksdb"]),
    ("axum", &["face", "client-api", "federation-api", "admin-api", "appservice-sdk"]),
    ("reqwest", &["remote", "delivery", "media", "accounts", "appservice-sdk"]),
    ("clap", &["chancery"]),
    ("lettre", &["mailer"]),
    ("getrandom", &["base"]),
    ("tikv-jemallocator", &["chancery"]),
];

/// The floors below this one neither wait nor do input and output.
const FIRST_WAITING_FLOOR: u8 = 3;

/// What only waits or does input and output.
const WAITING: &[&str] = &["tokio", "tokio-util", "futures", "hyper", "http", "tower", "async-trait"];

fn metadata() -> Metadata {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
    let options = ["--locked", "--filter-platform", "x86_64-unknown-linux-gnu"].map(str::to_owned).to_vec();
    MetadataCommand::new().manifest_path(manifest).other_options(options).exec().unwrap()
}

/// What a crate depends on when it is built, tests apart.
fn dependencies(package: &Package) -> impl Iterator<Item = &str> {
    let used = package.dependencies.iter().filter(|dependency| dependency.kind != DependencyKind::Development);
    used.map(|dependency| dependency.name.as_str())
}

fn floor(name: &str) -> Option<u8> {
    FLOORS.iter().find(|(_, crates)| crates.contains(&name)).map(|(floor, _)| *floor)
}

fn is_appservice(package: &Package) -> bool {
    package.manifest_path.components().any(|part| part.as_str() == "appservices")
}

/// The rules of floors and homes that these crates and their dependencies break.
fn broken(crates: &[(&str, bool, Vec<&str>)]) -> Vec<String> {
    let mut sentences = Vec::new();
    let own: BTreeSet<&str> = crates.iter().map(|(name, ..)| *name).collect();
    for (name, appservice, dependencies) in crates {
        let floor_of_crate = floor(name);
        if floor_of_crate.is_none() && !appservice {
            sentences.push(format!("the crate {name} has no floor; add it to FLOORS in tests/tests/floors.rs"));
        }
        for dependency in dependencies {
            if *appservice && floor(dependency).is_some() && own.contains(dependency) {
                sentences.push(format!(
                    "{name} depends on {dependency}, but an appservice may do nothing that a third party's can't"
                ));
            }
            if let (Some(upper), Some(lower)) = (floor_of_crate, floor(dependency))
                && own.contains(dependency)
                && lower >= upper
            {
                sentences.push(format!(
                    "{name} (floor {upper}) depends on {dependency} (floor {lower}), which is not below it"
                ));
            }
            if let Some((_, homes)) = HOMES.iter().find(|(package, _)| package == dependency)
                && !homes.contains(name)
            {
                sentences.push(format!("{name} depends on {dependency}, which lives only in {}", homes.join(", ")));
            }
            if floor_of_crate.is_some_and(|floor| floor < FIRST_WAITING_FLOOR) && WAITING.contains(dependency) {
                sentences.push(format!(
                    "{name} depends on {dependency}, but below floor {FIRST_WAITING_FLOOR} nothing waits"
                ));
            }
        }
    }
    sentences
}

#[test]
fn every_crate_stands_on_lower_floors_only() {
    let metadata = metadata();
    let packages = metadata.workspace_packages();
    let crates: Vec<_> = packages
        .iter()
        .map(|package| (package.name.as_str(), is_appservice(package), dependencies(package).collect()))
        .collect();
    assert!(crates.len() > 10, "the workspace was not found");
    let broken = broken(&crates);
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

#[test]
fn a_broken_floor_is_told_in_one_sentence() {
    let check = |name, appservice, dependency, sentence: &str| {
        let crates = [(name, appservice, vec![dependency]), ("rooms", false, vec![]), ("base", false, vec![])];
        assert_eq!(broken(&crates), [sentence]);
    };
    check("store", false, "rooms", "store (floor 3) depends on rooms (floor 6), which is not below it");
    check("accounts", false, "rooms", "accounts (floor 6) depends on rooms (floor 6), which is not below it");
    check("records", false, "rocksdb", "records depends on rocksdb, which lives only in store-rocksdb");
    check("rules", false, "tokio", "rules depends on tokio, but below floor 3 nothing waits");
    check("new", false, "base", "the crate new has no floor; add it to FLOORS in tests/tests/floors.rs");
    check("mail", true, "base", "mail depends on base, but an appservice may do nothing that a third party's can't");
}

/// What deny.toml allows and bans.
struct Policy {
    licences: BTreeSet<String>,
    bans: BTreeMap<String, String>,
}

fn policy() -> Policy {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deny.toml");
    let text = std::fs::read_to_string(file).unwrap();
    let document = DeTable::parse(&text).unwrap();
    let list = |table: &str, key: &str| -> Vec<DeValue<'_>> {
        let values = document.get_ref()[table].get_ref()[key].get_ref().as_array().unwrap();
        values.iter().map(|value| value.get_ref().clone()).collect()
    };
    let text = |value: &DeValue<'_>| value.as_str().unwrap().to_owned();
    let ban = |ban: &DeValue<'_>| (text(ban["name"].get_ref()), text(ban["reason"].get_ref()));
    Policy {
        licences: list("licenses", "allow").iter().map(text).collect(),
        bans: list("bans", "deny").iter().map(ban).collect(),
    }
}

/// The packages that are built into something: dependencies of dependencies included, tests' apart.
fn shipped(metadata: &Metadata) -> Vec<&Package> {
    let resolve = metadata.resolve.as_ref().unwrap();
    let nodes: HashMap<&PackageId, _> = resolve.nodes.iter().map(|node| (&node.id, node)).collect();
    let mut seen = BTreeSet::new();
    let mut open: Vec<&PackageId> = metadata.workspace_members.iter().collect();
    while let Some(id) = open.pop() {
        if seen.insert(id) {
            let used = nodes[id].deps.iter();
            let used = used.filter(|dep| dep.dep_kinds.iter().any(|kind| kind.kind != DependencyKind::Development));
            open.extend(used.map(|dep| &dep.pkg));
        }
    }
    metadata.packages.iter().filter(|package| seen.contains(&package.id)).collect()
}

#[test]
fn every_dependency_has_a_licence_that_the_policy_allows() {
    let (metadata, policy) = (metadata(), policy());
    let mut broken = Vec::new();
    for package in shipped(&metadata) {
        let named = format!("{} {}", package.name, package.version);
        match &package.license {
            Some(licence) if allowed(licence, &policy.licences) => {}
            Some(licence) => broken.push(format!("{named} is under {licence}, which deny.toml doesn't allow")),
            None => broken.push(format!("{named} doesn't say its licence")),
        }
    }
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

#[test]
fn no_dependency_is_banned_or_from_elsewhere() {
    let (metadata, policy) = (metadata(), policy());
    let mut broken = Vec::new();
    for package in shipped(&metadata) {
        if let Some(reason) = policy.bans.get(package.name.as_str()) {
            broken.push(format!("{} is banned by deny.toml: {reason}", package.name));
        }
        if package.source.as_ref().is_some_and(|source| !source.is_crates_io()) {
            broken.push(format!("{} doesn't come from crates.io", package.name));
        }
    }
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

/// Whether an SPDX expression can be met with these licences.
fn allowed(expression: &str, licences: &BTreeSet<String>) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let tokens: Vec<&str> = spaced.split_whitespace().collect();
    let mut tokens = tokens.as_slice();
    let met = any(&mut tokens, licences);
    met && tokens.is_empty()
}

fn any(tokens: &mut &[&str], licences: &BTreeSet<String>) -> bool {
    let mut met = all(tokens, licences);
    while let ["OR", rest @ ..] = tokens {
        *tokens = rest;
        met |= all(tokens, licences);
    }
    met
}

fn all(tokens: &mut &[&str], licences: &BTreeSet<String>) -> bool {
    let mut met = one(tokens, licences);
    while let ["AND", rest @ ..] = tokens {
        *tokens = rest;
        met &= one(tokens, licences);
    }
    met
}

fn one(tokens: &mut &[&str], licences: &BTreeSet<String>) -> bool {
    match *tokens {
        ["(", rest @ ..] => {
            *tokens = rest;
            let met = any(tokens, licences);
            *tokens = tokens.strip_prefix(&[")"]).unwrap_or(tokens);
            met
        }
        [licence, "WITH", exception, rest @ ..] => {
            *tokens = rest;
            licences.contains(&format!("{licence} WITH {exception}")) || licences.contains(*licence)
        }
        [licence, rest @ ..] => {
            *tokens = rest;
            licences.contains(*licence)
        }
        [] => false,
    }
}

#[test]
fn licences_are_weighed_as_spdx_says() {
    let licences: BTreeSet<String> = ["MIT", "Unicode-3.0", "Apache-2.0"].map(str::to_owned).into();
    for (expression, expected) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("MIT OR GPL-3.0", true),
        ("GPL-2.0/MIT", true),
        ("MIT AND GPL-3.0", false),
        ("(GPL-3.0 OR MIT) AND Unicode-3.0", true),
        ("GPL-3.0 OR (MIT AND ISC)", false),
        ("Apache-2.0 WITH LLVM-exception", true),
        ("", false),
        ("MIT )", false),
    ] {
        assert_eq!(allowed(expression, &licences), expected, "{expression}");
    }
}
