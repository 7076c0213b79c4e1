//! Reading a file: every problem is found before any is reported.

use super::{Setting, Shape, Table};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A value of the file.
#[derive(Clone, Copy, Debug)]
pub struct Node<'a> {
    value: &'a DeValue<'a>,
    at: &'a Span,
}

type Span = Range<usize>;

/// Something wrong in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1.
    pub column: usize,
    /// What is wrong, which key, and what to do.
    pub message: String,
    /// The line as it is in the file.
    pub source: String,
}

/// Why a file can't be used.
#[derive(Clone, Debug)]
pub struct ConfigError {
    /// The file.
    pub file: PathBuf,
    /// Why it can't be read, or else its problems in order.
    pub why: Result<Vec<Problem>, String>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.display();
        match &self.why {
            Err(why) => write!(f, "{file}: {why}"),
            Ok(problems) => {
                for (index, Problem { line, column, message, source }) in problems.iter().enumerate() {
                    let separator = if index == 0 { "" } else { "\n" };
                    write!(f, "{separator}{file}:{line}:{column}: {message}")?;
                    if !source.trim().is_empty() {
                        write!(f, "\n    {line} | {source}")?;
                    }
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for ConfigError {}

/// The largest configuration file that is read.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Reads a file. Paths within it are relative to its folder.
pub fn load<T: Setting>(file: &Path) -> Result<T, ConfigError> {
    let unreadable = |why: String| ConfigError { file: file.to_owned(), why: Err(why) };
    let length = std::fs::metadata(file).map_err(|error| unreadable(format!("can't be read: {error}")))?.len();
    if length > FILE_BYTES_MAX {
        return Err(unreadable(format!("is larger than {FILE_BYTES_MAX} bytes")));
    }
    let text = std::fs::read_to_string(file).map_err(|error| unreadable(format!("can't be read: {error}")))?;
    parse(&text, file)
}

/// Reads the text of a file. Paths within it are relative to the folder of `file`.
pub fn parse<T: Setting>(text: &str, file: &Path) -> Result<T, ConfigError> {
    let folder = file.parent().unwrap_or(Path::new(""));
    let root = match T::shape() {
        Shape::Table(table) => table(),
        Shape::Value(_) | Shape::Tables(_) => Table { doc: &[], fields: Vec::new() },
    };
    let mut reader = Reader { text, folder, root, path: Vec::new(), problems: Vec::new() };
    let (document, errors) = DeValue::parse_document(text);
    for error in errors {
        let at = error.span().unwrap_or_default();
        reader.wrong(at, format!("this isn't TOML: {}", error.message().replace('\n', ", ")));
    }
    let read = if reader.problems.is_empty() {
        let span = document.span();
        T::read(Node { value: document.get_ref(), at: &span }, &mut reader)
    } else {
        None
    };
    let mut problems = reader.problems;
    match read {
        Some(read) if problems.is_empty() => Ok(read),
        _ => {
            problems.sort_by_key(|problem| (problem.line, problem.column));
            Err(ConfigError { file: file.to_owned(), why: Ok(problems) })
        }
    }
}

/// [`DeTable::parse_recoverable`], as a value.
trait ParseDocument<'i>: Sized {
    fn parse_document(text: &'i str) -> (Spanned<Self>, Vec<toml::de::Error>);
}

impl<'i> ParseDocument<'i> for DeValue<'i> {
    fn parse_document(text: &'i str) -> (Spanned<Self>, Vec<toml::de::Error>) {
        let (table, errors) = DeTable::parse_recoverable(text);
        let span = table.span();
        (Spanned::new(span, DeValue::Table(table.into_inner())), errors)
    }
}

/// Collects problems while a file is read.
#[derive(Debug)]
pub struct Reader<'a> {
    text: &'a str,
    folder: &'a Path,
    root: Table,
    path: Vec<String>,
    problems: Vec<Problem>,
}

/// A table of the file whose keys are all known.
#[derive(Debug)]
pub struct TableNode<'a> {
    table: &'a DeTable<'a>,
    at: Span,
}

impl<'a> Reader<'a> {
    /// The folder that paths are relative to.
    #[must_use]
    pub fn folder(&self) -> &'a Path {
        self.folder
    }

    /// Notes that a value is wrong. The message follows the name of the key: "must be ...".
    pub fn wrong_value(&mut self, node: Node<'_>, message: impl fmt::Display) {
        let key = self.path.join(".");
        self.wrong(node.at.clone(), format!("`{key}` {message}"));
    }

