//! The settings `[agency.federation]`.

use base::config::Checks;
use ruma::{OwnedServerName, ServerName};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

base::config! {
    /// Other homeservers.
    #[check = Config::check]
    pub struct Config {
        /// Whether other homeservers are spoken to, and answered.
        pub enabled: bool = true,
        /// Where servers are that are not to be looked up: an address and port, spoken to over TLS with a
        /// certificate for the server's name, or "http://..." for none.
        #[example = r#"{ "ministry.example" = "10.20.0.7:8448" }"#]
        pub overrides: BTreeMap<String, String>,
        /// A file in the format of /etc/hosts: names that it has lead to its addresses, private ones too. Unset: the
        /// file `hosts` beside this one, if there is one.
        #[example = r#""/etc/chancery/hosts""#]
        pub hosts: Option<PathBuf>,
        /// Servers that are asked for the keys of those that don't answer. They are believed.
        #[example = r#"["keys.example"]"#]
        pub notaries: Vec<String>,
        /// How long others may keep this server's keys before they ask again.
        pub key_lifetime: Duration = Duration::from_hours(24),
        /// The largest transaction that another server may send.
        pub transaction_bytes_max: base::config::ByteSize = base::config::ByteSize::mib(10),
    }
}

impl Config {
    fn check(&self, wrong: &mut Checks<'_, '_>) {
        for (name, place) in &self.overrides {
            if ServerName::parse(name).is_err() {
                wrong.key("overrides", format_args!("must be of server names, not \"{name}\""));
            }
            if Place::read(place).is_none() {
                let what = "must lead to an address and port such as \"10.20.0.7:8448\"";
                wrong.key("overrides", format_args!("{what}, not \"{place}\""));
            }
        }
        for name in &self.notaries {
            if ServerName::parse(name).is_err() {
                wrong.key("notaries", format_args!("must be server names, not \"{name}\""));
            }
        }
        if self.key_lifetime < Duration::from_hours(1) {
            wrong.key("key_lifetime", "must be at least an hour");
        }
    }

    /// The servers that are asked for the keys of others.
    pub(crate) fn notary_names(&self) -> Vec<OwnedServerName> {
        self.notaries.iter().filter_map(|name| ServerName::parse(name).ok()).collect()
    }
}

/// Where a server is, by the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Whether it speaks TLS.
    pub tls: bool,
    /// Its address.
    pub address: SocketAddr,
}

impl Place {
    pub fn read(text: &str) -> Option<Self> {
        let (tls, text) = match text.strip_prefix("http://") {
            Some(text) => (false, text.trim_end_matches('/')),
            None => (true, text),
        };
        Some(Self { tls, address: text.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overrides_are_addresses_with_or_without_tls() {
        let config: Config =
            base::config::parse(r#"overrides = { "hs2" = "127.0.0.1:1234" }"#, "x.toml".as_ref()).unwrap();
        let place = Place { tls: true, address: "127.0.0.1:1234".parse().unwrap() };
        assert_eq!(Place::read(&config.overrides["hs2"]), Some(place));
        assert_eq!(Place::read("http://127.0.0.1:1234/"), Some(Place { tls: false, ..place }));
        let error = base::config::parse::<Config>(r#"overrides = { "hs2" = "hs2" }"#, "x.toml".as_ref()).unwrap_err();
        assert!(error.to_string().contains("an address and port"), "{error}");
        assert!(base::config::parse::<Config>(r#"notaries = ["a b"]"#, "x.toml".as_ref()).is_err());
    }
}
