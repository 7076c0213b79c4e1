//! The settings that everybody needs.

use super::{Node, Reader, Setting, Shape};
use crate::Secret;
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

impl Setting for bool {
    fn shape() -> Shape {
        Shape::Value("true or false")
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        node.boolean().or_else(|| reader.wrong_type(node, "true or false"))
    }

    fn show(&self) -> Option<String> {
        Some(self.to_string())
    }
}

macro_rules! integers {
    ($($type:ty),*) => {$(
        impl Setting for $type {
            fn shape() -> Shape {
                Shape::Value("a whole number")
            }

            fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
                let Some(integer) = node.integer() else {
                    return reader.wrong_type(node, "a whole number");
                };
                let read = Self::try_from(integer).ok();
                if read.is_none() {
                    reader.wrong_value(node, format_args!("must be between {} and {}", Self::MIN, Self::MAX));
                }
                read
            }

            fn show(&self) -> Option<String> {
                Some(self.to_string())
            }
        }
    )*};
}

integers!(u8, u16, u32, u64, usize, i64);

impl Setting for f64 {
    fn shape() -> Shape {
        Shape::Value("a number")
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let number = node.number().filter(|number| number.is_finite());
        number.or_else(|| reader.wrong_type(node, "a number"))
    }

    fn show(&self) -> Option<String> {
        Some(format!("{self:?}"))
    }
}

impl Setting for String {
    fn shape() -> Shape {
        Shape::Value("a text")
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        node.text().map(str::to_owned).or_else(|| reader.wrong_type(node, "a text"))
    }

    fn show(&self) -> Option<String> {
        Some(quoted(self))
    }
}

impl Setting for Secret<String> {
    fn shape() -> Shape {
        Shape::Value("a text")
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        String::read(node, reader).map(Self::new)
    }

    fn show(&self) -> Option<String> {
        None
    }
}

impl Setting for PathBuf {
    fn shape() -> Shape {
        Shape::Value("a path")
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let Some(text) = node.text().filter(|text| !text.is_empty()) else {
            return reader.wrong_type(node, "a path");
        };
        Some(reader.folder().join(text))
    }

    fn show(&self) -> Option<String> {
        Some(quoted(&self.to_string_lossy()))
    }
}

macro_rules! parsed {
    ($($type:ty, $what:literal);* $(;)?) => {$(
        impl Setting for $type {
            fn shape() -> Shape {
                Shape::Value($what)
            }

            fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
                let Some(text) = node.text() else {
                    return reader.wrong_type(node, $what);
                };
                let read = text.parse().ok();
                if read.is_none() {
                    reader.wrong_value(node, format_args!("must be {}, not \"{text}\"", $what));
                }
                read
            }

            fn show(&self) -> Option<String> {
                Some(quoted(&self.to_string()))
            }
        }
    )*};
}

parsed! {
    SocketAddr, "an address with a port such as \"127.0.0.1:8008\"";
    IpAddr, "an address such as \"127.0.0.1\"";
    ByteSize, "a size such as \"512 KiB\", \"64 MiB\" or \"2 GiB\"";
}

impl<T: Setting> Setting for Option<T> {
    const OPTIONAL: bool = true;

    fn shape() -> Shape {
        T::shape()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        T::read(node, reader).map(Some)
    }

    fn absent() -> Option<Self> {
        Some(None)
    }

    fn show(&self) -> Option<String> {
        self.as_ref().and_then(T::show)
    }
}

impl<T: Setting> Setting for Vec<T> {
    const OPTIONAL: bool = true;

    fn shape() -> Shape {
        match T::shape() {
            Shape::Value(_) => Shape::Value("a list"),
            Shape::Table(table) | Shape::Tables(table) => Shape::Tables(table),
        }
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        reader.items(node)
    }

    fn absent() -> Option<Self> {
        Some(Self::new())
    }

    fn show(&self) -> Option<String> {
        match T::shape() {
            Shape::Value(_) => Some(format!("[{}]", self.iter().filter_map(T::show).collect::<Vec<_>>().join(", "))),
            Shape::Table(_) | Shape::Tables(_) => None,
        }
    }
}

impl Setting for BTreeMap<String, String> {
    const OPTIONAL: bool = true;

    fn shape() -> Shape {
        Shape::Value("a table of texts")
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        reader.texts(node)
    }

    fn absent() -> Option<Self> {
        Some(Self::new())
    }

