//! What a page says of itself in its head.

use super::tags::elements;
use encoding_rs::{Encoding, UTF_8};
use std::collections::BTreeMap;
use url::Url;

/// How many properties are told.
const PROPERTIES_MAX: usize = 40;
/// How many elements of a page are looked at.
const ELEMENTS_MAX: usize = 20_000;
/// How much of what a page says is looked at, and how many pictures.
const SAID_MAX: usize = 1_000;
const PICTURES_MAX: usize = 20;
/// The longest value that is told, in letters.
const VALUE_LETTERS_MAX: usize = 1_000;
/// The longest name of a property, in bytes.
const NAME_BYTES_MAX: usize = 100;
/// In how much of a page its own word on its encoding is looked for.
const ENCODING_WITHIN: usize = 2_048;

/// What a page says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Page {
    /// OpenGraph properties, pictures apart.
    pub properties: BTreeMap<String, String>,
    /// Its picture.
    pub image: Option<Url>,
    /// Where it says more of itself by oEmbed.
    pub oembed: Option<Url>,
}

impl Page {
    /// Reads a page. Takes as long as the page is large: not for async threads.
    pub(super) fn read(bytes: &[u8], content_type: &str, base: &Url) -> Self {
        let text = decode(bytes, content_type);
        let mut page = Self::default();
        let mut said = BTreeMap::new();
        let mut pictures = Vec::new();
        let (mut title, mut heading) = (None, None);
        for element in elements(&text).take(ELEMENTS_MAX) {
            match element.name.as_str() {
                "meta" => {
                    let name = element.attribute("property").or_else(|| element.attribute("name"));
                    let (Some(name), Some(content)) = (name, element.attribute("content")) else { continue };
                    let name = name.to_ascii_lowercase();
                    match name.as_str() {
                        "og:image" | "og:image:url" | "og:image:secure_url" | "twitter:image"
                            if pictures.len() < PICTURES_MAX =>
                        {
                            pictures.push((name, content));
                        }
                        _ if name.len() <= NAME_BYTES_MAX && said.len() < SAID_MAX => {
                            said.entry(name).or_insert_with(|| shortened(&content));
                        }
                        _ => {}
                    }
                }
                "link" => {
                    let is = |name: &str, value: &str| {
                        element.attribute(name).is_some_and(|found| found.eq_ignore_ascii_case(value))
                    };
                    if page.oembed.is_none() && is("type", "application/json+oembed") {
                        page.oembed = element.attribute("href").and_then(|href| base.join(&href).ok());
                    } else if pictures.len() < PICTURES_MAX && is("rel", "image_src") {
                        pictures.extend(element.attribute("href").map(|href| ("image_src".to_owned(), href)));
                    }
                }
                "title" if title.is_none() => title = Some(shortened(&element.words())),
                "h1" if heading.is_none() => heading = Some(shortened(&element.words())),
                _ => {}
            }
        }
        let fallbacks = [
            ("og:title", [said.get("twitter:title"), title.as_ref(), heading.as_ref()]),
            ("og:description", [said.get("twitter:description"), said.get("description"), None]),
            ("og:site_name", [said.get("application-name"), None, None]),
        ];
        for (name, values) in fallbacks {
            if let Some(value) = values.into_iter().flatten().find(|value| !value.is_empty()) {
                page.properties.insert(name.to_owned(), value.clone());
            }
        }
        // What it says of its pictures is found out by looking at them.
        let properties = said.into_iter().filter(|(name, _)| name.starts_with("og:") && !name.starts_with("og:image"));
        page.properties.extend(properties.take(PROPERTIES_MAX));
        for wanted in ["og:image:secure_url", "og:image", "og:image:url", "twitter:image", "image_src"] {
            let found = pictures.iter().find(|(name, _)| name == wanted);
            page.image = page.image.or_else(|| found.and_then(|(_, href)| base.join(href).ok()));
        }
        page
    }
}

/// A value on one line, not too long.
pub(super) fn shortened(value: &str) -> String {
    let mut words = String::new();
    for word in value.split_whitespace() {
        if !words.is_empty() {
            words.push(' ');
        }
        words.push_str(word);
        if words.len() > 4 * VALUE_LETTERS_MAX {
            break;
        }
    }
    match words.char_indices().nth(VALUE_LETTERS_MAX) {
        Some((end, _)) => format!("{}…", words.get(..end).unwrap_or_default()),
        None => words,
    }
}

