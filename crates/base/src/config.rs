//! Configuration files: what a crate can be told, declared once.
//!
//! [`config!`](crate::config!) declares a table of settings. From the one declaration come the struct, its
//! defaults, the reader of the TOML file (which reports every problem at once, each with line, key, the
//! nearest known key and the fix) and the section of `config.example.toml`:
//!
//! ```
//! use base::config::ByteSize;
//! use std::time::Duration;
//!
//! base::config! {
//!     /// How uploads are treated.
//!     #[check = Config::check]
//!     pub struct Config {
//!         /// The largest file that is accepted.
//!         pub upload_bytes_max: ByteSize = ByteSize::mib(100),
//!         /// How long an upload may take.
//!         pub upload_timeout: Duration = Duration::from_secs(600),
//!         /// Where previews are made. Unset: there are none.
//!         #[example = r#""http://127.0.0.1:9000""#]
//!         pub preview_url: Option<String>,
//!     }
//! }
//!
//! impl Config {
//!     fn check(&self, wrong: &mut base::config::Checks<'_, '_>) {
//!         if self.upload_timeout.is_zero() {
//!             wrong.key("upload_timeout", "must be longer than zero");
//!         }
//!     }
//! }
//!
//! let config: Config = base::config::parse("upload_bytes_max = '1 MiB'", "test.toml".as_ref()).unwrap();
//! assert_eq!(config.upload_bytes_max, ByteSize::mib(1));
//! assert_eq!(Config::default().upload_timeout, Duration::from_secs(600));
//!
//! let error = base::config::parse::<Config>("upload_timout = '1m'", "test.toml".as_ref()).unwrap_err();
//! assert!(error.to_string().contains("test.toml:1:1: unknown key `upload_timout`; did you mean `upload_timeout`?"));
//! ```
//!
//! How to declare:
//! - `pub name: Type = default,` has this default. Without `= default` the default is the type's own
//!   (`None`, an empty list, a nested table's defaults).
//! - A struct marked `#[required]` has no `Default`: its fields without a default must be given, unless they
//!   are options, lists or tables that have defaults themselves. Give those an `#[example = "TOML"]`.
//! - A table within a table is a field whose type is another such struct: `pub uploads: media::Config,`
//!   is `[uploads]`, and `pub listen: Vec<Listen>` is `[[listen]]`.
//! - `#[check = function]` names what looks at the values together; see [`Checks`].
//! - The order of attributes is: doc comments, `#[check]`, `#[required]` of a struct; doc comments,
//!   `#[example]` of a field. Doc comments are prose for operators: they appear in the example file.
//! - [`config_choice!`](crate::config_choice!) declares an enum of words. Other types implement [`Setting`].

mod example;
mod read;
mod types;

pub use example::example;
pub use read::{Checks, ConfigError, Node, Problem, Reader, load, parse};
pub use types::ByteSize;

/// A type that a configuration file can set.
pub trait Setting: Sized {
    /// Whether a `#[required]` table may leave it out.
    const OPTIONAL: bool = false;

    /// What it looks like in the file.
    fn shape() -> Shape;

    /// Reads it. `None`: it is wrong, and the reader was told.
    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Self>;

    /// What it is if the file doesn't have it. Called only if it is [`Self::OPTIONAL`].
    #[must_use]
    fn absent() -> Option<Self> {
        None
    }

    /// The value as TOML, for the example file. `None`: it is unset, a secret, or a table with such.
    fn show(&self) -> Option<String>;
}

/// What a setting looks like in the file.
#[derive(Clone, Debug)]
pub enum Shape {
    /// One value: a phrase that says which, such as "a duration such as \"30s\"".
    Value(&'static str),
    /// A table, `[name]`.
    Table(fn() -> Table),
    /// A list of tables, `[[name]]`.
    Tables(fn() -> Table),
}

/// What is known about a table.
#[derive(Clone, Debug)]
pub struct Table {
    /// What it is for.
    pub doc: &'static [&'static str],
    /// Its settings, in the order of declaration.
    pub fields: Vec<Field>,
}

