//! The seeds of the fuzz targets, and what fuzzing has found, as ordinary tests.

use std::fs;
use std::panic::catch_unwind;
use std::path::Path;

#[cfg(test)]
#[path = "../../fuzz/src/lib.rs"]
mod targets;

#[cfg(test)]
fn check(target: &str, read: fn(&[u8])) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let mut count = 0;
    for entry in fs::read_dir(&dir).unwrap() {
        let path = entry.unwrap().path();
        let data = fs::read(&path).unwrap();
        assert!(catch_unwind(|| read(&data)).is_ok(), "{} breaks a promise", path.display());
        count += 1;
    }
    assert!(count >= 10, "{} has seeds", dir.display());
}

#[test]
fn every_event_of_the_corpus_is_read_without_harm() {
    check("pdu", targets::pdu);
}

#[test]
fn every_content_of_the_corpus_becomes_canonical_json_or_is_refused() {
    check("canonical_json", targets::canonical_json);
}

#[test]
fn every_filter_of_the_corpus_is_read_without_harm() {
    check("filter", targets::filter);
}

#[test]
fn every_token_of_the_corpus_is_read_without_harm() {
    check("token", targets::token);
}
