//! A whole server: its agencies, its listeners, and how they begin and end.

use crate::admin::{self, AdminSocket};
use crate::agency::{self, Agency, Shared};
use crate::body::{self, Body};
use crate::config::{Config, Shutdown};
use crate::front::Front;
use crate::health::Health;
use crate::listen::{Answers, Connections, Listener};
use crate::metrics::Metrics;
use crate::tls::{Certificates, TlsError};
use crate::{delivery_figures, store_figures};
use base::config::ConfigError;
use http::{Method, Request, Response, StatusCode};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Why a server can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A certificate can't be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A listener's address can't be had.
    #[error("can't listen on {address}: {why}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        why: std::io::Error,
    },
    /// An agency can't be opened.
    #[error("the agency {server_name} can't be opened, data folder {folder}: {why:#}", folder = data_dir.display())]
    Agency {
        /// The agency.
        server_name: String,
        /// Where its data is.
        data_dir: PathBuf,
        /// Why.
        why: anyhow::Error,
    },
}

/// The way to a [`Running`] server.
#[derive(Debug)]
pub struct Server;

/// A server that takes requests. Dropping it without [`Running::shutdown`] leaves its tasks to the runtime.
#[derive(Debug)]
pub struct Running {
    /// Where the listeners are, in the order of the configuration. What was configured as port 0 is a real
    /// port here.
    pub addresses: Vec<SocketAddr>,
    /// Where the metrics are.
    pub metrics_address: Option<SocketAddr>,
    agencies: Vec<Arc<Agency>>,
    certificates: Vec<Arc<Certificates>>,
    connections: Arc<Connections>,
    metrics_connections: Arc<Connections>,
    admin: Vec<AdminSocket>,
    health: Arc<Health>,
    ending: Ending,
}

#[derive(Debug)]
struct Ending {
    config: Shutdown,
    /// Cancelled when the server takes no more requests; whoever waits for news answers then.
    stopping: CancellationToken,
    metrics_stopping: CancellationToken,
}

impl Server {
    /// Starts a server: reads certificates, opens the agencies, binds all sockets, and only then answers.
    pub async fn start(config: &Config) -> Result<Running, StartError> {
        let mut bound_later = Vec::new();
        for listen in &config.listen {
            let certificates = listen.tls.as_ref().map(Certificates::load).transpose()?.map(Arc::new);
            let proxies = Arc::from(listen.trusted_proxies.as_slice());
            bound_later.push((listen.address, certificates, proxies, listen.admin));
        }
        let stopping = CancellationToken::new();
        let shared = Shared::new(config, stopping.clone());
        let mut agencies = Vec::new();
        for agency in &config.agency {
            let opened = Agency::open(agency, &shared).await.map_err(|why| StartError::Agency {
                server_name: agency.server_name.to_string(),
                data_dir: agency.data_dir.clone(),
                why,
            });
            agencies.push(Arc::new(opened?));
        }
        let metrics = Arc::new(Metrics::new(|registry| {
            registry.register_collector(Box::new(store_figures::Figures::new(&agencies, shared.memory.clone())));
            registry.register_collector(Box::new(delivery_figures::Figures::new(&agencies)));
        }));
        let health = Arc::new(Health::default());
        let front = Front::new(&agencies, config.limits.clone(), health.clone(), metrics.clone());
        let front = Arc::new(front);

        let (mut listeners, mut certificates, mut addresses) = (Vec::new(), Vec::new(), Vec::new());
        for (address, certificate, proxies, admin) in bound_later {
            let (socket, address) = bind(address).await?;
            addresses.push(address);
            certificates.extend(certificate.clone());
            let front = front.clone();
            let answers = if admin { Answers::Front(front) } else { Answers::WithoutAdministration(front) };
            listeners.push(Listener { socket, certificates: certificate, proxies, answers });
        }
        let metrics_stopping = CancellationToken::new();
        let metrics_connections = Connections::new(&config.limits, metrics_stopping.clone(), metrics.clone());
        let metrics_connections = Arc::new(metrics_connections);
        let mut metrics_address = None;
        if let Some(address) = config.metrics.address {
            let (socket, address) = bind(address).await?;
            metrics_address = Some(address);
            let answers = Answers::Metrics(Arc::new(MetricsFace { health: health.clone(), metrics: metrics.clone() }));
            Listener { socket, certificates: None, proxies: Arc::from([]), answers }.serve(&metrics_connections);
        }
        let admin = agencies.iter().filter_map(|agency| admin::serve(agency, &stopping)).collect();
        let connections = Arc::new(Connections::new(&config.limits, stopping.clone(), metrics));
        for listener in listeners {
            listener.serve(&connections);
        }
        health.set_ready(true);
        let ending = Ending { config: config.shutdown.clone(), stopping, metrics_stopping };
        Ok(Running {
            addresses,
            metrics_address,
            agencies,
            certificates,
            connections,
            metrics_connections,
            admin,
            health,
            ending,
        })
    }
}

async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let wrong = |why| StartError::Listen { address, why };
    let socket = TcpListener::bind(address).await.map_err(wrong)?;
    let address = socket.local_addr().map_err(wrong)?;
    Ok((socket, address))
}

impl Running {
    /// Reads the certificates again. One that can't be used is logged, and the old one stays.
    pub fn reload(&self) {
        for certificates in &self.certificates {
            match certificates.reload() {
                Ok(()) => tracing::info!("a certificate was read again"),
                Err(error) => tracing::error!(%error, "a certificate stays as it is"),
            }
        }
    }

    /// Ends: says that it isn't ready, waits for load balancers to notice, closes the sockets, answers long
    /// polls, lets requests finish for as long as the configuration says, and closes the stores. What was
    /// acknowledged is on disk at any time, so that nothing is lost by not waiting for this.
    pub async fn shutdown(self) {
        let Ending { config, stopping, metrics_stopping } = self.ending;
        self.health.set_ready(false);
        if !config.notice.is_zero() {
            tracing::info!(seconds = config.notice.as_secs(), "no longer ready; requests are still taken");
            tokio::time::sleep(config.notice).await;
        }
        stopping.cancel();
        if tokio::time::timeout(config.drain, self.connections.ended()).await.is_err() {
            tracing::warn!(connections = self.connections.open(), "requests that took too long are cut off");
        }
        for socket in self.admin {
            socket.close();
        }
        self.connections.cut_off().await;
        metrics_stopping.cancel();
        self.metrics_connections.cut_off().await;
        agency::close(self.agencies).await;
    }
}

/// What the listener for machines answers.
#[derive(Debug)]
pub(crate) struct MetricsFace {
    health: Arc<Health>,
    metrics: Arc<Metrics>,
}

impl MetricsFace {
    pub(crate) fn answer<B>(&self, request: &Request<B>) -> Response<Body> {
        let (method, path) = (request.method(), request.uri().path());
        if let Some(answer) = self.health.answer(method, path) {
            return answer;
        }
        match (method, path) {
            (&Method::GET, "/metrics") => self.metrics.scrape(),
            _ => body::respond(
                StatusCode::NOT_FOUND,
                "text/plain; charset=utf-8",
                "/metrics, /health/live, /health/ready\n",
            ),
        }
    }
}

#[cfg(test)]
mod tests;
