//! Which servers may take part in a room (client-server API, `m.room.server_acl`).

use ruma::ServerName;
use serde_json::Value;
use serde_json::value::RawValue;

/// A room's list of servers that it admits and refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerAcl {
    allow: Vec<String>,
    deny: Vec<String>,
    allow_ip_literals: bool,
}

impl ServerAcl {
    /// Reads the content of an `m.room.server_acl`. What cannot be read counts as missing, entry by entry: a
    /// list that names nobody refuses everybody, as the specification warns.
    #[must_use]
    pub fn of_content(content: &RawValue) -> Self {
        let content: Value = serde_json::from_str(content.get()).unwrap_or_default();
        let patterns = |field: &str| {
            let patterns = content.get(field).and_then(Value::as_array).into_iter().flatten();
            patterns.filter_map(Value::as_str).map(str::to_lowercase).collect()
        };
        Self {
            allow: patterns("allow"),
            deny: patterns("deny"),
            allow_ip_literals: content.get("allow_ip_literals").and_then(Value::as_bool).unwrap_or(true),
        }
    }

    /// Whether a server may take part. Its port does not matter.
    #[must_use]
    pub fn allows(&self, server: &ServerName) -> bool {
        let host = server.host().to_lowercase();
        let matches = |patterns: &[String]| patterns.iter().any(|pattern| glob_matches(pattern, &host));
        (self.allow_ip_literals || !server.is_ip_literal()) && !matches(&self.deny) && matches(&self.allow)
    }
}

/// Whether `text` matches a pattern in which `*` is any text and `?` any one character (appendices, "Glob-style
/// matching"). Takes at most the product of both lengths in steps.
pub(crate) fn glob_matches(pattern: &str, text: &str) -> bool {
    matches_with(pattern, text, |expected, actual| expected == '?' || expected == actual)
}

/// Whether `text` matches a pattern in which `*` is any text and every other character itself.
pub(crate) fn star_matches(pattern: &str, text: &str) -> bool {
    matches_with(pattern, text, |expected, actual| expected == actual)
}

fn matches_with(pattern: &str, text: &str, same: impl Fn(char, char) -> bool) -> bool {
    let (mut pattern, mut text) = (pattern.chars(), text.chars());
    // Where to go on when the rest does not match: after the last star, which takes one character more.
    let mut retry = None;
    loop {
        let mut next = pattern.clone();
        match next.next() {
            Some('*') => {
                pattern = next;
                retry = Some((pattern.clone(), text.clone()));
                continue;
            }
            Some(expected) => {
                let mut after = text.clone();
                if after.next().is_some_and(|actual| same(expected, actual)) {
                    (pattern, text) = (next, after);
                    continue;
                }
            }
            None if text.as_str().is_empty() => return true,
            None => {}
        }
        let Some((after_star, taken)) = &mut retry else { return false };
        if taken.next().is_none() {
            return false;
        }
        (pattern, text) = (after_star.clone(), taken.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn allows(content: &str, server: &str) -> bool {
        let content = RawValue::from_string(content.to_owned()).unwrap();
        ServerAcl::of_content(&content).allows(<&ServerName>::try_from(server).unwrap())
    }

    #[test]
    fn without_an_allow_entry_nobody_may() {
        for content in ["{}", "[]", "7", r#"{"allow":"*"}"#, r#"{"allow":[7]}"#, r#"{"deny":["x.example"]}"#] {
            assert!(!allows(content, "a.example"), "{content}");
        }
    }

    #[test]
    fn a_denied_server_may_not_even_if_it_is_allowed() {
        let content = r#"{"allow":["*"],"deny":["evil.example","*.evil.example"]}"#;
        for (server, expected) in [
            ("good.example", true),
            ("evil.example", false),
            ("evil.example:8448", false),
            ("EVIL.example:1234", false),
            ("sub.evil.example", false),
            ("notevil.example", true),
        ] {
            assert_eq!(allows(content, server), expected, "{server}");
        }
    }

    #[test]
    fn patterns_are_globs_without_case() {
        let content = r#"{"allow":["Matrix-?.Example"]}"#;
        assert!(allows(content, "matrix-1.example"));
        assert!(allows(content, "MATRIX-a.EXAMPLE:443"));
        assert!(!allows(content, "matrix-12.example"));
        assert!(!allows(content, "matrix-.example"));
    }

    #[test]
    fn ip_literals_may_be_refused() {
        let strict = r#"{"allow":["*"],"allow_ip_literals":false}"#;
        for server in ["1.2.3.4", "1.2.3.4:8448", "[::1]", "[2001:db8::1]:8448"] {
            assert!(!allows(strict, server), "{server}");
            assert!(allows(r#"{"allow":["*"]}"#, server), "{server}");
            assert!(allows(r#"{"allow":["*"],"allow_ip_literals":"false"}"#, server), "{server}");
        }
        assert!(allows(strict, "1.2.3.4.example"));
    }

    #[test]
    fn many_stars_do_not_take_long() {
        assert!(!glob_matches(&"*a".repeat(1_000), &"a".repeat(999)));
        assert!(glob_matches(&"*a".repeat(1_000), &"a".repeat(1_000)));
        assert!(!star_matches(&format!("{}b", "*a".repeat(100)), &"a".repeat(10_000)));
    }

    proptest! {
        #[test]
        fn globs_agree_with_their_definition(pattern in "[ab*?]{0,8}", text in "[ab]{0,8}") {
            fn defined(pattern: &[u8], text: &[u8]) -> bool {
                match pattern.split_first() {
                    None => text.is_empty(),
                    Some((b'*', rest)) => (0..=text.len()).any(|taken| defined(rest, &text[taken..])),
                    Some((letter, rest)) => text
                        .split_first()
                        .is_some_and(|(first, text)| (*letter == b'?' || letter == first) && defined(rest, text)),
                }
            }
            prop_assert_eq!(glob_matches(&pattern, &text), defined(pattern.as_bytes(), text.as_bytes()));
        }
    }
}
