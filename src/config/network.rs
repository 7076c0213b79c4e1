//! Settings that name servers and networks.

use base::config::{Node, Reader, Setting, Shape};
use ruma::OwnedServerName;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// The name of a homeserver (appendices, "Server name").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerName(pub OwnedServerName);

impl ServerName {
    pub(super) fn localhost() -> Self {
        Self(ruma::owned_server_name!("localhost"))
    }
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Addresses that begin alike; one address is a network too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// Whether the address belongs to it. An IPv4 address that is written as IPv6 is the IPv4 address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let shift = |width: u32| width - u32::from(self.prefix);
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).checked_shr(shift(32)).unwrap_or(0) == 0,
            (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).checked_shr(shift(128)).unwrap_or(0) == 0,
            _ => false,
        }
    }
}

/// A text isn't a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a network is an address and perhaps the length of its prefix, such as 10.0.0.0/8")]
pub struct NotANetwork;

impl FromStr for Network {
    type Err = NotANetwork;

    fn from_str(text: &str) -> Result<Self, NotANetwork> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr = address.parse().map_err(|_| NotANetwork)?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Ok(width), str::parse).map_err(|_| NotANetwork)?;
        if prefix > width { Err(NotANetwork) } else { Ok(Self { address, prefix }) }
    }
}

impl Setting for ServerName {
    fn shape() -> Shape {
        Shape::Value("a server name such as \"agency.example\"")
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let what = "a server name such as \"agency.example\"";
        let Some(text) = node.text() else {
            return reader.wrong_type(node, what);
        };
        let name = ruma::ServerName::parse(text).ok().map(Self);
        if name.is_none() {
            reader.wrong_value(node, format_args!("must be {what}, not \"{text}\""));
        }
        name
    }

    fn show(&self) -> Option<String> {
        Some(format!("\"{self}\""))
    }
}

impl Setting for Network {
    fn shape() -> Shape {
        Shape::Value("a network such as \"10.0.0.0/8\"")
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let what = "an address or a network such as \"10.0.0.0/8\"";
        let Some(text) = node.text() else {
            return reader.wrong_type(node, what);
        };
        let network = text.parse().ok();
        if network.is_none() {
            reader.wrong_value(node, format_args!("must be {what}, not \"{text}\""));
        }
        network
    }

    fn show(&self) -> Option<String> {
        Some(format!("\"{}/{}\"", self.address, self.prefix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(network: &str, address: &str, expected: bool) {
        let network: Network = network.parse().unwrap();
        assert_eq!(network.contains(address.parse().unwrap()), expected, "{network:?} {address}");
    }

    #[test]
    fn a_network_contains_the_addresses_with_its_prefix() {
        check("10.0.0.0/8", "10.1.2.3", true);
        check("10.0.0.0/8", "11.1.2.3", false);
        check("10.0.0.0/8", "::ffff:10.1.2.3", true);
        check("127.0.0.1", "127.0.0.1", true);
        check("127.0.0.1", "127.0.0.2", false);
        check("0.0.0.0/0", "8.8.8.8", true);
        check("0.0.0.0/0", "::1", false);
        check("2001:db8::/32", "2001:db8:1::1", true);
        check("2001:db8::/32", "2001:db9::1", false);
        check("::/0", "::1", true);
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in ["", "10.0.0.0/33", "::/129", "example.org", "10.0.0.0/", "10.0.0.0/-1"] {
            assert_eq!(text.parse::<Network>(), Err(NotANetwork), "{text}");
        }
    }
}
