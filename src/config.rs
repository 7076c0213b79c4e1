//! The configuration file: everything an operator can say, complete and checked before any socket opens.

mod network;

pub use network::{Network, ServerName};

use accounts::RegistrationMode;
use base::config::{ByteSize, Checks, ConfigError};
use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What stands at the top of the example file.
const INTRODUCTION: &str = "\
The configuration of `chancery serve`, with every setting there is.

A setting behind a # shows its default, or an example where there is none. What has no # must be set.
Paths are relative to the folder of this file. Check a file with `chancery config check --config FILE`;
certificates are read again on SIGHUP, all else at the start.

This file is generated: `chancery config example` prints it.";

base::config! {
    /// The whole file.
    #[check = Config::check]
    #[required]
    pub struct Config {
        /// A listener for clients: a client, a reverse proxy or another server connects here. There may be
        /// several, and each serves all agencies.
        #[example = ""]
        pub listen: Vec<Listen>,
        /// An agency: a homeserver with a name, users and data of its own. There may be several, which share
        /// the listeners and are told apart by the host name that a client asks for.
        #[example = ""]
        pub agency: Vec<Agency>,
        /// Figures for Prometheus, and the health of the server, on a listener of their own.
        pub metrics: Metrics,
        /// What is logged, to the standard error stream.
        pub log: Log,
        /// What one client may ask of the server.
        pub limits: Limits,
        /// The memory of the stores. The process takes more than that: see below.
        pub memory: Memory,
        /// What happens on SIGTERM and SIGINT.
        pub shutdown: Shutdown,
    }
}

base::config! {
    /// A listener for clients.
    #[required]
    pub struct Listen {
        /// The address and port. `[::]:443` takes IPv4 as well on most machines.
        #[example = r#""127.0.0.1:8008""#]
        pub address: SocketAddr,
        /// The reverse proxies whose X-Forwarded-For header is believed, as addresses or networks. List
        /// yours: otherwise all clients behind it share one rate limit.
        #[example = r#"["127.0.0.1", "::1", "10.0.0.0/8"]"#]
        pub trusted_proxies: Vec<Network>,
        /// Whether the administration API (/_synapse/admin) is answered here. It asks for the access token of an
        /// administrator. For a listener of its own, say false on the others.
        pub admin: bool = true,
        /// The TLS of this listener. Without it the listener speaks plain HTTP, for a reverse proxy on the
        /// same machine.
        pub tls: Option<Tls>,
    }
}

base::config! {
    /// The TLS of a listener.
    #[required]
    pub struct Tls {
        /// The certificate and its chain, as PEM. Read again on SIGHUP.
        #[example = r#""/etc/chancery/tls/fullchain.pem""#]
        pub certificate: PathBuf,
        /// The private key of the certificate, as PEM. Read again on SIGHUP. The user that the server runs as
        /// must be able to read it, and nobody else should.
        #[example = r#""/etc/chancery/tls/privkey.pem""#]
        pub key: PathBuf,
    }
}

base::config! {
    /// One agency.
    #[check = Agency::check]
    #[required]
    pub struct Agency {
        /// The name of the homeserver, the part of user ids after the colon. It can never be changed.
        #[example = r#""agency.example""#]
        pub server_name: ServerName,
        /// The folder of its data. Each agency has its own. It is made if it isn't there, for its owner only.
        #[example = r#""/var/lib/chancery/agency.example""#]
        pub data_dir: PathBuf,
        /// The host names under which clients reach it, besides its server name. If the file has only one
        /// agency, it answers to every host name.
        #[example = r#"["matrix.agency.example"]"#]
        pub hosts: Vec<String>,
        /// The address that clients are told to use.
        #[example = r#""https://matrix.agency.example""#]
        pub public_base_url: String,
        /// Accounts: who may create one, how passwords are kept, how long sessions last.
        pub accounts: accounts::Config,
        /// What new rooms are like.
        pub rooms: Rooms,
        /// Sync: how long clients may wait, and how much is done at once.
        pub sync: sync::Config,
        /// Full-text search.
        pub search: search::Config,
        /// What clients may send, and how often.
        pub clients: client_api::Config,
        /// Files that users upload, and those of other servers.
        pub media: media::Config,
        /// Server notices: messages of the agency to its users, each in a room of their own.
        pub server_notices: admin_api::NoticesConfig,
        /// Other homeservers.
        pub federation: remote::Config,
        /// Mail: the server through which users get mails. Without one there are none: addresses can't be verified,
        /// and passwords can't be reset by mail.
        pub mail: mailer::Config,
        /// Push notifications: telling users' phones of messages through the push gateways of their apps.
        pub push: delivery::Config,
        /// What the server itself asks of others over HTTP: other homeservers, push gateways, application services,
        /// pages that users link to.
        pub outgoing: remote::outgoing::Config,
        /// What /.well-known/matrix/client, server and support answer under the server name. If another web
        /// server answers there, let it pass these three on.
        pub well_known: WellKnown,
    }
}

