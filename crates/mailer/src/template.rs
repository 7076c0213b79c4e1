//! Mails put into words.

use crate::transport::SetupError;
use crate::{EmailAddress, Language, Mail};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, UndefinedBehavior};
use std::path::Path;

/// The largest template of the operator's, in bytes.
const TEMPLATE_BYTES_MAX: u64 = 256 * 1024;

macro_rules! templates {
    ($($(#[$doc:meta])* $variant:ident = $name:literal;)*) => {
        /// What a mail says.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Template {
            $($(#[$doc])* $variant,)*
        }

        impl Template {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// What its files are called.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            fn built_in(self, language: Language) -> &'static str {
                match (self, language) {
                    $(
                        (Self::$variant, Language::English) =>
                            include_str!(concat!("templates/", $name, ".en.txt")),
                        (Self::$variant, Language::Russian) =>
                            include_str!(concat!("templates/", $name, ".ru.txt")),
                    )*
                }
            }
        }
    };
}

templates! {
    /// Somebody registers with this address: `link`.
    Register = "register";
    /// Somebody wants to register with this address, which has an account: `user_id`.
    AlreadyRegistered = "already_registered";
    /// A user adds this address to their account: `link`.
    AddAddress = "add_address";
    /// Somebody wants to set a new password: `link`.
    ResetPassword = "reset_password";
    /// Somebody wants to set a new password, but there is no account with this address.
    NoAccount = "no_account";
    /// The password of an account was changed: `user_id`, `at`.
    PasswordChanged = "password_changed";
    /// Somebody logged in: `user_id`, `device`, `address`, `at`.
    NewLogin = "new_login";
    /// What a user has not read: `user_id`, `rooms` (each `name` and `messages` of `sender`, `text`, `at`), `more`,
    /// `unsubscribe`.
    Digest = "digest";
}

/// A mail in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// To whom.
    pub to: EmailAddress,
    /// Its subject.
    pub subject: String,
    /// What it says.
    pub text: String,
    /// The same as HTML.
    pub html: String,
    /// Where one unsubscribes from mails like it.
    pub unsubscribe: Option<String>,
}

/// All templates, the operator's among them.
#[derive(Debug)]
pub(crate) struct Templates {
    environment: Environment<'static>,
    agency: String,
}

/// How a text becomes HTML, where the operator has given none: its paragraphs, with the links in them.
const PAGE: &str = include_str!("templates/page.html");

impl Templates {
    /// The built-in ones.
    pub fn built_in(agency: &str) -> Self {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Lenient);
        match SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build() {
            Ok(syntax) => environment.set_syntax(syntax),
            Err(error) => tracing::error!(%error, "templates can't have blocks on lines of their own"),
        }
        let mut templates = Self { environment, agency: agency.to_owned() };
        for template in Template::ALL {
            for language in Language::ALL {
                let name = format!("{}.{}.txt", template.name(), language.tag());
                if let Err(error) = templates.add(name, template.built_in(language).to_owned()) {
                    tracing::error!(%error, "a built-in template is wrong");
                }
            }
        }
        if let Err(error) = templates.add("page.html".to_owned(), PAGE.to_owned()) {
            tracing::error!(%error, "a built-in template is wrong");
        }
        templates
    }

    /// The built-in ones, and those of a folder in their place.
    pub fn load(folder: Option<&Path>, agency: &str) -> Result<Self, SetupError> {
        let mut templates = Self::built_in(agency);
        let Some(folder) = folder else { return Ok(templates) };
        let names = Template::ALL.iter().flat_map(|template| {
            let of = |language: Language, kind| format!("{}.{}.{kind}", template.name(), language.tag());
            Language::ALL.into_iter().flat_map(move |language| [of(language, "txt"), of(language, "html")])
        });
        for name in names.chain(["page.html".to_owned()]) {
            let file = folder.join(&name);
            let failed = |source| SetupError::File { file: file.clone(), source };
            match std::fs::metadata(&file) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(failed(error)),
                Ok(found) if found.len() > TEMPLATE_BYTES_MAX => {
                    let why = format!("it has more than {TEMPLATE_BYTES_MAX} bytes");
                    return Err(SetupError::Template { name, why });
                }
                Ok(_) => {}
            }
            let source = std::fs::read_to_string(&file).map_err(failed)?;
            if file.extension().is_some_and(|kind| kind == "txt") && split_subject(&source).0.is_empty() {
                let why = "its first line must be `Subject:` and the subject".to_owned();
                return Err(SetupError::Template { name, why });
            }
            templates.add(name, source)?;
        }
        Ok(templates)
    }

    fn add(&mut self, name: String, source: String) -> Result<(), SetupError> {
        self.environment
            .add_template_owned(name.clone(), source)
            .map_err(|error| SetupError::Template { name, why: error.to_string() })
    }

    /// Puts a mail into words. A template of the operator's that fails is replaced by the built-in one.
    pub fn render(&self, mail: &Mail) -> Rendered {
        let rendered = self.try_render(mail).or_else(|error| {
            tracing::error!(template = mail.template.name(), %error, "a template of mails fails");
            Self::built_in(&self.agency).try_render(mail)
        });
        rendered.unwrap_or_else(|error| {
            tracing::error!(template = mail.template.name(), %error, "a built-in template of mails fails");
            Rendered {
                to: mail.to.clone(),
                subject: self.agency.clone(),
                text: String::new(),
                html: String::new(),
                unsubscribe: mail.unsubscribe.clone(),
            }
        })
    }

    fn try_render(&self, mail: &Mail) -> Result<Rendered, minijinja::Error> {
        let name = |kind| format!("{}.{}.{kind}", mail.template.name(), mail.language.tag());
        let values = minijinja::context! {
            agency => &self.agency,
            language => mail.language.tag(),
            ..minijinja::Value::from(Serde(&mail.values))
        };
        let whole = self.environment.get_template(&name("txt"))?.render(&values)?;
        let (subject, text) = split_subject(&whole);
        let html = match self.environment.get_template(&name("html")) {
            Ok(template) => template.render(&values)?,
            Err(_) => {
                let paragraphs = text.split("\n\n").map(str::trim).filter(|text| !text.is_empty());
                let paragraphs: Vec<String> = paragraphs.map(ToOwned::to_owned).collect();
                let link = mail.values.get("link");
                let values = minijinja::context! { paragraphs, subject, link, ..values };
                self.environment.get_template("page.html")?.render(&values)?
            }
        };
        Ok(Rendered {
            to: mail.to.clone(),
            // What a user calls themself must not become another header.
            subject: subject.chars().filter(|letter| !letter.is_control()).collect(),
            text: text.to_owned(),
            html,
            unsubscribe: mail.unsubscribe.clone(),
        })
    }
}

/// The subject, and what follows it.
fn split_subject(whole: &str) -> (&str, &str) {
    let (first, rest) = whole.split_once('\n').unwrap_or((whole, ""));
    match first.strip_prefix("Subject:") {
        Some(subject) => (subject.trim(), rest.trim()),
        None => ("", whole.trim()),
    }
}
