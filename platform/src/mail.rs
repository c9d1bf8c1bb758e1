//! How messages to customers leave: into a folder of the data directory, or to a mail server.

use std::{path::Path, sync::Arc};

use anyhow::{Context, Result};
use clap::Args;
use write_side::notifications::{
    Post,
    mail::{Mailer, Sender},
    mailbox::MailFolder,
    smtp::SmtpMailer,
};

/// The folder in the data directory that messages go into.
const FOLDER: &str = "mail";

#[derive(Clone, Args)]
pub struct MailArgs {
    /// Mail server that messages go to: smtps://user:password@host. Without one they are files in the data directory
    #[arg(long, env = "TRIBUTARY_SMTP_URL", hide_env_values = true, value_name = "URL")]
    pub smtp_url: Option<String>,

    /// Whom messages come from
    #[arg(long, env = "TRIBUTARY_MAIL_FROM", default_value = "Tributary <orders@tributary.example>")]
    pub mail_from: Sender,
}

impl std::fmt::Debug for MailArgs {
    /// The URL may carry a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MailArgs").field("mail_from", &self.mail_from).finish_non_exhaustive()
    }
}

impl MailArgs {
    /// Opens the way that was chosen.
    pub fn post(&self, data_dir: &Path) -> Result<Post> {
        // an empty variable is one that is not set
        let mailer: Arc<dyn Mailer> = match self.smtp_url.as_deref().filter(|url| !url.is_empty()) {
            Some(url) => Arc::new(SmtpMailer::try_new(url).context("--smtp-url")?),
            None => {
                let folder = data_dir.join(FOLDER);
                let opened = MailFolder::open(&folder);
                Arc::new(opened.with_context(|| format!("make the mail folder {}", folder.display()))?)
            }
        };
        Ok(Post { mailer, sender: self.mail_from.clone() })
    }
}
