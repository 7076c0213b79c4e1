//! JSON written piece by piece: what is stored is JSON already.

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

/// Appends the name of a field, with a comma where one is needed.
pub fn push_name(out: &mut String, name: &str) {
    if !matches!(out.as_bytes().last(), Some(b'{') | None) {
        out.push(',');
    }
    push_text(out, name);
    out.push(':');
}

/// Appends a field that is a text.
pub fn push_field(out: &mut String, name: &str, text: &str) {
    push_name(out, name);
    push_text(out, text);
}
