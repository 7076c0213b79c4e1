//! The part of an event that a client asked for with `event_fields` (client-server API, "Filtering", and
//! appendices, "Dot-separated property paths").

use serde_json::{Map, Value};

/// The most fields that a filter may name.
pub const FIELDS_MAX: usize = 100;

/// The fields to keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields(Vec<Vec<String>>);

impl Fields {
    /// The fields with these paths, the first [`FIELDS_MAX`] of them.
    #[must_use]
    pub fn new(paths: &[String]) -> Self {
        Self(paths.iter().take(FIELDS_MAX).map(|path| split(path)).collect())
    }

    /// The event with these fields only. What is not a JSON object stays as it is.
    #[must_use]
    pub fn select(&self, event: &str) -> String {
        let Ok(Value::Object(event)) = serde_json::from_str(event) else { return event.to_owned() };
        let mut selected = Map::new();
        for path in &self.0 {
            copy(&event, &mut selected, path);
        }
        Value::Object(selected).to_string()
    }
}

fn copy(from: &Map<String, Value>, to: &mut Map<String, Value>, path: &[String]) {
    let Some((name, rest)) = path.split_first() else { return };
    let Some(value) = from.get(name) else { return };
    if rest.is_empty() {
        to.insert(name.clone(), value.clone());
    } else if let Value::Object(value) = value {
        let inner = to.entry(name.clone()).or_insert_with(|| Value::Object(Map::new()));
        // A field that was copied whole, because a shorter path names it, already has this part.
        if let Value::Object(inner) = inner {
            copy(value, inner, rest);
            if inner.is_empty() {
                to.remove(name);
            }
        }
    }
}

/// The parts of a path: dots separate them, and a backslash takes the dot or backslash after it literally.
fn split(path: &str) -> Vec<String> {
    let mut parts = Vec::new();
    let mut part = String::new();
    let mut chars = path.chars().peekable();
    while let Some(char) = chars.next() {
        match (char, chars.peek()) {
            ('\\', Some(&literal @ ('.' | '\\'))) => {
                part.push(literal);
                chars.next();
            }
            ('.', _) => parts.push(std::mem::take(&mut part)),
            _ => part.push(char),
        }
    }
    parts.push(part);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn select(paths: &[&str]) -> Value {
        let event = json!({"type": "T", "content": {"body": "B", "m.x": {"y": 1}, "z": 2}, "sender": "S"});
        let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
        serde_json::from_str(&Fields::new(&paths).select(&event.to_string())).unwrap()
    }

    #[test]
    fn only_the_named_fields_are_kept() {
        assert_eq!(select(&["type", "content.body"]), json!({"type": "T", "content": {"body": "B"}}));
        assert_eq!(select(&["content", "content.body"])["content"]["z"], 2);
        assert_eq!(select(&["missing", "content.missing", "type.x"]), json!({}));
    }

    #[test]
    fn a_dot_within_a_name_is_escaped() {
        assert_eq!(select(&["content.m\\.x.y"]), json!({"content": {"m.x": {"y": 1}}}));
        assert_eq!(split("a\\\\.b\\c"), ["a\\", "b\\c"]);
    }
}
