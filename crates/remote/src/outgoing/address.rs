//! Which addresses may be connected to: not those of this machine, of the networks around it, or of nobody.
//!
//! Who gives this server a URL, or runs a name that leads somewhere, must not reach through it what they can't
//! reach themselves (server-side request forgery). The address is judged where it is connected to, after the
//! name was resolved, so that a name can't lead elsewhere the second time.

use base::config::{Node, Reader, Setting, Shape};
use ipnet::IpNet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Addresses that are not of the public internet (IANA's special-purpose registries for IPv4 and IPv6).
const REFUSED: [&str; 29] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "::/128",
    "::1/128",
    "64:ff9b:1::/48",
    "100::/64",
    "2001::/23",
    "2001:db8::/32",
    "3fff::/20",
    "5f00::/16",
    "fc00::/7",
    "fe80::/10",
    "fec0::/10",
    "ff00::/8",
    "::/96",
    "::ffff:0:0:0/96",
];

/// An address or a network, in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range(IpNet);

impl Range {
    /// Whether it has an address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }
}

impl FromStr for Range {
    type Err = ipnet::AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().or_else(|error| text.parse::<IpAddr>().map(IpNet::from).map_err(|_| error)).map(Self)
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Setting for Range {
    fn shape() -> Shape {
        Shape::Value("an address or a network such as \"10.0.0.0/8\"")
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let what = "an address or a network such as \"10.0.0.0/8\"";
        let Some(text) = node.text() else {
            return reader.wrong_type(node, what);
        };
        let range = text.parse().ok();
        if range.is_none() {
            reader.wrong_value(node, format_args!("must be {what}, not \"{text}\""));
        }
        range
    }

    fn show(&self) -> Option<String> {
        Some(format!("\"{self}\""))
    }
}

/// Judges addresses.
#[derive(Clone, Debug)]
pub(crate) struct Addresses {
    refused: Vec<IpNet>,
    allowed: Vec<Range>,
}

impl Addresses {
    pub fn new(allowed: &[Range]) -> Self {
        let refused = REFUSED.iter().filter_map(|network| network.parse().ok()).collect();
        Self { refused, allowed: allowed.to_vec() }
    }

    /// Whether an address may be connected to. One that stands for an IPv4 address is judged as that.
    pub fn allow(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        if self.allowed.iter().any(|range| range.contains(address)) {
            return true;
        }
        let embedded = match address {
            IpAddr::V6(address) => embedded(address),
            IpAddr::V4(_) => None,
        };
        let is_refused = |address: IpAddr| self.refused.iter().any(|network| network.contains(&address));
        !is_refused(address) && embedded.is_none_or(|embedded| self.allow(IpAddr::V4(embedded)))
    }
}

/// The IPv4 address to which a translator or tunnel leads: NAT64 (RFC 6052) and 6to4 (RFC 3056).
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let of = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match address.segments() {
        [0x2002, high, low, ..] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(of(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(allowed: &[&str], address: &str, expected: bool) {
        let allowed: Vec<Range> = allowed.iter().map(|range| range.parse().unwrap()).collect();
        assert_eq!(Addresses::new(&allowed).allow(address.parse().unwrap()), expected, "{address}");
    }

    #[test]
    fn every_refused_network_is_one() {
        assert_eq!(Addresses::new(&[]).refused.len(), REFUSED.len());
    }

    #[test]
    fn public_addresses_may_be_connected_to() {
        for address in ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "2a00:1450:4001::1", "64:ff9b::1.1.1.1"] {
            check(&[], address, true);
        }
    }

    #[test]
    fn addresses_of_this_machine_and_its_networks_may_not() {
        for address in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "127.64.3.2",
            "169.254.169.254",
            "172.31.255.255",
            "192.168.1.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::10.0.0.1",
            "2002:7f00:1::",
            "2001::1",
            "fd00::1",
            "fe80::1",
            "ff02::1",
        ] {
            check(&[], address, false);
        }
    }

    #[test]
    fn what_the_operator_allows_may_be_connected_to() {
        check(&["127.0.0.1"], "127.0.0.1", true);
        check(&["127.0.0.1"], "::ffff:127.0.0.1", true);
        check(&["127.0.0.1"], "127.0.0.2", false);
        check(&["10.0.0.0/8", "fd00::/8"], "10.200.0.1", true);
        check(&["10.0.0.0/8", "fd00::/8"], "fd00::1", true);
        check(&["10.0.0.0/8"], "64:ff9b::10.0.0.1", true);
    }
}
