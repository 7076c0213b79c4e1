//! The elements of a page that tell of it, found in one pass.
//!
//! A parser that builds the tree of a page takes time that grows with the square of its depth, and of the number of
//! attributes of an element, and who runs the page chooses both. Here a page is only looked through: in time that grows
//! with its length. What was found is short, and can then be read by a real parser.

use scraper::Html;

/// How many attributes of an element are looked at.
const ATTRIBUTES_MAX: usize = 32;
/// How much of a text is read, in bytes.
const TEXT_BYTES_MAX: usize = 8 * 1024;
/// Elements whose content is not looked through for others.
const OPAQUE: [&str; 8] = ["script", "style", "textarea", "title", "iframe", "noembed", "template", "xmp"];

/// An element.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Element<'a> {
    /// Its name, in small letters.
    pub name: String,
    attributes: Vec<(&'a str, &'a str)>,
    /// What comes after its start.
    after: &'a str,
}

impl Element<'_> {
    /// An attribute; `None` also for one that is empty.
    pub(super) fn attribute(&self, name: &str) -> Option<String> {
        let (_, value) = self.attributes.iter().find(|(found, _)| found.eq_ignore_ascii_case(name))?;
        let value = words_of(&start(value).replace('<', "&lt;"));
        Some(value).filter(|value| !value.is_empty())
    }

    /// The words within it.
    pub(super) fn words(&self) -> String {
        let within = start(self.after);
        let end = end_of(within, &self.name).unwrap_or(within.len());
        words_of(within.get(..end).unwrap_or(within))
    }
}

/// The elements of a page, in its order.
pub(super) fn elements(mut page: &str) -> impl Iterator<Item = Element<'_>> {
    std::iter::from_fn(move || {
        loop {
            let rest = page.get(page.find('<')? + 1..)?;
            if let Some(comment) = rest.strip_prefix("!--") {
                page = comment.get(comment.find("-->")?..)?;
                continue;
            }
            if !rest.starts_with(|letter: char| letter.is_ascii_alphabetic()) {
                page = rest;
                continue;
            }
            let (element, after) = read(rest);
            page = after;
            if OPAQUE.contains(&element.name.as_str()) {
                page = end_of(after, &element.name).and_then(|end| after.get(end..)).unwrap_or_default();
            }
            return Some(element);
        }
    })
}

/// Reads the start of an element, after its bracket, and answers what comes after it.
fn read(text: &str) -> (Element<'_>, &str) {
    let end = text.find(|letter: char| letter.is_ascii_whitespace() || letter == '/' || letter == '>');
    let (name, mut rest) = text.split_at(end.unwrap_or(text.len()));
    let mut attributes = Vec::new();
    loop {
        rest = rest.trim_start_matches(|letter: char| letter.is_ascii_whitespace() || letter == '/');
        if rest.is_empty() {
            break;
        }
        if let Some(after) = rest.strip_prefix('>') {
            rest = after;
            break;
        }
        // A name has one letter at least, whichever.
        let first = rest.chars().next().map_or(0, char::len_utf8);
        let ends = |letter: char| letter.is_ascii_whitespace() || matches!(letter, '=' | '/' | '>');
        let end = rest.get(first..).and_then(|rest| rest.find(ends)).map_or(rest.len(), |end| first + end);
        let (attribute, after) = rest.split_at(end);
        let (value, after) = match after.trim_ascii_start().strip_prefix('=') {
            Some(after) => read_value(after.trim_ascii_start()),
            None => ("", after),
        };
        if attributes.len() < ATTRIBUTES_MAX {
            attributes.push((attribute, value));
        }
        rest = after;
    }
    (Element { name: start(name).to_ascii_lowercase(), attributes, after: rest }, rest)
}

fn read_value(text: &str) -> (&str, &str) {
    for quote in ['"', '\''] {
        if let Some(quoted) = text.strip_prefix(quote) {
            return quoted.split_once(quote).unwrap_or((quoted, ""));
        }
    }
    let end = text.find(|letter: char| letter.is_ascii_whitespace() || letter == '>');
    text.split_at(end.unwrap_or(text.len()))
}

/// Where an element of this name ends.
fn end_of(text: &str, name: &str) -> Option<usize> {
    let mut from = 0;
    loop {
        let at = from + text.get(from..)?.find("</")?;
        let found = text.get(at + 2..at + 2 + name.len());
        if found.is_some_and(|found| found.eq_ignore_ascii_case(name)) {
            return Some(at);
        }
        from = at + 2;
    }
}

/// As much of a text as is read.
fn start(text: &str) -> &str {
    text.get(..text.floor_char_boundary(TEXT_BYTES_MAX)).unwrap_or(text)
}

/// The words of a piece of HTML, as far as it is read.
pub(super) fn words_of(html: &str) -> String {
    let html = Html::parse_fragment(start(html));
    let texts = html.tree.nodes().filter_map(|node| {
        let text = node.value().as_text()?;
        let parent = node.parent().and_then(|parent| parent.value().as_element().map(scraper::node::Element::name));
        (!matches!(parent, Some("script" | "style"))).then(|| text.text.to_string())
    });
    let texts: String = texts.collect();
    texts.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(page: &str) -> Vec<String> {
        elements(page).map(|element| element.name).collect()
    }

    #[test]
    fn elements_are_found_where_they_are_some() {
        assert_eq!(names("<!doctype html><Head><META a=b></head>x<p/>1 < 2 <br>"), ["head", "meta", "p", "br"]);
        assert_eq!(names("<!-- <meta> --><script>'<meta>'</SCRIPT><link>"), ["script", "link"]);
        assert_eq!(names("<title><meta></title><i"), ["title", "i"]);
        assert_eq!(names("<script><meta>"), ["script"]);
        assert!(names("<!-- <meta>").is_empty());
    }

    #[test]
    fn attributes_are_read_however_they_are_written() {
        let page = r#"<meta A = "1 &amp; 2 > 1" b='&#x41;' c=d/e f g="<b>" é=ö h="">"#;
        let element = elements(page).next().unwrap();
        let attribute = |name| element.attribute(name).unwrap_or_default();
        let found = [attribute("a"), attribute("b"), attribute("c"), attribute("f"), attribute("g"), attribute("h")];
        assert_eq!(found, ["1 & 2 > 1", "A", "d/e", "", "<b>", ""]);
        assert_eq!(attribute("é"), "ö");
        assert_eq!(elements("<meta a=\"never ends>").next().unwrap().attribute("a").unwrap(), "never ends>");
    }

    #[test]
    fn words_are_what_is_shown() {
        let page = "<h1> One\n<b>two</b> &mdash; <script>three</script></h1> four";
        assert_eq!(elements(page).next().unwrap().words(), "One two —");
        assert_eq!(words_of("<p>Hello</p> <style>x</style>you"), "Hello you");
    }

    #[test]
    fn a_page_that_is_made_to_take_long_does_not() {
        let many = 300_000;
        for piece in ["<div>", "</", "<", "<!--", "<title", " a=b", "<a b='", "<script>"] {
            let page = format!("<p {}", piece.repeat(many));
            assert!(elements(&page).count() <= many + 1);
            assert!(elements(&piece.repeat(many)).count() <= many);
        }
    }
}