base::config! {
    /// What new rooms are like.
    #[check = Rooms::check]
    pub struct Rooms {
        /// The room version of rooms whose creator doesn't choose one, "1" to "12".
        pub default_version: String = "12".to_owned(),
        /// How long what is said is kept.
        pub retention: rooms::Retention,
    }
}

base::config! {
    /// What /.well-known/matrix/... answers.
    #[check = WellKnown::check]
    pub struct WellKnown {
        /// Where other homeservers connect, as a host and a port. Unset: the server name itself, port 8448.
        #[example = r#""matrix.agency.example:443""#]
        pub server: Option<String>,
        /// The page that helps users.
        #[example = r#""https://agency.example/help""#]
        pub support_page: Option<String>,
        /// Who is responsible.
        pub contacts: Vec<Contact>,
    }
}

base::config! {
    /// Who is responsible; a Matrix id or an e-mail address at least.
    #[check = Contact::check]
    #[required]
    pub struct Contact {
        /// For what: "m.role.admin", or "m.role.security" for what is sensitive.
        #[example = r#""m.role.admin""#]
        pub role: String,
        /// The Matrix id.
        #[example = r#""@admin:agency.example""#]
        pub matrix_id: Option<String>,
        /// The e-mail address.
        #[example = r#""admin@agency.example""#]
        pub email_address: Option<String>,
    }
}

base::config! {
    /// Figures for Prometheus.
    pub struct Metrics {
        /// Where /metrics is, with /health/live and /health/ready. Unset: nowhere (the health is on the
        /// listeners for clients too). Keep it from the outside.
        #[example = r#""127.0.0.1:9464""#]
        pub address: Option<SocketAddr>,
    }
}

base::config! {
    /// What is logged.
    #[check = Log::check]
    pub struct Log {
        /// "text" for people or "json" for machines.
        pub format: LogFormat = LogFormat::Text,
        /// Which messages: "error", "warn", "info", "debug" or "trace", and finer with
        /// "info,chancery=debug". Every request is logged at "debug"; "ruma_state_res=warn" keeps out what
        /// the library that authorizes events says of each. The environment variable CHANCERY_LOG overrides
        /// it.
        pub filter: String = "info,ruma_state_res=warn".to_owned(),
    }
}

base::config_choice! {
    /// How logs are written.
    pub enum LogFormat {
        /// For people.
        Text = "text",
        /// For machines, one object a line.
        Json = "json",
    }
}

base::config! {
    /// What one client may ask of the server.
    #[check = Limits::check]
    pub struct Limits {
        /// The largest body of any request. What clients may send is limited further in [agency.clients].
        pub request_bytes_max: ByteSize = ByteSize::mib(2),
        /// The largest head of a request: its line and headers. At least 8 KiB.
        pub head_bytes_max: ByteSize = ByteSize::kib(32),
        /// How long the head of a request, and before it a TLS handshake, may take to arrive; also how long a
        /// connection is kept that has not asked anything yet, and an idle HTTP/1.1 connection. An idle HTTP/2
        /// connection is kept for as long as it answers the ping that it is sent every minute.
        pub head_timeout: Duration = Duration::from_mins(1),
        /// How long a request may take, except one that waits for news (/sync).
        pub request_timeout: Duration = Duration::from_mins(1),
        /// The most connections at once, over all listeners. More wait to be accepted.
        pub connections_max: u32 = 250_000,
        /// The most requests at once on one HTTP/2 connection.
        pub streams_max: u32 = 100,
    }
}

