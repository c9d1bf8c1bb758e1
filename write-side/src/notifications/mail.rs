//! A message as it leaves the house, and the port through which it does.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use events::ids::NotificationId;
use lettre::{
    Message,
    message::{Mailbox, header::ContentType},
};
use thiserror::Error;

/// Who takes messages for delivery. A call may be repeated after a crash, with the same message.
#[async_trait]
pub trait Mailer: Send + Sync + 'static {
    async fn send(&self, mail: &Mail) -> Result<(), MailError>;
}

/// One message. The same notification is the same message, to the byte.
#[derive(Debug, Clone)]
pub struct Mail {
    pub id: NotificationId,
    pub date: DateTime<Utc>,
    pub from: Sender,
    pub to_name: String,
    pub to_email: String,
    pub subject: String,
    pub text: String,
}

/// Whom messages come from: `Tributary <orders@example.com>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sender(Mailbox);

impl std::str::FromStr for Sender {
    type Err = SenderError;

    fn from_str(text: &str) -> Result<Self, SenderError> {
        text.parse().map(Self).map_err(|_| SenderError)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a sender is an e-mail address, with a name or without: Tributary <orders@example.com>")]
pub struct SenderError;

/// Why a message was not taken. Says nothing of the recipient: it is logged.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MailError {
    /// Worth trying again.
    #[error("the message was not taken: {0}")]
    Unavailable(String),
    /// Not in a hundred years.
    #[error("the message was refused: {0}")]
    Refused(String),
}

impl Mail {
    /// As RFC 5322 wants it. The id is made from the notification, so that whoever gets it twice can tell.
    pub fn message(&self) -> Result<Message, MailError> {
        // the parts come from others, and what is wrong with them is not repeated
        let refused = |what: &str| MailError::Refused(format!("{what} cannot stand in a message"));
        let address = self.to_email.parse().map_err(|_| refused("the recipient's address"))?;
        // a header is one line, and lettre panics at a name that is not
        let name = self.to_name.replace(char::is_control, " ");
        let Sender(from) = &self.from;
        Message::builder()
            .message_id(Some(format!("<{}@{}>", self.id, from.email.domain())))
            .date(self.date.into())
            .from(from.clone())
            .to(Mailbox::new(Some(name), address))
            .subject(&self.subject)
            .header(ContentType::TEXT_PLAIN)
            .body(self.text.clone())
            .map_err(|_| refused("its text"))
    }
}
