//! Mail to a server that delivers it, by `lettre`: it saves us SMTP's dialogue, its extensions and TLS.

use std::time::Duration;

use async_trait::async_trait;
use lettre::{
    AsyncSmtpTransport, AsyncTransport, Tokio1Executor,
    transport::smtp::{self, response::Category},
};

use super::mail::{Mail, MailError, Mailer};

/// How long one step of the dialogue may take.
const STEP_WAIT_MAX: Duration = Duration::from_secs(30);

/// A mail server.
#[derive(Clone)]
pub struct SmtpMailer {
    transport: AsyncSmtpTransport<Tokio1Executor>,
}

/// The URL is not one of a mail server. Never says the URL: it may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a URL of a mail server: smtps://user:password@host (TLS), smtp://host?tls=required (STARTTLS) or smtp://host:25 \
     (in the clear)"
)]
pub struct SmtpUrlError;

impl SmtpMailer {
    pub fn try_new(url: &str) -> Result<Self, SmtpUrlError> {
        let transport = AsyncSmtpTransport::<Tokio1Executor>::from_url(url).map_err(|_| SmtpUrlError)?;
        Ok(Self { transport: transport.timeout(Some(STEP_WAIT_MAX)).build() })
    }
}

#[async_trait]
impl Mailer for SmtpMailer {
    async fn send(&self, mail: &Mail) -> Result<(), MailError> {
        match self.transport.send(mail.message()?).await {
            Ok(_) => Ok(()),
            Err(error) if is_about_the_message(&error) => Err(MailError::Refused(said(&error))),
            Err(error) => Err(MailError::Unavailable(said(&error))),
        }
    }
}

/// Whether the server will never take this message. 53x is about us and no message's fault: it wants a login, or another one
/// (RFC 4954), which an operator can set right.
fn is_about_the_message(error: &smtp::Error) -> bool {
    error.is_permanent() && error.status().is_none_or(|code| code.category != Category::Unspecified3)
}

/// The server's number, or what kind of fault it is: its words often repeat the address.
fn said(error: &smtp::Error) -> String {
    match error.status() {
        Some(code) => format!("the mail server answers {code}"),
        None if error.is_timeout() => "the mail server does not answer in time".to_owned(),
        None if error.is_tls() => "no TLS with the mail server".to_owned(),
        None => "no dialogue with the mail server".to_owned(),
    }
}
