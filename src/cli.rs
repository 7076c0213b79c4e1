//! The command line.

mod serve;
mod user;

use crate::config::Config;
use crate::tls;
use anyhow::bail;
use clap::{Args, Parser, Subcommand};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// A Matrix homeserver for government.
///
/// To try it, run `chancery dev` and point a Matrix client at http://127.0.0.1:8008. To serve an agency,
/// write a configuration (`chancery config example` prints one that explains every setting), check it
/// (`chancery config check`), and run `chancery serve`.
#[derive(Debug, Parser)]
#[command(name = "chancery", version, max_term_width = 100, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve an agency for trying things out, without a configuration
    ///
    /// Its server name is localhost, only this machine can reach it, everybody may register, and nothing is
    /// limited. Never use it for real: for that there is `chancery serve`.
    #[command(after_help = "Examples:
  chancery dev                                  http://127.0.0.1:8008, with its data in ./data
  chancery dev --port 9000 --data-dir /tmp/b    another one beside it")]
    Dev(DevArgs),
    /// Serve the agencies of a configuration
    ///
    /// Runs until SIGTERM or SIGINT, then answers what is waiting and ends; a second signal ends it at once.
    /// SIGHUP reads the certificates again. What was acknowledged to a client is on disk, so even SIGKILL
    /// loses nothing.
    #[command(after_help = "Examples:
  chancery serve --config /etc/chancery/chancery.toml
  CHANCERY_LOG=debug chancery serve --config chancery.toml     with every request in the log
  kill -HUP $(pidof chancery)                                  after the certificate was renewed")]
    Serve(ConfigArgs),
    /// Check or print a configuration
    #[command(subcommand, arg_required_else_help = true)]
    Config(ConfigCommand),
    /// Create, list and close accounts, and reset passwords
    ///
    /// Works while the server runs (through the socket admin.sock in the data folder) and while it doesn't.
    /// Run it as the user who owns the data folder.
    #[command(subcommand, arg_required_else_help = true)]
    User(user::UserCommand),
    /// Print the version
    Version,
}

#[derive(Debug, Args)]
struct DevArgs {
    /// The folder of the data; it is made if it isn't there
    #[arg(long, value_name = "DIR", default_value = "data")]
    data_dir: PathBuf,
    /// The port on 127.0.0.1; 0 takes a free one
    #[arg(long, value_name = "N", default_value_t = 8008)]
    port: u16,
}

#[derive(Debug, Args)]
struct ConfigArgs {
    /// The configuration file
    #[arg(long, short, value_name = "FILE", env = "CHANCERY_CONFIG")]
    config: PathBuf,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Check a configuration, its certificates included, without serving it
    ///
    /// Says nothing but "ok" if it can be served. Otherwise every problem is told with file, line and key.
    #[command(after_help = "Example:
  chancery config check --config /etc/chancery/chancery.toml && systemctl restart chancery")]
    Check(ConfigArgs),
    /// Print a configuration with every setting, explained
    #[command(after_help = "Example:
  chancery config example > chancery.toml")]
    Example,
}

/// Does what the command line says.
#[must_use]
pub fn run() -> ExitCode {
    match Cli::parse().command.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("chancery: {error:#}");
            ExitCode::FAILURE
        }
    }
}

impl Command {
    fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Dev(args) => serve::dev(args.data_dir, args.port),
            Self::Serve(args) => serve::serve(&load(&args.config)?),
            Self::Config(ConfigCommand::Check(args)) => {
                load(&args.config)?;
                println!("ok");
                Ok(())
            }
            Self::Config(ConfigCommand::Example) => {
                print!("{}", Config::example());
                Ok(())
            }
            Self::User(command) => user::run(command),
            Self::Version => {
                println!("chancery {}", env!("CARGO_PKG_VERSION"));
                Ok(())
            }
        }
    }
}

/// Reads a configuration and checks all that can be checked without opening anything.
fn load(file: &Path) -> anyhow::Result<Config> {
    let config = Config::load(file)?;
    let wrong: Vec<String> = config
        .listen
        .iter()
        .filter_map(|listen| tls::check(listen.tls.as_ref()?).err())
        .map(|e| e.to_string())
        .collect();
    if wrong.is_empty() { Ok(config) } else { bail!("{}: {}", file.display(), wrong.join("\n")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
