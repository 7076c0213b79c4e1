//! What a page says of itself by oEmbed (oembed.com, 1.0), in the terms of OpenGraph.

use super::page::shortened;
use super::tags::words_of;
use serde_json::Value;
use std::collections::BTreeMap;
use url::Url;

/// What is said.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Embedded {
    /// OpenGraph properties.
    pub properties: BTreeMap<String, String>,
    /// A picture.
    pub image: Option<Url>,
}

/// Reads an answer. `None`: it is none.
pub(super) fn read(bytes: &[u8], base: &Url) -> Option<Embedded> {
    let Value::Object(said) = serde_json::from_slice(bytes).ok()? else { return None };
    let text = |name: &str| said.get(name).and_then(Value::as_str).filter(|text| !text.trim().is_empty());
    // The version is a number by some.
    said.get("version")?;
    let mut embedded = Embedded::default();
    let mut tell = |name: &str, value: Option<String>| {
        if let Some(value) = value.map(|value| shortened(&value)).filter(|value| !value.is_empty()) {
            embedded.properties.insert(name.to_owned(), value);
        }
    };
    tell("og:title", text("title").or_else(|| text("author_name")).map(str::to_owned));
    tell("og:site_name", text("provider_name").map(str::to_owned));
    if text("type") == Some("rich") {
        tell("og:description", text("html").map(words_of));
    }
    let picture = match text("type") {
        Some("photo") => text("url"),
        _ => None,
    };
    embedded.image = picture.or_else(|| text("thumbnail_url")).and_then(|href| base.join(href).ok());
    Some(embedded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Option<Embedded> {
        super::read(json.as_bytes(), &Url::parse("https://x.example/oembed").unwrap())
    }

    #[test]
    fn what_is_embedded_is_told_as_open_graph() {
        let rich = r#"{"version":"1.0","type":"rich","title":"T","provider_name":"P","thumbnail_url":"/t.png",
            "html":"<blockquote>Hello <b>you</b><script>evil()</script></blockquote>"}"#;
        let embedded = read(rich).unwrap();
        let properties: Vec<_> = embedded.properties.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!(properties, [("og:description", "Hello you"), ("og:site_name", "P"), ("og:title", "T")]);
        assert_eq!(embedded.image.unwrap().as_str(), "https://x.example/t.png");
        let photo = r#"{"version":1.0,"type":"photo","url":"https://y.example/p.jpg","author_name":"A"}"#;
        let embedded = read(photo).unwrap();
        assert_eq!(embedded.image.unwrap().as_str(), "https://y.example/p.jpg");
        assert_eq!(embedded.properties["og:title"], "A");
    }

    #[test]
    fn what_is_no_oembed_is_none() {
        for json in ["", "[]", "{}", "{\"title\":\"T\"}"] {
            assert_eq!(read(json), None);
        }
    }
}
