//! `chancery user`.

use crate::admin::{self, Answer, Ask, Password, User};
use crate::config::{Agency, Config};
use anyhow::{Context, bail};
use base::{Secret, SystemRandom, random_string};
use clap::{Args, Subcommand};
use std::io::{BufRead, Write};
use std::path::PathBuf;

/// How many users are asked for at once.
const PAGE_USERS: usize = 1000;

/// The letters of a password that is made up: about 119 bits.
const PASSWORD_LETTERS: usize = 20;

/// The longest password that is read, in bytes.
const PASSWORD_BYTES_MAX: usize = 512;

#[derive(Debug, Subcommand)]
pub(super) enum UserCommand {
    /// Create an account
    ///
    /// Without --password-stdin a password is made up and printed.
    #[command(after_help = "Examples:
  chancery user create --config chancery.toml alice
  chancery user create --config chancery.toml --password-stdin alice < password
  chancery user create --data-dir data bob                 in the agency of `chancery dev`")]
    Create {
        #[command(flatten)]
        of: AgencyArgs,
        #[command(flatten)]
        password: PasswordArgs,
        /// Let the user administer the agency
        #[arg(long)]
        admin: bool,
        /// The name, or the whole user id
        #[arg(value_name = "USER")]
        user: String,
    },
    /// Make a user an administrator of the agency, or with --no-admin one like others
    #[command(after_help = "Examples:
  chancery user set-admin --config chancery.toml alice
  chancery user set-admin --config chancery.toml --no-admin alice")]
    SetAdmin {
        #[command(flatten)]
        of: AgencyArgs,
        /// Take it away
        #[arg(long)]
        no_admin: bool,
        /// The name, or the whole user id
        #[arg(value_name = "USER")]
        user: String,
    },
    /// List the accounts
    #[command(after_help = "Example:
  chancery user list --config chancery.toml --agency agency.example")]
    List {
        #[command(flatten)]
        of: AgencyArgs,
        /// Print JSON, one account a line
        #[arg(long)]
        json: bool,
    },
    /// Close an account for ever
    ///
    /// All its sessions end, and its name is never given again. What it said in rooms stays.
    #[command(after_help = "Example:
  chancery user deactivate --config chancery.toml alice")]
    Deactivate {
        #[command(flatten)]
        of: AgencyArgs,
        /// Also remove the profile and what the user stored
        #[arg(long)]
        erase: bool,
        /// The name, or the whole user id
        #[arg(value_name = "USER")]
        user: String,
    },
    /// Set another password and end all sessions
    ///
    /// Without --password-stdin a password is made up and printed.
    #[command(after_help = "Example:
  chancery user reset-password --config chancery.toml alice")]
    ResetPassword {
        #[command(flatten)]
        of: AgencyArgs,
        #[command(flatten)]
        password: PasswordArgs,
        /// The name, or the whole user id
        #[arg(value_name = "USER")]
        user: String,
    },
}

/// Which agency.
#[derive(Debug, Args)]
pub(super) struct AgencyArgs {
    /// The configuration file
    #[arg(long, short, value_name = "FILE", env = "CHANCERY_CONFIG", conflicts_with = "data_dir")]
    config: Option<PathBuf>,
    /// The server name of the agency, if the configuration has several
    #[arg(long, value_name = "NAME", requires = "config")]
    agency: Option<String>,
    /// The data folder of `chancery dev`, instead of a configuration
    #[arg(long, value_name = "DIR", required_unless_present = "config")]
    data_dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct PasswordArgs {
    /// Read the password from the first line of the standard input
    #[arg(long)]
    password_stdin: bool,
}

impl AgencyArgs {
    fn find(&self) -> anyhow::Result<(Config, Agency)> {
        let config = match (&self.config, &self.data_dir) {
            (Some(file), _) => super::load(file)?,
            (None, Some(folder)) if folder.join("server_name").exists() => Config::dev(folder.clone(), 0),
            (None, Some(folder)) => bail!("{} is not the data folder of an agency", folder.display()),
            (None, None) => bail!("give --config FILE or --data-dir DIR"),
        };
        let names = || config.agency.iter().map(|agency| agency.server_name.to_string()).collect::<Vec<_>>().join(", ");
        let found = match &self.agency {
            Some(name) => config.agency.iter().find(|agency| agency.server_name.0.as_str() == name),
            None if config.agency.len() == 1 => config.agency.first(),
            None => bail!("say which agency with --agency NAME; there are {}", names()),
        };
        let found = found.cloned().with_context(|| format!("there is no such agency; there are {}", names()))?;
        Ok((config, found))
    }
}

pub(super) fn run(command: UserCommand) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no runtime")?;
    runtime.block_on(obey(command))
}

