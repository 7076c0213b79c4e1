//! The way to the mail server.

use crate::template::Rendered;
use crate::{Config, TlsMode};
use lettre::message::header::{Header, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart};
use lettre::transport::smtp::PoolConfig;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::{Address, AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use std::error::Error as StdError;
use std::path::PathBuf;

/// Why there is no mailer.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The settings can't be used.
    #[error("the settings of mail can't be used: {0}")]
    Config(String),
    /// A file can't be read.
    #[error("{file} can't be read: {source}", file = file.display())]
    File {
        /// Which.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A template is wrong.
    #[error("the template {name} is wrong: {why}")]
    Template {
        /// Which.
        name: String,
        /// Why.
        why: String,
    },
}

/// What became of a mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// The server has it.
    Accepted,
    /// The server never will have it.
    Refused(String),
    /// It may be there later.
    Failed(String),
}

pub(crate) struct Transport {
    smtp: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
}

impl Transport {
    pub fn new(config: &Config) -> Result<Option<Self>, SetupError> {
        let Some(server) = &config.server else { return Ok(None) };
        let from = config.from.as_deref().unwrap_or_default().parse();
        let from = from.map_err(|_| SetupError::Config("`from` is no address".to_owned()))?;
        let parameters = || TlsParameters::new(server.clone()).map_err(|error| SetupError::Config(error.to_string()));
        let (tls, port) = match config.tls {
            TlsMode::Tls => (Tls::Wrapper(parameters()?), 465),
            TlsMode::StartTls => (Tls::Required(parameters()?), 587),
            TlsMode::None => (Tls::None, 25),
        };
        let mut smtp = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(server)
            .tls(tls)
            .port(config.port.unwrap_or(port))
            .timeout(Some(config.timeout))
            .pool_config(PoolConfig::new().max_size(config.connections_max));
        if let (Some(user), Some(file)) = (&config.user, &config.password_file) {
            let password =
                std::fs::read_to_string(file).map_err(|source| SetupError::File { file: file.clone(), source })?;
            smtp = smtp.credentials(Credentials::new(user.clone(), password.trim_end_matches(['\r', '\n']).to_owned()));
        }
        Ok(Some(Self { smtp: smtp.build(), from }))
    }

    pub async fn send(&self, mail: &Rendered) -> Sent {
        let message = match self.message(mail) {
            Ok(message) => message,
            Err(error) => return Sent::Refused(error.to_string()),
        };
        match self.smtp.send(message).await {
            Ok(_) => Sent::Accepted,
            Err(error) if error.is_permanent() => Sent::Refused(told(&error)),
            Err(error) => Sent::Failed(told(&error)),
        }
    }

    fn message(&self, mail: &Rendered) -> Result<Message, Box<dyn StdError + Send + Sync>> {
        let to: Address = mail.to.as_str().parse()?;
        let mut message = Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, to))
            .subject(&mail.subject)
            .message_id(None)
            .header(AutoSubmitted);
        if let Some(url) = &mail.unsubscribe {
            message = message.header(ListUnsubscribe(format!("<{url}>"))).header(ListUnsubscribePost);
        }
        Ok(message.multipart(MultiPart::alternative_plain_html(mail.text.clone(), mail.html.clone()))?)
    }
}

/// What went wrong, with what it was caused by.
fn told(error: &(dyn StdError + 'static)) -> String {
    let mut told = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        told = format!("{told}: {cause}");
        source = cause.source();
    }
    told
}

/// Nobody has written this by hand, and no robot should answer it (RFC 3834).
#[derive(Clone)]
struct AutoSubmitted;

/// Where one unsubscribes (RFC 2369).
#[derive(Clone)]
struct ListUnsubscribe(String);

/// That a click in the mail program does it (RFC 8058).
#[derive(Clone)]
struct ListUnsubscribePost;

type ParseError = Box<dyn StdError + Send + Sync>;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, ParseError> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

impl Header for ListUnsubscribe {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("List-Unsubscribe")
    }

    fn parse(value: &str) -> Result<Self, ParseError> {
        Ok(Self(value.to_owned()))
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), self.0.clone())
    }
}

impl Header for ListUnsubscribePost {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("List-Unsubscribe-Post")
    }

    fn parse(_: &str) -> Result<Self, ParseError> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "List-Unsubscribe=One-Click".to_owned())
    }
}
