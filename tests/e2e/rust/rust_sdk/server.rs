//! A server process of a test's own, on a free port and with data of its own.

use anyhow::{Context as _, Result, bail};
use std::net::TcpListener;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::process::{Child, Command};

const START_MAX: Duration = Duration::from_secs(60);

pub struct Server {
    dir: TempDir,
    port: u16,
    child: Child,
}

impl Server {
    pub async fn start() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let child = launch(&dir, port).await?;
        Ok(Self { dir, port, child })
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Ends the process with no chance to write anything more, and starts another on the same data.
    pub async fn crash_and_restart(&mut self) -> Result<()> {
        self.child.kill().await?;
        self.child = launch(&self.dir, self.port).await?;
        Ok(())
    }
}

async fn launch(dir: &TempDir, port: u16) -> Result<Child> {
    let binary = std::env::var("CHANCERY_BIN").context("CHANCERY_BIN names no server")?;
    let log = std::fs::File::options().create(true).append(true).open(dir.path().join("server.log"))?;
    let mut child = Command::new(binary)
        .args(["dev", "--port", &port.to_string(), "--data-dir"])
        .arg(dir.path().join("data"))
        .stdout(log.try_clone()?)
        .stderr(log)
        .kill_on_drop(true)
        .spawn()?;
    let deadline = Instant::now() + START_MAX;
    while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        if Instant::now() > deadline || child.try_wait()?.is_some() {
            bail!("the server does not start: {}", std::fs::read_to_string(dir.path().join("server.log"))?);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(child)
}
