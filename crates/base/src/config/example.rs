//! The example file, written from what is known about the settings.

use super::{Field, Shape, Table};
use std::fmt::Write;

/// The example of a file whose root is `table`, after an introduction. What must be given is set; the rest
/// is there with its default, switched off by a `#` without a space.
#[must_use]
pub fn example(introduction: &str, table: &Table) -> String {
    let mut out = String::new();
    comment(&mut out, introduction.lines());
    write_table(&mut out, table, "", Off(false));
    out
}

/// Whether what is written is switched off.
#[derive(Clone, Copy)]
struct Off(bool);

fn write_table(out: &mut String, table: &Table, path: &str, off: Off) {
    for field in table.fields.iter().filter(|field| is_line(field)) {
        out.push('\n');
        comment(out, field.doc.iter().copied());
        // Writing to a String can't fail.
        let _ = writeln!(out, "{}{} = {}", hash(Off(off.0 || field.optional)), field.key, value_of(field));
    }
    for field in table.fields.iter().filter(|field| !is_line(field)) {
        let (inner, open, close) = match field.shape {
            Shape::Value(_) => continue,
            Shape::Table(inner) => (inner(), "[", "]"),
            Shape::Tables(inner) => (inner(), "[[", "]]"),
        };
        let path = if path.is_empty() { field.key.to_owned() } else { format!("{path}.{}", field.key) };
        // A table that is all defaults may stand there; one that has something required is switched off
        // where it may be left out.
        let required = inner.fields.iter().any(|field| !field.optional);
        let off = Off(off.0 || (required && field.optional && field.example.is_none()) || is_list_of_defaults(field));
        out.push('\n');
        comment(out, field.doc.iter().copied());
        let _ = writeln!(out, "{}{open}{path}{close}", hash(off));
        write_table(out, &inner, &path, off);
    }
}

/// Whether the setting is one line.
fn is_line(field: &Field) -> bool {
    matches!(field.shape, Shape::Value(_)) || (matches!(field.shape, Shape::Table(_)) && field.default.is_some())
}

/// Whether an entry of the list would change something even if it sets nothing.
fn is_list_of_defaults(field: &Field) -> bool {
    matches!(field.shape, Shape::Tables(_)) && field.example.is_none()
}

fn hash(off: Off) -> &'static str {
    if off.0 { "#" } else { "" }
}

fn value_of(field: &Field) -> String {
    let shows_nothing = field.default.as_deref().is_none_or(|default| default == "[]" || default == "\"\"");
    match (&field.default, field.example) {
        (_, Some(example)) if shows_nothing => example.to_owned(),
        (Some(default), _) => default.clone(),
        (None, _) => "\"\"".to_owned(),
    }
}

fn comment<'a>(out: &mut String, lines: impl Iterator<Item = &'a str>) {
    for line in lines {
        let line = line.trim_end();
        let space = if line.is_empty() || line.starts_with(' ') { "" } else { " " };
        let _ = writeln!(out, "#{space}{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::super::ByteSize;
    use super::*;

    crate::config! {
        /// Inner.
        #[required]
        pub struct Inner {
            /// Where it is.
            #[example = r#""/srv""#]
            pub path: std::path::PathBuf,
        }
    }

    crate::config! {
        /// Outer.
        #[required]
        pub struct Outer {
            /// The name.
            ///
            /// It can't be changed.
            #[example = r#""a.example""#]
            pub name: String,
            /// The budget.
            pub budget: ByteSize = ByteSize::mib(64),
            /// On one line.
            pub there: Inner = Inner { path: "/here".into() },
            /// Perhaps.
            pub inner: Option<Inner>,
            /// At least one.
            #[example = ""]
            pub inners: Vec<Inner>,
        }
    }

    const EXPECTED: &str = r#"# Hello.

# The name.
#
# It can't be changed.
name = "a.example"

# The budget.
#budget = "64 MiB"

# On one line.
#there = { path = "/here" }

# Perhaps.
#[inner]

# Where it is.
#path = "/srv"

# At least one.
[[inners]]

# Where it is.
path = "/srv"
"#;

    #[test]
    fn the_example_sets_what_is_required_and_shows_the_defaults() {
        assert_eq!(example("Hello.", &Outer::table()), EXPECTED);
    }

    #[test]
    fn the_example_can_be_read() {
        let outer: Outer = super::super::parse(EXPECTED, "/etc/x/a.toml".as_ref()).unwrap();
        assert_eq!(outer.name, "a.example");
        assert_eq!(outer.budget, ByteSize::mib(64));
        assert!(outer.inner.is_none());
        assert_eq!(outer.there.path, std::path::Path::new("/here"));
        assert_eq!(outer.inners[0].path, std::path::Path::new("/srv"));
    }
}