base::config! {
    /// The memory of the stores.
    #[check = Memory::check]
    pub struct Memory {
        /// What RocksDB's block cache (with indexes and filters) and its write buffers may take together, over
        /// all agencies. On top come, for each agency, 32 MiB of recent events, the sessions
        /// (accounts.sessions.cached_max), the members that lazy-loading devices were sent
        /// (sync.lazy_devices_max), passwords being hashed (accounts.password), and rooms and users who are
        /// active; and for the process, connections, long polls and work in progress. A quarter of the
        /// machine's memory is a good start for a large agency.
        pub budget: ByteSize = ByteSize::mib(256),
    }
}

base::config! {
    /// What happens on SIGTERM and SIGINT.
    pub struct Shutdown {
        /// How long the server still takes requests while /health/ready says no, so that a load balancer
        /// notices.
        pub notice: Duration = Duration::ZERO,
        /// How long requests may then take to finish. Long polls are answered at once.
        pub drain: Duration = Duration::from_secs(10),
    }
}

impl Config {
    /// Reads and checks a file, except for what its certificates hold.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        let mut config: Self = base::config::load(file)?;
        let hosts = file.with_file_name("hosts");
        for agency in &mut config.agency {
            agency.federation.hosts.get_or_insert_with(|| hosts.clone());
        }
        Ok(config)
    }

    /// The example file.
    #[must_use]
    pub fn example() -> String {
        base::config::example(INTRODUCTION, &Self::table())
    }

    /// The configuration of `chancery dev`: one agency called localhost, open to all who reach the loopback
    /// address, without rate limits.
    #[must_use]
    pub fn dev(data_dir: PathBuf, port: u16) -> Self {
        let registration = accounts::Registration { mode: RegistrationMode::Open, ..Default::default() };
        // The least that Argon2id is worth: what is tried out is not worth waiting for.
        let password = accounts::Passwords { argon2_memory: ByteSize::mib(8), argon2_passes: 1, ..Default::default() };
        let limits = client_api::Limits { enabled: false, ..Default::default() };
        let agency = Agency {
            server_name: ServerName::localhost(),
            data_dir,
            hosts: Vec::new(),
            public_base_url: format!("http://127.0.0.1:{port}"),
            accounts: accounts::Config { registration, password, ..accounts::Config::default() },
            rooms: Rooms::default(),
            sync: sync::Config::default(),
            search: search::Config::default(),
            clients: client_api::Config { limits, ..client_api::Config::default() },
            media: media::Config::default(),
            server_notices: admin_api::NoticesConfig::default(),
            federation: remote::Config::default(),
            mail: mailer::Config::default(),
            push: delivery::Config::default(),
            outgoing: remote::outgoing::Config::default(),
            well_known: WellKnown::default(),
        };
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        Self {
            listen: vec![Listen { address, trusted_proxies: Vec::new(), admin: true, tls: None }],
            agency: vec![agency],
            metrics: Metrics::default(),
            log: Log::default(),
            limits: Limits::default(),
            memory: Memory::default(),
            shutdown: Shutdown { drain: Duration::from_secs(3), ..Shutdown::default() },
        }
    }

    fn check(&self, wrong: &mut Checks<'_, '_>) {
        if self.listen.is_empty() {
            wrong.key("listen", "has no entry; add a table [[listen]] with an address");
        }
        if self.agency.is_empty() {
            wrong.key("agency", "has no entry; add a table [[agency]] with a server_name and a data_dir");
        }
        let mut addresses = HashSet::new();
        for address in self.listen.iter().map(|listen| listen.address).chain(self.metrics.address) {
            // Port 0 is a free port, a different one each time.
            if address.port() != 0 && !addresses.insert(address) {
                wrong.key("listen", format_args!("has {address} twice, or [metrics] has it too; use another port"));
            }
        }
        let (mut folders, mut hosts) = (HashSet::new(), HashSet::new());
        for agency in &self.agency {
            if !folders.insert(&agency.data_dir) {
                let folder = agency.data_dir.display();
                wrong.key("agency", format_args!("has data_dir {folder} twice; give each agency its own"));
            }
            let names: HashSet<String> = agency.host_names().collect();
            for host in names {
                if !hosts.insert(host.clone()) {
                    wrong.key("agency", format_args!("has the host \"{host}\" twice; a host leads to one agency"));
                }
            }
        }
    }
}