    /// Notes that a value has another type than it must have; always `None`.
    pub fn wrong_type<T>(&mut self, node: Node<'_>, what: &str) -> Option<T> {
        self.wrong_value(node, format_args!("must be {what}, not {}", node.kind()));
        None
    }

    /// The table that a value is, its keys checked against those that are known.
    pub fn table<'n>(&mut self, node: Node<'n>, known: &Table) -> Option<TableNode<'n>> {
        let DeValue::Table(table) = node.value else {
            return self.wrong_type(node, "a table");
        };
        for key in table.keys() {
            let name: &str = key.get_ref();
            if !known.fields.iter().any(|field| field.key == name) {
                let message = self.unknown_key(name, known);
                self.wrong(key.span(), message);
            }
        }
        Some(TableNode { table, at: node.at.clone() })
    }

    /// The one of the words that a value is.
    pub fn choice<T: Copy>(&mut self, node: Node<'_>, choices: &[(&str, T)]) -> Option<T> {
        let words = || choices.iter().map(|(word, _)| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
        let Some(text) = node.text() else {
            return self.wrong_type(node, &format!("one of {}", words()));
        };
        let found = choices.iter().find(|(word, _)| *word == text).map(|(_, choice)| *choice);
        if found.is_none() {
            let near = nearest(text, choices.iter().map(|(word, _)| *word));
            let near = near.map(|near| format!("; did you mean \"{near}\"?")).unwrap_or_default();
            self.wrong_value(node, format_args!("must be one of {}, not \"{text}\"{near}", words()));
        }
        found
    }

    /// Reads the items of a list.
    pub(super) fn items<T: Setting>(&mut self, node: Node<'_>) -> Option<Vec<T>> {
        let DeValue::Array(items) = node.value else {
            return self.wrong_type(node, "a list");
        };
        let read: Vec<Option<T>> = items.iter().map(|item| self.read_spanned(item)).collect();
        read.into_iter().collect()
    }

    /// Reads a table of texts whose keys are anything.
    pub(super) fn texts(&mut self, node: Node<'_>) -> Option<BTreeMap<String, String>> {
        let DeValue::Table(table) = node.value else {
            return self.wrong_type(node, "a table of texts");
        };
        let mut texts = Some(BTreeMap::new());
        for (key, value) in table {
            self.path.push(key.get_ref().to_string());
            let text: Option<String> = self.read_spanned(value);
            self.path.pop();
            match (text, &mut texts) {
                (Some(text), Some(texts)) => {
                    texts.insert(key.get_ref().to_string(), text);
                }
                _ => texts = None,
            }
        }
        texts
    }

    fn read_spanned<T: Setting>(&mut self, value: &Spanned<DeValue<'_>>) -> Option<T> {
        let at = value.span();
        T::read(Node { value: value.get_ref(), at: &at }, self)
    }

    fn unknown_key(&self, name: &str, known: &Table) -> String {
        let place = if self.path.is_empty() { String::new() } else { format!(" in [{}]", self.path.join(".")) };
        let keys = || known.fields.iter().map(|field| field.key);
        if let Some(near) = nearest(name, keys()) {
            return format!("unknown key `{name}`{place}; did you mean `{near}`?");
        }
        if let Some(home) = home_of(name, &self.root, "") {
            return format!("unknown key `{name}`{place}; `{name}` belongs in {home}");
        }
        let keys = keys().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
        format!("unknown key `{name}`{place}; remove it, or use one of {keys}")
    }

    fn wrong(&mut self, at: Span, message: String) {
        let start = at.start.min(self.text.len());
        let before = self.text.get(..start).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        self.problems.push(Problem {
            line: before.matches('\n').count() + 1,
            column: before.get(line_start..).unwrap_or_default().chars().count() + 1,
            message,
            source: self.text.get(line_start..).and_then(|rest| rest.lines().next()).unwrap_or_default().to_owned(),
        });
    }
}