/// What is known about a setting.
#[derive(Clone, Debug)]
pub struct Field {
    /// Its name.
    pub key: &'static str,
    /// What it is for, by line.
    pub doc: &'static [&'static str],
    /// What it looks like.
    pub shape: Shape,
    /// Its default as TOML. A table has one if it is declared with `= default`; it is then shown on one
    /// line instead of as a section.
    pub default: Option<String>,
    /// Another value as TOML, for where the default shows nothing.
    pub example: Option<&'static str>,
    /// Whether the table may leave it out.
    pub optional: bool,
}

/// A table on one line; `None` if a field shows nothing.
#[doc(hidden)]
#[must_use]
pub fn inline_table(fields: &[(&str, Option<String>)]) -> Option<String> {
    let fields = fields.iter().map(|(key, value)| value.as_ref().map(|value| format!("{key} = {value}")));
    fields.collect::<Option<Vec<_>>>().map(|fields| format!("{{ {} }}", fields.join(", ")))
}

/// Declares a table of settings. See [the module](mod@crate::config).
#[macro_export]
macro_rules! config {
    (
        $(#[doc = $doc:literal])*
        $(#[check = $check:path])?
        #[required]
        pub struct $name:ident {
            $(
                $(#[doc = $field_doc:literal])*
                $(#[example = $example:literal])?
                pub $field:ident: $type:ty $(= $default:expr)?
            ),* $(,)?
        }
    ) => {
        $(#[doc = $doc])*
        #[derive(Clone, Debug)]
        pub struct $name {
            $($(#[doc = $field_doc])* pub $field: $type,)*
        }

        impl $crate::config::Setting for $name {
            fn shape() -> $crate::config::Shape {
                $crate::config::Shape::Table(Self::table)
            }

            fn read(node: $crate::config::Node<'_>, reader: &mut $crate::config::Reader<'_>) -> Option<Self> {
                let table = reader.table(node, &Self::table())?;
                $(
                    let $field = table.field::<$type>(
                        reader,
                        stringify!($field),
                        $crate::config!(@absent $type $(, $default)?),
                    );
                )*
                let read = Self { $($field: $field?,)* };
                $($check(&read, &mut $crate::config::Checks::new(&table, reader));)?
                Some(read)
            }

            fn show(&self) -> Option<String> {
                let fields = [$((stringify!($field), $crate::config::Setting::show(&self.$field))),*];
                $crate::config::inline_table(&fields)
            }
        }

        impl $name {
            /// What is known about the table.
            #[must_use]
            pub fn table() -> $crate::config::Table {
                $crate::config::Table {
                    doc: &[$($doc),*],
                    fields: vec![$($crate::config::Field {
                        key: stringify!($field),
                        doc: &[$($field_doc),*],
                        shape: <$type as $crate::config::Setting>::shape(),
                        default: $crate::config!(@shown $type $(, $default)?),
                        example: $crate::config!(@example $($example)?),
                        optional: $crate::config!(@optional $type $(, $default)?),
                    }),*],
                }
            }
        }
    };
    (
        $(#[doc = $doc:literal])*
        $(#[check = $check:path])?
        pub struct $name:ident {
            $(
                $(#[doc = $field_doc:literal])*
                $(#[example = $example:literal])?
                pub $field:ident: $type:ty $(= $default:expr)?
            ),* $(,)?
        }
    ) => {
        $(#[doc = $doc])*
        #[derive(Clone, Debug)]
        pub struct $name {
            $($(#[doc = $field_doc])* pub $field: $type,)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $crate::config!(@default $type $(, $default)?),)* }
            }
        }

        impl $crate::config::Setting for $name {
            const OPTIONAL: bool = true;

            fn shape() -> $crate::config::Shape {
                $crate::config::Shape::Table(Self::table)
            }

            fn read(node: $crate::config::Node<'_>, reader: &mut $crate::config::Reader<'_>) -> Option<Self> {
                let table = reader.table(node, &Self::table())?;
                $(
                    let $field = table.field::<$type>(
                        reader,
                        stringify!($field),
                        Some(|| Some($crate::config!(@default $type $(, $default)?))),
                    );
                )*
                let read = Self { $($field: $field?,)* };
                $($check(&read, &mut $crate::config::Checks::new(&table, reader));)?
                Some(read)
            }

            fn absent() -> Option<Self> {
                Some(Self::default())
            }

            fn show(&self) -> Option<String> {
                let fields = [$((stringify!($field), $crate::config::Setting::show(&self.$field))),*];
                $crate::config::inline_table(&fields)
            }
        }

        impl $name {
            /// What is known about the table.
            #[must_use]
            pub fn table() -> $crate::config::Table {
                $crate::config::Table {
                    doc: &[$($doc),*],
                    fields: vec![$($crate::config::Field {
                        key: stringify!($field),
                        doc: &[$($field_doc),*],
                        shape: <$type as $crate::config::Setting>::shape(),
                        default: $crate::config!(@shown_plain $type $(, $default)?),
                        example: $crate::config!(@example $($example)?),
                        optional: true,
                    }),*],
                }
            }
        }
    };
    (@default $type:ty) => { <$type as Default>::default() };
    (@default $type:ty, $default:expr) => { $default };
    (@absent $type:ty) => {
        <$type as $crate::config::Setting>::OPTIONAL.then_some(<$type as $crate::config::Setting>::absent)
    };
    (@absent $type:ty, $default:expr) => { Some(|| Some($default)) };
    (@shown $type:ty) => {
        match <$type as $crate::config::Setting>::shape() {
            $crate::config::Shape::Value(_) => <$type as $crate::config::Setting>::absent()
                .and_then(|absent| <$type as $crate::config::Setting>::show(&absent)),
            $crate::config::Shape::Table(_) | $crate::config::Shape::Tables(_) => None,
        }
    };
    (@shown $type:ty, $default:expr) => { <$type as $crate::config::Setting>::show(&$default) };
    (@shown_plain $type:ty) => {
        match <$type as $crate::config::Setting>::shape() {
            $crate::config::Shape::Value(_) => {
                <$type as $crate::config::Setting>::show(&<$type as Default>::default())
            }
            $crate::config::Shape::Table(_) | $crate::config::Shape::Tables(_) => None,
        }
    };
    (@shown_plain $type:ty, $default:expr) => { <$type as $crate::config::Setting>::show(&$default) };
    (@optional $type:ty) => { <$type as $crate::config::Setting>::OPTIONAL };
    (@optional $type:ty, $default:expr) => { true };
    (@example) => { None };
    (@example $example:literal) => { Some($example) };
}

/// Declares an enum of words that a setting can be.
///
/// ```
/// base::config_choice! {
///     /// How logs are written.
///     pub enum Format {
///         /// For people.
///         Text = "text",
///         /// For machines.
///         Json = "json",
///     }
/// }
/// ```
#[macro_export]
macro_rules! config_choice {
    (
        $(#[doc = $doc:literal])*
        pub enum $name:ident {
            $($(#[doc = $variant_doc:literal])* $variant:ident = $word:literal),* $(,)?
        }
    ) => {
        $(#[doc = $doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[doc = $variant_doc])* $variant,)*
        }

        impl $crate::config::Setting for $name {
            fn shape() -> $crate::config::Shape {
                $crate::config::Shape::Value(concat!("one of" $(, " \"", $word, "\"")*))
            }

            fn read(node: $crate::config::Node<'_>, reader: &mut $crate::config::Reader<'_>) -> Option<Self> {
                let choices = [$(($word, Self::$variant)),*];
                reader.choice(node, &choices)
            }

            fn show(&self) -> Option<String> {
                match self { $(Self::$variant => Some(concat!("\"", $word, "\"").to_owned()),)* }
            }
        }
    };
}