impl Agency {
    /// The host names, in small letters and without ports, that lead to the agency.
    pub fn host_names(&self) -> impl Iterator<Item = String> {
        let server_name = self.server_name.0.host().to_owned();
        std::iter::once(server_name).chain(self.hosts.iter().cloned()).map(|host| host.to_ascii_lowercase())
    }

    fn check(&self, wrong: &mut Checks<'_, '_>) {
        check_url(wrong, "public_base_url", &self.public_base_url);
        for host in &self.hosts {
            let is_port = |end: &str| !end.is_empty() && end.bytes().all(|byte| byte.is_ascii_digit());
            let has_port = !host.ends_with(']') && host.rsplit_once(':').is_some_and(|(_, end)| is_port(end));
            if host.is_empty() || has_port || host.contains(['/', ' ', '@']) {
                let message = "must be host names without scheme, port and path, such as \"matrix.agency.example\"";
                wrong.key("hosts", format_args!("{message}, not \"{host}\""));
            }
        }
    }
}

impl Rooms {
    fn check(&self, wrong: &mut Checks<'_, '_>) {
        let known = self.default_version.parse::<u8>().is_ok_and(|version| (1..=12).contains(&version));
        if !known {
            wrong.key("default_version", format_args!("must be \"1\" to \"12\", not \"{}\"", self.default_version));
        }
    }
}

impl WellKnown {
    fn check(&self, wrong: &mut Checks<'_, '_>) {
        if let Some(server) = &self.server
            && ruma::ServerName::parse(server).is_err()
        {
            let example = "must be a host and perhaps a port, such as \"matrix.agency.example:443\"";
            wrong.key("server", format_args!("{example}, not \"{server}\""));
        }
        if let Some(page) = &self.support_page {
            check_url(wrong, "support_page", page);
        }
    }
}

impl Contact {
    fn check(&self, wrong: &mut Checks<'_, '_>) {
        if self.matrix_id.is_none() && self.email_address.is_none() {
            wrong.key("matrix_id", "or `email_address` must be given");
        }
        if let Some(id) = &self.matrix_id
            && ruma::UserId::parse(id).is_err()
        {
            wrong.key("matrix_id", format_args!("must be a Matrix id such as \"@admin:agency.example\", not \"{id}\""));
        }
    }
}

impl Log {
    fn check(&self, wrong: &mut Checks<'_, '_>) {
        if let Err(error) = tracing_subscriber::EnvFilter::builder().parse(&self.filter) {
            wrong.key("filter", format_args!("must be such as \"info\" or \"info,chancery=debug\": {error}"));
        }
    }
}

impl Limits {
    fn check(&self, wrong: &mut Checks<'_, '_>) {
        if self.request_bytes_max < ByteSize::kib(128) {
            wrong.key("request_bytes_max", "must be at least \"128 KiB\", room for the largest event");
        }
        if self.head_bytes_max < ByteSize::kib(8) || self.head_bytes_max > ByteSize::mib(1) {
            wrong.key("head_bytes_max", "must be between \"8 KiB\" and \"1 MiB\"");
        }
        for (key, duration) in [("head_timeout", self.head_timeout), ("request_timeout", self.request_timeout)] {
            if duration < Duration::from_secs(1) {
                wrong.key(key, "must be at least \"1s\"");
            }
        }
        for (key, number) in [("connections_max", self.connections_max), ("streams_max", self.streams_max)] {
            if number == 0 {
                wrong.key(key, "must be at least 1");
            }
        }
    }
}