impl<'a> Node<'a> {
    /// The text that the value is.
    #[must_use]
    pub fn text(self) -> Option<&'a str> {
        match self.value {
            DeValue::String(text) => Some(text),
            _ => None,
        }
    }

    /// The integer that the value is.
    #[must_use]
    pub fn integer(self) -> Option<i128> {
        match self.value {
            DeValue::Integer(integer) => i128::from_str_radix(integer.as_str(), integer.radix()).ok(),
            _ => None,
        }
    }

    /// The number that the value is, whole or not.
    #[must_use]
    pub fn number(self) -> Option<f64> {
        match self.value {
            DeValue::Integer(integer) => integer.as_str().parse().ok(),
            DeValue::Float(float) => float.as_str().parse().ok(),
            _ => None,
        }
    }

    /// The truth value that the value is.
    #[must_use]
    pub fn boolean(self) -> Option<bool> {
        match self.value {
            DeValue::Boolean(boolean) => Some(*boolean),
            _ => None,
        }
    }

    fn kind(self) -> &'static str {
        match self.value {
            DeValue::String(_) => "a text",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a number",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        }
    }
}

impl TableNode<'_> {
    /// Reads a setting of the table, or what it is if the table doesn't have it.
    pub fn field<T: Setting>(
        &self,
        reader: &mut Reader<'_>,
        key: &'static str,
        absent: Option<fn() -> Option<T>>,
    ) -> Option<T> {
        let found = self.table.iter().find(|(name, _)| name.get_ref() == key);
        match (found, absent) {
            (Some((_, value)), _) => {
                reader.path.push(key.to_owned());
                let read = reader.read_spanned(value);
                reader.path.pop();
                read
            }
            (None, Some(absent)) => absent(),
            (None, None) => {
                let place =
                    if reader.path.is_empty() { "the file".to_owned() } else { format!("[{}]", reader.path.join(".")) };
                let what = match T::shape() {
                    Shape::Value(what) => format!("add it: {what}"),
                    Shape::Table(_) => format!("add a table [{key}]"),
                    Shape::Tables(_) => format!("add a table [[{key}]]"),
                };
                reader.wrong(self.at.clone(), format!("`{key}` is missing in {place}; {what}"));
                None
            }
        }
    }
}

/// Where the check of a table, once it is read, notes what is wrong with its values together.
#[derive(Debug)]
pub struct Checks<'a, 'r> {
    table: &'a TableNode<'a>,
    reader: &'a mut Reader<'r>,
}

impl<'a, 'r> Checks<'a, 'r> {
    /// The checks of this table.
    pub fn new(table: &'a TableNode<'a>, reader: &'a mut Reader<'r>) -> Self {
        Self { table, reader }
    }

    /// Notes that a key is wrong; the message follows its name: "must be ...".
    pub fn key(&mut self, key: &str, message: impl fmt::Display) {
        let found = self.table.table.iter().find(|(name, _)| name.get_ref() == key);
        let at = found.map_or_else(|| self.table.at.clone(), |(name, _)| name.span());
        let path: Vec<&str> = self.reader.path.iter().map(String::as_str).chain([key]).collect();
        let path = path.join(".");
        self.reader.wrong(at, format!("`{path}` {message}"));
    }
}

/// The known name that was probably meant.
fn nearest<'k>(name: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let alike = known.map(|known| (strsim::jaro_winkler(name, known), known)).filter(|(alike, _)| *alike > 0.82);
    alike.max_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, known)| known)
}

