//! Mail into a folder: one `.eml` file a message, for looking at. Nothing leaves the machine.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use async_trait::async_trait;

use super::mail::{Mail, MailError, Mailer};

/// A folder of messages. A message that comes again takes the place of its file.
#[derive(Debug, Clone)]
pub struct MailFolder {
    folder: PathBuf,
}

impl MailFolder {
    /// Makes the folder if it is missing.
    pub fn open(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        Ok(Self { folder: folder.to_owned() })
    }
}

#[async_trait]
impl Mailer for MailFolder {
    async fn send(&self, mail: &Mail) -> Result<(), MailError> {
        let (folder, name, message) = (self.folder.clone(), mail.id.to_string(), mail.message()?.formatted());
        let written = tokio::task::spawn_blocking(move || write(&folder, &name, &message)).await;
        let written = written.unwrap_or_else(|error| Err(io::Error::other(error)));
        written.map_err(|error| MailError::Unavailable(format!("write to the mail folder: {error}")))
    }
}

/// All of it or nothing: a reader never sees half a message, and a crash leaves none.
fn write(folder: &Path, name: &str, message: &[u8]) -> io::Result<()> {
    let partial = folder.join(format!(".{name}.partial"));
    let mut file = File::create(&partial)?;
    file.write_all(message)?;
    file.sync_all()?;
    fs::rename(&partial, folder.join(format!("{name}.eml")))
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use events::ids::NotificationId;
    use uuid::Uuid;

    use super::*;

    fn mail() -> Mail {
        Mail {
            id: NotificationId(Uuid::from_u128(7)),
            date: DateTime::UNIX_EPOCH,
            from: "Tributary <orders@shop.example>".parse().unwrap(),
            to_name: "Ána, the \"first\"\r\nBcc: everybody@example.com".into(),
            to_email: "ana@example.com".into(),
            subject: "Your order is here".into(),
            text: "Größe & Menge\n".into(),
        }
    }

    #[tokio::test]
    async fn a_message_is_a_file_of_its_own_and_a_repeat_is_the_same_file() {
        let folder = tempfile::tempdir().unwrap();
        let mailer = MailFolder::open(&folder.path().join("mail")).unwrap();
        let path = folder.path().join("mail/00000000-0000-0000-0000-000000000007.eml");
        mailer.send(&mail()).await.unwrap();
        let first = fs::read_to_string(&path).unwrap();
        mailer.send(&mail()).await.unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), first);
        assert_eq!(fs::read_dir(folder.path().join("mail")).unwrap().count(), 1);
        assert!(first.contains("Message-ID: <00000000-0000-0000-0000-000000000007@shop.example>"), "{first}");
        assert!(first.contains("ana@example.com") && first.contains("Subject: Your order is here"), "{first}");
        assert!(!first.contains("\r\nBcc:"), "a name adds no header: {first}");
    }

    #[tokio::test]
    async fn an_address_that_is_none_is_refused_and_not_repeated() {
        let folder = tempfile::tempdir().unwrap();
        let mailer = MailFolder::open(folder.path()).unwrap();
        let refused = mailer.send(&Mail { to_email: "no address".into(), ..mail() }).await.unwrap_err();
        assert!(matches!(&refused, MailError::Refused(reason) if !reason.contains("no address")), "{refused}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
