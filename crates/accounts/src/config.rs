//! The settings.

use base::Secret;
use base::config::{ByteSize, Checks};
use std::time::Duration;

/// The shortest shared secret, in bytes. It makes administrators: take a random one of 32 letters or more.
const SHARED_SECRET_BYTES_MIN: usize = 8;

base::config! {
    /// Accounts: who may register, how passwords are kept, how long sessions last.
    pub struct Config {
        /// Who may register.
        pub registration: Registration,
        /// How passwords are kept.
        pub password: Passwords,
        /// How long sessions last.
        pub sessions: Sessions,
        /// Mail addresses of users.
        pub addresses: Addresses,
    }
}

base::config! {
    /// Mail addresses of users: by them they log in, set new passwords, and are told what happens to their accounts.
    /// They need a mail server: see [agency.mail].
    #[check = Addresses::check]
    pub struct Addresses {
        /// Whether users may add and remove addresses.
        pub changes: bool = true,
        /// Whether an address is needed to register.
        pub required: bool = false,
        /// The domains of addresses that can be used. Empty: any.
        #[example = r#"["agency.example"]"#]
        pub domains: Vec<String>,
        /// Whether anybody who asks is told that an address has an account, or has none. Otherwise that is said in a
        /// mail to the address alone.
        pub tell_in_use: bool = false,
        /// How long the links in mails are good.
        pub link_lifetime: Duration = Duration::from_hours(24),
        /// The host names of pages that people can go on to from such a link, as their app asks for. Others are
        /// left out.
        #[example = r#"["app.agency.example"]"#]
        pub next_links: Vec<String>,
        /// Whether users get a mail when their password was changed.
        pub notify_password_changed: bool = true,
        /// Whether users get a mail when somebody logs in to their account.
        pub notify_new_login: bool = false,
    }
}

base::config_choice! {
    /// Who may register.
    pub enum RegistrationMode {
        /// Nobody: accounts are made by the operator.
        Closed = "closed",
        /// Who has one of the tokens.
        Token = "token",
        /// Everybody.
        Open = "open",
    }
}

base::config! {
    /// Registration by clients. Accounts can always be made with `chancery user create`.
    #[check = Registration::check]
    pub struct Registration {
        /// Who may register: "closed" (nobody), "token" (who has one of the tokens) or "open" (everybody).
        pub mode: RegistrationMode = RegistrationMode::Closed,
        /// The tokens of the mode "token", at most 64 letters, digits or `._~-` each. A token can be used any
        /// number of times until it is removed here. Administrators can make others, which expire or are used up.
        #[example = r#"["a-long-random-word"]"#]
        pub tokens: Vec<Secret<String>>,
        /// Whether guests may come in: accounts without a password that can read rooms that the world may read,
        /// and join those that let guests in, until they register.
        pub guests: bool = false,
        /// Policies that must be accepted to register.
        pub terms: Vec<Terms>,
        /// The secret with which tools make accounts at /_synapse/admin/v1/register, whatever the mode, also
        /// for administrators. Unset: they can't.
        #[example = r#""a-long-random-secret""#]
        pub shared_secret: Option<Secret<String>>,
    }
}

base::config! {
    /// A policy that must be accepted to register, in one language. Several tables with the same policy and
    /// version give it in several languages.
    #[required]
    pub struct Terms {
        /// What identifies the policy: a lower-case word.
        #[example = r#""privacy_policy""#]
        pub policy: String,
        /// Its version. With a new version it is another policy.
        #[example = r#""1.0""#]
        pub version: String,
        /// The language of the text.
        #[example = r#""en""#]
        pub language: String,
        /// Its title in that language.
        #[example = r#""Privacy policy""#]
        pub name: String,
        /// Where the text is.
        #[example = r#""https://example.org/privacy-1.0-en.html""#]
        pub url: String,
    }
}

