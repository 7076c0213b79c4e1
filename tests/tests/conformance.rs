//! docs/conformance.md: each operation of the client-server API with whether it is served and the tests that prove it.
//!
//! The page is written from tests/conformance/*.tsv and from the list of endpoints that the router is tested against.
//! `CHANCERY_WRITE_DOCS=1 cargo test -p tests --test conformance` writes it anew.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that panics has failed, which is meant")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// What is served outside of the router of the API.
const OUTSIDE: [&str; 2] = ["getWellknown", "getWellknownSupport"];

/// What a server answers that has no such thing: 404, as the specification has it.
const WITHOUT: [&str; 5] =
    ["getAuthMetadata", "generateLoginToken", "redirectToSSO", "redirectToIdP", "getWellknownPolicy"];

/// What a version that is advertised brought and that is not served: clients try it and see. Application services and
/// previews of links.
const LATER: [&str; 2] = ["pingAppservice", "getUrlPreviewAuthed"];

struct Operation {
    method: String,
    path: String,
    name: String,
    since: Option<u32>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn lines(text: &str) -> impl Iterator<Item = Vec<&str>> {
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    lines.map(|line| line.split('\t').collect())
}

fn operations() -> Vec<Operation> {
    let text = read("tests/conformance/client-server.tsv");
    let operation = |fields: Vec<&str>| {
        let [method, path, name, rest @ ..] = fields.as_slice() else { panic!("too short: {fields:?}") };
        let since = rest.first().and_then(|since| since.strip_prefix("1.")).map(|minor| minor.parse().unwrap());
        Operation { method: (*method).to_owned(), path: (*path).to_owned(), name: (*name).to_owned(), since }
    };
    lines(&text).map(operation).collect()
}

/// The tests of each operation, as file and name.
fn proofs() -> BTreeMap<String, Vec<(String, String)>> {
    let text = read("tests/conformance/proofs.tsv");
    let proof = |fields: Vec<&str>| {
        let [operation, tests] = fields.as_slice() else { panic!("not two fields: {fields:?}") };
        let test = |test: &str| test.split_once('#').map(|(file, name)| (file.to_owned(), name.to_owned())).unwrap();
        ((*operation).to_owned(), tests.split(' ').map(test).collect())
    };
    lines(&text).map(proof).collect()
}

/// A path whose parameters have no names.
fn template(path: &str) -> String {
    let part = |part: &str| if part.starts_with('{') { "{}".to_owned() } else { part.to_owned() };
    path.split('/').map(part).collect::<Vec<_>>().join("/")
}

/// The methods and paths that the router has, as its own test says.
fn mounted() -> BTreeSet<(String, String)> {
    let text = read("crates/client-api/src/every_endpoint.txt");
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    let endpoint = |line: &str| {
        let mut words = line.split(' ').skip(1);
        let (method, path) = (words.next().unwrap(), words.next().unwrap());
        (method.to_owned(), template(&format!("/_matrix/{path}")))
    };
    lines.map(endpoint).collect()
}

fn is_served(operation: &Operation, mounted: &BTreeSet<(String, String)>) -> bool {
    OUTSIDE.contains(&operation.name.as_str())
        || mounted.contains(&(operation.method.clone(), template(&operation.path)))
}

fn page() -> String {
    let (operations, proofs, mounted) = (operations(), proofs(), mounted());
    let served = operations.iter().filter(|operation| is_served(operation, &mounted)).count();
    let mut page = format!(
        "# Conformance\n\nThe {} operations of the Matrix client-server API 1.19: {served} are served, {} are answered as by a \
         server that does not have them, {} are not there yet. Each with tests that prove it; besides those, one test calls every \
         endpoint without a token, with wrong methods, with bodies that are not JSON, and with a value of another \
         type in each field (crates/client-api/src/every_endpoint.rs), and Complement judges the whole (complement/).\n\n\
         This page is written by tests/tests/conformance.rs, which says how.\n\n\
         | operation | request | served | proven by |\n|---|---|---|---|\n",
        operations.len(),
        WITHOUT.len(),
        operations.len() - served - WITHOUT.len(),
    );
    for operation in &operations {
        let Operation { method, path, name, .. } = operation;
        let served = match is_served(operation, &mounted) {
            true => "yes",
            false if WITHOUT.contains(&name.as_str()) => "404",
            false => "no",
        };
        let link = |(file, test): &(String, String)| format!("[{test}](../{file})");
        let tests = proofs.get(name).map(|tests| tests.iter().map(link).collect::<Vec<_>>().join(", "));
        writeln!(page, "| {name} | `{method} {path}` | {served} | {} |", tests.unwrap_or_default()).unwrap();
    }
    page
}

#[test]
fn the_page_is_fresh() {
    let file = root().join("docs/conformance.md");
    if std::env::var_os("CHANCERY_WRITE_DOCS").is_some() {
        fs::write(&file, page()).unwrap();
    }
    let found = fs::read_to_string(&file).unwrap_or_default();
    assert!(found == page(), "write it anew: CHANCERY_WRITE_DOCS=1 cargo test -p tests --test conformance");
}

#[test]
fn the_tests_that_are_named_exist() {
    let names: BTreeSet<String> = operations().into_iter().map(|operation| operation.name).collect();
    for (operation, tests) in proofs() {
        assert!(names.contains(&operation), "{operation} is no operation");
        for (file, test) in tests {
            assert!(read(&file).contains(&format!("fn {test}()")), "{file} has no test {test}");
        }
    }
}

#[test]
fn all_operations_of_the_versions_that_are_advertised_are_served() {
    let source = read("crates/client-api/src/discovery.rs");
    let versions = source.split_once("const VERSIONS").and_then(|(_, rest)| rest.split_once("];")).unwrap().0;
    let versions = versions.split('"').filter_map(|word| word.strip_prefix("v1.")?.parse::<u32>().ok());
    let newest = versions.max().unwrap();
    let mounted = mounted();
    for operation in operations().iter().filter(|operation| operation.since.is_some_and(|since| since <= newest)) {
        let name = operation.name.as_str();
        let is_excused = WITHOUT.contains(&name) || LATER.contains(&name);
        assert!(is_served(operation, &mounted) || is_excused, "{name} is of an advertised version and not served");
    }
}