impl Memory {
    fn check(&self, wrong: &mut Checks<'_, '_>) {
        if self.budget < ByteSize::mib(32) {
            wrong.key("budget", "must be at least \"32 MiB\"");
        }
    }
}

fn check_url(wrong: &mut Checks<'_, '_>, key: &str, url: &str) {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    if rest.is_none_or(|rest| rest.is_empty() || rest.contains(char::is_whitespace)) {
        wrong.key(key, format_args!("must be an address such as \"https://matrix.agency.example\", not \"{url}\""));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = "[[listen]]\naddress = '127.0.0.1:8008'\n[[agency]]\nserver_name = 'a.example'\n\
                         data_dir = '/a'\npublic_base_url = 'https://a.example'\n";

    /// The problems of a file, without the lines that they quote.
    fn check(text: &str, problems: &[&str]) {
        let found = base::config::parse::<Config>(text, Path::new("c.toml")).err().map(|error| error.to_string());
        let found: Vec<&str> = found.iter().flat_map(|text| text.lines()).filter(|l| !l.starts_with("    ")).collect();
        assert_eq!(found, problems);
    }

    #[test]
    fn a_small_file_is_enough() {
        check(SMALL, &[]);
    }

    #[test]
    fn the_example_is_fresh() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("config.example.toml");
        let found = std::fs::read_to_string(file).unwrap();
        assert!(found == Config::example(), "run: chancery config example > config.example.toml");
    }

    #[test]
    fn the_example_can_be_read() {
        check(&Config::example(), &[]);
    }

    #[test]
    fn every_setting_of_the_example_can_be_switched_on() {
        let is_setting =
            |line: &str| line.starts_with('#') && line[1..].starts_with(|c: char| c == '[' || c.is_ascii_lowercase());
        let switch_on = |line: &str| if is_setting(line) { line[1..].to_owned() } else { line.to_owned() };
        let text: Vec<String> = Config::example().lines().map(switch_on).collect();
        // The example shows the default mode, "closed", and example tokens, which contradict each other.
        let text = text.join("\n").replace("mode = \"closed\"", "mode = \"token\"");
        check(&text, &[]);
    }

    #[test]
    fn the_dev_configuration_listens_on_loopback_only() {
        let config = Config::dev("data".into(), 8008);
        assert!(config.listen.iter().all(|listen| listen.address.ip().is_loopback()));
        assert!(!config.agency[0].clients.limits.enabled);
    }

    #[test]
    fn a_host_leads_to_one_agency() {
        let other = "[[agency]]\nserver_name = 'b.example'\ndata_dir = '/b'\nhosts = ['A.example']\n\
                     public_base_url = 'https://b.example'\n";
        check(
            &format!("{SMALL}{other}"),
            &["c.toml:3:3: `agency` has the host \"a.example\" twice; a host leads to one agency"],
        );
    }

    #[test]
    fn an_agency_has_its_own_folder() {
        let other = SMALL.replace("a.example", "b.example");
        let other = other.split_once("[[agency]]").unwrap().1;
        check(
            &format!("{SMALL}[[agency]]{other}"),
            &["c.toml:3:3: `agency` has data_dir /a twice; give each agency its own"],
        );
    }

    #[test]
    fn wrong_values_are_told_with_the_fix() {
        check(
            &format!("{SMALL}[limits]\nrequest_timeout = '0s'\n[memory]\nbudget = '1 MiB'\n"),
            &[
                "c.toml:8:1: `limits.request_timeout` must be at least \"1s\"",
                "c.toml:10:1: `memory.budget` must be at least \"32 MiB\"",
            ],
        );
        check(
            &SMALL.replace("a.example'\ndata", "a example'\ndata"),
            &["c.toml:4:15: `agency.server_name` must be a server name such as \"agency.example\", not \"a example\""],
        );
    }

    #[test]
    fn an_empty_file_says_what_it_needs() {
        check(
            "",
            &[
                "c.toml:1:1: `listen` has no entry; add a table [[listen]] with an address",
                "c.toml:1:1: `agency` has no entry; add a table [[agency]] with a server_name and a data_dir",
            ],
        );
    }
}