base::config! {
    /// Passwords. They are kept as Argon2id hashes; the costs apply to passwords that are set from now on.
    #[check = Passwords::check]
    pub struct Passwords {
        /// The shortest password that is accepted, in characters.
        pub length_min: usize = 8,
        /// The memory that hashing one password takes.
        pub argon2_memory: ByteSize = ByteSize::kib(19_456),
        /// How many times that memory is passed over.
        pub argon2_passes: u32 = 2,
        /// How many lanes the memory has.
        pub argon2_lanes: u32 = 1,
        /// How many passwords are hashed at once. Unset: as many as the machine has processors.
        #[example = "4"]
        pub hashing_at_once_max: Option<usize>,
        /// How many more may wait for it; what comes then is told to try later.
        pub hashing_queue_max: usize = 200,
    }
}

base::config! {
    /// Sessions.
    #[check = Sessions::check]
    pub struct Sessions {
        /// How long an access token lasts that its client can refresh.
        pub access_token_lifetime: Duration = Duration::from_hours(1),
        /// How long a refresh token lasts that is not used. Unset: forever.
        #[example = r#""4w""#]
        pub refresh_token_lifetime: Option<Duration>,
        /// How long a session of a client lasts that cannot refresh its token; then it has to log in again, and
        /// keeps its device. Unset: forever.
        #[example = r#""1w""#]
        pub unrefreshable_lifetime: Option<Duration>,
        /// How often it is noted when and from where a device was last seen.
        pub last_seen_every: Duration = Duration::from_mins(5),
        /// How many sessions are remembered in memory. Each takes about 400 bytes.
        pub cached_max: usize = 100_000,
    }
}

impl Addresses {
    /// Whether addresses of a domain can be used; it is in small letters.
    #[must_use]
    pub fn allows_domain(&self, domain: &str) -> bool {
        self.domains.is_empty() || self.domains.iter().any(|allowed| allowed.to_lowercase() == domain)
    }

    /// Whether people can go on to a page: over HTTPS, on one of the hosts.
    #[must_use]
    pub fn allows_next_link(&self, link: &str, bytes_max: usize) -> bool {
        let host = link.strip_prefix("https://").and_then(|rest| rest.split(['/', '?', '#']).next());
        let is_plain = link.len() <= bytes_max && !link.contains(|letter: char| letter.is_control() || letter == '\\');
        host.is_some_and(|host| is_plain && self.next_links.iter().any(|known| known.eq_ignore_ascii_case(host)))
    }

    fn check(&self, wrong: &mut Checks<'_, '_>) {
        if self.link_lifetime < Duration::from_mins(1) {
            wrong.key("link_lifetime", "must be at least a minute");
        }
        if self.domains.iter().any(|domain| domain.is_empty() || domain.contains('@')) {
            wrong.key("domains", "must be domains such as \"agency.example\"");
        }
    }
}

impl Registration {
    fn check(&self, wrong: &mut Checks<'_, '_>) {
        if !self.tokens.iter().all(|token| crate::is_token(token.expose())) {
            wrong.key("tokens", "must be 1 to 64 letters, digits or ._~- each");
        }
        if self.shared_secret.as_ref().is_some_and(|secret| secret.expose().len() < SHARED_SECRET_BYTES_MIN) {
            wrong.key("shared_secret", format_args!("must have at least {SHARED_SECRET_BYTES_MIN} bytes"));
        }
        if self.terms.iter().any(|terms| terms.language == "version") {
            wrong.key("terms", "cannot have a language called \"version\"");
        }
    }
}

impl Passwords {
    fn check(&self, wrong: &mut Checks<'_, '_>) {
        if let Err(error) = crate::password::params(self) {
            wrong.key("argon2_memory", format_args!("and its passes and lanes don't go together: {error}"));
        }
        if self.hashing_at_once_max == Some(0) {
            wrong.key("hashing_at_once_max", "must be at least 1");
        }
    }
}

impl Sessions {
    fn check(&self, wrong: &mut Checks<'_, '_>) {
        if self.access_token_lifetime < Duration::from_secs(10) {
            wrong.key("access_token_lifetime", "must be at least 10s");
        }
        if self.cached_max == 0 {
            wrong.key("cached_max", "must be at least 1");
        }
    }
}
