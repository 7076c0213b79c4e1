//! Patterns with `*` and `?` (appendices, "Glob-style matching"), matched whatever the case.

/// A pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Glob {
    /// In lower case.
    pattern: Box<str>,
    has_wildcards: bool,
}

impl Glob {
    pub fn new(pattern: &str) -> Self {
        Self { pattern: pattern.to_lowercase().into(), has_wildcards: pattern.contains(['*', '?']) }
    }

    /// Whether the pattern matches all of a text.
    pub fn matches(&self, text: &str) -> bool {
        if !self.has_wildcards && text.is_ascii() && self.pattern.is_ascii() {
            return self.pattern.eq_ignore_ascii_case(text);
        }
        let text = text.to_lowercase();
        if self.has_wildcards { self.run(&text, |at| at == 0, |at| at == text.len()) } else { *self.pattern == *text }
    }

    /// Whether the pattern matches a part of a text, in lower case already, that starts and ends at the boundary
    /// of a word.
    pub fn matches_words(&self, text: &str) -> bool {
        if self.pattern.is_empty() {
            return false;
        }
        if self.has_wildcards {
            self.run(text, |at| is_start(text, at), |at| is_end(text, at))
        } else {
            contains_words(text, &self.pattern)
        }
    }

    /// Runs the pattern over a text as an automaton whose states are the places of the pattern, all at once: the
    /// cost is bounded by the product of both lengths, whatever they are.
    fn run(&self, text: &str, may_start: impl Fn(usize) -> bool, may_end: impl Fn(usize) -> bool) -> bool {
        let pattern: Vec<char> = self.pattern.chars().collect();
        let mut states = vec![false; pattern.len() + 1];
        let mut next = states.clone();
        let mut places = text.char_indices();
        loop {
            let place = places.next();
            let at = place.map_or(text.len(), |(at, _)| at);
            if let Some(first) = states.first_mut() {
                *first |= may_start(at);
            }
            skip_stars(&pattern, &mut states);
            if states.last() == Some(&true) && may_end(at) {
                return true;
            }
            let Some((_, letter)) = place else { return false };
            next.fill(false);
            for (index, expected) in pattern.iter().enumerate() {
                if states.get(index) != Some(&true) {
                    continue;
                }
                let goes_on = match expected {
                    '*' => index,
                    '?' => index + 1,
                    expected if *expected == letter => index + 1,
                    _ => continue,
                };
                if let Some(state) = next.get_mut(goes_on) {
                    *state = true;
                }
            }
            std::mem::swap(&mut states, &mut next);
        }
    }
}

/// A star may match nothing.
fn skip_stars(pattern: &[char], states: &mut [bool]) {
    for (index, letter) in pattern.iter().enumerate() {
        if *letter == '*'
            && states.get(index) == Some(&true)
            && let Some(state) = states.get_mut(index + 1)
        {
            *state = true;
        }
    }
}

/// Whether a text, in lower case, contains others as words.
pub(super) fn contains_words(text: &str, words: &str) -> bool {
    if words.is_empty() {
        return false;
    }
    let mut from = 0;
    while let Some(found) = text.get(from..).and_then(|rest| rest.find(words)) {
        let start = from + found;
        if is_start(text, start) && is_end(text, start + words.len()) {
            return true;
        }
        from = start + words.chars().next().map_or(1, char::len_utf8);
    }
    false
}

fn is_word(letter: Option<char>) -> bool {
    letter.is_some_and(|letter| letter.is_ascii_alphanumeric() || letter == '_')
}

fn before(text: &str, at: usize) -> Option<char> {
    text.get(..at)?.chars().next_back()
}

fn after(text: &str, at: usize) -> Option<char> {
    text.get(at..)?.chars().next()
}

/// A word boundary is the start or end of the text, or any letter that is no part of words.
fn is_start(text: &str, at: usize) -> bool {
    !is_word(before(text, at)) || !is_word(after(text, at))
}

fn is_end(text: &str, at: usize) -> bool {
    is_start(text, at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_pattern_matches_the_whole_text_whatever_its_case() {
        for (pattern, text, expected) in [
            ("lunc?*", "Lunch plans", true),
            ("lunc?*", "LUNCH", true),
            ("lunc?*", " lunch", false),
            ("lunc?*", "lunc", false),
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("ПРИВЕТ", "привет", true),
            ("при*т", "Привет", true),
            ("a*b*c", "aXbXbXc", true),
            ("a*b*c", "aXbXbX", false),
        ] {
            assert_eq!(Glob::new(pattern).matches(text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn in_a_body_it_matches_words() {
        for (pattern, text, expected) in [
            ("ex*ple", "an example event.", true),
            ("ex*ple", "exple", true),
            ("ex*ple", "an exciting triple-whammy", true),
            ("ex*ple", "an exciting triplet", false),
            ("cake", "the cake.", true),
            ("cake", "cakes", false),
            ("cake", "cheesecake cake", true),
            ("cake", "cake_", false),
            ("@room", "hi@room!", true),
            ("@room", "@rooms", false),
            ("мир", "и мир тоже", true),
            ("", "anything", false),
            ("c?ke", "a cuke", true),
            ("c?ke", "a cuker", false),
            ("*", "", true),
        ] {
            assert_eq!(Glob::new(pattern).matches_words(text), expected, "{pattern} {text}");
        }
    }

    proptest! {
        #[test]
        fn what_has_no_wildcards_matches_as_if_it_had(pattern in "[ab_ ]{1,4}", text in "[ab_ ]{0,12}") {
            let glob = Glob::new(&pattern);
            prop_assert_eq!(glob.matches_words(&text), glob.run(&text, |at| is_start(&text, at), |at| is_end(&text, at)));
        }

        #[test]
        fn any_pattern_meets_any_text(pattern: String, text: String) {
            let glob = Glob::new(&pattern);
            let _either = (glob.matches(&text), glob.matches_words(&text.to_lowercase()));
        }
    }
}
