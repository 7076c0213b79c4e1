//! Names to addresses, and nothing but addresses that may be connected to.

use super::address::Addresses;
use crate::Hosts;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::LookupIpStrategy;
use hickory_resolver::proto::rr::RData;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// What a resolver of reqwest fails with.
type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How many answers of DNS are kept, each for as long as it says.
const CACHED_MAX: u64 = 8192;
/// How many addresses of a name are tried.
const ADDRESSES_MAX: usize = 16;
/// How many targets of an SRV record are looked at.
const TARGETS_MAX: usize = 8;

/// An address is not for others to reach through this server, or a name has only such addresses.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0} leads to an address that may not be connected to")]
pub(super) struct Refused(pub String);

/// A name can't be resolved.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{name} can't be resolved: {why}")]
pub(super) struct Unresolved {
    name: String,
    why: String,
}

/// What DNS says of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    /// These hosts and ports, the first first.
    At(Vec<(String, u16)>),
    /// There is no such record.
    Missing,
    /// DNS did not answer.
    Unknown,
}

/// Resolves names.
#[derive(Clone)]
pub(crate) struct Resolver(Arc<Inner>);

struct Inner {
    /// `None` if the system has no configuration of DNS that can be read: then the system is asked.
    dns: Option<TokioResolver>,
    hosts: Hosts,
    addresses: Addresses,
    /// The host of the proxy, which may be anywhere: the operator has named it.
    proxy: Option<String>,
}

impl Resolver {
    pub fn new(hosts: Hosts, addresses: Addresses, proxy: Option<String>) -> Self {
        let dns = TokioResolver::builder_tokio().and_then(|mut builder| {
            let options = builder.options_mut();
            options.cache_size = CACHED_MAX;
            options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
            builder.build()
        });
        if let Err(error) = &dns {
            tracing::info!(%error, "the system's DNS configuration can't be read: SRV records are not looked up");
        }
        Self(Arc::new(Inner { dns: dns.ok(), hosts, addresses, proxy }))
    }

    /// Whether this address may be connected to.
    pub fn allow(&self, address: IpAddr) -> bool {
        self.0.addresses.allow(address)
    }

    /// Whether the operator has written down where a name leads: then DNS is not asked of it.
    pub fn is_written_down(&self, name: &str) -> bool {
        self.0.hosts.get(name).is_some()
    }

    /// The addresses of a name that may be connected to, at least one.
    pub async fn resolve(&self, name: &str) -> Result<Vec<IpAddr>, BoxError> {
        if let Some(addresses) = self.0.hosts.get(name) {
            return Ok(addresses.to_vec());
        }
        let found = match &self.0.dns {
            Some(dns) => dns.lookup_ip(name).await.map(|found| found.iter().collect()).map_err(|e| e.to_string()),
            None => by_system(name).await,
        };
        let found: Vec<IpAddr> = found.map_err(|why| Unresolved { name: name.to_owned(), why })?;
        if found.is_empty() {
            return Err(Unresolved { name: name.to_owned(), why: "it has no address".to_owned() }.into());
        }
        let is_proxy = self.0.proxy.as_deref() == Some(name);
        let allowed = found.into_iter().filter(|address| is_proxy || self.allow(*address));
        let allowed: Vec<IpAddr> = allowed.take(ADDRESSES_MAX).collect();
        if allowed.is_empty() { Err(Refused(name.to_owned()).into()) } else { Ok(allowed) }
    }

    /// The targets of an SRV record, such as `_matrix-fed._tcp.a.example`, the preferred ones first.
    pub async fn service(&self, name: &str) -> Service {
        let Some(dns) = &self.0.dns else { return Service::Missing };
        // A full name: search domains of this machine have no say in where other servers are.
        let found = match dns.srv_lookup(format!("{name}.")).await {
            Ok(found) => found,
            Err(error) if error.is_no_records_found() => return Service::Missing,
            Err(error) => {
                tracing::debug!(name, %error, "an SRV record can't be looked up");
                return Service::Unknown;
            }
        };
        let records = found.answers().iter().filter_map(|record| match &record.data {
            RData::SRV(srv) => {
                let target = srv.target.to_utf8();
                let target = target.trim_end_matches('.');
                let weight = std::cmp::Reverse(srv.weight);
                (!target.is_empty()).then(|| (srv.priority, weight, target.to_owned(), srv.port))
            }
            _ => None,
        });
        let mut records: Vec<_> = records.collect();
        if records.is_empty() {
            return Service::Missing;
        }
        records.sort();
        let targets = records.into_iter().map(|(_, _, target, port)| (target, port));
        Service::At(targets.take(TARGETS_MAX).collect())
    }
}

/// Asks the system.
async fn by_system(name: &str) -> Result<Vec<IpAddr>, String> {
    let found = tokio::net::lookup_host((name, 0)).await.map_err(|error| error.to_string())?;
    Ok(found.map(|address| address.ip()).collect())
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = self.clone();
        Box::pin(async move {
            let addresses = Resolver::resolve(&resolver, name.as_str()).await?;
            // Port 0 stands for that of the URL.
            let addresses: Addrs = Box::new(addresses.into_iter().map(|address| SocketAddr::new(address, 0)));
            Ok(addresses)
        })
    }
}