async fn obey(command: UserCommand) -> anyhow::Result<()> {
    match command {
        UserCommand::Create { of, password, admin, user } => {
            let (config, agency) = of.find()?;
            let (password, made_up) = password.get()?;
            let localpart = localpart(&user, &agency)?;
            let ask = Ask::CreateUser { localpart, password: password.clone(), admin };
            let user_id = done(admin::ask(&config, &agency, ask).await?)?;
            told(&format!("{user_id} was created"), made_up.then_some(&password))
        }
        UserCommand::SetAdmin { of, no_admin, user } => {
            let (config, agency) = of.find()?;
            let ask = Ask::SetAdmin { localpart: localpart(&user, &agency)?, admin: !no_admin };
            let user_id = done(admin::ask(&config, &agency, ask).await?)?;
            let what = if no_admin { "does not administer the agency any more" } else { "administers the agency" };
            told(&format!("{user_id} {what}"), None)
        }
        UserCommand::ResetPassword { of, password, user } => {
            let (config, agency) = of.find()?;
            let (password, made_up) = password.get()?;
            let ask = Ask::ResetPassword { localpart: localpart(&user, &agency)?, password: password.clone() };
            let user_id = done(admin::ask(&config, &agency, ask).await?)?;
            told(&format!("{user_id} has another password, and no sessions"), made_up.then_some(&password))
        }
        UserCommand::Deactivate { of, erase, user } => {
            let (config, agency) = of.find()?;
            let ask = Ask::DeactivateUser { localpart: localpart(&user, &agency)?, erase };
            let user_id = done(admin::ask(&config, &agency, ask).await?)?;
            told(&format!("{user_id} was closed"), None)
        }
        UserCommand::List { of, json } => list(of, json).await,
    }
}

async fn list(of: AgencyArgs, json: bool) -> anyhow::Result<()> {
    let (config, agency) = of.find()?;
    let mut out = std::io::stdout().lock();
    let mut after = None;
    loop {
        let ask = Ask::ListUsers { after: after.take(), users_max: PAGE_USERS };
        let Answer::Users { users } = admin::ask(&config, &agency, ask).await? else {
            bail!("the server gave another answer; is it another version?");
        };
        for user in &users {
            let line = if json { serde_json::to_string(user)? } else { line(user) };
            writeln!(out, "{line}")?;
        }
        match users.last() {
            Some(last) if users.len() >= PAGE_USERS => after = Some(localpart(&last.user_id, &agency)?),
            _ => return Ok(()),
        }
    }
}

fn line(user: &User) -> String {
    let closed = if user.deactivated { " (closed)" } else { "" };
    format!("{}{closed}", user.user_id)
}

fn done(answer: Answer) -> anyhow::Result<String> {
    match answer {
        Answer::Done { user_id } => Ok(user_id),
        Answer::Users { .. } => bail!("the server gave another answer; is it another version?"),
    }
}

fn told(message: &str, password: Option<&Password>) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{message}")?;
    if let Some(password) = password {
        writeln!(out, "password: {}", password.0.expose())?;
    }
    Ok(())
}

/// The name of a user, from the name or the whole user id.
fn localpart(user: &str, agency: &Agency) -> anyhow::Result<String> {
    let Some(rest) = user.strip_prefix('@') else { return Ok(user.to_owned()) };
    match rest.split_once(':') {
        Some((localpart, server)) if server == agency.server_name.0.as_str() => Ok(localpart.to_owned()),
        Some((_, server)) => bail!("{user} is of {server}, not of {}", agency.server_name),
        None => Ok(rest.to_owned()),
    }
}

impl PasswordArgs {
    /// The password, and whether it was made up here.
    fn get(&self) -> anyhow::Result<(Password, bool)> {
        if !self.password_stdin {
            return Ok((Password(Secret::new(random_string(&SystemRandom, PASSWORD_LETTERS))), true));
        }
        let mut text = String::new();
        std::io::stdin().lock().read_line(&mut text).context("the password can't be read")?;
        text.truncate(text.trim_end_matches(['\r', '\n']).len());
        let line = Secret::new(text);
        if line.expose().is_empty() || line.expose().len() > PASSWORD_BYTES_MAX {
            bail!("the first line of the standard input must be a password of at most {PASSWORD_BYTES_MAX} bytes");
        }
        Ok((Password(line), false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_named_by_localpart_or_by_id() {
        let agency = Config::dev("data".into(), 0).agency.remove(0);
        assert_eq!(localpart("alice", &agency).unwrap(), "alice");
        assert_eq!(localpart("@alice", &agency).unwrap(), "alice");
        assert_eq!(localpart("@alice:localhost", &agency).unwrap(), "alice");
        assert!(localpart("@alice:b.example", &agency).is_err());
    }

    #[test]
    fn a_made_up_password_is_long() {
        let (password, made_up) = PasswordArgs { password_stdin: false }.get().unwrap();
        assert!(made_up);
        assert_eq!(password.0.expose().len(), PASSWORD_LETTERS);
    }
}