/// The text of a page: in the encoding of its header, its first bytes, its own word, or UTF-8.
fn decode(bytes: &[u8], content_type: &str) -> String {
    let parameter = content_type.split(';').skip(1).filter_map(|parameter| parameter.split_once('='));
    let named = parameter.filter(|(name, _)| name.trim().eq_ignore_ascii_case("charset")).map(|(_, value)| value);
    let by_header = named.map(|value| value.trim().trim_matches('"')).find_map(label);
    let encoding = Encoding::for_bom(bytes).map(|(encoding, _)| encoding).or(by_header);
    let encoding = encoding.or_else(|| own_word(bytes)).unwrap_or(UTF_8);
    encoding.decode(bytes).0.into_owned()
}

fn label(name: &str) -> Option<&'static Encoding> {
    Encoding::for_label(name.as_bytes())
}

/// The encoding that a page names in a `meta` element.
fn own_word(bytes: &[u8]) -> Option<&'static Encoding> {
    let start = bytes.get(..ENCODING_WITHIN).unwrap_or(bytes);
    let start = String::from_utf8_lossy(start).to_ascii_lowercase();
    let (_, after) = start.split_once("charset=")?;
    let after = after.trim_start_matches(['"', '\'', ' ']);
    let end = after.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '-' && letter != '_');
    label(after.get(..end.unwrap_or(after.len()))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(html: &str) -> Page {
        Page::read(html.as_bytes(), "text/html", &Url::parse("https://x.example/a/page").unwrap())
    }

    fn property<'a>(page: &'a Page, name: &str) -> &'a str {
        page.properties.get(name).map_or("", String::as_str)
    }

    #[test]
    fn a_page_is_believed_on_itself() {
        let page = read(
            r#"<html><head><title>Old</title>
            <meta property="og:title" content=" New
               title "><meta name="OG:Type" content="article">
            <meta property="og:image" content="../p.png"><meta property="og:image:width" content="9">
            <link rel="alternate" type="application/json+oembed" href="/oembed?x=1">
            <meta property="evil" content="x"></head></html>"#,
        );
        assert_eq!(property(&page, "og:title"), "New title");
        assert_eq!(property(&page, "og:type"), "article");
        assert_eq!(page.properties.len(), 2);
        assert_eq!(page.image.unwrap().as_str(), "https://x.example/p.png");
        assert_eq!(page.oembed.unwrap().as_str(), "https://x.example/oembed?x=1");
    }

    #[test]
    fn a_page_without_open_graph_has_a_title_all_the_same() {
        let page = read("<title>Title</title><meta name=description content='What it is'><h1>Heading</h1>");
        assert_eq!((property(&page, "og:title"), property(&page, "og:description")), ("Title", "What it is"));
        let page = read("<h1>Heading</h1><link rel=image_src href=http://y.example/i>");
        assert_eq!(property(&page, "og:title"), "Heading");
        assert_eq!(page.image.unwrap().as_str(), "http://y.example/i");
        assert_eq!(read(""), Page::default());
    }

    #[test]
    fn a_page_is_read_in_its_own_encoding() {
        let base = Url::parse("https://x.example/").unwrap();
        let (text, _, _) = encoding_rs::WINDOWS_1251.encode("<title>Привет</title>");
        let by_header = Page::read(&text, "text/html; charset=\"windows-1251\"", &base);
        assert_eq!(property(&by_header, "og:title"), "Привет");
        let (text, _, _) = encoding_rs::KOI8_R.encode("<meta charset='koi8-r'><title>Привет</title>");
        assert_eq!(property(&Page::read(&text, "text/html", &base), "og:title"), "Привет");
    }

    #[test]
    fn long_values_are_cut_and_deep_pages_are_read() {
        let page = read(&format!("<title>{}</title>", "я".repeat(5_000)));
        assert_eq!(property(&page, "og:title").chars().count(), VALUE_LETTERS_MAX + 1);
        let page = read(&format!("{}<title>deep</title>", "<div>".repeat(10_000)));
        assert_eq!(property(&page, "og:title"), "deep");
        let many = (0..1_000).map(|n| format!("<meta property='og:x{n}' content='{n}'>"));
        assert_eq!(read(&many.collect::<Vec<_>>().concat()).properties.len(), PROPERTIES_MAX);
    }
}