/// The table that has this key.
fn home_of(name: &str, table: &Table, path: &str) -> Option<String> {
    table.fields.iter().find_map(|field| {
        let below = if path.is_empty() { field.key.to_owned() } else { format!("{path}.{}", field.key) };
        let (inner, header) = match field.shape {
            Shape::Value(_) => return None,
            Shape::Table(inner) => (inner(), format!("[{below}]")),
            Shape::Tables(inner) => (inner(), format!("[[{below}]]")),
        };
        if inner.fields.iter().any(|field| field.key == name) { Some(header) } else { home_of(name, &inner, &below) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Secret;
    use std::time::Duration;

    crate::config! {
        /// One listener.
        #[check = Listen::check]
        #[required]
        pub struct Listen {
            /// Where.
            #[example = r#""127.0.0.1:8008""#]
            pub address: std::net::SocketAddr,
            /// How many.
            pub connections_max: u32 = 100,
            /// A name.
            pub label: Option<String>,
        }
    }

    impl Listen {
        fn check(&self, wrong: &mut Checks<'_, '_>) {
            if self.connections_max == 0 {
                wrong.key("connections_max", "must be at least 1");
            }
        }
    }

    crate::config_choice! {
        /// Colours.
        pub enum Colour {
            /// Red.
            Red = "red",
            /// Green.
            Green = "green",
        }
    }

    crate::config! {
        /// Limits.
        pub struct Limits {
            /// Whether.
            pub enabled: bool = true,
            /// How long.
            pub wait: Duration = Duration::from_secs(30),
            /// Which.
            pub colour: Colour = Colour::Red,
        }
    }

    crate::config! {
        /// All.
        #[required]
        pub struct Root {
            /// Name.
            pub name: String,
            /// Limits.
            pub limits: Limits,
            /// Listeners.
            pub listen: Vec<Listen>,
            /// Hidden.
            pub password: Option<Secret<String>>,
        }
    }

    fn check(text: &str, problems: &[&str]) {
        let found = match parse::<Root>(text, Path::new("etc/a.toml")) {
            Ok(_) => Vec::new(),
            Err(error) => error.to_string().lines().map(str::to_owned).collect(),
        };
        let found: Vec<&str> = found.iter().map(String::as_str).filter(|line| !line.starts_with("    ")).collect();
        assert_eq!(found, problems);
    }

    #[test]
    fn a_complete_file_is_read() {
        let text = "name='a'\npassword='p'\n[limits]\nwait='1m 30s'\ncolour='green'\n[[listen]]\naddress='[::1]:80'";
        let root = parse::<Root>(text, Path::new("a.toml")).unwrap();
        assert_eq!(root.limits.wait, Duration::from_secs(90));
        assert_eq!(root.limits.colour, Colour::Green);
        assert!(root.limits.enabled);
        assert_eq!(root.name, "a");
        assert_eq!(root.listen[0].address, "[::1]:80".parse().unwrap());
        assert_eq!(root.listen[0].connections_max, 100);
        assert_eq!(root.listen[0].label, None);
        assert_eq!(root.password.unwrap().expose(), "p");
    }

    #[test]
    fn every_problem_is_reported_with_its_line_and_key() {
        check(
            "nam='a'\n[limits]\nenabled=1\nwait=30\ncolour='gren'\n[[listen]]\naddress='x'\nname=1\nzzz=2",
            &[
                "etc/a.toml:1:1: unknown key `nam`; did you mean `name`?",
                "etc/a.toml:1:1: `name` is missing in the file; add it: a text",
                "etc/a.toml:3:9: `limits.enabled` must be true or false, not a whole number",
                "etc/a.toml:4:6: `limits.wait` must be a duration such as \"30s\", \"5m\" or \"1h 30m\", not a whole number",
                "etc/a.toml:5:8: `limits.colour` must be one of \"red\", \"green\", not \"gren\"; did you mean \"green\"?",
                "etc/a.toml:7:9: `listen.address` must be an address with a port such as \"127.0.0.1:8008\", not \"x\"",
                "etc/a.toml:8:1: unknown key `name` in [listen]; remove it, or use one of `address`, `connections_max`, `label`",
                "etc/a.toml:9:1: unknown key `zzz` in [listen]; remove it, or use one of `address`, `connections_max`, `label`",
            ],
        );
    }

    #[test]
    fn a_key_in_the_wrong_table_is_sent_home() {
        check("name='a'\nwait='1s'", &["etc/a.toml:2:1: unknown key `wait`; `wait` belongs in [limits]"]);
        check("name='a'\naddress='1s'", &["etc/a.toml:2:1: unknown key `address`; `address` belongs in [[listen]]"]);
    }

    #[test]
    fn a_check_names_its_key() {
        let text = "name='a'\n[[listen]]\naddress='1.2.3.4:5'\nconnections_max=0";
        check(text, &["etc/a.toml:4:1: `listen.connections_max` must be at least 1"]);
    }

    #[test]
    fn a_missing_key_of_a_table_names_the_table() {
        check(
            "name='a'\n\n[[listen]]\nlabel='b'",
            &[
                "etc/a.toml:3:1: `address` is missing in [listen]; add it: an address with a port such as \"127.0.0.1:8008\"",
            ],
        );
    }

    #[test]
    fn what_is_not_toml_is_reported() {
        let error = parse::<Root>("name = \n", Path::new("a.toml")).unwrap_err().to_string();
        assert!(error.starts_with("a.toml:1:"), "{error}");
        assert!(error.contains("this isn't TOML"), "{error}");
    }
}
