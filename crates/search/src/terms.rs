//! What a search looks for: words, and words between quotation marks that must follow each other.

use crate::words::analyzer;
use std::collections::BTreeSet;
use tantivy::Term;
use tantivy::query::{BooleanQuery, PhraseQuery, Query, TermQuery};
use tantivy::schema::{Field, IndexRecordOption};

/// How many words of a search count.
const WORDS_MAX: usize = 16;

/// The words of a search. A message is found if it has all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// Each is a word, or the words of a phrase.
    parts: Vec<Vec<String>>,
}

impl Terms {
    /// The words of what somebody has typed. The first 16 count.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let mut parts: Vec<Vec<String>> = Vec::new();
        let mut left = WORDS_MAX;
        let curly = |letter: char| matches!(letter, '"' | '«' | '»' | '“' | '”' | '„');
        for (nth, piece) in text.split(curly).enumerate() {
            let words: Vec<String> = stems(piece).into_iter().map(|(stem, _)| stem).take(left).collect();
            left -= words.len();
            // What is between an opening and a closing mark.
            if nth % 2 == 1 && words.len() > 1 {
                parts.push(words);
            } else {
                parts.extend(words.into_iter().map(|word| vec![word]));
            }
        }
        let mut seen = BTreeSet::new();
        parts.retain(|part| seen.insert(part.clone()));
        Self { parts }
    }

    /// Whether nothing is looked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// The query for all of them.
    pub(crate) fn query(&self, field: Field) -> Vec<Box<dyn Query>> {
        let term = |word: &String| Term::from_field_text(field, word);
        let query = |part: &Vec<String>| -> Option<Box<dyn Query>> {
            match part.as_slice() {
                [] => None,
                [word] => Some(Box::new(TermQuery::new(term(word), IndexRecordOption::WithFreqs))),
                words => Some(Box::new(PhraseQuery::new(words.iter().map(term).collect()))),
            }
        };
        self.parts.iter().filter_map(query).collect()
    }

    /// The words of a text, in small letters and as they are written there, that are what is looked for, however they
    /// are inflected.
    pub fn highlights(&self, text: &str, found: &mut BTreeSet<String>, words_max: usize) {
        let stems_wanted: BTreeSet<&str> = self.parts.iter().flatten().map(String::as_str).collect();
        for (stem, word) in stems(text) {
            if found.len() >= words_max {
                return;
            }
            if stems_wanted.contains(stem.as_str()) {
                found.insert(word);
            }
        }
    }
}

/// The words of a text: the stem of each, and the word in small letters.
fn stems(text: &str) -> Vec<(String, String)> {
    let mut analyzer = analyzer();
    let mut stream = analyzer.token_stream(text);
    let mut found = Vec::new();
    while stream.advance() {
        let token = stream.token();
        let word = text.get(token.offset_from..token.offset_to).unwrap_or_default();
        found.push((token.text.clone(), word.to_lowercase()));
    }
    found
}

/// Messages that have all of what is looked for.
pub(crate) fn all_of(mut queries: Vec<Box<dyn Query>>) -> Option<Box<dyn Query>> {
    match queries.len() {
        0 => None,
        1 => queries.pop(),
        _ => Some(Box::new(BooleanQuery::intersection(queries))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> Vec<String> {
        Terms::of(text).parts.iter().map(|part| part.join(" ")).collect()
    }

    #[test]
    fn words_between_quotation_marks_are_a_phrase() {
        assert_eq!(parts("приказ \"о премии\" 2025"), ["приказ", "о прем", "2025"]);
        assert_eq!(parts("«один» два"), ["один", "два"]);
        assert_eq!(parts("один \"два три"), ["один", "два три"]);
        assert_eq!(parts("да Да ДА"), ["да"]);
        assert!(Terms::of(" ?! \"\" ").is_empty());
    }

    #[test]
    fn so_many_words_count() {
        let words: Vec<String> = (0..100).map(|number| number.to_string()).collect();
        assert_eq!(parts(&words.join(" ")).len(), WORDS_MAX);
    }

    #[test]
    fn highlights_are_the_words_as_they_are_written() {
        let mut found = BTreeSet::new();
        Terms::of("отчёт meeting").highlights("Отчётом, отчеты о MEETINGS; other", &mut found, 10);
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["meetings", "отчеты", "отчётом"]);
    }
}
