//! Mails to users, in their language, over SMTP.
//!
//! A [`Mail`] is put into words from templates ([`Template`]), queued, and sent until the server has taken it or says
//! that it never will. To whom and why, is for the crates above. The queue is in memory: what waits in it when the
//! process ends is not sent; whoever asked for it asks again.

mod address;
mod config;
mod language;
mod queue;
mod template;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod transport;

pub use address::EmailAddress;
pub use config::{Config, TlsMode};
pub use language::Language;
pub use queue::{Figures, Full};
pub use template::{Rendered, Template};
pub use transport::SetupError;

use minijinja::Value;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use template::Templates;
use tokio::sync::mpsc;

/// A mail that is to be sent.
#[derive(Clone, Debug)]
pub struct Mail {
    to: EmailAddress,
    template: Template,
    language: Language,
    values: BTreeMap<&'static str, Value>,
    unsubscribe: Option<String>,
}

impl Mail {
    /// A mail to somebody, from a template in a language.
    #[must_use]
    pub fn new(to: EmailAddress, template: Template, language: Language) -> Self {
        Self { to, template, language, values: BTreeMap::new(), unsubscribe: None }
    }

    /// Gives the template a value.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Serialize) -> Self {
        self.values.insert(name, Value::from(minijinja::value::Serde(value)));
        self
    }

    /// Says where one unsubscribes from mails like this one, by a click in the mail program (RFC 8058) too.
    #[must_use]
    pub fn unsubscribed_at(mut self, url: &str) -> Self {
        self.unsubscribe = Some(url.to_owned());
        self.with("unsubscribe", url)
    }
}

/// Sends mails. Cheap to clone; what is queued is sent until the last clone is gone.
#[derive(Clone, Debug)]
pub struct Mailer {
    templates: Arc<Templates>,
    queue: queue::Sender,
    language: Language,
}

impl Mailer {
    /// A mailer by these settings; none if they name no server. `agency` is what mails call this server. Must be
    /// called within a runtime.
    ///
    /// # Errors
    ///
    /// [`SetupError`] if the settings can't be used, a file of theirs can't be read, or a template is wrong.
    pub fn start(config: &Config, agency: &str) -> Result<Option<Self>, SetupError> {
        let Some(transport) = transport::Transport::new(config)? else { return Ok(None) };
        let templates = Arc::new(Templates::load(config.templates.as_deref(), agency)?);
        let queue = queue::start(transport, config);
        Ok(Some(Self { templates, queue, language: config.language }))
    }

    /// A mailer that sends nothing: what it would send comes out of the channel. For tests.
    #[must_use]
    pub fn to_channel(agency: &str) -> (Self, mpsc::UnboundedReceiver<Rendered>) {
        let (queue, rendered) = queue::to_channel();
        let templates = Arc::new(Templates::built_in(agency));
        (Self { templates, queue, language: Language::English }, rendered)
    }

    /// The language of those of whom no other is known.
    #[must_use]
    pub fn default_language(&self) -> Language {
        self.language
    }

    /// Queues a mail.
    ///
    /// # Errors
    ///
    /// [`Full`] if so many are waiting that this one is not taken.
    pub fn send(&self, mail: &Mail) -> Result<(), Full> {
        self.queue.push(self.templates.render(mail))
    }

    /// What is counted.
    #[must_use]
    pub fn figures(&self) -> Arc<Figures> {
        self.queue.figures()
    }
}
