//! The settings `[agency.outgoing]`.

use super::Range;
use base::config::Checks;
use std::path::PathBuf;
use std::time::Duration;

base::config! {
    /// What the server itself asks of others over HTTP: other homeservers, push gateways, application services,
    /// pages that users link to.
    #[check = Config::check]
    pub struct Config {
        /// Addresses and networks that may be connected to although they are not public: loopback, private,
        /// link-local and multicast addresses are refused otherwise, whatever name leads to them.
        #[example = r#"["10.20.0.0/16", "fd00:20::/32"]"#]
        pub allowed_ranges: Vec<Range>,
        /// Files of certificates (PEM) of authorities that are trusted besides those of the system. Those of
        /// the system are read from where the environment variables SSL_CERT_FILE and SSL_CERT_DIR say, if set.
        #[example = r#"["/etc/chancery/tls/agencies-ca.pem"]"#]
        pub extra_roots: Vec<PathBuf>,
        /// The HTTP proxy through which all is asked except of other homeservers. It then resolves names and
        /// has to keep private addresses out.
        #[example = r#""http://proxy.agency.example:3128""#]
        pub proxy: Option<String>,
        /// How long a connection may take to be made, TLS included.
        pub connect_timeout: Duration = Duration::from_secs(10),
        /// How long an answer may pause.
        pub idle_timeout: Duration = Duration::from_secs(30),
    }
}

impl Config {
    fn check(&self, wrong: &mut Checks<'_, '_>) {
        let is_proxy = |proxy: &str| {
            reqwest::Url::parse(proxy).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        };
        if self.proxy.as_deref().is_some_and(|proxy| !is_proxy(proxy)) {
            wrong.key("proxy", "must be an HTTP URL such as \"http://proxy.agency.example:3128\"");
        }
        for (key, timeout) in [("connect_timeout", self.connect_timeout), ("idle_timeout", self.idle_timeout)] {
            if timeout.is_zero() {
                wrong.key(key, "must be longer than zero");
            }
        }
    }
}
