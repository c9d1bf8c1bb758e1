//! A real conversation with a mail server, which is a small one of ours.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use events::notifications::FailureReason;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};
use write_side::notifications::{
    mailing::notification_id,
    notification::NotificationStatus,
    smtp::{SmtpMailer, SmtpUrlError},
};

use super::{
    mail::{ANA, EMAIL, World, order},
    support::Home,
};

/// What was said to the server, and what it says to `RCPT` instead of yes.
#[derive(Default)]
struct MailServer {
    heard: Mutex<Vec<String>>,
    /// One a conversation, in order.
    answers: Mutex<VecDeque<&'static str>>,
}

impl MailServer {
    async fn start(answers: &[&'static str]) -> (Arc<Self>, String) {
        let server = Arc::new(Self { answers: Mutex::new(answers.iter().copied().collect()), ..Self::default() });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("smtp://{}", listener.local_addr().unwrap());
        let serving = Arc::clone(&server);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = Arc::clone(&serving);
                tokio::spawn(async move { server.converse(stream).await });
            }
        });
        (server, url)
    }

    async fn converse(&self, stream: TcpStream) {
        let to_recipient = self.answers.lock().unwrap().pop_front().unwrap_or("250 fine");
        let (read, mut write) = stream.into_split();
        let mut lines = BufReader::new(read).lines();
        let mut is_message = false;
        write.write_all(b"220 mail.test ESMTP\r\n").await.unwrap();
        while let Ok(Some(line)) = lines.next_line().await {
            self.heard.lock().unwrap().push(line.clone());
            let answer = match line.split_whitespace().next().unwrap_or_default() {
                "." if is_message => {
                    is_message = false;
                    "250 taken"
                }
                _ if is_message => continue,
                "EHLO" => "250-mail.test\r\n250 8BITMIME",
                "MAIL" => "250 fine",
                "RCPT" => to_recipient,
                "DATA" => {
                    is_message = true;
                    "354 go on"
                }
                "QUIT" => "221 bye",
                _ => "500 what?",
            };
            if write.write_all(format!("{answer}\r\n").as_bytes()).await.is_err() {
                return;
            }
        }
    }

    fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }
}

async fn world_and_server(answers: &[&'static str]) -> (World, Arc<MailServer>, Arc<SmtpMailer>) {
    let (server, url) = MailServer::start(answers).await;
    (World::new(Home::sqlite()).await, server, Arc::new(SmtpMailer::try_new(&url).unwrap()))
}

#[tokio::test]
async fn a_message_is_handed_over_with_an_id_of_its_own() {
    let (world, server, mailer) = world_and_server(&[]).await;
    let reactor = world.reactor(mailer).await;
    world.place(1, ANA).await;
    world.reaches(1, 1, NotificationStatus::Sent).await;
    reactor.shutdown().await;
    let heard = server.heard();
    let said = |start: &str| heard.iter().filter(|line| line.starts_with(start)).count();
    assert_eq!(said("MAIL FROM:<orders@shop.example>"), 1, "{heard:#?}");
    assert_eq!(said(&format!("RCPT TO:<{EMAIL}>")), 1, "{heard:#?}");
    let id = format!("Message-ID: <{}@shop.example>", notification_id(order(1), 1));
    assert_eq!((said(&id), said("Subject: We have received your order")), (1, 1), "{heard:#?}");
}

#[tokio::test]
async fn what_the_server_cannot_take_now_is_offered_again() {
    let (world, server, mailer) = world_and_server(&["451 later", "421 much later"]).await;
    let reactor = world.reactor(mailer).await;
    world.place(1, ANA).await;
    world.reaches(1, 1, NotificationStatus::Sent).await;
    reactor.shutdown().await;
    let offered = server.heard().iter().filter(|line| line.starts_with("RCPT TO")).count();
    assert_eq!(offered, 3);
}

#[tokio::test]
async fn what_the_server_refuses_is_not_offered_again() {
    let (world, server, mailer) = world_and_server(&["550 no such mailbox"]).await;
    let reactor = world.reactor(mailer).await;
    world.place(1, ANA).await;
    world.reaches(1, 1, NotificationStatus::Failed(FailureReason::Refused)).await;
    reactor.shutdown().await;
    assert_eq!(server.heard().iter().filter(|line| line.starts_with("RCPT TO")).count(), 1);
}

/// Else one wrong password would lose every message of a day for good.
#[tokio::test]
async fn what_the_server_does_not_take_from_us_is_no_fault_of_the_message() {
    let (world, server, mailer) = world_and_server(&["530 authentication required", "535 wrong password"]).await;
    let reactor = world.reactor(mailer).await;
    world.place(1, ANA).await;
    world.reaches(1, 1, NotificationStatus::Sent).await;
    reactor.shutdown().await;
    assert_eq!(server.heard().iter().filter(|line| line.starts_with("RCPT TO")).count(), 3);
}

#[test]
fn an_url_of_something_else_is_refused_without_its_password() {
    for wrong in ["", "http://user:secret@mail.test", "mail.test"] {
        let refused = SmtpMailer::try_new(wrong).err();
        assert_eq!(refused, Some(SmtpUrlError), "{wrong}");
        assert!(!SmtpUrlError.to_string().contains("secret"));
    }
}
