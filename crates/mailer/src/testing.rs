//! A mail server of the tests: it speaks just enough SMTP to take mails, or to refuse them.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// A mail as the server got it.
#[derive(Debug)]
pub struct Received {
    pub from: String,
    pub to: String,
    /// Head and body.
    pub data: String,
    /// What the client said to log in.
    pub auth: Option<String>,
}

pub struct Server {
    pub address: SocketAddr,
    pub mails: mpsc::UnboundedReceiver<Received>,
    /// What is said to the next mails, once their text is there.
    pub replies: Arc<Mutex<VecDeque<&'static str>>>,
}

impl Server {
    pub async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (received, mails) = mpsc::unbounded_channel();
        let replies = Arc::<Mutex<VecDeque<&'static str>>>::default();
        let scripted = replies.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(converse(stream, received.clone(), scripted.clone()));
            }
        });
        Self { address, mails, replies }
    }
}

async fn converse(
    stream: TcpStream,
    received: mpsc::UnboundedSender<Received>,
    replies: Arc<Mutex<VecDeque<&'static str>>>,
) -> Option<()> {
    let mut stream = BufReader::new(stream);
    stream.write_all(b"220 test ESMTP\r\n").await.ok()?;
    let mut mail = Received { from: String::new(), to: String::new(), data: String::new(), auth: None };
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let line = line.trim_end();
        let reply = match line.split([' ', ':']).next()?.to_ascii_uppercase().as_str() {
            "EHLO" => "250-test\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 AUTH PLAIN\r\n",
            "AUTH" => {
                mail.auth = line.strip_prefix("AUTH PLAIN ").map(ToOwned::to_owned);
                "235 ok\r\n"
            }
            "MAIL" => {
                mail.from = line.to_owned();
                "250 ok\r\n"
            }
            "RCPT" => {
                mail.to = line.to_owned();
                "250 ok\r\n"
            }
            "DATA" => {
                stream.write_all(b"354 go on\r\n").await.ok()?;
                mail.data.clear();
                loop {
                    let mut line = String::new();
                    stream.read_line(&mut line).await.ok()?;
                    if line == ".\r\n" {
                        break;
                    }
                    mail.data.push_str(&line);
                }
                let reply = replies.lock().unwrap().pop_front();
                if reply.is_none() {
                    let empty = Received { from: String::new(), to: String::new(), data: String::new(), auth: None };
                    received.send(std::mem::replace(&mut mail, empty)).ok()?;
                }
                reply.unwrap_or("250 taken\r\n")
            }
            "QUIT" => return None,
            _ => "250 ok\r\n",
        };
        stream.write_all(reply.as_bytes()).await.ok()?;
    }
}
