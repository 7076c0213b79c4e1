//! JSON written piece by piece: most of what a sync answers is JSON already.

use std::fmt::Write;

/// Appends a text as a JSON string.
pub fn push_text(out: &mut String, text: &str) {
    if text.bytes().all(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\') {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        out.push_str(&serde_json::Value::from(text).to_string());
    }
}

/// Appends a number.
pub fn push_number(out: &mut String, number: u64) {
    let _infallible = write!(out, "{number}");
}

/// Appends the name of a field. Fields are separated by [`separate`].
pub fn push_name(out: &mut String, name: &str) {
    separate(out);
    push_text(out, name);
    out.push(':');
}

/// Puts a comma where one is needed before the next field or item.
pub fn separate(out: &mut String) {
    if !matches!(out.as_bytes().last(), Some(b'{' | b'[' | b':') | None) {
        out.push(',');
    }
}

/// Appends a field `name` that holds `{"events": [...]}`.
pub fn push_events<'a>(out: &mut String, name: &str, events: impl IntoIterator<Item = &'a str>) {
    push_name(out, name);
    out.push_str("{\"events\":[");
    for event in events {
        separate(out);
        out.push_str(event);
    }
    out.push_str("]}");
}

/// Appends a field `name` that holds `[...]`.
pub fn push_events_array(out: &mut String, name: &str, events: &[String]) {
    push_name(out, name);
    out.push('[');
    for event in events {
        separate(out);
        out.push_str(event);
    }
    out.push(']');
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn pieces_make_valid_json() {
        let mut out = String::from("{");
        push_events(&mut out, "a", []);
        push_events(&mut out, "b\"", ["{}", "{\"x\":1}"]);
        push_name(&mut out, "n");
        push_number(&mut out, 7);
        push_name(&mut out, "t");
        push_text(&mut out, "tab\t and \\ and \u{1f600}");
        out.push('}');
        let expected = json!({
            "a": {"events": []}, "b\"": {"events": [{}, {"x": 1}]}, "n": 7, "t": "tab\t and \\ and \u{1f600}",
        });
        assert_eq!(serde_json::from_str::<serde_json::Value>(&out).unwrap(), expected);
    }
}
