//! The settings `[agency.mail]`.

use crate::Language;
use base::config::Checks;
use std::path::PathBuf;
use std::time::Duration;

base::config_choice! {
    /// How the connection to the mail server is protected.
    pub enum TlsMode {
        /// By TLS from its start, port 465.
        Tls = "tls",
        /// By TLS once it is there, which the server must offer; port 587.
        StartTls = "starttls",
        /// Not at all, port 25: for a server on this machine or a network of its own.
        None = "none",
    }
}

base::config! {
    /// Mail: the server through which users get mails. Without one there are none: addresses can't be verified, and
    /// passwords can't be reset by mail.
    #[check = Config::check]
    pub struct Config {
        /// The host name of the mail server. Unset: there are no mails.
        #[example = r#""mail.agency.example""#]
        pub server: Option<String>,
        /// Its port. Unset: that of the mode.
        #[example = "587"]
        pub port: Option<u16>,
        /// How the connection is protected: "tls" (port 465), "starttls" (port 587) or "none" (port 25).
        pub tls: TlsMode = TlsMode::StartTls,
        /// The user name for the mail server. Unset: it takes mails without.
        #[example = r#""chancery""#]
        pub user: Option<String>,
        /// The file that has the password for it, and nothing else.
        #[example = r#""/etc/chancery/mail-password""#]
        pub password_file: Option<PathBuf>,
        /// From whom mails are.
        #[example = r#""Chancery <no-reply@agency.example>""#]
        pub from: Option<String>,
        /// A folder with templates in the place of the built-in ones: files such as `reset_password.ru.txt` and
        /// `reset_password.ru.html`. What is not there is as it is built in. The first line of a text is
        /// `Subject:` and the subject.
        #[example = r#""/etc/chancery/mails""#]
        pub templates: Option<PathBuf>,
        /// The language of mails to those of whom no other is known: "en" or "ru".
        pub language: Language = Language::English,
        /// How long the mail server may take with each step.
        pub timeout: Duration = Duration::from_secs(30),
        /// How many mails may wait. What comes then is refused.
        pub queue_max: usize = 10_000,
        /// How many mails are sent at once.
        pub connections_max: u32 = 4,
        /// How long it is waited after the first failure. After each further one it is twice as long.
        pub retry_first: Duration = Duration::from_secs(30),
        /// How long it is tried to send a mail.
        pub give_up_after: Duration = Duration::from_hours(12),
    }
}

impl Config {
    fn check(&self, wrong: &mut Checks<'_, '_>) {
        if self.server.is_some() && self.from.is_none() {
            wrong.key("from", "must be given where there is a mail server");
        }
        if self.from.as_deref().is_some_and(|from| from.parse::<lettre::message::Mailbox>().is_err()) {
            wrong.key("from", "must be an address such as \"Chancery <no-reply@agency.example>\"");
        }
        if self.user.is_some() != self.password_file.is_some() {
            wrong.key("user", "and password_file must be given both or not at all");
        }
        if self.queue_max == 0 || self.connections_max == 0 {
            wrong.key("queue_max", "and connections_max must be at least 1");
        }
        for (key, duration) in
            [("timeout", self.timeout), ("retry_first", self.retry_first), ("give_up_after", self.give_up_after)]
        {
            if duration.is_zero() {
                wrong.key(key, "must be longer than zero");
            }
        }
    }
}
