//! `chancery serve` and `chancery dev`.

use crate::config::Config;
use crate::{Running, Server, logs};
use anyhow::Context;
use std::path::PathBuf;
use tokio::signal::unix::{SignalKind, signal};

pub(super) fn serve(config: &Config) -> anyhow::Result<()> {
    runtime(config, |running, config| {
        for (listen, address) in config.listen.iter().zip(&running.addresses) {
            let scheme = if listen.tls.is_some() { "https" } else { "http" };
            tracing::info!("listening on {scheme}://{address}");
        }
        if let Some(address) = running.metrics_address {
            tracing::info!("metrics on http://{address}/metrics");
        }
        let names: Vec<String> = config.agency.iter().map(|agency| agency.server_name.to_string()).collect();
        tracing::info!(agencies = names.join(" "), "ready");
    })
}

pub(super) fn dev(data_dir: PathBuf, port: u16) -> anyhow::Result<()> {
    runtime(&Config::dev(data_dir, port), |running, config| {
        let url = running.addresses.first().map_or_else(String::new, |address| format!("http://{address}"));
        let data = config.agency.first().map_or_else(String::new, |agency| agency.data_dir.display().to_string());
        println!("{}", welcome(&url, &data));
    })
}

/// What to do next.
fn welcome(url: &str, data: &str) -> String {
    format!(
        r#"
Chancery serves the agency "localhost" on {url}, for this machine only. Its data is in {data}.

Register with curl:

  curl -s {url}/_matrix/client/v3/register \
    -d '{{"username":"alice","password":"correct horse","auth":{{"type":"m.login.dummy"}}}}'

Or with a client: start Element Desktop (or any other Matrix client), choose "Create account", edit the
homeserver, and enter {url}. A second account in a second window, and the two can talk.

Stop with Ctrl-C; what was said stays. For an agency with a name: chancery config example
"#
    )
}

fn runtime(config: &Config, announce: impl FnOnce(&Running, &Config)) -> anyhow::Result<()> {
    logs::begin(&config.log);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no runtime")?;
    runtime.block_on(async {
        let mut hangup = signal(SignalKind::hangup())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let running = Server::start(config).await?;
        announce(&running, config);
        loop {
            tokio::select! {
                _ = hangup.recv() => running.reload(),
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
            }
        }
        tracing::info!("stopping");
        tokio::select! {
            () = running.shutdown() => tracing::info!("stopped"),
            _ = terminate.recv() => tracing::warn!("stopped by a second signal"),
            _ = interrupt.recv() => tracing::warn!("stopped by a second signal"),
        }
        anyhow::Ok(())
    })?;
    // What still runs was cut off; it must not keep the process.
    runtime.shutdown_background();
    Ok(())
}