    fn show(&self) -> Option<String> {
        let entries = self.iter().map(|(key, value)| format!("{} = {}", quoted(key), quoted(value)));
        let entries = entries.collect::<Vec<_>>().join(", ");
        Some(if entries.is_empty() { "{}".to_owned() } else { format!("{{ {entries} }}") })
    }
}

/// The parts of a duration, longest first: name and milliseconds.
const UNITS: [(&str, u64); 6] =
    [("w", 604_800_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

const DURATION: &str = "a duration such as \"30s\", \"5m\" or \"1h 30m\"";

impl Setting for Duration {
    fn shape() -> Shape {
        Shape::Value(DURATION)
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let Some(text) = node.text() else {
            return reader.wrong_type(node, DURATION);
        };
        let read = parse_duration(text);
        if read.is_none() {
            reader.wrong_value(node, format_args!("must be {DURATION}, not \"{text}\""));
        }
        read
    }

    fn show(&self) -> Option<String> {
        let mut left = u64::try_from(self.as_millis()).unwrap_or(u64::MAX);
        let mut parts = Vec::new();
        for (unit, millis) in UNITS {
            if left >= millis {
                parts.push(format!("{}{unit}", left / millis));
                left %= millis;
            }
        }
        Some(if parts.is_empty() { quoted("0s") } else { quoted(&parts.join(" ")) })
    }
}

fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut total: u64 = 0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, after) = rest.split_at(digits);
        let after = after.trim_start();
        let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let millis = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, millis)| *millis)?;
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(millis)?)?;
        rest = after.trim_start();
    }
    Some(Duration::from_millis(total))
}

/// A number of bytes, written with its unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

const SIZES: [(&str, u64); 8] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1000),
    ("B", 1),
];

impl ByteSize {
    /// So many KiB.
    #[must_use]
    pub const fn kib(n: u64) -> Self {
        Self(n << 10)
    }

    /// So many MiB.
    #[must_use]
    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }

    /// So many GiB.
    #[must_use]
    pub const fn gib(n: u64) -> Self {
        Self(n << 30)
    }

    /// The number of bytes, or as many as this machine can address.
    #[must_use]
    pub fn bytes(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = SIZES.iter().find(|(_, bytes)| self.0 >= *bytes && self.0.is_multiple_of(*bytes));
        let (unit, bytes) = fits.copied().unwrap_or(("B", 1));
        write!(f, "{} {unit}", self.0 / bytes)
    }
}

impl std::str::FromStr for ByteSize {
    type Err = NotASize;

    fn from_str(text: &str) -> Result<Self, NotASize> {
        let text = text.trim();
        let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or(NotASize)?;
        let (number, unit) = text.split_at(digits);
        let known = SIZES.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit.trim_start()));
        let (_, bytes) = known.ok_or(NotASize)?;
        let number: u64 = number.parse().map_err(|_| NotASize)?;
        number.checked_mul(*bytes).map(Self).ok_or(NotASize)
    }
}

/// A text isn't a size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a size is a number with its unit, such as \"64 MiB\"")]
pub struct NotASize;

/// A text as TOML.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c if c.is_control() => out.extend(format!("\\u{:04X}", u32::from(c)).chars()),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_back_as_they_are_shown() {
        for text in ["0s", "1ms", "30s", "1m 30s", "1h", "2d 4h", "1w"] {
            let duration = parse_duration(text).unwrap();
            assert_eq!(duration.show().unwrap(), format!("\"{text}\""));
        }
        for text in ["", "5", "s", "5 parsecs", "1s1", "-1s", "99999999999999999999s", "9999999999999999w"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_read_back_as_they_are_shown() {
        for text in ["0 B", "1 B", "512 KiB", "64 MiB", "2 GiB", "3 kB", "5 MB"] {
            assert_eq!(text.parse::<ByteSize>().unwrap().to_string(), text);
        }
        assert_eq!("64mib".parse(), Ok(ByteSize::mib(64)));
        for text in ["", "5", "MiB", "1 MiBs", "99999999999999999999 B", "99999999999 TiB"] {
            assert_eq!(text.parse::<ByteSize>(), Err(NotASize), "{text}");
        }
    }

    #[test]
    fn a_text_is_quoted_as_toml() {
        assert_eq!(quoted("a\"b\\c\n"), r#""a\"b\\c\n""#);
    }
}
